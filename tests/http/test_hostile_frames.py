"""Every case of :mod:`tests.http.hostile_frames` ends with a code or a status, and nothing is kept of it."""

from __future__ import annotations

import struct

import pytest

from appproxy.http.intake import BrokenConnection
from appproxy.http.limits import Limits
from appproxy.http.multiplexed import MultiplexedConversation
from appproxy.http.server_stream import Opened, Refused
from tests.fakes.http2 import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GREETING,
    HEADERS,
    asked,
    frame,
    frames,
    packed,
)
from tests.http.hostile_frames import BROKEN, MALFORMED, NO_GREETING, Broken, Malformed

#: At once; by octets; cut somewhere in the middle.
STEPS = (1 << 30, 1, 7, 1021)
#: Cases of so many octets are not sent octet by octet.
SHORT = 10_000


def feed(conversation: MultiplexedConversation, octets: bytes, step: int) -> None:
    """Let *octets* arrive *step* at a time; whatever is opened is left alone."""
    for start in range(0, len(octets), step):
        conversation.receive(octets[start : start + step])


@pytest.mark.feature("HTTP-1")
@pytest.mark.parametrize("case", [*BROKEN, *NO_GREETING], ids=lambda case: case.name)
def test_connection_ends(case: Broken) -> None:
    """F01, F02, F03, F04, F05: GOAWAY with the code of the case, however the octets are cut; then nobody listens."""
    octets = case.octets if case in NO_GREETING else GREETING + case.octets
    for step in STEPS:
        if step < 1021 and len(octets) > SHORT:
            continue
        conversation = MultiplexedConversation(Limits(), lambda: 0.0)
        with pytest.raises(BrokenConnection) as broken:
            feed(conversation, octets, step)
        assert broken.value.code == case.code, (step, broken.value)
        assert broken.value.text.isascii()
        assert conversation.receive(GREETING) == []
        assert not conversation.streams
        [*_, (kind, _, _, payload)] = frames(conversation.output())
        assert (kind, payload[4:8]) == (GOAWAY, struct.pack("!I", case.code))


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_request_is_refused(case: Malformed) -> None:
    """F06: the request is refused with the status of the case; the connection and its other requests go on."""
    conversation = MultiplexedConversation(Limits(), lambda: 0.0)
    head, pieces = packed(case.fields), []
    for start in range(0, len(head), 16384):
        kind = HEADERS if not start else CONTINUATION
        last = END_HEADERS if start + 16384 >= len(head) else 0
        first = END_STREAM if not start else 0
        pieces.append(frame(kind, last | first, 1, head[start : start + 16384]))
    events = conversation.receive(GREETING + b"".join(pieces))
    if case.name == "an ambiguous path":  # told by whoever routes it
        assert type(events[0]) is Opened
        return
    [refused] = events
    assert type(refused) is Refused
    assert refused.bad.status == case.status, refused.bad
    refused.stream.whole(refused.bad.status, b"No", [])
    conversation.output()
    assert not conversation.streams
    [opened] = conversation.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, packed(asked())))
    assert type(opened) is Opened
