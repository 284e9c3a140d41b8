"""What can be published: the rules an application has to keep, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

import msgspec

from appproxy.applications import Application, Cookies, CrossOrigin, Segment, SingleSignOn
from appproxy.config.fields import check_field
from appproxy.config.kerberos import check_kerberos
from appproxy.config.places import NODE_NAME
from appproxy.config.programs import check_programs
from appproxy.config.rules import check_rules
from appproxy.config.urls import is_address, read_origin, read_url
from appproxy.errors import ConfigError
from appproxy.expressions import MalformedExpression, parse
from appproxy.http.addresses import AmbiguousPath, ExternalURL, canonical_path, is_never_published, is_under
from appproxy.http.hops import IDENTITY, REQUEST_DROP, fold

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_application(application: Application, where: str) -> Application:
    """Check what can be said of one application alone; returns it with its URLs in canonical form.

    :param where: how errors name it, for instance ``apps.toml: application[hr]``.
    :raises ConfigError: the setting and what is wrong with it.
    """
    _check_name(application.id, f"{where}.id")
    _check_name(application.connector_group, f"{where}.connector_group")
    application = _with_urls(application, where)
    _check_sign_in(application, where)
    _check_client_fields(application.client_fields, f"{where}.client_fields")
    _check_sso(application.sso, where)
    check_kerberos(application, where)
    _check_times(application, where)
    _check_cookies(application.cookies, f"{where}.cookies")
    application = _with_sign_in(application, f"{where}.sign_in")
    _check_home_page(application, where)
    check_rules(application, where)
    check_programs(application, where)
    return application


def check_overlap(applications: Iterable[Application]) -> None:
    """See that every request has one application and segment (N22): no external URL is there twice.

    Below each other is fine, the longest path wins; so is a host that a wildcard covers.

    :raises ConfigError: naming both.
    """
    owners: dict[str, tuple[str, str]] = {}
    for application in applications:
        for key, url in _external_urls(application):
            owner, its_key = owners.setdefault(url, (application.id, key))
            if (owner, its_key) != (application.id, key):
                other = its_key if owner == application.id else f"application {owner}"
                problem = f"{url} belongs to {other}; one URL, one application"
                raise ConfigError(f"application[{application.id}].{key}", problem)


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
        for key, url in _external_urls(application):
            if own_host and ExternalURL.parse(url).matches(own_host):
                raise ConfigError(f"{where}.{key}", f"{own_host} is the relay's own host; choose another")
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


def _external_urls(application: Application) -> Iterator[tuple[str, str]]:
    """Every external URL of an application, with its key."""
    if application.external_url:
        yield "external_url", application.external_url
    for position, segment in enumerate(application.segment or ()):
        yield f"segment[{position}].external_url", segment.external_url
    if application.alternate_url:
        yield "alternate_url", application.alternate_url


def _with_urls(application: Application, where: str) -> Application:
    """The application with its URLs in canonical form."""
    given = {key: getattr(application, key) for key in ("external_url", "internal_url")}
    segments = application.segment
    if segments is None or any(given.values()):
        for key, url in given.items():
            if not url:
                raise ConfigError(f"{where}.{key}", "is missing")
    changes: dict[str, Any] = {}
    if application.external_url:
        urls = _pair(application, application.external_url, application.internal_url, where)
        changes["external_url"], changes["internal_url"] = map(str, urls)
    if segments is not None:
        changes["segment"] = tuple(
            _segment(application, segment, f"{where}.segment[{position}]") for position, segment in enumerate(segments)
        )
    if application.alternate_url:
        changes["alternate_url"] = _alternate(application, f"{where}.alternate_url")
    elif application.translate.alternate_url:
        raise ConfigError(f"{where}.translate.alternate_url", "has an effect with an alternate_url only")
    return msgspec.structs.replace(application, **changes)


def _segment(application: Application, segment: Segment, where: str) -> Segment:
    external, internal = _pair(application, segment.external_url, segment.internal_url, where)
    cors = segment.cors and _checked_cors(segment.cors, f"{where}.cors")
    return Segment(external_url=str(external), internal_url=str(internal), spn=segment.spn, cors=cors)


def _pair(
    application: Application, external_url: str, internal_url: str, where: str
) -> tuple[ExternalURL, ExternalURL]:
    external = read_url(external_url, f"{where}.external_url", wildcard=True)
    _check_scheme(application, external, f"{where}.external_url")
    internal = read_url(internal_url, f"{where}.internal_url", wildcard=True)
    if internal.wildcard and not external.wildcard:
        raise ConfigError(f"{where}.internal_url", f"{internal} is a wildcard, but external_url is not")
    if is_address(internal.host) and is_never_published(ip_address(internal.host.strip("[]"))):
        problem = f"{internal.host} is link-local, multicast, unspecified or for metadata, and never published"
        raise ConfigError(f"{where}.internal_url", problem)
    return external, internal


def _check_scheme(application: Application, external: ExternalURL, where: str) -> None:
    if external.scheme == "http" and application.preauthentication != "passthrough":
        raise ConfigError(where, "must be https; http is for pass-through applications only")


def _alternate(application: Application, where: str) -> str:
    segments = application.segments
    if not segments:
        raise ConfigError(where, "needs an external_url that it is the alternate of")
    alternate = read_url(application.alternate_url, where)
    _check_scheme(application, alternate, where)
    if "*" in segments[0].external_url:
        raise ConfigError(where, f"has no meaning for a wildcard, {segments[0].external_url}; remove it")
    path = ExternalURL.parse(segments[0].external_url).path
    if alternate.path != path:
        problem = f"{alternate} has another path than {segments[0].external_url}; links within pages could mean either"
        raise ConfigError(where, problem)
    return str(alternate)


def _checked_cors(cors: CrossOrigin, where: str) -> CrossOrigin:
    """The rules with their origins in canonical form."""
    if not cors.allowed_origins:
        raise ConfigError(f"{where}.allowed_origins", "is empty; name origins, or leave the table out")
    if "*" in cors.allowed_origins and cors.allow_credentials:
        problem = 'cannot be true for the origin "*", which is every site there is; name the origins'
        raise ConfigError(f"{where}.allow_credentials", problem)
    for key in ("allowed_methods", "allowed_headers", "exposed_headers"):
        for position, name in enumerate(getattr(cors, key)):
            if not _TOKEN.fullmatch(name):
                raise ConfigError(f"{where}.{key}[{position}]", f"{name!r} is not a name")
    origins = (
        origin if origin == "*" else _origin(origin, f"{where}.allowed_origins[{position}]")
        for position, origin in enumerate(cors.allowed_origins)
    )
    return msgspec.structs.replace(cors, allowed_origins=tuple(origins))


def _origin(origin: str, where: str) -> str:
    return str(read_origin(origin, where, wildcard=True)).removesuffix("/")


def _check_sign_in(application: Application, where: str) -> None:
    if application.preauthentication != "passthrough":
        return
    assigned = application.assigned
    if assigned.users or assigned.groups:
        raise ConfigError(f"{where}.assigned", "has no effect with passthrough, which knows no users; remove it")
    if application.provider:
        raise ConfigError(f"{where}.provider", "has no effect with passthrough, which signs nobody in; remove it")
    if not all(_is_constant(rule.value) for rule in application.sso.header):
        raise ConfigError(f"{where}.sso.header", 'can only be "const:…" with passthrough, which knows no users')


def _check_client_fields(names: tuple[str, ...], where: str) -> None:
    for position, name in enumerate(names):
        folded = fold(name.encode("ascii", "replace"))
        if folded in IDENTITY:
            continue
        gateways = folded in REQUEST_DROP or folded.startswith(b"x-forwarded")
        problem = "is the relay's to set" if gateways else "is passed on anyway; remove it"
        raise ConfigError(f"{where}[{position}]", f"{name} {problem}")


def _check_sso(sso: SingleSignOn, where: str) -> None:
    if sso.mode == "header" and not sso.header:
        raise ConfigError(f"{where}.sso.header", "is missing; say which header gets what")
    if sso.mode != "header" and sso.header:
        raise ConfigError(f"{where}.sso.header", 'has an effect with mode = "header" only')
    folded: dict[str, int] = {}
    for position, rule in enumerate(sso.header):
        key = f"{where}.sso.header[{position}]"
        check_field(rule.name, f"{key}.name")
        _check_source(rule.value, f"{key}.value")
        if folded.setdefault(re.sub(r"[_.]", "-", rule.name.lower()), position) != position:
            raise ConfigError(f"{key}.name", f"{rule.name} is set twice; origins take - _ and . for the same")


def _check_source(text: str, where: str) -> None:
    try:
        expression = parse(text)
    except MalformedExpression as problem:
        raise ConfigError(where, str(problem)) from None
    said = expression.value({}) if expression.constant else None
    if isinstance(said, str) and (re.search(r"[\x00-\x1f\x7f]", said) or said != said.strip()):
        raise ConfigError(where, "has control characters, or space at an end")


def _is_constant(text: str) -> bool:
    try:
        return parse(text).constant
    except MalformedExpression:
        return True  # told where it stands


def _check_home_page(application: Application, where: str) -> None:
    page = application.home_page
    if page and not application.segments:
        raise ConfigError(f"{where}.home_page", "has no effect without an external URL; remove it")
    path = quote(re.split(r"[?#]", page)[0], safe="/%;\\:@!$&'()*+,=")
    try:
        # Below whatever root: one that no page can climb over and come back to.
        below = is_under(canonical_path(b"/root/" + path.encode("ascii")), b"/root/")
    except AmbiguousPath:
        below = False
    if not below or re.search(r"^/|^[A-Za-z]+:|[\x00-\x20\x7f\\]", page):
        raise ConfigError(f"{where}.home_page", f'{page!r} is not below the external URL; write for instance "start/"')


#: Times that may be nothing: then there is no such limit.
_OPTIONAL_TIMES = frozenset({"total", "ping"})


def _check_times(application: Application, where: str) -> None:
    for key in ("timeouts", "session"):
        times = getattr(application, key)
        for name in times.__struct_fields__:
            if getattr(times, name) <= 0 and name not in _OPTIONAL_TIMES:
                raise ConfigError(f"{where}.{key}.{name}", "must be longer than nothing")
    session = application.session
    if session.idle > session.absolute:
        problem = f"{session.idle} is longer than session.absolute, {session.absolute}"
        raise ConfigError(f"{where}.session.idle", problem)


def _with_sign_in(application: Application, where: str) -> Application:
    """The application with the origins of frames in canonical form."""
    settings = application.sign_in
    for position, path in enumerate(settings.cross_site_posts):
        if not re.fullmatch(r"/[!-~]*", path) or re.search(r"[?#*;\\%]|//|/\.\.?(/|$)", path):
            key = f"{where}.cross_site_posts[{position}]"
            raise ConfigError(key, f'{path!r} is not a plain path; write for instance "/saml/acs"')
    if not settings.frame_ancestors:
        return application
    if application.cookies.same_site != "none":
        raise ConfigError(f"{where}.frame_ancestors", 'needs cookies.same_site = "none"; others stay out of frames')
    frames = tuple(
        _origin(origin, f"{where}.frame_ancestors[{position}]")
        for position, origin in enumerate(settings.frame_ancestors)
    )
    return msgspec.structs.replace(application, sign_in=msgspec.structs.replace(settings, frame_ancestors=frames))


def _check_cookies(cookies: Cookies, where: str) -> None:
    if not cookies.secure:
        raise ConfigError(f"{where}.secure", "must be true; the relay's cookies are sent over https only")
    if cookies.partitioned and cookies.same_site != "none":
        raise ConfigError(f"{where}.partitioned", 'has an effect with same_site = "none" only')
