"""Somebody's own sign-ins, and ending them."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.browser import RELAY, Browser, Rig
from tests.fakes.exchange import FETCHES, NAVIGATES, FakeExchange

APP, WIKI = "https://hr.example.test", "https://wiki.example.test"
PAGE = RELAY + "/.appproxy/sessions"
SAME_ORIGIN = ((b"Sec-Fetch-Site", b"same-origin"), (b"Sec-Fetch-Mode", b"navigate"), (b"Origin", b"null"))


class OwnSessionsTest(SynchronousTestCase):
    """One person at a desk and with a telephone, and somebody else."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.desk, self.phone, self.other = (Browser(self.rig) for _ in range(3))
        for browser in (self.desk, self.phone):
            browser.walk(APP + "/")
        self.rig.idp.claims |= {"sub": "u-2", "preferred_username": "bob@example.test"}
        self.rig.idp.userinfo = {"sub": "u-2"}
        self.other.walk(APP + "/")

    def end(self, what: str, browser: Browser | None = None, fields: object = SAME_ORIGIN) -> FakeExchange:
        """Send the page's form: *what* is a position on the page, or ``others``."""
        browser = browser or self.desk
        page = browser.ask(PAGE).body.decode()
        ids = re.findall(r'name="end" value="(\w{16})"', page)
        token = re.findall(r'name="token" value="([^"]+)"', page)[0]
        body = urlencode({"token": token, "end": ids[int(what)] if what.isdigit() else what}).encode()
        return browser.ask(PAGE, method=b"POST", fields=fields, body=body)  # type: ignore[arg-type]

    def knows(self, browser: Browser) -> bool:
        """Whether the application still gets this browser's requests."""
        return browser.ask(APP + "/").status == 200

    @pytest.mark.feature("AUTH-7", "ADM-1")
    def test_list(self) -> None:
        """All sign-ins of the person, with applications and address, the one that looks first; nobody else's."""
        page = self.desk.ask(PAGE)
        self.assertEqual((page.status, page.value("Cache-Control")), (200, "no-store"))
        text = page.body.decode()
        self.assertEqual(text.count("Signed in</dt>"), 2)
        self.assertEqual(text.count("HR portal"), 2)
        self.assertEqual(text.count("203.0.113.7"), 2)
        self.assertIn("(this one)", text.partition("</section>")[0])
        self.assertNotIn("bob", text)

    @pytest.mark.feature("AUTH-7")
    def test_end_one(self) -> None:
        """The telephone's sign-in ends at once, with its application sessions; the desk's goes on."""
        self.assertEqual(self.end("1").value("Location"), "/.appproxy/sessions")
        self.assertEqual([self.knows(each) for each in (self.desk, self.phone, self.other)], [True, False, True])
        self.assertEqual(self.phone.ask(PAGE).value("Location"), "/")

    @pytest.mark.feature("AUTH-7")
    def test_end_others(self) -> None:
        """All but the one that asks."""
        self.end("others", self.phone)
        self.assertEqual([self.knows(each) for each in (self.desk, self.phone, self.other)], [False, True, True])

    def test_end_own(self) -> None:
        """The one that asks, too."""
        self.end("0")
        self.assertEqual([self.knows(each) for each in (self.desk, self.phone)], [False, True])

    def test_other_peoples(self) -> None:
        """Nobody ends what is not theirs, whatever they write into the form."""
        page = self.other.ask(PAGE).body.decode()
        [id] = re.findall(r'name="end" value="(\w{16})"', page)
        self.end(id)
        self.end("")
        self.assertEqual([self.knows(each) for each in (self.desk, self.phone, self.other)], [True] * 3)

    def test_other_sites(self) -> None:
        """S13: a form of another site, or without this page's token, ends nothing."""
        evil = ((b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Mode", b"navigate"), (b"Origin", b"https://evil.test"))
        for fields in (evil, NAVIGATES):
            self.assertEqual(self.end("1", fields=fields).status, 403)
        for token in ("", "x", re.findall(r'token" value="([^"]+)', self.phone.ask(PAGE).body.decode())[0]):
            body = urlencode({"token": token, "end": "others"}).encode()
            self.assertEqual(self.desk.ask(PAGE, method=b"POST", fields=SAME_ORIGIN, body=body).status, 403)
        self.assertTrue(self.knows(self.phone))

    def test_late(self) -> None:
        """A page that has been open for more than an hour must be opened anew."""
        page = self.desk.ask(PAGE).body.decode()
        token = re.findall(r'token" value="([^"]+)', page)[0]
        self.rig.clock.advance(3601)
        body = urlencode({"token": token, "end": "others"}).encode()
        self.assertEqual(self.desk.ask(PAGE, method=b"POST", fields=SAME_ORIGIN, body=body).status, 403)

    def test_nobody(self) -> None:
        """Whoever is not signed in is sent to the front page, which signs them in; a program is told."""
        stranger = Browser(self.rig)
        self.assertEqual(stranger.ask(PAGE).value("Location"), "/")
        self.assertEqual(stranger.ask(PAGE, fields=FETCHES).status, 401)
        self.assertEqual(stranger.ask(PAGE, method=b"POST", fields=SAME_ORIGIN, body=b"end=others").status, 401)

    def test_names_are_text(self) -> None:
        """What a browser calls itself is text on the page, never markup, and of bounded length."""
        fields = [*NAVIGATES, (b"User-Agent", b"<script>alert(1)</script>\x7f" + b"x" * 500)]
        browser = Browser(self.rig)
        url = browser.up_to(APP + "/", RELAY + "/.appproxy/callback")
        browser.ask(url, fields=fields)
        text = browser.ask(PAGE).body.decode()
        self.assertIn("&lt;script&gt;", text)
        self.assertNotIn("<script>", text)
        self.assertNotIn("x" * 200, text)
