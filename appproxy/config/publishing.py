"""What can be published: the rules an application has to keep, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from appproxy.applications import Application, Cookies, SingleSignOn
from appproxy.config.places import NODE_NAME
from appproxy.config.urls import is_address, read_url
from appproxy.errors import ConfigError
from appproxy.http.addresses import ExternalURL

_SOURCES = "user, groups, claim:NAME or const:TEXT"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Header fields that decide where a message ends or goes, or that the relay itself writes.
RESERVED_FIELDS = frozenset(
    {"connection", "content-encoding", "content-length", "content-range", "cookie", "expect", "forwarded", "host"}
    | {"http2-settings", "keep-alive", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "via"}
    | {"proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "proxy-connection"}
)
_RESERVED_PREFIXES = ("x-forwarded-", "sec-websocket-")


def check_application(application: Application, where: str) -> Application:
    """Check what can be said of one application alone; returns it with its URLs in canonical form.

    :param where: how errors name it, for instance ``apps.toml: application[hr]``.
    :raises ConfigError: the setting and what is wrong with it.
    """
    _check_name(application.id, f"{where}.id")
    _check_name(application.connector_group, f"{where}.connector_group")
    external, internal = _urls(application, where)
    _check_sign_in(application, where)
    _check_sso(application.sso, where)
    _check_times(application, where)
    _check_cookies(application.cookies, f"{where}.cookies")
    page = application.home_page
    if re.search(r"^/|^[a-z]+:|[\x00-\x20\x7f\\]", page) or ".." in page.partition("?")[0].split("/"):
        raise ConfigError(f"{where}.home_page", f'{page!r} is not below the external URL; write for instance "start/"')
    return msgspec.structs.replace(application, external_url=str(external), internal_url=str(internal))


def check_overlap(applications: Iterable[Application]) -> None:
    """See that every request has one application (N22): no two have the same external URL.

    Below each other is fine, the longest path wins; so is a host that a wildcard covers.

    :raises ConfigError: naming both.
    """
    owners: dict[str, str] = {}
    for application in applications:
        owner = owners.setdefault(application.external_url, application.id)
        if owner != application.id:
            problem = f"{application.external_url} belongs to application {owner}; one URL, one application"
            raise ConfigError(f"application[{application.id}].external_url", problem)


def check_groups(applications: Iterable[Application], known: Collection[str]) -> None:
    """See that every application's connector group exists; :raises ConfigError: naming the first that does not."""
    for application in applications:
        if application.connector_group not in known:
            where = f"application[{application.id}].connector_group"
            raise ConfigError(
                where, f'there is no connector group "{application.connector_group}"; add a [[connector_group]]'
            )


def check_publishing(applications: Iterable[Application], providers: Collection[str], own_host: str = "") -> None:
    """See that this relay can publish them.

    :param providers: ids of the relay's providers.
    :param own_host: host of the relay's public URL, which is not for applications.
    :raises ConfigError: naming the first that it cannot.
    """
    for application in applications:
        where = f"application[{application.id}]"
        if own_host and ExternalURL.parse(application.external_url).matches(own_host):
            raise ConfigError(f"{where}.external_url", f"{own_host} is the relay's own host; choose another")
        if application.preauthentication == "passthrough":
            continue
        if application.provider and application.provider not in providers:
            listed = ", ".join(sorted(providers)) or "none"
            raise ConfigError(f"{where}.provider", f'there is no provider "{application.provider}"; known: {listed}')
        if not application.provider and len(providers) != 1:
            problem = (
                "is needed, there are several providers" if providers else "the relay has no provider to sign in with"
            )
            raise ConfigError(f"{where}.provider", problem)


def _check_name(name: str, where: str) -> None:
    if not NODE_NAME.fullmatch(name):
        raise ConfigError(where, f"{name!r} is not a name; use letters, digits, dots and hyphens")


