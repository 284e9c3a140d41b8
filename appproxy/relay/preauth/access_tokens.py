"""Every check on an access token: RFC 9068, and what providers do that do not follow it (Microsoft Entra among them).

An ID token must not pass for one, although it is signed with the same keys and may be for the same audience: it does
not say to whom it was issued, or holds what only ID tokens have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from appproxy.identity import Identity
from appproxy.relay.preauth.failures import Flaw, TokenRefused
from appproxy.relay.preauth.people import groups_left_out, name_person
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

if TYPE_CHECKING:
    from appproxy.relay.preauth.provider import Provider

NAME = "access token"
ACCESS_TOKEN = Purpose(NAME, ("jwt", "at+jwt"))
#: How programs that speak for themselves are named in assignments and logs.
PROGRAM = "app:"
#: Where tokens say to whom they were issued: RFC 9068, Microsoft Entra's versions 2 and 1, and others.
_CALLERS = ("client_id", "azp", "appid", "cid")
_SCOPES = ("scp", "scope")
#: What an ID token has and an access token has not; ``events`` are logout tokens and security events.
_FOREIGN = ("nonce", "at_hash", "c_hash", "s_hash", "events")
#: What some providers say in the claims that a token is.
_OTHER_KINDS = frozenset({"id", "refresh", "offline", "logout"})
#: Microsoft Entra's first version of access tokens names another issuer than its metadata, with the same keys.
_ENTRA_V1 = re.compile(r"https://sts\.windows\.net/([0-9A-Za-z.-]+)/")
_ENTRA_V2 = "https://login.microsoftonline.com/{}/v2.0"
_MAX_CALLER_CHARACTERS = 255


class AccessToken(NamedTuple):
    """A token that is good, for whom and for what.

    :ivar audiences: without slashes at their ends, which some write and some do not.
    :ivar itself: the program speaks for itself and for no user.
    :ivar takes_claims: the program understands a challenge that asks for claims.
    :ivar until: when it ends, epoch seconds.
    """

    identity: Identity
    audiences: frozenset[str]
    scopes: frozenset[str]
    roles: frozenset[str]
    itself: bool
    takes_claims: bool
    until: float


async def check_access_token(token: str, provider: Provider, now: int) -> AccessToken:
    """Check all of *token* but its audience, scopes and roles, which are for the application to look at.

    :param now: epoch seconds.
    :raises TokenRefused: it fails any check.
    :raises appproxy.relay.preauth.failures.IdentityRefused: it names nobody.
    :raises appproxy.relay.preauth.failures.ProviderUnreachable: there are no keys to check it with.
    """
    verified = _with_one_issuer(await verify(token, provider.keys, provider.algorithms, ACCESS_TOKEN))
    claims = verified.claims
    check_issuer(verified, provider.issuer, provider.tenants, NAME)
    check_times(claims, now, NAME)
    time_of(claims, "auth_time", NAME, required=False)
    subject = check_subject(claims, NAME)
    caller = _caller(claims)
    _check_kind(claims)
    scopes = _words(claims, *_SCOPES)
    itself = (
        claims.get("idtyp") == "app"
        or subject == caller
        or claims.get("oid") == subject
        or not any(name in claims for name in _SCOPES)
    )
    until = claims["exp"]
    return AccessToken(
        identity=_program(claims, caller) if itself else _person(claims, provider),
        audiences=frozenset(each.removesuffix("/") for each in audiences(claims) if isinstance(each, str)),
        scopes=scopes,
        roles=_words(claims, "roles"),
        itself=itself,
        takes_claims="cp1" in _words(claims, "xms_cc"),
        until=until,
    )


def _with_one_issuer(verified: Verified) -> Verified:
    """The same with the issuer of Entra's first version written as that of the second, if it is the tenant's own."""
    claims = verified.claims
    issuer, tenant = claims.get("iss"), claims.get("tid")
    matched = _ENTRA_V1.fullmatch(issuer) if isinstance(issuer, str) else None
    if matched is None or matched[1] != tenant:
        return verified
    changed = {**claims, "iss": _ENTRA_V2.format(tenant)}
    if "upn" in claims:
        changed.setdefault("preferred_username", claims["upn"])
    return verified._replace(claims=changed)


def _caller(claims: dict[str, Any]) -> str:
    """To whom it was issued; :raises TokenRefused: it does not say."""
    caller = next((claims[name] for name in _CALLERS if name in claims), None)
    if not isinstance(caller, str) or not 0 < len(caller) <= _MAX_CALLER_CHARACTERS or not caller.isprintable():
        raise TokenRefused(Flaw.PARTY, f"the {NAME} does not say to whom it was issued")
    return caller


def _check_kind(claims: dict[str, Any]) -> None:
    """See that it was made to be presented, by whoever has it; :raises TokenRefused: it was not."""
    kind = claims.get("typ")
    if isinstance(kind, str) and kind.lower() in _OTHER_KINDS:
        raise TokenRefused(Flaw.TYPE, "the token is of a type for another purpose")
    if any(name in claims for name in _FOREIGN):
        raise TokenRefused(Flaw.TYPE, f"the token is no {NAME}")
    if "cnf" in claims:
        # RFC 7800: it is good in the hands of whoever has a certain key, and nobody has shown one.
        raise TokenRefused(Flaw.BOUND, f"the {NAME} is bound to a key")


def _words(claims: dict[str, Any], *names: str) -> frozenset[str]:
    """The words of a claim, the first that there is: a list, or a text with spaces."""
    value = next((claims[name] for name in names if name in claims), ())
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
    return frozenset(word for word in words if isinstance(word, str))


def _person(claims: dict[str, Any], provider: Provider) -> Identity:
    """Whom the token speaks for, by the same names as at sign-in."""
    config = provider.config
    if groups_left_out(claims, config.groups_claim):
        # Nobody is asked for them: the token is for this application, not for the directory.
        rest = {name: value for name, value in claims.items() if name != config.groups_claim}
        claims = {"_claim_names": {config.groups_claim: ""}, **rest}
    person = name_person(claims, config)
    # When a token was issued says nothing about when its user last signed in.
    return person if "auth_time" in claims else msgspec.structs.replace(person, authenticated_at=0)


def _program(claims: dict[str, Any], caller: str) -> Identity:
    return Identity(
        issuer=claims["iss"],
        subject=claims["sub"],
        user=PROGRAM + caller,
        claims={name: claims[name] for name in ("roles", *_SCOPES) if name in claims},
    )
