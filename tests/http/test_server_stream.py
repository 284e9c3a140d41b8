"""The pen for an answer by HTTP/2: framing, windows, turns, switches."""

from __future__ import annotations

import struct

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.intake import Code
from appproxy.http.messages import LengthMismatch, OutOfTurn
from appproxy.http.server_stream import HIGH_WATER, LOW_WATER, Came, Ended, ServerStream
from appproxy.http.websocket import NotSwitched
from tests.fakes.http2 import DATA, END_STREAM, HEADERS, RST_STREAM, SETTINGS, frame, frames
from tests.http.test_multiplexed import Talk

ACCEPTED = [
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Accept", b"vdq49Su4aL7xW8nwsMW5qkYfD8A="),
]


class AnswerTests(SynchronousTestCase):
    """Answers."""

    def setUp(self) -> None:
        self.talk = Talk()

    def heard(self, stream: ServerStream) -> object:
        """What the client got."""
        self.talk.settle()
        return self.talk.client.streams[stream.id]

    @pytest.mark.feature("HTTP-1")
    def test_in_pieces(self) -> None:
        """Interim answers, head, body and trailers come as they were written."""
        stream = self.talk.asks()
        stream.informational(103, b"Early Hints", [(b"Link", b"</a>")])
        self.assertEqual(stream.begin(200, b"OK", [(b"X-A", b"1")], None), b"")
        self.assertEqual(stream.body(b"abc") + stream.body(b"def"), b"")
        stream.write(b"")
        self.assertEqual(stream.end([(b"X-Sum", b"2"), (b"Host", b"x")]), b"")
        heard = self.heard(stream)
        self.assertEqual(heard.interim, [[(b":status", b"103"), (b"link", b"</a>")]])
        self.assertEqual(heard.fields, [(b":status", b"200"), (b"x-a", b"1")])
        self.assertEqual((heard.data, heard.trailers, heard.ended), (b"abcdef", [(b"x-sum", b"2")], True))
        self.assertTrue(stream.closed)

    def test_a_head_goes_alone_when_nothing_follows_yet(self) -> None:
        """The first octet of a slow answer is not waited for."""
        stream = self.talk.asks()
        stream.begin(200, b"OK", [], None)
        stream.write(b"")
        self.assertEqual(self.heard(stream).status, b"200")

    def test_without_a_body(self) -> None:
        """HEAD, 204 and 304 have none, whatever is written; all end with their head."""
        for method, status, length in ((b"HEAD", 200, b"5"), (b"GET", 204, None), (b"GET", 304, b"5")):
            stream = self.talk.asks(method=method)
            stream.begin(status, b"", [], 5)
            stream.body(b"hello")
            stream.end()
            [(kind, flags, _, _)] = frames(octets := self.talk.conversation.output())
            self.assertEqual((kind, flags & END_STREAM), (HEADERS, END_STREAM))
            self.talk.client.hears(octets)
            self.assertEqual(dict(self.talk.client.streams[stream.id].fields).get(b"content-length"), length)

    def test_empty(self) -> None:
        """An answer of no octets ends with its head."""
        stream = self.talk.asks()
        stream.whole(200, b"OK", [])
        [(kind, flags, _, _)] = frames(self.talk.conversation.output())
        self.assertEqual((kind, flags & END_STREAM), (HEADERS, END_STREAM))

    def test_lengths(self) -> None:
        """A body that is not as long as announced is never ended cleanly."""
        stream = self.talk.asks()
        stream.begin(200, b"OK", [], 5)
        self.assertRaises(LengthMismatch, stream.body, b"toolong")
        stream = self.talk.asks()
        stream.begin(200, b"OK", [], 5)
        stream.body(b"abc")
        self.assertRaises(LengthMismatch, stream.end)

    def test_out_of_turn(self) -> None:
        """Nothing is written where it cannot stand."""
        stream = self.talk.asks()
        self.assertRaises(OutOfTurn, stream.body, b"x")
        self.assertRaises(OutOfTurn, stream.end)
        self.assertRaises(OutOfTurn, stream.informational, 101, b"", [])
        self.assertRaises(OutOfTurn, stream.begin, 101, b"", ACCEPTED)
        stream.whole(200, b"OK", [])
        self.assertRaises(OutOfTurn, stream.begin, 200, b"", [])
        self.assertRaises(OutOfTurn, stream.informational, 100, b"", [])

    @pytest.mark.feature("HTTP-2")
    def test_early_answer(self) -> None:
        """An answer may end before the request has; the rest is called off without blame."""
        stream = self.talk.asks(end=False, method=b"POST")
        stream.whole(200, b"OK", [], b"enough")
        heard = self.heard(stream)
        self.assertEqual((heard.data, heard.ended, heard.reset), (b"enough", True, Code.NO_ERROR))

    def test_small_windows(self) -> None:
        """F04: an answer waits for the client's windows, and goes on octet by octet if that is what there is."""
        talk = Talk(window=0)
        talk.client.takes = False
        stream = talk.asks()
        stream.whole(200, b"OK", [], b"hello")
        talk.settle()
        self.assertEqual((talk.client.streams[1].data, stream.queued), (b"", 5))
        for _ in range(5):
            talk.client.h2.increment_flow_control_window(1, 1)
            talk.settle()
        self.assertEqual((talk.client.streams[1].data, talk.client.streams[1].ended), (b"hello", True))

    def test_a_window_that_becomes_negative(self) -> None:
        """A client may take back what it offered; then nothing is sent until it offers again."""
        talk = Talk()
        talk.client.takes = False
        stream = talk.asks()
        stream.whole(200, b"OK", [], b"x" * 100_000)
        talk.settle()
        sent = len(talk.client.streams[1].data)
        talk.conversation.receive(frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 10)))
        self.assertEqual([kind for kind, *_ in frames(talk.conversation.output())], [SETTINGS])
        self.assertEqual(stream.queued, 100_000 - sent)

    @pytest.mark.feature("HTTP-2")
    def test_turns(self) -> None:
        """C10: large answers share the connection frame by frame; a small one behind them is not kept waiting."""
        talk = Talk(window=1 << 24)
        streams = [talk.asks() for _ in range(3)]
        for stream in streams[:2]:
            stream.whole(200, b"OK", [], b"x" * 1_000_000)
        streams[2].whole(200, b"OK", [], b"small")
        order = [number for kind, _, number, _ in frames(talk.conversation.output()) if kind == DATA]
        self.assertEqual(order[:5], [1, 3, 5, 1, 3])

    def test_whoever_produces_waits(self) -> None:
        """D03: over the mark its source must wait, and is told when there is room again."""
        talk = Talk(window=0)
        talk.client.takes = False
        stream = talk.asks()
        stream.begin(200, b"OK", [], None)
        stream.body(b"x" * HIGH_WATER)
        self.assertFalse(stream.must_wait())
        stream.body(b"x")
        self.assertTrue(stream.must_wait())
        talk.client.h2.increment_flow_control_window(HIGH_WATER - LOW_WATER, 1)
        talk.settle()
        self.assertEqual(talk.conversation.relieved, [])
        talk.client.h2.increment_flow_control_window(1, 1)
        talk.settle()
        self.assertEqual((talk.conversation.relieved, stream.must_wait()), ([stream], False))

    def test_reset(self) -> None:
        """A reset stream is over: nothing of what waited leaves, later writing is without effect."""
        stream = self.talk.asks()
        stream.begin(200, b"OK", [], None)
        stream.body(b"x")
        stream.reset(Code.INTERNAL_ERROR)
        stream.body(b"y")
        stream.end()
        heard = self.heard(stream)
        self.assertEqual((heard.fields, heard.reset, heard.ended), ([], Code.INTERNAL_ERROR, False))
        self.assertEqual(self.talk.conversation.queued, 0)


