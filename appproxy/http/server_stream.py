"""One request of an HTTP/2 client, and the pen for its answer.

The same pen as :class:`~appproxy.http.serving.ServerConversation` is for HTTP/1.1; but where that hands out octets to
be written, this frames them itself: its methods return nothing to write, and the conversation's *output* has it all, so
that the answers of a turn leave together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from appproxy.http.bodies import BodyWriter, keep_allowed_trailers
from appproxy.http.intake import MAX_FRAME, Code
from appproxy.http.messages import Field, OutOfTurn
from appproxy.http.pseudo import lowered, response_fields
from appproxy.http.refusal import BadRequest
from appproxy.http.serving import RequestBegun
from appproxy.http.websocket import Handshake, NotSwitched

if TYPE_CHECKING:
    from h2.connection import H2Connection

#: Whoever produces an answer is paused while more than this of it waits for the client ...
HIGH_WATER = 64 * 1024
#: ... and goes on when there is at most so much.
LOW_WATER = 16 * 1024

#: Stands in until an answer with a body begins.
_NO_BODY = BodyWriter(0, False)


class Opened(msgspec.Struct):
    """A request has come."""

    stream: ServerStream
    begun: RequestBegun


class Refused(msgspec.Struct):
    """What came of a request is not one, or not what its head said; the stream is to be answered and over."""

    stream: ServerStream
    bad: BadRequest


class Came(msgspec.Struct):
    """Some of a request's body, or of the octets after a switch; *consumed* gives their credit back."""

    stream: ServerStream
    data: bytes


class Ended(msgspec.Struct):
    """The client's half is complete."""

    stream: ServerStream
    trailers: Sequence[Field] = ()


class Cancelled(msgspec.Struct):
    """The stream is over before its time; nothing more can be written on it."""

    stream: ServerStream


Event = Opened | Refused | Came | Ended | Cancelled


class Conversation(Protocol):
    """What a stream needs of the conversation that it is in."""

    streams: dict[int, ServerStream]
    relieved: list[ServerStream]
    queued: int
    over: bool

    @property
    def h2(self) -> H2Connection:
        """The library's connection."""

    @property
    def seconds(self) -> Callable[[], float]:
        """A monotonic clock."""

    def make_ready(self, stream: ServerStream) -> None:
        """*stream* may have something to send."""

    def sent_data(self) -> None:
        """A stream sent a frame."""


class _Writing(IntEnum):
    """Where the answer is."""

    UNBEGUN = 0
    BODY = 1
    ENDED = 2
    #: Both halves are octets of another protocol.
    SWITCHED = 3
    #: Our half of them has ended.
    CLOSED = 4


