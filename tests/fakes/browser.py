"""A relay's sign-in with one provider, put together in memory, and browsers that walk through it."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from http import cookies
from itertools import count
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from appproxy.applications import Application, Assigned
from appproxy.config.provider import ProviderConfig, TransmitterConfig
from appproxy.http.messages import Field
from appproxy.relay.catalog import Published
from appproxy.relay.people.keeping import Keeping
from appproxy.relay.people.notices import BACK_CHANNEL, FRONT_CHANNEL, Notices
from appproxy.relay.people.own_sessions import OWN_SESSIONS, OwnSessions
from appproxy.relay.people.portal import Portal
from appproxy.relay.people.refreshing import Refreshing, RefreshTimes
from appproxy.relay.people.sealing import Sealer
from appproxy.relay.people.security_events import SECURITY_EVENTS, SecurityEvents
from appproxy.relay.people.sessions import Sessions
from appproxy.relay.people.signin import SignIn
from appproxy.relay.preauth.cookies import REPLAY
from appproxy.relay.preauth.events import Transmitter
from appproxy.relay.preauth.oidc import OpenIDConnect
from appproxy.relay.preauth.provider import Provider
from appproxy.relay.rendering import Rendering
from appproxy.store import feed
from appproxy.store.records import Change
from tests.fakes.exchange import NAVIGATES, FakeExchange
from tests.fakes.idp import ISSUER, FakeProvider
from tests.fakes.memory_store import MemoryStore

RELAY = "https://proxy.example.test"
TRANSMITTER = "https://events.example.test/corp"
HR = Application(
    id="hr",
    name="HR portal",
    external_url="https://hr.example.test/",
    internal_url="http://hr.corp.test/",
    connector_group="hq",
    assigned=Assigned(groups=("staff",)),
    home_page="start/",
)
WIKI = Application(
    id="wiki",
    external_url="https://wiki.example.test/",
    internal_url="http://wiki.corp.test/",
    connector_group="hq",
    assigned=Assigned(users=("bob@example.test",)),
)
T = TypeVar("T")


def finish(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """The result of a coroutine that needs to wait for nothing."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(outcome.append)
    if not outcome:
        raise AssertionError("still waiting")
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    result: T = outcome[0]
    return result


