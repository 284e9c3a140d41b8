"""How failures of streams are told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import Phase, Side
from appproxy.relay import causes
from appproxy.wire.frames import Code


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

    def test_each_failure_has_its_own_name(self) -> None:
        """No two causes are confused in the log."""
        made = [causes.failed(code, "") for code in causes.CAUSES]
        made += [causes.channel_lost(), causes.no_connector(), causes.head_too_large("300 KiB"), causes.failed(999, "")]
        self.assertEqual(len({failure.code for failure in made}), len(made))
