"""One end of a channel: bytes in, events out; calls in, bytes out.

The relay opens streams and the connector answers them; everything else is the same for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from appproxy.errors import Side
from appproxy.wire import control, frames
from appproxy.wire.frames import HEADER, MAX_DATA, PING_BYTES, Code
from appproxy.wire.heads import Field, RequestHead, ResponseHead, encode_request, encode_response, encode_trailers
from appproxy.wire.limits import Limits
from appproxy.wire.misuse import (
    CannotOpen,
    ChannelViolation,
    Leaving,
    Misuse,
    NoRoom,
    StreamsExhausted,
    TooManyStreams,
)
from appproxy.wire.receiving import END, INFORMATIONAL, TRAILERS, UPGRADE, Receiving, fits
from appproxy.wire.streams import MOVES, WHOLE, Input, State, Stream
from appproxy.wire.windows import Budget
from appproxy.wire.writing import NUDGE

__all__ = [
    "Budget",
    "CannotOpen",
    "ChannelViolation",
    "Connection",
    "Leaving",
    "Limits",
    "Misuse",
    "NoRoom",
    "StreamsExhausted",
    "TooManyStreams",
]

_HEADERS: Final = 1
_PING: Final = 5
_RELAY: Final = Side.RELAY
_CONNECTOR: Final = Side.CONNECTOR
_ASKING: Final = State.ASKING
_ASKED: Final = State.ASKED
_CLOSED: Final = State.CLOSED
_INTERIM: Final = Input.INTERIM
_ANSWER: Final = Input.ANSWER
_DOWN_END: Final = Input.DOWN_END


class Connection(Receiving):
    """One end of a channel.

    What is said on a stream that is over is dropped, as the peer may have ended it a moment ago.

    :param side: ``Side.RELAY`` or ``Side.CONNECTOR``.
    :param budget: what waits for slow consumers in the whole process.
    :param clock: seconds, for the rates in *limits*.
    :ivar store_age_ms: relay: set it to have PING answers carry it.
    :ivar offences: how often the peer broke which rule.
    """

    __slots__ = ()

    def __init__(
        self,
        side: Side,
        limits: Limits = Limits(),  # noqa: B008 (immutable)
        budget: Budget | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(side, limits, Budget() if budget is None else budget, clock)

    def __repr__(self) -> str:
        state = "broken" if self._broken else "leaving" if self._leaving else "up"
        return f"<Connection {self.side} {state}, {len(self._streams)} streams, last {self._last}>"

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def pending(self) -> bool:
        """True when :meth:`output` would return something."""
        return self._out.pending

    def output(self, limit: int = frames.MESSAGE_BYTES) -> bytes:
        """The next message for the peer, of about *limit* bytes; empty when there is nothing to say."""
        return self._out.take(limit)

    def is_closed(self, stream: int) -> bool:
        """True once both halves have ended, or the stream was cut."""
        return stream not in self._streams

    def open(self, head: RequestHead, end: bool = False, upgrade: bool = False) -> int:
        """Relay: begin a request; with *end* it has no body, with *upgrade* it asks to become a byte pipe.

        :returns: the id of its stream.
        :raises CannotOpen: not in this channel, or not now.
        :raises HeadTooLarge: not in any channel.
        :raises Misuse: we are the connector, or the request would end and be upgraded.
        """
        if self.side is not _RELAY or (end and upgrade):
            raise Misuse("a connector opens no streams, and no pipe begins with its end")
        if self._leaving:
            raise Leaving
        most = self.limits.max_streams - len(self._streams)
        if most <= 0 or most <= self._out.lingering(most):
            raise TooManyStreams
        number = self._last + 1
        if number > self.limits.last_stream:
            self.goaway(Code.NONE, "the stream ids are used up")
            raise StreamsExhausted
        payload = encode_request(head)
        flags = END if end else UPGRADE if upgrade else 0
        self._out.put_first(HEADER.pack(len(payload), _HEADERS, flags, number) + payload)
        self._last = self.path.opened = number
        self._streams[number] = Stream(number, _ASKED if end else _ASKING, upgrade)
        return number

    def answer(
        self,
        stream: int,
        head: ResponseHead,
        end: bool = False,
        informational: bool = False,
        upgrade: bool = False,
    ) -> None:
        """Connector: begin the answer, or with *informational* send an interim one ahead of it.

        :param upgrade: the status is 101 and both halves are bytes from now on.
        :raises HeadTooLarge: no channel would carry the head; nothing was sent.
        :raises Misuse: not in this state, or the status does not fit.
        """
        what = self._streams.get(stream)
        if what is None:
            return
        flags = (END * end) | (INFORMATIONAL * informational) | (UPGRADE * upgrade)
        if self.side is not _CONNECTOR or not fits(head.status, flags, what.upgrade):
            raise Misuse(f"status {head.status} with flags {flags} from the {self.side}")
        state = _move(what, _INTERIM if informational else _ANSWER)
        if end:
            state = MOVES[state][_DOWN_END]  # type: ignore[assignment]
        payload = encode_response(head)
        self._out.put_first(HEADER.pack(len(payload), _HEADERS, flags, stream) + payload)
        what.state = state
        what.piped = upgrade
        if state is _CLOSED:
            self._close(what)

    def answer_whole(self, stream: int, head: ResponseHead, data: bytes) -> bool:
        """Connector: the final answer's head and all of its body, as :meth:`answer` and :meth:`send` would.

        :returns: whether it was sent: it is not while there is too little room, or when it takes several frames.
        :raises HeadTooLarge: no channel would carry the head; nothing was sent.
        :raises Misuse: as :meth:`answer`.
        """
        what = self._streams.get(stream)
        if what is None:
            return True
        size, out = len(data), self._out
        if size > MAX_DATA or size > what.credit or size > out.credit or out.waiting or not size:
            return False
        state = WHOLE[what.state]
        if state is None or self.side is not _CONNECTOR or not 200 <= head.status <= 999:
            raise Misuse(f"status {head.status} from the {self.side} on a stream that is {what.state.name}")
        payload = encode_response(head)
        out.send_whole(what, HEADER.pack(len(payload), _HEADERS, 0, stream) + payload, data)
        what.state = state
        if state is _CLOSED:
            self._close(what)
        return True

    def send(self, stream: int, data: bytes, end: bool = False) -> None:
        """Send bytes of a body or of a pipe; with *end* they are the last of our half.

        :raises NoRoom: *data* is longer than :meth:`room`.
        :raises Misuse: our half has ended, or the answer has not begun.
        """
        what = self._streams.get(stream)
        if what is None:
            return
        state = _move(what, self._our_end if end else self._our_data)
        size = len(data)
        out = self._out
        if size:
            if size > what.credit or size > out.credit:
                raise NoRoom(f"{size} bytes on stream {stream}")
        elif not end:
            return
        what.state = state
        out.send(what, data, end)
        if state is _CLOSED:
            self._close(what)

    def finish(self, stream: int, trailers: list[Field] | None = None) -> None:
        """End our half, perhaps with trailers.

        :raises HeadTooLarge: no channel would carry the trailers; nothing was sent.
        :raises Misuse: as :meth:`send`; a pipe has no trailers.
        """
        if not trailers:
            self.send(stream, b"", end=True)
            return
        what = self._streams.get(stream)
        if what is None:
            return
        state = _move(what, self._our_end)
        if what.piped:
            raise Misuse("a pipe has no trailers")
        payload = encode_trailers(trailers)
        what.state = state
        self._out.put(what, HEADER.pack(len(payload), _HEADERS, END | TRAILERS, stream), payload)
        if state is _CLOSED:
            self._close(what)

    def reset(self, stream: int, code: int, text: str = "") -> None:
        """End a stream in both directions; what it had queued is not sent.  A stream that is over stays so."""
        what = self._streams.get(stream)
        if what is not None:
            self._out.put_first(frames.encode_reset(stream, code, text))
            self._remember(stream)
            self._end(what)

    def room(self, stream: int) -> int:
        """How many bytes :meth:`send` takes now; after a 0 a RoomOpened will come, unless the stream ends."""
        what = self._streams.get(stream)
        return 0 if what is None else self._out.room(what)

    def consumed(self, stream: int, count: int) -> bool:
        """Whoever got Data took *count* bytes of it for good.  Of a stream that was reset, nothing needs to be said.

        :returns: whether credit waits to be written because of it.
        :raises ValueError: more than had come.
        """
        budget = self._budget
        what = self._streams.get(stream)
        if what is None:
            left = self._leftover.get(stream)
            if left is None:
                return False
            if not 0 <= count <= left:
                raise ValueError(f"{count} bytes consumed of {left}")
            budget.waiting -= count
            if left == count:
                del self._leftover[stream]
            else:
                self._leftover[stream] = left - count
        elif what.window is not None:
            credit = what.window.consume(count, budget.waiting > budget.limit, self._clock)
            budget.waiting -= count
            if credit and what.state in self._receivable:
                self._out.put_first(frames.encode_window(stream, credit))
                return True
        elif count:
            raise ValueError(f"{count} bytes consumed of 0")
        return False

    def ping(self, opaque: bytes) -> None:
        """Ask whether the peer lives; a Pong with the same eight bytes answers.  :raises Misuse: not eight bytes."""
        if len(opaque) != PING_BYTES or opaque == NUDGE:
            raise Misuse(f"PING of {opaque!r}")
        self._pings.append(opaque)
        self._out.put_first(frames.encode(_PING, 0, 0, opaque))

    def goaway(self, code: int = Code.NONE, text: str = "", retry_after_ms: int = 0) -> None:
        """Take no new streams from now on; those in flight go on."""
        self._leaving = True
        self._leave(code, text, retry_after_ms)

    def control(self, document: control.Document | dict[str, Any]) -> None:
        """Send a document; :raises DocumentTooLarge: no channel would carry it."""
        self._out.put_first(frames.encode(0, 0, 0, control.encode(document)))


def _move(what: Stream, happened: Input) -> State:
    """Where our own doing would lead; nothing is changed."""
    state = MOVES[what.state][happened]
    if state is None:
        raise Misuse(f"{happened.name} on a stream that is {what.state.name}")
    return state
