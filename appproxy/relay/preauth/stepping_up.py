"""Stronger and fresher sign-ins: how a provider is asked for one, and whether it gave one.

Specification: OpenID Connect Core 3.1.2.1 (``max_age``, ``acr_values``) and 2 (``auth_time``, ``acr``, ``amr``).

A provider may take no notice of what it is asked for, so its answer is looked at: what it does not say was not done.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from appproxy.identity import Identity
from appproxy.relay.access.policy import StepUp, signed_in_by, texts_of
from appproxy.relay.preauth.failures import SignInTooWeak

#: Hosts of Microsoft Entra, which asks for a new sign-in by ``prompt`` only, and has authentication contexts (``acrs``)
#: asked for as claims.
_ENTRA = frozenset({"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"})


def asked_for(step_up: StepUp | None, issuer: str) -> dict[str, str]:
    """The parameters of an authorization request that ask for *step_up*; none for None."""
    if step_up is None:
        return {}
    entra = urlsplit(issuer).hostname in _ENTRA
    parameters = {}
    if step_up.max_age:
        parameters["max_age"] = str(step_up.max_age)
    if step_up.acr:
        parameters["acr_values"] = " ".join(step_up.acr)
        if entra:
            wanted = {"id_token": {"acrs": {"essential": True, "value": step_up.acr[0]}}}
            parameters["claims"] = msgspec.json.encode(wanted).decode()
    if step_up.amr or (entra and step_up.max_age):
        parameters["prompt"] = "login"  # there is no way to ask for a method
    return parameters


def check_stepped_up(identity: Identity, step_up: StepUp, now: int) -> None:
    """See that a new sign-in is what was asked for; *now* in epoch seconds.

    :raises SignInTooWeak: naming the claim that does not say so.
    """
    claims = identity.claims
    if step_up.max_age:
        if "auth_time" not in claims:
            raise SignInTooWeak("the provider does not say when the sign-in was (auth_time)")
        if now - identity.authenticated_at > step_up.max_age:
            raise SignInTooWeak("auth_time: the provider did not ask the person to sign in again")
    if step_up.acr and not signed_in_by(identity, step_up.acr):
        raise SignInTooWeak(f"acr is {str(claims.get('acr'))[:64]!r}, none of those that were asked for")
    if step_up.amr and set(step_up.amr).isdisjoint(texts_of(claims.get("amr"))):
        raise SignInTooWeak("amr has none of the methods that the rule asks for")


def is_stepped_up(identity: Identity, step_up: StepUp, now: int) -> bool:
    """Whether a sign-in is good enough as it is."""
    try:
        check_stepped_up(identity, step_up, now)
    except SignInTooWeak:
        return False
    return True
