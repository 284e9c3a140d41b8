"""What security events say, and of whom; what makes one bad is told in ``test_security_events``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.preauth.events import MAX_ALIASES, Event, Subject, happened_before, metadata_address, read_subject

CREDENTIAL_CHANGE = "https://schemas.openid.net/secevent/caep/event-type/credential-change"


class EventsTest(SynchronousTestCase):
    """Values read from tokens."""

    def test_metadata_address(self) -> None:
        """The well-known path goes between host and path of the issuer."""
        for issuer, address in (
            ("https://e.test", "https://e.test/.well-known/ssf-configuration"),
            ("https://e.test:8443/corp/", "https://e.test:8443/.well-known/ssf-configuration/corp"),
        ):
            self.assertEqual(metadata_address(issuer), address)

    def test_subjects_are_bounded(self) -> None:
        """However a subject is nested or repeated, it is a few names."""
        one = {"format": "opaque", "id": "x"}
        many = {"format": "aliases", "identifiers": [one] * 1000}
        self.assertEqual(list(read_subject(many)), [Subject("sub", "x")] * MAX_ALIASES)
        nested = {"format": "aliases", "identifiers": [many, one]}
        self.assertEqual(len(list(read_subject(nested))), MAX_ALIASES + 1)
        self.assertEqual(list(read_subject({"user": {"user": {"user": one}}})), [])
        self.assertEqual(list(read_subject({"format": "opaque", "id": "x" * 400})), [])

    def test_added_credentials(self) -> None:
        """A credential that was added ends nothing; any other change does."""
        for said, ends in (({"change_type": "create"}, False), ({"change_type": "revoke"}, True), ({}, True)):
            event = Event({CREDENTIAL_CHANGE: said}, (), 1000, "e", b"")
            self.assertEqual(event.ends_sessions, ends)
        self.assertEqual(happened_before(event), 1060)
