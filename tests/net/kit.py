"""Two ends of one connection over any kind of socket, for the tests of this room."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface import implementer

from appproxy.config.listening import ListenAddress
from appproxy.net.certificates import Certificates
from appproxy.net.dial import dial, dial_path
from appproxy.net.listen import Limits, Listening, Network, listen
from appproxy.net.tls import ClientTLS, client_tls
from tests.fakes.certificates import Authority

#: Seconds after which an await of a test is given up.
PATIENCE = 15.0


def soon(awaited: Deferred[Any] | Coroutine[Deferred[Any], Any, Any]) -> Deferred[Any]:
    """Bound a wait."""
    deferred = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
    return deferred.addTimeout(PATIENCE, reactor)


def turn() -> Deferred[None]:
    """Wait for the reactor's next turn."""
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0, waiting.callback, None)
    return waiting


async def until(true: Callable[[], object]) -> None:
    """Wait, turn by turn, until something is true."""
    end = reactor.seconds() + PATIENCE
    while not true():
        if reactor.seconds() > end:
            raise AssertionError("it never became true")
        await turn()


class Recorder(Protocol):
    """Remembers what happened to it; the tests wait for that."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.events: list[str] = []
        self.reason: Failure | None = None

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        self.events.append("lost")
        self.reason = reason

    async def got(self, count: int) -> bytes:
        """Wait for so many bytes in all."""
        await until(lambda: len(self.received) >= count or self.reason)
        assert len(self.received) >= count, (len(self.received), self.reason)
        return bytes(self.received)

    async def lost(self) -> Any:
        """Wait for the end and return the exception that tells why."""
        await until(lambda: self.reason)
        assert self.reason is not None
        return self.reason.value


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """One that goes on when a half is closed."""

    def readConnectionLost(self) -> None:
        self.events.append("read lost")

    def writeConnectionLost(self) -> None:
        self.events.append("write lost")


class Link:
    """A listener of one kind and how to reach it.

    :ivar accepted: the protocols on the listening side.
    """

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.authority = Authority()
        self.certificates: Certificates | None = None
        self.accepted: list[Any] = []
        self.dialled: list[Any] = []
        self.listening: Listening | None = None
        self.path = str(directory / "socket")

    def listen(
        self, factory: Callable[[], Protocol] = Recorder, introduced_by: tuple[Network, ...] = (), **settings: Any
    ) -> Listening:
        """Open the listener; *settings* are its limits."""
        if self.kind == "tls":
            certificates = self.directory / "certificates"
            certificates.mkdir()
            self.authority.write(certificates / "default.pem", "localhost", "127.0.0.1")
            self.certificates = Certificates(certificates, reactor)
        address = (
            ListenAddress(kind="unix", path=self.path)
            if self.kind == "unix"
            else ListenAddress(kind=self.kind, host="127.0.0.1")
        )

        def build(_: object) -> Protocol:
            self.accepted.append(factory())
            return self.accepted[-1]

        self.listening = listen(
            reactor, address, build, self.certificates, limits=Limits(**settings), introduced_by=introduced_by
        )
        return self.listening

    async def dial(self, factory: Callable[[], Protocol] = Recorder, tls: ClientTLS | None = None) -> Any:
        """Connect to it with our own dialler."""
        assert self.listening is not None
        if self.kind == "unix":
            made = await soon(dial_path(reactor, self.path, lambda _: factory()))
        else:
            if self.kind == "tls" and tls is None:
                tls = client_tls(ca_pem=self.authority.pem)
            made = await soon(dial(reactor, "127.0.0.1", self.listening.port, lambda _: factory(), tls))
        self.dialled.append(made)
        return made

    async def pair(self, near: Callable[[], Protocol] = Recorder, far: Callable[[], Protocol] = Recorder) -> Any:
        """Return both ends of a new connection: the dialling one, the accepting one."""
        if self.listening is None:
            self.listen(far)
        count = len(self.accepted)
        dialled = await self.dial(near)
        await until(lambda: len(self.accepted) > count and self.accepted[-1].transport)
        return dialled, self.accepted[-1]

    def connect(self) -> socket.socket:
        """Connect with a blocking socket of the standard library, without TLS; the kernel accepts."""
        assert self.listening is not None
        family = socket.AF_UNIX if self.kind == "unix" else socket.AF_INET
        connected = socket.socket(family, socket.SOCK_STREAM)
        connected.settimeout(PATIENCE)
        connected.connect(self.path if self.kind == "unix" else ("127.0.0.1", self.listening.port))
        return connected

    def blocking(self, talk: Callable[[Any], Any], first: bytes = b"") -> Deferred[Any]:
        """Run *talk* with a blocking client, with the standard library's TLS if that is the kind, in a thread.

        *first* is said in the clear.
        """

        def run() -> Any:
            with self.connect() as connected:
                connected.sendall(first)
                if self.kind != "tls":
                    return talk(connected)
                context = ssl.create_default_context(cadata=self.authority.pem)
                with context.wrap_socket(connected, server_hostname="localhost", suppress_ragged_eofs=False) as secured:
                    return talk(secured)

        return soon(deferToThread(run))

    async def close(self) -> None:
        """Leave nothing behind."""
        if self.listening is not None:
            self.listening.abort()
            connections = self.listening.connections
            await until(lambda: not connections)
        for protocol in self.dialled:
            protocol.transport.abortConnection()
        if self.certificates is not None:
            self.certificates.stop()
        await turn()
