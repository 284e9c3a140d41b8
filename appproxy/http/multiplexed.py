"""One client's connection, the serving half of HTTP/2: octets in, requests out; answers in, octets out.

The frames, their states and the compression of heads are the library's, ``h2``.  Ours is what a server facing the
internet adds: the counting of frames (:mod:`appproxy.http.intake`), strict heads (:mod:`appproxy.http.pseudo`), lengths
that must be right, credit that is given back when somebody took what it paid for, and answers that take turns.

A :class:`ServerStream` is one request and the pen for its answer, as :class:`~appproxy.http.serving.ServerConversation`
is for HTTP/1.1; but where that hands out octets to be written, this frames them itself: its methods return nothing to
write, and :meth:`MultiplexedConversation.output` has it all, so that the answers of a turn leave together.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from appproxy.http.bodies import BodyWriter, keep_allowed_trailers
from appproxy.http.intake import MAX_FRAME, BrokenConnection, Code, Intake
from appproxy.http.messages import Field, Limits, OutOfTurn
from appproxy.http.pseudo import HeadReader, lowered, response_fields
from appproxy.http.serving import BadRequest, RequestBegun
from appproxy.http.websocket import Handshake, NotSwitched

#: Requests that a client may have open at once.
MAX_STREAMS = 100
#: What a client may send ahead of its reader: of one request, as in the channel; of all requests of a connection.
STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 2 * 1024 * 1024
#: Whoever produces an answer is paused while more than this of it waits for the client ...
HIGH_WATER = 64 * 1024
#: ... and goes on when there is at most so much.
LOW_WATER = 16 * 1024
#: Octets of bodies that leave in one piece.
OUTPUT_SIZE = 64 * 1024
#: The memory that a client's decoder offers us for compression is used up to here: it costs us as much.
MAX_TABLE = 4096

_GOAWAY = struct.Struct("!HBBBLLL")
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


class _Writing(IntEnum):
    """Where the answer is."""

    UNBEGUN = 0
    BODY = 1
    ENDED = 2
    #: Both halves are octets of another protocol.
    SWITCHED = 3
    #: Our half of them has ended.
    CLOSED = 4


class _Connection(H2Connection):
    """The library's connection, with a memory for closed streams that a long connection does not fill."""

    MAX_CLOSED_STREAMS = 1000


class _KnownSettings(Settings):
    """A client's settings; those that nobody knows are not kept."""

    def __setitem__(self, key: SettingCodes | int, value: int) -> None:
        if key in _KNOWN:
            super().__setitem__(key, value)


_KNOWN = frozenset(int(each) for each in SettingCodes)


