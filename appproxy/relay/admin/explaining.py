"""Explanations: what would become of a request, and why."""

from __future__ import annotations

from typing import Any

import msgspec

from appproxy.identity import Identity
from appproxy.relay.access.explaining import Question, explain
from appproxy.relay.admin.call import Call
from appproxy.relay.catalog import Catalog
from appproxy.store import applications, sessions


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A request to be explained; *groups* and *claims* stand in for what a provider would say of *user*."""

    url: str
    user: str = ""
    method: str = "GET"
    client: str = ""
    groups: list[str] | None = None
    claims: dict[str, Any] | None = None


async def explain_request(call: Call) -> dict[str, Any]:
    """Explain; of a user who is signed in, groups and claims are those of the newest sign-in unless they are given."""
    asked = await call.body(Asked)
    relay = call.relay
    catalog = Catalog(each.application for each in await relay.store.read(applications.list_))
    here: dict[str, list[str]] = {}
    for attachment in relay.live.by_connector.values():
        here.setdefault(attachment.group, []).append(attachment.name)
    identity, known_from = None, "nobody"
    if asked.user:
        identity, known_from = await _identity(call, asked)
    question = Question(asked.url, asked.method, asked.client, identity, relay.now())
    return {"user": asked.user or None, "known_from": known_from, **explain(catalog, here, question)}


async def _identity(call: Call, asked: Asked) -> tuple[Identity, str]:
    now = call.relay.now()
    if asked.groups is None and asked.claims is None:
        for record in await call.relay.store.read(sessions.list_, asked.user):
            return record.identity, "session"
    claims = {**(asked.claims or {})}
    return Identity("", "", asked.user, tuple(asked.groups or ()), claims, now), "question"
