"""The front: requests, pipelining, pauses, timers, refusals."""

from __future__ import annotations

import gc
import tracemalloc
from ipaddress import ip_network

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.forwarded import TrustedProxies
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.relay.front.http1 import READ_AHEAD
from appproxy.relay.front.patience import Patience
from appproxy.wire.heads import ResponseHead
from appproxy.wire.windows import INITIAL_WINDOW
from tests.fakes.fronts import COOKIE, Bench, get

OK = ResponseHead(200, b"OK", [(b"Content-Type", b"text/plain"), (b"Content-Length", b"5")])


class FrontTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()
        self.client = self.bench.client()

    def answer(self, number: int = -1, body: bytes = b"hello") -> None:
        """The connector answers one of the streams that it was given."""
        stream = self.bench.pair.opener.streams[number]
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"%d" % len(body))]))
        stream.end(body)
        self.bench.pair.run()

    @pytest.mark.feature("HTTP-2")
    def test_one_request(self) -> None:
        """A request is carried, its answer comes back whole in one write, the connection stays."""
        self.bench.sends(self.client, get())
        self.answer()
        self.assertTrue(self.client.take().endswith(b"\r\n\r\nhello"))
        self.bench.sends(self.client, get())
        self.answer(body=b"again")
        self.assertTrue(self.client.take().endswith(b"again"))
        self.assertFalse(self.client.disconnecting)

    def test_what_is_remembered_of_fields_is_not_mixed_up(self) -> None:
        """Requests that repeat their fields are read once; one that differs at all is read anew."""
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        targets = []
        for data in (
            get(path=b"/1"),
            get(path=b"/2"),
            get(path=b"/3", more=COOKIE.replace(b"dark", b"mild")),
            get(path=b"/4", more=b""),
            get(path=b"/5", more=COOKIE + upgrade).replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            self.bench.sends(self.client, data)
            if self.bench.pair.relay.streams:
                head = self.bench.pair.opener.heads[-1][0]
                fields = dict(head.standing.fields)
                targets.append((head.target, fields.get(b"Cookie"), fields.get(b"Upgrade")))
                self.answer()
        self.assertEqual(
            targets,
            [
                (b"/1", b"theme=dark", None),
                (b"/2", b"theme=dark", None),
                (b"/3", b"theme=mild", None),
                (b"/5", b"theme=dark", None),
            ],
        )

    def test_target_is_split(self) -> None:
        """N11: an empty query is another thing than none, and its content is no path."""
        read: list[tuple[bytes, bytes | None]] = []

        async def respond(exchange: ClientExchange) -> None:
            read.append((exchange.path, exchange.query))
            exchange.answer(200)

        self.bench.settings.responder = respond
        for target in (b"/a?b?c/../d", b"/a?", b"/a"):
            self.bench.sends(self.client, get(path=target))
        self.assertEqual(read, [(b"/a", b"b?c/../d"), (b"/a", b""), (b"/a", None)])

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """The second of two pipelined requests is not begun before the first is answered."""
        self.bench.sends(self.client, get(path=b"/1") + get(path=b"/2"))
        self.assertEqual(len(self.bench.pair.opener.streams), 1)
        self.answer(body=b"one")
        self.assertEqual([head.target for head, _, _ in self.bench.pair.opener.heads], [b"/1", b"/2"])
        self.answer(body=b"two")
        written = self.client.take()
        self.assertLess(written.index(b"one"), written.index(b"two"))

    def test_bodies_of_pipelined_requests_are_not_mixed_up(self) -> None:
        """the body of a request that is answered at once is dropped, and not given to the next one."""
        nowhere = b"POST / HTTP/1.1\r\nHost: nowhere.example.com\r\nContent-Length: 5\r\n\r\nfirst"
        here = b"POST /2 HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + b"Content-Length: 6\r\n\r\nsecond"
        self.bench.sends(self.client, nowhere + here)
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 404"))
        [receiver] = self.bench.pair.opener.receivers
        self.assertEqual((bytes(receiver.data), receiver.ended), (b"second", True))

    def test_ten_thousand_pipelined_requests(self) -> None:
        """D08: requests answered at once do not pile up on the stack, and reading stops while many wait."""
        self.bench.sends(self.client, get(host=b"nowhere.example.com") * 10_000)
        self.assertEqual(self.client.take().count(b"HTTP/1.1 404 Not Found"), 10_000)
        other = self.bench.client()
        self.bench.sends(other, get() + get() * (READ_AHEAD // 50))
        self.assertFalse(other.reading)

    def test_pipelined_client_that_does_not_read(self) -> None:
        """D08: while the client's socket is full no further request is begun."""
        self.client.producer.pauseProducing()
        self.bench.sends(self.client, get(host=b"nowhere.example.com") * 3)
        self.assertEqual(self.client.take().count(b"HTTP/1.1 404"), 1)
        self.client.producer.resumeProducing()
        self.assertEqual(self.client.take().count(b"HTTP/1.1 404"), 2)

    @pytest.mark.feature("HTTP-2")
    def test_upload_is_streamed_and_paused_without_credit(self) -> None:
        """A request body passes as it comes; when the connector takes nothing the client's socket rests."""
        self.bench.pair.opener.greedy = False
        head = b"POST / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + b"Content-Length: 1000000\r\n\r\n"
        self.bench.sends(self.client, head + b"x" * 1000)
        receiver = self.bench.pair.opener.receivers[0]
        self.assertEqual(len(receiver.data), 1000)
        self.bench.sends(self.client, b"x" * INITIAL_WINDOW)
        self.assertFalse(self.client.reading)
        self.assertEqual(len(receiver.data), INITIAL_WINDOW)
        taken = len(receiver.data)
        receiver.stream.consumed(taken)
        self.bench.pair.run()
        self.assertTrue(self.client.reading)
        self.bench.sends(self.client, b"x" * (1_000_000 - 1000 - INITIAL_WINDOW))
        while taken < len(receiver.data):
            step, taken = len(receiver.data) - taken, len(receiver.data)
            receiver.stream.consumed(step)
            self.bench.pair.run()
        self.assertEqual((taken, receiver.ended), (1_000_000, True))

    def test_heads_just_below_the_limit(self) -> None:
        """D07, D11: a connection holds little more than one such head, unfinished or answered; then nothing is left."""
        limit = self.bench.settings.limits.head
        flood = b"".join(b"X-%d: %s\r\n" % (n, b"f" * 480) for n in range(100)) + b"Cookie: " + b"c=1; " * 1600
        head = get(more=COOKIE + flood + b"\r\n")
        self.assertTrue(0.85 * limit < len(head) < limit)
        clients = [self.bench.client() for _ in range(40)]

        def held() -> float:
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        self.bench.sends(clients.pop(), head)  # warms up what is remembered once for all
        self.answer()
        tracemalloc.start()
        try:
            before = held()
            for client in clients:
                for begin in range(0, len(head) - 2, 4000):
                    self.bench.sends(client, head[begin : min(begin + 4000, len(head) - 2)])
            unfinished = (held() - before) / len(clients)
            for client in clients:
                self.bench.sends(client, head[-2:])
                self.answer()
                self.assertTrue(client.take().startswith(b"HTTP/1.1 200 "))
            self.bench.pair.opener.streams.clear()
            self.bench.pair.opener.heads.clear()
            self.bench.pair.opener.receivers.clear()
            self.bench.records.clear()
            answered = (held() - before) / len(clients)
            for client in clients:
                client.lose()
            del client, clients[:]
            left = held() - before
        finally:
            tracemalloc.stop()
        self.assertLess(unfinished, 1.25 * limit)
        self.assertLess(answered, 2 * limit)
        self.assertLess(left, 2 * limit)

    def test_slow_reader_pauses_its_own_stream_only(self) -> None:
        """C09: a client that stops reading stops its origin; another client of the same channel goes on."""
        self.bench.sends(self.client, get())
        slow = self.bench.pair.opener.streams[0]
        slow.answer(ResponseHead(200, b"OK", []))
        self.client.producer.pauseProducing()
        slow.write(b"~" * (4 * INITIAL_WINDOW))
        self.bench.pair.run(300)
        self.assertEqual(self.client.take().count(b"~"), INITIAL_WINDOW)
        other = self.bench.client()
        self.bench.sends(other, get())
        self.answer()
        self.assertIn(b"hello", other.take())
        self.client.producer.resumeProducing()
        self.bench.pair.run(300)
        self.assertEqual(self.client.take().count(b"~"), 3 * INITIAL_WINDOW)

    @pytest.mark.feature("HTTP-3")
    def test_proxy_that_ends_tls(self) -> None:
        """H10: a listed proxy's https is as good as our own: no redirect, transport security; nobody else's is."""
        self.bench.settings.secure = False
        said = COOKIE + b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 198.51.100.20\r\n"
        self.bench.sends(self.client, get(more=said))
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 308 "))
        self.bench.settings.proxies = TrustedProxies([ip_network("192.0.2.0/24")])
        self.client = self.bench.client()
        self.bench.sends(self.client, get(more=said))
        self.answer()
        answered = self.client.take()
        self.assertTrue(answered.startswith(b"HTTP/1.1 200 "))
        self.assertIn(b"\r\nStrict-Transport-Security: ", answered)
        self.bench.sends(self.client, get(host=b"nowhere.example.com", more=said))
        refused = self.client.take()
        self.assertTrue(refused.startswith(b"HTTP/1.1 404 "))
        self.assertIn(b"\r\nStrict-Transport-Security: ", refused)
        self.bench.sends(self.client, get(more=said + b"X-Forwarded-Host: a b\r\n"))
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 400 "))

    def test_malformed_request_is_answered_and_closed(self) -> None:
        """What is not strictly HTTP gets its status and a close; nothing reaches a connector."""
        self.bench.sends(self.client, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 400 Bad Request"))
        self.assertTrue(self.client.disconnecting)
        self.assertEqual(self.bench.pair.opener.streams, [])

    def test_ambiguous_path_is_400(self) -> None:
        """A path that origins read in different ways is refused before routing."""
        self.bench.sends(self.client, get(path=b"/a/%2e%2e/b"))
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 400"))

    def test_malformed_body_aborts_after_the_answer_began(self) -> None:
        """A broken chunk resets the stream; an answer that was begun is cut, never ended politely."""
        self.bench.sends(
            self.client,
            b"POST / HTTP/1.1\r\nHost: hr.example.com\r\n"
            + COOKIE
            + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        )
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", []))
        stream.write(b"begun")
        self.bench.pair.run()
        self.bench.sends(self.client, b"zz\r\n")
        self.assertTrue(self.client.aborted)
        self.assertEqual(len(self.bench.pair.opener.receivers[0].resets), 1)

    @pytest.mark.feature("HTTP-5")
    def test_slow_head_is_408(self) -> None:
        """D01: a head that is not complete in 30 s is answered 408 and closed."""
        self.client.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost:")
        self.bench.clock.advance(31)
        self.bench.settings.sweep()
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 408"))
        self.assertTrue(self.client.disconnecting)

    def test_silent_connection_is_closed(self) -> None:
        """D05: a connection that never says anything is closed without a word."""
        self.bench.clock.advance(31)
        self.bench.settings.sweep()
        self.assertEqual((self.client.take(), self.client.disconnecting), (b"", True))

    @pytest.mark.feature("HTTP-5")
    def test_slow_body_is_408(self) -> None:
        """D02: a body that stops coming for a minute ends the exchange; the connector hears of it."""
        self.bench.sends(
            self.client, b"POST / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + b"Content-Length: 10\r\n\r\nab"
        )
        self.bench.clock.advance(61)
        self.bench.settings.sweep()
        self.bench.pair.run()
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 408"))
        self.assertEqual(len(self.bench.pair.opener.receivers[0].resets), 1)

    def upload(self, more: bytes = b"", method: bytes = b"POST", length: int = 1_000_000) -> None:
        """Begin one."""
        head = method + b" / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + more
        self.bench.sends(self.client, head + b"Content-Length: %d\r\n\r\nab" % length)

    def passing(self, seconds: float) -> None:
        """Let time pass as the reactor does."""
        for _ in range(int(seconds)):
            self.bench.pair.run()
            self.bench.clock.advance(1)
            self.bench.settings.sweep()
        self.bench.pair.run()

    @pytest.mark.feature("HTTP-5")
    def test_trickling_body_is_408(self) -> None:
        """D02: a body that never stops but comes slower than the least rate is given up."""
        self.upload()
        for _ in range(5):
            self.passing(20)
            self.bench.sends(self.client, b"x" * 100)
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 408"))

    @pytest.mark.feature("HTTP-5")
    def test_slow_but_steady_body(self) -> None:
        """A slow client that keeps to the least rate may take as long as it likes."""
        self.upload()
        for _ in range(30):
            self.passing(20)
            self.bench.sends(self.client, b"x" * 240 * 20)
        self.assertEqual((self.client.take(), self.client.disconnecting), (b"", False))

    def test_no_least_rate(self) -> None:
        """The rate can be switched off; silence still counts."""
        self.bench.settings.patience = Patience(body_rate=0)
        self.upload()
        for _ in range(10):
            self.passing(50)
            self.bench.sends(self.client, b"x")
        self.assertEqual(self.client.take(), b"")
        self.passing(62)
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 408"))

    @pytest.mark.feature("HTTP-5")
    def test_body_that_nobody_takes(self) -> None:
        """The time in which the origin takes nothing is not the client's; then it counts again."""
        self.upload()
        self.client.pauseProducing()
        self.passing(600)
        self.assertEqual(self.client.take(), b"")
        self.client.resumeProducing()
        self.passing(62)
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 408"))

    @pytest.mark.feature("HTTP-5", "HTTP-3")
    def test_client_that_waits_for_100(self) -> None:
        """A client that waits to be asked for its body is not slow."""
        head = b"PUT / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE
        self.bench.sends(self.client, head + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n")
        self.passing(80)
        self.assertEqual(self.client.take(), b"")
        self.bench.pair.opener.streams[0].answer(ResponseHead(100, b"Continue", []), informational=True)
        self.passing(122)
        self.assertIn(b"HTTP/1.1 408", self.client.take())

    @pytest.mark.feature("HTTP-5")
    def test_body_of_an_answered_request(self) -> None:
        """Once the answer has begun the application's own limits count."""
        self.upload()
        self.bench.pair.opener.streams[0].answer(ResponseHead(200, b"OK", []))
        self.passing(600)
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 200"))
        self.assertFalse(self.client.aborted or self.client.disconnecting)

    @pytest.mark.feature("HTTP-5")
    def test_tunnels_may_be_silent(self) -> None:
        """SCN-5: halves of Remote Desktop Gateway's tunnels are not timed by the front."""
        for method in (b"RDG_IN_DATA", b"RPC_IN_DATA"):
            self.client = self.bench.client()
            self.upload(method=method, length=1 << 30)
            self.passing(600)
            self.assertEqual((self.client.take(), self.client.disconnecting), (b"", False))

    def test_pipelined_upload_has_its_own_time(self) -> None:
        """The time for a body begins with its head, also when that had come before the last answer."""
        head = b"POST / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + b"Content-Length: 10\r\n\r\n"
        self.bench.sends(self.client, get() + head)
        self.answer()
        self.client.take()
        self.passing(55)
        self.assertEqual(self.client.take(), b"")
        self.passing(10)
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 408"))

    def test_client_that_never_reads_is_cut_off(self) -> None:
        """D03: an answer that nobody reads for two minutes is given up."""
        self.bench.sends(self.client, get())
        self.client.producer.pauseProducing()
        self.bench.clock.advance(121)
        self.bench.settings.sweep()
        self.assertTrue(self.client.aborted)

    def test_waiting_for_the_origin_has_no_front_timer(self) -> None:
        """A whole request that waits for its origin is not timed by the front."""
        self.bench.sends(self.client, get())
        self.bench.clock.advance(3600)
        self.bench.settings.sweep()
        self.assertFalse(self.client.aborted or self.client.disconnecting)

    def test_client_that_goes_away_cancels(self) -> None:
        """C35: the stream of a client that went away is reset at once."""
        self.bench.sends(self.client, get())
        self.client.lose()
        self.bench.pair.run()
        self.assertEqual(self.bench.pair.opener.receivers[0].resets[0][0], 4)
        self.assertEqual(self.bench.records[0][4], "client-gone")

    def test_early_answer_to_an_upload(self) -> None:
        """An answer that ends before a long body came is delivered; the rest is not awaited and the connection ends."""
        self.bench.sends(
            self.client, b"POST / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + b"Content-Length: 9000000\r\n\r\nab"
        )
        self.answer(body=b"enough")
        self.assertIn(b"enough", self.client.take())
        self.assertTrue(self.client.disconnecting)

    def test_relay_reads_a_body_of_its_own(self) -> None:
        """The relay's own pages get the whole body, also when it comes late."""
        head = b"POST /x HTTP/1.1\r\nHost: proxy.example.com\r\nContent-Length: 6\r\n\r\nabc"
        self.bench.sends(self.client, head)
        self.bench.sends(self.client, b"def")
        self.assertTrue(self.client.take().endswith(b"own abcdef"))

    def test_relay_refuses_a_long_body_of_its_own(self) -> None:
        """A03: more than a page of the relay's own takes is 413, announced or not."""
        announced = b"POST /x HTTP/1.1\r\nHost: proxy.example.com\r\nContent-Length: 5000\r\n\r\n"
        self.bench.sends(self.client, announced)
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 413"))
        other = self.bench.client()
        self.bench.sends(other, b"POST /x HTTP/1.1\r\nHost: proxy.example.com\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.bench.sends(other, b"5dc\r\n" + b"x" * 1500 + b"\r\n")
        self.assertTrue(other.take().startswith(b"HTTP/1.1 413"))

    def test_expect_continue_waits_for_the_origin(self) -> None:
        """100-continue is the origin's to send; the relay passes it on."""
        self.bench.sends(
            self.client,
            b"PUT /f HTTP/1.1\r\nHost: hr.example.com\r\n"
            + COOKIE
            + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        )
        self.assertEqual(self.client.take(), b"")
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(100, b"Continue", []), informational=True)
        self.bench.pair.run()
        self.assertEqual(self.client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.bench.sends(self.client, b"abc")
        self.assertTrue(self.bench.pair.opener.receivers[0].ended)

    def test_half_closed_client_still_gets_its_answer(self) -> None:
        """A client that ends its half after a whole request reads the answer, then the connection closes."""
        self.bench.sends(self.client, get())
        self.client.protocol.readConnectionLost()
        self.answer()
        self.assertIn(b"hello", self.client.take())
        self.assertTrue(self.client.disconnecting)

    def test_half_closed_client_is_given_up_soon(self) -> None:
        """C35: a browser that closed its tab looks half-closed; its stream is reset at the next sweep."""
        self.bench.sends(self.client, get())
        self.bench.clock.advance(1)
        self.client.protocol.readConnectionLost()
        self.bench.settings.sweep()
        self.assertTrue(self.client.aborted)
        self.bench.aborted(self.client)
        self.bench.pair.run()
        self.assertEqual(self.bench.pair.opener.receivers[0].resets[0][0], 4)

    def test_gone_while_the_relay_reads_a_body(self) -> None:
        """A client that vanishes in the middle of a form of the relay's own is no failure of the relay's."""
        self.bench.sends(self.client, b"POST /x HTTP/1.1\r\nHost: proxy.example.com\r\nContent-Length: 9\r\n\r\nhalf")
        self.client.lose()
        self.assertEqual((len(self.bench.tasks), self.bench.records[0][4]), (0, "client-gone"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_continue_for_the_relays_own_pages(self) -> None:
        """A client that waits for 100 before it sends a form to the relay itself gets it, and then the page."""
        head = b"POST /x HTTP/1.1\r\nHost: proxy.example.com\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        self.bench.sends(self.client, head)
        self.assertEqual(self.client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.bench.sends(self.client, b"abc")
        self.assertTrue(self.client.take().endswith(b"own abc"))

    def test_half_closed_in_the_middle_of_a_request(self) -> None:
        """A client that ends its half before its request is whole has gone."""
        self.bench.sends(self.client, b"GET / HTTP/1.1\r\nHost:")
        self.client.protocol.readConnectionLost()
        self.assertTrue(self.client.disconnecting)

    def test_what_follows_nonsense_is_dropped(self) -> None:
        """What was no request is answered once and the connection closed; what still comes is not looked at."""
        self.bench.sends(self.client, b"nonsense\r\n\r\n")
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 400 "))
        self.bench.sends(self.client, get())
        self.assertEqual((self.client.take(), self.bench.pair.opener.streams), (b"", []))
        self.assertTrue(self.client.disconnecting)

    def test_seen_off(self) -> None:
        """When the relay stops, who has all answers is closed after the last octet, who still waits is cut off."""
        waiting = self.bench.client()
        self.bench.sends(waiting, get())
        for front in list(self.bench.settings.fronts):
            front.see_off()
        self.assertEqual((self.client.disconnecting, self.client.aborted), (True, False))
        self.assertTrue(waiting.aborted)
        self.assertEqual(len(self.bench.tasks), 0)
