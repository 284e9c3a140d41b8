"""What a peer's frames do to our end of a channel: the listening half of :class:`~appproxy.wire.connection.Connection`.

What a peer does wrong on one stream ends that stream: a RESET to the peer, a Reset to us.  What it does wrong with the
channel ends the channel: :class:`ChannelViolation`, and a GOAWAY left to be written that says why.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from appproxy.errors import ProtocolViolation, Side
from appproxy.wire import control, frames
from appproxy.wire.allowance import Allowance
from appproxy.wire.events import (
    Answered,
    Control,
    Data,
    Event,
    GoingAway,
    Ping,
    Pong,
    RequestOpened,
    Reset,
    RoomOpened,
    Trailers,
)
from appproxy.wire.frames import BOUNDS, HEADER, PING_BYTES, U32, Code
from appproxy.wire.heads import MalformedHead, decode_request, decode_response, decode_trailers
from appproxy.wire.limits import Limits
from appproxy.wire.misuse import ChannelViolation
from appproxy.wire.streams import DOWN_OPEN, MOVES, UP_OPEN, Input, State, Stream
from appproxy.wire.windows import CHANNEL_WINDOW, MAX_CREDIT, Budget, Path, ReceiveWindow
from appproxy.wire.writing import NUDGE, Outbox

# Plain numbers: an operation on an IntFlag costs half a microsecond.
END: Final = 1
INFORMATIONAL: Final = 2
TRAILERS: Final = 4
UPGRADE: Final = 8
_ACK: Final = 1
_PING: Final = 5
_HEADER_BYTES: Final = HEADER.size
_KINDS: Final = len(BOUNDS) - 1
_Receiver = Callable[[int, int, bytes, list[Event]], None]
_read_header = HEADER.unpack_from
# In Python 3.11 the name of a member costs 60 ns, each time.
_ASKING: Final = State.ASKING
_ASKED: Final = State.ASKED
_CLOSED: Final = State.CLOSED
_INTERIM: Final = Input.INTERIM
_ANSWER: Final = Input.ANSWER
_DOWN_END: Final = Input.DOWN_END
#: Channel credit goes back in pieces of this size.
CHANNEL_STEP: Final = CHANNEL_WINDOW // 16


def fits(status: int, flags: int, upgrade: bool) -> bool:
    """Whether an answer with this status may carry these flags; *upgrade*: the request asked for one."""
    if flags == INFORMATIONAL:
        return 100 <= status < 200 and status != 101
    if flags == UPGRADE:
        return status == 101 and upgrade
    return flags in (0, END) and 200 <= status <= 999


class Receiving:
    """What is known of the channel, and how frames change it."""

    __slots__ = (
        "_at_most", "_begun", "_broken", "_budget", "_channel_left", "_channel_owed", "_clock", "_cut", "_documents",
        "_final", "_goaways", "_gone", "_held", "_last", "_leaving", "_leftover", "_openings", "_our_data", "_our_end",
        "_out", "_pings", "_receivable", "_resets", "_rules", "_streams", "_their_data", "_their_end", "_trifles",
        "_wanted", "_windows", "_woken", "limits", "offences", "path", "side", "store_age_ms",
    )  # fmt: skip

    def __init__(
        self,
        side: Side,
        limits: Limits,
        budget: Budget,
        clock: Callable[[], float],
    ) -> None:
        relay = side is Side.RELAY
        up, down = (Input.UP, Input.UP_END), (Input.DOWN, Input.DOWN_END)
        self.side = side
        self.limits = limits
        self.store_age_ms: int | None = None
        self.offences: Counter[str] = Counter()
        self._our_data, self._our_end = up if relay else down
        self._their_data, self._their_end = down if relay else up
        self._receivable = DOWN_OPEN if relay else UP_OPEN
        receivers: tuple[_Receiver, ...] = (
            self._receive_control,
            self._receive_answer if relay else self._receive_request,
            self._receive_data,
            self._receive_window,
            self._receive_reset,
            self._receive_ping,
            self._receive_goaway,
            self._receive_unknown,
        )
        #: For frames of each kind, and at last of unknown ones: their bounds, and who receives them.
        self._rules = tuple((*bounds, receive) for bounds, receive in zip(BOUNDS, receivers, strict=True))
        self._budget = budget
        self._clock = clock
        self._out = Outbox()
        self._streams: dict[int, Stream] = {}
        #: The highest id that was ever opened.
        self._last = 0
        #: Streams that we reset and about which the peer may not know yet, oldest first.
        self._gone: dict[int, None] = {}
        #: Bytes of ended streams that their consumers have not taken yet.
        self._leftover: dict[int, int] = {}
        #: Answers that began in the message that is being read, as long as nothing followed them there.
        self._begun: dict[int, Answered] = {}
        self._cut: list[int] = []
        self._held = bytearray()
        self._wanted = 0
        self._channel_left = CHANNEL_WINDOW
        self._channel_owed = 0
        self._pings: deque[bytes] = deque()
        self.path = Path()
        self._goaways = 0
        #: The last stream that the peer's latest GOAWAY allowed.
        self._at_most = frames.MAX_STREAM
        #: The last stream that our own GOAWAY allowed.
        self._final: int | None = None
        self._leaving = False
        self._broken = False
        #: The channel has credit again: all who wait are to be told.
        self._woken = False
        self._openings = Allowance(limits.openings, clock)
        self._resets = Allowance(limits.resets, clock)
        self._windows = Allowance(limits.windows, clock)
        self._trifles = Allowance(limits.trifles, clock)
        self._documents = Allowance(limits.documents, clock)

    def lost(self) -> list[int]:
        """The carrier is gone: give everything back.

        :returns: the streams that were cut.
        """
        cut = self._cut + list(self._streams)
        self._cut = []
        for what in list(self._streams.values()):
            self._end(what)
        self._budget.waiting -= sum(self._leftover.values())
        self._leftover.clear()
        self._held.clear()
        self._leaving = self._broken = True
        self._out.abandon()
        return cut

    def receive(self, data: bytes) -> list[Event]:
        """What *data* says, in order; frames may be cut anywhere.

        :raises ChannelViolation: the peer broke the channel; it carries the events before that.
        """
        events: list[Event] = []
        if self._broken:
            return events
        if self._held:
            self._held += data
            if len(self._held) < self._wanted:
                return events
            data = bytes(self._held)
            self._held.clear()
        self._begun.clear()
        size = len(data)
        at = 0
        rules = self._rules
        try:
            while size - at >= _HEADER_BYTES:
                length, kind, flags, stream = _read_header(data, at)
                least, most, foreign, receive = rules[kind if kind < _KINDS else _KINDS]
                if not least <= length <= most:
                    raise ProtocolViolation(Code.PROTOCOL, "a frame of impossible length")
                if flags & foreign:
                    raise ProtocolViolation(Code.PROTOCOL, "unknown flags")
                start = at + _HEADER_BYTES
                end = start + length
                if end > size:
                    self._wanted = end - at
                    break
                receive(flags, stream, data[start:end], events)
                at = end
            else:
                self._wanted = _HEADER_BYTES
        except ProtocolViolation as violation:
            self._break(violation)
            raise ChannelViolation(violation.code, violation.text, events) from None
        if at < size:
            self._held += data[at:]
        if self._woken:
            self._woken = False
            events.extend(map(RoomOpened, self._out.waiting))
        return events

    def _receive_request(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if number <= self._last or flags & ~(END | UPGRADE):
            self._receive_later_head(flags, number, payload, events)
            return
        self._last = self.path.opened = number
        if self._leaving or len(self._streams) >= self.limits.max_streams or not self._openings.spend():
            self._refuse(number, Code.REFUSED, "stream refused")
            return
        try:
            head = decode_request(payload)
        except MalformedHead:
            self._spend_reset()
            self._refuse(number, Code.PROTOCOL, "malformed head")
            return
        if flags == END | UPGRADE:
            self._spend_reset()
            self._refuse(number, Code.PROTOCOL, "a pipe that has ended")
            return
        end, upgrade = flags == END, flags == UPGRADE
        self._streams[number] = Stream(number, _ASKED if end else _ASKING, upgrade)
        events.append(RequestOpened(number, head, end, upgrade))

    def _receive_answer(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        what = self._streams.get(number)
        if what is None or flags & TRAILERS:
            self._receive_later_head(flags, number, payload, events)
            return
        state = MOVES[what.state][_INTERIM if flags & INFORMATIONAL else _ANSWER]
        if state is None:
            self._offend(what, Code.PROTOCOL, "HEADERS twice", events)
            return
        try:
            head = decode_response(payload)
        except MalformedHead:
            self._offend(what, Code.PROTOCOL, "malformed head", events)
            return
        if not flags and head.status >= 200:  # most: a final answer whose body follows
            what.state = state
            self._begun[number] = answered = Answered(number, head, False, False, False)
            events.append(answered)
            return
        if not fits(head.status, flags, what.upgrade):
            self._offend(what, Code.PROTOCOL, "a status that does not fit", events)
            return
        # What fits now has one flag.
        end, interim, upgrade = flags == END, flags == INFORMATIONAL, flags == UPGRADE
        if interim:
            what.interim += 1
            if what.interim > self.limits.max_interim:
                self._offend(what, Code.LIMIT, "too many interim answers", events)
                return
        if end:
            state = MOVES[state][_DOWN_END]
        what.state = state  # type: ignore[assignment]
        what.piped = upgrade
        events.append(Answered(number, head, end, interim, upgrade))
        if state is _CLOSED:
            self._close(what)

    def _receive_later_head(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        """Trailers, or a head that has no place."""
        what = self._streams.get(number)
        if what is None:
            if self.side is Side.CONNECTOR and number <= self._last and not flags & TRAILERS:
                raise ProtocolViolation(Code.PROTOCOL, "a stream id that goes back")
            self._stray(number)
            return
        state = MOVES[what.state][self._their_end]
        if flags != END | TRAILERS:
            self._offend(what, Code.PROTOCOL, "HEADERS twice", events)
            return
        if state is None or what.piped:
            self._offend(what, Code.PROTOCOL, "trailers out of turn", events)
            return
        try:
            fields = decode_trailers(payload)
        except MalformedHead:
            self._offend(what, Code.PROTOCOL, "malformed trailers", events)
            return
        what.state = state
        events.append(Trailers(number, fields))
        if state is _CLOSED:
            self._close(what)

    def _receive_data(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        if size:
            self._channel_left -= size
            if self._channel_left < 0:
                raise ProtocolViolation(Code.FLOW, "DATA without credit of the channel")
            owed = self._channel_owed = self._channel_owed + size
            if owed >= CHANNEL_STEP:
                self._channel_left += owed
                self._channel_owed = 0
                self._out.put_first(frames.encode_window(0, owed))
        elif not flags:
            self._trifle()
        what = self._streams.get(number)
        if what is None:
            self._stray(number)
            return
        state = MOVES[what.state][self._their_end if flags else self._their_data]
        if state is None:
            self._offend(what, Code.PROTOCOL, "DATA out of turn", events)
            return
        begun = self._begun.pop(number, None)
        if size:
            window = what.window
            if window is None and flags and begun is not None:
                # All of a body in one frame behind its head: any window has room for that, and nobody asks for more.
                begun.data, begun.end = payload, True
                what.state = state
                if state is _CLOSED:
                    self._close(what)
                return
            self._budget.waiting += size
            if window is None and state is _CLOSED:
                # The same, but the head was told before.
                self._leftover[number] = size
            else:
                if window is None:
                    window = what.window = ReceiveWindow(self.path)
                if not window.receive(size, self._clock):
                    raise ProtocolViolation(Code.FLOW, "DATA without credit of its stream")
        elif not flags:
            return
        what.state = state
        events.append(Data(number, payload, flags == END))
        if state is _CLOSED:
            self._close(what)

    def _receive_window(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if not self._windows.spend():
            raise ProtocolViolation(Code.LIMIT, "a flood of WINDOW")
        (credit,) = U32.unpack(payload)
        if credit == 0:
            raise ProtocolViolation(Code.PROTOCOL, "WINDOW of nothing")
        out = self._out
        if number == 0:
            # Only what was sent can come back, so a peer cannot make us hold more than the channel window.
            if credit > CHANNEL_WINDOW - out.credit:
                raise ProtocolViolation(Code.FLOW, "more credit than the channel has")
            out.credit += credit
            self._woken = True
            return
        what = self._streams.get(number)
        if what is None:
            if number > self._last:
                raise ProtocolViolation(Code.PROTOCOL, "a stream that was never opened")
            return
        what.credit += credit
        if what.credit > MAX_CREDIT:
            self._offend(what, Code.FLOW, "credit beyond its limit", events)
        elif what.starved:
            what.starved = False
            if out.room(what):
                events.append(RoomOpened(number))

    def _receive_reset(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        self._spend_reset()
        if not 0 < number <= self._last:
            raise ProtocolViolation(Code.PROTOCOL, "a stream that was never opened")
        what = self._streams.get(number)
        if what is None:
            self._out.forget(number)
            return
        code, text = frames.decode_reset(payload)
        self._end(what)
        events.append(Reset(number, code, text))

    def _receive_ping(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        self._on_channel(number)
        opaque, age = payload[:PING_BYTES], payload[PING_BYTES:]
        if len(age) not in (0, 4 * flags):
            raise ProtocolViolation(Code.PROTOCOL, "a frame of impossible length")
        if flags != _ACK:
            self._trifle()
            mine = self.store_age_ms
            tail = b"" if mine is None else U32.pack(min(max(0, mine), 0xFFFFFFFF))
            self._force(frames.encode(_PING, _ACK, 0, opaque + tail))
            events.append(Ping(opaque))
        elif self._pings and opaque == self._pings[0]:
            self._pings.popleft()
            events.append(Pong(opaque, U32.unpack(age)[0] if age else None))
        elif opaque == NUDGE and self._out.nudged:
            self._out.nudged = False
            self._woken = self._out.credit > 0
        else:
            raise ProtocolViolation(Code.PROTOCOL, "an answer to a PING that was not sent")

    def _receive_goaway(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        self._on_channel(number)
        self._goaways += 1
        if self._goaways > self.limits.max_goaways:
            raise ProtocolViolation(Code.LIMIT, "a flood of GOAWAY")
        last, code, retry_after_ms, text = frames.decode_goaway(payload)
        if last > self._at_most:
            raise ProtocolViolation(Code.PROTOCOL, "GOAWAY takes back what it said")
        self._at_most = last
        events.append(GoingAway(last, code, retry_after_ms, text))
        if self.side is Side.RELAY:
            self._leaving = True
            for what in [what for what in self._streams.values() if what.id > last]:
                self._end(what)
                events.append(Reset(what.id, Code.REFUSED, "the connector went away before it began"))

    def _receive_control(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        self._on_channel(number)
        if not self._documents.spend():
            raise ProtocolViolation(Code.LIMIT, "a flood of CONTROL")
        events.append(Control(control.decode(payload, self.side)))

    def _receive_unknown(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        """A kind of some later version: dropped."""
        self._trifle()

    # Rules.

    def _on_channel(self, number: int) -> None:
        if number:
            raise ProtocolViolation(Code.PROTOCOL, "a frame of the channel on a stream")

    def _stray(self, number: int) -> None:
        """A frame for a stream that is not open is dropped if the peer cannot know that yet."""
        if number not in self._gone:
            ended = 0 < number <= self._last
            raise ProtocolViolation(
                Code.PROTOCOL, "a frame after the stream's end" if ended else "a stream that was never opened"
            )

    def _trifle(self) -> None:
        if not self._trifles.spend():
            raise ProtocolViolation(Code.LIMIT, "a flood of frames that say nothing")

    def _spend_reset(self) -> None:
        if not self._resets.spend():
            raise ProtocolViolation(Code.LIMIT, "a flood of RESET")

    def _force(self, frame: bytes) -> None:
        """Say what the peer makes us say, as long as it listens."""
        self._out.force(frame)
        if self._out.forced > self.limits.max_forced_bytes:
            raise ProtocolViolation(Code.LIMIT, "asks and does not listen")

    def _refuse(self, number: int, code: Code, text: str) -> None:
        """Connector: end a stream before anything of it was delivered."""
        self.offences[text] += 1
        self._remember(number)
        self._force(frames.encode_reset(number, code, text))

    def _offend(self, what: Stream, code: Code, text: str, events: list[Event]) -> None:
        """The peer broke a rule on one stream: that stream is over, for both."""
        self.offences[text] += 1
        self._spend_reset()
        self._remember(what.id)
        self._end(what)
        self._force(frames.encode_reset(what.id, code, text))
        events.append(Reset(what.id, code, text))

    def _remember(self, number: int) -> None:
        self._gone[number] = None
        if len(self._gone) > self.limits.max_remembered:
            del self._gone[next(iter(self._gone))]

    def _close(self, what: Stream) -> None:
        """Both halves have ended; what is queued still leaves, what was delivered is still to be consumed."""
        del self._streams[what.id]
        if self._out.waiting:
            self._out.waiting.pop(what.id, None)
        window = what.window
        if window is not None and window.held:
            self._leftover[what.id] = window.held

    def _end(self, what: Stream) -> None:
        """The stream was cut: nothing more leaves, and nobody has to consume what came."""
        del self._streams[what.id]
        what.state = _CLOSED
        self._out.drop(what)
        if what.window is not None:
            self._budget.waiting -= what.window.held

    def _break(self, violation: ProtocolViolation) -> None:
        """Nothing is understood from here on; only the reason is still said."""
        self.offences[violation.text] += 1
        self._cut = self.lost()
        self._leave(violation.code, violation.text, 0)

    def _leave(self, code: int, text: str, retry_after_ms: int) -> None:
        """Serve nothing after what is open now; said again, the last stream stays what it was."""
        if self._final is None:
            self._final = self._last
        self._out.put_first(frames.encode_goaway(self._final, code, retry_after_ms, text))
