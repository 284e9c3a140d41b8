"""What travels with the browser."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.people.sealing import Sealer
from appproxy.relay.preauth.attempts import MAX_ATTEMPTS, Attempts, hash_binding
from appproxy.relay.preauth.cookies import ATTEMPT
from appproxy.relay.preauth.failures import SignInExpired, SignInMalformed, SignInUnknown


class AttemptsTest(SynchronousTestCase):
    """One relay and one browser's cookies."""

    def setUp(self) -> None:
        self.now = 1000
        self.attempts = Attempts(Sealer(bytes(32), os.urandom), lambda: self.now, os.urandom)
        self.cookies: dict[bytes, list[bytes]] = {}

    def begin(self) -> str:
        """Begin one, and keep the cookies as a browser does; its state."""
        wish = self.attempts.make_wish("hr", "https", "hr.test", b"/x", b"b")
        _, state, fields = self.attempts.begin("main", wish, self.cookies)
        for _, line in fields:
            name, _, rest = line.partition(b"=")
            value = rest.partition(b";")[0]
            if value:
                self.cookies[name] = [value]
            else:
                del self.cookies[name]
        return state

    def test_find(self) -> None:
        """An attempt is found by its state, while its time lasts, by the browser that began it."""
        state = self.begin()
        attempt = self.attempts.find(state, self.cookies)
        self.assertEqual((attempt.provider, attempt.until), ("main", 1600))
        assert attempt.wish is not None
        self.assertEqual(attempt.wish.binding, hash_binding(b"b"))
        self.assertRaises(SignInUnknown, self.attempts.find, state, {})
        self.assertRaises(SignInUnknown, self.attempts.find, state + "x", self.cookies)
        self.assertRaises(SignInUnknown, self.attempts.find, "\ud800", self.cookies)
        self.now = 1600
        self.assertRaises(SignInExpired, self.attempts.find, state, self.cookies)

    def test_cookie_under_another_name(self) -> None:
        """An attempt's cookie moved to another's name does not answer for it."""
        one, two = self.begin(), self.begin()
        self.cookies = dict(zip(self.cookies, reversed(self.cookies.values()), strict=True))
        for state in (one, two):
            self.assertRaises(SignInUnknown, self.attempts.find, state, self.cookies)

    def test_oldest_go(self) -> None:
        """Of many attempts the youngest stay."""
        states = []
        for _ in range(8):
            states.append(self.begin())
            self.now += 1
        self.assertEqual(len(self.cookies), MAX_ATTEMPTS)
        for state in states[-MAX_ATTEMPTS:]:
            self.attempts.find(state, self.cookies)

    def test_unreadable_go(self) -> None:
        """S06: cookies that are not ours, or too old, are taken away, a bounded number at a time."""
        self.begin()
        self.now += 600
        self.cookies.update({ATTEMPT + b"%d" % n: [b"x"] for n in range(20)})
        self.begin()
        self.assertEqual(len(self.cookies), 1)
        _, _, fields = self.attempts.begin("main", None, {ATTEMPT + b"%d" % n: [b"x"] for n in range(5000)})
        self.assertLessEqual(len(fields), 51)

    def test_wishes_and_tickets_do_not_mix(self) -> None:
        """A wish is no ticket and a ticket no wish, nor is either anything for an attempt."""
        wish = self.attempts.make_wish("hr", "https", "hr.test", b"/x", b"b")
        sealed, ticket = self.attempts.seal_wish(wish), self.attempts.seal_ticket(b"root", wish)
        self.assertEqual(self.attempts.open_wish(sealed), wish)
        self.assertEqual(self.attempts.open_ticket(ticket).until, 1030)
        self.assertRaises(SignInMalformed, self.attempts.open_ticket, sealed)
        self.assertRaises(SignInMalformed, self.attempts.open_wish, ticket)
        self.assertNotEqual(ticket, self.attempts.seal_ticket(b"root", wish))
        self.now = 1600
        self.assertRaises(SignInExpired, self.attempts.open_wish, sealed)
