"""Forms that wait for a sign-in: sent once, by whom they came from, and never for a page elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import SignInSettings
from appproxy.http.messages import Field
from appproxy.relay.preauth.cookies import REPLAY, SESSION
from appproxy.store import kept
from tests.fakes.browser import HR, RELAY, Browser, Rig
from tests.fakes.exchange import FETCHES, FakeExchange

APP = "https://hr.example.test"
NAVIGATES = ((b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"document"))
FORM = (b"Content-Type", b"application/x-www-form-urlencoded")
SAME_ORIGIN = (*NAVIGATES, FORM, (b"Sec-Fetch-Site", b"same-origin"), (b"Origin", APP.encode()))
SAME_SITE = (*NAVIGATES, FORM, (b"Sec-Fetch-Site", b"same-site"), (b"Origin", b"https://other.example.test"))
CROSS_SITE = (*NAVIGATES, FORM, (b"Sec-Fetch-Site", b"cross-site"), (b"Origin", b"https://evil.test"))
BODY = b"days=5&why=\x00\xff+holiday"


class KeepingTest(SynchronousTestCase):
    """A browser whose session has ended while its user filled in a form."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.browser = Browser(self.rig)

    def configure(self, **settings: object) -> None:
        """The application's settings."""
        self.rig.applications["hr"] = msgspec.structs.replace(HR, sign_in=SignInSettings(**settings))  # type: ignore[arg-type]

    def post(self, fields: Iterable[Field] = SAME_ORIGIN, body: bytes = BODY, path: str = "/leave?x=1") -> FakeExchange:
        """Send the form without a session."""
        return self.browser.ask(APP + path, method=b"POST", fields=fields, body=body)

    def arrive(self, **how: object) -> bytes:
        """Send it, sign in, and see what the origin gets."""
        answer = self.post(**how)  # type: ignore[arg-type]
        self.assertEqual(answer.status, 303)
        return self.browser.walk(answer.value("Location")).body

    def refused(self, **how: object) -> None:
        """Send it, and be told at once that it is not kept: nobody signs in for it, or sends it again and again."""
        self.browser = Browser(self.rig)
        answer = self.post(**how)  # type: ignore[arg-type]
        self.assertEqual(answer.status, 401)
        self.assertIn(b"form-not-kept", answer.body)

    def waiting(self) -> int:
        """How many forms wait."""
        return int(self.rig.store._db.execute("SELECT count(*) FROM kept").fetchone()[0])

    @pytest.mark.feature("AUTH-9")
    def test_sent_after_the_sign_in(self) -> None:
        """The form arrives, octet by octet, as the POST that it was; reloading the page does not send it again."""
        self.assertEqual(self.arrive(), b"alice@example.test POST " + BODY)
        self.assertEqual(self.browser.trail[-1], APP + "/leave?x=1")
        self.assertEqual(self.waiting(), 0)
        self.assertEqual(self.browser.ask(APP + "/leave?x=1").body, b"alice@example.test")

    @pytest.mark.feature("AUTH-9")
    def test_known_at_the_relay(self) -> None:
        """The same when only the application's session has ended."""
        self.browser.walk("https://wiki.example.test/")
        self.assertEqual(self.arrive(), b"alice@example.test POST " + BODY)
        self.assertEqual(self.rig.idp.count("/token"), 1)

    def test_fields(self) -> None:
        """What the form said of its body and where it came from goes along; all else is the new request's."""
        answer = self.post((*SAME_ORIGIN, (b"Referer", b"https://hr.example.test/form"), (b"X-Old", b"1")))
        self.browser.up_to(answer.value("Location"), APP + "/leave")
        jar = self.browser.jars["hr.example.test"]
        cookies = {name.encode(): [value.encode()] for name, value in jar.items()}
        exchange = FakeExchange(APP + "/leave?x=1", cookies=cookies)
        self.rig.respond(exchange)
        known = exchange.head.known
        self.assertEqual(known[b"content-type"], [FORM[1]])
        self.assertEqual((known[b"origin"], known[b"referer"]), ([APP.encode()], [b"https://hr.example.test/form"]))
        self.assertEqual(known[b"content-length"], [b"%d" % len(BODY)])
        self.assertNotIn(b"x-old", known)

    @pytest.mark.feature("AUTH-9")
    def test_empty_body(self) -> None:
        """A04: a form without a body is one, too."""
        self.assertEqual(self.arrive(body=b""), b"alice@example.test POST ")

    @pytest.mark.feature("AUTH-9")
    def test_other_sites(self) -> None:
        """A03: a form of another site is never sent, nor one of which nobody says where it is from."""
        nowhere = (*NAVIGATES, FORM)
        for fields in (CROSS_SITE, nowhere, (*nowhere, (b"Origin", b"null")), (*SAME_ORIGIN[:3], *CROSS_SITE[3:])):
            self.refused(fields=fields)
        self.assertEqual(self.waiting(), 0)

    @pytest.mark.feature("AUTH-9")
    def test_same_site(self) -> None:
        """A form of a neighbour is one that a Lax cookie would have come with; old browsers say Origin only."""
        self.assertEqual(self.arrive(fields=SAME_SITE), b"alice@example.test POST " + BODY)
        self.browser = Browser(self.rig)
        old = (*NAVIGATES, FORM, (b"Origin", APP.encode()))
        self.assertEqual(self.arrive(fields=old), b"alice@example.test POST " + BODY)

    @pytest.mark.feature("AUTH-9", "SCN-11")
    def test_entry_points(self) -> None:
        """A listed path takes forms of other sites: a SAML assertion, which comes without the session's cookie."""
        self.configure(cross_site_posts=("/saml/acs",))
        self.browser.walk(APP + "/")
        jar = self.browser.jars.pop("hr.example.test")  # Lax: not with another site's POST
        answer = self.post(CROSS_SITE, b"SAMLResponse=x", "/saml/acs")
        self.assertEqual(answer.status, 303)
        self.browser.jars["hr.example.test"] = {**jar, **self.browser.jars["hr.example.test"]}
        asked = len(self.rig.idp.requests)
        self.assertEqual(self.browser.walk(answer.value("Location")).body, b"alice@example.test POST SAMLResponse=x")
        self.assertEqual(len(self.rig.idp.requests), asked)
        for path in ("/saml", "/saml/acs/", "/saml/acs/x"):
            self.refused(fields=CROSS_SITE, path=path)

    @pytest.mark.feature("AUTH-9")
    def test_too_long(self) -> None:
        """A03: 3 MB are told to sign in first, before they sign in; nothing of them is kept."""
        answer = self.post(body=bytes(3_000_000))
        self.assertEqual(answer.status, 401)
        self.assertIn(b"sign in first", answer.body)
        self.assertEqual(self.waiting(), 0)
        self.assertEqual(self.arrive(body=bytes(1 << 20))[:24], b"alice@example.test POST ")

    def test_turned_off(self) -> None:
        """An application may do without."""
        self.configure(keep_posts=False)
        self.refused()
        self.assertEqual(self.waiting(), 0)

    def test_programs(self) -> None:
        """A03: a script's POST gets 401, and nothing is kept for it."""
        self.assertEqual(self.post((*FETCHES, FORM, (b"Sec-Fetch-Site", b"same-origin"))).status, 401)
        self.assertEqual(self.waiting(), 0)

    @pytest.mark.feature("AUTH-9")
    def test_other_browser(self) -> None:
        """Only the browser that sent it has it sent: neither address nor cookie is worth anything elsewhere."""
        ticket = self.browser.up_to(self.post().value("Location"), APP + "/.appproxy/ticket")
        thief = Browser(self.rig)
        thief.walk(APP + "/")
        self.assertNotIn(REPLAY.decode(), thief.jars["hr.example.test"])
        thief.ask(ticket)
        self.assertNotIn(REPLAY.decode(), thief.jars["hr.example.test"])
        self.browser.ask(ticket)
        stolen = self.browser.jars["hr.example.test"][REPLAY.decode()]
        thief.jars["hr.example.test"][REPLAY.decode()] = stolen
        self.assertEqual(thief.ask(APP + "/leave?x=1").body, b"alice@example.test")
        self.assertEqual(self.browser.ask(APP + "/leave?x=1").body, b"alice@example.test POST " + BODY)

    def test_other_address(self) -> None:
        """It is sent to where it was going, by a person's own request, within a minute."""
        self.browser.up_to(self.post().value("Location"), APP + "/leave")
        jar = dict(self.browser.jars["hr.example.test"])
        self.assertEqual(self.browser.ask(APP + "/leave?x=1", fields=FETCHES).body, b"alice@example.test")
        self.rig.clock.advance(61)
        self.assertEqual(self.browser.ask(APP + "/leave?x=1").body, b"alice@example.test")
        self.browser = Browser(self.rig)
        self.browser.up_to(self.post().value("Location"), APP + "/leave")
        self.assertEqual(self.browser.ask(APP + "/other").body, b"alice@example.test")
        self.assertEqual(self.browser.ask(APP + "/leave?x=1").body, b"alice@example.test")
        self.assertIn(SESSION.decode(), jar)

    def test_slow_sign_in(self) -> None:
        """What nobody comes back for is forgotten with the sign-in."""
        self.post()
        self.rig.clock.advance(600)
        self.successResultOf(self.rig.store.write(kept.purge, self.rig.epoch()))
        self.assertEqual(self.waiting(), 0)

    @pytest.mark.feature("AUTH-9")
    def test_encrypted(self) -> None:
        """A03: the store cannot read what it keeps, not even with its own key."""
        self.post(body=b"password=secret")
        [(id, sealed)] = self.rig.store._db.execute("SELECT id, sealed FROM kept").fetchall()
        self.assertNotIn(b"secret", sealed)
        self.assertNotIn(b"/leave", sealed)
        key = self.rig.store._db.execute("SELECT count(*) FROM secret").fetchone()[0]
        self.assertEqual((key, len(id)), (0, 16))

    def test_bounded(self) -> None:
        """However many forms somebody sends, so many wait; beyond that people are told that theirs do not."""
        for _ in range(kept.MAX_PER_CLIENT):
            self.assertEqual(self.post().status, 303)
        self.refused()
        self.assertEqual(self.waiting(), kept.MAX_PER_CLIENT)

    def test_store_away(self) -> None:
        """While nothing can be kept nobody is sent to sign in for nothing."""
        self.rig.store.away = True
        self.assertEqual(self.post().status, 503)

    def test_hostile_cookies(self) -> None:
        """What is no cookie of ours, or another purpose's, has nothing sent."""
        self.browser.up_to(self.post().value("Location"), APP + "/leave")
        jar = self.browser.jars["hr.example.test"]
        good = jar[REPLAY.decode()]
        for value in ("", "x", good[:-4] + "AAAA", self.rig.sealer.seal("attempt", [b"x", b"y", 1 << 40])):
            jar[REPLAY.decode()] = value
            self.assertEqual(self.browser.ask(APP + "/leave?x=1").body, b"alice@example.test")
        jar[REPLAY.decode()] = good
        self.assertIn(b"POST", self.browser.ask(APP + "/leave?x=1").body)


