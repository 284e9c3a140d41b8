"""Every check on an ID token: OpenID Connect Core 3.1.3.7, RFC 7519, RFC 8725.

PyJWT verifies the signature; everything else is checked here, because it lets through what must not pass.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import jwt
import msgspec
from jwt.exceptions import PyJWTError

from appproxy.relay.preauth.failures import TokenRefused
from appproxy.relay.preauth.keys import KeySet

#: How far the provider's clock may be from ours.
LEEWAY_SECONDS = 60
MAX_TOKEN_CHARACTERS = 256 * 1024
#: The only types of an ID token's header; others are tokens for other purposes.
_TYPES = ("JWT",)
#: Hash of the access token by the signature's algorithm; Ed25519 signs SHA-512 (OpenID Connect Core 3.1.3.6).
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512, "DSA": hashlib.sha512}


#: PyJWT's own checks of claims are weaker than ours and would come first.
_SIGNATURE_ONLY: Any = dict.fromkeys((f"verify_{c}" for c in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")), False)


class Expected(NamedTuple):
    """What an ID token must say to be ours."""

    issuer: str
    client_id: str
    nonce: str
    algorithms: Sequence[str]
    access_token: str | None = None


def _read_header(token: str, algorithms: Sequence[str]) -> tuple[str, str | None]:
    """The algorithm and the key's id."""
    if not token.isascii() or len(token) > MAX_TOKEN_CHARACTERS or token.count(".") != 2:
        raise TokenRefused("the ID token is not a signed JWT")
    try:
        header = jwt.get_unverified_header(token)
    except PyJWTError as problem:
        raise TokenRefused(f"the ID token's header: {type(problem).__name__}") from None
    # No extension is understood here; whoever says one is critical means another reader.
    if "crit" in header or "b64" in header:
        raise TokenRefused("the ID token has critical header parameters")
    typ = header.get("typ")
    if typ is not None and (not isinstance(typ, str) or typ.upper() not in _TYPES):
        raise TokenRefused("the token is of a type for another purpose")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenRefused("the ID token is signed with an algorithm that is not allowed")
    return algorithm, kid if isinstance(kid, str) else None


async def check_id_token(token: str, keys: KeySet, expected: Expected, now: int) -> dict[str, Any]:
    """Check *token* wholly and give its claims.

    :param now: epoch seconds.
    :raises TokenRefused: it fails any check.
    :raises ProviderUnreachable: there are no keys to check it with.
    """
    algorithm, kid = _read_header(token, expected.algorithms)
    for key in await keys.find(kid, algorithm):
        try:
            claims: dict[str, Any] = jwt.decode(token, key.public, algorithms=[algorithm], options=_SIGNATURE_ONLY)
        except PyJWTError:
            continue
        check_claims(claims, algorithm, expected, now)
        try:
            msgspec.json.encode(claims)
        except UnicodeEncodeError:
            # Half a surrogate pair is valid JSON but no text; nobody could store or pass it on.
            raise TokenRefused("the ID token holds what is no text") from None
        return claims
    raise TokenRefused("no key of the issuer verifies the ID token")


def _time(claims: dict[str, Any], name: str, required: bool) -> float | None:
    value = claims.get(name)
    if value is None and not required:
        return None
    # A bool is an int in Python, and digits in text are no number.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise TokenRefused(f"the ID token's {name} is not a time")
    return value


def check_claims(claims: dict[str, Any], algorithm: str, expected: Expected, now: int) -> None:
    """Check everything but the signature.

    :raises TokenRefused: naming the claim.
    """
    if claims.get("iss") != expected.issuer:
        raise TokenRefused("the ID token is another issuer's")
    _check_audience(claims, expected.client_id)
    expires, issued, begins = _time(claims, "exp", True), _time(claims, "iat", True), _time(claims, "nbf", False)
    if expires is None or expires + LEEWAY_SECONDS <= now:
        raise TokenRefused("the ID token has expired")
    if issued is None or issued - LEEWAY_SECONDS > now:
        raise TokenRefused("the ID token is from the future")
    if begins is not None and begins - LEEWAY_SECONDS > now:
        raise TokenRefused("the ID token is not yet valid")
    _time(claims, "auth_time", False)
    nonce, subject = claims.get("nonce"), claims.get("sub")
    if not isinstance(nonce, str) or nonce != expected.nonce:
        raise TokenRefused("the ID token's nonce is not ours")
    if not isinstance(subject, str) or not subject or len(subject) > 255:
        raise TokenRefused("the ID token names no subject")
    # A logout token has events and no nonce; nothing with events is an ID token.
    if "events" in claims:
        raise TokenRefused("the token is an event, not an ID token")
    _check_access_token(claims, algorithm, expected.access_token)


def _check_audience(claims: dict[str, Any], client_id: str) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or client_id not in audiences:
        raise TokenRefused("the ID token is for another audience")
    party = claims.get("azp")
    if (len(audiences) > 1 or party is not None) and party != client_id:
        raise TokenRefused("the ID token's authorized party is another")


def _check_access_token(claims: dict[str, Any], algorithm: str, access_token: str | None) -> None:
    at_hash = claims.get("at_hash")
    if at_hash is None or access_token is None:
        return
    digest = _HASHES[algorithm[-3:]](access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if at_hash != half:
        raise TokenRefused("the access token is not the ID token's")
