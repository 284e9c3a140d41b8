"""Which connection carries a request, and what becomes of it afterwards."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector import pool
from appproxy.net.failures import ConnectFailed, ConnectTimedOut, DnsFailed, TlsFailed
from appproxy.wire.frames import Code
from tests.connector.rig import HR, OriginSocket, Rig

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OTHER = {**HR, "id": "other", "external_url": "https://other.example.com/"}


class PoolTests(SynchronousTestCase):
    """Kept, lent, dropped."""

    def setUp(self) -> None:
        self.rig = Rig(HR, OTHER)

    def idle(self, count: int) -> list[OriginSocket]:
        """Leave so many connections idle, the first one used last."""
        for _ in range(count):
            self.rig.ask()
        for socket in reversed(self.rig.sockets):
            socket.say(OK)
            socket.take()
        return self.rig.sockets

    @pytest.mark.feature("HTTP-1")
    def test_the_connection_used_last_is_used_next(self) -> None:
        """The others can grow old."""
        first, second, third = self.idle(3)
        self.rig.ask()
        self.assertEqual([bool(socket.take()) for socket in (first, second, third)], [True, False, False])
        self.rig.ask()
        self.assertEqual([bool(socket.take()) for socket in (first, second, third)], [False, True, False])

    def test_applications_share_no_connections(self) -> None:
        """C36: the same origin, another application, another connection."""
        self.idle(1)
        self.rig.ask(application="other", host="other.example.com")
        self.assertEqual(len(self.rig.sockets), 2)
        self.assertEqual(self.rig.sockets[0].take(), b"")

    def test_idle_connections_are_closed_after_a_minute(self) -> None:
        """Before common servers do."""
        (socket,) = self.idle(1)
        self.rig.advance(60)
        self.assertTrue(socket.open)
        self.rig.advance(2)
        self.assertFalse(socket.open)
        self.rig.ask()
        self.assertEqual(len(self.rig.sockets), 2)

    def test_a_connection_that_the_origin_closed_is_not_used(self) -> None:
        """Whether by FIN or by reset."""
        first, second = self.idle(2)
        first.end()
        second.lose()
        self.rig.ask()
        self.assertEqual(len(self.rig.sockets), 3)

    def test_an_idle_connection_must_not_speak(self) -> None:
        """Whatever it says would be read as the answer to somebody's next request."""
        (socket,) = self.idle(1)
        socket.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
        self.assertFalse(socket.open)
        asking = self.rig.ask()
        self.assertEqual((len(self.rig.sockets), asking.status), (2, 0))

    def test_an_answer_with_more_behind_it_spoils_the_connection(self) -> None:
        """The rest was not asked for."""
        asking = self.rig.ask()
        self.rig.sockets[0].say(OK + b"HTTP/1.1 200 OK\r\n")
        self.assertEqual(asking.answer.data, b"ok")
        self.assertFalse(self.rig.sockets[0].open)

    def test_connection_close_is_obeyed(self) -> None:
        """Such a connection is closed, not kept."""
        self.rig.ask()
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(self.rig.sockets[0].closing)

    def test_a_stale_connection_is_replaced_once(self) -> None:
        """A repeatable request on a connection that died without a word goes again, on a new one."""
        first, _second = self.idle(2)
        asking = self.rig.ask()
        first.lose()
        self.assertEqual(len(self.rig.sockets), 3)
        self.rig.sockets[2].say(OK)
        self.assertEqual(asking.answer.data, b"ok")

    def test_it_is_not_replaced_twice(self) -> None:
        """An origin that closes on a request is not asked for ever."""
        (first,) = self.idle(1)
        asking = self.rig.ask()
        first.lose()
        self.rig.sockets[1].lose()
        self.assertEqual((len(self.rig.sockets), asking.reset), (2, Code.ORIGIN_BROKE_OFF))

    def test_what_may_not_be_repeated_is_not(self) -> None:
        """C33: POST, a body, a first octet of an answer, a fresh connection: each forbids it."""
        for ask, say in (
            ({"method": b"POST"}, b""),
            ({"method": b"PUT", "end": False}, b""),
            ({}, b"HTTP"),
        ):
            with self.subTest(ask=ask, say=say):
                self.rig = Rig(HR, OTHER)
                (socket,) = self.idle(1)
                asking = self.rig.ask(**ask)
                if say:
                    socket.say(say)
                socket.lose()
                self.assertEqual((len(self.rig.sockets), asking.reset), (1, Code.ORIGIN_BROKE_OFF))
        self.rig = Rig()
        asking = self.rig.ask()
        self.rig.sockets[0].lose()
        self.assertEqual((len(self.rig.sockets), asking.reset), (1, Code.ORIGIN_BROKE_OFF))

    def test_failures_to_connect_have_their_own_codes(self) -> None:
        """Phase by phase; hosts and addresses stay inside."""
        for problem, code, cause in (
            (DnsFailed("hr.corp.local: unknown"), Code.DNS, "origin-unresolved"),
            (ConnectFailed("10.0.0.1: refused"), Code.CONNECT, "origin-refused"),
            (ConnectTimedOut("10.0.0.1: no answer"), Code.CONNECT_TIMEOUT, "origin-connect-timeout"),
            (TlsFailed("hr.corp.local: expired"), Code.TLS, "origin-tls"),
        ):
            self.rig.refusals.append(problem)
            asking = self.rig.ask()
            self.assertEqual(asking.reset, code)
            self.assertNotIn("corp", asking.answer.resets[0][1])
            self.assertNotIn("10.0", asking.answer.resets[0][1])
            self.assertEqual(self.rig.records[-1][5], cause)

    def test_a_failed_dial_fails_whoever_waits_longest(self) -> None:
        """One failure for one dial; nobody is left waiting for a connection that nobody makes."""
        self.rig.hold_dials = True
        askings = [self.rig.ask() for _ in range(3)]
        self.rig.refusals = [ConnectFailed("refused")] * 2
        self.rig.dials[0].callback(None)
        self.assertEqual([asking.reset for asking in askings], [Code.CONNECT, None, None])
        self.rig.dials[2].callback(None)
        self.rig.dials[1].callback(None)
        self.assertEqual([asking.reset for asking in askings], [Code.CONNECT, Code.CONNECT, None])
        self.assertTrue(self.rig.sockets[0].take())

    def test_a_request_takes_the_first_connection_that_becomes_free(self) -> None:
        """Be it the one that is dialled for it or another's; the other waits, idle."""
        self.idle(1)
        self.rig.ask()
        self.rig.hold_dials = True
        second = self.rig.ask()
        self.rig.sockets[0].say(OK)
        self.rig.sockets[0].say(OK)
        self.assertEqual(second.answer.data, b"ok")
        self.rig.dials[-1].callback(None)
        self.assertTrue(self.rig.sockets[1].open)


