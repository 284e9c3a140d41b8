"""How failures of streams are told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import Phase, Side
from appproxy.relay import causes
from appproxy.sso.causes import CAUSES as KERBEROS
from appproxy.wire.frames import Code
from appproxy.wire.heads import CONNECTOR, ResponseHead


class CausesTests(SynchronousTestCase):
    @given(st.integers(0, 65535))
    def test_every_code_has_an_answer(self, code: int) -> None:
        """HTTP-8: whatever a connector sends as a code becomes 502, 503 or 504 with a side and a phase."""
        failure = causes.failed(code, "for the log")
        self.assertIn(failure.status, (502, 503, 504))
        self.assertIsInstance(failure.side, Side)
        self.assertIsInstance(failure.phase, Phase)
        self.assertEqual(failure.detail, "for the log")

    def test_slow_origins_are_504_and_busy_connectors_503(self) -> None:
        """502, 503 and 504 mean: at fault, nobody there, too slow."""
        self.assertEqual(causes.failed(Code.FIRST_BYTE, "").status, 504)
        self.assertEqual(causes.failed(Code.IDLE, "").status, 504)
        self.assertEqual(causes.failed(Code.REFUSED, "").status, 503)
        self.assertEqual(causes.no_connector().status, 503)
        self.assertEqual(causes.channel_lost().status, 502)

    def test_what_a_connector_names_itself(self) -> None:
        """A cause of Kerberos keeps its name, side and status; what is no name, or no error, is the connector's."""
        for cause in KERBEROS.values():
            head = ResponseHead(cause.status, b"", [], CONNECTOR, Code.SSO, cause.code, "sso")
            failure = causes.told(head)
            self.assertEqual((failure.code, failure.status, failure.side), (cause.code, cause.status, cause.side))
            self.assertIn(cause.remedy, failure.detail)
        for status, cause, told in (
            (200, "kerberos-clock", (502, "kerberos-clock")),
            (403, "<script>", (403, "connector-failed")),
            (502, "a" * 100, (502, "connector-failed")),
        ):
            failure = causes.told(ResponseHead(status, b"", [], CONNECTOR, Code.SSO, cause, "sso"))
            self.assertEqual((failure.status, failure.code), told)
        failure = causes.told(ResponseHead(403, b"", [], CONNECTOR, 0, "unpublished-destination", "request"))
        self.assertEqual((failure.side, failure.phase), (Side.CLIENT, Phase.REQUEST))

    def test_each_failure_has_its_own_name(self) -> None:
        """No two causes are confused in the log."""
        made = [causes.failed(code, "") for code in causes.CAUSES]
        made += [causes.channel_lost(), causes.no_connector(), causes.head_too_large("300 KiB"), causes.failed(999, "")]
        self.assertEqual(len({failure.code for failure in made}), len(made))
