"""The front for HTTP/2 on an in-memory socket: many exchanges at once, pauses, timers, hostile clients, goodbyes."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.intake import Code
from appproxy.http.multiplexed import STREAM_WINDOW
from appproxy.relay.front.http2 import MAX_UNSENT, MultiplexedFront
from appproxy.wire.heads import ResponseHead
from appproxy.wire.windows import INITIAL_WINDOW
from tests.fakes.fronts import Bench, FakeSocket
from tests.fakes.http2 import (
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GREETING,
    HEADERS,
    PING,
    RST_STREAM,
    Connection,
    asked,
    frame,
    frames,
    packed,
)
from tests.http.hostile_frames import BROKEN, Broken, many, request, reset


class FrontTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()
        self.alice = Connection(self.bench)

    def answer(self, number: int = -1, body: bytes = b"hello", *fields: tuple[bytes, bytes]) -> None:
        """The connector answers one of the streams that it was given."""
        stream = self.bench.pair.opener.streams[number]
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"%d" % len(body)), *fields]))
        stream.end(body)

    @pytest.mark.feature("HTTP-1")
    def test_one_request(self) -> None:
        """A request is carried with its cookie whole and without the relay's own; its answer comes back."""
        number = self.alice.ask(path=b"/leave?x=%26")
        head = self.bench.pair.opener.heads[0][0]
        fields = dict(head.standing.fields)
        self.assertEqual((head.method, head.target), (b"GET", b"/leave?x=%26"))
        self.assertEqual((fields[b"Host"], fields[b"cookie"]), (b"hr.example.com", b"theme=dark"))
        self.answer()
        heard = self.alice.heard(number)
        self.assertEqual((heard.status, heard.data, heard.ended), (b"200", b"hello", True))
        self.assertNotIn(b"connection", dict(heard.fields))
        self.assertEqual(len(self.bench.records), 1)

    @pytest.mark.feature("HTTP-1")
    def test_many_at_once_in_any_order(self) -> None:
        """A hundred requests are under way at once; each gets its own answer, whichever is ready first."""
        numbers = [self.alice.ask(path=b"/%d" % each) for each in range(100)]
        self.assertEqual(len(self.bench.pair.opener.streams), 100)
        for each in reversed(range(100)):
            self.answer(each, b"answer %d" % each)
        self.alice.settle()
        self.assertEqual(
            [self.alice.client.streams[number].data for number in numbers], [b"answer %d" % each for each in range(100)]
        )
        self.assertEqual(self.alice.front.conversation.streams, {})

    def test_the_relays_own_answers(self) -> None:
        """Pages of the relay's, refusals and unknown hosts are the same as by HTTP/1.1."""
        own = self.alice.client.ask(host=b"proxy.example.com", method=b"POST", end=False)
        self.alice.client.send(own, b"form=1", end=True)
        unknown = self.alice.client.ask(host=b"nowhere.example.com")
        anonymous = self.alice.client.ask()
        self.assertEqual(self.alice.heard(own).data, b"own form=1")
        self.assertEqual(self.alice.heard(unknown).status, b"404")
        self.assertEqual(self.alice.heard(anonymous).status, b"401")
        self.assertIn((b"cache-control", b"no-store"), self.alice.heard(unknown).fields)

    def test_malformed_requests(self) -> None:
        """F06: a malformed request is answered and nothing of it reaches an origin; others go on."""
        malformed = self.alice.client.ask((b"x", b"y\r\nz"))
        ambiguous = self.alice.client.ask(path=b"/a/..;/b")
        self.assertEqual(self.alice.heard(malformed).status, b"400")
        self.assertEqual(self.alice.heard(ambiguous).status, b"400")
        self.assertEqual(self.bench.pair.opener.heads, [])
        self.alice.ask()
        self.assertEqual(len(self.bench.pair.opener.heads), 1)

    @pytest.mark.feature("HTTP-2")
    def test_upload_is_streamed_and_waits_for_credit(self) -> None:
        """A body passes as it comes; when the connector takes nothing the client runs out of credit, and only it."""
        self.bench.pair.opener.greedy = False
        number = self.alice.ask((b"content-length", b"600000"), end=False, method=b"POST")
        self.alice.client.send(number, b"x" * STREAM_WINDOW)
        self.alice.settle()
        self.assertEqual(len(self.bench.pair.opener.receivers[0].data), INITIAL_WINDOW)
        self.alice.client.send(number, b"x" * self.alice.client.h2.local_flow_control_window(number))
        self.alice.settle()
        self.assertEqual(self.alice.client.h2.local_flow_control_window(number), 0)
        other = self.alice.ask()
        self.answer()
        self.assertEqual(self.alice.heard(other).data, b"hello")
        receiver = self.bench.pair.opener.receivers[0]
        sent, taken = 600_000 - 2 * STREAM_WINDOW, 0
        while taken < 600_000:
            step, taken = len(receiver.data) - taken, len(receiver.data)
            receiver.stream.consumed(step)
            self.alice.settle()
            if sent and (room := min(sent, self.alice.client.h2.local_flow_control_window(number))):
                sent -= room
                self.alice.client.send(number, b"x" * room, end=not sent)
                self.alice.settle()
        self.assertTrue(receiver.ended)

    def test_trailers_both_ways(self) -> None:
        """Trailers pass up and down."""
        number = self.alice.ask(end=False, method=b"POST")
        self.alice.client.h2.send_headers(number, [(b"x-up", b"1")], end_stream=True)
        self.alice.client.flush()
        self.alice.settle()
        self.assertEqual(self.bench.pair.opener.receivers[0].trailers, [(b"x-up", b"1")])
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", []))
        stream.finish([(b"X-Down", b"2")])
        self.assertEqual(self.alice.heard(number).trailers, [(b"x-down", b"2")])

    @pytest.mark.feature("HTTP-3")
    def test_interim_answers(self) -> None:
        """1xx pass; a client that waits for 100 gets the origin's."""
        number = self.alice.ask((b"expect", b"100-continue"), end=False, method=b"POST")
        stream = self.bench.pair.opener.streams[0]
        for status in (100, 103):
            stream.answer(ResponseHead(status, b"", []), informational=True)
        self.answer()
        heard = self.alice.heard(number)
        self.assertEqual([fields[0] for fields in heard.interim], [(b":status", b"100"), (b":status", b"103")])
        self.assertEqual((heard.status, heard.ended, heard.reset), (b"200", True, Code.NO_ERROR))

    def test_slow_readers(self) -> None:
        """D03, C09: a client that takes nothing of one answer pauses its source; its other answers come."""
        self.alice.client.takes = False
        number = self.alice.ask()
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", []))
        for _ in range(200):
            stream.write(b"x" * 10_000)
            self.alice.settle()
        heard = self.alice.client.streams[number]
        self.assertEqual(len(heard.data), 65535)
        held = self.alice.front.conversation.queued
        self.assertLess(held, 2 * INITIAL_WINDOW)
        self.assertEqual(self.bench.pair.connector.connection.room(stream.id), 0)
        self.alice.client.takes = True
        self.alice.client.h2.acknowledge_received_data(65535, number)
        self.alice.client.flush()
        stream.end()
        self.assertEqual(len(self.alice.heard(number).data), 2_000_000)
        self.assertTrue(heard.ended)

    def test_clients_that_do_not_read(self) -> None:
        """D08: while the socket is full answers wait at their sources; who goes on asking is not read any more."""
        producer = self.alice.socket.producer
        producer.pauseProducing()
        asked_for, head = 0, packed(asked(host=b"nowhere.example.com", method=b"HEAD"))
        while self.alice.socket.reading and asked_for < 10_000:
            self.alice.front.dataReceived(request(2 * asked_for + 1, head=head))
            asked_for += 1
        self.assertFalse(self.alice.socket.reading)
        self.assertLessEqual(self.alice.front.conversation.unsent, MAX_UNSENT + 1000)
        self.assertEqual(self.alice.socket.take(), b"")
        producer.resumeProducing()
        self.assertTrue(self.alice.socket.reading)
        self.bench.clock.advance(0)
        said = frames(self.alice.socket.take())
        self.assertEqual(len([kind for kind, *_ in said if kind == HEADERS]), asked_for)

    def test_cancelling(self) -> None:
        """C35: a request that the client cancels ends at the connector; other requests go on."""
        number, other = self.alice.ask(), self.alice.ask()
        self.alice.client.h2.reset_stream(number, Code.CANCEL)
        self.alice.client.flush()
        self.alice.settle()
        first, second = self.bench.pair.opener.receivers
        self.assertEqual((len(first.resets), second.resets), (1, []))
        self.answer(1)
        self.assertEqual(self.alice.heard(other).data, b"hello")

    def test_answers_cut_short(self) -> None:
        """C38: an answer that breaks off is reset, never ended; the connection stays."""
        number = self.alice.ask()
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", []))
        stream.write(b"half")
        self.alice.settle()
        stream.reset(Code.INTERNAL_ERROR)  # type: ignore[arg-type]
        heard = self.alice.heard(number)
        self.assertEqual((heard.data, heard.ended, heard.reset), (b"half", False, Code.INTERNAL_ERROR))
        self.assertFalse(self.alice.socket.disconnecting)

    @pytest.mark.feature("AUTH-7")
    def test_the_end_of_a_session(self) -> None:
        """W03: what a session has open ends with it; what is not the session's goes on."""
        number = self.alice.ask()
        public = self.alice.client.ask(host=b"open.example.com")
        self.alice.settle()
        assert self.bench.preauth.session is not None
        self.bench.preauth.session.cut()
        self.assertEqual(self.alice.heard(number).reset, Code.INTERNAL_ERROR)
        self.answer(1)
        self.assertEqual(self.alice.heard(public).data, b"hello")

    def test_losing_the_client(self) -> None:
        """A client that goes takes all its requests along."""
        for _ in range(3):
            self.alice.ask()
        self.alice.socket.lose()
        self.bench.pair.run()
        self.assertEqual([len(each.resets) for each in self.bench.pair.opener.receivers], [1, 1, 1])
        self.assertEqual(self.bench.settings.fronts, set())
        self.assertEqual([record[4] for record in self.bench.records], ["client-gone"] * 3)

    def test_connection_bound_sign_in(self) -> None:
        """W08: who signs in on a connection has to have one alone: the client is asked to come back by HTTP/1.1."""
        number = self.alice.ask((b"authorization", b"NTLM TlRMTVNTUAAB"))
        self.assertEqual(self.alice.heard(number).reset, Code.HTTP_1_1_REQUIRED)
        self.assertEqual(self.bench.pair.opener.streams, [])
        self.alice.ask()
        self.assertEqual(len(self.bench.pair.opener.streams), 1)

    # Time

    def later(self, seconds: float) -> None:
        """So much later, with a sweep a second."""
        for _ in range(int(seconds)):
            self.bench.clock.advance(1)
            self.bench.settings.sweep()

    @pytest.mark.feature("HTTP-5")
    def test_idle_connections(self) -> None:
        """D05: a connection without a request ends after a while with a goodbye, however much it pings."""
        silent, patience = Connection(self.bench), self.bench.settings.patience
        self.later(patience.head + 1)
        self.assertTrue(silent.socket.disconnecting)
        busy = Connection(self.bench)
        number = busy.ask()
        self.later(patience.keep_alive + 100)
        self.assertFalse(busy.socket.disconnecting)
        self.answer()
        busy.heard(number)
        for _ in range(int(patience.keep_alive) + 1):
            busy.front.dataReceived(frame(PING, 0, 0, bytes(8)))
            self.later(1)
        self.assertTrue(busy.socket.disconnecting)
        self.assertEqual(frames(busy.socket.take())[-1][0], GOAWAY)

    @pytest.mark.feature("HTTP-5")
    def test_slow_heads(self) -> None:
        """D01: a head that takes too long ends the connection, whatever else it carries."""
        number = self.alice.ask()
        self.alice.front.dataReceived(frame(HEADERS, 0, number + 2, packed(asked())))
        self.later(self.bench.settings.patience.head - 1)
        self.assertFalse(self.alice.socket.disconnecting)
        self.later(2)
        self.assertTrue(self.alice.socket.disconnecting)
        self.alice.client.hears(self.alice.socket.take())
        self.assertEqual(self.alice.client.goaway, (Code.ENHANCE_YOUR_CALM, number))
        self.bench.pair.run()
        self.assertEqual(len(self.bench.pair.opener.receivers[0].resets), 1)

    @pytest.mark.feature("HTTP-5")
    def test_slow_bodies(self) -> None:
        """D02: a body that stops coming is answered 408, one that trickles too; one that nobody takes may wait."""
        patience = self.bench.settings.patience
        stopped, trickling = (self.alice.ask(end=False, method=b"POST") for _ in range(2))
        self.later(patience.body - 5)
        self.alice.client.send(trickling, b"x")
        self.later(10)
        self.assertEqual(self.alice.heard(stopped).status, b"408")
        self.assertEqual(self.alice.heard(trickling).status, b"408")
        self.bench.pair.opener.greedy = False
        waiting = self.alice.ask(end=False, method=b"POST")
        self.alice.client.send(waiting, b"x" * STREAM_WINDOW)
        self.alice.settle()
        self.alice.client.send(waiting, b"x" * self.alice.client.h2.local_flow_control_window(waiting))
        self.later(3 * patience.body)
        self.assertFalse(self.alice.heard(waiting).ended)

    @pytest.mark.feature("HTTP-5")
    def test_readers_who_stopped(self) -> None:
        """D03, F04: an answer that nobody reads is given up; a client that reads nothing at all is cut off."""
        patience = self.bench.settings.patience
        self.alice.client.takes = False
        number = self.alice.ask()
        self.answer(body=b"x" * 200_000)
        other = self.alice.ask()
        self.later(patience.write + 1)
        self.assertEqual(self.alice.heard(number).reset, Code.CANCEL)
        self.assertFalse(self.alice.client.streams[other].reset)
        self.alice.socket.producer.pauseProducing()
        self.later(patience.write + 1)
        self.assertTrue(self.alice.socket.aborted)
        self.bench.pair.run()
        self.assertEqual(len(self.bench.pair.opener.receivers[1].resets), 1)

    # Goodbyes

    @pytest.mark.feature("HTTP-1")
    def test_the_relay_stops(self) -> None:
        """First no more requests are taken, those under way go on; at the end what is not finished is cut off."""
        finished, cut = self.alice.ask(), self.alice.ask()
        idle = Connection(self.bench)
        for front in list(self.bench.settings.fronts):
            front.retire()
        self.assertTrue(idle.socket.disconnecting)
        self.answer(0)
        said = frames(self.alice.socket.take())
        self.assertEqual((said[0][0], struct.unpack("!LL", said[0][3])), (GOAWAY, (cut, Code.NO_ERROR)))
        self.bench.pair.run()
        self.assertFalse(self.alice.socket.disconnecting)
        late = request(cut + 2)
        self.alice.front.dataReceived(late)
        said = frames(self.alice.socket.take())
        self.assertIn((RST_STREAM, 0, cut + 2, struct.pack("!L", Code.REFUSED_STREAM)), said)
        self.assertIn(finished, [number for kind, flags, number, _ in said if flags & END_STREAM])
        self.alice.front.see_off()
        self.assertIn((RST_STREAM, 0, cut, struct.pack("!L", Code.CANCEL)), frames(self.alice.socket.take()))
        self.assertTrue(self.alice.socket.disconnecting)
        self.bench.pair.run()
        self.assertEqual(len(self.bench.pair.opener.receivers[1].resets), 1)

    def test_the_client_says_goodbye(self) -> None:
        """A client that asks no more is answered, then the connection ends."""
        number = self.alice.ask()
        self.alice.front.dataReceived(frame(GOAWAY, 0, 0, bytes(8)))
        self.assertFalse(self.alice.socket.disconnecting)
        self.answer()
        self.assertEqual(self.alice.heard(number).data, b"hello")
        self.assertTrue(self.alice.socket.disconnecting)

    def test_the_relay_stops_with_answers_unread(self) -> None:
        """What a client has no window for is cut off at the end, and counted nowhere as waiting."""
        self.alice.client.takes = False
        number = self.alice.ask()
        self.answer(body=b"x" * 200_000)
        self.alice.settle()
        self.alice.front.see_off()
        self.alice.client.hears(self.alice.socket.take())
        self.assertEqual(self.alice.client.streams[number].reset, Code.CANCEL)
        self.assertEqual(self.alice.front.conversation.queued, 0)
        self.alice.front.see_off()


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_hostile_clients(case: Broken) -> None:
    """F01, F02, F03, F04, F05: each ends with GOAWAY and leaves nothing behind; many of them are logged once."""
    bench = Bench()
    for _ in range(3):
        socket = FakeSocket()
        front = MultiplexedFront(bench.settings)
        socket.protocol = front
        front.makeConnection(socket)  # type: ignore[arg-type]
        front.dataReceived(GREETING + case.octets)
        bench.pair.run(500)
        *_, (kind, _, _, payload) = frames(socket.take())
        assert (kind, payload[4:8]) == (GOAWAY, struct.pack("!I", case.code))
        assert socket.disconnecting
        socket.lose()
    bench.pair.run(500)
    assert not bench.pair.relay.streams
    assert not bench.settings.fronts
    assert bench.settings.broken.total() == 3
    assert list(bench.settings.broken) == [Code(case.code).name]


def test_memory_under_rapid_resets() -> None:
    """F01, D11: connection after connection of them leaves nothing behind, and few reach a connector."""
    bench = Bench()
    head = packed(asked(host=b"open.example.com"))
    flood = many(5000, lambda each: request(each, END_HEADERS, head) + reset(each))

    def attack() -> None:
        socket = FakeSocket()
        front = MultiplexedFront(bench.settings)
        socket.protocol = front
        front.makeConnection(socket)  # type: ignore[arg-type]
        front.dataReceived(GREETING)
        for at in range(0, len(flood), 1000):
            front.dataReceived(flood[at : at + 1000])
            bench.clock.advance(0)
            if socket.disconnecting:
                break
        assert socket.disconnecting
        socket.lose()
        bench.pair.run(500)
        bench.records.clear()
        del bench.pair.opener.heads[:], bench.pair.opener.streams[:], bench.pair.opener.receivers[:]

    attack()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(5):
        attack()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 200_000