class Rig:
    """Everything that a sign-in touches, on one virtual clock that began at epoch second 1,800,000,000.

    :param provider: settings of the provider.
    """

    def __init__(self, *applications: Application, **provider: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.applications = {application.id: application for application in applications or (HR, WIKI)}
        numbers = count()
        self.random = lambda n: next(numbers).to_bytes(4, "big") * (n // 4)
        self.idp = FakeProvider(self.epoch)
        config = ProviderConfig(id="main", issuer=ISSUER, client_id="relay", client_secret="s3cret/+", **provider)
        self.provider = Provider(config, self.idp.fetch, self.clock.seconds, self.epoch)
        self.sealer = Sealer(bytes(32), self.random)
        self.sessions = Sessions(self.store, self.clock.seconds, self.epoch, self.random)
        self.rendering = Rendering(self.epoch)
        self.oidc = OpenIDConnect(
            relay_origin=RELAY,
            providers=[self.provider],
            applications=lambda: self.applications,
            sessions=self.sessions,
            sealer=self.sealer,
            rendering=self.rendering,
            epoch=self.epoch,
            random=self.random,
            keeping=Keeping(self.store, self.sealer, self.epoch, self.random, 600),
        )
        self.refreshing = self.refresher(self.sessions)
        self.sessions.refresh = self.refreshing.refresh
        notices = Notices(self.oidc, self.store)
        self.events = FakeProvider(self.epoch, TRANSMITTER)
        transmitter = TransmitterConfig(
            id="risc", issuer=TRANSMITTER, audience=(RELAY,), provider="main", authorization="Bearer agreed"
        )
        receiver = SecurityEvents(
            self.oidc, self.store, [Transmitter(transmitter, self.events.fetch, self.clock.seconds, self.epoch)]
        )
        self.signin = SignIn(
            self.oidc,
            self.store,
            idle_seconds=8 * 3600,
            absolute_seconds=24 * 3600,
            more={
                BACK_CHANNEL: ((b"POST",), notices.back_channel),
                FRONT_CHANNEL: ((b"GET",), notices.front_channel),
                SECURITY_EVENTS: ((b"POST",), receiver.receive),
                OWN_SESSIONS: ((b"GET", b"HEAD", b"POST"), OwnSessions(self.oidc, self.store).serve),
            },
        )
        self.portal = Portal(self.oidc)

    def refresher(self, sessions: Sessions) -> Refreshing:
        """What refreshes sign-ins; another relay on the same store has another."""
        return Refreshing(
            store=self.store,
            sessions=sessions,
            providers=self.oidc.providers,
            sealer=self.sealer,
            times=RefreshTimes(),
            epoch=self.epoch,
            clock=self.clock,
            spawn=lambda _, work: Deferred.fromCoroutine(work),
        )

    def epoch(self) -> int:
        """Now."""
        return 1_800_000_000 + int(self.clock.seconds())

    def follow(self) -> None:
        """Heed the feed, as the service does at once."""
        changes = finish(self._changes())
        self.sessions.heard(changes)

    async def _changes(self) -> list[Change]:
        return await self.store.read(feed.since, 0)

    def respond(self, exchange: FakeExchange) -> None:
        """Answer as the gateway does: 200 with the user's name stands for the origin."""
        finish(self._respond(exchange))

    async def _respond(self, exchange: FakeExchange) -> None:
        if exchange.path.startswith(b"/.appproxy"):
            return await self.signin.serve_reserved(exchange)
        if exchange.host == self.oidc.relay_host:
            return await self.portal.serve(exchange)
        application = next(a for a in self.applications.values() if urlsplit(a.external_url).hostname == exchange.host)
        session = self.oidc.peek(exchange, application) or await self.oidc.identify(exchange, application)
        if session is None:
            return await self.oidc.challenge(exchange, Published(application))
        if REPLAY in exchange.reserved:
            await self.oidc.replay(exchange, session)  # type: ignore[arg-type]
        method, body = exchange.head.method, await exchange.read_body(1 << 24)
        sent = b" %b %b" % (method, body) if method != b"GET" else b""
        return exchange.answer(200, [], session.identity.user.encode() + sent)


class Browser:
    """Keeps cookies by host and follows redirects, through the provider too."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.jars: dict[str, dict[str, str]] = {}
        #: Every address of the last walk.
        self.trail: list[str] = []

    def ask(
        self, url: str | bytes, *, method: bytes = b"GET", fields: Iterable[Field] = NAVIGATES, body: bytes = b""
    ) -> FakeExchange:
        """One request, no redirect followed."""
        jar = self.jars.setdefault(urlsplit(url.decode("latin-1") if isinstance(url, bytes) else url).netloc, {})
        reserved = {name.encode(): [value.encode()] for name, value in jar.items()}
        exchange = FakeExchange(url, method=method, fields=fields, cookies=reserved, body=body)
        self.rig.respond(exchange)
        for line in exchange.values("Set-Cookie"):
            parsed: cookies.SimpleCookie = cookies.SimpleCookie(line.replace("; Partitioned", ""))
            for name, morsel in parsed.items():
                if morsel["max-age"] == "0":
                    jar.pop(name, None)
                else:
                    jar[name] = morsel.value
        return exchange

    def walk(self, url: str) -> FakeExchange:
        """Follow redirects to the end, signing in at the provider when sent there."""
        self.trail = []
        for _ in range(12):
            self.trail.append(url)
            if url.startswith(ISSUER + "/authorize"):
                back = parse_qs(urlsplit(url).query)["redirect_uri"][0]
                url = f"{back}?{urlencode(self.rig.idp.authorize(url))}"
                continue
            exchange = self.ask(url)
            if not exchange.value("Location"):
                return exchange
            url = exchange.value("Location")
            if url.startswith("/"):
                url = f"{exchange.origin}{url}"
        raise AssertionError("redirected without end: " + " ".join(self.trail))

    def up_to(self, url: str, address: str) -> str:
        """Follow redirects until one leads to *address*; give it whole, not yet asked for."""
        for _ in range(12):
            if url.startswith(address):
                return url
            if url.startswith(ISSUER + "/authorize"):
                back = parse_qs(urlsplit(url).query)["redirect_uri"][0]
                url = f"{back}?{urlencode(self.rig.idp.authorize(url))}"
            else:
                url = self.ask(url).value("Location")
        raise AssertionError("never led there")
