"""One client's connection, the serving half of HTTP/2: octets in, requests out; answers in, octets out.

The frames, their states and the compression of heads are the library's, ``h2``.  Ours is what a server facing the
internet adds: the counting of frames (:mod:`appproxy.http.intake`), strict heads (:mod:`appproxy.http.pseudo`), lengths
that must be right, credit that is given back when somebody took what it paid for, and answers that take turns.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

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

from appproxy.http.intake import BrokenConnection, Code, Intake
from appproxy.http.limits import Limits
from appproxy.http.pseudo import HeadReader
from appproxy.http.refusal import BadRequest
from appproxy.http.server_stream import Cancelled, Event, Opened, ServerStream

#: Requests that a client may have open at once.
MAX_STREAMS = 100
#: What a client may send ahead of its reader: of one request, as in the channel; of all requests of a connection.
STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 2 * 1024 * 1024
#: Octets of bodies that leave in one piece.
OUTPUT_SIZE = 64 * 1024
#: The memory that a client's decoder offers us for compression is used up to here: it costs us as much.
MAX_TABLE = 4096

_GOAWAY = struct.Struct("!HBBBLLL")


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
            stream.method, stream.expected, stream.expecting = begun.head.method, begun.length, begun.expect_continue
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
