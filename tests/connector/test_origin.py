"""What treq does for browsers and must not do here: one test for each trap."""

from __future__ import annotations

import gzip
import sys

import pytest
import twisted.internet
from twisted.trial.unittest import SynchronousTestCase

from tests.connector.rig import GET, HR, Rig

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PLAIN = {**HR, "sso": {"mode": "none"}}


class TreqTests(SynchronousTestCase):
    """The origin sees what the client sent, the client gets what the origin sent."""

    def setUp(self) -> None:
        self.rig = Rig(PLAIN)

    def heard(self) -> bytes:
        return self.rig.sockets[0].take()

    @pytest.mark.feature("HTTP-2")
    def test_a_method_keeps_its_case(self) -> None:
        """treq would capitalise it."""
        self.rig.ask(method=b"pROPfind")
        self.assertTrue(self.heard().startswith(b"pROPfind / HTTP/1.1\r\n"))

    @pytest.mark.feature("HTTP-2")
    def test_a_target_arrives_octet_for_octet(self) -> None:
        """hyperlink would escape, unescape and lose parts of these."""
        for target in (
            b"/a|b?c=d|e", b"/x?", b"/%7euser/%2a", b"/a;b=c,d?x=%zz&&", b"/?q=%E4&q=%C3%A4", b"/a'(b)*!", b"/?a=b?c=d",
            b"/http://other.example/?u=//x", b"/a%20b?c+d", b"/\"{}^`?\"{}^`",
        ):  # fmt: skip
            self.rig.ask(target)
            line = self.heard().partition(b"\r\n")[0]
            self.assertEqual(line, b"GET " + target + b" HTTP/1.1")
            self.rig.sockets[0].say(OK)

    @pytest.mark.feature("HTTP-2")
    def test_fields_keep_order_case_and_duplicates(self) -> None:
        """``Headers`` would re-case and regroup them."""
        fields = [(b"x-One", b"1"), (b"ACCEPT", b"a"), (b"X-one", b"2"), (b"Accept", b"b"), (b"x-one", b"3")]
        self.rig.ask(b"/", *fields)
        lines = self.heard().split(b"\r\n")[2:-2]
        self.assertEqual(lines, [b"x-One: 1", b"ACCEPT: a", b"X-one: 2", b"Accept: b", b"x-one: 3"])

    def test_nothing_is_added(self) -> None:
        """No Accept-Encoding, no User-Agent, no Connection of treq's or Twisted's own."""
        self.rig.ask()
        self.assertEqual(self.heard(), GET)

    def test_cookies_of_one_user_are_not_sent_with_the_next_request(self) -> None:
        """treq's jar would send Alice's session with Bob's request."""
        alice = self.rig.ask()
        self.rig.sockets[0].say(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: session=alice; Path=/; Domain=corp.local\r\nContent-Length: 0\r\n\r\n"
        )
        self.assertEqual(alice.fields[0], (b"Set-Cookie", b"session=alice; Path=/"))
        self.heard()
        self.rig.ask()
        self.assertNotIn(b"alice", self.heard())
        self.rig.sockets[0].say(OK)
        self.rig.ask(b"/", (b"Cookie", b"session=bob"))
        self.assertIn(b"Cookie: session=bob\r\n", self.heard())

    def test_compressed_bodies_stay_compressed(self) -> None:
        """treq would decode them and drop Content-Encoding and Content-Length."""
        packed = gzip.compress(b"hello" * 10)
        asking = self.rig.ask(b"/", (b"Accept-Encoding", b"gzip"))
        self.rig.sockets[0].say(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
        )
        self.assertEqual(asking.answer.data, packed)
        self.assertEqual(asking.fields[0], (b"Content-Encoding", b"gzip"))
        self.assertIn((b"Content-Length", b"%d" % len(packed)), asking.fields)

    def test_redirects_are_the_clients_to_follow(self) -> None:
        """M05, M06: no request goes anywhere because an origin says so, with or without credentials."""
        asking = self.rig.ask(b"/", (b"Authorization", b"Bearer x"), (b"Cookie", b"a=b"))
        self.rig.sockets[0].say(b"HTTP/1.1 302 Found\r\nLocation: http://other.intra/\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(asking.status, 302)
        self.assertEqual(asking.fields[0], (b"Location", b"http://other.intra/"))
        self.assertEqual(len(self.rig.dials), 1)

    def test_bodies_flow_before_they_are_complete(self) -> None:
        """treq would buffer them."""
        asking = self.rig.ask()
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        self.assertEqual((asking.answer.data, asking.answer.ended), (b"hello", False))
        self.rig.sockets[0].say(b"world")
        self.assertEqual((asking.answer.data, asking.answer.ended), (b"helloworld", True))

    def test_an_answer_may_take_longer_than_any_timeout_of_treqs(self) -> None:
        """Only our own timers end an exchange, and only when nothing moves."""
        asking = self.rig.ask()
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(5):
            self.rig.advance(200)
            self.rig.sockets[0].say(b"tick")
        self.assertEqual((asking.answer.data, asking.reset), (b"tick" * 5, None))

    def test_no_reactor_is_looked_for(self) -> None:
        """treq imports the global reactor when it is given none; ours is an argument."""
        known = sys.modules.pop("twisted.internet.reactor", None)
        here = vars(twisted.internet).pop("reactor", None)
        try:
            asking = self.rig.ask()
            self.assertIsNone(asking.reset)
            self.assertNotIn("twisted.internet.reactor", sys.modules)
        finally:
            if known is not None:
                sys.modules["twisted.internet.reactor"] = known
                twisted.internet.reactor = here
