"""Connectors: tokens to enrol them, who they are, shutting one out."""

from __future__ import annotations

from typing import Any

import msgspec

from appproxy.relay.admin.call import Call, Problem
from appproxy.relay.connectors.enrolment import SECRET_BYTES, hash_secret, make_token
from appproxy.store import applications, connectors, tokens
from appproxy.store.interface import Database
from appproxy.store.records import ConnectorRecord
from appproxy.units import Duration

#: A token that lies about for longer is better issued when it is needed.
MAX_TOKEN_SECONDS = 30 * 86400.0
#: Characters of a token's hash that name it in lists.
SHOWN_HASH = 12


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A new enrolment token: for which connector group, and how long it is good, for instance ``"1h"``."""

    group: str
    expires: str = "1h"


class Move(msgspec.Struct, forbid_unknown_fields=True):
    """The group that a connector is to serve."""

    group: str


async def issue_token(call: Call) -> dict[str, Any]:
    """A new one-time enrolment token; this answer is the only place where it is ever shown."""
    wanted = await call.body(Wanted)
    try:
        lifetime = Duration.parse(wanted.expires)
    except ValueError as error:
        raise Problem(422, "expires", str(error)) from None
    if not 1 <= lifetime <= MAX_TOKEN_SECONDS:
        raise Problem(422, "expires", f"{lifetime} is not between 1s and {Duration(MAX_TOKEN_SECONDS)}")
    relay = call.relay
    secret, now = relay.random(SECRET_BYTES), relay.now()
    expires = now + int(lifetime)
    if not await relay.store.write(_issue, hash_secret(secret), wanted.group, expires, now):
        raise Problem(422, "group", _no_group(wanted.group))
    shown = hash_secret(secret).hex()[:SHOWN_HASH]
    call.done(
        "token-issued",
        "issued enrolment token {id} for group {group}",
        id=shown,
        group=wanted.group,
        expires=expires,
    )
    return {
        "token": make_token(secret, relay.authorities.issuing.fingerprint),
        "id": shown,
        "group": wanted.group,
        "expires": expires,
    }


def _issue(db: Database, token_hash: bytes, group: str, expires: int, now: int) -> bool:
    if applications.find_group(db, group) is None:
        return False
    tokens.issue(db, token_hash, group, expires, now)
    return True


def _no_group(group: str) -> str:
    return f'there is no connector group "{group}"; add a [[connector_group]] with: appproxy apply FILE'


async def list_tokens(call: Call) -> dict[str, Any]:
    """All enrolment tokens by the beginning of their hash, newest first."""
    return {
        "tokens": [
            {
                "id": each.hash.hex()[:SHOWN_HASH],
                "group": each.group,
                "issued": each.issued,
                "expires": each.expires,
                "used": each.used,
            }
            for each in await call.relay.store.read(tokens.list_)
        ]
    }


async def list_connectors(call: Call) -> dict[str, Any]:
    """All connectors, by name, with what is known of them now."""
    live = call.relay.live.by_connector
    listed = []
    for record in await call.relay.store.read(connectors.list_):
        attachment = live.get(record.id)
        listed.append(
            {
                "id": record.id,
                "name": record.name,
                "group": record.group,
                "state": _state(record, attachment, call.relay.now()),
                "enrolled": record.enrolled,
                "certificate_until": record.not_after,
                "revoked": record.revoked,
                "channels": 0 if attachment is None else len(attachment.channels),
                "peer": "" if attachment is None else attachment.peer,
                "since": None if attachment is None else attachment.since,
            }
        )
    return {"connectors": listed}


def _state(record: ConnectorRecord, attachment: object | None, now: int) -> str:
    if record.revoked is not None:
        return "revoked"
    if attachment is not None:
        return "online"
    return "offline" if now < record.not_after else "expired"


async def move_connector(call: Call) -> dict[str, Any]:
    """Put a connector into another group: new requests of that group reach it, those under way end as they began."""
    connector, wanted = call.names[0], await call.body(Move)
    if not await call.relay.store.write(_move, connector, wanted.group):
        raise Problem(404, f"connector {connector}", "there is no such connector; see: appproxy connector list")
    call.done(
        "connector-moved", "moved connector {connector} to group {group}", connector=connector, group=wanted.group
    )
    return {"id": connector, "group": wanted.group}


def _move(db: Database, connector: str, group: str) -> bool:
    if applications.find_group(db, group) is None:
        raise Problem(422, "group", _no_group(group))
    return connectors.move(db, connector, group)


async def revoke_connector(call: Call) -> dict[str, Any]:
    """Shut a connector out for good; its channels end within a second on every relay."""
    connector = call.names[0]
    if not await call.relay.store.write(connectors.revoke, connector, call.relay.now()):
        if await call.relay.store.read(connectors.find, connector) is None:
            raise Problem(404, f"connector {connector}", "there is no such connector; see: appproxy connector list")
        raise Problem(409, f"connector {connector}", "has been revoked before")
    call.done("connector-revoked", "revoked connector {connector}", connector=connector)
    return {"id": connector}
