"""A connected socket as a Twisted transport that writes at once.

Twisted's own transport queues every write and asks the reactor to be told when the socket is writable, which costs
two system calls and a turn of the reactor for each answer.  This one sends in :meth:`SocketTransport.write` itself
and involves the reactor only for what the kernel does not take.  Protocols see no difference.

A connection goes through the states of :class:`State`.  Its two halves end separately:

- ours by :meth:`~SocketTransport.loseWriteConnection` (when all is flushed) or by a failing send,
- theirs by an end of file, told by ``readConnectionLost`` if the protocol is an ``IHalfCloseableProtocol``.

``loseConnection`` flushes, says goodbye (``FIN``, and ``close_notify`` in :mod:`appproxy.net.secure`), then reads and
discards until the peer has said goodbye too: a socket closed with unread input would send ``RST``, and the peer
might lose the end of our answer.  Each of these steps has a deadline.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any, ClassVar, Final
from typing import Protocol as Interface

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    IReadWriteDescriptor,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from appproxy.net.readiness import readiness_of
from appproxy.net.sockets import Address, ConnectedSocket, is_internet

#: Bytes asked of the kernel in one read: as cheap as less, and enough for most messages.
READ_SIZE: Final = 64 * 1024
#: The same while the peer fills every read: fewer, larger deliveries.
BULK_READ_SIZE: Final = 256 * 1024
#: Small buffered writes are joined up to this many bytes for one send.
SEND_SIZE: Final = 128 * 1024
#: A producer is paused when more bytes than this are waiting ...
HIGH_WATER: Final = 64 * 1024
#: ... and resumed when there are at most so many.
LOW_WATER: Final = 16 * 1024
#: Seconds in which a closing connection must get rid of ``FLUSH_BYTES``, or of everything.
FLUSH_SECONDS = 30.0
FLUSH_BYTES = 16 * 1024
#: Seconds that a peer has to close its side after we closed ours; one that still sends has longer: cut off in the
#: middle of its request, it would lose the answer that it has not read yet.
LINGER_SECONDS, LINGER_LONGEST = 2.0, 30.0

#: Socket failures that only mean "later".
WOULD_BLOCK: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class State(IntEnum):
    """How far a connection is; it only ever moves down this list."""

    #: Not usable yet: not started, or shaking hands.
    STARTING = 0
    #: The protocol has it.
    OPEN = 1
    #: ``loseConnection`` was called; what is buffered is still being sent.
    FLUSHING = 2
    #: Goodbye is said; input is discarded until the peer says goodbye too.
    LINGERING = 3
    CLOSED = 4


_OPEN: Final = State.OPEN


class Owner(Interface):
    """Who made the socket: a listener or a dialler."""

    def build(self, transport: SocketTransport) -> Protocol | None:
        """Return the protocol for a connection that is ready, or None to refuse it."""

    def made(self, transport: SocketTransport) -> None:
        """The protocol has been given its transport."""

    def lost(self, transport: SocketTransport, reason: Failure) -> None:
        """The connection is gone, or (*transport.protocol* is None) never became ready; told once."""


class SocketTransport(ConnectedSocket):
    """One connected TCP or Unix socket, accepted or dialled.

    :ivar protocol: who gets the bytes; None until the connection is ready.
    :ivar connected: true from the protocol's ``makeConnection`` until the connection is closed.
    :ivar disconnecting: true once ``loseConnection`` or ``abortConnection`` was called.
    """

    __slots__ = (
        "_broken",
        "_buffered",
        "_flushed",
        "_owner",
        "_paused",
        "_producer",
        "_producer_paused",
        "_pulling",
        "_queue",
        "_reactor",
        "_read_ended",
        "_read_size",
        "_recv",
        "_send",
        "_state",
        "_timer",
        "_watch",
        "_writable",
        "_write_ending",
        "connected",
        "disconnecting",
        "protocol",
    )

    log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: Any, connected: socket.socket, owner: Owner, peer: Address) -> None:
        """Take over *connected*, a non-blocking socket that nobody else uses; nothing happens before :meth:`start`."""
        super().__init__(connected, peer)
        self._reactor = reactor
        self._watch = readiness_of(reactor)
        self._owner = owner
        self._recv: Callable[[int], bytes] = connected.recv
        self._send: Callable[[Any], int] = connected.send
        self._queue: deque[bytes | memoryview] = deque()
        self._buffered = 0
        self._flushed = 0
        self._read_size = READ_SIZE
        self._state = State.STARTING
        self._writable = False
        self._write_ending = False
        self._read_ended = False
        self._paused = False
        self._broken: Failure | None = None
        self._producer: Any = None
        self._producer_paused = False
        self._pulling = False
        self._timer: Any = None
        self.protocol: Protocol | None = None
        self.connected = False
        self.disconnecting = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.name} {self._host} - {self._peer} {self._buffered} bytes waiting>"

    # Coming into being

    def start(self) -> None:
        """Hand the connection to its protocol and begin to read."""
        self._open()

    def _open(self) -> None:
        try:
            protocol = self._owner.build(self)
        except Exception:
            self.log.failure("no protocol could be made for {peer}", event="net.build-failed", peer=self._peer)
            protocol = None
        if protocol is None:
            self.abortConnection()
            return
        self._state = State.OPEN
        self._writable = self.connected = True
        self.protocol = protocol
        try:
            protocol.makeConnection(self)
        except Exception:
            self._protocol_failed("makeConnection")
        if self._state is State.OPEN and not self._paused:
            self._watch.addReader(self)
        self._owner.made(self)

    # Reading

    def doRead(self) -> None:
        """Read once and deliver; the reactor calls this when there is something."""
        if self._state is not _OPEN or self._paused:
            self._discard()
            return
        asked = self._read_size
        try:
            data = self._recv(asked)
        except WOULD_BLOCK:
            return
        except OSError as error:
            self._end(self._broken or Failure(ConnectionLost(str(error))))
            return
        if not data:
            self._input_ended()
            return
        if len(data) == asked:
            self._read_size = BULK_READ_SIZE
        elif asked != READ_SIZE and len(data) < READ_SIZE:
            self._read_size = READ_SIZE
        self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        try:
            self.protocol.dataReceived(data)  # type: ignore[union-attr]
        except Exception:
            self._protocol_failed("dataReceived")

    def _protocol_failed(self, method: str) -> None:
        self.log.failure(
            "{method} of {protocol} failed; its connection is aborted",
            event="net.protocol-failed",
            method=method,
            protocol=type(self.protocol).__name__,
        )
        self.abortConnection()

    def _input_ended(self) -> None:
        """The peer will send no more."""
        self._read_ended = True
        self._watch.removeReader(self)
        if self._broken is not None:
            self._end(self._broken)
            return
        if self._half_closeable():
            self._tell("readConnectionLost")
            if self._state is not State.OPEN or self._writable or self._write_ending:
                return
        with suppress(OSError):
            self._say_goodbye()
        self._end(Failure(ConnectionDone()))

    def _half_closeable(self) -> bool:
        return bool(IHalfCloseableProtocol.providedBy(self.protocol))

    def _tell(self, method: str, *arguments: object) -> None:
        """Call a rare method of the protocol; its failure costs this connection only."""
        try:
            getattr(self.protocol, method)(*arguments)
        except Exception:
            self._protocol_failed(method)

    def _discard(self) -> None:
        """Read and forget while lingering, below TLS: only the end of file is of interest.

        The reactor may still call after reading was stopped, with what it had learnt before; that is ignored.
        """
        if self._state is not State.LINGERING:
            return
        try:
            data = socket.socket.recv(self._socket, READ_SIZE)
        except WOULD_BLOCK:
            return
        except OSError:
            data = b""
        self._flushed += len(data)
        if not data:
            self._end(Failure(ConnectionDone()))

    def pauseProducing(self) -> None:
        """Read no more for now: the peer is held back by its own full send buffer."""
        if not self._paused:
            self._paused = True
            if self._state is State.OPEN and not self._read_ended:
                self._stop_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            if self._state is State.OPEN and not self._read_ended:
                self._watch.addReader(self)

    def _stop_reading(self) -> None:
        self._watch.removeReader(self)

    def stopProducing(self) -> None:
        """Be the end of a pipe: close."""
        self.loseConnection()

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data* now, as much as the kernel takes; the rest waits.  Ignored once this half is closing."""
        if not self._writable or not data:
            return
        if self._queue:
            self._wait(data, 0)
            return
        try:
            sent = self._send(data)
        except WOULD_BLOCK:
            sent = 0
        except OSError as error:
            self._send_failed(error)
            return
        if sent < len(data):
            self._wait(data, sent)
            self._watch.addWriter(self)

    def writeSequence(self, data: Any) -> None:
        """Send several pieces as one."""
        self.write(b"".join(data))

    def _wait(self, data: bytes | bytearray | memoryview, sent: int) -> None:
        """Buffer what the kernel did not take; hold the producer back above the high-water mark."""
        if type(data) is not bytes:
            data = bytes(data)  # its owner may change it
        self._queue.append(memoryview(data)[sent:] if sent else data)
        self._buffered += len(data) - sent
        if self._buffered > HIGH_WATER and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            if not self._pulling:
                self._producer.pauseProducing()

    def doWrite(self) -> None:
        """Send what waits; the reactor calls this when the kernel has room."""
        if self._queue:
            data = self._next()
            try:
                sent = self._send(data)
            except WOULD_BLOCK:
                sent = 0
            except OSError as error:
                self._send_failed(error)
                return
            if sent < len(data):
                self._queue.appendleft(memoryview(data)[sent:] if sent else data)
            self._buffered -= sent
            self._flushed += sent
        if self._buffered <= LOW_WATER and self._producer is not None and (self._producer_paused or self._pulling):
            self._producer_paused = False
            self._producer.resumeProducing()
        if not self._queue and not self._pulling and self._state is not State.CLOSED:
            self._watch.removeWriter(self)
            if self._producer is None and (self._write_ending or self._state is State.FLUSHING):
                self._all_sent()

    def _next(self) -> bytes | memoryview:
        """Take the next piece to send out of the queue; small ones are joined, once each."""
        queue = self._queue
        data = queue.popleft()
        if not queue or len(data) + len(queue[0]) > SEND_SIZE:
            return data
        pieces, size = [data], len(data)
        while queue and size + len(queue[0]) <= SEND_SIZE:
            size += len(queue[0])
            pieces.append(queue.popleft())
        return b"".join(pieces)

    def _send_failed(self, error: OSError) -> None:
        """Nothing can be sent any more.  What the peer said before it broke off is still read, if we are reading."""
        if self._broken is not None or self._state is State.CLOSED:
            return
        self._broken = Failure(ConnectionLost(str(error)))
        self._writable = False
        self._queue.clear()
        self._buffered = 0
        self._watch.removeWriter(self)
        if self._state is State.OPEN and not self._paused and not self._read_ended:
            self._set_timer(LINGER_SECONDS, self._end, self._broken)
        else:
            self._end_soon(self._broken)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let *producer* be paused and resumed as the buffer fills and empties; a pull producer is pulled."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is already the producer of {self!r}")
        if self._state in (State.LINGERING, State.CLOSED) or self._broken is not None:
            producer.stopProducing()
            return
        self._producer = producer
        self._pulling = not streaming
        self._producer_paused = False
        if self._pulling:
            self._watch.addWriter(self)
        elif self._buffered > HIGH_WATER:
            self._producer_paused = True
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer; a closing that waited for it goes on."""
        self._producer = None
        self._pulling = self._producer_paused = False
        if (self._state is State.FLUSHING or self._write_ending) and self._broken is None:
            self._watch.addWriter(self)  # the next turn finishes the closing

    # Ending

    def loseWriteConnection(self) -> None:
        """End our half when everything is sent; theirs stays open."""
        if self._writable and not self._write_ending:
            self._write_ending = True
            self._writable = self._producer is not None
            if not self._queue and self._producer is None:
                self._all_sent()

    def loseConnection(self) -> None:
        """Send what waits, then close both halves politely.  No more input is delivered."""
        if self.disconnecting or self._state is State.CLOSED:
            return
        self.disconnecting = True
        if self._state is State.STARTING:
            self.abortConnection()
            return
        if not self._read_ended:
            self._stop_reading()
        if self._broken is not None:
            self._end_soon(self._broken)
            return
        self._state = State.FLUSHING
        self._writable = self._producer is not None and self._writable
        self._flushed = 0
        self._set_timer(FLUSH_SECONDS, self._check_flush)
        if not self._queue and self._producer is None:
            self._all_sent()

    def _check_flush(self) -> None:
        """A peer that takes nothing cannot hold a closing connection for ever."""
        self._timer = None
        if self._queue and self._flushed < FLUSH_BYTES:
            self.abortConnection()
        else:
            self._flushed = 0
            self._set_timer(FLUSH_SECONDS, self._check_flush)

    def _all_sent(self) -> None:
        """The buffer is empty and nobody may fill it again: end our half, and with it what was asked for."""
        self._writable = False
        half = self._state is State.OPEN
        try:
            said = self._end_output() if half else self._say_goodbye()
        except OSError as error:
            self._send_failed(error)
            return
        if not said:
            self._watch.addWriter(self)
            return
        self._write_ending = False
        if not half:
            self._state = State.LINGERING
        elif self._half_closeable():
            self._tell("writeConnectionLost")
        if self._state is State.CLOSED:
            return
        if self._read_ended:
            self._end_soon(Failure(ConnectionDone()))
        elif not half:
            self._linger(self._reactor.seconds() + LINGER_LONGEST)
            self._watch.addReader(self)

    def _linger(self, longest: float) -> None:
        """Wait for the peer to close, as long as it sends something, but not beyond *longest*."""
        self._flushed = 0
        self._set_timer(LINGER_SECONDS, self._linger_on, longest)

    def _linger_on(self, longest: float) -> None:
        self._timer = None
        if self._flushed and self._reactor.seconds() < longest:
            self._linger(longest)
        else:
            self._end(Failure(ConnectionDone()))

    def _end_output(self) -> bool:
        """End our half while theirs goes on; return whether that is done, else try again when there is room."""
        self._socket.shutdown(socket.SHUT_WR)
        return True

    def _say_goodbye(self) -> bool:
        """End our half when nothing that comes back is of interest; return as :meth:`_end_output`."""
        self._socket.shutdown(socket.SHUT_WR)
        return True

    def abortConnection(self) -> None:
        """Close at once; a TCP peer sees a reset.  The protocol is told in the reactor's next turn."""
        if self._state is State.CLOSED:
            return
        self.disconnecting = True
        if is_internet(self._socket):
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._end_soon(Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor found the socket dead, or is shutting down."""
        self._end(self._broken or reason)

    def _end_soon(self, reason: Failure) -> None:
        """Release the socket now; tell the protocol when our caller, who may be the protocol, has returned."""
        if self._state is not State.CLOSED:
            self._release()
            self._reactor.callLater(0, self._gone, reason)

    def _end(self, reason: Failure) -> None:
        if self._state is not State.CLOSED:
            self._release()
            self._gone(reason)

    def _release(self) -> None:
        self._watch.removeReader(self)
        self._watch.removeWriter(self)
        self._state = State.CLOSED
        self._writable = self.connected = False
        self._queue.clear()
        self._buffered = 0
        self._cancel_timer()
        self._socket.close()

    def _gone(self, reason: Failure) -> None:
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                producer.stopProducing()
            if self.protocol is not None:
                self.protocol.connectionLost(reason)
        except Exception:
            self.log.failure(
                "connectionLost of {protocol} failed",
                event="net.protocol-failed",
                method="connectionLost",
                protocol=type(self.protocol).__name__,
            )
        self._owner.lost(self, reason)

    def _set_timer(self, seconds: float, call: Any, *arguments: object) -> None:
        self._cancel_timer()
        self._timer = self._reactor.callLater(seconds, call, *arguments)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # What is asked about a connection

    @property
    def paused(self) -> bool:
        """Nothing is read for now, because nobody takes it."""
        return self._paused

    @property
    def buffered(self) -> int:
        """Bytes written that the kernel has not taken yet."""
        return self._buffered

    def logPrefix(self) -> str:
        """Name the protocol in lines that the reactor logs."""
        return type(self.protocol).__name__


classImplements(SocketTransport, ITCPTransport, IConsumer, IPushProducer, IReadWriteDescriptor)
