"""What a request without a session is answered, and which sessions count."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import AccessTokens, Cookies, CrossOrigin, Segment
from appproxy.http.messages import Field
from appproxy.relay.catalog import Published
from appproxy.relay.people.sessions import hash_handle
from appproxy.relay.preauth.cookies import BINDING, SESSION
from tests.fakes.browser import HR, RELAY, WIKI, Browser, Rig
from tests.fakes.exchange import FETCHES, NAVIGATES, FakeExchange

APP = "https://hr.example.test"


class ChallengeTest(SynchronousTestCase):
    """Nobody is signed in."""

    def setUp(self) -> None:
        self.rig = Rig()

    def challenge(
        self, method: bytes = b"GET", fields: tuple[Field, ...] = NAVIGATES, target: bytes = b"/leave"
    ) -> FakeExchange:
        """Ask without any cookie."""
        exchange = FakeExchange(APP.encode() + target, method=method, fields=fields)
        self.successResultOf(self.rig.oidc.challenge(exchange, Published(HR)))
        return exchange

    @pytest.mark.feature("AUTH-8")
    def test_navigation(self) -> None:
        """A01: a person is redirected to the relay's host, with one short-lived cookie that binds the way back."""
        answer = self.challenge()
        self.assertEqual(answer.status, 302)
        self.assertTrue(answer.value("Location").startswith(RELAY + "/.appproxy/sign-in?wish="))
        self.assertRegex(
            answer.value("Set-Cookie"),
            r"^__Host-appproxy-binding=[\w-]{43}; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax$",
        )
        self.assertEqual(self.challenge(b"HEAD").status, 302)

    @pytest.mark.feature("AUTH-8")
    def test_programs(self) -> None:
        """A02, A05, A06: scripts, WebSockets, preflights and plain programs get 401 and no cookie, never a redirect."""
        websocket = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Accept", b"text/html"))
        xhr = ((b"Accept", b"text/html"), (b"X-Requested-With", b"XMLHttpRequest"))
        preflight = ((b"Access-Control-Request-Method", b"PUT"), (b"Origin", b"https://x.test"))
        for method, fields in (
            (b"GET", FETCHES),
            (b"GET", websocket),
            (b"GET", xhr),
            (b"OPTIONS", preflight),
            (b"GET", ((b"Accept", b"application/json"),)),
            (b"POST", ((b"Content-Length", b"0"),)),
            (b"RDG_OUT_DATA", ()),
        ):
            answer = self.challenge(method, fields)
            self.assertEqual((answer.status, answer.values("Set-Cookie")), (401, []), fields)
            self.assertEqual(answer.value("WWW-Authenticate"), 'Bearer realm="hr"')
            self.assertEqual(answer.value("Content-Type"), "application/problem+json")
            self.assertEqual(msgspec.json.decode(answer.body)["code"], "sign-in-required")

    def test_authorization_uri(self) -> None:
        """Once the provider is known a program is told where tokens come from."""
        Browser(self.rig).walk(APP + "/")
        self.assertEqual(
            self.challenge(fields=FETCHES).value("WWW-Authenticate"),
            'Bearer realm="hr", authorization_uri="https://idp.example.test/authorize"',
        )

    @pytest.mark.feature("AUTH-8")
    def test_bad_bearer(self) -> None:
        """A38: a bearer token that is not accepted is told so; even a navigation is not redirected."""
        answer = self.challenge(fields=(*NAVIGATES, (b"Authorization", b"bearer abc")))
        self.assertEqual(answer.status, 401)
        self.assertEqual(answer.value("WWW-Authenticate"), 'Bearer realm="hr", error="invalid_token"')

    @pytest.mark.feature("AUTH-8")
    def test_as_entra_does(self) -> None:
        """By option programs are redirected, too; but no WebSocket, and nobody with a bad token."""
        application = Published(msgspec.structs.replace(HR, compat="entra"))
        websocket = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
        bad = ((b"Authorization", b"Bearer x"),)
        for method, fields, status in (
            (b"GET", FETCHES, 302),
            (b"GET", (), 302),
            (b"POST", ((b"Content-Length", b"0"),), 303),
            (b"GET", websocket, 401),
            (b"GET", bad, 401),
        ):
            exchange = FakeExchange(APP + "/leave", method=method, fields=fields)
            self.successResultOf(self.rig.oidc.challenge(exchange, application))
            self.assertEqual(exchange.status, status, fields)

    @pytest.mark.feature("AUTH-8")
    def test_scripts_of_other_sites(self) -> None:
        """A script that may use the application can read that it has to sign in, and where; others learn nothing."""
        cors = CrossOrigin(allowed_origins=("https://spa.example.test",), allow_credentials=True)
        segment = Segment(external_url=HR.external_url, internal_url=HR.internal_url, cors=cors)
        api = AccessTokens(audiences=("api://hr",))
        application = Published(
            msgspec.structs.replace(HR, external_url="", internal_url="", segment=(segment,), api=api)
        )
        exchange = FakeExchange(APP + "/", fields=(*FETCHES, (b"Origin", b"https://spa.example.test")))
        self.successResultOf(self.rig.oidc.challenge(exchange, application))
        self.assertEqual((exchange.status, exchange.values("Location")), (401, []))
        self.assertEqual(exchange.value("Access-Control-Allow-Origin"), "https://spa.example.test")
        self.assertEqual(exchange.value("Access-Control-Allow-Credentials"), "true")
        self.assertIn("WWW-Authenticate", exchange.value("Access-Control-Expose-Headers"))
        self.assertEqual(
            exchange.value("WWW-Authenticate"),
            f'Bearer realm="hr", resource_metadata="{APP}/.well-known/oauth-protected-resource"',
        )
        exchange = FakeExchange(APP + "/", fields=(*FETCHES, (b"Origin", b"https://evil.example.test")))
        self.successResultOf(self.rig.oidc.challenge(exchange, application))
        self.assertEqual((exchange.status, exchange.values("Access-Control-Allow-Origin")), (401, []))

    def test_posted_form(self) -> None:
        """A03, A04: a form of nobody knows where is not kept, and its sender is told so, with a link to the root."""
        browser = Browser(self.rig)
        answer = browser.ask(APP + "/pay?x=1", method=b"POST", body=b"amount=1")
        self.assertEqual((answer.status, answer.values("Set-Cookie")[1:]), (401, []))
        self.assertIn(b"form-not-kept", answer.body)
        self.assertIn(b'href="/"', answer.body)

    def test_posted_form_as_the_original(self) -> None:
        """With ``compat = "entra"`` whoever sends such a form signs in, and begins at the application's root."""
        exchange = FakeExchange(APP + "/pay?x=1", method=b"POST")
        self.successResultOf(self.rig.oidc.challenge(exchange, Published(msgspec.structs.replace(HR, compat="entra"))))
        self.assertEqual(exchange.status, 303)

    def test_framed_application(self) -> None:
        """The binding cookie of an application that is framed by other sites goes with framed requests."""
        framed = msgspec.structs.replace(HR, cookies=Cookies(same_site="none", partitioned=True))
        exchange = FakeExchange(APP + "/")
        self.successResultOf(self.rig.oidc.challenge(exchange, Published(framed)))
        self.assertIn("SameSite=None; Partitioned", exchange.value("Set-Cookie"))
        strict = msgspec.structs.replace(HR, cookies=Cookies(same_site="strict"))
        exchange = FakeExchange(APP + "/")
        self.successResultOf(self.rig.oidc.challenge(exchange, Published(strict)))
        self.assertIn("SameSite=Lax", exchange.value("Set-Cookie"))

    def test_unknown_provider(self) -> None:
        """An application whose provider is not configured shows an error page and redirects nowhere."""
        exchange = FakeExchange(APP + "/")
        self.successResultOf(self.rig.oidc.challenge(exchange, Published(msgspec.structs.replace(HR, provider="x"))))
        self.assertEqual(exchange.status, 502)
        self.assertIn(b"provider-misconfigured", exchange.body)

    def test_binding_is_reused(self) -> None:
        """Sign-ins of one browser share the binding cookie; a made-up one is replaced."""
        known = {BINDING: [b"b" * 43]}
        exchange = FakeExchange(APP + "/", cookies=known)
        self.successResultOf(self.rig.oidc.challenge(exchange, Published(HR)))
        self.assertIn("b" * 43, exchange.value("Set-Cookie"))
        for values in ([b"short"], [b"b" * 43, b"c" * 43]):
            exchange = FakeExchange(APP + "/", cookies={BINDING: values})
            self.successResultOf(self.rig.oidc.challenge(exchange, Published(HR)))
            self.assertNotIn("b" * 43, exchange.value("Set-Cookie"))


