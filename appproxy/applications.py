"""What is published: applications and connector groups, as the apply file, the store and the channel all know them.

These are plain values; :mod:`appproxy.config` reads and checks them, so whoever holds one may rely on it.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from appproxy.units import Duration


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """An immutable setting; unknown keys are refused by name."""


class HeaderRule(Value, frozen=True):
    """One header for the origin: *value* is ``user``, ``groups``, ``claim:NAME`` or ``const:TEXT``."""

    name: str
    value: str


class SingleSignOn(Value, frozen=True):
    """How the origin is told who the user is."""

    mode: Literal["none", "header"] = "none"
    header: tuple[HeaderRule, ...] = ()


class Assigned(Value, frozen=True):
    """Who may use an application: named users, members of groups, or everyone who can sign in."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    everyone: bool = False


class Translate(Value, frozen=True):
    """What is rewritten between internal and external addresses."""

    #: True: the origin sees the internal host in ``Host``; False: the external one.
    host_header: bool = True
    headers: bool = True


class Cookies(Value, frozen=True):
    """Attributes of the relay's own session cookie for this application."""

    http_only: bool = True
    secure: bool = True
    persistent: bool = False
    same_site: Literal["lax", "strict", "none"] = "lax"
    partitioned: bool = False


class SessionLifetime(Value, frozen=True):
    """How long a sign-in to this application lasts."""

    idle: Duration = Duration(8 * 3600)
    absolute: Duration = Duration(24 * 3600)


class Timeouts(Value, frozen=True):
    """How long each part of the journey to the origin may take."""

    connect: Duration = Duration(10)
    first_byte: Duration = Duration(85)
    idle: Duration = Duration(300)
    upgraded_idle: Duration = Duration(7200)


class OriginTLS(Value, frozen=True):
    """How the connector checks an ``https`` origin."""

    verify: bool = True
    ca_file: str = ""
    server_name: str = ""


class Application(Value, frozen=True):
    """One published thing.  External and internal URL are canonical, with a trailing slash on the path."""

    id: str
    external_url: str
    internal_url: str
    connector_group: str
    name: str = ""
    preauthentication: Literal["oidc", "passthrough"] = "oidc"
    provider: str = ""
    assigned: Assigned = Assigned()
    assignment_required: bool = True
    home_page: str = ""
    enabled: bool = True
    sso: SingleSignOn = SingleSignOn()
    translate: Translate = Translate()
    cookies: Cookies = Cookies()
    session: SessionLifetime = SessionLifetime()
    timeouts: Timeouts = Timeouts()
    origin: OriginTLS = OriginTLS()


class ConnectorGroup(Value, frozen=True):
    """Connectors that can all reach the same origins."""

    name: str


T = TypeVar("T", Application, ConnectorGroup)


def to_document(value: Value) -> dict[str, Any]:
    """Write a setting with plain types only, durations as people write them; what is default is left out."""
    document: dict[str, Any] = msgspec.to_builtins(value, enc_hook=str)
    return document


def from_document(document: object, kind: type[T]) -> T:
    """Read what :func:`to_document` wrote; :raises msgspec.ValidationError: when it is not that."""
    return msgspec.convert(document, kind, dec_hook=_decode)


def _decode(kind: type, value: object) -> object:
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(f"no way to read a {kind.__name__}")
