"""The conversation with an HTTP/2 client: requests, credit, turns, goodbyes, any octets."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.intake import BrokenConnection, Code
from appproxy.http.limits import Limits
from appproxy.http.multiplexed import CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW, MultiplexedConversation
from appproxy.http.server_stream import Came, Cancelled, Ended, Opened, Refused
from tests.fakes.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GREETING,
    HEADERS,
    PADDED,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Client,
    asked,
    frame,
    frames,
    packed,
)


class Talk:
    """A client and the conversation with it."""

    def __init__(self, **client: Any) -> None:
        self.conversation = MultiplexedConversation(Limits(), lambda: 0.0, lambda count: b"r" * count)
        self.events: list[Any] = []
        self.client = Client(lambda data: self.events.extend(self.conversation.receive(data)), **client)
        self.settle()

    def settle(self) -> None:
        """Let both hear all that the other has to say."""
        self.client.flush()
        while octets := self.conversation.output():
            self.client.hears(octets)

    def asks(self, *more: tuple[bytes, bytes], end: bool = True, **head: bytes) -> Any:
        """The stream of one more request."""
        self.client.ask(*more, end=end, **head)
        self.settle()
        opened = self.events.pop()
        assert type(opened) is Opened, opened
        return opened.stream


class RequestTests(SynchronousTestCase):
    """What clients send."""

    def setUp(self) -> None:
        self.talk = Talk()

    @pytest.mark.feature("HTTP-1")
    def test_settings(self) -> None:
        """Clients are told the limits, and that WebSockets are possible."""
        self.assertEqual(
            (self.talk.client.settings[3], self.talk.client.settings[4], self.talk.client.settings[6]),
            (MAX_STREAMS, STREAM_WINDOW, Limits().head),
        )
        self.assertEqual(self.talk.client.settings[8], 1)
        self.assertEqual(self.talk.client.h2.outbound_flow_control_window, CONNECTION_WINDOW)

    def test_body_and_trailers(self) -> None:
        """Pieces that came together are told together; then the end, with its trailers."""
        stream = self.talk.asks(end=False, method=b"POST")
        client = self.talk.client
        for _ in range(3):
            client.h2.send_data(1, b"abc")
        client.h2.send_headers(1, [(b"x-sum", b"1")], end_stream=True)
        self.talk.settle()
        came, ended = self.talk.events
        self.assertEqual((type(came), came.stream, came.data), (Came, stream, b"abcabcabc"))
        self.assertEqual((type(ended), ended.trailers), (Ended, [(b"x-sum", b"1")]))

    def test_credit_is_given_back_when_it_is_consumed(self) -> None:
        """C07, F04: a client may send one window ahead of whoever takes its body, and no octet more."""
        stream = self.talk.asks(end=False, method=b"POST")
        self.talk.client.send(1, b"x" * STREAM_WINDOW)
        self.talk.settle()
        self.assertEqual(self.talk.client.h2.local_flow_control_window(1), 0)
        stream.consumed(STREAM_WINDOW)
        self.talk.settle()
        self.assertEqual(self.talk.client.h2.local_flow_control_window(1), STREAM_WINDOW)

    def test_padding_costs_its_sender_nothing_later(self) -> None:
        """Padding is consumed at once."""
        stream = self.talk.asks(end=False, method=b"POST")
        for _ in range(2 * STREAM_WINDOW // 300):
            self.talk.client.h2.send_data(1, b"x" * 100, pad_length=199)
            self.talk.settle()
            stream.consumed(100)
        self.assertLess(stream.owed, 1)

    def test_window_of_the_connection_outlives_streams(self) -> None:
        """What came for requests that are over is not taken from those that follow."""
        for number in range(40):
            stream = self.talk.asks(end=False, method=b"POST")
            self.talk.client.send(stream.id, b"x" * 200_000)
            if number % 2:
                stream.reset(Code.CANCEL)
            else:
                stream.whole(200, b"", [])
            self.talk.settle()
        self.assertGreater(self.talk.client.h2.outbound_flow_control_window, CONNECTION_WINDOW // 2)

    def test_lengths_that_are_wrong(self) -> None:
        """F06: a body that is not as long as its head said is refused, in every way that it can end."""
        for length, body, trailers in ((b"5", b"abc", False), (b"5", b"abc", True), (b"5", b"", True)):
            talk = Talk()
            stream = talk.asks((b"content-length", length), end=False, method=b"POST")
            octets = frame(DATA, 0 if trailers else END_STREAM, 1, body) if body else b""
            if trailers:
                octets += frame(HEADERS, END_HEADERS | END_STREAM, 1, packed([(b"x", b"y")]))
            try:
                events = talk.conversation.receive(octets)
            except BrokenConnection as broken:  # by the library, where it looks
                self.assertEqual(broken.code, Code.PROTOCOL_ERROR)
                continue
            refused = events[-1]
            self.assertEqual((type(refused), refused.stream, refused.bad.status), (Refused, stream, 400))

    def test_malformed_trailers(self) -> None:
        """F06: trailers are as strict as heads; what still comes of the request is dropped."""
        stream = self.talk.asks(end=False, method=b"POST")
        self.talk.client.h2.send_headers(1, [(b"x-sum", b"a\nb")], end_stream=True)
        self.talk.settle()
        [refused] = self.talk.events
        self.assertEqual((type(refused), refused.stream, refused.bad.status), (Refused, stream, 400))

    def test_what_comes_after_a_refusal(self) -> None:
        """The rest of a refused request is dropped, and its credit given back."""
        self.talk.client.ask((b"X", b"y"), end=False, method=b"POST")
        [refused] = self.talk.events
        self.assertEqual(type(refused), Refused)
        for _ in range(40):
            self.talk.client.send(1, b"x" * 100_000)
            self.talk.settle()
        self.assertEqual(self.talk.events, [refused])
        self.assertGreater(self.talk.client.h2.outbound_flow_control_window, CONNECTION_WINDOW // 2)
        refused.stream.whole(400, b"", [])
        self.talk.settle()
        self.assertEqual(self.talk.client.streams[1].status, b"400")

    def test_cancelled_requests(self) -> None:
        """F01: what is cancelled before anybody saw it is not told; what was told is told to be over."""
        stream = self.talk.asks(end=False, method=b"POST")
        cancel = struct.pack("!I", Code.CANCEL)
        octets = frame(HEADERS, END_HEADERS, 3, packed(asked())) + frame(RST_STREAM, 0, 3, cancel)
        self.assertEqual(self.talk.conversation.receive(octets), [])
        [cancelled] = self.talk.conversation.receive(frame(DATA, 0, 1, b"x") + frame(RST_STREAM, 0, 1, cancel))[-1:]
        self.assertEqual((type(cancelled), cancelled.stream), (Cancelled, stream))
        stream.whole(200, b"", [], b"late")
        stream.consumed(1)
        stream.reset(Code.CANCEL)
        self.assertEqual([kind for kind, *_ in frames(self.talk.conversation.output())], [])

    def test_made_to_reset(self) -> None:
        """F02: a stream that the client makes us reset is over for whoever served it, too."""
        stream = self.talk.asks(end=False, method=b"POST")
        self.talk.events.clear()
        [cancelled] = self.talk.conversation.receive(frame(WINDOW_UPDATE, 0, 1, struct.pack("!I", 0x7FFFFFFF)))
        self.assertEqual((type(cancelled), cancelled.stream, stream.closed), (Cancelled, stream, True))

    def test_goodbye_of_a_client(self) -> None:
        """A client that says goodbye is still answered, and sees its answer's end."""
        stream = self.talk.asks()
        self.talk.client.h2.close_connection()
        goodbye = self.talk.client.h2.data_to_send()
        self.talk.conversation.receive(goodbye)
        self.assertTrue(self.talk.conversation.client_leaves)
        stream.whole(200, b"", [], b"hello")
        kinds = [(kind, flags & END_STREAM) for kind, flags, *_ in frames(self.talk.conversation.output())]
        self.assertEqual(kinds, [(HEADERS, 0), (DATA, END_STREAM)])

    def test_graceful_goodbye(self) -> None:
        """What was asked before our goodbye is answered; what is asked after it may be asked elsewhere."""
        stream = self.talk.asks()
        self.talk.conversation.go_away()
        self.talk.conversation.go_away()
        after = self.talk.conversation.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, packed(asked())))
        self.assertEqual(after, [])
        stream.whole(200, b"", [], b"hello")
        said = frames(self.talk.conversation.output())
        self.assertEqual([kind for kind, *_ in said], [7, RST_STREAM, HEADERS, DATA])
        self.assertEqual(struct.unpack("!LL", said[0][3]), (1, Code.NO_ERROR))
        self.assertEqual(struct.unpack("!L", said[1][3]), (Code.REFUSED_STREAM,))


