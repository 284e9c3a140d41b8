"""Tokens of programs: made, listed, revoked."""

from __future__ import annotations

from typing import Any

import msgspec

from appproxy.config.places import NODE_NAME
from appproxy.http.addresses import is_canonical
from appproxy.relay.admin.call import Call, Problem
from appproxy.relay.programs.service_tokens import hash_token, make_token
from appproxy.store import applications, service_tokens
from appproxy.store.interface import Database
from appproxy.store.records import ServiceTokenRecord
from appproxy.units import Duration

#: A credential that outlives this is better made anew.
MAX_SECONDS = 366 * 86400.0
ID_BYTES = 6


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A new token.  No *applications* or no *paths* are all of them."""

    name: str
    owner: str
    applications: list[str] = []
    paths: list[str] = []
    expires: str = "90d"


async def make_service_token(call: Call) -> dict[str, Any]:
    """A new token; this answer is the only place where it is ever shown."""
    wanted = await call.body(Wanted)
    relay, now = call.relay, call.relay.now()
    lifetime = _lifetime(wanted.expires)
    if not NODE_NAME.fullmatch(wanted.name):
        raise Problem(422, "name", f"{wanted.name!r} is not a name; use letters, digits, dots and hyphens")
    if not wanted.owner:
        raise Problem(422, "owner", "is missing; name who answers for the program")
    for path in wanted.paths:
        if not is_canonical(path):
            raise Problem(422, "paths", f'{path!r} is not a canonical path; write for instance "/api/"')
    token = make_token(relay.random)
    record = ServiceTokenRecord(
        id=f"s-{relay.random(ID_BYTES).hex()}", hash=hash_token(token.encode("ascii")), name=wanted.name,
        owner=wanted.owner, applications=tuple(wanted.applications), paths=tuple(wanted.paths), created=now,
        expires=now + int(lifetime),
    )  # fmt: skip
    await relay.store.write(_create, record)
    call.done(
        "service-token-made",
        "made service token {id} ({name}) for {owner}",
        id=record.id,
        name=record.name,
        owner=record.owner,
        applications=wanted.applications or ["all"],
        expires=record.expires,
    )
    return {"token": token, **_shown(record)}


def _create(db: Database, record: ServiceTokenRecord) -> None:
    for id in record.applications:
        if applications.find(db, id) is None:
            raise Problem(422, "applications", f'there is no application "{id}"; see: appproxy app list')
    if not service_tokens.create(db, record):
        raise Problem(409, "name", f'there is a token "{record.name}"; revoke it first, or choose another name')


async def list_service_tokens(call: Call) -> dict[str, Any]:
    """All tokens by name, without what is secret."""
    return {"tokens": [_shown(each) for each in await call.relay.store.read(service_tokens.list_)]}


async def revoke_service_token(call: Call) -> dict[str, Any]:
    """Put a token out of force on every relay within a second; what is open for it ends."""
    id = call.names[0]
    if not await call.relay.store.write(service_tokens.revoke, id, call.relay.now()):
        raise Problem(404, f"token {id}", "there is none of that id in force; see: appproxy token services")
    call.done("service-token-revoked", "revoked service token {id}", id=id)
    return {"id": id}


def _lifetime(text: str) -> float:
    try:
        lifetime = Duration.parse(text)
    except ValueError as error:
        raise Problem(422, "expires", str(error)) from None
    if not 1 <= lifetime <= MAX_SECONDS:
        raise Problem(422, "expires", f"{lifetime} is not between 1s and {Duration(MAX_SECONDS)}")
    return float(lifetime)


def _shown(record: ServiceTokenRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "owner": record.owner,
        "applications": list(record.applications),
        "paths": list(record.paths),
        "created": record.created,
        "expires": record.expires,
        "last_used": record.last_used or None,
        "revoked": record.revoked,
    }