@pytest.mark.feature("HTTP-4")
class SwitchTests(SynchronousTestCase):
    """WebSockets (RFC 8441)."""

    def setUp(self) -> None:
        self.talk = Talk()
        self.talk.client.h2.send_headers(
            1,
            [
                (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"),
                (b":authority", b"hr.example.com"), (b":path", b"/ws"), (b"sec-websocket-version", b"13"),
            ],
        )  # fmt: skip
        self.talk.settle()
        self.stream = self.talk.events.pop().stream

    def test_open(self) -> None:
        """C37: what came before the origin agreed waits for it; then octets pass both ways, each half to its end."""
        self.talk.client.send(1, b"early")
        self.assertEqual(self.talk.events, [])
        self.stream.begin(101, b"Switching Protocols", [*ACCEPTED, (b"Sec-WebSocket-Protocol", b"chat")])
        self.stream.write(b"")
        self.assertEqual(self.stream.upgraded(), ([b"early"], False))
        self.stream.write(b"hello")
        self.talk.settle()
        heard = self.talk.client.streams[1]
        self.assertEqual(heard.fields, [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")])
        self.assertEqual(heard.data, b"hello")
        self.talk.client.send(1, b"late")
        self.stream.finish()
        self.stream.finish()
        self.talk.settle()
        self.assertTrue(heard.ended)
        self.assertFalse(self.stream.closed)
        self.talk.client.send(1, b"later", end=True)
        self.talk.settle()
        self.assertEqual([type(event) for event in self.talk.events], [Came, Came, Ended])
        self.assertTrue(self.stream.closed)
        self.assertFalse(heard.reset)

    def test_the_client_ends_first(self) -> None:
        """The client's end is told, also when it came before the origin agreed."""
        self.talk.client.send(1, b"all", end=True)
        self.stream.begin(101, b"Switching Protocols", ACCEPTED)
        self.stream.write(b"")
        self.assertEqual(self.stream.upgraded(), ([b"all"], True))
        self.stream.write(b"answer")
        self.stream.finish()
        self.talk.settle()
        self.assertEqual(self.talk.client.streams[1].data, b"answer")
        self.assertTrue(self.stream.closed)

    def test_not_opened(self) -> None:
        """W04: a success that opens nothing would be taken for an open WebSocket: it is none for this client."""
        self.assertRaises(NotSwitched, self.stream.begin, 200, b"OK", [], 5)
        self.assertRaises(NotSwitched, self.stream.begin, 101, b"", ACCEPTED[:2])
        self.stream.whole(502, b"", [], b"sorry")
        self.talk.settle()
        self.assertEqual(self.talk.client.streams[1].status, b"502")

    def test_refused(self) -> None:
        """Any other answer passes as it is; what the client had sent already is dropped."""
        self.talk.client.send(1, b"early")
        self.stream.whole(403, b"Forbidden", [], b"no")
        kinds = [kind for kind, *_ in frames(self.talk.conversation.output())]
        self.assertEqual(kinds, [HEADERS, DATA, RST_STREAM])
        self.assertEqual(self.stream.owed, 0)