class ServerStream:
    """One request, and the pen for its answer; every method but the reading ones may be called when it is over.

    :ivar id: its number on the connection.
    :ivar queued: octets of the answer's body that wait for the client.
    :ivar moved: when some of them last left, or began to wait.
    :ivar closed: it is over.
    """

    __slots__ = (
        "_bodiless", "_conversation", "_head", "_held", "_queue", "_relieves", "_then", "_writer", "_writing", "closed",
        "deaf", "ended", "expected", "expecting", "handshake", "id", "in_turn", "method", "moved", "owed", "queued",
        "trailers",
    )  # fmt: skip

    def __init__(self, conversation: Conversation, identifier: int) -> None:
        self._conversation = conversation
        self.id = identifier
        self.method = b""
        self.handshake: Handshake | None = None
        #: Octets of the body that are still to come, where its length was said.
        self.expected: int | None = None
        #: The client waits to be told to send the body.
        self.expecting = False
        self.trailers: list[Field] = []
        #: The client's half has ended.
        self.ended = False
        #: It was refused: nothing more is told of it.
        self.deaf = False
        #: Octets that came and were not consumed.
        self.owed = 0
        self.in_turn = False
        self.queued = 0
        self.moved = 0.0
        self.closed = False
        #: What came for a WebSocket that is not open yet; bounded by the window.
        self._held: list[bytes] = []
        self._queue: deque[bytes | memoryview] = deque()
        #: The end that waits behind the queue.
        self._then: Sequence[Field] | None = None
        self._relieves = False
        self._writing = _Writing.UNBEGUN
        self._writer = _NO_BODY
        self._bodiless = False
        self._head: list[Field] | None = None

    def __repr__(self) -> str:
        return f"<ServerStream {self.id} {self._writing.name}{' closed' if self.closed else ''}>"

    # Reading

    @property
    def _holding(self) -> bool:
        """What comes is for a WebSocket that is not open yet."""
        return self.handshake is not None and self._writing < _Writing.SWITCHED

    def data_came(self, data: bytes, events: list[Event]) -> None:
        """Some of the client's half."""
        self.expecting = False
        if self._holding:
            self._held.append(data)
            return
        if self.expected is not None:
            self.expected -= len(data)
            if self.expected < 0:
                self.refuse(BadRequest(400, "a body longer than its length"), events)
                return
        last = events[-1] if events else None
        if type(last) is Came and last.stream is self:
            last.data += data
        else:
            events.append(Came(self, data))

    def end_came(self, events: list[Event] | None) -> None:
        """The end of the client's half; *events* is None when its beginning has told that."""
        self.ended = True
        if events is None or self.deaf or self._holding:
            return
        if self.expected:
            self.refuse(BadRequest(400, "a body shorter than its length"), events)
            return
        events.append(Ended(self, self.trailers))
        if self._writing is _Writing.CLOSED:
            self.forget()

    def refuse(self, bad: BadRequest, events: list[Event]) -> None:
        """The client sent nonsense, or did not keep its word; nothing more is told of the stream."""
        self.deaf = True
        events.append(Refused(self, bad))

    def consumed(self, count: int) -> None:
        """Somebody took *count* octets: the client may send as many more."""
        if count and not self.closed:
            self.owed -= count
            self._conversation.h2.acknowledge_received_data(count, self.id)

    def upgraded(self) -> tuple[list[bytes], bool]:
        """After a 101: what the client has sent already, and whether that was all."""
        held, self._held = self._held, []
        return held, self.ended

    # Writing: the same as ServerConversation's

    def informational(self, status: int, reason: bytes, fields: Sequence[Field] = ()) -> bytes:
        """An interim answer (1xx but 101)."""
        if not 100 <= status <= 199 or status == 101 or self._writing is not _Writing.UNBEGUN:
            raise OutOfTurn("no interim answer here")
        if status == 100:
            self.expecting = False
        if not self.closed:
            self._conversation.h2.send_headers(self.id, response_fields(status, fields))
        return b""

    def begin(self, status: int, reason: bytes, fields: Sequence[Field] = (), length: int | None = None) -> bytes:
        """Begin the final answer, or switch; see :meth:`ServerConversation.begin`.

        :raises NotSwitched: a WebSocket was asked for, and this would make the client believe that it is open.
        """
        if self._writing is not _Writing.UNBEGUN:
            raise OutOfTurn("answer already begun")
        handshake = self.handshake
        if status == 101:
            if handshake is None:
                raise OutOfTurn("no other protocol was offered")
            self._head = response_fields(200, handshake.opened(fields))
            self._writing = _Writing.SWITCHED
            return b""
        if handshake is not None and status < 300:
            raise NotSwitched("answered with success, but not switched")
        self._bodiless = status in (204, 304) or self.method == b"HEAD"
        self._head = response_fields(status, fields, None if status == 204 else length)
        self._writing = _Writing.BODY
        self._writer = BodyWriter(0 if self._bodiless else length, False)
        return b""

    def body(self, data: bytes) -> bytes:
        """Some of the answer's body.

        :raises LengthMismatch: more than announced.
        """
        if self._writing is not _Writing.BODY:
            raise OutOfTurn("no answer begun")
        if not self._bodiless and data:
            self._enqueue(self._writer.body(data))
        return b""

    def end(self, trailers: Sequence[Field] = ()) -> bytes:
        """The end of the answer.

        :raises LengthMismatch: less than announced.
        """
        if self._writing is not _Writing.BODY:
            raise OutOfTurn("no answer begun")
        self._writer.end()
        self._writing = _Writing.ENDED
        self._finish(lowered(keep_allowed_trailers(trailers)) if trailers else ())
        return b""

    def whole(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes = b"") -> bytes:
        """A complete final answer; for HEAD, with the length but without the body."""
        self.begin(status, reason, fields, len(body))
        self._writing = _Writing.ENDED
        if body and not self._bodiless:
            self._enqueue(body)
        self._finish(())
        return b""

    def write(self, data: bytes) -> None:
        """Let what was begun go; *data* is of the other protocol, after a switch."""
        if data and self._writing is _Writing.SWITCHED:
            self._enqueue(data)
        if self._head is not None and not self._queue:
            self._send_head(False)

    def finish(self) -> None:
        """End our half after a switch."""
        if self._writing is _Writing.SWITCHED and self._then is None:
            self._finish(())

    def reset(self, code: Code) -> None:
        """End both halves at once."""
        if not self.closed:
            self._conversation.h2.reset_stream(self.id, code)
            self.forget()

    @property
    def sendable(self) -> bool:
        """There is something of the body, or its end, to send."""
        return not self.closed and (bool(self._queue) or self._then is not None)

    @property
    def begun(self) -> bool:
        """The answer has begun, or is written already."""
        return self._writing is not _Writing.UNBEGUN

    def must_wait(self) -> bool:
        """Whether whoever produces more must stop; *relieved* tells when to go on."""
        if self.queued > HIGH_WATER:
            self._relieves = True
        return self._relieves

    def _enqueue(self, data: bytes) -> None:
        if self.closed:
            return
        if not self._queue:
            self.moved = self._conversation.seconds()
        self._queue.append(data)
        self._count(len(data))
        self._conversation.make_ready(self)

    def _count(self, queued: int) -> None:
        self.queued += queued
        self._conversation.queued += queued

    def _finish(self, trailers: Sequence[Field]) -> None:
        if self.closed:
            return
        self._then = trailers
        if not self._queue:
            self._send_end()
        else:
            self._conversation.make_ready(self)

    def _send_head(self, end: bool) -> None:
        head, self._head = self._head, None
        if not self.closed and head is not None:
            self._conversation.h2.send_headers(self.id, head, end_stream=end)

    def take_turn(self) -> int:
        """Send one frame, if the client has room for it; returns its size."""
        if self.closed:
            return 0
        if self._head is not None:
            self._send_head(False)
        conversation = self._conversation
        room = min(conversation.h2.local_flow_control_window(self.id), MAX_FRAME) if self._queue else 0
        if room > 0:
            data = self._take(room)
            last = not self._queue and self._then is not None and not self._then
            conversation.h2.send_data(self.id, data, end_stream=last)
            conversation.sent_data()
            self._count(-len(data))
            self.moved = conversation.seconds()
            if self._relieves and self.queued <= LOW_WATER:
                self._relieves = False
                conversation.relieved.append(self)
            if last:
                self._ended()
            elif self._queue or self._then is not None:
                conversation.make_ready(self)
            return len(data)
        if not self._queue and self._then is not None:
            self._send_end()
        return 0

    def _take(self, room: int) -> bytes:
        """Take at most *room* octets out of the queue; small pieces are joined."""
        queue = self._queue
        pieces: list[bytes | memoryview] = []
        while queue and room:
            piece = queue.popleft()
            if len(piece) > room:
                view = memoryview(piece)
                queue.appendleft(view[room:])
                piece = view[:room]
            pieces.append(piece)
            room -= len(piece)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def _send_end(self) -> None:
        connection, trailers = self._conversation.h2, self._then
        if self._head is not None:
            self._send_head(not trailers)
            if not trailers:
                self._ended()
                return
        if trailers:
            connection.send_headers(self.id, trailers, end_stream=True)
        else:
            connection.end_stream(self.id)
        self._ended()

    def _ended(self) -> None:
        """Our half is complete."""
        self._then = None
        if not self.ended:
            if self._writing is _Writing.SWITCHED:
                self._writing = _Writing.CLOSED
                return
            # The answer is whole; the rest of the request is of no interest (RFC 9113, 8.1).
            self._conversation.h2.reset_stream(self.id, Code.NO_ERROR)
        self.forget()

    def forget(self) -> None:
        """It is over: nothing more is written, nothing more told."""
        if self.closed:
            return
        self.closed = True
        self._queue.clear()
        self._held.clear()
        self._count(-self.queued)
        self._then = self._head = None
        self._relieves = False
        conversation = self._conversation
        conversation.streams.pop(self.id, None)
        if self.owed and not conversation.over:
            owed, self.owed = self.owed, 0
            conversation.h2.acknowledge_received_data(owed, self.id)
