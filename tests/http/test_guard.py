"""What the relay lets back."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.guard import HSTS, UnsafeAnswer, guard_response
from appproxy.http.messages import Field

VIA = (b"Via", b"1.1 appproxy")


def kept(status: int, reason: bytes, fields: list[Field], secure: bool) -> list[Field]:
    """What of *fields* goes on."""
    return guard_response(status, reason, fields, secure)[0]


class GuardTests(SynchronousTestCase):
    """Answers that a connector passed on."""

    @pytest.mark.feature("HTTP-2")
    def test_good_answers_pass(self) -> None:
        """Order, case and duplicates are kept."""
        fields = [(b"server", b"x"), (b"Set-Cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"X", b"\xe4")]
        self.assertEqual(kept(299, b"Fine", fields, secure=False), [*fields, VIA])

    def test_framing_and_hops_go(self) -> None:
        """The front alone frames what it writes."""
        fields = [
            (b"Content-Length", b"5"),
            (b"Transfer-Encoding", b"x"),
            (b"Connection", b"a"),
            (b"A", b"b"),
            (b"Upgrade", b"x"),
        ]
        self.assertEqual(kept(200, b"OK", fields, secure=False), [VIA])

    @pytest.mark.feature("HTTP-3")
    def test_proxies_inside_are_not_named(self) -> None:
        """M08: the relay's own word stands for every proxy on the way down."""
        fields = [(b"Via", b"1.1 squid.corp.local:3128 (squid/6.1)"), (b"via", b"1.1 x"), (b"A", b"b")]
        self.assertEqual(kept(200, b"OK", fields, secure=False), [(b"A", b"b"), VIA])
        self.assertEqual(kept(103, b"", fields, secure=False), [(b"A", b"b")])

    @pytest.mark.feature("AUTH-4")
    def test_relay_cookies_go(self) -> None:
        """S09: an origin cannot set what only the relay may set."""
        fields = [(b"Set-Cookie", b"__Host-appproxy-session=x"), (b"Set-Cookie", b"a=b")]
        self.assertEqual(kept(200, b"OK", fields, secure=False), [(b"Set-Cookie", b"a=b"), VIA])

    def test_transport_security_is_the_relays(self) -> None:
        """S27: on every final answer by TLS, whatever the origin says; nowhere else."""
        fields = [(b"strict-transport-security", b"max-age=0"), (b"Alt-Svc", b'h3="evil.test:443"')]
        self.assertEqual(kept(200, b"OK", fields, secure=True), [VIA, HSTS])
        self.assertEqual(kept(200, b"OK", fields, secure=False), [VIA])
        self.assertEqual(kept(103, b"Early Hints", fields, secure=True), [])

    def test_upgrade_stays_in_a_101(self) -> None:
        """The client hears what it switches to."""
        fields = [(b"Upgrade", b"websocket"), (b"Set-Cookie", b"a=b")]
        self.assertEqual(kept(101, b"", fields, secure=True), fields)

    def test_malformed_answers_are_refused(self) -> None:
        """What is not well-formed is not repaired."""
        good = [(b"a", b"b")]
        for status, reason, fields in (
            (99, b"", good), (600, b"", good), (200, b"a\r\nb", good), (200, b"", [(b"a b", b"c")]), (200, b"",
            [(b"", b"c")]),
            (200, b"", [(b"a", b"b\r\nc: d")]), (200, b"", [(b"a", b"\0")]),
        ):  # fmt: skip
            with self.assertRaises(UnsafeAnswer):
                guard_response(status, reason, fields, secure=True)

    def test_lengths_are_told(self) -> None:
        """Every length that an answer has comes back as it is, for whoever reads it; other spellings are none."""
        fields = [(b"content-length", b"5"), (b"A", b"b"), (b"Content-Length", b"x"), (b"content_length", b"7")]
        _, lengths = guard_response(200, b"OK", fields, secure=False)
        self.assertEqual(list(lengths), [b"5", b"x"])
        self.assertEqual(list(guard_response(200, b"OK", [], secure=False)[1]), [])

    def test_what_connection_names_goes(self) -> None:
        """An answer's ``Connection`` may name more of what belongs to it; its usual words name nothing."""
        fields = [(b"Connection", b"keep-alive"), (b"connection", b"X-Hop"), (b"X-Hop", b"a"), (b"B", b"c")]
        self.assertEqual(kept(200, b"OK", fields, secure=False), [(b"B", b"c"), VIA])
        self.assertEqual(kept(200, b"OK", [fields[0], *fields[2:]], secure=False), [*fields[2:], VIA])
