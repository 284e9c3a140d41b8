"""Fetching over a wire that the test holds in its hands."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from tempfile import NamedTemporaryFile

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import ConfigError
from appproxy.relay.preauth.failures import ProviderUnreachable
from appproxy.relay.preauth.fetching import FetchedAnswer, TreqFetch


class FetchTest(SynchronousTestCase):
    """One request, one answer."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.fetch = TreqFetch(self.reactor)

    def ask(
        self, method: str = "GET", body: bytes = b"", limit: int = 100, headers: Mapping[str, str] | None = None
    ) -> tuple[Deferred[FetchedAnswer], StringTransport, Protocol]:
        """Send a request; what comes of it, and both ends of the connection."""
        result = Deferred.fromCoroutine(
            self.fetch(method, "http://127.0.0.1:8400/x?y=1", headers or {}, body, limit, 10.0)
        )
        host, port, factory, *_ = self.reactor.tcpClients[-1]
        self.assertEqual((host, port), ("127.0.0.1", 8400))
        assert isinstance(factory, Factory)
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection  # type: ignore[attr-defined]
        protocol.makeConnection(transport)
        return result, transport, protocol

    def test_round_trip(self) -> None:
        """Method, target, fields and body go as given; status, fields and body come back."""
        result, transport, protocol = self.ask(
            "POST", b"a=1", headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        sent = transport.value()
        self.assertTrue(sent.startswith(b"POST /x?y=1 HTTP/1.1\r\n"))
        self.assertTrue(sent.endswith(b"\r\n\r\na=1"))
        self.assertIn(b"Content-Type: application/x-www-form-urlencoded\r\n", sent)
        self.assertEqual(sent.lower().count(b"accept-encoding"), 1)
        self.assertIn(b"Accept-Encoding: identity\r\n", sent)
        protocol.dataReceived(b"HTTP/1.1 201 X\r\nContent-Length: 2\r\nX-Y: z\r\n\r\nok")
        answer = self.successResultOf(result)
        self.assertEqual((answer.status, answer.body, answer.headers["x-y"]), (201, b"ok", "z"))

    def test_redirects_are_not_followed(self) -> None:
        """A27: a redirect is an answer like any other."""
        result, _, protocol = self.ask()
        protocol.dataReceived(b"HTTP/1.1 302 X\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(result).status, 302)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_cookies_are_not_kept(self) -> None:
        """What one answer sets no later request brings."""
        result, _, protocol = self.ask()
        protocol.dataReceived(b"HTTP/1.1 200 X\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
        self.successResultOf(result)
        _, transport, _ = self.ask()
        self.assertNotIn(b"Cookie", transport.value())

    def test_too_long(self) -> None:
        """A27, A30: an answer over the limit ends the connection, announced or endless."""
        for head in (b"Content-Length: 1000", b"X: y"):
            result, transport, protocol = self.ask()
            protocol.dataReceived(b"HTTP/1.1 200 X\r\n%s\r\n\r\n" % head + b"x" * 101)
            self.failureResultOf(result, ProviderUnreachable)
            self.assertTrue(transport.disconnecting)

    def test_compressed(self) -> None:
        """A30: a compressed answer that nobody asked for is not expanded."""
        bomb = gzip.compress(bytes(10_000_000))
        result, transport, protocol = self.ask()
        head = b"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        protocol.dataReceived(head + bomb)
        self.failureResultOf(result, ProviderUnreachable)
        self.assertTrue(transport.disconnecting)

    def test_timeout(self) -> None:
        """A27: an answer that does not come in time is none, whether before its head or within its body."""
        for piece in (b"", b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nab"):
            result, _, protocol = self.ask()
            protocol.dataReceived(piece) if piece else None
            self.reactor.advance(9.9)
            self.assertNoResult(result)
            self.reactor.advance(0.2)
            self.failureResultOf(result, ProviderUnreachable)

    def test_no_http(self) -> None:
        """Whatever else goes wrong has the one name, and the log learns neither query nor secret."""
        result, _, protocol = self.ask(headers={"Authorization": "Basic c2VjcmV0"})
        protocol.dataReceived(b"\x15\x03\x01\x00\x02\r\n\r\n")
        failure = self.failureResultOf(result, ProviderUnreachable)
        self.assertNotIn("y=1", failure.value.detail)
        self.assertNotIn("c2VjcmV0", failure.value.detail)

    def test_private_authority(self) -> None:
        """A file without certificates is told at the start."""
        with NamedTemporaryFile() as file:
            for content in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
                file.seek(0)
                file.write(content)
                file.flush()
                self.assertRaises(ConfigError, TreqFetch, self.reactor, file.name)
        self.assertRaises(ConfigError, TreqFetch, self.reactor, "/nonexistent")