class SessionTest(SynchronousTestCase):
    """Somebody is signed in."""

    def setUp(self) -> None:
        self.rig = Rig()
        browser = Browser(self.rig)
        browser.walk(APP + "/")
        self.handle = browser.jars["hr.example.test"][SESSION.decode()].encode()

    def identify(self, *handles: bytes, url: str = APP + "/") -> str:
        """Who the relay takes the holder of these cookies for."""
        exchange = FakeExchange(url, cookies={SESSION: list(handles)})
        session = self.successResultOf(self.rig.oidc.identify(exchange, HR))
        self.assertEqual(session, self.rig.oidc.peek(exchange, HR))
        return session.identity.user if session else ""

    @pytest.mark.feature("AUTH-4")
    def test_duplicates(self) -> None:
        """S03: of several session cookies none is trusted for its place, only one that is a session."""
        for handles in ((b"x", self.handle), (self.handle, b"x"), (b"A" * 43, self.handle)):
            self.assertEqual(self.identify(*handles), "alice@example.test")

    def test_cookies_without_number(self) -> None:
        """S06: of a thousand session cookies four are looked up, and counters of chunks mean nothing."""
        looked_up: list[bytes] = []
        read = self.rig.store.read
        self.patch(self.rig.store, "read", lambda find, hashed: looked_up.append(hashed) or read(find, hashed))
        made_up = [b"%043d" % number for number in range(1000)]
        chunks = {SESSION + b"_%d" % number: [b"x" * 40] for number in range(1000)}
        cookies = {SESSION + b"_chunks": [b"99999999"], SESSION: [*made_up, self.handle], **chunks}
        exchange = FakeExchange(APP + "/", cookies=cookies)
        self.assertIsNone(self.rig.oidc.peek(exchange, HR))
        self.assertIsNone(self.successResultOf(self.rig.oidc.identify(exchange, HR)))
        self.assertEqual(looked_up, [hash_handle(handle) for handle in made_up[:4]])

    def test_other_host(self) -> None:
        """S04: a session cookie is worth nothing at another application's host."""
        self.assertEqual(self.identify(self.handle, url="https://wiki.example.test/"), "")

    def test_tampered(self) -> None:
        """S05: any change to the cookie makes it nobody's, without an exception."""
        for n in range(len(self.handle)):
            changed = bytearray(self.handle)
            changed[n] ^= 1
            self.assertEqual(self.identify(bytes(changed)), "")
        for handle in (b"", self.handle[:-1], self.handle + b"A", b"\xff" * 20000, b"%00"):
            self.assertEqual(self.identify(handle), "")

    def test_claims(self) -> None:
        """What the provider said in the ID token and in user information is known of the person; secrets are not."""
        session = self.rig.sessions.peek(self.handle)
        assert session is not None
        self.assertEqual(session.identity.groups, ("staff",))
        self.assertEqual(session.identity.claims["email"], "alice@example.test")
        self.assertFalse({"nonce", "at_hash", "exp"} & set(session.identity.claims))
        self.assertNotIn(self.handle.decode(), repr(session))
        self.assertEqual(WIKI.id, "wiki")


