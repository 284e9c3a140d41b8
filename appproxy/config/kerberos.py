"""What an application, and a connector, may say about Kerberos."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from appproxy.applications import NAMED_IDENTITIES, Application, SingleSignOn, Value
from appproxy.config.converting import Place
from appproxy.config.urls import is_address
from appproxy.errors import ConfigError
from appproxy.expressions import MalformedExpression, parse
from appproxy.http.addresses import InternalURL
from appproxy.units import Duration

#: Disabling a user in the directory takes effect no later than this: by then a new ticket is asked for.
MAX_CACHE_SECONDS: Final = 15 * 60
_REALM = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")
_SPN = re.compile(
    r"[A-Za-z][A-Za-z0-9-]*/(?:\{host\}|[A-Za-z0-9._-]+)(?::(?:\{port\}|[0-9]{1,5}))?(?:@(?P<realm>[^@]+))?"
)
_PRINCIPAL = re.compile(r"(?P<name>[A-Za-z0-9._$-]+(?:/[A-Za-z0-9._-]+)?)@(?P<realm>[^@]+)")


class Kerberos(Value, frozen=True):
    """``[kerberos]``: the connector's own account in the realm, which may ask for tickets in users' names."""

    principal: str = ""
    keytab_file: Path | None = None
    #: A credential cache that something else keeps fresh, instead of a keytab: ``FILE:/run/…``, ``KCM:``.
    ccache: str = ""
    krb5_config_file: Path | None = None
    #: How long a user's ticket is used again.
    cache: Duration = Duration(MAX_CACHE_SECONDS)
    #: How long a request waits for the KDC.
    timeout: Duration = Duration(10)
    #: Tickets with RC4 keys are refused unless this is true.
    allow_rc4: bool = False

    @property
    def realm(self) -> str:
        """Of the connector's account."""
        return self.principal.rpartition("@")[2]


def check_settings(kerberos: Kerberos, place: Place) -> None:
    """See that the connector's settings can work.

    :raises ConfigError: naming the first that cannot.
    """
    if not kerberos.principal:
        for key in ("keytab_file", "ccache"):
            if getattr(kerberos, key):
                raise place.error("kerberos.principal", f"is missing; {key} is for the account that it names")
        return
    found = _PRINCIPAL.fullmatch(kerberos.principal)
    if found is None or not _REALM.fullmatch(found["realm"]):
        problem = f'{kerberos.principal!r} is no principal; write for instance "svc-connector@CORP.EXAMPLE"'
        raise place.error("kerberos.principal", problem)
    if bool(kerberos.keytab_file) == bool(kerberos.ccache):
        problem = "is missing; where are the keys?" if not kerberos.ccache else "and ccache: keep one of them"
        raise place.error("kerberos.keytab_file", problem)
    for key, path in (("keytab_file", kerberos.keytab_file), ("krb5_config_file", kerberos.krb5_config_file)):
        if path is not None and not path.is_file():
            raise place.error(f"kerberos.{key}", f"there is no file {path}; create it or correct the path")
    if not 0 < kerberos.cache <= MAX_CACHE_SECONDS:
        raise place.error("kerberos.cache", f"{kerberos.cache} is not between 1s and 15m")
    if not 0 < kerberos.timeout <= 60:
        raise place.error("kerberos.timeout", f"{kerberos.timeout} is not between 1s and 60s")


def check_kerberos(application: Application, where: str) -> None:
    """See that an application's ``sso`` with ``mode = "kerberos"`` can work, and that others say nothing about it.

    :raises ConfigError: naming the first key that is wrong.
    """
    sso = application.sso
    if sso.mode != "kerberos":
        _check_nothing(application, where)
        return
    if application.preauthentication == "passthrough":
        raise ConfigError(f"{where}.sso.mode", '"kerberos" needs to know who the user is; passthrough signs nobody in')
    if application.origin.pinned:
        raise ConfigError(f"{where}.origin.pinned", "has no use with kerberos: each user has connections of their own")
    _check_identity(sso, f"{where}.sso.identity")
    if sso.realm and not _REALM.fullmatch(sso.realm):
        raise ConfigError(f"{where}.sso.realm", f"{sso.realm!r} is not the name of a realm")
    _check_spn(sso.spn, application.internal_url, f"{where}.sso.spn")
    for position, segment in enumerate(application.segment or ()):
        key = f"{where}.segment[{position}].spn" if segment.spn else f"{where}.sso.spn"
        _check_spn(segment.spn or sso.spn, segment.internal_url, key)


def _check_identity(sso: SingleSignOn, where: str) -> None:
    known = f"write {', '.join(NAMED_IDENTITIES)} or an expression"
    try:
        expression = parse(sso.identity_expression)
    except MalformedExpression as problem:
        raise ConfigError(where, f"{problem}; {known}") from None
    if expression.constant:
        raise ConfigError(where, f"would be the same for everybody; {known}")


def _check_nothing(application: Application, where: str) -> None:
    """No key that only Kerberos knows."""
    plain = SingleSignOn()
    for key in ("spn", "identity", "realm", "mechanism", "preemptive", "mutual", "channel_binding"):
        if getattr(application.sso, key) != getattr(plain, key):
            raise ConfigError(f"{where}.sso.{key}", 'has an effect with mode = "kerberos" only')
    for position, segment in enumerate(application.segment or ()):
        if segment.spn:
            raise ConfigError(f"{where}.segment[{position}].spn", 'has an effect with mode = "kerberos" only')


def _check_spn(spn: str, internal_url: str, where: str) -> None:
    if spn:
        found = _SPN.fullmatch(spn)
        if found is None or (found["realm"] is not None and not _REALM.fullmatch(found["realm"])):
            problem = (
                f'{spn!r} is no service principal name; write for instance "HTTP/hr.corp.example" or "HTTP/{{host}}"'
            )
            raise ConfigError(where, problem)
    if internal_url and (not spn or "{host}" in spn):
        host = InternalURL.parse(internal_url).host
        if is_address(host):
            raise ConfigError(where, f'is needed: {host} is an address, and services have names; write "HTTP/NAME"')
