"""A client's connection, as a script: what is heard, what is told, what is sent."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.limits import Limits
from appproxy.http.messages import LengthMismatch, OutOfTurn, UnsafeHead
from appproxy.http.serving import (
    BadRequest,
    BodyReceived,
    Event,
    RequestBegun,
    RequestEnded,
    ServerConversation,
)

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n"
UPGRADE = b"RDG_OUT_DATA /r HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A POST with a good Host."""
    return b"POST /p HTTP/1.1\r\nHost: a.test\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


class Base(SynchronousTestCase):
    """One conversation each."""

    def setUp(self) -> None:
        """A connection by TLS."""
        self.conversation = ServerConversation()

    def begun(self, octets: bytes) -> RequestBegun:
        """Hear exactly one request's head."""
        (event,) = self.conversation.receive(octets)
        assert isinstance(event, RequestBegun)
        return event

    def whole(self, status: int = 200, body: bytes = b"hi") -> bytes:
        """Answer."""
        return self.conversation.whole(status, b"OK", [(b"A", b"b")], body)


class ReadingTests(Base):
    """Requests told."""

    @pytest.mark.feature("HTTP-2")
    def test_head_is_told_as_it_came(self) -> None:
        """Any method, the target's octets, the fields' order, case and duplicates."""
        begun = self.begun(b"RPC_IN_DATA /a%2Fb|?? HTTP/1.1\r\nx: 1\r\nHost: A.test:443\r\nX: 2\r\n\r\n")
        head = begun.head
        self.assertEqual(
            (head.method, head.target, head.version, head.host), (b"RPC_IN_DATA", b"/a%2Fb|??", (1, 1), b"A.test:443")
        )
        self.assertEqual(head.fields, [(b"x", b"1"), (b"Host", b"A.test:443"), (b"X", b"2")])
        self.assertEqual(head.known, {b"x": [b"1", b"2"], b"host": [b"A.test:443"]})
        self.assertTrue(begun.ended)

    def test_one_empty_line_is_forgiven(self) -> None:
        """Old clients send one after a body."""
        self.assertTrue(self.begun(b"\r\n" + GET).ended)

    @pytest.mark.feature("HTTP-6")
    def test_limits_are_inclusive(self) -> None:
        """What is just within them passes."""
        self.assertEqual(len(self.begun(GET[:-2] + b"X: y\r\n" * 199 + b"\r\n").head.fields), 200)
        self.whole()
        self.conversation.next_request()
        target = b"/" + b"a" * (32 * 1024 - 1)
        self.assertEqual(self.begun(GET.replace(b"/ ", target + b" ")).head.target, target)

    def test_limits_are_settings(self) -> None:
        """A relay may be stricter."""
        for limits, status in ((Limits(head=20), 431), (Limits(fields=0), 431), (Limits(target=0), 414)):
            with self.assertRaises(BadRequest) as refused:
                ServerConversation(limits).receive(GET)
            self.assertEqual(refused.exception.status, status)

    def test_absolute_form_becomes_origin_form(self) -> None:
        """N13: with the authority of Host, and only then (the corpus has the others)."""
        for secure, target, expected in (
            (True, b"https://A.TEST:443/x?y", b"/x?y"),
            (True, b"HTTPS://a.test", b"/"),
            (True, b"https://a.test?y", b"/?y"),
            (False, b"http://a.test:80/x", b"/x"),
        ):
            (event,) = ServerConversation(secure=secure).receive(GET.replace(b"/ ", target + b" ", 1))
            assert isinstance(event, RequestBegun)
            self.assertEqual(event.head.target, expected)

    def test_asterisk_form(self) -> None:
        """OPTIONS asks about the server as a whole, in either form."""
        for target in (b"*", b"https://a.test"):
            (event,) = ServerConversation().receive(b"OPTIONS %b HTTP/1.1\r\nHost: a.test\r\n\r\n" % target)
            assert isinstance(event, RequestBegun)
            self.assertEqual(event.head.target, b"*")

    @pytest.mark.feature("HTTP-2")
    def test_body_of_known_length(self) -> None:
        """Octets pass as they come, without a copy of a part that is all body."""
        begun = self.begun(post(b"Content-Length: 5"))
        self.assertEqual((begun.ended, begun.length, begun.chunked), (False, 5, False))
        part = b"hel"
        (event,) = self.conversation.receive(part)
        assert isinstance(event, BodyReceived)
        self.assertIs(event.data, part)
        self.assertEqual(self.conversation.receive(b"loGET"), [BodyReceived(b"lo"), RequestEnded()])
        self.assertEqual(self.conversation.buffered, 3)

    def test_length_of_nothing(self) -> None:
        """No body is to come, though it was announced."""
        begun = self.begun(post(b"Content-Length: 0"))
        self.assertEqual((begun.ended, begun.length), (True, 0))

    @pytest.mark.feature("HTTP-3")
    def test_chunked_body(self) -> None:
        """Chunks are joined, extensions dropped, trailers told."""
        events = self.conversation.receive(
            post(b"Transfer-Encoding: Chunked", body=b"5;x\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n")
        )
        begun, *rest = events
        assert isinstance(begun, RequestBegun)
        self.assertEqual((begun.ended, begun.length, begun.chunked), (False, None, True))
        self.assertEqual(rest, [BodyReceived(b"hello!"), RequestEnded([(b"A", b"b")])])

    def test_unfinished_chunk_tells_nothing(self) -> None:
        """An event means something has come."""
        self.begun(post(b"Transfer-Encoding: chunked"))
        self.assertEqual(self.conversation.receive(b"5\r\n"), [])

    @pytest.mark.feature("HTTP-3")
    def test_expectation(self) -> None:
        """Told when a body is to come; HTTP/1.0 and empty requests expect nothing."""
        self.assertTrue(self.begun(post(b"Expect: 100-Continue", b"Content-Length: 5")).expect_continue)
        for octets in (post(b"Expect: 100-continue"), OLD[:-2] + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"):
            (event,) = ServerConversation().receive(octets)
            assert isinstance(event, RequestBegun)
            self.assertFalse(event.expect_continue)

    @pytest.mark.feature("HTTP-4")
    def test_upgrade(self) -> None:
        """A proper offer with any method is told, also with a body of nothing."""
        self.assertTrue(self.begun(UPGRADE).upgrade)
        (event,) = ServerConversation().receive(UPGRADE[:-2] + b"Content-Length: 0\r\n\r\n")
        assert isinstance(event, RequestBegun)
        self.assertTrue(event.upgrade)

    def test_ignored_offers_may_have_bodies(self) -> None:
        """Some clients offer h2c with everything."""
        begun = self.begun(post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: 1"))
        self.assertFalse(begun.upgrade)

    def test_idle(self) -> None:
        """Between requests the connection may be closed without a word."""
        self.assertTrue(self.conversation.idle)
        self.conversation.receive(GET[:5])
        self.assertFalse(self.conversation.idle)
        self.conversation.receive(GET[5:])
        self.assertFalse(self.conversation.idle)
        self.whole()
        self.assertEqual(self.conversation.next_request(), [])
        self.assertTrue(self.conversation.idle)


class PipeliningTests(Base):
    """One request at a time."""

    def test_next_request_waits_for_the_answer(self) -> None:
        """D08: what follows is held unread, and counted."""
        self.begun(GET + GET)
        self.assertEqual(self.conversation.receive(b"GET /3"), [])
        self.assertEqual(self.conversation.buffered, len(GET) + 6)
        self.whole()
        (event,) = self.conversation.next_request()
        self.assertIsInstance(event, RequestBegun)
        self.whole()
        self.assertEqual(self.conversation.next_request(), [])
        self.assertEqual(self.conversation.buffered, 6)

    def test_nothing_follows_close(self) -> None:
        """After ``Connection: close`` nothing more is read."""
        self.begun(GET[:-2] + b"Connection: x, close\r\n\r\n" + GET)
        self.assertIn(b"Connection: close\r\n", self.whole())
        self.assertFalse(self.conversation.keep_alive)
        self.assertEqual(self.conversation.next_request(), [])
        self.assertEqual((self.conversation.receive(GET), self.conversation.buffered), ([], 0))

    def test_malformed_second_request(self) -> None:
        """The first one is served, the second refused."""
        self.begun(GET + b"nonsense\r\n\r\n")
        self.whole()
        with self.assertRaises(BadRequest):
            self.conversation.next_request()
        self.assertIn(b"Connection: close\r\n", self.whole(400))

    def test_short_rest_of_a_request_is_dropped(self) -> None:
        """An answer that came before the body's end leaves the connection alive when little is missing."""
        self.begun(post(b"Content-Length: 5"))
        self.conversation.receive(b"h")
        self.whole()
        self.assertTrue(self.conversation.keep_alive)
        self.assertEqual(self.conversation.next_request(), [])
        self.assertEqual(self.conversation.receive(b"el"), [])
        (event,) = self.conversation.receive(b"lo" + GET)
        self.assertIsInstance(event, RequestBegun)
        self.whole()
        self.assertEqual(self.conversation.next_request(), [])

    def test_short_rest_ends_between_segments(self) -> None:
        """The same, when the next request comes later."""
        self.begun(post(b"Content-Length: 5"))
        self.whole()
        self.conversation.next_request()
        self.assertEqual(self.conversation.receive(b"hello"), [])
        self.begun(GET)

    def test_long_rest_of_a_request_closes(self) -> None:
        """Much, or of unknown length: the connection is not worth it."""
        for octets in (post(b"Content-Length: 65537"), post(b"Transfer-Encoding: chunked")):
            conversation = ServerConversation()
            conversation.receive(octets)
            conversation.whole(200, b"OK", [], b"")
            self.assertFalse(conversation.keep_alive)

    def test_unanswered_expectation_closes(self) -> None:
        """Nobody knows whether the client sends the body now."""
        self.begun(post(b"Expect: 100-continue", b"Content-Length: 5"))
        self.assertIn(b"Connection: close\r\n", self.whole(403))
        self.assertFalse(self.conversation.keep_alive)

    def test_answered_expectation_does_not(self) -> None:
        """After 100 the body comes."""
        self.begun(post(b"Expect: 100-continue", b"Content-Length: 5"))
        self.assertEqual(self.conversation.informational(100, b"Continue"), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.conversation.receive(b"hello")
        self.assertNotIn(b"Connection", self.whole())
        self.assertTrue(self.conversation.keep_alive)


class AnswerTests(Base):
    """Answers written."""

    def test_whole(self) -> None:
        """Head and body in one."""
        self.begun(GET)
        self.assertEqual(self.whole(), b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nhi")
        self.assertTrue(self.conversation.keep_alive)

    @pytest.mark.feature("HTTP-2")
    def test_known_length(self) -> None:
        """The body passes as it is."""
        self.begun(GET)
        self.assertEqual(self.conversation.begin(200, b"OK", [], 4), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        self.assertFalse(self.conversation.keep_alive)
        self.assertEqual([self.conversation.body(b"ab"), self.conversation.body(b"cd")], [b"ab", b"cd"])
        self.assertEqual(self.conversation.end([(b"A", b"b")]), b"")
        self.assertTrue(self.conversation.keep_alive)

    @pytest.mark.feature("HTTP-3")
    def test_unknown_length(self) -> None:
        """Chunked, with trailers."""
        self.begun(GET)
        self.assertEqual(self.conversation.begin(200, b"", []), b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertEqual(self.conversation.body(b"ab"), b"2\r\nab\r\n")
        self.assertEqual(self.conversation.end([(b"A", b"b")]), b"0\r\nA: b\r\n\r\n")
        self.assertTrue(self.conversation.keep_alive)

    @pytest.mark.feature("HTTP-1")
    def test_old_clients_are_told_by_closing(self) -> None:
        """HTTP/1.0 knows no chunks."""
        self.begun(OLD[:-2] + b"Connection: keep-alive\r\n\r\n")
        self.assertEqual(self.conversation.begin(200, b"OK", []), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        self.assertEqual(self.conversation.body(b"ab") + self.conversation.end(), b"ab")
        self.assertFalse(self.conversation.keep_alive)

    @pytest.mark.feature("HTTP-1")
    def test_old_clients_are_kept_on_request(self) -> None:
        """HTTP/1.0 closes unless told otherwise by both."""
        self.begun(OLD[:-2] + b"Connection: Keep-Alive\r\n\r\n")
        self.assertIn(b"Connection: keep-alive\r\n", self.whole())
        self.assertTrue(self.conversation.keep_alive)
        self.conversation.next_request()
        self.begun(OLD)
        self.assertIn(b"Connection: close\r\n", self.whole())
        self.assertFalse(self.conversation.keep_alive)

    def test_head_has_no_body(self) -> None:
        """The length is told, the body not sent."""
        self.begun(HEAD)
        self.assertEqual(self.whole(), b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n")
        self.conversation.next_request()
        self.begun(HEAD)
        self.assertEqual(self.conversation.begin(200, b"OK", []), b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(self.conversation.body(b"hi") + self.conversation.end(), b"")
        self.assertTrue(self.conversation.keep_alive)

    def test_statuses_without_body(self) -> None:
        """204 has no length either; 304 may have one."""
        self.begun(GET)
        self.assertEqual(self.whole(204, b""), b"HTTP/1.1 204 OK\r\nA: b\r\n\r\n")
        self.conversation.next_request()
        self.begun(GET)
        self.assertEqual(self.conversation.begin(304, b"", [], 7), b"HTTP/1.1 304 \r\nContent-Length: 7\r\n\r\n")
        self.assertEqual(self.conversation.end(), b"")
        self.assertTrue(self.conversation.keep_alive)

    @pytest.mark.feature("HTTP-3")
    def test_interim_answers(self) -> None:
        """They go before the final one, and not to HTTP/1.0 clients."""
        self.begun(GET)
        early = self.conversation.informational(103, b"Early Hints", [(b"Link", b"</a>")])
        self.assertEqual(early, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        self.whole()
        self.conversation.next_request()
        self.begun(OLD)
        self.assertEqual(self.conversation.informational(103, b"Early Hints"), b"")

    @pytest.mark.feature("HTTP-2")
    def test_answer_before_the_request_ends(self) -> None:
        """Both directions at once."""
        self.begun(post(b"Content-Length: 4"))
        self.conversation.begin(200, b"OK", [], 4)
        self.conversation.receive(b"ab")
        self.assertEqual(self.conversation.body(b"ab"), b"ab")
        self.assertEqual(self.conversation.receive(b"cd"), [BodyReceived(b"cd"), RequestEnded()])
        self.assertEqual(self.conversation.body(b"cd") + self.conversation.end(), b"cd")
        self.assertTrue(self.conversation.keep_alive)

    def test_malformed_body_ends_everything(self) -> None:
        """The answer that had begun is the last."""
        self.begun(post(b"Transfer-Encoding: chunked"))
        self.conversation.begin(200, b"OK", [], 0)
        with self.assertRaises(BadRequest):
            self.conversation.receive(b"x")
        self.conversation.end()
        self.assertFalse(self.conversation.keep_alive)

    def test_wrong_lengths_are_refused(self) -> None:
        """C38: the caller aborts instead."""
        self.begun(GET)
        self.conversation.begin(200, b"OK", [], 4)
        with self.assertRaises(LengthMismatch):
            self.conversation.end()
        with self.assertRaises(LengthMismatch):
            self.conversation.body(b"12345")

    def test_unsafe_heads_are_refused(self) -> None:
        """Nothing has been written then, and another answer may be."""
        self.begun(GET)
        with self.assertRaises(UnsafeHead):
            self.conversation.begin(200, b"OK", [(b"a", b"b\r\nc: d")])
        self.assertIn(b"502", self.whole(502))

    def test_parts_out_of_turn_are_refused(self) -> None:
        """These are faults of the caller."""
        self.begun(GET)
        turns = self.conversation
        for call in (
            lambda: turns.body(b""),
            lambda: turns.end(),
            lambda: turns.informational(101, b""),
            lambda: turns.informational(200, b""),
            lambda: turns.begin(101, b""),
        ):
            self.assertRaises(OutOfTurn, call)
        self.whole()
        self.assertRaises(OutOfTurn, self.whole)
        self.assertRaises(OutOfTurn, turns.informational, 100, b"")

    def test_answer_without_request(self) -> None:
        """A client that sends nothing may be told so; then the connection ends."""
        self.assertEqual(
            self.conversation.informational(100, b"") + self.whole(408, b""),
            b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 408 OK\r\nA: b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        )
        self.assertFalse(self.conversation.keep_alive)


class UpgradeTests(Base):
    """Other protocols."""

    @pytest.mark.feature("HTTP-4")
    def test_switching(self) -> None:
        """C37: what the client sent early is the first of the other protocol."""
        self.begun(UPGRADE + b"early")
        self.assertEqual(
            self.conversation.begin(101, b"Switching Protocols", [(b"Upgrade", b"websocket"), (b"Set-Cookie", b"a=b")]),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSet-Cookie: a=b\r\nConnection: Upgrade\r\n\r\n",
        )
        self.assertEqual(self.conversation.receive(b"+"), [])
        self.assertEqual(self.conversation.upgraded(), b"early+")
        self.assertEqual(self.conversation.upgraded(), b"")
        self.assertFalse(self.conversation.keep_alive)

    def test_refused_after_early_octets(self) -> None:
        """C37: without 101, what came early is neither tunnelled nor taken for a request."""
        self.begun(UPGRADE + GET)
        self.assertIn(b"Connection: close\r\n", self.whole(403))
        self.assertEqual(self.conversation.next_request(), [])

    def test_refused(self) -> None:
        """Without early octets the connection lives on."""
        self.begun(UPGRADE)
        self.whole(403)
        self.assertTrue(self.conversation.keep_alive)


class EventTests(SynchronousTestCase):
    """What is told."""

    def test_events_compare_by_value(self) -> None:
        """So that tests can be written as scripts."""
        events: list[Event] = [BodyReceived(b"a"), RequestEnded()]
        self.assertEqual(events, [BodyReceived(b"a"), RequestEnded(())])
        self.assertNotEqual(BodyReceived(b"a"), BodyReceived(b"b"))
