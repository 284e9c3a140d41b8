"""Exchanges on a connection: both directions at once, every way an answer can begin and end, every timer."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire.frames import Code
from tests.connector.rig import HR, Rig

BIG = b"x" * 400_000


class AnswerTests(SynchronousTestCase):
    """How answers come."""

    def setUp(self) -> None:
        self.rig = Rig()

    @pytest.mark.feature("HTTP-3")
    def test_interim_answers_are_passed_on(self) -> None:
        """103 and 100 reach the client before the final answer, in order."""
        asking = self.rig.ask()
        self.rig.sockets[0].say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        heads = [(head.status, interim) for head, _end, interim, _upgrade in asking.answer.heads]
        self.assertEqual(heads, [(103, True), (102, True), (200, False)])
        self.assertTrue(asking.answer.ended)

    @pytest.mark.feature("HTTP-3")
    def test_trailers_pass_both_ways(self) -> None:
        """They follow the bodies they belong to."""
        asking = self.rig.ask(method=b"POST", end=False)
        asking.send(b"up")
        asking.finish((b"X-Sum", b"1"))
        self.assertTrue(self.rig.sockets[0].take().endswith(b"\r\n\r\n2\r\nup\r\n0\r\nX-Sum: 1\r\n\r\n"))
        self.rig.sockets[0].say(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndown\r\n0\r\nX-Sum: 2\r\n\r\n"
        )
        self.assertEqual((asking.answer.data, asking.answer.trailers), (b"down", [(b"X-Sum", b"2")]))

    @pytest.mark.feature("HTTP-2")
    def test_an_answer_may_begin_before_the_request_has_ended(self) -> None:
        """Both bodies flow at once."""
        asking = self.rig.ask(method=b"POST", end=False)
        asking.send(b"one")
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        self.assertEqual(asking.answer.data, b"first")
        self.rig.sockets[0].take()
        asking.send(b"two", end=True)
        self.assertEqual(self.rig.sockets[0].take(), b"3\r\ntwo\r\n0\r\n\r\n")
        self.rig.sockets[0].say(b"4\r\nlast\r\n0\r\n\r\n")
        self.assertEqual((asking.answer.data, asking.answer.ended), (b"firstlast", True))
        self.assertTrue(self.rig.sockets[0].open)

    @pytest.mark.feature("HTTP-2")
    def test_an_answer_may_end_before_the_request_has(self) -> None:
        """The rest of the request still goes to an origin that keeps listening; the connection lives on."""
        asking = self.rig.ask(method=b"POST", end=False)
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertTrue(asking.answer.ended)
        self.rig.sockets[0].take()
        asking.send(b"more", end=True)
        self.assertEqual(self.rig.sockets[0].take(), b"4\r\nmore\r\n0\r\n\r\n")
        self.rig.ask()
        self.assertEqual(len(self.rig.sockets), 1)

    def test_an_origin_that_answers_early_and_closes_costs_the_client_nothing(self) -> None:
        """The answer stands; what still comes of the request is dropped, and its credit given back."""
        asking = self.rig.ask(method=b"POST", end=False)
        asking.send(b"x")
        self.rig.sockets[0].say(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.rig.sockets[0].producer.pauseProducing()
        self.rig.sockets[0].lose()
        for _ in range(8):
            asking.send(BIG)
        asking.send(b"", end=True)
        self.assertEqual((asking.status, asking.reset, asking.stream.closed), (413, None, True))

    def test_a_body_may_end_with_the_connection(self) -> None:
        """HTTP/1.0 and Connection: close without a length."""
        asking = self.rig.ask()
        self.rig.sockets[0].say(b"HTTP/1.0 200 OK\r\n\r\nhello")
        self.rig.sockets[0].end()
        self.assertEqual((asking.answer.data, asking.answer.ended, asking.reset), (b"hello", True, None))
        self.assertFalse(self.rig.sockets[0].open)

    def test_a_truncated_body_is_no_clean_end(self) -> None:
        """C38: the client must see that something is missing."""
        for end in ("fin", "reset"):
            asking = self.rig.ask()
            socket = self.rig.sockets[-1]
            socket.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            socket.end() if end == "fin" else socket.lose(clean=False)
            self.assertEqual((asking.answer.ended, asking.reset), (False, Code.ORIGIN_BROKE_OFF))
            self.assertEqual(self.rig.records[-1][5], "origin-broke-off")

    def test_a_connection_that_dies_before_the_head_is_told_as_such(self) -> None:
        """No status is invented."""
        asking = self.rig.ask(method=b"POST", end=False)
        self.rig.sockets[0].lose(clean=False)
        self.assertEqual((asking.status, asking.reset), (0, Code.ORIGIN_BROKE_OFF))

    def test_what_is_not_strictly_http_is_refused(self) -> None:
        """Hostile origins: nothing that can be read in two ways goes on."""
        for octets in (
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\n b\r\n\r\n",
        ):
            asking = self.rig.ask()
            self.rig.sockets[-1].say(octets)
            self.assertEqual((asking.status, asking.reset), (0, Code.NOT_HTTP), octets)
            self.assertFalse(self.rig.sockets[-1].open)

    def test_a_length_said_twice_is_passed_once(self) -> None:
        """The same length several times is harmless, but only one goes on."""
        asking = self.rig.ask()
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual(asking.fields, [(b"Content-Length", b"2")])

    def test_answers_to_head_have_a_length_and_no_body(self) -> None:
        """The length says what a GET would bring."""
        asking = self.rig.ask(method=b"HEAD")
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        self.assertEqual((asking.fields, asking.answer.ended), ([(b"Content-Length", b"1000")], True))

    def test_a_request_body_of_known_length_is_sent_with_it(self) -> None:
        """It is not turned into a chunked one."""
        asking = self.rig.ask(b"/", (b"Content-Length", b"5"), method=b"PUT", end=False)
        asking.send(b"he")
        asking.send(b"llo", end=True)
        self.assertTrue(self.rig.sockets[0].take().endswith(b"\r\nContent-Length: 5\r\n\r\nhello"))

    def test_a_body_that_is_longer_than_its_length_is_cut_off(self) -> None:
        """The origin must never read the rest as another request."""
        asking = self.rig.ask(b"/", (b"Content-Length", b"2"), method=b"PUT", end=False)
        asking.send(b"okGET /secret HTTP/1.1\r\n\r\n")
        self.assertNotIn(b"secret", self.rig.sockets[0].take())
        self.assertFalse(self.rig.sockets[0].open)
        self.assertIsNotNone(asking.reset)

    def test_an_empty_body_keeps_its_length(self) -> None:
        """Some origins insist on it for POST."""
        self.rig.ask(b"/", (b"Content-Length", b"0"), method=b"POST")
        self.assertTrue(self.rig.sockets[0].take().endswith(b"\r\nContent-Length: 0\r\n\r\n"))


class PaceTests(SynchronousTestCase):
    """Nothing is buffered: the slower side sets the pace."""

    def setUp(self) -> None:
        self.rig = Rig()

    def test_an_origin_is_not_read_while_the_relay_gives_no_credit(self) -> None:
        """C09: a client that stops reading stops the origin."""
        asking = self.rig.ask(greedy=False)
        socket = self.rig.sockets[0]
        socket.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        socket.say(BIG)
        self.assertTrue(socket.paused)
        self.rig.advance(600)
        self.assertIsNone(asking.reset)
        asking.answer.greedy = True
        asking.stream.consumed(len(asking.answer.data))
        self.rig.pair.run()
        self.assertFalse(socket.paused)
        socket.say(BIG)
        self.rig.pair.run()
        socket.say(b"x" * 200_000)
        self.assertEqual((len(asking.answer.data), asking.answer.ended), (1_000_000, True))

    def test_credit_for_a_body_is_given_back_as_the_origins_socket_takes_it(self) -> None:
        """A slow origin stops the client, whose octets stay where they are."""
        asking = self.rig.ask(method=b"POST", end=False)
        socket = self.rig.sockets[0]
        socket.take()
        socket.producer.pauseProducing()
        for _ in range(4):
            asking.send(BIG)
        arrived = len(socket.take())
        self.assertLess(arrived, 300_000)
        self.rig.pair.run()
        self.assertEqual(socket.take(), b"")
        socket.producer.resumeProducing()
        self.rig.pair.run()
        self.assertGreater(len(socket.take()), 0)

    def test_a_body_waits_for_its_connection_within_its_credit(self) -> None:
        """Until the origin is reached nothing more than a window is held."""
        self.rig.hold_dials = True
        asking = self.rig.ask(method=b"POST", end=False)
        for _ in range(4):
            asking.send(BIG)
        (carriage,) = self.rig.serving.journeys
        self.assertEqual(sum(map(len, carriage._held)), 256 * 1024)
        self.rig.dials[0].callback(None)
        asking.send(b"", end=True)
        self.assertEqual(self.rig.sockets[0].take().count(b"x"), 1_600_000)

    def test_a_connection_that_was_held_back_is_read_again_by_the_next_request(self) -> None:
        """The pause belongs to the exchange, not to the connection."""
        self.rig.ask(greedy=False)
        socket = self.rig.sockets[0]
        socket.say(b"HTTP/1.1 200 OK\r\nContent-Length: 400001\r\n\r\n")
        socket.say(BIG)
        self.assertTrue(socket.paused)
        socket.protocol.dataReceived(b"x")  # TLS had decrypted it already
        self.assertFalse(socket.paused)
        second = self.rig.ask()
        socket.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual(second.answer.data, b"ok")


class TimerTests(SynchronousTestCase):
    """HTTP-5: an origin has its time for each step, and no longer."""

    def setUp(self) -> None:
        self.rig = Rig({**HR, "timeouts": {"first_byte": "10s", "idle": "20s", "upgraded_idle": "30s"}})

    @pytest.mark.feature("HTTP-5")
    def test_no_head_in_time(self) -> None:
        """504, never early, at most two seconds late."""
        asking = self.rig.ask()
        self.rig.advance(10)
        self.assertIsNone(asking.reset)
        self.rig.advance(2)
        self.assertEqual(asking.reset, Code.FIRST_BYTE)
        self.assertFalse(self.rig.sockets[0].open)
        self.assertEqual(self.rig.records[-1][5], "origin-timeout")

    def test_the_first_byte_timer_starts_when_the_request_is_complete(self) -> None:
        """A slow upload is not the origin's fault."""
        asking = self.rig.ask(method=b"POST", end=False)
        for _ in range(4):
            self.rig.advance(15)
            asking.send(b"x")
        self.assertIsNone(asking.reset)
        asking.send(b"x", end=True)
        self.rig.advance(10)
        self.assertIsNone(asking.reset)
        self.rig.advance(2)
        self.assertEqual(asking.reset, Code.FIRST_BYTE)

    @pytest.mark.feature("HTTP-5")
    def test_silence_in_the_body(self) -> None:
        """Each octet starts the idle timer again."""
        asking = self.rig.ask()
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\na")
        self.rig.advance(19)
        self.rig.sockets[0].say(b"b")
        self.rig.advance(20)
        self.assertIsNone(asking.reset)
        self.rig.advance(2)
        self.assertEqual(asking.reset, Code.IDLE)

    @pytest.mark.feature("HTTP-5")
    def test_silence_of_an_upgraded_stream(self) -> None:
        """Traffic in either direction keeps it."""
        asking = self.rig.ask(b"/", (b"Upgrade", b"websocket"), end=False, upgrade=True)
        socket = self.rig.sockets[0]
        socket.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.rig.advance(25)
        asking.send(b"x")
        self.rig.advance(25)
        socket.say(b"y")
        self.rig.advance(29)
        self.assertIsNone(asking.reset)
        self.rig.advance(3)
        self.assertEqual(asking.reset, Code.IDLE)
        self.assertFalse(socket.open)

    @pytest.mark.feature("HTTP-5")
    def test_interim_answers_begin_the_wait_anew(self) -> None:
        """A 102 says that the origin works on it; half a head says nothing."""
        asking = self.rig.ask()
        socket = self.rig.sockets[0]
        self.rig.advance(9)
        socket.say(b"HTTP/1.1 102 Processing\r\n\r\n")
        self.rig.advance(9)
        socket.say(b"HTTP/1.1 200")
        self.assertIsNone(asking.reset)
        self.rig.advance(3)
        self.assertEqual(asking.reset, Code.FIRST_BYTE)

    @pytest.mark.feature("HTTP-5")
    def test_no_limit_in_all(self) -> None:
        """While something moves an exchange may take for ever, unless its application says otherwise."""
        asking = self.rig.ask()
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            self.rig.advance(18)
            self.rig.sockets[0].say(b"1\r\nx\r\n")
        self.assertIsNone(asking.reset)


