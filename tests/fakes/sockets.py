"""Two transports joined in memory: what one end writes the other's protocol reads when :meth:`Line.run` is called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(ITCPTransport)
class SocketEnd:
    """One end.

    :ivar sent: everything that was ever written here, for looking at octets.
    """

    def __init__(self, name: str, certificate: bytes | None = None) -> None:
        self.name = name
        self.certificate = certificate
        self.sent = b""
        self.waiting: list[bytes] = []
        self.connected = True
        self.disconnecting = False
        self.aborted = False
        self.paused = False
        self.producer: Any = None
        self.protocol: Any = None

    def connect(self, protocol: Any) -> None:
        """Give this end to *protocol*."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting and data:
            self.sent += data
            self.waiting.append(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        if self.connected:
            self.aborted = self.disconnecting = True
            self.waiting.clear()

    def lose(self, reason: Exception) -> None:
        """The connection is gone."""
        if self.connected:
            self.connected = False
            self.waiting.clear()
            self.protocol.connectionLost(Failure(reason))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 50000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 443)

    def getPeerCertificateDER(self) -> bytes | None:
        return self.certificate

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits here."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing is lost here."""


class Line:
    """The relay's and the connector's end of one connection.

    :param certificate: what the connector proved to hold.
    :param slices: sizes in which octets arrive, over and over; as they were written when empty.
    """

    def __init__(self, certificate: bytes | None = b"certificate", slices: Iterable[int] = ()) -> None:
        self.relay = SocketEnd("relay", certificate)
        self.connector = SocketEnd("connector")
        sizes = list(slices)
        self._sizes: Iterator[int] | None = cycle(sizes) if sizes else None

    def connect(self, relay: Any, connector: Any) -> None:
        """Join two protocols, and let them speak."""
        self.relay.connect(relay)
        self.connector.connect(connector)
        self.run()

    def run(self) -> None:
        """Deliver until nothing moves."""
        while any([self._move(self.relay, self.connector), self._move(self.connector, self.relay)]):
            pass

    def cut(self) -> None:
        """The network is gone without a word."""
        self.relay.lose(ConnectionLost())
        self.connector.lose(ConnectionLost())

    def _move(self, sender: SocketEnd, receiver: SocketEnd) -> bool:
        waiting, sender.waiting = sender.waiting, []
        for data in waiting if self._sizes is None else self._sliced(b"".join(waiting)):
            if receiver.connected and not receiver.disconnecting:
                receiver.protocol.dataReceived(data)
        if sender.disconnecting and not sender.waiting and sender.connected:
            sender.lose(ConnectionAborted() if sender.aborted else ConnectionDone())
            receiver.lose(ConnectionLost() if sender.aborted else ConnectionDone())
            return True
        return bool(waiting)

    def _sliced(self, data: bytes) -> Iterator[bytes]:
        assert self._sizes is not None
        while data:
            size = next(self._sizes)
            yield data[:size]
            data = data[size:]


class RawPeer(Protocol):
    """Speaks no protocol: keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.lost = True