def _urls(application: Application, where: str) -> tuple[ExternalURL, ExternalURL]:
    external = read_url(application.external_url, f"{where}.external_url", wildcard=True)
    if external.scheme == "http" and application.preauthentication != "passthrough":
        raise ConfigError(f"{where}.external_url", "must be https; http is for pass-through applications only")
    internal = read_url(application.internal_url, f"{where}.internal_url", wildcard=True)
    if internal.wildcard and not external.wildcard:
        raise ConfigError(f"{where}.internal_url", f"{internal} is a wildcard, but external_url is not")
    if is_address(internal.host) and _is_forbidden(ip_address(internal.host.strip("[]"))):
        problem = f"{internal.host} is link-local, unspecified or multicast; such addresses are never published"
        raise ConfigError(f"{where}.internal_url", problem)
    return external, internal


def _is_forbidden(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one that no intranet application has, but cloud metadata services and tricks do (M04)."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_link_local or address.is_unspecified or address.is_multicast


def _check_sign_in(application: Application, where: str) -> None:
    if application.preauthentication != "passthrough":
        return
    assigned = application.assigned
    if assigned.users or assigned.groups:
        raise ConfigError(f"{where}.assigned", "has no effect with passthrough, which knows no users; remove it")
    if application.provider:
        raise ConfigError(f"{where}.provider", "has no effect with passthrough, which signs nobody in; remove it")
    if any(not rule.value.startswith("const:") for rule in application.sso.header):
        raise ConfigError(f"{where}.sso.header", 'can only be "const:…" with passthrough, which knows no users')


def _check_sso(sso: SingleSignOn, where: str) -> None:
    if sso.mode == "header" and not sso.header:
        raise ConfigError(f"{where}.sso.header", "is missing; say which header gets what")
    if sso.mode == "none" and sso.header:
        raise ConfigError(f"{where}.sso.header", 'has an effect with mode = "header" only')
    folded: dict[str, int] = {}
    for position, rule in enumerate(sso.header):
        key = f"{where}.sso.header[{position}]"
        _check_field(rule.name, f"{key}.name")
        _check_source(rule.value, f"{key}.value")
        if folded.setdefault(re.sub(r"[_.]", "-", rule.name.lower()), position) != position:
            raise ConfigError(f"{key}.name", f"{rule.name} is set twice; origins take - _ and . for the same")


def _check_field(name: str, where: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise ConfigError(where, f"{name!r} is not the name of a header")
    folded = re.sub(r"[_.]", "-", name.lower())
    if folded in RESERVED_FIELDS or folded.startswith(_RESERVED_PREFIXES):
        raise ConfigError(where, f"{name} is written by the relay or connector itself; choose another header")


def _check_source(value: str, where: str) -> None:
    source, colon, text = value.partition(":")
    if value in ("user", "groups") or (source == "claim" and text):
        return
    if source == "const" and colon:
        if re.search(r"[\x00-\x1f\x7f]", text) or text != text.strip():
            raise ConfigError(where, "has control characters, or space at an end")
    elif "(" in value:
        raise ConfigError(where, f"expressions are not available in this release; use {_SOURCES}")
    else:
        raise ConfigError(where, f"{value!r} is not a source; use {_SOURCES}")


def _check_times(application: Application, where: str) -> None:
    for key in ("timeouts", "session"):
        times = getattr(application, key)
        for name in times.__struct_fields__:
            if getattr(times, name) <= 0:
                raise ConfigError(f"{where}.{key}.{name}", "must be longer than nothing")
    session = application.session
    if session.idle > session.absolute:
        problem = f"{session.idle} is longer than session.absolute, {session.absolute}"
        raise ConfigError(f"{where}.session.idle", problem)


def _check_cookies(cookies: Cookies, where: str) -> None:
    if not cookies.secure:
        raise ConfigError(f"{where}.secure", "must be true; the relay's cookies are sent over https only")
    if cookies.partitioned and cookies.same_site != "none":
        raise ConfigError(f"{where}.partitioned", 'has an effect with same_site = "none" only')
