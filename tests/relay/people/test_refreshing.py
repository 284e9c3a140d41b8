"""Sign-ins that are refreshed: in time, once, and ended when the provider says so."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.people.refreshing import (
    MAX_AT_ONCE,
    RETRY_SECONDS,
    WAIT_SECONDS,
    RefreshTimes,
    Tokens,
    open_tokens,
)
from appproxy.relay.people.sealing import Unsealable
from appproxy.relay.people.sessions import Session, Sessions, hash_handle
from appproxy.relay.preauth.cookies import SESSION
from appproxy.relay.preauth.provider import SignedIn
from appproxy.store import feed, sessions
from tests.fakes.browser import Browser, Rig
from tests.fakes.idp import FakeProvider, as_json
from tests.relay.people.test_sessions import Open

APP, WIKI = "https://hr.example.test", "https://wiki.example.test"


class RefreshTimesTest(SynchronousTestCase):
    """When it is time."""

    def times(self, access_seconds: int, refresh_token: str = "rt") -> tuple[int, int, int]:
        """Those of a sign-in now."""
        signed_in: Any = SignedIn(None, "", "", refresh_token, access_seconds)  # type: ignore[arg-type]
        return RefreshTimes(600, 3600).of(signed_in, 1000)

    def test_before_the_end(self) -> None:
        """A minute before the access token ends, earlier in a short life, after ten minutes of a long one."""
        self.assertEqual(self.times(400), (1340, 1400, 5000))
        self.assertEqual(self.times(100), (1080, 1100, 4700))
        self.assertEqual(self.times(1), (1001, 1001, 4601))
        self.assertEqual(self.times(86400), (1600, 87400, 91000))

    def test_nothing_to_refresh_with(self) -> None:
        """Without a refresh token there is never a time."""
        self.assertEqual(self.times(400, ""), (0, 0, 0))


@pytest.mark.feature("AUTH-5")
class RefreshingTest(SynchronousTestCase):
    """Somebody signed in to two applications, with access tokens of five minutes: due after four."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.rig.idp.refreshes = True
        self.browser = Browser(self.rig)
        self.browser.walk(APP + "/")
        self.held: list[Deferred[None]] = []

    def status(self, url: str = APP + "/") -> int:
        """How the application's address is answered: 200 for who is signed in."""
        return self.browser.ask(url).status

    def session(self, host: str = "hr.example.test", known: Sessions | None = None) -> Session:
        """The session of the browser at a host."""
        handle = self.browser.jars[host][SESSION.decode()].encode()
        found = self.successResultOf((known or self.rig.sessions).find(handle))
        assert found is not None
        return found

    def refreshes(self) -> int:
        """How often the provider was asked for a refresh."""
        return sum(b"grant_type=refresh_token" in body for _, _, _, body in self.rig.idp.requests)

    def hold(self) -> None:
        """The provider thinks from now on, until :meth:`release`."""
        answer = self.rig.idp.fetch

        async def fetch(method: str, url: str, *more: Any) -> Any:
            if url.endswith("/token"):
                self.held.append(Deferred())
                await self.held[-1]
            return await answer(method, url, *more)

        self.rig.provider._fetch = fetch

    def release(self) -> None:
        """It answers."""
        self.held.pop().callback(None)

    def test_in_time(self) -> None:
        """Before the access token ends it is replaced, and what has changed about the person holds from then on."""
        self.rig.clock.advance(239)
        self.assertEqual((self.status(), self.refreshes()), (200, 0))
        self.rig.idp.claims["groups"] = ["staff", "admins"]
        self.rig.clock.advance(1)
        self.assertEqual((self.status(), self.refreshes()), (200, 1))
        self.assertEqual(self.session().identity.groups, ("staff", "admins"))
        self.rig.clock.advance(239)
        self.assertEqual((self.status(), self.refreshes()), (200, 1))
        self.rig.clock.advance(1)
        self.assertEqual((self.status(), self.refreshes()), (200, 2))

    @pytest.mark.feature("POL-2")
    def test_nobody_grows_younger(self) -> None:
        """Any number of refreshes says nothing of when, and how, somebody signed in, whatever the tokens leave out."""
        signed_in = self.session().identity.authenticated_at
        for _ in range(4):
            self.rig.clock.advance(241)
            self.assertEqual(self.status(), 200)
        self.assertGreater(self.rig.idp.count("/token"), 3)
        self.assertEqual(self.session().identity.authenticated_at, signed_in)

    def test_without_a_refresh_token(self) -> None:
        """A provider that gives none is never asked."""
        rig = Rig()
        browser = Browser(rig)
        browser.walk(APP + "/")
        rig.clock.advance(7 * 3600)
        self.assertEqual(browser.ask(APP + "/").status, 200)
        self.assertEqual(rig.idp.count("/token"), 1)

    def test_all_sessions_of_the_sign_in(self) -> None:
        """One refresh serves every application, and the relay's own session."""
        self.browser.walk(WIKI + "/")
        self.rig.idp.claims["groups"] = ["admins"]
        self.rig.clock.advance(240)
        self.assertEqual(self.status(), 200)
        self.assertEqual((self.status(WIKI + "/"), self.refreshes()), (200, 1))
        self.assertEqual(self.session("wiki.example.test").identity.groups, ("admins",))
        roots = [each for each in self.successResultOf(self.rig.store.read(sessions.list_)) if each.parent is None]
        self.assertEqual([each.identity.groups for each in roots], [("admins",)])

    def test_disabled_account(self) -> None:
        """A35: when the provider refreshes no more, the sign-in ends with everything that is open for it."""
        self.browser.walk(WIKI + "/")
        watcher = Open()
        self.session("wiki.example.test").watch(watcher)
        self.rig.idp.disable()
        self.rig.clock.advance(300)
        self.assertEqual((self.status(), self.status(WIKI + "/")), (302, 302))
        self.assertEqual(watcher.closed, 1)
        self.assertEqual(self.successResultOf(self.rig.store.read(sessions.list_)), [])

    def test_disabled_account_with_a_websocket_only(self) -> None:
        """A35, W03: the same within a minute where no request comes."""
        watcher = Open()
        self.session().watch(watcher)
        self.rig.idp.disable()
        self.rig.clock.advance(241)
        self.successResultOf(self.rig.sessions.tick())
        self.assertEqual(watcher.closed, 1)

    def test_many_requests_at_once(self) -> None:
        """A36: twenty requests when a token that works once is due cost one refresh, and all succeed."""
        self.rig.clock.advance(300)
        self.hold()
        handle = self.browser.jars["hr.example.test"][SESSION.decode()].encode()
        waiting = [Deferred.fromCoroutine(self.rig.sessions.find(handle)) for _ in range(20)]
        for each in waiting:
            self.assertNoResult(each)
        self.assertEqual(len(self.held), 1)
        self.release()
        self.assertEqual({self.successResultOf(each) for each in waiting}, {self.session()})
        self.assertEqual(self.refreshes(), 1)

    def test_many_sign_ins_at_once(self) -> None:
        """However many sign-ins are due together, a provider is asked about a few at a time, and then the others."""
        browsers = [Browser(self.rig) for _ in range(MAX_AT_ONCE + 5)]
        for browser in browsers:
            browser.walk(APP + "/")
            handle = browser.jars["hr.example.test"][SESSION.decode()].encode()
            found = self.successResultOf(self.rig.sessions.find(handle))
            assert found is not None
            found.watch(Open())
        self.rig.clock.advance(300)
        self.hold()
        self.successResultOf(self.rig.sessions.tick())
        self.assertEqual(len(self.held), MAX_AT_ONCE)
        for _ in range(MAX_AT_ONCE + 5):
            self.release()
        self.assertEqual((self.refreshes(), self.held), (MAX_AT_ONCE + 5, []))

    def test_requests_do_not_wait_while_the_token_lasts(self) -> None:
        """Between due and the access token's end requests go on, and the refresh runs beside them."""
        self.rig.clock.advance(240)
        self.hold()
        self.assertEqual([self.status() for _ in range(3)], [200] * 3)
        self.assertEqual(len(self.held), 1)
        self.rig.idp.claims["groups"] = ["admins"]
        self.release()
        self.assertEqual(self.session().identity.groups, ("admins",))

    def test_provider_that_hangs(self) -> None:
        """A request waits for a bounded time, and then goes on with what was known."""
        self.rig.clock.advance(300)
        self.hold()
        handle = self.browser.jars["hr.example.test"][SESSION.decode()].encode()
        asked = Deferred.fromCoroutine(self.rig.sessions.find(handle))
        self.rig.clock.advance(WAIT_SECONDS - 1)
        self.assertNoResult(asked)
        self.rig.clock.advance(1)
        found = self.successResultOf(asked)
        assert found is not None
        self.assertEqual(found.identity.groups, ("staff",))
        self.release()
        self.assertEqual((self.status(), self.refreshes()), (200, 1))

    def test_two_relays(self) -> None:
        """A36: two relays at the same moment ask the provider once; the other one waits and knows the same."""
        other = Sessions(self.rig.store, self.rig.clock.seconds, self.rig.epoch, self.rig.random)
        other.refresh = self.rig.refresher(other).refresh
        self.session(known=other)
        self.rig.idp.claims["groups"] = ["admins"]
        self.rig.clock.advance(300)
        self.hold()
        handle = self.browser.jars["hr.example.test"][SESSION.decode()].encode()
        asked = [Deferred.fromCoroutine(each.find(handle)) for each in (self.rig.sessions, other)]
        self.assertEqual(len(self.held), 1)
        self.rig.clock.advance(1)
        self.assertNoResult(asked[1])
        self.release()
        self.rig.clock.advance(1)
        for each in asked:
            found = self.successResultOf(each)
            assert found is not None
            self.assertEqual(found.identity.groups, ("admins",))
        self.assertEqual(self.refreshes(), 1)

    def test_the_other_relay_learns_of_the_end(self) -> None:
        """A35: whoever waited for another relay's refresh sees the sign-in end with it."""
        other = Sessions(self.rig.store, self.rig.clock.seconds, self.rig.epoch, self.rig.random)
        other.refresh = self.rig.refresher(other).refresh
        self.session(known=other)
        self.rig.idp.disable()
        self.rig.clock.advance(300)
        self.hold()
        handle = self.browser.jars["hr.example.test"][SESSION.decode()].encode()
        asked = [Deferred.fromCoroutine(each.find(handle)) for each in (self.rig.sessions, other)]
        self.release()
        self.rig.clock.advance(1)
        self.assertEqual([self.successResultOf(each) for each in asked], [None, None])

    def test_stolen_refresh_token(self) -> None:
        """A refresh token that somebody else has used is refused, and the sign-in ends."""
        [root] = [each for each in self.successResultOf(self.rig.store.read(sessions.list_)) if not each.parent]
        stolen = open_tokens(self.rig.sealer, root.sealed)
        self.successResultOf(self.rig.provider.refresh(stolen.refresh_token, stolen.id_token))
        self.rig.clock.advance(300)
        self.assertEqual(self.status(), 302)

    def test_provider_away(self) -> None:
        """In an outage the sign-in goes on, requests wait once at most, and it is tried again every half minute."""
        self.rig.clock.advance(300)
        self.rig.idp.overrides["/token"] = as_json({}, 503)
        self.assertEqual((self.status(), self.refreshes()), (200, 1))
        self.rig.clock.advance(RETRY_SECONDS - 1)
        self.assertEqual((self.status(), self.refreshes()), (200, 1))
        self.hold()
        self.rig.clock.advance(1)
        self.assertEqual((self.status(), len(self.held)), (200, 1))
        self.release()
        del self.rig.idp.overrides["/token"]
        self.rig.clock.advance(RETRY_SECONDS)
        self.rig.idp.claims["groups"] = ["admins"]
        self.status()
        self.release()
        self.assertEqual(self.session().identity.groups, ("admins",))

    def test_provider_away_for_too_long(self) -> None:
        """Nobody is vouched for without end: after the grace the sign-in is over."""
        self.rig.idp.overrides["/token"] = as_json({}, 503)
        for _ in range(38):
            self.rig.clock.advance(100)
            self.assertEqual(self.status(), 200)
        self.rig.clock.advance(100)
        self.assertEqual(self.status(), 302)

    def test_store_away(self) -> None:
        """While the store is away nothing is refreshed, and nothing is lost."""
        self.session()
        self.rig.store.away = True
        self.rig.clock.advance(50)
        self.assertEqual(self.status(), 200)
        self.rig.store.away = False
        self.rig.clock.advance(250)
        self.assertEqual((self.status(), self.refreshes()), (200, 1))

    def test_token_of_somebody_else(self) -> None:
        """A refresh that brings another person's token ends the sign-in."""
        for lie in ({"sub": "u-2"}, {"iss": "https://other.test"}, {"preferred_username": None}):
            self.browser.walk(APP + "/")
            self.rig.idp.lie = lie
            self.rig.clock.advance(300)
            self.assertEqual(self.status(), 302, lie)
            self.rig.idp.lie = {}

    def test_ended_while_refreshing(self) -> None:
        """S12: a sign-out during a refresh stays one."""
        self.rig.clock.advance(300)
        session = self.rig.sessions._by_handle[self.browser.jars["hr.example.test"][SESSION.decode()].encode()]
        self.hold()
        asked = Deferred.fromCoroutine(self.rig.sessions.find(session.handle))
        self.successResultOf(self.rig.sessions.end_everything(session))
        self.release()
        self.assertIsNone(self.successResultOf(asked))
        self.assertEqual(self.status(), 302)

    def test_feed(self) -> None:
        """Other relays hear of what a refresh changed."""
        self.rig.clock.advance(240)
        self.status()
        kinds = [each.kind for each in self.successResultOf(self.rig.store.read(feed.since, 0))]
        self.assertEqual(kinds.count(feed.SESSION_CHANGED), 2)

    def test_tokens_are_encrypted(self) -> None:
        """What the store keeps of tokens says nothing without the key, and nothing for another purpose."""
        for record in self.successResultOf(self.rig.store.read(sessions.list_)):
            self.assertNotIn(b"rt-1", record.sealed)
            if record.parent is None:
                self.assertEqual(open_tokens(self.rig.sealer, record.sealed).refresh_token, "rt-1")
                self.assertRaises(Unsealable, self.rig.sealer.open_bytes, "id-token", record.sealed, Tokens)
        self.assertEqual(open_tokens(self.rig.sealer, b"nonsense"), Tokens(""))

    def test_provider_that_is_gone(self) -> None:
        """With the provider's section taken away nobody can say more about its people; after the grace they go."""
        del self.rig.oidc.providers["main"]  # type: ignore[attr-defined]
        self.rig.clock.advance(300)
        session = self.session()
        self.assertEqual(session.refresh_wait, 0)
        self.assertEqual(session.handle_hash, hash_handle(session.handle))


class HonestyTest(SynchronousTestCase):
    """The provider of these tests."""

    def test_rotation(self) -> None:
        """It gives each refresh token once and ends everything when one comes back."""
        provider = FakeProvider(lambda: 1_800_000_000)
        provider.refreshes = True
        first = provider.issue_refresh({"nonce": ["n"]})
        self.assertEqual(provider._refreshed(first).status, 200)
        self.assertEqual(provider._refreshed(first).status, 400)
        self.assertEqual(provider._refreshed("rt-2").status, 400)
