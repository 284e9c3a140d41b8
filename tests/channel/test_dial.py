"""The connector's end of the handshake: what it asks for, and which answers it believes."""

from __future__ import annotations

import base64
import hashlib

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from appproxy.channel.carrier import CloseCode
from appproxy.channel.dial import ChannelDialler
from tests.channel.test_carrier import BINARY, RecordingCargo, frame
from tests.fakes.sockets import Line, RawPeer

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class DialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.timers = reactor.getDelayedCalls()  # type: ignore[attr-defined]
        self.cargo = RecordingCargo()
        self.line = Line()
        self.relay = RawPeer()
        self.line.connect(self.relay, ChannelDialler("relay.example.com", 443, self.cargo).carrier())

    def tearDown(self) -> None:
        self.assertEqual(reactor.getDelayedCalls(), self.timers)  # type: ignore[attr-defined]

    def answers(self, fields: bytes, more: bytes = b"") -> None:
        """The relay's 101 with the right key, *fields*, and what follows in the same segment."""
        (key,) = [
            line.partition(b": ")[2]
            for line in self.relay.heard.split(b"\r\n")
            if line.startswith(b"Sec-WebSocket-Key")
        ]
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
        self.line.relay.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n" + fields + b"\r\n" + more
        )
        self.line.run()

    def test_what_is_asked(self) -> None:
        """The channel's path, the relay's name, the one subprotocol; no compression is offered."""
        head = self.relay.heard
        self.assertTrue(head.startswith(b"GET /.appproxy/channel HTTP/1.1\r\n"))
        self.assertIn(b"\r\nHost: relay.example.com", head)
        self.assertIn(b"Sec-WebSocket-Protocol: appproxy.channel.v1\r\n", head)
        self.assertNotIn(b"Extensions", head)

    def test_an_address_of_version_six(self) -> None:
        """An IPv6 address stands in brackets, with a port of its own."""
        line, relay = Line(), RawPeer()
        line.connect(relay, ChannelDialler("2001:db8::7", 8443, self.cargo).carrier())
        self.assertIn(b"\r\nHost: [2001:db8::7]:8443\r\n", relay.heard)

    def test_opened_and_heard_at_once(self) -> None:
        """A message in the same segment as the relay's answer is heard after the opening."""
        self.answers(b"Sec-WebSocket-Protocol: appproxy.channel.v1\r\n", frame(BINARY, b"welcome", key=None))
        self.assertIsNotNone(self.cargo.carrier)
        self.assertEqual(self.cargo.messages, [b"welcome"])

    def test_a_relay_without_the_subprotocol(self) -> None:
        """C28: an answer that names no subprotocol, or another, opens no channel and ends the connection."""
        self.answers(b"")
        self.assertIsNone(self.cargo.carrier)
        self.assertEqual([code for code, _ in self.cargo.closed], [CloseCode.PROTOCOL])
        self.assertTrue(self.relay.lost)
        self.setUp()
        self.answers(b"Sec-WebSocket-Protocol: appproxy.channel.v0\r\n")
        self.assertIsNone(self.cargo.carrier)
        self.assertEqual([code for code, _ in self.cargo.closed], [1006])

    def test_a_relay_that_compresses(self) -> None:
        """C15: an extension that was not offered ends the connection."""
        self.answers(b"Sec-WebSocket-Protocol: appproxy.channel.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n")
        self.assertIsNone(self.cargo.carrier)
        self.assertTrue(self.relay.lost)

    def test_a_refusal_is_told_with_its_reason(self) -> None:
        """R10: the relay's status and reason reach the cargo, for the operator's eyes."""
        self.line.relay.write(b"HTTP/1.1 403 this connector has been revoked\r\nContent-Length: 0\r\n\r\n")
        self.line.run()
        ((code, reason),) = self.cargo.closed
        self.assertEqual(code, 1006)
        self.assertIn("403", reason)
        self.assertIn("this connector has been revoked", reason)
