"""Signing out: of one application, or of everything and of the provider too.

A page of another site can make a browser come here but not sign anybody out: that takes the form's sealed token, bound
to the session, and a browser that says the form was ours.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec
from twisted.logger import Logger

from appproxy.errors import Phase, Side
from appproxy.relay.exchange import Exchange
from appproxy.relay.people.refreshing import open_tokens
from appproxy.relay.people.sealing import Unsealable
from appproxy.relay.people.sessions import Session
from appproxy.relay.preauth.attempts import random_text
from appproxy.relay.preauth.cookies import SESSION, expire_cookie
from appproxy.relay.preauth.failures import SignInFailed, SignInMalformed
from appproxy.relay.preauth.oidc import MAX_LOOKED_AT, OpenIDConnect
from appproxy.store import sessions
from appproxy.store.interface import Store

#: For how long a sign-out page that was opened works.
_TOKEN_SECONDS = 3600
_MAX_FORM_BYTES = 16 * 1024
#: A longer ID token would make an address that servers refuse; providers do without the hint.
_MAX_HINT_CHARACTERS = 4096


class SignOutToken(msgspec.Struct, array_like=True, frozen=True):
    """What the form carries: whose sign-out it is, and until when (epoch seconds)."""

    handle_hash: bytes
    until: int


class SignOut:
    """Answers ``sign-out`` and ``signed-out`` on every host."""

    log = Logger()

    def __init__(self, oidc: OpenIDConnect, store: Store) -> None:
        self._oidc = oidc
        self._store = store

    async def serve(self, exchange: Exchange) -> None:
        """``sign-out``: ask, or do it."""
        found = await self._sessions(exchange)
        if exchange.head.method == b"POST":
            await self._sign_out(exchange, found)
        elif not found:
            await self.show_signed_out(exchange)
        else:
            self._ask(exchange, found[0])

    async def show_signed_out(self, exchange: Exchange) -> None:
        """``signed-out``: where the provider sends people back to."""
        self._oidc.rendering.page(exchange, 200, "signed_out", application="", back="/")

    async def _sessions(self, exchange: Exchange) -> list[Session]:
        """The sessions of this browser at this host; at the relay's host one for each provider."""
        oidc = self._oidc
        names = [SESSION]
        if exchange.host == oidc.relay_host:
            names = [oidc.root_cookie(provider) for provider in oidc.providers]
        handles = [handle for name in names for handle in exchange.reserved.get(name, ())[:MAX_LOOKED_AT]]
        found = [await oidc.sessions.find(handle) for handle in handles]
        return [session for session in found if session is not None and session.host == exchange.host]

    def _ask(self, exchange: Exchange, session: Session) -> None:
        oidc = self._oidc
        token = oidc.sealer.seal("sign-out", SignOutToken(session.handle_hash, oidc.epoch() + _TOKEN_SECONDS))
        application = oidc.applications().get(session.application)
        oidc.rendering.page(
            exchange,
            200,
            "sign_out",
            form=True,
            user=session.identity.user,
            application=(application.name or application.id) if application else session.application,
            token=token,
            back=oidc.root_path(application, exchange).decode() if application else "/",
        )

    async def _sign_out(self, exchange: Exchange, found: list[Session]) -> None:
        oidc = self._oidc
        form = parse_form(await exchange.read_body(_MAX_FORM_BYTES))
        session = self._session_of(form.get("token", ""), found)
        if not exchange.same_origin_post or (session is None and found):
            return oidc.rendering.explain(exchange, 403, "cross-site-request", Side.CLIENT, Phase.REQUEST)
        if session is None:
            return await self.show_signed_out(exchange)
        everything = form.get("scope") != "application" or not session.application
        cookies = [expire_cookie(name) for name in exchange.reserved if name.startswith(SESSION)]
        if not everything:
            await oidc.sessions.end(session)
            application = oidc.applications().get(session.application)
            name = (application.name or application.id) if application else session.application
            back = oidc.root_path(application, exchange).decode() if application else "/"
            oidc.rendering.page(exchange, 200, "signed_out", cookies, application=name, back=back)
        else:
            hint = await self._hint(session)
            for each in found:
                await oidc.sessions.end_everything(each)
            # Last: a provider that is slow to answer keeps nobody signed in here.
            address = await self._provider_address(session.provider, hint)
            back = address or f"{oidc.relay_origin}/.appproxy/signed-out"
            oidc.rendering.redirect(exchange, back.encode(), cookies)
        self.log.info(
            "{user} signed out",
            event="signout.done",
            user=session.identity.user,
            everything=everything,
            application=session.application,
            client=exchange.client,
            request_id=exchange.request_id,
        )
        return None

    def _session_of(self, token: str, found: list[Session]) -> Session | None:
        try:
            opened = self._oidc.sealer.open("sign-out", token, SignOutToken)
        except Unsealable:
            return None
        if opened.until <= self._oidc.epoch():
            return None
        return next((session for session in found if session.handle_hash == opened.handle_hash), None)

    async def _hint(self, session: Session) -> str:
        """The ID token of the sign-in, as a hint for the provider; empty if it is gone, or too long for an address.

        :raises StoreUnavailable: it cannot be read, so nothing could be ended either.
        """
        root = await self._store.read(sessions.find, session.parent or session.handle_hash)
        hint = open_tokens(self._oidc.sealer, root.sealed).id_token if root is not None else ""
        return hint if len(hint) <= _MAX_HINT_CHARACTERS else ""

    async def _provider_address(self, provider_id: str, hint: str) -> str:
        """The provider's sign-out (OpenID Connect RP-Initiated Logout 1.0); empty if it has none or is away."""
        oidc = self._oidc
        provider = oidc.providers.get(provider_id)
        if provider is None:
            return ""
        try:
            return await provider.end_session_address(
                id_token_hint=hint,
                post_logout_redirect_uri=f"{oidc.relay_origin}/.appproxy/signed-out",
                state=random_text(oidc.random),
            )
        except SignInFailed:
            return ""


def parse_form(body: bytes) -> dict[str, str]:
    """Read a form of one of our own pages; :raises SignInMalformed: it is none."""
    try:
        return dict(parse_qsl(body.decode("ascii"), max_num_fields=10))
    except ValueError:
        raise SignInMalformed from None
