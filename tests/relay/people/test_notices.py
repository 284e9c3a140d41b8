"""Sign-outs that the provider tells of."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.messages import Field
from appproxy.relay.preauth.cookies import SESSION
from appproxy.store import once, sessions
from tests.fakes.browser import RELAY, Browser, Rig
from tests.fakes.exchange import FakeExchange
from tests.fakes.idp import ISSUER
from tests.relay.people.test_sessions import Open

APP, WIKI = "https://hr.example.test", "https://wiki.example.test"
BACK, FRONT = RELAY + "/.appproxy/back-channel-logout", RELAY + "/.appproxy/front-channel-logout"
FORM = ((b"Content-Type", b"application/x-www-form-urlencoded"),)
EVENT = "http://schemas.openid.net/event/backchannel-logout"


class NoticesTest(SynchronousTestCase):
    """Somebody signed in to two applications."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.browser = Browser(self.rig)
        self.browser.walk(APP + "/")
        self.browser.walk(WIKI + "/")

    def tell(self, token: str, fields: Iterable[Field] = FORM) -> FakeExchange:
        """The provider posts a logout token."""
        answer = self.raw(urlencode({"logout_token": token}).encode(), fields)
        self.assertEqual(answer.value("Cache-Control"), "no-store")
        return answer

    def raw(self, body: bytes, fields: Iterable[Field] = FORM) -> FakeExchange:
        """Somebody posts *body*."""
        answer = Browser(self.rig).ask(BACK, method=b"POST", fields=fields, body=body)
        self.rig.follow()
        return answer

    def knows(self, url: str = APP + "/", browser: Browser | None = None) -> bool:
        """Whether the application still gets this browser's requests."""
        return (browser or self.browser).ask(url).status == 200

    @pytest.mark.feature("AUTH-6", "AUTH-7")
    def test_session(self) -> None:
        """A40, W03: the session that the provider names ends at once, everywhere, with what is open for it."""
        handle = self.browser.jars["hr.example.test"][SESSION.decode()].encode()
        session = self.successResultOf(self.rig.sessions.find(handle))
        assert session is not None
        watcher = Open()
        session.watch(watcher)
        answer = self.tell(self.rig.idp.logout_token(sub="u-1"))
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(watcher.closed, 1)
        self.assertFalse(self.knows() or self.knows(WIKI + "/"))
        self.assertEqual(self.successResultOf(self.rig.store.read(sessions.list_)), [])

    @pytest.mark.feature("AUTH-6")
    def test_only_that_session(self) -> None:
        """A session id ends that sign-in; another of the same person goes on."""
        self.rig.idp.claims["sid"] = "sid-2"
        other = Browser(self.rig)
        other.walk(APP + "/")
        self.assertEqual(self.tell(self.rig.idp.logout_token(sid="sid-2")).status, 200)
        self.assertEqual((self.knows(), self.knows(browser=other)), (True, False))

    @pytest.mark.feature("AUTH-6")
    def test_subject(self) -> None:
        """Without a session id all sign-ins of the person end, and nobody else's."""
        self.rig.idp.claims["sid"] = "sid-2"
        other = Browser(self.rig)
        other.walk(APP + "/")
        self.rig.idp.claims |= {"sub": "u-2", "preferred_username": "bob@example.test"}
        self.rig.idp.userinfo = {"sub": "u-2"}
        bob = Browser(self.rig)
        bob.walk(APP + "/")
        self.assertEqual(self.tell(self.rig.idp.logout_token(sub="u-1", sid=None)).status, 200)
        self.assertEqual([self.knows(browser=each) for each in (self.browser, other, bob)], [False, False, True])

    def test_unknown_session(self) -> None:
        """A logout of a session that is not here is a good one; of one that is somebody else's, too."""
        for token in (self.rig.idp.logout_token(sid="sid-9"), self.rig.idp.logout_token(sub="u-9")):
            self.assertEqual(self.tell(token).status, 200)
        self.assertTrue(self.knows())

    @pytest.mark.feature("AUTH-6")
    def test_bad_tokens(self) -> None:
        """A40: whatever is wrong with a logout token, it is 400 and nobody is signed out."""
        idp = self.rig.idp
        now = self.rig.epoch()
        bad = {
            "payload-too-large": ["x" * 300_000],
            "algorithm": [idp.logout_token({"alg": each}) for each in ("none", "HS256", "PS256")],
            "type": [idp.logout_token({"typ": "at+jwt"}), idp.logout_token({"typ": "secevent+jwt"})],
            "critical-header": [idp.logout_token({"crit": ["x"], "x": 1})],
            "unknown-key": [idp.logout_token({"kid": "other"})],
            "signature": [idp.logout_token(key="stolen"), idp.logout_token(key="key-2")],
            "issuer": ["", "x", "a.b.c", idp.logout_token(iss=ISSUER + ".evil"), idp.logout_token(iss=None)],
            "audience": [idp.logout_token(aud="other"), idp.logout_token(aud=None), idp.logout_token(aud=[7])],
            "time": [idp.logout_token(iat=None), idp.logout_token(exp=None), idp.logout_token(exp=str(now + 9))],
            "expired": [idp.logout_token(exp=now - 61)],
            "future": [idp.logout_token(iat=now + 61)],
            "events": [
                idp.logout_token(events=each)
                for each in (None, {}, [EVENT], {EVENT: True}, {EVENT: None}, {EVENT + "x": {}})
            ],
            "nonce": [idp.logout_token(nonce="n"), idp.logout_token(nonce="")],
            "subject": [
                idp.logout_token(sid=None),
                idp.logout_token(sid=""),
                idp.logout_token(sub=7),
                idp.logout_token(jti=""),
            ],
            "replayed": [idp.logout_token(jti=None)],
        }
        for flaw, tokens in bad.items():
            for token in tokens:
                answer = self.tell(token)
                self.assertEqual(answer.status, 400, flaw)
                self.assertIn(flaw.encode(), answer.body, token)
        self.assertTrue(self.knows() and self.knows(WIKI + "/"))

    @pytest.mark.feature("AUTH-6")
    def test_id_token_is_no_logout_token(self) -> None:
        """A40: the ID token of somebody's sign-in signs nobody out, events or not."""
        claims = {"iss": ISSUER, "aud": "relay", "sub": "u-1", "iat": self.rig.epoch(), "jti": "j", "nonce": "n"}
        claims |= {"exp": self.rig.epoch() + 300, "sid": "sid-1"}
        for more in ({}, {"events": {EVENT: {}}}):
            self.assertEqual(self.tell(self.rig.idp.sign_as({**claims, **more}, {"typ": "JWT"})).status, 400)
        self.assertTrue(self.knows())

    @pytest.mark.feature("AUTH-6")
    def test_replay(self) -> None:
        """A40: a logout token works once, for as long as it could be presented."""
        token = self.rig.idp.logout_token()
        self.assertEqual(self.tell(token).status, 200)
        self.browser.walk(APP + "/")
        for seconds in (0, 120, 59):
            self.rig.clock.advance(seconds)
            self.successResultOf(self.rig.store.write(once.purge, self.rig.epoch()))
            answer = self.tell(token)
            self.assertEqual((answer.status, b"replayed" in answer.body), (400, True))
        self.rig.clock.advance(1)
        self.assertIn(b"expired", self.tell(token).body)

    def test_types(self) -> None:
        """The header may say either type, or none."""
        for headers in ({"typ": "JWT"}, {"typ": "logout+jwt"}, {"typ": "application/logout+jwt"}, {"typ": None}):
            self.assertEqual(self.tell(self.rig.idp.logout_token(headers)).status, 200)

    def test_no_form(self) -> None:
        """A40: a notice has one token, in a form, of bounded length; it is never taken from the address."""
        token = urlencode({"logout_token": self.rig.idp.logout_token()}).encode()
        json = ((b"Content-Type", b"application/json"),)
        for body, fields in ((token, json), (token, ()), (token + b"&" + token, FORM), (b"", FORM), (b"\xff", FORM)):
            self.assertEqual(self.raw(body, fields).status, 400)
        self.assertEqual(self.raw(b"a" * 70_000).status, 400)
        self.assertEqual(Browser(self.rig).ask(f"{BACK}?{token.decode()}").status, 405)
        self.assertTrue(self.knows())

    def test_provider_or_store_away(self) -> None:
        """What could not be done is 400, and the token is still good afterwards."""
        token = self.rig.idp.logout_token()
        self.rig.store.away = True
        answer = self.tell_quietly(token)
        self.assertEqual((answer.status, b"logout_failed" in answer.body), (400, True))
        self.rig.store.away = False
        self.assertEqual(self.tell(token).status, 200)
        self.assertFalse(self.knows())

    def tell_quietly(self, token: str) -> FakeExchange:
        """The same without the feed, which is away too."""
        body = urlencode({"logout_token": token}).encode()
        return Browser(self.rig).ask(BACK, method=b"POST", fields=FORM, body=body)

    @pytest.mark.feature("AUTH-6")
    def test_logout_overtakes_a_sign_in(self) -> None:
        """S12: who was signed out at the provider while coming back from it does not arrive."""
        late = Browser(self.rig)
        back = late.up_to(APP + "/", RELAY + "/.appproxy/callback")
        self.tell(self.rig.idp.logout_token())
        self.assertEqual(late.ask(back).status, 403)
        self.assertFalse(self.knows(browser=late))

    @pytest.mark.feature("AUTH-6")
    def test_front_channel(self) -> None:
        """A40: a frame of the provider's sign-out page ends the session that it names, with no cookie at all."""
        answer = Browser(self.rig).ask(FRONT + "?" + urlencode({"iss": ISSUER, "sid": "sid-1"}))
        self.rig.follow()
        self.assertEqual((answer.status, answer.value("Cache-Control")), (200, "no-store"))
        self.assertIn(f"frame-ancestors {ISSUER}", answer.value("Content-Security-Policy"))
        self.assertFalse(self.knows() or self.knows(WIKI + "/"))

    def test_front_channel_of_others(self) -> None:
        """S13: without the issuer and a session that only it knows nobody is signed out, cookies or not."""
        for query in (
            {}, {"iss": ISSUER}, {"sid": "sid-1"}, {"iss": ISSUER, "sid": ""}, {"iss": ISSUER + "x", "sid": "sid-1"},
            {"iss": ISSUER, "sid": "x" * 300},
        ):  # fmt: skip
            self.assertEqual(self.browser.ask(f"{FRONT}?{urlencode(query)}").status, 400, query)
        twice = urlencode([("iss", ISSUER), ("sid", "sid-1"), ("sid", "sid-2")])
        self.assertEqual(self.browser.ask(f"{FRONT}?{twice}").status, 400)
        self.assertEqual(self.browser.ask(f"{FRONT}?{urlencode({'iss': ISSUER, 'sid': 'sid-9'})}").status, 200)
        self.rig.follow()
        self.assertTrue(self.knows())

    def test_at_the_relay_only(self) -> None:
        """Applications' hosts have no such addresses."""
        self.assertEqual(self.browser.ask(APP + "/.appproxy/front-channel-logout").status, 404)