class TotalTests(SynchronousTestCase):
    """The limit of a whole exchange."""

    def setUp(self) -> None:
        self.rig = Rig({**HR, "timeouts": {"total": "30s"}})

    @pytest.mark.feature("HTTP-5")
    def test_in_each_phase(self) -> None:
        """Waiting for a connection, for the head, in the request's body, in the answer's: it is over, and says why."""
        for how, said in (
            ({}, b""),
            ({"method": b"POST", "end": False}, b""),
            ({}, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ({"dial": "held"}, b""),
        ):
            with self.subTest(how=how, said=said):
                self.setUp()
                self.rig.hold_dials = "dial" in how
                asking = self.rig.ask(**{key: value for key, value in how.items() if key != "dial"})  # type: ignore[arg-type]
                for _ in range(5):
                    self.rig.advance(6)
                    if said:
                        self.rig.sockets[0].say(said)
                        said = b"1\r\nx\r\n"
                self.assertIsNone(asking.reset)
                self.rig.advance(2)
                self.assertEqual((asking.reset, self.rig.records[-1][5]), (Code.TOTAL, "exchange-timeout"))
                self.assertFalse([socket for socket in self.rig.sockets if socket.open])

    @pytest.mark.feature("HTTP-5")
    def test_nothing_of_it_stays(self) -> None:
        """An exchange that is over does not end the next one on its connection."""
        for _ in range(4):
            asking = self.rig.ask()
            self.rig.advance(25)
            self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            self.assertEqual((asking.status, asking.reset), (200, None))
        self.assertEqual(len(self.rig.sockets), 1)

    @pytest.mark.feature("HTTP-5")
    def test_not_for_pipes(self) -> None:
        """What was upgraded lives as long as it is not idle."""
        asking = self.rig.ask(b"/", (b"Upgrade", b"websocket"), end=False, upgrade=True)
        self.rig.sockets[0].say(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.rig.advance(100)
        self.assertIsNone(asking.reset)
