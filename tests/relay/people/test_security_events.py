"""Events that end sessions, pushed by whoever knows of them first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.messages import Field
from appproxy.relay.preauth.cookies import SESSION
from tests.fakes.browser import RELAY, TRANSMITTER, Browser, Rig
from tests.fakes.exchange import FakeExchange
from tests.fakes.idp import ISSUER, as_json
from tests.relay.people.test_sessions import Open

APP = "https://hr.example.test"
PUSH = RELAY + "/.appproxy/security-events"
FIELDS = ((b"Content-Type", b"application/secevent+jwt"), (b"Authorization", b"Bearer agreed"))
ALICE = {"format": "iss_sub", "iss": ISSUER, "sub": "u-1"}
REVOKED = "caep/event-type/session-revoked"


class SecurityEventsTest(SynchronousTestCase):
    """Somebody signed in, and a transmitter."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.browser = Browser(self.rig)
        self.browser.walk(APP + "/")

    def push(self, token: str, fields: Iterable[Field] = FIELDS) -> FakeExchange:
        """The transmitter delivers."""
        answer = Browser(self.rig).ask(PUSH, method=b"POST", fields=fields, body=token.encode())
        if not self.rig.store.away:
            self.rig.follow()
        return answer

    def tell(self, kind: str, subject: Any = ALICE, **claims: Any) -> int:
        """An honest event; how it is answered."""
        return self.push(self.rig.events.event_token(kind, sub_id=subject, **claims)).status

    def knows(self, browser: Browser | None = None) -> bool:
        """Whether the application still gets this browser's requests."""
        return (browser or self.browser).ask(APP + "/").status == 200

    def refused(self, token: str, fields: Iterable[Field] = FIELDS) -> tuple[int, str]:
        """How an event is refused; nobody is signed out."""
        answer = self.push(token, fields)
        self.assertEqual(answer.value("Content-Type"), "application/json")
        self.assertTrue(self.knows())
        return answer.status, json.loads(answer.body)["err"]

    @pytest.mark.feature("AUTH-7")
    def test_events_that_end_sessions(self) -> None:
        """Revoked sessions, changed credentials and disabled accounts end what somebody has, and close what is open."""
        for kind in (REVOKED, "caep/event-type/credential-change", "risc/event-type/account-disabled"):
            self.browser.walk(APP + "/")
            handle = self.browser.jars["hr.example.test"][SESSION.decode()].encode()
            session = self.successResultOf(self.rig.sessions.find(handle))
            assert session is not None
            watcher = Open()
            session.watch(watcher)
            self.assertEqual(self.tell(kind), 202)
            self.assertEqual((self.knows(), watcher.closed), (False, 1), kind)

    def test_events_that_end_nothing(self) -> None:
        """A test of the stream, an added credential and events that mean nothing here are accepted."""
        added = {"https://schemas.openid.net/secevent/caep/event-type/credential-change": {"change_type": "create"}}
        for kind, claims in (
            ("ssf/event-type/verification", {}),
            ("caep/event-type/device-compliance-change", {}),
            ("", {"events": added}),
        ):
            self.assertEqual(self.tell(kind, **claims), 202)
            self.assertTrue(self.knows())

    @pytest.mark.feature("AUTH-7")
    def test_subjects(self) -> None:
        """People and sessions are found by every identifier that says who they are, and by no other."""
        found = [
            ALICE,
            {"format": "opaque", "id": "u-1"},
            {"format": "email", "email": "Alice@Example.test"},
            {"format": "account", "uri": "acct:alice@example.test"},
            {"format": "complex", "user": ALICE, "tenant": {"format": "opaque", "id": "t"}},
            {"user": {"format": "email", "email": "alice@example.test"}},
            {"format": "complex", "user": ALICE, "session": {"format": "opaque", "id": "sid-1"}},
            {"format": "aliases", "identifiers": [{"format": "phone_number", "phone_number": "+1"}, ALICE]},
            {"subject_type": "iss-sub", "iss": ISSUER, "sub": "u-1"},
        ]
        for subject in found:
            self.browser.walk(APP + "/")
            self.assertEqual((self.tell(REVOKED, subject), self.knows()), (202, False), subject)
        self.browser.walk(APP + "/")
        for subject in (
            None, "u-1", [], {}, {"format": "opaque", "id": 7}, {"format": "opaque", "id": "u-2"},
            {**ALICE, "iss": "https://other.test"}, {"format": "email", "email": "lice@example.test"},
            {"format": "complex", "user": ALICE, "session": {"format": "opaque", "id": "sid-9"}},
            {"format": "complex", "tenant": {"format": "opaque", "id": "u-1"}},
            {"format": "aliases", "identifiers": {"format": "aliases"}}, {"format": ["opaque"], "id": "u-1"},
        ):  # fmt: skip
            self.assertEqual((self.tell(REVOKED, subject), self.knows()), (202, True), subject)

    def test_subject_inside_the_event(self) -> None:
        """Older senders name the subject in the event itself."""
        events = {f"https://schemas.openid.net/secevent/{REVOKED}": {"subject": ALICE}}
        self.assertEqual((self.tell("", None, events=events), self.knows()), (202, False))

    @pytest.mark.feature("AUTH-7")
    def test_only_what_was_before(self) -> None:
        """Whoever has signed in since it happened goes on, whatever unit the sender counts in, however late it is."""
        at = self.rig.epoch()
        self.rig.clock.advance(3600)
        late = Browser(self.rig)
        late.walk(APP + "/")
        kind = f"https://schemas.openid.net/secevent/{REVOKED}"
        for events in ({kind: {"event_timestamp": at}}, {kind: {"event_timestamp": at * 1000}}):
            self.assertEqual(self.tell("", events=events), 202)
            self.assertEqual((self.knows(), self.knows(late)), (False, True))
        self.assertEqual(self.tell(REVOKED, toe=at), 202)
        self.assertTrue(self.knows(late))
        self.assertEqual(self.tell(REVOKED), 202)
        self.assertFalse(self.knows(late))

    @pytest.mark.feature("AUTH-7")
    def test_delivered_twice(self) -> None:
        """An event that comes again, as after a lost answer, is accepted and ends nothing new."""
        token = self.rig.events.event_token(REVOKED, sub_id=ALICE)
        self.assertEqual(self.push(token).status, 202)
        self.browser.walk(APP + "/")
        self.assertEqual((self.push(token).status, self.knows()), (202, True))

    @pytest.mark.feature("AUTH-7")
    def test_bad_tokens(self) -> None:
        """A40: an event is good from its transmitter, for us, signed by a published key, and of that type only."""
        make, now = self.rig.events.event_token, self.rig.epoch()
        for token, error in (
            ("", "invalid_issuer"), ("x.y.z", "invalid_issuer"),
            (make(REVOKED, sub_id=ALICE, iss=ISSUER), "invalid_issuer"),
            (make(REVOKED, sub_id=ALICE, aud="other"), "invalid_audience"),
            (make(REVOKED, sub_id=ALICE, aud=None), "invalid_audience"),
            (make(REVOKED, {"alg": "none"}, sub_id=ALICE), "invalid_key"),
            (make(REVOKED, {"alg": "HS256"}, sub_id=ALICE), "invalid_key"),
            (make(REVOKED, {"kid": "other"}, sub_id=ALICE), "invalid_key"),
            (make(REVOKED, key="stolen", sub_id=ALICE), "invalid_key"),
            (make(REVOKED, {"typ": "JWT"}, sub_id=ALICE), "invalid_request"),
            (make(REVOKED, {"typ": None}, sub_id=ALICE), "invalid_request"),
            (make(REVOKED, {"typ": "logout+jwt"}, sub_id=ALICE), "invalid_request"),
            (make(REVOKED, sub_id=ALICE, iat=now + 61), "invalid_request"),
            (make(REVOKED, sub_id=ALICE, iat=None), "invalid_request"),
            (make(REVOKED, sub_id=ALICE, exp=now - 61), "invalid_request"),
            (make(REVOKED, sub_id=ALICE, jti=None), "invalid_request"),
            (make(REVOKED, sub_id=ALICE, events={}), "invalid_request"),
            (make(REVOKED, sub_id=ALICE, events={"x": 1}), "invalid_request"),
        ):  # fmt: skip
            self.assertEqual(self.refused(token), (400, error), token)

    def test_bad_deliveries(self) -> None:
        """Without the agreed secret, as another type, or without end, nothing is looked at."""
        token = self.rig.events.event_token(REVOKED, sub_id=ALICE)
        kind, secret = FIELDS
        for secrets in ((), ((b"Authorization", b"Bearer guessed"),), (secret, secret)):
            self.assertEqual(self.refused(token, (kind, *secrets)), (401, "authentication_failed"))
        for fields in ((secret,), ((b"Content-Type", b"application/jwt"), secret)):
            self.assertEqual(self.refused(token, fields), (400, "invalid_request"))
        self.assertEqual(self.refused("x" * 70_000), (400, "invalid_request"))
        self.assertEqual(self.rig.events.requests, [])

    def test_come_again(self) -> None:
        """While the store or the transmitter's keys are away it is told to come again, and may."""
        token = self.rig.events.event_token(REVOKED, sub_id=ALICE)
        self.rig.events.overrides["/corp/jwks"] = as_json({}, 500)
        self.assertEqual(self.refused(token), (503, "invalid_request"))
        del self.rig.events.overrides["/corp/jwks"]
        self.rig.clock.advance(10)
        self.rig.store.away = True
        self.assertEqual(self.push(token).status, 503)
        self.rig.store.away = False
        self.assertEqual((self.push(token).status, self.knows()), (202, False))

    def test_metadata(self) -> None:
        """A28: keys come from where the transmitter's own metadata say, and another's are refused."""
        path = "/.well-known/ssf-configuration/corp"
        other = {"issuer": TRANSMITTER + "x", "jwks_uri": TRANSMITTER + "/jwks"}
        self.rig.events.overrides[path] = as_json(other)
        self.assertEqual(self.refused(self.rig.events.event_token(REVOKED, sub_id=ALICE))[0], 400)
        self.assertEqual(self.rig.events.count("/corp/jwks"), 0)
