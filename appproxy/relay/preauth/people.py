"""From checked claims to a person: the name that is used here, and the groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from appproxy.identity import Identity
from appproxy.relay.preauth.failures import IdentityRefused, ProviderUnreachable
from appproxy.relay.preauth.fetching import Fetch

if TYPE_CHECKING:
    from appproxy.config import ProviderConfig

MAX_USER_CHARACTERS = 255
#: A directory's answer to "which groups": ids of 36 characters, a few thousand of them.
MAX_GROUPS_BYTES = 1 << 20
GROUPS_TIMEOUT_SECONDS = 15.0
#: What the names of programs begin with: those with access tokens of their own, and with service tokens.
PROGRAMS = ("app:", "service:")
#: Claims that say something about the token, not about the person.
_OF_THE_TOKEN = frozenset(
    ["aud", "exp", "nbf", "nonce", "at_hash", "c_hash", "s_hash", "jti", "azp", "rh", "uti", "aio"]
)


class _Groups(msgspec.Struct):
    """What Microsoft Graph answers to ``getMemberObjects`` and ``getMemberGroups``."""

    value: tuple[str, ...]


def name_person(claims: Mapping[str, Any], config: ProviderConfig) -> Identity:
    """Name the person of checked *claims*.

    :raises IdentityRefused: the configured claim names nobody.
    """
    user = claims.get(config.user_claim)
    if not isinstance(user, str) or not 0 < len(user) <= MAX_USER_CHARACTERS:
        raise IdentityRefused(f"there is no claim {config.user_claim}")
    if not user.isprintable() or user != user.strip():
        raise IdentityRefused(f"the claim {config.user_claim} has characters that no name has")
    if user.startswith(PROGRAMS):
        raise IdentityRefused(f"the claim {config.user_claim} has a name that only programs have")
    # Whoever may choose their own address could otherwise be anybody.
    if config.user_claim == "email" and claims.get("email_verified") not in (True, "true"):
        raise IdentityRefused("the provider has not verified the e-mail address")
    groups = claims.get(config.groups_claim) if config.groups_claim else None
    listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list | tuple) else []
    at = claims.get("auth_time", claims.get("iat", 0))
    return Identity(
        issuer=claims["iss"],
        subject=claims["sub"],
        user=user,
        groups=tuple(group for group in listed if isinstance(group, str) and group),
        claims={name: value for name, value in claims.items() if name not in _OF_THE_TOKEN},
        authenticated_at=int(at),
    )


def groups_left_out(claims: Mapping[str, Any], groups_claim: str) -> bool:
    """Whether the provider says that there are groups but too many for a token (OpenID Connect Core 5.6.2)."""
    if claims.get("hasgroups") in (True, "true") and groups_claim not in claims:
        return True
    named = claims.get("_claim_names")
    return isinstance(named, dict) and groups_claim in named


async def ask_for_groups(fetch: Fetch, url: str, access_token: str) -> list[str]:
    """Ask the directory at *url* which groups the holder of the token is in.

    The address is the configured one: where a token says its claims are (``_claim_sources``) nobody goes.

    :raises ProviderUnreachable: it does not say; the caller must not take that for "in no group".
    """
    headers = {
        "Accept": "application/json",
        "Authorization": f"Bearer {access_token}",
        "Content-Type": "application/json",
    }
    body = b'{"securityEnabledOnly":false}'
    answer = await fetch("POST", url, headers, body, MAX_GROUPS_BYTES, GROUPS_TIMEOUT_SECONDS)
    where = urlsplit(url).hostname
    if answer.status != 200:
        raise ProviderUnreachable(f"groups: {where} answered {answer.status}")
    try:
        return list(msgspec.json.decode(answer.body, type=_Groups).value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ProviderUnreachable(f"groups: {where} did not answer with a list") from None
