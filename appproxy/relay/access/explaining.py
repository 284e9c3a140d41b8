"""Why a request is let through or not, and what would become of it: by the same evaluator as at the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from appproxy.errors import AppproxyError
from appproxy.expressions import NoText, parse
from appproxy.http.addresses import (
    AmbiguousPath,
    InternalURL,
    MalformedHost,
    canonical_host,
    canonical_path,
    swap_prefix,
)
from appproxy.identity import Identity
from appproxy.relay.access.rules import Request
from appproxy.relay.catalog import Catalog, Published


class NoAddress(AppproxyError):
    """The text is no address that a request could have."""

    code, status = "not-an-address", 422


class Question(NamedTuple):
    """A request that is not sent: *identity* is None for somebody who has not signed in."""

    url: str
    method: str
    client: str
    identity: Identity | None
    now: int


class _Target(NamedTuple):
    """A URL as the gateway sees it: *path* is canonical, *written* as it stands there, *rest* the query."""

    scheme: str
    host: str
    authority: str
    path: bytes
    written: bytes
    rest: bytes


def explain(catalog: Catalog, connectors: Mapping[str, Sequence[str]], question: Question) -> dict[str, Any]:
    """What would become of a request.

    :param connectors: the names of those that are here, by group.
    :return: ``application``, ``allowed`` (None where people are asked to sign in), ``reasons``, ``rules`` that apply,
        ``sign_in``, ``connectors``, and ``origin``: what it would receive.
    :raises NoAddress: the URL is none.
    """
    target = _target(question.url)
    published = catalog.find(target.host, target.path, target.scheme, target.authority)
    if published is None:
        known = "something else is published at this host" if catalog.knows_host(target.host) else "no such host"
        return {"application": None, "allowed": False, "reasons": ["no-application"], "detail": known}
    told: dict[str, Any] = {"application": published.id, "external_url": str(published.external)}
    if published.application.maintenance:
        return {**told, "allowed": False, "reasons": ["maintenance"]}
    told |= _judge(published, question, target)
    told["connectors"] = list(connectors.get(published.application.connector_group, ()))
    if told["allowed"]:
        told["origin"] = _origin(published, question, target, told.pop("anonymous"))
    told.pop("anonymous", None)
    return told


def _judge(published: Published, question: Question, target: _Target) -> dict[str, Any]:
    identity = question.identity
    if not published.signs_in:
        return {"sign_in": "never", "allowed": True, "reasons": ["passthrough"], "rules": [], "anonymous": True}
    request = Request(target.path, question.method.encode("ascii", "replace"), question.client, question.now)
    applying = published.rules.look(request) if published.rules is not None else None
    sign_in = applying.sign_in if applying is not None else "required"
    told: dict[str, Any] = {"sign_in": sign_in, "rules": applying.names if applying is not None else []}
    if sign_in == "public" or (identity is None and sign_in == "optional"):
        return {**told, "allowed": True, "reasons": ["open-to-anyone"], "anonymous": True}
    if identity is None:
        return {**told, "allowed": None, "reasons": ["has-to-sign-in"], "anonymous": True}
    assigned = published.assignment
    decision = assigned.decide(identity) if applying is None else applying.decide(identity, question.now)
    told |= {"allowed": decision.allowed, "reasons": list(decision.reasons), "anonymous": False}
    if decision.step_up is not None:
        told["step_up"] = {"max_age": decision.step_up.max_age, "acr": list(decision.step_up.acr)}
    return told


def _origin(published: Published, question: Question, target: _Target, anonymous: bool) -> dict[str, Any]:
    """Address, request line and what single sign-on adds."""
    application = published.application
    segment = next(
        (each for each in application.segments if each.external_url == str(published.external)), application.segments[0]
    )
    internal = InternalURL.parse(segment.internal_url)
    if internal.wildcard:
        internal = internal.with_labels(published.external.labels_of(target.host))
    try:
        path = swap_prefix(target.written, published.external.path, internal.path)
    except AmbiguousPath:
        path = b"(ambiguous)"
    identity = None if anonymous else question.identity
    return {
        "address": internal.origin,
        "request": f"{question.method} {(path + target.rest).decode('ascii', 'replace')}",
        "host": internal.authority if application.translate.host_header else target.authority,
        "single_sign_on": _told(published, identity),
    }


def _told(published: Published, identity: Identity | None) -> dict[str, Any]:
    sso = published.application.sso
    told: dict[str, Any] = {"mode": sso.mode}
    if sso.mode == "header":
        outline = published.outline(identity) if identity is not None else {}
        headers = {}
        for rule in sso.header:
            try:
                value = parse(rule.value).value(outline)
            except NoText as problem:
                value = f"(fails: {problem})"
            if value is not None:
                headers[rule.name] = value if isinstance(value, str) else list(value)
        told["headers"] = headers
    elif identity is not None:
        told["user"] = identity.user
    return told


def _target(url: str) -> _Target:
    try:
        parts = urlsplit(url)
        host, _ = canonical_host(parts.netloc.encode("idna"))
        path = canonical_path((parts.path or "/").encode("ascii"))
    except (ValueError, MalformedHost, AmbiguousPath) as problem:
        raise NoAddress(
            f"{url!r} is not an address that a client could ask for ({problem or 'ambiguous path'})"
        ) from None
    if parts.scheme not in ("http", "https") or parts.username is not None:
        raise NoAddress(f"{url!r} is not an address; write https://host/path")
    port = parts.port
    authority = host if port in (None, 443 if parts.scheme == "https" else 80) else f"{host}:{port}"
    query = b"?" + parts.query.encode("ascii", "replace") if parts.query else b""
    return _Target(parts.scheme, host, authority, path, (parts.path or "/").encode("ascii"), query)
