"""Sign-outs that a provider tells of: by a signed token from its server, or by a frame in the person's browser."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qsl, urlsplit

import msgspec
from twisted.logger import Logger

from appproxy.errors import AppproxyError
from appproxy.relay.exchange import ClientGone, Exchange
from appproxy.relay.preauth.failures import Flaw, ProviderUnreachable, SignInMalformed, TokenRefused
from appproxy.relay.preauth.logout_tokens import Logout, check_logout_token
from appproxy.relay.preauth.oidc import OpenIDConnect
from appproxy.relay.rendering import OWN_FIELDS
from appproxy.store import once, sessions
from appproxy.store.interface import Database, Store, StoreUnavailable

BACK_CHANNEL, FRONT_CHANNEL = b"back-channel-logout", b"front-channel-logout"
_MAX_FORM_BYTES = 64 * 1024
_MAX_CHARACTERS = 255
#: What :func:`provider_session_key` of an ended session is remembered for: a sign-in under way may take so long.
_REMEMBERED_SECONDS = 3600
_JSON = (b"Content-Type", b"application/json")


def provider_session_key(provider: str, provider_session: str) -> bytes:
    """What remembers that a provider's session has ended, for a sign-in that is still on its way."""
    return b"sid:" + hashlib.sha256(f"{provider}\0{provider_session}".encode("utf-8", "surrogatepass")).digest()


class Notices:
    """Answers ``back-channel-logout`` and ``front-channel-logout`` on the relay's host."""

    log = Logger()

    def __init__(self, oidc: OpenIDConnect, store: Store) -> None:
        self._oidc = oidc
        self._store = store

    async def back_channel(self, exchange: Exchange) -> None:
        """A logout token (OpenID Connect Back-Channel Logout 1.0): 200 when it was heeded, 400 otherwise."""
        oidc = self._oidc
        try:
            token = _read_token(exchange, await exchange.read_body(_MAX_FORM_BYTES))
            logout = await check_logout_token(token, oidc.providers.values(), oidc.epoch())
            ended = await self._store.write(_log_out, logout, oidc.epoch())
        except ClientGone:
            raise
        except AppproxyError as problem:
            return self._refuse(exchange, problem)
        self.log.info(
            "{provider} ended {ended} sessions of {subject}",
            event="logout.back-channel",
            provider=logout.provider.id,
            subject=logout.subject or "a session",
            ended=ended,
            client=exchange.client,
        )
        exchange.answer(200, OWN_FIELDS)
        return None

    def _refuse(self, exchange: Exchange, problem: AppproxyError) -> None:
        failed = isinstance(problem, StoreUnavailable | ProviderUnreachable)
        self.log.warn(
            "a logout token was refused: {code} ({detail})",
            event="logout.refused",
            code=problem.code,
            detail=problem.detail,
            client=exchange.client,
            request_id=exchange.request_id,
        )
        flaw = f": {problem.flaw}" if isinstance(problem, TokenRefused) else ""
        told = {"error": "logout_failed" if failed else "invalid_request", "error_description": problem.code + flaw}
        exchange.answer(400, [_JSON, *OWN_FIELDS], msgspec.json.encode(told))

    async def front_channel(self, exchange: Exchange) -> None:
        """A frame of the provider's sign-out page (OpenID Connect Front-Channel Logout 1.0).

        It has none of our cookies, being another site's frame; the provider's session id, which nobody can guess, says
        what ends.  Without it anybody's page could sign people out.
        """
        pairs = parse_qsl((exchange.query or b"").decode("latin-1"), keep_blank_values=True, max_num_fields=20)
        given = dict(pairs)
        issuer, session = given.get("iss", ""), given.get("sid", "")
        provider = next((each for each in self._oidc.providers.values() if each.is_issuer(issuer)), None)
        if provider is None or not 0 < len(session) <= _MAX_CHARACTERS or len(given) != len(pairs):
            raise SignInMalformed("a front-channel logout without an issuer of ours and a session")
        now = self._oidc.epoch()
        ended = await self._store.write(_end_provider_session, provider.id, session, now)
        self.log.info(
            "{provider} ended {ended} sessions by the browser",
            event="logout.front-channel",
            provider=provider.id,
            ended=ended,
            client=exchange.client,
        )
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(issuer))
        policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors {origin}"
        fields = [(b"Content-Type", b"text/html; charset=utf-8"), *OWN_FIELDS]
        fields.append((b"Content-Security-Policy", policy.encode("ascii")))
        exchange.answer(200, fields, b"<!DOCTYPE html><title>Signed out</title>\n")


def _read_token(exchange: Exchange, body: bytes) -> str:
    """:raises SignInMalformed: no form with one token."""
    kinds = exchange.head.known.get(b"content-type", (b"",))
    if not kinds[0].lower().startswith(b"application/x-www-form-urlencoded"):
        raise SignInMalformed("a logout notice that is no form")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise SignInMalformed("a logout notice that is no form") from None
    tokens = [value for name, value in pairs if name == "logout_token"]
    if len(tokens) != 1:
        raise SignInMalformed(f"a logout notice with {len(tokens)} tokens")
    return tokens[0]


def _log_out(db: Database, logout: Logout, now: int) -> int:
    """Use the token up and end what it names, in one transaction.

    :raises TokenRefused: it was used before.
    """
    if not once.use(db, logout.key, logout.until):
        raise TokenRefused(Flaw.REPLAYED, "the logout token was used before")
    provider = logout.provider.id
    if logout.session:
        return _end_provider_session(db, provider, logout.session, now, logout.subject or None)
    return sessions.end_subject(db, provider, logout.subject, now)


def _end_provider_session(
    db: Database, provider: str, provider_session: str, now: int, subject: str | None = None
) -> int:
    # A sign-in that is on its way with this session must not arrive after its end.
    once.use(db, provider_session_key(provider, provider_session), now + _REMEMBERED_SECONDS)
    return sessions.end_provider_session(db, provider, provider_session, now, subject)
