"""A channel: one wire connection on one carrier, its streams, its pings, its end.

All frames queued in a reactor turn leave as one message.  While the carrier's socket is full nothing is taken from the
wire connection, whose queues are bounded by credit, so the pause reaches every source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import classImplements

from appproxy.channel.carrier import Carrier, CloseCode
from appproxy.channel.stream import Opener, Receiver, Stream
from appproxy.wire import events
from appproxy.wire.connection import Connection
from appproxy.wire.frames import Code
from appproxy.wire.heads import RequestHead
from appproxy.wire.misuse import ChannelViolation

#: How often the channel looks whether it heard anything; silence is measured in these.
TICK_SECONDS: Final = 2.5
#: Ticks of silence before a PING is sent (10 s) and before the peer counts as dead (15 s).
PING_TICKS: Final = 4
DEAD_TICKS: Final = 6
#: A message leaves before its turn ends once so many writes wait for it.
WAKES_PER_MESSAGE: Final = 16
#: Messages that leave in one turn; the rest waits for the next, so that nobody else does.
MESSAGES_PER_TURN: Final = 4
#: What a PING says that measures the path; those after silence count.
_MEASURING: Final = b"the path"
#: A peer that does not answer our close is cut off after this long.
CLOSE_SECONDS: Final = 2.0


class Clock(Protocol):
    """The reactor's time, or a test's."""

    def seconds(self) -> float:
        """A monotonic clock."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> Any:
        """Call *callable* after *delay* seconds."""


class Owner(Protocol):
    """Who a channel belongs to: the relay's attachments, or the connector's dialling."""

    def channel_opened(self, channel: Channel) -> None:
        """The WebSocket is open; the documents may flow."""

    def document_received(self, channel: Channel, document: dict[str, Any]) -> None:
        """A CONTROL document arrived."""

    def going_away(self, channel: Channel, event: events.GoingAway) -> None:
        """The peer opens or takes no new streams here."""

    def channel_lost(self, channel: Channel, code: int, reason: str) -> None:
        """The channel is gone; its streams have been told already."""