class FragmentTest(SynchronousTestCase):
    """What stands after the # of an address."""

    REAL = (*NAVIGATES, (b"Sec-Fetch-Site", b"none"), (b"Accept", b"text/html"))

    def setUp(self) -> None:
        self.rig = Rig()
        self.browser = Browser(self.rig)

    def page(self) -> FakeExchange:
        """The page on the way to the provider, as a real browser gets it."""
        url = self.browser.ask(APP + "/app").value("Location")
        return self.browser.ask(url, fields=self.REAL)

    @pytest.mark.feature("AUTH-9")
    def test_kept(self) -> None:
        """The page's script leaves it in a cookie, and the way back leads to the address with it."""
        answer = self.page()
        self.assertEqual((answer.status, answer.value("Cache-Control")), (200, "no-store"))
        text = answer.body.decode()
        address = text.partition("url=")[2].partition('"')[0].replace("&amp;", "&")
        cookie = text.partition('data-cookie="')[2].partition('"')[0]
        self.browser.jars["proxy.example.test"][cookie] = "%2Forders%3Fid%3D5%26x%3D%2520y"
        back = self.browser.up_to(address, APP)
        self.assertEqual(back.partition("#")[2], "/orders?id=5&x=%20y")
        self.assertNotIn(cookie, self.browser.jars["proxy.example.test"])

    def test_script(self) -> None:
        """The page runs this one script and no other, and works without it."""
        answer = self.page()
        policy = answer.value("Content-Security-Policy")
        self.assertRegex(policy, r"script-src 'sha256-[\w+/=]+'")
        self.assertNotIn("unsafe", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertIn(b'<noscript><meta http-equiv="refresh"', answer.body)

    def test_hostile_fragments(self) -> None:
        """S20: what no browser has in an address is left out, whoever has put it into the cookie."""
        for value in ("%0d%0aSet-Cookie:x=1", "%20x", "%ff", "a<b", "x" * 5000, "%" + "41" * 2000, "", "a b", "\xe4"):
            self.browser = Browser(self.rig)
            text = self.page().body.decode()
            address = text.partition("url=")[2].partition('"')[0].replace("&amp;", "&")
            cookie = text.partition('data-cookie="')[2].partition('"')[0]
            self.browser.jars["proxy.example.test"][cookie] = value
            found = self.browser.up_to(address, APP).partition("#")[2]
            self.assertRegex(found, r"\A[!-~]*\Z", value)
            self.assertLessEqual(len(found), 1024)

    def test_programs_are_redirected(self) -> None:
        """A01: who follows redirects without being a browser still can, and applications may choose that for all."""
        url = self.browser.ask(APP + "/").value("Location")
        self.assertEqual(self.browser.ask(url).status, 302)
        self.rig.applications["hr"] = msgspec.structs.replace(HR, sign_in=SignInSettings(keep_fragment=False))
        self.assertEqual(self.page().status, 302)

    def test_left_over(self) -> None:
        """A11: fragments of sign-ins that were given up go with them."""
        for _ in range(20):
            text = self.page().body.decode()
            cookie = text.partition('data-cookie="')[2].partition('"')[0]
            self.browser.jars["proxy.example.test"][cookie] = "x"
            self.rig.clock.advance(1)
        self.assertLessEqual(len(self.browser.jars["proxy.example.test"]), 10)


TEAMS = "https://teams.example.test"
FRAMED = (
    (b"Sec-Fetch-Mode", b"navigate"),
    (b"Sec-Fetch-Dest", b"iframe"),
    (b"Sec-Fetch-Site", b"cross-site"),
    (b"Accept", b"text/html"),
)


class FramedTest(SynchronousTestCase):
    """An application in a frame of another site, whose cookies are kept apart from those of windows."""

    def setUp(self) -> None:
        self.rig = Rig()
        cookies = msgspec.structs.replace(HR.cookies, same_site="none", partitioned=True)
        settings = SignInSettings(frame_ancestors=(TEAMS,))
        self.rig.applications["hr"] = msgspec.structs.replace(HR, cookies=cookies, sign_in=settings)
        self.frame, self.window = Browser(self.rig), Browser(self.rig)

    def button(self) -> str:
        """Where the frame's button leads."""
        answer = self.frame.ask(APP + "/tab", fields=FRAMED)
        self.assertEqual(answer.status, 200)
        self.assertIn(f"frame-ancestors {TEAMS}", answer.value("Content-Security-Policy"))
        [cookie] = answer.values("Set-Cookie")
        self.assertTrue(cookie.endswith("Secure; HttpOnly; SameSite=None; Partitioned"), cookie)
        return answer.body.decode().partition('href="')[2].partition('"')[0].replace("&amp;", "&")

    def ticket(self, answer: FakeExchange) -> str:
        """What the window hands over."""
        return answer.body.decode().partition('data-ticket="')[2].partition('"')[0]

    @pytest.mark.feature("SCN-7", "AUTH-4")
    def test_sign_in(self) -> None:
        """A window signs in and hands the frame a ticket, for which the frame alone gets its own session."""
        answer = self.window.walk(self.button())
        self.assertEqual((answer.status, self.window.trail[-1].partition("?")[0]), (200, APP + "/.appproxy/hand-over"))
        self.assertIn("frame-ancestors 'none'", answer.value("Content-Security-Policy"))
        url = f"{APP}/.appproxy/ticket?ticket={self.ticket(answer)}"
        entered = self.frame.ask(url, fields=FRAMED)
        self.assertEqual(entered.value("Location"), APP + "/tab")
        [cookie] = [each for each in entered.values("Set-Cookie") if each.startswith(SESSION.decode())]
        self.assertTrue(cookie.endswith("SameSite=None; Partitioned"), cookie)
        self.assertEqual(self.frame.ask(APP + "/tab", fields=FRAMED).body, b"alice@example.test")
        self.assertNotIn(SESSION.decode(), self.window.jars["hr.example.test"])

    @pytest.mark.feature("SCN-7")
    def test_ticket_is_the_frames(self) -> None:
        """Somebody's ticket, by whatever way it came, is good in the frame that asked for it only, and once."""
        victim = self.ticket(self.window.walk(self.button()))
        attacker = Browser(self.rig)
        attacker.ask(APP + "/tab", fields=FRAMED)
        url = f"{APP}/.appproxy/ticket?ticket={victim}"
        attacker.ask(url, fields=FRAMED)
        self.window.ask(url)
        for browser in (attacker, self.window):
            self.assertNotIn(SESSION.decode(), browser.jars["hr.example.test"])
        self.assertEqual(self.frame.ask(url, fields=FRAMED).status, 302)
        other = Browser(self.rig)
        other.jars = {"hr.example.test": {}}
        self.assertEqual(other.ask(url, fields=FRAMED).status, 400)

    def test_other_applications(self) -> None:
        """S26: an application that names no such pages is never shown a way to sign in in a frame."""
        answer = self.frame.ask("https://wiki.example.test/", fields=FRAMED)
        self.assertEqual(answer.status, 302)
        self.assertIn("frame-ancestors 'none'", answer.value("Content-Security-Policy"))

    def test_windows(self) -> None:
        """In a window of its own the application signs people in as any other does."""
        self.assertEqual(self.window.walk(APP + "/x").body, b"alice@example.test")

    def test_hand_over_of_others(self) -> None:
        """What is no frame's ticket is not handed over."""
        ticket = self.window.up_to(APP + "/x", APP + "/.appproxy/ticket").partition("=")[2]
        for text in (ticket, "x", ""):
            self.assertEqual(self.window.ask(f"{APP}/.appproxy/hand-over?ticket={text}").status, 400)
        self.assertEqual(self.window.ask(f"{RELAY}/.appproxy/hand-over?ticket={ticket}").status, 404)
