"""Checks of what an application says about programs: their tokens, how often they may ask, what the origin is told."""

from __future__ import annotations

import re

from cryptography import x509

from appproxy.applications import AccessTokens, Application, ClientCertificates, IdentityToken, RateLimits
from appproxy.config.fields import check_field, fold_name
from appproxy.errors import ConfigError

#: RFC 6749 section 3.3; audiences and roles stand in the same places.
_SCOPE = re.compile(r"[!#-\[\]-~]{1,255}")
#: A signed statement is for the request that it goes with, not for keeping.
MAX_TOKEN_SECONDS = 3600


def check_programs(application: Application, where: str) -> None:
    """:raises ConfigError: something cannot be meant as it is written."""
    _check_api(application.api, f"{where}.api")
    _check_rate(application.rate, f"{where}.rate")
    _check_identity_token(application, application.identity_token, f"{where}.identity_token")
    _check_certificates(application, application.client_certificate, f"{where}.client_certificate")
    if application.preauthentication == "passthrough":
        for key, given in (
            ("api", application.api != AccessTokens()),
            ("compat", bool(application.compat)),
            ("identity_token", bool(application.identity_token.header)),
        ):
            if given:
                raise ConfigError(f"{where}.{key}", "has no effect with passthrough, which knows no users; remove it")
        if application.rate.user:
            raise ConfigError(f"{where}.rate.user", "has no effect with passthrough, which knows no users; remove it")


def _check_api(api: AccessTokens, where: str) -> None:
    if not api.audiences:
        for key in ("scopes", "roles", "token_header"):
            if getattr(api, key):
                raise ConfigError(f"{where}.{key}", "needs audiences: what the tokens are for")
    for key in ("audiences", "scopes", "roles"):
        for position, name in enumerate(getattr(api, key)):
            if not _SCOPE.fullmatch(name):
                raise ConfigError(
                    f"{where}.{key}[{position}]", f"{name!r} has spaces, quotes or other than ASCII in it"
                )
    if api.token_header:
        check_field(api.token_header, f"{where}.token_header")


def _check_rate(rate: RateLimits, where: str) -> None:
    for key in ("user", "address", "application", "burst"):
        if getattr(rate, key) < 0:
            raise ConfigError(f"{where}.{key}", "cannot be less than 0, which is any number")
    if rate.interval <= 0:
        raise ConfigError(f"{where}.interval", "must be longer than nothing")
    if rate.burst and not (rate.user or rate.address or rate.application):
        raise ConfigError(f"{where}.burst", "has no effect without user, address or application")


def _check_certificates(application: Application, certificates: ClientCertificates, where: str) -> None:
    if not certificates.ca:
        for key in ("user", "required", "forward"):
            if getattr(certificates, key):
                raise ConfigError(f"{where}.{key}", "needs ca: who issues the certificates, as PEM")
        return
    try:
        authorities = x509.load_pem_x509_certificates(certificates.ca.encode("utf-8"))
    except ValueError:
        authorities = []
    if not authorities or not all(map(_is_authority, authorities)):
        raise ConfigError(f"{where}.ca", "is not the certificate of an authority in PEM form, or several")
    if certificates.user and application.preauthentication == "passthrough":
        raise ConfigError(f"{where}.user", "has no effect with passthrough, which knows no users; remove it")
    if not (certificates.user or certificates.required or certificates.forward):
        raise ConfigError(f"{where}.ca", "does nothing by itself; give user, required or forward")


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _check_identity_token(application: Application, token: IdentityToken, where: str) -> None:
    if not token.header:
        if token.claims or token.groups:
            raise ConfigError(f"{where}.header", "is missing; say which header gets the token")
        return
    check_field(token.header, f"{where}.header")
    taken = {fold_name(rule.name): "sso.header" for rule in application.sso.header}
    taken |= {fold_name(application.api.token_header or "authorization"): "programs' tokens"}
    owner = taken.get(fold_name(token.header))
    if owner is not None:
        raise ConfigError(f"{where}.header", f"{token.header} is for {owner} already; choose another")
    if not 0 < token.lifetime <= MAX_TOKEN_SECONDS:
        raise ConfigError(f"{where}.lifetime", "must be more than nothing and at most 1h")