class MultiplexedConversation:
    """Both directions of one client connection.

    :param seconds: a monotonic clock.
    :param random: gives so many octets that nobody can guess.
    :ivar streams: requests that are not over yet.
    :ivar relieved: streams with room again for more of their answer; the caller takes them out.
    :ivar going_away: no more requests are taken.
    """

    __slots__ = (
        "_h2", "_intake", "_reader", "_ready", "_unsent", "going_away", "over", "queued", "relieved", "seconds",
        "streams",
    )  # fmt: skip

    def __init__(
        self, limits: Limits, seconds: Callable[[], float], random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.seconds = seconds
        self.streams: dict[int, ServerStream] = {}
        self.relieved: list[ServerStream] = []
        self.going_away = False
        #: Nothing more is read.
        self.over = False
        #: Streams with something to send and room for it, in turn.
        self._ready: deque[ServerStream] = deque()
        #: What waits to be written besides bodies.
        self._unsent = bytearray()
        #: Octets of bodies that wait for the client's windows.
        self.queued = 0
        # A head over the limit is answered; one over twice the limit is not even unpacked.
        self._intake = Intake(2 * limits.head, seconds)
        self._reader = HeadReader(limits, random)
        # Heads are checked here, by the rules of HTTP/1.1, and not once more by the library.
        self._h2 = connection = _Connection(
            H2Configuration(
                client_side=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        connection.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.head,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            },
        )
        connection.remote_settings = _KnownSettings(client=True)
        connection.decoder.max_header_list_size = 2 * limits.head
        connection.initiate_connection()
        connection.increment_flow_control_window(CONNECTION_WINDOW - 65535)

    # Reading

    @property
    def in_head(self) -> bool:
        """A head has begun and has not ended."""
        return self._intake.in_head

    @property
    def client_leaves(self) -> bool:
        """The client has said that it will ask no more."""
        return self._intake.went_away

    def receive(self, data: bytes) -> list[Event]:
        """Take what the client sent and tell what it means.

        :raises BrokenConnection: the client broke the protocol, or goes too far; what is left to send says so.
        """
        if self.over:
            return []
        try:
            happened = self._h2.receive_data(self._intake.take(data))
            return self._tell(happened)
        except BrokenConnection as broken:
            self._break_off(broken)
            raise
        except ProtocolError as error:
            # The library has queued its GOAWAY; its text may repeat what came.
            self._over()
            name = type(error).__name__
            raise BrokenConnection(int(error.error_code), f"HTTP/2 was broken ({name})") from None

    def _break_off(self, broken: BrokenConnection) -> None:
        self._h2.close_connection(broken.code, broken.text.encode("ascii"))
        self._over()

    def _over(self) -> None:
        self.over = self.going_away = True
        for stream in list(self.streams.values()):
            stream.forget()
        self._ready.clear()

    def _tell(self, happened: Sequence[Any]) -> list[Event]:
        events: list[Event] = []
        cancelled = {event.stream_id for event in happened if type(event) is StreamReset}
        for event in happened:
            kind = type(event)
            if kind is DataReceived:
                self._data(event, events)
            elif kind is RequestReceived:
                # What was cancelled before anybody looked at it costs nobody anything.
                if event.stream_id not in cancelled:
                    self._request(event, events)
            elif kind is StreamEnded:
                stream = self.streams.get(event.stream_id)
                if stream is not None and not stream.ended:
                    stream.end_came(events)
            elif kind is TrailersReceived:
                self._trailers(event, events)
            elif kind is WindowUpdated or kind is RemoteSettingsChanged:
                self._room_opened(event)
            elif kind is StreamReset:
                if not event.remote_reset:
                    self._intake.resets.spend()
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.forget()
                    events.append(Cancelled(stream))
        return events

    def _request(self, event: RequestReceived, events: list[Event]) -> None:
        identifier = event.stream_id
        if self.going_away:
            self._h2.reset_stream(identifier, Code.REFUSED_STREAM)
            return
        stream = self.streams[identifier] = ServerStream(self, identifier)
        ended = event.stream_ended is not None
        try:
            begun, stream.handshake = self._reader.request(event.headers, ended)
        except BadRequest as bad:
            stream.refuse(bad, events)
        else:
            stream.method, stream.expected = begun.head.method, begun.length
            events.append(Opened(stream, begun))
        if ended:
            stream.end_came(None)

    def _data(self, event: DataReceived, events: list[Event]) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None or stream.deaf:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            return
        data = event.data
        if padding := event.flow_controlled_length - len(data):
            self._h2.acknowledge_received_data(padding, event.stream_id)
        if data:
            stream.owed += len(data)
            stream.data_came(data, events)

    def _trailers(self, event: TrailersReceived, events: list[Event]) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None and not stream.deaf:
            try:
                stream.trailers = self._reader.trailers(event.headers)
            except BadRequest as bad:
                stream.refuse(bad, events)

    def _room_opened(self, event: Any) -> None:
        if type(event) is RemoteSettingsChanged:
            if self._h2.encoder.header_table_size > MAX_TABLE:
                self._h2.encoder.header_table_size = MAX_TABLE
        elif event.stream_id:
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                self.make_ready(stream)
            return
        for stream in self.streams.values():
            self.make_ready(stream)

    # Writing

    def go_away(self) -> None:
        """Say that no more requests are taken; those under way go on."""
        if not self.going_away:
            self.going_away = True
            # The library would take this for the end of everything.
            last = self._h2.highest_inbound_stream_id
            self._unsent += self._h2.data_to_send() + _GOAWAY.pack(0, 8, 7, 0, 0, last, Code.NO_ERROR)

    def break_off(self, code: Code, text: str) -> None:
        """End the connection because of the client; what is left to send says so."""
        if not self.over:
            self._break_off(BrokenConnection(code, text))

    def make_ready(self, stream: ServerStream) -> None:
        """*stream* may have something to send."""
        if not stream.in_turn and stream.sendable:
            stream.in_turn = True
            self._ready.append(stream)

    def output(self) -> bytes:
        """What to write next: all that is not a body, and about ``OUTPUT_SIZE`` of bodies, a frame of each in turn."""
        ready, left = self._ready, OUTPUT_SIZE
        while ready and left > 0:
            stream = ready.popleft()
            stream.in_turn = False
            left -= stream.take_turn()
        octets = self._h2.data_to_send()
        if self._unsent:
            octets = bytes(self._unsent) + octets
            self._unsent.clear()
        return octets

    @property
    def unsent(self) -> int:
        """Octets besides bodies that wait to be written: heads of answers, and answers to all kinds of frames."""
        self._unsent += self._h2.data_to_send()
        return len(self._unsent)

    def sent_data(self) -> None:
        """A stream sent a frame."""
        self._intake.sent_data()

    @property
    def h2(self) -> H2Connection:
        """The library's connection; for streams."""
        return self._h2


class ServerStream:
    """One request, and the pen for its answer; every method but the reading ones may be called when it is over.

    :ivar id: its number on the connection.
    :ivar queued: octets of the answer's body that wait for the client.
    :ivar moved: when some of them last left, or began to wait.
    :ivar closed: it is over.
    """

    __slots__ = (
        "_bodiless", "_conversation", "_head", "_held", "_queue", "_relieves", "_then", "_writer", "_writing", "closed",
        "deaf", "ended", "expected", "handshake", "id", "in_turn", "method", "moved", "owed", "queued", "trailers",
    )  # fmt: skip

    def __init__(self, conversation: MultiplexedConversation, identifier: int) -> None:
        self._conversation = conversation
        self.id = identifier
        self.method = b""
        self.handshake: Handshake | None = None
        #: Octets of the body that are still to come, where its length was said.
        self.expected: int | None = None
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