class MemoryTests(SynchronousTestCase):
    """What a client can make us keep."""

    def test_settings_that_nobody_knows(self) -> None:
        """F03: all the settings that there could be leave nothing behind."""
        conversation = MultiplexedConversation(Limits(), lambda: 0.0)
        conversation.receive(GREETING)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for first in range(10, 60_000, 2700):
            many = b"".join(struct.pack("!HI", key, 1) for key in range(first, first + 2700))
            conversation.receive(frame(SETTINGS, 0, 0, many))
            conversation.output()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(after - before, 100_000)

    def test_a_table_of_gigabytes(self) -> None:
        """F05: a client that offers to remember everything does not make us do so."""
        conversation = MultiplexedConversation(Limits(), lambda: 0.0)
        conversation.receive(GREETING + frame(SETTINGS, 0, 0, struct.pack("!HI", 1, 0xFFFFFFFF)))
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            [opened] = conversation.receive(
                frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, packed(asked()))
            )  # fmt: skip
            opened.stream.whole(200, b"", [(b"X-Number", b"%0200d" % number)])
            conversation.output()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(after - before, 150_000)

    def test_a_long_life(self) -> None:
        """A connection of four thousand requests holds no more than one of two thousand."""
        conversation = MultiplexedConversation(Limits(), lambda: 0.0)
        conversation.receive(GREETING)
        tracemalloc.start()
        held = []
        for number in range(4000):
            [opened] = conversation.receive(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, packed(asked())))
            opened.stream.whole(204, b"", [])
            conversation.output()
            if number in (1999, 3999):
                held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        self.assertLess(held[1] - held[0], 100_000)


