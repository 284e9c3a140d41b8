"""Two channels joined in memory: what one end sends the other receives when :meth:`Pair.run` is called."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.task import Clock

from appproxy.channel.protocol import Channel
from appproxy.channel.stream import Stream
from appproxy.errors import Side
from appproxy.wire.connection import Connection
from appproxy.wire.heads import Field, RequestHead, ResponseHead, Standing
from appproxy.wire.limits import Limits


class FakeTransport:
    """The socket under a fake carrier."""

    def __init__(self) -> None:
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer


class FakeCarrier:
    """A carrier whose messages go into a queue."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.sent: deque[bytes] = deque()
        self.closed: tuple[int, str] | None = None
        self.aborted = False

    def send_message(self, payload: bytes) -> None:
        self.sent.append(payload)

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True


class RecordingOwner:
    """Keeps what a channel tells its owner."""

    def __init__(self) -> None:
        self.opened: list[Channel] = []
        self.documents: list[dict[str, Any]] = []
        self.goaways: list[Any] = []
        self.lost: list[tuple[int, str]] = []

    def channel_opened(self, channel: Channel) -> None:
        self.opened.append(channel)

    def document_received(self, channel: Channel, document: dict[str, Any]) -> None:
        self.documents.append(document)

    def going_away(self, channel: Channel, event: Any) -> None:
        self.goaways.append(event)

    def channel_lost(self, channel: Channel, code: int, reason: str) -> None:
        self.lost.append((code, reason))


class RecordingReceiver:
    """Keeps what a stream tells, and takes every byte at once unless *greedy* is off."""

    def __init__(self, greedy: bool = True) -> None:
        self.stream: Stream | None = None
        self.greedy = greedy
        self.heads: list[tuple[ResponseHead, bool, bool, bool]] = []
        self.data = b""
        self.ended = False
        self.trailers: list[Field] | None = None
        self.resets: list[tuple[int, str]] = []

    def head_received(self, head: ResponseHead, end: bool, informational: bool, upgrade: bool, data: bytes) -> None:
        self.heads.append((head, end and not data, informational, upgrade))
        self.data += data
        self.ended = self.ended or end

    def data_received(self, data: bytes, end: bool) -> None:
        self.data += data
        self.ended = self.ended or end
        if self.greedy and self.stream is not None:
            self.stream.consumed(len(data))

    def trailers_received(self, fields: list[Field]) -> None:
        self.trailers = fields
        self.ended = True

    def stream_reset(self, code: int, text: str) -> None:
        self.resets.append((code, text))


class RecordingOpener:
    """The connector's side: keeps every opened stream with a receiver of its own."""

    def __init__(self, greedy: bool = True) -> None:
        self.greedy = greedy
        self.streams: list[Stream] = []
        self.receivers: list[RecordingReceiver] = []
        self.heads: list[tuple[RequestHead, bool, bool]] = []

    def stream_opened(self, stream: Stream, head: RequestHead, end: bool, upgrade: bool) -> None:
        receiver = RecordingReceiver(self.greedy)
        receiver.stream = stream
        stream.receiver = receiver
        self.streams.append(stream)
        self.receivers.append(receiver)
        self.heads.append((head, end, upgrade))

    def channel_lost(self, channel: Channel) -> None:
        """Nothing of it is kept."""


class Pair:
    """A relay's and a connector's end of one channel, on one virtual clock."""

    def __init__(self, opener: Any = None, limits: Limits | None = None) -> None:
        """:param limits: those of the relay's end."""
        self.clock = Clock()
        self.opener = RecordingOpener() if opener is None else opener
        self.relay_owner, self.connector_owner = RecordingOwner(), RecordingOwner()
        connection = Connection(Side.RELAY, limits or Limits(), clock=self.clock.seconds)
        self.relay = Channel(self.clock, connection, self.relay_owner)
        self.connector = Channel(
            self.clock, Connection(Side.CONNECTOR, clock=self.clock.seconds), self.connector_owner, self.opener
        )
        self.relay_carrier, self.connector_carrier = FakeCarrier(), FakeCarrier()
        self.relay.carrier_opened(self.relay_carrier)  # type: ignore[arg-type]
        self.connector.carrier_opened(self.connector_carrier)  # type: ignore[arg-type]
        self.run()

    def run(self, turns: int = 50) -> None:
        """Let both ends flush and hear each other until nothing moves."""
        for _ in range(turns):
            self.clock.advance(0)
            moved = False
            for carrier, other in (
                (self.relay_carrier, self.connector),
                (self.connector_carrier, self.relay),
            ):
                while carrier.sent:
                    moved = True
                    other.message_received(carrier.sent.popleft())
            if not moved and not any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                return
        raise AssertionError("the channel does not come to rest")

    def request(
        self, receiver: RecordingReceiver, end: bool = True, upgrade: bool = False, target: bytes = b"/"
    ) -> Stream:
        """Open a stream from the relay's end."""
        head = RequestHead.of(b"GET", target, Standing([(b"Host", b"h")], "app"))
        stream = self.relay.open(head, receiver, end, upgrade)
        receiver.stream = stream
        return stream
