"""From method and path to an operation, from what it returns or raises to an answer."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Any

import msgspec
from twisted.logger import Logger

from appproxy.config.urls import is_loopback
from appproxy.errors import AppproxyError, ConfigError
from appproxy.relay.admin import authorities as authority_operations
from appproxy.relay.admin import connectors, explaining, publishing, service_tokens, sessions
from appproxy.relay.admin.call import Call, LiveConnectors, Problem, Relay
from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.exchange import Exchange
from appproxy.store.interface import Store

Operation = Callable[[Call], Awaitable[dict[str, Any]]]

#: A star stands for one segment that names something.
OPERATIONS: dict[str, dict[bytes, Operation]] = {
    "/v1/apply": {b"POST": publishing.apply},
    "/v1/applications": {b"GET": publishing.list_applications},
    "/v1/applications/*": {b"GET": publishing.show_application, b"DELETE": publishing.delete_application},
    "/v1/applications/*/enable": {b"POST": publishing.enable_application},
    "/v1/applications/*/disable": {b"POST": publishing.disable_application},
    "/v1/applications/*/maintenance": {b"POST": publishing.begin_maintenance, b"DELETE": publishing.end_maintenance},
    "/v1/groups": {b"GET": publishing.list_groups},
    "/v1/groups/*": {b"DELETE": publishing.delete_group},
    "/v1/authorities": {
        b"GET": authority_operations.list_authorities,
        b"POST": authority_operations.add_authority,
    },
    "/v1/authorities/*": {b"DELETE": authority_operations.remove_authority},
    "/v1/authorities/*/use": {b"POST": authority_operations.use_authority},
    "/v1/tokens": {b"GET": connectors.list_tokens, b"POST": connectors.issue_token},
    "/v1/service-tokens": {b"GET": service_tokens.list_service_tokens, b"POST": service_tokens.make_service_token},
    "/v1/service-tokens/*": {b"DELETE": service_tokens.revoke_service_token},
    "/v1/connectors": {b"GET": connectors.list_connectors},
    "/v1/connectors/*/move": {b"POST": connectors.move_connector},
    "/v1/connectors/*/revoke": {b"POST": connectors.revoke_connector},
    "/v1/sessions": {b"GET": sessions.list_sessions, b"DELETE": sessions.end_sessions},
    "/v1/sessions/*": {b"DELETE": sessions.end_session},
    "/v1/explain": {b"POST": explaining.explain_request},
    "/v1/status": {b"GET": sessions.status},
}

#: Fields that browsers send and the command does not (O03).
_OF_BROWSERS = (b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode")


class Admin:
    """The administration API of one relay.

    :param live: the connectors that are here now.
    :param now: epoch seconds.
    :param random: gives that many unpredictable bytes.
    :param providers: ids of the relay's providers; applications name one of them.
    :param own_host: host of the relay's public URL.
    """

    log = Logger()

    def __init__(
        self,
        store: Store,
        authorities: Authorities,
        live: LiveConnectors,
        *,
        now: Callable[[], int],
        providers: Collection[str],
        own_host: str,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._relay = Relay(store, authorities, live, now, random, providers, own_host)

    async def respond(self, exchange: Exchange) -> None:
        """Answer one call."""
        try:
            _check_local(exchange)
            operation, names = _find(exchange)
            document = await operation(Call(self._relay, exchange, names))
        except Problem as problem:
            self._refuse(exchange, problem)
        except ConfigError as error:
            self._refuse(exchange, Problem(422, error.where.removeprefix("apply: "), error.problem))
        except AppproxyError as failure:
            self._refuse(exchange, Problem(failure.status, failure.code, str(failure)))
        else:
            exchange.answer(200, [(b"Content-Type", b"application/json")], msgspec.json.encode(document))

    def _refuse(self, exchange: Exchange, problem: Problem) -> None:
        self.log.info(
            "administration: refused {method} {path}: {problem}",
            event="admin.refused",
            method=exchange.head.method.decode("ascii", "replace"),
            path=exchange.path.decode("ascii", "backslashreplace"),
            problem=str(problem),
            request=exchange.request_id,
        )
        document = {
            "title": HTTPStatus(problem.status).phrase,
            "status": problem.status,
            "where": problem.where,
            "problem": problem.problem,
        }
        fields = [(b"Content-Type", b"application/problem+json"), *problem.fields]
        exchange.answer(problem.status, fields, msgspec.json.encode(document))


def _check_local(exchange: Exchange) -> None:
    """Refuse web pages, however they found the way here (O03): cross-site requests, names bound to this machine."""
    if any(name in exchange.head.known for name in _OF_BROWSERS):
        raise Problem(403, "request", "comes from a web page; use the appproxy command")
    if not is_loopback(exchange.host):
        raise Problem(403, "Host", f'"{exchange.host}" is not this machine; write localhost')


def _find(exchange: Exchange) -> tuple[Operation, list[str]]:
    path = exchange.path.decode("ascii", "replace")
    segments = path.split("/")
    for pattern, methods in OPERATIONS.items():
        parts = pattern.split("/")
        if len(parts) != len(segments) or not all(p in ("*", s) for p, s in zip(parts, segments, strict=True)):
            continue
        method = exchange.head.method
        if method not in methods:
            allowed = b", ".join(sorted(methods))
            raise Problem(405, path, f"understands {allowed.decode()} only", [(b"Allow", allowed)])
        return methods[method], [s for p, s in zip(parts, segments, strict=True) if p == "*"]
    raise Problem(404, path, "there is nothing here; the paths begin with /v1/")
