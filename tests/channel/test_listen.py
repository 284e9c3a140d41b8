"""The relay's end of the handshake: who is let in, and what the others are told."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from appproxy.channel.carrier import MAX_MESSAGE_BYTES, PATH, SUBPROTOCOL
from appproxy.channel.listen import AdmittingCarrier, ChannelListener, Refused
from appproxy.errors import AppproxyError
from tests.channel.test_carrier import BINARY, RecordingCargo, frame
from tests.fakes.sockets import Line, RawPeer


class StoreAway(AppproxyError):
    """The store is away; its password is swordfish."""

    code = "store-unavailable"


def request(path: str = PATH, protocol: str | None = SUBPROTOCOL, more: str = "") -> bytes:
    """A WebSocket handshake by the book."""
    offered = "" if protocol is None else f"Sec-WebSocket-Protocol: {protocol}\r\n"
    return (
        f"GET {path} HTTP/1.1\r\nHost: relay.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offered}{more}\r\n"
    ).encode()


class ListenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.timers = reactor.getDelayedCalls()  # type: ignore[attr-defined]
        self.cargo = RecordingCargo()
        self.asked: list[tuple[bytes | None, str]] = []
        self.outcome: Any = None
        self.line = Line()
        self.peer = RawPeer()
        self.carrier: AdmittingCarrier = ChannelListener(self.admit).carrier()
        self.line.connect(self.carrier, self.peer)

    def tearDown(self) -> None:
        self.assertEqual(reactor.getDelayedCalls(), self.timers)  # type: ignore[attr-defined]

    async def admit(self, certificate: bytes | None, peer: str) -> RecordingCargo:
        self.asked.append((certificate, peer))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is not None:
            await self.outcome
        return self.cargo

    def says(self, octets: bytes) -> bytes:
        """Speak as a peer; returns what came back since the beginning."""
        self.line.connector.write(octets)
        self.line.run()
        return self.peer.heard

    def test_admitted(self) -> None:
        """The certificate and the address are asked about; the answer names the subprotocol."""
        heard = self.says(request())
        self.assertTrue(heard.startswith(b"HTTP/1.1 101 "))
        self.assertIn(b"Sec-WebSocket-Protocol: appproxy.channel.v1\r\n", heard)
        self.assertEqual(self.asked, [(b"certificate", "tcp4:192.0.2.7:50000")])
        self.assertIs(self.cargo.carrier, self.carrier)

    def test_another_path(self) -> None:
        """Only the channel's path opens a WebSocket; nobody is asked about others."""
        self.assertTrue(self.says(request(path="/")).startswith(b"HTTP/1.1 404 no such path\r\n"))
        self.assertTrue(self.peer.lost)
        self.assertEqual(self.asked, [])

    def test_subprotocol_is_required(self) -> None:
        """C28: a peer that offers no subprotocol, or only another version, is denied."""
        self.assertTrue(self.says(request(protocol=None)).startswith(b"HTTP/1.1 400 "))
        self.setUp()
        self.assertTrue(self.says(request(protocol="appproxy.channel.v0")).startswith(b"HTTP/1.1 400 "))
        self.assertEqual(self.asked, [])

    def test_refused_is_told_why(self) -> None:
        """R10: who may not come in gets 403 with a reason, and no cargo hears of it."""
        self.outcome = Refused("this connector has been revoked")
        self.assertTrue(self.says(request()).startswith(b"HTTP/1.1 403 this connector has been revoked\r\n"))
        self.assertTrue(self.peer.lost)
        self.assertEqual((self.cargo.carrier, self.cargo.closed), (None, []))

    def test_a_store_that_is_away_is_503(self) -> None:
        """A connector is told to come again, with the failure's code and nothing else of it."""
        self.outcome = StoreAway()
        heard = self.says(request())
        self.assertTrue(heard.startswith(b"HTTP/1.1 503 store-unavailable; try again later\r\n"))
        self.assertNotIn(b"swordfish", heard)

    def test_a_failure_inside_is_logged_and_not_told(self) -> None:
        """An unexpected failure is 500 without its text; the log has it."""
        self.outcome = RuntimeError("secret inside")
        heard = self.says(request())
        self.assertTrue(heard.startswith(b"HTTP/1.1 500 "))
        self.assertNotIn(b"secret", heard)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_no_compression_is_agreed(self) -> None:
        """C15: an offer of permessage-deflate is not taken."""
        heard = self.says(request(more="Sec-WebSocket-Extensions: permessage-deflate\r\n"))
        self.assertTrue(heard.startswith(b"HTTP/1.1 101 "))
        self.assertNotIn(b"Extensions", heard)

    def test_a_page_for_browsers_there_is_none(self) -> None:
        """A plain GET of the path is answered 426 or 400, without a page of Autobahn's."""
        heard = self.says(f"GET {PATH} HTTP/1.1\r\nHost: relay.example.com\r\n\r\n".encode())
        self.assertRegex(heard, rb"\AHTTP/1\.1 4\d\d ")
        self.assertNotIn(b"<html", heard.lower())

    def test_messages_sent_while_being_admitted_wait(self) -> None:
        """What follows the request in the same segment, or while the store is asked, is heard after the opening."""
        self.outcome = waiting = Deferred[None]()
        self.says(request() + frame(BINARY, b"early"))
        self.says(frame(BINARY, b"later"))
        self.assertEqual((self.cargo.carrier, self.cargo.messages), (None, []))
        waiting.callback(None)
        self.assertEqual(self.cargo.messages, [b"early", b"later"])

    def test_a_second_request_while_being_admitted(self) -> None:
        """Only the first request is looked at: one connection never has two channels."""
        self.outcome = waiting = Deferred[None]()
        self.says(request())
        self.says(request())
        waiting.callback(None)
        self.line.run()
        self.assertEqual(len(self.asked), 1)
        self.assertEqual(self.peer.heard.count(b"101 Switching"), 1)

    def test_a_flood_while_being_admitted_is_cut(self) -> None:
        """D11: what a peer may send before it is let in is bounded."""
        self.outcome = Deferred[None]()
        self.says(request())
        self.says(b"~" * (MAX_MESSAGE_BYTES + 1))
        self.assertTrue(self.line.relay.aborted)

    def test_gone_before_it_was_admitted(self) -> None:
        """A connector that went away while the store was asked leaves no channel behind."""
        self.outcome = waiting = Deferred[None]()
        self.says(request())
        self.line.cut()
        waiting.callback(None)
        self.assertEqual((self.cargo.carrier, self.cargo.closed), (None, []))

    def test_a_request_in_pieces(self) -> None:
        """The request may come octet by octet."""
        for octet in request():
            self.says(bytes([octet]))
        self.assertTrue(self.peer.heard.startswith(b"HTTP/1.1 101 "))
