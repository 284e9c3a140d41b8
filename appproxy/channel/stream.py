"""One exchange in a channel, spoken to in Twisted's own words for flow control.

Towards the peer a :class:`Stream` is an ``IConsumer``: whoever registers as its producer is paused while the peer has
given no credit.  From the peer it is an ``IPushProducer``: paused, it gives no credit back, so that the peer's
writer, and with it the peer's socket, comes to rest.  Nothing else queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import classImplements

from appproxy.wire.frames import Code
from appproxy.wire.heads import Field, RequestHead, ResponseHead

if TYPE_CHECKING:
    from appproxy.channel.protocol import Channel


class Receiver(Protocol):
    """What hears the peer's half of one stream; every method is called from the channel's turn."""

    def head_received(self, head: ResponseHead, end: bool, informational: bool, upgrade: bool, data: bytes) -> None:
        """The answer's head, or an informational one before it (relay side only).

        Where there is *data*, it is all of the body, which ends the answer and need not be consumed.
        """

    def data_received(self, data: bytes, end: bool) -> None:
        """Some of the body, or of the upgraded bytes; the receiver calls :meth:`Stream.consumed` when it took them."""

    def trailers_received(self, fields: list[Field]) -> None:
        """The peer's half ended with trailers."""

    def stream_reset(self, code: int, text: str) -> None:
        """The stream is over before its time: reset by the peer, or its channel was lost.  Nothing follows."""


class Stream:
    """One request and its answer, or a pair of byte pipes after an upgrade."""

    __slots__ = (
        "_held",
        "_owed",
        "_paused",
        "_producer",
        "_source_paused",
        "_then",
        "bytes_received",
        "bytes_sent",
        "channel",
        "closed",
        "heard_end",
        "id",
        "receiver",
    )

    def __init__(self, channel: Channel, identifier: int, receiver: Receiver | None = None) -> None:
        self.channel = channel
        self.id = identifier
        self.receiver = receiver
        self.closed = False
        #: The receiver has been told all of the peer's half; the wire connection may be ahead of that.
        self.heard_end = False
        self.bytes_sent = 0
        self.bytes_received = 0
        self._held: list[bytes] = []
        self._then: Sequence[Field] | None = None  # the end that waits behind what is held
        self._producer: Any = None
        self._source_paused = False
        self._paused = False
        self._owed = 0

    def __repr__(self) -> str:
        return f"<Stream {self.id}{' closed' if self.closed else ''}>"

    # Towards the peer

    def answer(
        self, head: ResponseHead, end: bool = False, *, informational: bool = False, upgrade: bool = False
    ) -> None:
        """Send a response head (connector side).

        :raises appproxy.wire.heads.HeadTooLarge: no channel would carry it; nothing was sent.
        """
        if self.closed:
            return
        self.channel.connection.answer(self.id, head, end, informational, upgrade)
        self.channel.wake()
        if end:
            self.channel.settle(self)

    def answer_whole(self, head: ResponseHead, data: bytes) -> None:
        """Send a final response head and all of its body (connector side).

        :raises appproxy.wire.heads.HeadTooLarge: no channel would carry it; nothing was sent.
        """
        if self.closed:
            return
        channel = self.channel
        if channel.connection.answer_whole(self.id, head, data):
            self.bytes_sent += len(data)
            channel.wake(2)
            if self.heard_end and not self.closed:  # then both halves have ended
                channel.forget(self)
        elif data:
            self.answer(head)
            self.end(data)
        else:
            self.answer(head, end=True)

    def write(self, data: bytes) -> None:
        """Send *data*, or hold what the peer gave no credit for and pause the producer until it does."""
        if self.closed or not data:
            return
        self.bytes_sent += len(data)
        if self._held:
            self._held.append(data)
        elif rest := self._send(data):
            self._held.append(rest)
            if self._producer is not None and not self._source_paused:
                self._source_paused = True
                self._producer.pauseProducing()

    def _send(self, data: bytes) -> bytes:
        """Send as much of *data* as there is room for; returns the rest."""
        connection = self.channel.connection
        while (room := connection.room(self.id)) < len(data):
            if not room:
                return data
            connection.send(self.id, data[:room])
            self.channel.wake()
            data = data[room:]
        connection.send(self.id, data)
        self.channel.wake()
        return b""

    def end(self, data: bytes = b"") -> None:
        """Send *data* as the last of our half; one frame when there is room."""
        if self.closed:
            return
        if data and not self._held and len(data) <= self.channel.connection.room(self.id):
            self.bytes_sent += len(data)
            self._finish(data, ())
            return
        self.write(data)
        self.finish()

    def finish(self, trailers: Sequence[Field] = ()) -> None:
        """End our half, after all that was written.

        :raises appproxy.wire.heads.HeadTooLarge: no channel would carry the trailers; nothing was sent.
        """
        if self.closed:
            return
        if self._held:
            self._then = trailers
        else:
            self._finish(b"", trailers)

    def _finish(self, data: bytes, trailers: Sequence[Field]) -> None:
        connection = self.channel.connection
        if trailers:
            connection.finish(self.id, list(trailers))
        else:
            connection.send(self.id, data, end=True)
        self.channel.wake()
        self.channel.settle(self)

    def reset(self, code: int, text: str = "") -> None:
        """End the stream at once in both directions; the peer is told *code*; the receiver hears nothing more."""
        if not self.closed:
            self.channel.connection.reset(self.id, code, text)
            self.channel.forget(self)
            self.channel.wake()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """IConsumer: *producer* is paused while what it wrote has no credit."""
        self._producer = producer
        if self._held:
            self._source_paused = True
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """IConsumer: nobody is paused any more."""
        self.release_source()
        self._producer = None

    def room_opened(self) -> None:
        """The peer gave credit: send what was held, then let the producer go on."""
        if self.closed or not self._held:
            return
        rest = self._send(b"".join(self._held))
        self._held = [rest] if rest else []
        if not rest:
            if self._then is not None:
                self._finish(b"", self._then)
            self.release_source()

    def release_source(self) -> None:
        """Let the producer go on, if it was paused."""
        if self._source_paused:
            self._source_paused = False
            self._producer.resumeProducing()

    # From the peer

    def consumed(self, count: int) -> None:
        """The receiver took *count* bytes; unless it is paused, the peer may send as many more."""
        if self._paused:
            self._owed += count
        elif count and self.channel.connection.consumed(self.id, count):
            self.channel.wake()

    def pauseProducing(self) -> None:
        """IPushProducer: keep the credit back until resumed."""
        self._paused = True

    def resumeProducing(self) -> None:
        """IPushProducer: give back what was kept."""
        self._paused = False
        if self._owed:
            owed, self._owed = self._owed, 0
            self.consumed(owed)

    def stopProducing(self) -> None:
        """IPushProducer: whoever read us has gone."""
        self.reset(Code.CANCELLED, "the reader has gone")


classImplements(Stream, IConsumer, IPushProducer)


class Opener(Protocol):
    """Connector side: what is told of each stream that the relay opens."""

    def stream_opened(self, stream: Stream, head: RequestHead, end: bool, upgrade: bool) -> None:
        """A request arrived; set ``stream.receiver`` before returning unless it has already ended."""

    def channel_lost(self, channel: Channel) -> None:
        """The channel is gone; its streams have been told already."""