@pytest.mark.feature("PUB-5", "PUB-6")
class AddressesTest(SynchronousTestCase):
    """An application with several addresses."""

    def setUp(self) -> None:
        """One of them below a path, one at another host."""
        self.files = Segment(external_url="https://files.example.test/a/b/", internal_url="http://files.corp.test/")
        self.hr = msgspec.structs.replace(
            HR,
            external_url="https://hr.example.test/hr/",
            segment=(self.files,),
            alternate_url="https://g.example.test/",
        )
        self.rig = Rig(self.hr)

    def test_one_sign_in_for_all(self) -> None:
        """AUTH-3: whoever signed in at one address comes to each other one by a ticket, and nobody is asked again."""
        exchanges = (
            FakeExchange("https://hr.example.test/hr/x", fields=NAVIGATES),
            FakeExchange("https://files.example.test/a/b/x", fields=NAVIGATES),
            FakeExchange("https://g.example.test/x", fields=NAVIGATES),
        )
        browser = Browser(self.rig)
        browser.walk(RELAY + "/")
        for exchange in exchanges:
            self.successResultOf(Deferred.fromCoroutine(self.rig.oidc.challenge(exchange, Published(self.hr))))
            jar = browser.jars.setdefault(exchange.host, {})
            binding = exchange.value("Set-Cookie").partition("=")[2].partition(";")[0]
            jar[BINDING.decode()] = binding
            handed_over = browser.ask(exchange.value("Location"))
            self.assertTrue(handed_over.value("Location").startswith(f"{exchange.origin}/.appproxy/ticket?"))
            entered = browser.ask(handed_over.value("Location"))
            self.assertEqual(entered.value("Location"), f"{exchange.origin}{exchange.head.target.decode()}")
            cookies = {SESSION: [jar[SESSION.decode()].encode()]}
            again = FakeExchange(exchange.origin + "/", fields=NAVIGATES, cookies=cookies)
            session = self.rig.oidc.peek(again, self.hr)
            assert session is not None
            self.assertEqual((session.identity.user, session.host), ("alice@example.test", exchange.host))

    def test_a_session_is_for_its_own_host(self) -> None:
        """A34: the cookie of one address is nothing at another; only a ticket leads there."""
        browser = Browser(self.rig)
        browser.walk("https://hr.example.test/hr/")
        cookies = {SESSION: [browser.jars["hr.example.test"][SESSION.decode()].encode()]}
        for url, known in (("https://hr.example.test/hr/", True), ("https://files.example.test/a/b/", False)):
            exchange = FakeExchange(url, fields=NAVIGATES, cookies=cookies)
            self.assertIs(self.rig.oidc.peek(exchange, self.hr) is not None, known)

    def test_root_paths(self) -> None:
        """What cannot be asked for again begins anew at the root of the address that it was asked of."""
        for url, root in (
            ("https://hr.example.test/hr/x", b"/hr/"),
            ("https://files.example.test/a/b/c", b"/a/b/"),
            ("https://files.example.test/.appproxy/sign-out", b"/a/b/"),
            ("https://g.example.test/x", b"/"),
            ("https://elsewhere.example.test/x", b"/"),
        ):
            self.assertEqual(self.rig.oidc.root_path(self.hr, FakeExchange(url)), root)
