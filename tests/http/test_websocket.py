"""The handshake for clients that made none."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.websocket import Handshake, NotSwitched

#: Key and answer of RFC 6455, 1.3.
RANDOM = b"the sample nonce"
ANSWER = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TAKEN = [(b"Upgrade", b"WebSocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", ANSWER)]


class HandshakeTests(SynchronousTestCase):
    """Asking and being answered."""

    def test_asking(self) -> None:
        """Fields pass, a key is added; the client's own would be worth nothing."""
        fields = Handshake(RANDOM).ask([(b"origin", b"https://a.test"), (b"Sec-WebSocket-Key", b"x")])
        self.assertEqual(
            fields,
            [
                (b"origin", b"https://a.test"),
                (b"Upgrade", b"websocket"),
                (b"Connection", b"Upgrade"),
                (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            ],
        )

    def test_being_answered(self) -> None:
        """What is the handshake's own stays here; protocol, extensions and cookies pass."""
        more = [(b"Sec-WebSocket-Protocol", b"chat"), (b"Set-Cookie", b"a=1")]
        self.assertEqual(Handshake(RANDOM).opened([*TAKEN, *more]), more)

    def test_being_answered_wrongly(self) -> None:
        """W04: a missing, doubled or wrong answer, or another protocol, opens nothing."""
        for wrong in (
            TAKEN[:2],
            [*TAKEN, TAKEN[2]],
            [*TAKEN[:2], (b"Sec-WebSocket-Accept", ANSWER[::-1])],
            TAKEN[1:],
            [(b"Upgrade", b"other"), *TAKEN[1:]],
        ):
            self.assertRaises(NotSwitched, Handshake(RANDOM).opened, wrong)
