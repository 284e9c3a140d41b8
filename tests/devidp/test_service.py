"""The provider on its socket: on this machine only."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel
from twisted.web.server import Site

from appproxy.devidp.service import KEY_FILE, make_service, read_or_make_key, serve
from appproxy.errors import ConfigError
from tests.devidp.test_users import GOOD
from tests.fakes.idp import rsa_key


class ServiceTest(SynchronousTestCase):
    """Started without a network."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.users = self.folder / "users.toml"
        self.users.write_text(GOOD)
        self.key = self.folder / KEY_FILE
        self.key.write_bytes(rsa_key("key-1").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.reactor = MemoryReactorClock()

    def ask(self, octets: bytes) -> bytes:
        """What the listening socket answers to these octets."""
        site = self.reactor.tcpServers[0][1]
        assert isinstance(site, Site)
        channel = site.buildProtocol(None)
        assert isinstance(channel, HTTPChannel) or channel is not None
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(octets)
        return transport.value()

    @pytest.mark.feature("AUTH-14")
    def test_loopback_only(self) -> None:
        """It listens on this machine's own addresses, and refuses any other by a sentence."""
        service = make_service(self.users, 8400, self.folder, reactor=self.reactor)
        service.startService()
        self.assertEqual([server[3] for server in self.reactor.tcpServers], ["127.0.0.1", "::1"])
        self.assertTrue(service.issuer.startswith("http://localhost:"))
        for host in ("0.0.0.0", "10.0.0.1", "::", "proxy.example.com", ""):
            with self.assertRaises(ConfigError) as caught:
                make_service(self.users, 8400, self.folder, host, self.reactor)
            self.assertIn("loopback only", str(caught.exception))

    def test_requests(self) -> None:
        """It answers over HTTP, marked as not to be stored."""
        service = make_service(self.users, 8400, self.folder, reactor=self.reactor)
        service.startService()
        answer = self.ask(b"GET /.well-known/openid-configuration HTTP/1.1\r\nHost: localhost:8400\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"))
        self.assertIn(service.issuer.encode(), answer)
        self.assertIn(b"Cache-Control: no-store", answer)
        form = b"client_id=relay&client_secret=s"
        head = b"POST /token HTTP/1.1\r\nHost: [::1]:8400\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        self.assertIn(b"unsupported_grant_type", self.ask(head + b"Content-Length: %d\r\n\r\n" % len(form) + form))

    def test_refused_requests(self) -> None:
        """A name that was rebound to this machine, a parameter twice and a body too long are refused."""
        make_service(self.users, 8400, self.folder, reactor=self.reactor).startService()
        for host in (b"evil.test", b"evil.test:8400", b"localhost.evil.test"):
            self.assertIn(b" 421 ", self.ask(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host)[:20])
        self.assertIn(b" 400 ", self.ask(b"GET /authorize?a=1&a=2 HTTP/1.1\r\nHost: localhost\r\n\r\n")[:20])
        head = b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        body = b"a=" + b"x" * 70_000
        self.assertIn(b" 400 ", self.ask(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)[:20])

    def test_key(self) -> None:
        """R13: the key is made once, is readable by its owner only, and a damaged one is told."""
        path = self.key
        path.unlink()
        key = read_or_make_key(self.folder)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(read_or_make_key(self.folder).private_numbers(), key.private_numbers())
        path.write_text("damaged")
        self.assertRaises(ConfigError, read_or_make_key, self.folder)

    def test_port_taken(self) -> None:
        """A taken port is told by its number."""

        def taken(*args: object, **kwargs: object) -> None:
            raise CannotListenError("127.0.0.1", 8400, OSError())

        self.patch(self.reactor, "listenTCP", taken)
        self.assertRaises(ConfigError, make_service(self.users, 8400, self.folder, reactor=self.reactor).startService)

    @pytest.mark.feature("AUTH-14")
    def test_serve(self) -> None:
        """The command's coroutine says loudly what it is, and stops when told to."""
        told: list[str] = []
        running = Deferred.fromCoroutine(serve(self.users, 8400, self.folder, reactor=self.reactor, tell=told.append))
        self.assertNoResult(running)
        self.assertIn("DEVELOPMENT", told[0])
        running.addErrback(lambda _: None)
        running.cancel()
        self.successResultOf(running)
