"""Pre-authentication by OpenID Connect, as the gateway sees it: who is it, and if nobody, how to ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from twisted.logger import Logger

from appproxy.applications import Application
from appproxy.errors import Phase, Side
from appproxy.http.addresses import ExternalURL, is_under
from appproxy.http.messages import Field
from appproxy.relay.access.policy import StepUp
from appproxy.relay.exchange import Exchange, PayloadTooLarge
from appproxy.relay.people.keeping import Keeping
from appproxy.relay.people.sealing import Sealer, Unsealable
from appproxy.relay.people.sessions import Session, Sessions
from appproxy.relay.preauth.attempts import Attempts, random_text
from appproxy.relay.preauth.cookies import BINDING, ROUNDS, SESSION, SameSite, expire_cookie, set_cookie
from appproxy.relay.preauth.failures import (
    FormNotKept,
    ProviderMisconfigured,
    SignInFailed,
    SignInLoops,
    SignInUnavailable,
)
from appproxy.relay.preauth.provider import Provider, with_query
from appproxy.relay.preauth.targets import is_safe_target
from appproxy.relay.programs.refusing import StepUpNeeded, challenge, shared, stronger
from appproxy.relay.rendering import Rendering
from appproxy.store.interface import StoreUnavailable

if TYPE_CHECKING:
    from appproxy.relay.catalog import Published
    from appproxy.relay.front.client_exchange import ClientExchange

#: So many cookies of one name are looked at; a browser has one, or two where cookies are partitioned.
MAX_LOOKED_AT = 4
#: So many sign-ins within so many seconds, none of which led to a session, are a loop.
MAX_ROUNDS, ROUND_SECONDS = 3, 60
_BINDING = re.compile(rb"[A-Za-z0-9_-]{43}")


def passing_site(application: Application) -> tuple[SameSite, bool]:
    """SameSite and Partitioned of the cookies that only last as long as a sign-in.

    Never strict, which would keep them from coming back with the provider's redirect.
    """
    cookies = application.cookies
    return "none" if cookies.same_site == "none" else "lax", cookies.partitioned


def is_framed(exchange: Exchange) -> bool:
    """Whether a frame of some page shows the answer."""
    return exchange.head.known.get(b"sec-fetch-dest", (b"",))[0] in (b"iframe", b"frame", b"fencedframe")


class Rounds(msgspec.Struct, array_like=True, frozen=True):
    """How many sign-ins of one browser followed each other, and since when (epoch seconds)."""

    count: int
    since: int


class OpenIDConnect:
    """Knows people by their sessions and sends others to sign in.

    :param relay_origin: ``https://host[:port]`` of the relay's own host.
    :param applications: gives the current ones, by id.
    :param epoch: epoch seconds.
    :param random: gives that many unpredictable bytes.
    :param sign_in_seconds: how long a sign-in may take.
    :param keeping: keeps forms meanwhile; None: they are not kept.
    """

    log = Logger()

    def __init__(
        self,
        *,
        relay_origin: str,
        providers: Sequence[Provider],
        applications: Callable[[], Mapping[str, Application]],
        sessions: Sessions,
        sealer: Sealer,
        rendering: Rendering,
        epoch: Callable[[], int],
        random: Callable[[int], bytes],
        sign_in_seconds: int = 600,
        keeping: Keeping | None = None,
    ) -> None:
        self.relay_origin = relay_origin
        self.relay_host = urlsplit(relay_origin).hostname or ""
        self.providers: Mapping[str, Provider] = {provider.id: provider for provider in providers}
        self.applications = applications
        self.sessions = sessions
        self.sealer = sealer
        self.rendering = rendering
        self.epoch = epoch
        self.random = random
        self.sign_in_seconds = sign_in_seconds
        self.attempts = Attempts(sealer, epoch, random, sign_in_seconds)
        self.keeping = keeping
        self._default = next(iter(self.providers), "")

    def provider_id(self, application: Application) -> str:
        """The provider that signs people in to *application*; the first one where it names none."""
        return application.provider or self._default

    def provider(self, id: str) -> Provider:
        """:raises ProviderMisconfigured: there is none of that id."""
        if id not in self.providers:
            raise ProviderMisconfigured(f"there is no provider {id!r}" if id else "no provider is configured")
        return self.providers[id]

    def root_cookie(self, provider_id: str) -> bytes:
        """The cookie of the relay's own session with a provider, on the relay's host."""
        return SESSION if provider_id == self._default else SESSION + b"-" + provider_id.encode()

    def peek(self, exchange: Exchange, application: Application) -> Session | None:
        """The session, if it is remembered: the way of nearly all requests.  None says: :meth:`identify`."""
        for handle in exchange.reserved.get(SESSION, ())[:MAX_LOOKED_AT]:
            session = self.sessions.peek(handle)
            if session is not None and self.fits(session, exchange, application):
                return session
        return None

    async def identify(self, exchange: Exchange, application: Application) -> Session | None:
        """The session, or None if nobody is signed in to *application* here.

        :raises StoreUnavailable: it cannot be told.
        """
        for handle in exchange.reserved.get(SESSION, ())[:MAX_LOOKED_AT]:
            session = await self.sessions.find(handle)
            if session is not None and self.fits(session, exchange, application):
                return session
        return None

    def fits(self, session: Session, exchange: Exchange, application: Application) -> bool:
        """Whether *session* was made for this host, and by a sign-in that *application* accepts.

        Applications of one host share its session; the policy asks for each request who may use which.
        """
        if session.host != exchange.host or session.provider != (application.provider or self._default):
            return False
        if session.application == application.id:
            return True
        # The relay's own session is for the relay's pages only; another application may want shorter sessions.
        return bool(session.application) and self.epoch() < session.created_epoch + application.session.absolute

    async def root(self, exchange: Exchange, provider_id: str) -> Session | None:
        """The relay's own session with a provider, on the relay's host.

        :raises StoreUnavailable: it cannot be told.
        """
        for handle in exchange.reserved.get(self.root_cookie(provider_id), ())[:MAX_LOOKED_AT]:
            session = await self.sessions.find(handle)
            if (
                session is not None
                and not session.application
                and session.host == exchange.host
                and session.provider == provider_id
            ):
                return session
        return None

    async def challenge(self, exchange: Exchange, published: Published) -> None:
        """Answer a request that has no session: redirect a person to sign in, tell a program 401."""
        known, application = exchange.head.known, published.application
        if any(value[:7].lower() == b"bearer " for value in known.get(b"authorization", ())):
            # Nobody issues bearer tokens for this application, so this one is bad; whoever sent it is no browser.
            self._unauthorised(exchange, published, {"error": "invalid_token"})
        elif not exchange.navigation and (application.compat != "entra" or b"upgrade" in known):
            self._unauthorised(exchange, published, self._authorization_uri(application))
        else:
            await self._send_to_sign_in(exchange, application)

    async def step_up(self, exchange: Exchange, published: Published, step_up: StepUp) -> None:
        """Answer somebody who has to sign in again, or in another way: as :meth:`challenge` does."""
        application = published.application
        if exchange.navigation:
            await self._send_to_sign_in(exchange, application, step_up)
        else:
            parameters = {**stronger(step_up), **self._authorization_uri(application)}
            self._unauthorised(exchange, published, parameters, StepUpNeeded.code)

    async def _send_to_sign_in(
        self, exchange: Exchange, application: Application, step_up: StepUp | None = None
    ) -> None:
        try:
            await self._redirect(exchange, application, step_up)
        except PayloadTooLarge:
            # Nothing of it is kept: a person is told before they sign in, not after.
            link = self.root_path(application, exchange).decode()
            self.rendering.explain(
                exchange, 401, "sign-in-first", Side.CLIENT, Phase.SIGN_IN, link=link, link_text="Sign in"
            )
        except SignInFailed as error:
            link = self.root_path(application, exchange).decode()
            text = "Open the application" if isinstance(error, FormNotKept) else "Try again"
            self.rendering.fail(exchange, error, [expire_cookie(ROUNDS)], link=link, link_text=text)

    def _unauthorised(
        self, exchange: Exchange, published: Published, parameters: Mapping[str, str], code: str = "sign-in-required"
    ) -> None:
        fields = [challenge(published.id, {**parameters, **published.metadata_of(exchange.host)})]
        if published.cors is not None:
            fields += shared(published.cors, exchange.head.known)
        self.rendering.explain(exchange, 401, code, Side.CLIENT, Phase.SIGN_IN, fields)

    def _authorization_uri(self, application: Application) -> dict[str, str]:
        provider = self.providers.get(self.provider_id(application))
        if provider is None or provider.known is None:
            return {}
        return {"authorization_uri": provider.known.authorization_endpoint}

    async def _redirect(self, exchange: Exchange, application: Application, step_up: StepUp | None) -> None:
        """Send a person to sign in, or from a frame to a window where they can.

        :raises SignInLoops: enough redirects.
        :raises ProviderMisconfigured: nobody to send them to.
        :raises PayloadTooLarge: a form that is too long to be kept meanwhile.
        :raises FormNotKept: a form that is not kept for another reason.
        """
        self.provider(self.provider_id(application))
        if self.rounds(exchange).count >= MAX_ROUNDS:
            raise SignInLoops
        binding = self.binding(exchange) or random_text(self.random).encode()
        target, kept = exchange.head.target, b""
        safe = is_safe_target(target, exchange.path)
        if exchange.head.method == b"POST" and safe:
            kept = await self._keep(exchange, application)
        if exchange.head.method == b"POST" and not kept and application.compat != "entra":
            # Begun anew without it, whoever sent it may well send it again, as SAML providers do, and again.
            raise FormNotKept
        if not safe or (exchange.head.method not in (b"GET", b"HEAD") and not kept):
            target = self.root_path(application, exchange)
        framed = is_framed(exchange) and bool(application.sign_in.frame_ancestors)
        wish = self.attempts.make_wish(
            application.id, exchange.scheme, exchange.authority, target, binding, kept, framed, step_up
        )
        address = with_query(f"{self.relay_origin}/.appproxy/sign-in", wish=self.attempts.seal_wish(wish))
        site, partitioned = passing_site(application)
        age = self.sign_in_seconds
        cookie = set_cookie(BINDING, binding, max_age=age, same_site=site, partitioned=partitioned)
        if framed:
            name, frames = application.name or application.id, application.sign_in.frame_ancestors
            self.rendering.page(
                exchange, 200, "framed", [cookie], script=True, frames=frames, address=address, application=name
            )
        else:
            self.rendering.redirect(exchange, address.encode(), [cookie])

    async def _keep(self, exchange: Exchange, application: Application) -> bytes:
        if self.keeping is None or not application.sign_in.keep_posts:
            return b""
        try:
            return await self.keeping.keep(exchange, application)
        except StoreUnavailable:
            raise SignInUnavailable from None

    async def replay(self, exchange: ClientExchange, session: Session) -> bool:
        """Let a request stand for one that was kept while its user signed in; True if it does now."""
        return self.keeping is not None and await self.keeping.replay(exchange, session)

    def binding(self, exchange: Exchange) -> bytes | None:
        """The cookie that binds sign-ins to this browser, if it has one of ours."""
        values = exchange.reserved.get(BINDING, ())
        return values[0] if len(values) == 1 and _BINDING.fullmatch(values[0]) else None

    def known_application(self, id: str) -> Application | None:
        """The application of that id, if it is enabled and its people sign in here."""
        application = self.applications().get(id)
        usable = application is not None and application.enabled and application.preauthentication == "oidc"
        return application if usable else None

    def rounds(self, exchange: Exchange) -> Rounds:
        """How many sign-ins this browser has just been through at this host."""
        for value in exchange.reserved.get(ROUNDS, ())[:MAX_LOOKED_AT]:
            try:
                rounds = self.sealer.open("rounds", value, Rounds)
            except Unsealable:
                continue
            if 0 <= self.epoch() - rounds.since < ROUND_SECONDS:
                return rounds
        return Rounds(0, self.epoch())

    def another_round(self, exchange: Exchange, application: Application) -> Field:
        """The field that counts one more sign-in."""
        before = self.rounds(exchange)
        sealed = self.sealer.seal("rounds", Rounds(before.count + 1, before.since)).encode()
        site, partitioned = passing_site(application)
        return set_cookie(ROUNDS, sealed, max_age=ROUND_SECONDS, same_site=site, partitioned=partitioned)

    @staticmethod
    def root_path(application: Application, exchange: Exchange) -> bytes:
        """The path under which *application* is published at the host of *exchange*: what it asks for is below it."""
        urls = [ExternalURL.parse(url) for url in application.external_urls]
        here = sorted((url.path for url in urls if url.matches(exchange.host)), key=len, reverse=True)
        return next((path for path in here if is_under(exchange.path, path)), here[-1] if here else b"/")