_KINDS = st.integers(0, 12)
_FRAMES = st.lists(
    st.tuples(_KINDS, st.sampled_from([0, 1, 4, 5, 8, 9, 0x20, 0x25, 0xFF]), st.integers(0, 9), st.binary(max_size=40)),
    max_size=40,
)


@settings(max_examples=300)
@given(_FRAMES, st.integers(1, 200), st.data())
def test_any_frames(sent: list[tuple[int, int, int, bytes]], step: int, data: st.DataObject) -> None:
    """Nothing but the one known exception comes of any frames, whoever answers what they ask; nothing is left over."""
    conversation = MultiplexedConversation(Limits(), lambda: 0.0)
    head = packed(asked())
    octets = GREETING + b"".join(
        frame(kind, flags, stream, head if kind == HEADERS and not flags & 0x28 else payload)
        for kind, flags, stream, payload in sent
    )
    try:
        for at in range(0, len(octets), step):
            for event in conversation.receive(octets[at : at + step]):
                if type(event) is Came:
                    event.stream.consumed(len(event.data))
                elif type(event) is Opened and data.draw(st.booleans()):
                    event.stream.whole(200, b"", [], b"x" * data.draw(st.integers(0, 100_000)))
                elif type(event) is Refused:
                    event.stream.whole(event.bad.status, b"", [])
            conversation.output()
    except BrokenConnection:
        pass
    for stream in list(conversation.streams.values()):
        stream.reset(Code.CANCEL)
    assert not conversation.streams
    assert conversation.queued == 0
    frames(conversation.output())


@given(st.binary(max_size=400))
def test_any_octets(octets: bytes) -> None:
    """The same of octets that are no frames at all."""
    conversation = MultiplexedConversation(Limits(), lambda: 0.0)
    try:
        conversation.receive(GREETING)
        conversation.receive(octets)
    except BrokenConnection:
        assert conversation.over
    assert conversation.output()


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_heads(blocks: list[bytes]) -> None:
    """The same of heads that are not compressed as they should be."""
    conversation = MultiplexedConversation(Limits(), lambda: 0.0)
    try:
        conversation.receive(GREETING)
        for number, block in enumerate(blocks):
            conversation.receive(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, block))
    except BrokenConnection:
        assert conversation.over


def test_padded_heads_are_read() -> None:
    """Padding of a head is no part of it."""
    conversation = MultiplexedConversation(Limits(), lambda: 0.0)
    head = packed(asked())
    octets = frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\5" + head + bytes(5))
    [opened] = conversation.receive(GREETING + octets)
    assert type(opened) is Opened