class CrowdTests(SynchronousTestCase):
    """More requests than connections."""

    def setUp(self) -> None:
        self.patch(pool, "MAX_CONNECTIONS", 2)
        self.rig = Rig()

    def test_requests_wait_in_order(self) -> None:
        """No more connections than allowed; first come, first served."""
        for number in range(4):
            self.rig.ask(b"/%d" % number)
        first, second = self.rig.sockets
        second.say(OK)
        first.say(OK)
        self.assertIn(b"GET /2 ", second.take())
        self.assertIn(b"GET /3 ", first.take())

    def test_a_lost_connection_makes_room(self) -> None:
        """Whoever waits gets a new one."""
        for number in range(3):
            self.rig.ask(b"/%d" % number)
        self.rig.sockets[0].lose()
        self.assertIn(b"GET /2 ", self.rig.sockets[2].take())

    def test_failed_dials_leave_nobody_waiting(self) -> None:
        """Whoever was not dialled for yet is dialled for then."""
        self.rig.hold_dials = True
        askings = [self.rig.ask(b"/%d" % number) for number in range(3)]
        self.rig.refusals = [ConnectFailed("refused")] * 2
        self.rig.dials[0].callback(None)
        self.rig.dials[1].callback(None)
        self.assertEqual([asking.reset for asking in askings], [Code.CONNECT, Code.CONNECT, None])
        self.rig.dials[2].callback(None)
        self.assertIn(b"GET /2 ", self.rig.sockets[0].take())

    def test_waiting_has_an_end(self) -> None:
        """An origin whose connections all stay busy is too slow."""
        slow = [self.rig.ask(), self.rig.ask()]
        for socket in self.rig.sockets:
            socket.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        waiting = self.rig.ask()
        for _ in range(9):
            self.rig.advance(10)
            for socket in self.rig.sockets:
                socket.say(b"1\r\nx\r\n")
        self.assertEqual(([asking.reset for asking in slow], waiting.reset), ([None, None], Code.CONNECT_TIMEOUT))
        self.assertEqual(self.rig.records[-1][5], "origin-busy")

    def test_whoever_gives_up_leaves_the_queue(self) -> None:
        """The next one moves up."""
        askings = [self.rig.ask(b"/%d" % number) for number in range(4)]
        askings[2].stream.reset(Code.CANCELLED)
        self.rig.pair.run()
        self.rig.sockets[0].say(OK)
        self.assertIn(b"GET /3 ", self.rig.sockets[0].take())
