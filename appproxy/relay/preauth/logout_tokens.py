"""Every check on a logout token: OpenID Connect Back-Channel Logout 1.0, section 2.6."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from appproxy.relay.preauth.failures import Flaw, TokenRefused
from appproxy.relay.preauth.provider import Provider
from appproxy.relay.preauth.signed import (
    LEEWAY_SECONDS,
    Purpose,
    audiences,
    check_issuer,
    check_times,
    time_of,
    unverified_claims,
    verify,
)

NAME = "logout token"
LOGOUT_TOKEN = Purpose(NAME, ("jwt", "logout+jwt"))
EVENT = "http://schemas.openid.net/event/backchannel-logout"
_MAX_CHARACTERS = 255


class Logout(NamedTuple):
    """What a provider wants to end: one session of its own, or all of somebody."""

    provider: Provider
    #: The provider's session; empty: all of the subject's.
    session: str
    #: Empty if the token names a session only.
    subject: str
    #: Hash of what makes the token unlike all others, and until when it could be presented again.
    key: bytes
    until: int


async def check_logout_token(token: str, providers: Iterable[Provider], now: int) -> Logout:
    """Check *token* wholly, but for whether it has been used.

    :raises TokenRefused: it fails any check.
    :raises ProviderUnreachable: there are no keys to check it with.
    """
    provider = _addressed(unverified_claims(token), providers)
    verified = await verify(token, provider.keys, provider.algorithms, LOGOUT_TOKEN)
    claims = verified.claims
    check_issuer(verified, provider.issuer, provider.tenants, NAME)
    if provider.client_id not in audiences(claims):
        raise TokenRefused(Flaw.AUDIENCE, "the logout token is for another audience")
    check_times(claims, now, NAME)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise TokenRefused(Flaw.EVENTS, "the logout token is about no logout")
    # What tells it from an ID token, whoever signed that.
    if "nonce" in claims:
        raise TokenRefused(Flaw.NONCE, "the logout token has a nonce")
    session, subject = _text(claims, "sid"), _text(claims, "sub")
    if not session and not subject:
        raise TokenRefused(Flaw.SUBJECT, "the logout token names neither session nor subject")
    id = _text(claims, "jti")
    if not id:
        raise TokenRefused(Flaw.REPLAYED, "the logout token has no id")
    until = time_of(claims, "exp", NAME, required=True) or 0
    key = b"logout:" + hashlib.sha256(f"{provider.id}\0{claims['iss']}\0{id}".encode()).digest()
    return Logout(provider, session, subject, key, int(until) + LEEWAY_SECONDS + 1)


def _addressed(claims: dict[str, Any], providers: Iterable[Provider]) -> Provider:
    """The provider that must have issued a token with these claims, and as whose client it is for us."""
    issuer, named = claims.get("iss"), audiences(claims)
    issuers = [each for each in providers if isinstance(issuer, str) and each.is_issuer(issuer)]
    if not issuers:
        raise TokenRefused(Flaw.ISSUER, "the logout token is of no provider of ours")
    for provider in issuers:
        if provider.client_id in named:
            return provider
    raise TokenRefused(Flaw.AUDIENCE, "the logout token is for another audience")


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_CHARACTERS:
        raise TokenRefused(Flaw.SUBJECT, f"the logout token's {name} is not usable")
    return value
