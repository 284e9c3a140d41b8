"""Two ends of a channel without anything between them, and short words for tests."""

from __future__ import annotations

from typing import Any

import pytest

from appproxy.errors import Side
from appproxy.wire import frames
from appproxy.wire.connection import Budget, ChannelViolation, Connection, Limits
from appproxy.wire.events import Event
from appproxy.wire.frames import HEADER
from appproxy.wire.heads import RequestHead, ResponseHead, Standing, encode_request, encode_response, encode_trailers

HEAD = RequestHead.of(b"GET", b"/", Standing([(b"Host", b"app.example.com")], "app"))
OK = ResponseHead(200, b"OK", [(b"Content-Type", b"text/plain")])
CONTINUE = ResponseHead(100, b"Continue")
SWITCHING = ResponseHead(101, b"Switching Protocols")

CONTROL, HEADERS, DATA, WINDOW, RESET, PING, GOAWAY = range(7)
END, INFORMATIONAL, TRAILERS, UPGRADE = 1, 2, 4, 8

ASK = encode_request(HEAD)
ANSWER = encode_response(OK)
LAST = encode_trailers([(b"Digest", b"x")])


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def end(side: Side, budget: Budget | None = None, clock: Clock | None = None, **limits: Any) -> Connection:
    """One end whose clock stands still unless the test has one."""
    return Connection(side, Limits(**limits), budget, clock=clock or Clock())


def ends(budget: Budget | None = None, **limits: Any) -> tuple[Connection, Connection]:
    """A relay's and a connector's end."""
    return end(Side.RELAY, budget, **limits), end(Side.CONNECTOR, budget, **limits)


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Any frame, good or bad."""
    return HEADER.pack(len(payload), kind, flags, stream) + payload


def window(stream: int, credit: int) -> bytes:
    """A WINDOW frame."""
    return frames.encode_window(stream, credit)


def drain(connection: Connection) -> bytes:
    """All that *connection* has to say."""
    parts = []
    while message := connection.output():
        parts.append(message)
    return b"".join(parts)


def carry(source: Connection, target: Connection) -> list[Event]:
    """Bring everything from one end to the other."""
    return target.receive(drain(source))


def split(octets: bytes) -> list[tuple[int, int, int, bytes]]:
    """The frames in *octets*: (kind, flags, stream, payload)."""
    found = []
    at = 0
    while at < len(octets):
        length, kind, flags, stream = HEADER.unpack_from(octets, at)
        at += HEADER.size
        found.append((kind, flags, stream, octets[at : at + length]))
        at += length
    assert at == len(octets)
    return found


def said(connection: Connection) -> list[tuple[int, int, int, bytes]]:
    """The frames that *connection* has to say."""
    return split(drain(connection))


def broken(connection: Connection, octets: bytes) -> ChannelViolation:
    """Feed what must end the channel; checks that the peer is told why and that nothing works afterwards."""
    with pytest.raises(ChannelViolation) as caught:
        connection.receive(octets)
    violation = caught.value
    (last,) = [payload for kind, _, _, payload in said(connection) if kind == GOAWAY]
    _, code, _, text = frames.decode_goaway(last)
    assert (code, text) == (violation.code, violation.text)
    assert connection.offences[violation.text] == 1
    assert connection.streams == 0
    assert connection.receive(frame(PING, 0, b"12345678")) == []
    return violation
