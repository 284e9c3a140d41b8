"""A connection to an origin, as a script."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.limits import Limits
from appproxy.http.messages import Field, LengthMismatch, OutOfTurn, UnsafeHead
from appproxy.http.requesting import (
    BadResponse,
    BodyReceived,
    ClientConversation,
    Event,
    Informational,
    ResponseBegun,
    ResponseEnded,
    SwitchedProtocols,
    Truncated,
)

HOST = (b"Host", b"intra.corp")
OK = b"HTTP/1.1 200 OK\r\n"


class Base(SynchronousTestCase):
    """One conversation each."""

    def setUp(self) -> None:
        """A new connection."""
        self.conversation = ClientConversation()

    def get(self, method: bytes = b"GET") -> bytes:
        """Ask for something."""
        return self.conversation.begin(method, b"/", [HOST])

    def told(self, octets: bytes) -> list[Event]:
        """What the origin's *octets* mean, without the head's event."""
        begun, *events = self.conversation.receive(octets)
        assert isinstance(begun, ResponseBegun)
        return events

    def whole(self, octets: bytes) -> tuple[bool, bytes, Sequence[Field], int]:
        """What is told of the answer in *octets* with its head: whether it ended, body, trailers; how much apart."""
        begun, *events = self.conversation.receive(octets)
        assert isinstance(begun, ResponseBegun)
        return begun.ended, begun.body, begun.trailers, len(events)


class WritingTests(Base):
    """Requests."""

    @pytest.mark.feature("HTTP-2")
    def test_without_body(self) -> None:
        """Any method, any target, fields as they are."""
        self.assertEqual(
            self.conversation.begin(b"PROPFIND", b"/a%2Fb|?", [(b"x", b"1"), HOST, (b"X", b"2")]),
            b"PROPFIND /a%2Fb|? HTTP/1.1\r\nx: 1\r\nHost: intra.corp\r\nX: 2\r\n\r\n",
        )
        self.assertEqual(self.conversation.end(), b"")

    def test_known_length(self) -> None:
        """The body passes as it is."""
        self.assertIn(b"Content-Length: 4\r\n", self.conversation.begin(b"POST", b"/", [HOST], 4))
        self.assertEqual(
            self.conversation.body(b"ab") + self.conversation.body(b"cd") + self.conversation.end(), b"abcd"
        )
        self.assertEqual(self.conversation.end(), b"")

    def test_length_of_nothing(self) -> None:
        """It is told, as some origins insist on it."""
        self.assertIn(b"Content-Length: 0\r\n", self.conversation.begin(b"POST", b"/", [HOST], 0))

    @pytest.mark.feature("HTTP-3")
    def test_chunked(self) -> None:
        """With trailers, and TE announced for this connection."""
        head = self.conversation.begin(b"POST", b"/", [HOST, (b"TE", b"trailers")], chunked=True)
        self.assertIn(b"TE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n", head)
        self.assertEqual(self.conversation.body(b"ab"), b"2\r\nab\r\n")
        self.assertEqual(self.conversation.end([(b"A", b"b"), (b"Cookie", b"x")]), b"0\r\nA: b\r\n\r\n")

    def test_mistakes_are_refused(self) -> None:
        """H03: nothing gets out that is not one well-formed request."""
        for fields in ([], [HOST, (b"hOST", b"b")]):
            with self.assertRaises(OutOfTurn):
                self.conversation.begin(b"GET", b"/", fields)
        with self.assertRaises(UnsafeHead):
            self.conversation.begin(b"GET", b"/", [HOST, (b"X-User", b"a\r\nX-Admin: 1")])
        with self.assertRaises(OutOfTurn):
            self.conversation.begin(b"GET", b"/", [HOST], 5, upgrade=True)
        self.conversation.begin(b"POST", b"/", [HOST], 4)
        with self.assertRaises(OutOfTurn):
            self.get()
        with self.assertRaises(LengthMismatch):
            self.conversation.end()
        with self.assertRaises(LengthMismatch):
            self.conversation.body(b"12345")


class ReadingTests(Base):
    """Answers."""

    @pytest.mark.feature("HTTP-2")
    def test_head_is_told_as_it_came(self) -> None:
        """Any status and reason, the fields' order, case and duplicates."""
        self.get()
        (begun,) = self.conversation.receive(
            b"HTTP/1.1 599 W\xe4h\r\nb: 1\r\nA: 2\r\nB: 3\r\nContent-Length: 0\r\n\r\n"
        )
        assert isinstance(begun, ResponseBegun)
        self.assertEqual((begun.head.status, begun.head.reason, begun.head.version), (599, b"W\xe4h", (1, 1)))
        self.assertEqual(begun.head.fields[:3], [(b"b", b"1"), (b"A", b"2"), (b"B", b"3")])
        self.assertEqual((begun.ended, begun.length), (True, 0))
        self.assertTrue(self.conversation.reusable)

    def test_reason_may_be_missing(self) -> None:
        """Some servers leave it out, with the space."""
        for line in (b"HTTP/1.1 204\r\n\r\n", b"HTTP/1.1 204 \r\n\r\n"):
            self.get()
            self.assertEqual(self.told(line), [])

    def test_known_length(self) -> None:
        """Equal lengths given twice are one."""
        self.get()
        self.assertEqual(self.told(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhe"), [BodyReceived(b"he")])
        self.assertFalse(self.conversation.reusable)
        self.assertEqual(self.conversation.receive(b"llo"), [BodyReceived(b"llo"), ResponseEnded()])
        self.assertTrue(self.conversation.reusable)

    @pytest.mark.feature("HTTP-3")
    def test_chunked(self) -> None:
        """Chunks are joined, trailers told."""
        self.get()
        self.assertEqual(
            self.told(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n"), [BodyReceived(b"abc")]
        )
        self.assertEqual(
            self.conversation.receive(b"1\r\nd\r\n0\r\nA: b\r\nSet-Cookie: x\r\n\r\n"),
            [BodyReceived(b"d"), ResponseEnded([(b"A", b"b")])],
        )
        self.assertTrue(self.conversation.reusable)
        self.get()
        self.assertEqual(self.whole(OK + b"Content-Length: 1\r\n\r\nx"), (True, b"x", (), 0))

    def test_whole(self) -> None:
        """An answer that came with its head is told with it; one without body is the head, the empty end apart."""
        chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
        for octets, told in (
            (OK + b"Content-Length: 3\r\n\r\nabc", (True, b"abc", (), 0)),
            (OK + b"Content-Length: 0\r\n\r\n", (True, b"", (), 0)),
            (chunked + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", (True, b"abc", [], 0)),
            (chunked + b"1\r\nc\r\n0\r\nA: b\r\n\r\n", (True, b"c", [(b"A", b"b")], 0)),
            (chunked + b"0\r\n\r\n", (False, b"", (), 1)),
            (OK + b"Content-Length: 3\r\n\r\nabcd", (True, b"abc", (), 0)),
        ):
            with self.subTest(octets):
                self.conversation = ClientConversation()
                self.get()
                self.assertEqual(self.whole(octets), told)
                self.assertEqual(self.conversation.reusable, not octets.endswith(b"abcd"))

    @pytest.mark.feature("HTTP-1")
    def test_until_close(self) -> None:
        """Without framing the end of the connection is the end of the body."""
        self.get()
        self.assertEqual(self.told(b"HTTP/1.0 200 OK\r\n\r\nab"), [BodyReceived(b"ab")])
        self.assertEqual(self.conversation.receive(b"c"), [BodyReceived(b"c")])
        self.assertEqual(self.conversation.closed(), [ResponseEnded()])
        self.assertFalse(self.conversation.reusable)
        self.assertEqual(self.conversation.closed(), [])

    def test_answers_without_body(self) -> None:
        """HEAD, 204 and 304 have none, whatever the head says."""
        for method, status in ((b"HEAD", b"200"), (b"GET", b"204"), (b"GET", b"304")):
            self.get(method)
            (begun,) = self.conversation.receive(b"HTTP/1.1 %b x\r\nContent-Length: 7\r\n\r\n" % status)
            assert isinstance(begun, ResponseBegun)
            self.assertEqual((begun.ended, begun.length), (True, 7))
            self.assertTrue(self.conversation.reusable)

    @pytest.mark.feature("HTTP-3")
    def test_interim_answers(self) -> None:
        """They are told before the final one, in any slicing."""
        self.get()
        first, second, *rest = self.conversation.receive(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 2"
        )
        assert isinstance(first, Informational)
        assert isinstance(second, Informational)
        self.assertEqual((first.head.status, second.head.status, rest), (100, 103, []))
        self.assertEqual(self.whole(b"00 OK\r\nContent-Length: 1\r\n\r\nx"), (True, b"x", (), 0))

    def test_limits_are_settings(self) -> None:
        """A connector may be stricter."""
        for limits in (Limits(head=10), Limits(fields=0), Limits(informational=0)):
            conversation = ClientConversation(limits)
            conversation.begin(b"GET", b"/", [HOST])
            with self.assertRaises(BadResponse):
                conversation.receive(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n")

    def test_keep_alive(self) -> None:
        """By version and option."""
        for octets, reusable in (
            (OK + b"Content-Length: 0\r\nConnection: x, Close\r\n\r\n", False),
            (OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n", False),
            (OK + b"Content-Length: 0\r\nConnection: CLOSE\r\n\r\n", False),
            (OK + b"Content-Length: 0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", False),
            (OK + b"Content-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
            (OK + b"Content-Length: 0\r\nConnection: Keep-Alive, x\r\n\r\n", True),
            (OK + b"Content-Length: 0\r\nConnection:\r\n\r\n", True),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        ):
            conversation = ClientConversation()
            conversation.begin(b"GET", b"/", [HOST])
            conversation.receive(octets)
            self.assertIs(conversation.reusable, reusable)

    def test_surplus_octets_spoil_the_connection(self) -> None:
        """C36: what follows an answer never begins another one's."""
        for octets in (
            OK + b"Content-Length: 0\r\n\r\n" + OK,
            OK + b"Content-Length: 1\r\n\r\nxy",
            OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
        ):
            conversation = ClientConversation()
            conversation.begin(b"GET", b"/", [HOST])
            conversation.receive(octets)
            self.assertFalse(conversation.reusable)

    def test_octets_nobody_asked_for(self) -> None:
        """Before the first request, or between two, the origin has nothing to say."""
        with self.assertRaises(BadResponse):
            self.conversation.receive(OK)
        conversation = ClientConversation()
        conversation.begin(b"GET", b"/", [HOST])
        conversation.receive(OK + b"Content-Length: 0\r\n\r\n")
        with self.assertRaises(BadResponse):
            conversation.receive(OK)
        self.assertFalse(conversation.reusable)

    @pytest.mark.feature("HTTP-2")
    def test_early_answer(self) -> None:
        """The answer may end first; the connection is free when the request has ended too."""
        self.conversation.begin(b"POST", b"/", [HOST], 2)
        self.told(OK + b"Content-Length: 1\r\n\r\nx")
        self.assertFalse(self.conversation.reusable)
        self.conversation.body(b"ab")
        self.conversation.end()
        self.assertTrue(self.conversation.reusable)

    def test_cut_short(self) -> None:
        """C38: a connection that closes early is never a complete answer."""
        for octets in (
            b"",
            b"HTTP/1.1 2",
            OK + b"Content-Length: 5\r\n\r\nhe",
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ):
            conversation = ClientConversation()
            conversation.begin(b"GET", b"/", [HOST])
            if octets:
                conversation.receive(octets)
            with self.assertRaises(Truncated):
                conversation.closed()
            self.assertFalse(conversation.reusable)

    @pytest.mark.feature("HTTP-9")
    def test_heard(self) -> None:
        """Whether anything came back decides whether a request may be retried."""
        self.get()
        self.assertFalse(self.conversation.heard)
        self.conversation.receive(b"H")
        self.assertTrue(self.conversation.heard)
        self.conversation.receive((OK + b"Content-Length: 0\r\n\r\n")[1:])
        self.get()
        self.assertFalse(self.conversation.heard)

    def test_closing_while_free(self) -> None:
        """An origin may close a kept connection at any time."""
        self.assertEqual(self.conversation.closed(), [])


class UpgradeTests(Base):
    """Other protocols."""

    def offer(self, protocols: bytes = b"WebSocket") -> bytes:
        """Offer another protocol."""
        return self.conversation.begin(b"GET", b"/", [HOST, (b"Upgrade", protocols)], upgrade=True)

    @pytest.mark.feature("HTTP-4")
    def test_switching(self) -> None:
        """What came with the head is the first of the other protocol."""
        self.assertIn(b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n", self.offer())
        answer = b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSet-Cookie: a=b\r\n\r\n\x81\x00"
        (event,) = self.conversation.receive(answer)
        assert isinstance(event, SwitchedProtocols)
        self.assertEqual((event.head.status, event.leftover), (101, b"\x81\x00"))
        self.assertEqual(event.head.fields[2], (b"Set-Cookie", b"a=b"))
        self.assertFalse(self.conversation.reusable)

    def test_refused(self) -> None:
        """Any other status is an answer like any."""
        self.offer()
        self.assertEqual(self.told(b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n"), [])
        self.assertTrue(self.conversation.reusable)

    def test_another_protocol_than_offered(self) -> None:
        """The origin may only take what was offered."""
        self.offer(b"websocket, irc")
        with self.assertRaises(BadResponse):
            self.conversation.receive(b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
