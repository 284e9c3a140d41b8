"""Reading a signed token of any purpose: its header, its signature, its times and its audience (RFC 7519, RFC 8725).

PyJWT verifies the signature; everything else is checked here and by whoever knows the purpose, because it lets through
what must not pass.  A token is always read for one purpose: one that was made for another is refused by its type.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jwt
import msgspec
from jwt.exceptions import PyJWTError

from appproxy.config.provider import TENANT
from appproxy.relay.preauth.failures import Flaw, TokenRefused
from appproxy.relay.preauth.keys import Key, KeySet

#: How far the issuer's clock may be from ours.
LEEWAY_SECONDS = 60
MAX_TOKEN_CHARACTERS = 256 * 1024
#: PyJWT's own checks of claims are weaker than ours and would come first.
_SIGNATURE_ONLY: Any = dict.fromkeys((f"verify_{c}" for c in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")), False)


class Purpose(NamedTuple):
    """What a token is for: how errors name it, and the types that its header may say, in lower case."""

    name: str
    types: Collection[str]
    #: Whether the header may do without a type.
    untyped: bool = True


class Verified(NamedTuple):
    """Claims that an issuer's key has signed, and how."""

    claims: dict[str, Any]
    algorithm: str
    key: Key


def _read_header(token: str, algorithms: Sequence[str], purpose: Purpose) -> tuple[str, str | None]:
    """The algorithm and the key's id."""
    name = purpose.name
    try:
        header = _read_part(_split(token)[0])
    except (ValueError, msgspec.MsgspecError):
        raise TokenRefused(Flaw.FORMAT, f"the {name} is not a signed JWT") from None
    # No extension is understood here; whoever says one is critical means another reader.
    if "crit" in header or "b64" in header:
        raise TokenRefused(Flaw.CRITICAL, f"the {name} has critical header parameters")
    typ = header.get("typ")
    if typ is None and not purpose.untyped:
        raise TokenRefused(Flaw.TYPE, f"the {name} does not say its type")
    if typ is not None and (not isinstance(typ, str) or _media_type(typ) not in purpose.types):
        raise TokenRefused(Flaw.TYPE, "the token is of a type for another purpose")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenRefused(Flaw.ALGORITHM, f"the {name} is signed with an algorithm that is not allowed")
    return algorithm, kid if isinstance(kid, str) else None


def _media_type(typ: str) -> str:
    """RFC 7515 section 4.1.9: ``application/`` may be left out, and case does not matter."""
    return typ.lower().removeprefix("application/")


async def verify(token: str, keys: KeySet, algorithms: Sequence[str], purpose: Purpose) -> Verified:
    """Verify who signed *token*; what its claims say is for the caller to check.

    :raises TokenRefused: nobody whose keys these are, or it is for another purpose.
    :raises ProviderUnreachable: there are no keys to verify it with.
    """
    algorithm, kid = _read_header(token, algorithms, purpose)
    found = await keys.find(kid, algorithm)
    for key in found:
        try:
            claims: dict[str, Any] = jwt.decode(token, key.public, algorithms=[algorithm], options=_SIGNATURE_ONLY)
        except PyJWTError:
            continue
        try:
            msgspec.json.encode(claims)
        except UnicodeEncodeError:
            # Half a surrogate pair is valid JSON but no text; nobody could store or pass it on.
            raise TokenRefused(Flaw.TEXT, f"the {purpose.name} holds what is no text") from None
        return Verified(claims, algorithm, key)
    flaw = Flaw.SIGNATURE if found else Flaw.KEY
    raise TokenRefused(flaw, f"no key of the issuer verifies the {purpose.name}")


def unverified_claims(token: str) -> dict[str, Any]:
    """What *token* claims, to find out who must verify it; empty for what is none."""
    try:
        _, payload, _ = _split(token)
        return _read_part(payload)
    except (ValueError, msgspec.MsgspecError):
        return {}


def _split(token: str) -> list[str]:
    """The parts of a signed token; :raises ValueError: it has not three, or is too long."""
    parts = token.split(".", 3)
    if not token.isascii() or len(token) > MAX_TOKEN_CHARACTERS or len(parts) != 3:
        raise ValueError
    return parts


def _read_part(text: str) -> dict[str, Any]:
    """One part of a token; :raises ValueError: it is none. :raises msgspec.MsgspecError: nor is it JSON."""
    return msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=dict[str, Any])


def check_issuer(verified: Verified, issuer: str, tenants: Collection[str], name: str) -> None:
    """Check who issued a token, exactly; for many tenants' issuer, by the tenant that the token names.

    Keys may say whose they are, as Microsoft Entra's do: such a key vouches for that issuer's tokens only.

    :raises TokenRefused: another issuer, or a tenant that is not listed.
    """
    claims = verified.claims
    said, tenant = claims.get("iss"), claims.get("tid")
    tenant = tenant if isinstance(tenant, str) else ""
    if TENANT in issuer:
        if tenant not in tenants:
            raise TokenRefused(Flaw.TENANT, f"the {name} is of a tenant that is not listed")
        issuer = issuer.replace(TENANT, tenant)
    if said != issuer:
        raise TokenRefused(Flaw.ISSUER, f"the {name} is another issuer's")
    owner = verified.key.issuer
    if owner is not None and owner.replace(TENANT, tenant) != issuer:
        raise TokenRefused(Flaw.KEY_ISSUER, f"the {name} is signed with another issuer's key")


def audiences(claims: dict[str, Any]) -> list[Any]:
    """Whom a token is for."""
    audience = claims.get("aud")
    if isinstance(audience, str):
        return [audience]
    return audience if isinstance(audience, list) else []


def time_of(claims: dict[str, Any], claim: str, name: str, *, required: bool) -> float | None:
    """A claim that is a time; :raises TokenRefused: it is none."""
    value = claims.get(claim)
    if value is None and not required:
        return None
    # A bool is an int in Python, and digits in text are no number.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise TokenRefused(Flaw.TIME, f"the {name}'s {claim} is not a time")
    return value


def check_times(claims: dict[str, Any], now: int, name: str, *, expires: bool = True) -> None:
    """Check that a token holds now.

    :param expires: whether it must say until when.
    :raises TokenRefused: it does not.
    """
    until = time_of(claims, "exp", name, required=expires)
    issued = time_of(claims, "iat", name, required=True)
    begins = time_of(claims, "nbf", name, required=False)
    if until is not None and until + LEEWAY_SECONDS <= now:
        raise TokenRefused(Flaw.EXPIRED, f"the {name} has expired")
    if issued is not None and issued - LEEWAY_SECONDS > now:
        raise TokenRefused(Flaw.FUTURE, f"the {name} is from the future")
    if begins is not None and begins - LEEWAY_SECONDS > now:
        raise TokenRefused(Flaw.NOT_YET, f"the {name} is not yet valid")


def check_subject(claims: dict[str, Any], name: str) -> str:
    """Whom a token is about; :raises TokenRefused: nobody."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject or len(subject) > 255:
        raise TokenRefused(Flaw.SUBJECT, f"the {name} names no subject")
    return subject
