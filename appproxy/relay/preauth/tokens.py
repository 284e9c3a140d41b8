"""Every check on an ID token: OpenID Connect Core 3.1.3.7 and, for a refreshed one, 12.2."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from appproxy.relay.preauth.failures import Flaw, TokenRefused
from appproxy.relay.preauth.keys import KeySet
from appproxy.relay.preauth.signed import (
    Purpose,
    Verified,
    audiences,
    check_issuer,
    check_subject,
    check_times,
    time_of,
    verify,
)

NAME = "ID token"
#: A logout token (``logout+jwt``) or an access token (``at+jwt``) of the same issuer is no ID token.
ID_TOKEN = Purpose(NAME, ("jwt",))
#: Hash of the access token by the signature's algorithm; Ed25519 signs SHA-512 (OpenID Connect Core 3.1.3.6).
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512, "DSA": hashlib.sha512}


class Expected(NamedTuple):
    """What an ID token must say to be ours."""

    issuer: str
    client_id: str
    #: None: a refreshed token, which need not have one.
    nonce: str | None
    algorithms: Sequence[str]
    access_token: str | None = None
    tenants: Sequence[str] = ()


async def check_id_token(token: str, keys: KeySet, expected: Expected, now: int) -> dict[str, Any]:
    """Check *token* wholly and give its claims.

    :param now: epoch seconds.
    :raises TokenRefused: it fails any check.
    :raises ProviderUnreachable: there are no keys to check it with.
    """
    verified = await verify(token, keys, expected.algorithms, ID_TOKEN)
    check_claims(verified, expected, now)
    return verified.claims


def check_claims(verified: Verified, expected: Expected, now: int) -> None:
    """Check everything but the signature.

    :raises TokenRefused: naming the claim.
    """
    claims = verified.claims
    check_issuer(verified, expected.issuer, expected.tenants, NAME)
    _check_audience(claims, expected.client_id)
    check_times(claims, now, NAME)
    time_of(claims, "auth_time", NAME, required=False)
    nonce = claims.get("nonce")
    if expected.nonce is not None and (not isinstance(nonce, str) or nonce != expected.nonce):
        raise TokenRefused(Flaw.NONCE, "the ID token's nonce is not ours")
    check_subject(claims, NAME)
    # A logout token has events and no nonce; nothing with events is an ID token.
    if "events" in claims:
        raise TokenRefused(Flaw.EVENTS, "the token is an event, not an ID token")
    _check_access_token(claims, verified.algorithm, expected.access_token)


def check_refreshed(claims: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Check that a refreshed token continues the sign-in of the one *before* (OpenID Connect Core 12.2).

    :raises TokenRefused: it is about somebody or something else.
    """
    for name in ("iss", "sub"):
        if claims.get(name) != before.get(name):
            raise TokenRefused(Flaw.REFRESHED, f"the refreshed ID token has another {name}")
    for name in ("auth_time", "azp", "nonce"):
        if name in claims and name in before and claims[name] != before[name]:
            raise TokenRefused(Flaw.REFRESHED, f"the refreshed ID token has another {name}")


def _check_audience(claims: dict[str, Any], client_id: str) -> None:
    named = audiences(claims)
    if client_id not in named:
        raise TokenRefused(Flaw.AUDIENCE, "the ID token is for another audience")
    party = claims.get("azp")
    if (len(named) > 1 or party is not None) and party != client_id:
        raise TokenRefused(Flaw.PARTY, "the ID token's authorized party is another")


def _check_access_token(claims: dict[str, Any], algorithm: str, access_token: str | None) -> None:
    at_hash = claims.get("at_hash")
    if at_hash is None or access_token is None:
        return
    digest = _HASHES[algorithm[-3:]](access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if at_hash != half:
        raise TokenRefused(Flaw.ACCESS_TOKEN, "the access token is not the ID token's")
