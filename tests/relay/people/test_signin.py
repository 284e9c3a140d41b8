"""Sign-in from the first redirect to the session, and everything that must not lead to one."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Cookies
from appproxy.relay.people.signin import parse_query
from appproxy.relay.preauth.cookies import ATTEMPT, BINDING, SESSION
from appproxy.relay.preauth.failures import SignInMalformed
from tests.fakes.browser import HR, RELAY, WIKI, Browser, Rig
from tests.fakes.exchange import FETCHES, NAVIGATES, FakeExchange
from tests.fakes.idp import ISSUER, as_json

APP = "https://hr.example.test"
SESSION_NAME = SESSION.decode()


class SignInTest(SynchronousTestCase):
    """The walk of an honest browser."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.browser = Browser(self.rig)

    @pytest.mark.feature("AUTH-2", "AUTH-3")
    def test_walk(self) -> None:
        """A person is sent to the provider, comes back over the relay's one redirect URI, and sees what they wanted."""
        answer = self.browser.walk(APP + "/leave?x=1")
        self.assertEqual((answer.status, answer.body), (200, b"alice@example.test"))
        shapes = [url.partition("?")[0] for url in self.browser.trail]
        self.assertEqual(
            shapes,
            [
                APP + "/leave",
                RELAY + "/.appproxy/sign-in",
                ISSUER + "/authorize",
                RELAY + "/.appproxy/callback",
                APP + "/.appproxy/ticket",
                APP + "/leave",
            ],
        )
        self.assertEqual(self.browser.trail[-1], APP + "/leave?x=1")

    def test_authorization_request(self) -> None:
        """A01: the provider is asked for a code, with state, nonce and an S256 challenge, and nothing may be stored."""
        url = self.browser.up_to(APP + "/", ISSUER)
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        self.assertEqual(
            {name: asked[name] for name in ("response_type", "code_challenge_method", "client_id", "redirect_uri")},
            {
                "response_type": "code",
                "code_challenge_method": "S256",
                "client_id": "relay",
                "redirect_uri": RELAY + "/.appproxy/callback",
            },
        )
        self.assertTrue(all(len(asked[name]) >= 43 for name in ("state", "nonce", "code_challenge")))
        self.assertEqual(asked["scope"], "openid profile email")

    def test_own_answers_are_private(self) -> None:
        """S24, S26: no redirect or page of a sign-in is stored, framed or named as a referrer."""
        url = APP + "/"
        for _ in range(4):
            answer = self.browser.ask(url)
            self.assertEqual(answer.value("Cache-Control"), "no-store")
            self.assertEqual(answer.value("Referrer-Policy"), "no-referrer")
            self.assertEqual(answer.value("X-Content-Type-Options"), "nosniff")
            self.assertIn("frame-ancestors 'none'", answer.value("Content-Security-Policy"))
            url = answer.value("Location")
            if url.startswith(ISSUER):
                url = self.browser.up_to(url, RELAY)

    @pytest.mark.feature("AUTH-4")
    def test_session_cookie(self) -> None:
        """S01: the cookie is for this host alone, out of reach of scripts and of other sites' requests."""
        answer = self.browser.ask(self.browser.up_to(APP + "/", APP + "/.appproxy/ticket"))
        [cookie] = [c for c in answer.values("Set-Cookie") if c.startswith(SESSION_NAME)]
        self.assertRegex(cookie, r"^__Host-appproxy-session=[\w-]{43}; Path=/; Secure; HttpOnly; SameSite=Lax$")

    def test_second_application_needs_no_password(self) -> None:
        """Somebody whom the relay knows gets a session for another application without the provider."""
        self.browser.walk(APP + "/")
        answer = self.browser.walk("https://wiki.example.test/page")
        self.assertEqual(answer.status, 200)
        self.assertFalse([url for url in self.browser.trail if url.startswith(ISSUER)])

    @pytest.mark.feature("AUTH-3")
    def test_target_is_kept_octet_for_octet(self) -> None:
        """S23: encoded slashes, ampersands and odd characters come back as they were."""
        for target in ("/a%2Fb?q=%26&x=%C3%A4", "/a//b", "/%20?next=//evil.test", "/x?y=%0d%0az", "/~'()*!,$:@"):
            self.assertEqual(Browser(self.rig).walk(APP + target).status, 200)
        browser = Browser(self.rig)
        browser.walk(APP + "/a%2Fb?q=%26&x=%C3%A4")
        self.assertEqual(browser.trail[-1], APP + "/a%2Fb?q=%26&x=%C3%A4")

    @pytest.mark.feature("AUTH-13")
    def test_dangerous_targets_fall_back(self) -> None:
        """S14, S21: what could be read as another site, or is too long, becomes the application's root."""
        for target in ("//evil.test/", "/%2f/evil.test", "/" + "a" * 3000):
            browser = Browser(self.rig)
            browser.walk(APP + target)
            self.assertEqual(browser.trail[-1], APP + "/", target)

    def test_strict_cookies_come_back_by_a_page(self) -> None:
        """A strict cookie would not come with the last redirect, so a page of the same site leads on."""
        self.rig.applications["hr"] = msgspec.structs.replace(HR, cookies=Cookies(same_site="strict"))
        answer = self.browser.walk(APP + '/a?"q"&b=1')
        self.assertEqual(answer.status, 200)
        self.assertIn(b'url=https://hr.example.test/a?%22q%22&amp;b=1"', answer.body)
        self.assertEqual(self.browser.ask(APP + "/").body, b"alice@example.test")

    def test_persistent_and_framed_cookies(self) -> None:
        """An application's cookie settings shape its session cookie."""
        cookies = Cookies(persistent=True, same_site="none", partitioned=True, http_only=False)
        self.rig.applications["hr"] = msgspec.structs.replace(HR, cookies=cookies)
        answer = self.browser.ask(self.browser.up_to(APP + "/", APP + "/.appproxy/ticket"))
        [cookie] = [c for c in answer.values("Set-Cookie") if c.startswith(SESSION_NAME)]
        self.assertTrue(cookie.endswith("; Path=/; Max-Age=86400; Secure; SameSite=None; Partitioned"), cookie)

    @pytest.mark.feature("AUTH-2")
    def test_answer_in_a_form(self) -> None:
        """An answer that comes as a form of the provider's page counts where this browser's cookies come along."""
        url, query = self.browser.up_to(APP + "/x", RELAY + "/.appproxy/callback").split("?")
        jar = self.browser.jars.pop("proxy.example.test")  # they do not come with another site's POST
        posts = ((b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Site", b"cross-site"), (b"Origin", ISSUER.encode()))
        answer = self.browser.ask(url, method=b"POST", fields=posts, body=query.encode())
        self.assertEqual((answer.status, answer.values("Set-Cookie")), (303, []))
        self.assertNotIn("code-0", answer.value("Location"))
        back = answer.value("Location")
        self.assertEqual(Browser(self.rig).ask(back).status, 400)
        self.browser.jars["proxy.example.test"] = jar
        self.assertEqual(self.browser.walk(back).status, 200)
        self.assertEqual(self.browser.trail[-1], APP + "/x")

    def test_hostile_forms(self) -> None:
        """A form that no provider sends is refused, and a sealed answer is good for half a minute."""
        url = RELAY + "/.appproxy/callback"
        for body, status in ((b"a=1&a=1", 400), (b"\xff", 400), (b"code=" + b"x" * 20_000, 413)):
            self.assertEqual(self.browser.ask(url, method=b"POST", body=body).status, status)
        self.assertEqual(self.browser.ask(url, method=b"POST", body=b"code=" + b"x" * 8000).status, 400)
        self.assertEqual(self.browser.ask(url + "?answer=AAAA").status, 400)
        back = self.browser.ask(url, method=b"POST", body=b"code=x&state=y").value("Location")
        self.rig.clock.advance(31)
        self.assertIn(b"sign-in-expired", self.browser.ask(back).body)

    def test_two_tabs(self) -> None:
        """Two tabs that began at the same time both arrive, and both keep the same session."""
        one = self.browser.ask(APP + "/one").value("Location")
        two = self.browser.ask(APP + "/two").value("Location")
        first, second = (self.browser.up_to(url, ISSUER) for url in (one, two))
        self.assertEqual(self.browser.walk(first).status, 200)
        cookie = self.browser.jars["hr.example.test"][SESSION_NAME]
        self.assertEqual(self.browser.walk(second).status, 200)
        self.assertEqual(self.browser.trail[-1], APP + "/two")
        self.assertEqual(self.browser.jars["hr.example.test"][SESSION_NAME], cookie)

    def test_tabs_with_different_binding(self) -> None:
        """Tabs that began before any cookie had come begin again by themselves and arrive."""
        first = self.browser.ask(APP + "/one").value("Location")
        del self.browser.jars["hr.example.test"]
        self.browser.ask(APP + "/two")
        self.assertEqual(self.browser.walk(first).status, 200)
        self.assertEqual(self.browser.trail[-1], APP + "/one")

    def test_shared_host(self) -> None:
        """Applications published under paths of one host share its session; a shorter lifetime is still kept."""
        short = msgspec.structs.replace(HR.session, absolute=type(HR.session.absolute)(600))
        other = Application(
            id="pay",
            external_url=APP + "/pay/",
            internal_url="http://pay.corp.test/",
            connector_group="hq",
            session=short,
        )
        self.browser.walk(APP + "/")
        cookies = {SESSION: [self.browser.jars["hr.example.test"][SESSION_NAME].encode()]}
        exchange = FakeExchange(APP + "/pay/", cookies=cookies)
        self.assertIsNotNone(self.rig.oidc.peek(exchange, other))
        self.rig.clock.advance(601)
        self.assertIsNone(self.successResultOf(self.rig.oidc.identify(exchange, other)))
        self.assertIsNotNone(self.successResultOf(self.rig.oidc.identify(exchange, HR)))


class RefusalTest(SynchronousTestCase):
    """What must not lead to a session."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.browser = Browser(self.rig)

    def callback(self, browser: Browser | None = None) -> str:
        """The address that the provider sends this browser back to."""
        return (browser or self.browser).up_to(APP + "/", RELAY + "/.appproxy/callback")

    def assertRefused(self, url: str, status: int, code: str, browser: Browser | None = None) -> FakeExchange:
        """The address is answered with an error page, without a session."""
        answer = (browser or self.browser).ask(url)
        self.assertEqual((answer.status, answer.value("Location")), (status, ""), answer.body)
        self.assertIn(code.encode(), answer.body)
        self.assertFalse([c for c in answer.values("Set-Cookie") if c.startswith(SESSION_NAME + "=") and "=;" not in c])
        return answer

    def test_unknown_state(self) -> None:
        """A07: an answer to no question of ours never reaches the token endpoint."""
        self.assertRefused(RELAY + "/.appproxy/callback?code=x&state=zzz", 400, "sign-in-unknown")
        self.assertEqual(self.rig.idp.count("/token"), 0)

    @pytest.mark.feature("AUTH-2")
    def test_state_of_another_browser(self) -> None:
        """A08: state and code of one browser are worth nothing in another."""
        self.assertRefused(self.callback(), 400, "sign-in-unknown", Browser(self.rig))
        self.assertEqual(self.rig.idp.count("/token"), 0)

    def test_state_twice(self) -> None:
        """A09: a state works once, even with its cookie brought back."""
        url = self.callback()
        jar = dict(self.browser.jars["proxy.example.test"])
        self.browser.ask(url)
        self.browser.jars["proxy.example.test"] = jar
        self.assertRefused(url, 400, "sign-in-unknown")
        self.assertEqual(self.rig.idp.count("/token"), 1)

    @pytest.mark.feature("AUTH-13")
    def test_slow_sign_in(self) -> None:
        """A10: after ten minutes an attempt is refused, with a way to begin again."""
        url = self.callback()
        self.rig.clock.advance(601)
        self.assertIn(b'href="/"', self.assertRefused(url, 400, "sign-in-expired").body)

    @pytest.mark.feature("AUTH-13")
    def test_two_hundred_sign_ins(self) -> None:
        """A11: however many sign-ins a browser begins, it keeps five small cookies at the relay and one elsewhere."""
        for n in range(200):
            self.browser.up_to(f"{APP}/{n}", ISSUER)
            self.rig.clock.advance(1)
        jar = self.browser.jars["proxy.example.test"]
        self.assertEqual(len([name for name in jar if name.startswith(ATTEMPT.decode())]), 5)
        self.assertLess(sum(map(len, jar.values())), 5000)
        self.assertEqual(list(self.browser.jars["hr.example.test"]), [BINDING.decode()])

    def test_longest_target_fits_into_a_cookie(self) -> None:
        """S21: with the longest target that is kept the attempt's cookie is one that browsers keep."""
        self.browser.up_to(APP + "/" + "a" * 1535, ISSUER)
        [(name, value)] = self.browser.jars["proxy.example.test"].items()
        self.assertLess(len(name) + len(value), 4096)

    def test_attempt_cookie_twice(self) -> None:
        """A12: a second cookie of the same name does not stop an honest sign-in."""
        url = self.callback()
        [(name, value)] = self.browser.jars["proxy.example.test"].items()
        exchange = FakeExchange(url, cookies={name.encode(): [b"tossed", value.encode()]})
        self.rig.respond(exchange)
        self.assertEqual(exchange.status, 302)

    def test_error_from_the_provider(self) -> None:
        """A13: a refusal is told in our words; nothing of the provider's text comes back."""
        state = parse_qs(urlsplit(self.callback()).query)["state"][0]
        script = quote("<script>alert(1)</script>")
        error = f"error=access_denied&error_description={script}"
        url = f"{RELAY}/.appproxy/callback?state={state}&iss={quote(ISSUER)}&{error}"
        answer = self.assertRefused(url, 403, "sign-in-declined")
        self.assertNotIn(b"alert", answer.body)
        self.assertEqual(self.rig.idp.count("/token"), 0)

    def test_provider_in_trouble(self) -> None:
        """An error of the provider's own is no refusal of the person."""
        state = parse_qs(urlsplit(self.callback()).query)["state"][0]
        url = f"{RELAY}/.appproxy/callback?state={state}&iss={quote(ISSUER)}&error=temporarily_unavailable"
        self.assertRefused(url, 502, "provider-unreachable")

    def test_mixed_up_issuer(self) -> None:
        """A14: an answer that names another issuer, or none where one is promised, never reaches the token endpoint."""
        url = self.callback()
        self.assertRefused(url.replace("iss=", "iss=x"), 403, "sign-in-declined")
        other = Browser(self.rig)
        url = re.sub(r"&iss=[^&]*", "", self.callback(other))
        self.assertRefused(url, 403, "sign-in-declined", other)
        self.assertEqual(self.rig.idp.count("/token"), 0)

    def test_verifier(self) -> None:
        """A15: the verifier that goes with the code is this attempt's own."""
        one, two = self.callback(), self.callback()
        self.browser.ask(two)
        form = parse_qs(self.rig.idp.requests[-3][3].decode())
        asked = [parse_qs(urlsplit(url).query) for url in (one, two)]
        self.assertEqual(form["code"], asked[1]["code"])
        self.assertEqual(self.rig.idp.count("/token"), 1)

    def test_parameters_twice(self) -> None:
        """An address of ours with a parameter twice is refused: there is no right one of two."""
        self.assertRefused(self.callback() + "&code=other", 400, "sign-in-malformed")
        self.assertRaises(SignInMalformed, parse_query, b"a=1&a=2")
        self.assertRaises(SignInMalformed, parse_query, b"a=%ff")

    def test_floods_of_parameters(self) -> None:
        """D09: beyond a few parameters a query is refused before it is taken apart; applications' own pass as text."""
        for count in (21, 100_000):
            self.assertRaises(SignInMalformed, parse_query, b"&".join(b"a%d=1" % n for n in range(count)))

    def test_bad_tokens(self) -> None:
        """A30: whatever the token endpoint says instead of tokens, there is a 502 page and no session."""
        for answer in (as_json([1]), as_json({}, 500), as_json({"access_token": "x"})):
            self.rig.idp.overrides["/token"] = answer
            self.assertRefused(self.callback(), 502, "provider-unreachable")

    def test_store_away(self) -> None:
        """While the store is away nobody is signed in, and people are told to wait."""
        url = self.callback()
        self.rig.store.away = True
        self.assertRefused(url, 503, "sign-in-unavailable")

    def test_malformed_wish(self) -> None:
        """O05: a sign-in address that was changed, or is too old, is refused."""
        url = self.browser.ask(APP + "/").value("Location")
        self.assertRefused(url[:-3] + "abc", 400, "sign-in-malformed")
        self.rig.clock.advance(601)
        self.assertRefused(url, 400, "sign-in-expired")

    def test_disabled_application(self) -> None:
        """Nobody is signed in to an application that is gone, disabled or needs no sign-in."""
        url = self.browser.ask(APP + "/").value("Location")
        self.rig.applications["hr"] = msgspec.structs.replace(HR, enabled=False)
        self.assertRefused(url, 400, "sign-in-malformed")

    def test_cookies_refused(self) -> None:
        """A browser that keeps no cookies is told so and not sent round and round."""
        ticket = self.browser.up_to(APP + "/", APP + "/.appproxy/ticket")
        self.browser.jars["hr.example.test"].clear()
        self.assertRefused(ticket, 400, "sign-in-unknown")

    def test_ticket_of_another_browser(self) -> None:
        """A ticket works only in the browser that asked for it: nobody is signed in as the attacker."""
        ticket = self.browser.up_to(APP + "/", APP + "/.appproxy/ticket")
        victim = Browser(self.rig)
        victim.ask(APP + "/")
        answer = victim.ask(ticket)
        self.assertEqual(answer.value("Location"), APP + "/")
        self.assertNotIn(SESSION_NAME, victim.jars["hr.example.test"])

    @pytest.mark.feature("AUTH-3")
    def test_ticket_twice_and_late(self) -> None:
        """A ticket works once and for thirty seconds."""
        ticket = self.browser.up_to(APP + "/", APP + "/.appproxy/ticket")
        jar = dict(self.browser.jars["hr.example.test"])
        self.assertEqual(self.browser.ask(ticket).status, 302)
        self.browser.jars["hr.example.test"] = dict(jar)
        self.assertRefused(ticket, 400, "sign-in-unknown")
        ticket = self.browser.up_to(APP + "/", APP + "/.appproxy/ticket")
        self.rig.clock.advance(30)
        self.assertRefused(ticket, 400, "sign-in-expired")

    def test_ticket_at_another_host(self) -> None:
        """S19: a ticket for one application is worth nothing at another's host."""
        ticket = self.browser.up_to(APP + "/", APP + "/.appproxy/ticket")
        self.browser.jars["wiki.example.test"] = dict(self.browser.jars["hr.example.test"])
        self.assertRefused(ticket.replace(APP, "https://wiki.example.test"), 400, "sign-in-malformed")

    @pytest.mark.feature("AUTH-13")
    def test_addresses_that_nobody_sealed(self) -> None:
        """S17, S18, S19: where to go is no parameter; only what the relay has sealed itself leads to an application."""
        for address in ("https://wiki.example.test/", "https:evil.test", "https://proxy.example.test@evil.test", "//x"):
            given = "&".join(f"{name}={quote(address, safe='')}" for name in ("rd", "return", "target", "next"))
            browser = Browser(self.rig)
            browser.walk(f"{RELAY}/.appproxy/sign-in?{given}")
            self.assertEqual(browser.trail[-1], RELAY + "/", address)
            wish = quote(address, safe="")
            self.assertRefused(f"{RELAY}/.appproxy/sign-in?wish={wish}", 400, "sign-in-malformed")

    def test_wish_for_an_application_that_went(self) -> None:
        """S19: an application that is no longer published is no place to go, however the wish came about."""
        wish = self.browser.ask(APP + "/").value("Location")
        del self.rig.applications["hr"]
        self.assertRefused(wish, 400, "sign-in-malformed")

    def test_ticket_after_sign_out(self) -> None:
        """A ticket dies with the relay's session that it came from."""
        ticket = self.browser.up_to(APP + "/", APP + "/.appproxy/ticket")
        root = self.rig.sessions.peek(self.browser.jars["proxy.example.test"][SESSION_NAME].encode())
        assert root is not None
        self.successResultOf(self.rig.sessions.end(root))
        self.assertRefused(ticket, 400, "sign-in-expired")

    def test_loop_ends(self) -> None:
        """A browser that drops its session again and again gets a page after the third round, not a fourth redirect."""
        for _ in range(3):
            self.browser.walk(APP + "/")
            del self.browser.jars["hr.example.test"][SESSION_NAME]
        self.assertRefused(APP + "/", 403, "sign-in-loops")
        self.assertEqual(self.browser.walk(APP + "/").status, 200)

    @pytest.mark.feature("AUTH-4")
    def test_planted_cookies(self) -> None:
        """S02: a session cookie that was there before the sign-in is neither used nor kept."""
        planted = "A" * 43
        self.browser.jars["hr.example.test"] = {SESSION_NAME: planted}
        self.browser.jars["proxy.example.test"] = {SESSION_NAME: planted}
        self.assertEqual(self.browser.walk(APP + "/").status, 200)
        self.assertNotEqual(self.browser.jars["hr.example.test"][SESSION_NAME], planted)
        self.assertNotEqual(self.browser.jars["proxy.example.test"][SESSION_NAME], planted)

    def test_other_person_in_the_same_browser(self) -> None:
        """S02: who signs in after somebody else gets a session of their own, and the earlier one is dead everywhere."""
        first = self.callback()
        self.browser.walk(APP + "/")
        old = dict(self.browser.jars["hr.example.test"])
        self.rig.idp.claims = {"sub": "u-2", "preferred_username": "bob@example.test"}
        self.rig.idp.userinfo = {"sub": "u-2"}
        self.assertEqual(self.browser.walk(first).body, b"bob@example.test")
        self.browser.jars["hr.example.test"] = old
        self.assertEqual(self.browser.ask(APP + "/").status, 302)


class ReservedPathTest(SynchronousTestCase):
    """Everything else under ``/.appproxy``."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.browser = Browser(self.rig)

    def test_unknown_paths(self) -> None:
        """Unknown reserved addresses are 404 and never an origin's; each host has only its own."""
        for url in (
            APP + "/.appproxy/x",
            APP + "/.appproxy",
            APP + "/.appproxy/callback",
            RELAY + "/.appproxy/ticket",
            APP + "/.appproxy/sign-in",
        ):
            self.assertEqual(self.browser.ask(url).status, 404, url)

    def test_methods(self) -> None:
        """An address that uses something up takes GET only."""
        answer = self.browser.ask(RELAY + "/.appproxy/callback", method=b"HEAD")
        self.assertEqual((answer.status, answer.value("Allow")), (405, "GET, POST"))
        answer = self.browser.ask(APP + "/.appproxy/ticket", method=b"POST")
        self.assertEqual((answer.status, answer.value("Allow")), (405, "GET"))

    def test_scripts_get_no_state(self) -> None:
        """A02: what is no navigation gets no sign-in cookie at the relay either."""
        url = self.browser.ask(APP + "/").value("Location")
        answer = self.browser.ask(url, fields=FETCHES)
        self.assertEqual((answer.status, answer.values("Set-Cookie")), (401, []))

    def test_unknown_provider(self) -> None:
        """A provider that nobody configured is no address of ours."""
        self.assertEqual(self.browser.ask(RELAY + "/.appproxy/sign-in?provider=x", fields=NAVIGATES).status, 400)
        self.assertEqual(WIKI.provider, "")