class Channel:
    """Cargo of a carrier; see the module.

    :ivar peer: who is at the other end, for logs; *connector* is the connector's id (relay side).
    :ivar lost: it is gone, and every stream with it.
    :ivar last_store_age_ms: what the relay last said of its store (connector side), or None.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, clock: Clock, connection: Connection, owner: Owner, opener: Opener | None = None) -> None:
        self.connection = connection
        self.streams: dict[int, Stream] = {}
        self.carrier: Carrier | None = None
        self.going_away = False
        self.peer = ""
        self.connector = ""
        self.last_store_age_ms: int | None = None
        self.clock = clock
        self._owner = owner
        self._opener = opener
        self._awake = False
        self._wakes = 0
        self._full = False
        self._heard = True
        self._silent_ticks = 0
        self._pinged: float | None = None
        self._ticking: Any = None
        self._closing: Any = None
        self.lost = False
        self._on_idle: Callable[[], None] | None = None
        self._afterwards: list[Callable[[], None]] = []
        self._heard_of: dict[type, Callable[[Any], None]] = {
            events.RequestOpened: self._request_opened,
            events.Answered: self._answered,
            events.Data: self._data,
            events.Trailers: self._trailers,
            events.Reset: self._reset,
            events.RoomOpened: self._room_opened,
            events.Control: self._control,
            events.GoingAway: self._going_away,
            events.Pong: self._pong,
            events.Ping: self._ping,
        }

    def __repr__(self) -> str:
        return f"<Channel {self.peer} {len(self.streams)} streams{' lost' if self.lost else ''}>"

    @property
    def usable(self) -> bool:
        """Whether new streams may be opened on it."""
        return self.carrier is not None and not self.lost and not self.going_away

    # What the owner does

    def open(self, head: RequestHead, receiver: Receiver, end: bool, upgrade: bool = False) -> Stream:
        """Open a stream (relay side).

        :raises appproxy.wire.misuse.CannotOpen: the channel is full, exhausted or going away.
        """
        stream = Stream(self, self.connection.open(head, end, upgrade), receiver)
        self.streams[stream.id] = stream
        self.wake()
        return stream

    def control(self, document: dict[str, Any]) -> None:
        """Send a CONTROL document."""
        self.connection.control(document)
        self.wake()

    def go_away(self, code: int, text: str, retry_after_ms: int = 0) -> None:
        """Tell the peer that no new streams are welcome; those in flight go on."""
        if not self.going_away:
            self.going_away = True
            self.connection.goaway(code, text, retry_after_ms)
            self.wake()

    def when_idle(self, call: Callable[[], None]) -> None:
        """Run *call* once no stream is left (now, if there is none)."""
        if self.streams:
            self._on_idle = call
        else:
            call()

    def after_message(self, call: Callable[[], None]) -> None:
        """Run *call* when all of the message that is being read has been told."""
        self._afterwards.append(call)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Flush and say good-bye; a peer that does not answer is cut off."""
        if self.carrier is None or self.lost or self._closing is not None:
            return
        self.going_away = True
        self._flush()
        self._closing = self.clock.callLater(CLOSE_SECONDS, self.carrier.abort)
        self.carrier.close(code, reason)

    # The carrier

    def carrier_opened(self, carrier: Carrier) -> None:
        """Cargo: begin to live."""
        self.carrier = carrier
        carrier.transport.registerProducer(self, True)
        self._ticking = self.clock.callLater(TICK_SECONDS, self._tick)
        self._owner.channel_opened(self)
        self._measure()
        self.wake()

    def message_received(self, payload: bytes) -> None:
        """Cargo: frames came."""
        self._heard = True
        if self.lost:
            return
        try:
            self._tell(self.connection.receive(payload))
        except ChannelViolation as violation:
            self._tell(violation.events)
            self._violated(violation)
        if self.connection.pending:
            self.wake()

    def _tell(self, happened: list[events.Event]) -> None:
        heard_of = self._heard_of
        for event in happened:
            heard_of[type(event)](event)
        if self._afterwards:
            calls, self._afterwards = self._afterwards, []
            for call in calls:
                call()

    def carrier_closed(self, code: int, reason: str) -> None:
        """Cargo: the WebSocket is gone, and with it every stream."""
        if self.lost:
            return
        self.lost = True
        for call in (self._ticking, self._closing):
            if call is not None and call.active():
                call.cancel()
        self.connection.lost()
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            stream.closed = True
            stream.release_source()
            if stream.receiver is not None:
                stream.receiver.stream_reset(Code.NONE, "the channel was lost")
        if self._opener is not None:
            self._opener.channel_lost(self)
        self._owner.channel_lost(self, code, reason)

    def _violated(self, violation: ChannelViolation) -> None:
        self.log.warn(
            "channel {peer} broke the protocol: {text}",
            event="channel.protocol-violation",
            peer=self.peer,
            text=violation.text,
            code=violation.code,
        )
        self.going_away = True
        code = CloseCode.POLICY if violation.code == Code.LIMIT else CloseCode.PROTOCOL
        self.close(code, violation.text)
        # Whatever else the peer says is of no interest; streams end now, not when the closing handshake does.
        self.carrier_closed(code, violation.text)
        if self.carrier is not None and (self._closing is None or not self._closing.active()):
            self._closing = self.clock.callLater(CLOSE_SECONDS, self.carrier.abort)

    # Liveness

    def _tick(self) -> None:
        self._ticking = self.clock.callLater(TICK_SECONDS, self._tick)
        if self._heard:
            self._heard = False
            self._silent_ticks = 0
            if self.streams and self._pinged is None:
                self._measure()
            return
        self._silent_ticks += 1
        if self._silent_ticks >= DEAD_TICKS:
            self.log.warn("channel {peer} fell silent", event="channel.silent", peer=self.peer)
            if self.carrier is not None:
                self.carrier.abort()
        elif self._silent_ticks >= PING_TICKS:
            self.connection.ping(self._silent_ticks.to_bytes(8, "big"))
            self.wake()

    def _measure(self) -> None:
        """Find out how far the peer is; the answer comes ahead of everything but what has left already."""
        self._pinged = self.clock.seconds()
        self.connection.ping(_MEASURING)
        self.wake()

    # Writing

    def wake(self, writes: int = 1) -> None:
        """Something waits to be written: it leaves with what else this turn brings, or as soon as that is enough.

        Waiting for the end of a long turn would make the two ends of the channel work in turns, one of them always
        idle; a message for every frame would cost too much.

        :param writes: how many frames it is, about.
        """
        if self._awake:
            self._wakes += writes
            if self._wakes >= WAKES_PER_MESSAGE:
                self._flush()
        elif not self._full and self.carrier is not None:
            self._awake = True
            self._wakes = writes
            self.clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._awake = False
        self._flush()

    def _flush(self) -> None:
        self._wakes = 0
        carrier = self.carrier
        if carrier is None or self.lost:
            return
        output = self.connection.output
        for _ in range(MESSAGES_PER_TURN):
            if self._full or not (message := output()):
                return
            carrier.send_message(message)
        if not self._awake:
            self._awake = True
            self.clock.callLater(0, self._turn)

    def pauseProducing(self) -> None:
        """The carrier's socket is full."""
        self._full = True

    def resumeProducing(self) -> None:
        """The carrier's socket has room again."""
        self._full = False
        self.wake()

    def stopProducing(self) -> None:
        """The carrier's transport is done with us; its loss is told separately."""
        self._full = True

    def forget(self, stream: Stream) -> None:
        """*stream* is over; called by the stream itself."""
        stream.closed = True
        stream.release_source()
        stream.receiver = None  # who holds us; a circle would wait for the garbage collector, far from the caches
        self.streams.pop(stream.id, None)
        if not self.streams and self._on_idle is not None:
            call, self._on_idle = self._on_idle, None
            call()

    # Events

    def _request_opened(self, event: events.RequestOpened) -> None:
        stream = Stream(self, event.stream)
        if self._opener is None:  # only connectors are asked
            stream.reset(Code.REFUSED, "nothing is served at this end")
            return
        self.streams[event.stream] = stream
        stream.heard_end = event.end
        self._opener.stream_opened(stream, event.head, event.end, event.upgrade)

    def _answered(self, event: events.Answered) -> None:
        stream = self.streams.get(event.stream)
        if stream is not None and stream.receiver is not None:
            stream.heard_end = end = event.end
            data = event.data
            stream.bytes_received += len(data)
            stream.receiver.head_received(event.head, end, event.informational, event.upgrade, data)
            if end:
                self.settle(stream)

    def _data(self, event: events.Data) -> None:
        stream = self.streams.get(event.stream)
        data, end = event.data, event.end
        if stream is not None and stream.receiver is not None:
            stream.bytes_received += len(data)
            stream.heard_end = end
            stream.receiver.data_received(data, end)
            if end:
                self.settle(stream)
        else:
            self.connection.consumed(event.stream, len(data))

    def _trailers(self, event: events.Trailers) -> None:
        stream = self.streams.get(event.stream)
        if stream is not None and stream.receiver is not None:
            stream.heard_end = True
            stream.receiver.trailers_received(event.fields)
            self.settle(stream)

    def settle(self, stream: Stream) -> None:
        """Forget a stream once both its halves have ended."""
        if stream.heard_end and not stream.closed and self.connection.is_closed(stream.id):
            self.forget(stream)

    def _reset(self, event: events.Reset) -> None:
        stream = self.streams.get(event.stream)
        if stream is not None:
            receiver = stream.receiver
            self.forget(stream)
            if receiver is not None:
                receiver.stream_reset(event.code, event.text)

    def _room_opened(self, event: events.RoomOpened) -> None:
        stream = self.streams.get(event.stream)
        if stream is not None:
            stream.room_opened()

    def _control(self, event: events.Control) -> None:
        self._owner.document_received(self, event.document)

    def _going_away(self, event: events.GoingAway) -> None:
        self.going_away = True
        self._owner.going_away(self, event)

    def _pong(self, event: events.Pong) -> None:
        self.last_store_age_ms = event.store_age_ms
        if self._pinged is not None and event.opaque == _MEASURING:
            now = self.clock.seconds()
            self.connection.path.measured(now - self._pinged, now)
            self._pinged = None

    def _ping(self, event: events.Ping) -> None:
        """Answered by the wire connection itself."""


classImplements(Channel, IPushProducer)
