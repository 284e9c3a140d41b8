"""A client that speaks HTTP/2: the library's own, and frames by hand for what it would never send."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Encoder

from appproxy.http.intake import PREFACE
from appproxy.relay.front.http2 import MultiplexedFront
from tests.fakes.fronts import Bench, FakeSocket

Field = tuple[bytes, bytes]

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    """One frame; it lies about its *length* if asked to."""
    return struct.pack("!I", len(payload) if length is None else length)[1:] + bytes([kind, flags]) + struct.pack(
        "!I", stream
    ) + payload  # fmt: skip


def frames(octets: bytes) -> list[tuple[int, int, int, bytes]]:
    """All whole frames in *octets*: kind, flags, stream, payload."""
    found, at = [], 0
    while len(octets) - at >= 9:
        end = at + 9 + int.from_bytes(octets[at : at + 3], "big")
        found.append(
            (octets[at + 3], octets[at + 4], int.from_bytes(octets[at + 5 : at + 9], "big"), octets[at + 9 : end])
        )
        at = end
    return found


def packed(fields: Iterable[Field]) -> bytes:
    """*fields* as a head on a connection that has no memory."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(list(fields))


def asked(
    *more: Field, method: bytes = b"GET", path: bytes = b"/", host: bytes = b"hr.example.com", scheme: bytes = b"https"
) -> list[Field]:
    """The head of a good request, and *more*."""
    return [(b":method", method), (b":scheme", scheme), (b":authority", host), (b":path", path), *more]


#: What comes first of a client without wishes.
GREETING = PREFACE + frame(SETTINGS)


class Heard:
    """What a client got on one stream."""

    def __init__(self) -> None:
        self.interim: list[list[Field]] = []
        self.fields: list[Field] = []
        self.trailers: list[Field] | None = None
        self.data = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> bytes:
        """Of the final answer."""
        return dict(self.fields)[b":status"]


class Client:
    """Talks to whoever takes octets with *sends*; :meth:`hears` takes theirs."""

    def __init__(self, sends: Callable[[bytes], object], *, window: int = 65535) -> None:
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                # It may send what it should not; what it gets is checked.
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._sends = sends
        self.streams: dict[int, Heard] = defaultdict(Heard)
        self.goaway: tuple[int, int] | None = None
        self.settings: dict[int, int] = {}
        self.takes = True
        self.h2.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.initiate_connection()
        if window > 65535:
            self.h2.increment_flow_control_window(window - 65535)

    def flush(self) -> None:
        """Send what waits."""
        if data := self.h2.data_to_send():
            self._sends(data)

    def ask(self, *more: Field, end: bool = True, **head: bytes) -> int:
        """Ask for something; returns the stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, asked(*more, **head), end_stream=end)
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, end: bool = False) -> None:
        """Send some of a body, in frames, as far as the windows allow at once."""
        while True:
            piece, data = data[:16384], data[16384:]
            self.h2.send_data(stream, piece, end_stream=end and not data)
            if not data:
                break
        self.flush()

    def hears(self, data: bytes) -> None:
        """Octets of the relay."""
        for event in self.h2.receive_data(data):
            self._hear(event)
        self.flush()

    def _hear(self, event: Any) -> None:
        if isinstance(event, events.RemoteSettingsChanged):
            self.settings.update({code: each.new_value for code, each in event.changed_settings.items()})
        elif isinstance(event, events.ConnectionTerminated):
            self.goaway = (int(event.error_code or 0), event.last_stream_id or 0)
        elif isinstance(event, events.InformationalResponseReceived):
            self.streams[event.stream_id].interim.append(list(event.headers))
        elif isinstance(event, events.ResponseReceived):
            self.streams[event.stream_id].fields = list(event.headers)
        elif isinstance(event, events.TrailersReceived):
            self.streams[event.stream_id].trailers = list(event.headers)
        elif isinstance(event, events.DataReceived):
            self.streams[event.stream_id].data += event.data
            if self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            self.streams[event.stream_id].ended = True
        elif isinstance(event, events.StreamReset):
            self.streams[event.stream_id].reset = int(event.error_code)


#: Who is signed in at a bench, in crumbs.
ALICE = ((b"cookie", b"__Host-appproxy-session=handle"), (b"cookie", b"theme=dark"))


class Connection:
    """A client of a bench on a socket of its own."""

    def __init__(self, bench: Bench, window: int = 65535) -> None:
        self.bench = bench
        self.socket = FakeSocket()
        self.front = MultiplexedFront(bench.settings)
        self.socket.protocol = self.front
        self.front.makeConnection(self.socket)  # type: ignore[arg-type]
        self.client = Client(self.front.dataReceived, window=window)
        self.client.flush()
        self.settle()

    def settle(self) -> None:
        """Everything comes to rest."""
        for _ in range(100):
            self.bench.pair.run(300)
            if not (octets := self.socket.take()):
                return
            self.client.hears(octets)
        raise AssertionError("the connection does not come to rest")

    def ask(self, *more: tuple[bytes, bytes], end: bool = True, **head: bytes) -> int:
        """Alice asks for something; returns the stream."""
        number = self.client.ask(*ALICE, *more, end=end, **head)
        self.settle()
        return number

    def heard(self, number: int) -> Heard:
        """What came of it, after all has settled."""
        self.settle()
        return self.client.streams[number]
