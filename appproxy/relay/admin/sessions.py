"""Signed-in users: who they are, ending their sessions; and the relay's state in short."""

from __future__ import annotations

import re
from typing import Any

import appproxy
from appproxy.relay.admin.call import Call, Problem
from appproxy.store import applications, connectors, feed, sessions
from appproxy.store.interface import Database

#: Characters of a session's hash that name it in lists; nobody can make a handle from them.
SHOWN_HASH = 12
_ID = re.compile(r"[0-9a-f]{8,64}")


async def list_sessions(call: Call) -> dict[str, Any]:
    """Live sessions, or one user's (``?user=``), newest first."""
    user = call.parameter("user")
    now = call.relay.now()
    return {
        "sessions": [
            {
                "id": each.handle_hash.hex()[:SHOWN_HASH],
                "sign_in": (each.parent or each.handle_hash).hex()[:SHOWN_HASH],
                "user": each.identity.user,
                "host": each.host,
                "application": each.application,
                "provider": each.provider,
                "client": each.client,
                "agent": each.agent,
                "created": each.created,
                "last_seen": each.last_seen,
                "until": min(each.until, each.last_seen + each.idle_seconds),
            }
            for each in await call.relay.store.read(sessions.list_, user)
            if each.is_live(now)
        ]
    }


async def end_session(call: Call) -> dict[str, Any]:
    """End a session and all others of the same sign-in: one alone would come back by itself."""
    name = call.names[0]
    if not _ID.fullmatch(name):
        raise Problem(404, f"session {name}", "is not the id of a session; see: appproxy session list")
    found = [hash_ for hash_ in await call.relay.store.read(_hashes) if hash_.hex().startswith(name)]
    if len(found) != 1:
        problem = "is the beginning of several ids; give more of it" if found else "there is no such session"
        raise Problem(409 if found else 404, f"session {name}", problem)
    ended = await call.relay.store.write(sessions.end_all_of, found[0], call.relay.now())
    call.done("session-ended", "ended session {session}", session=name, ended=ended)
    return {"ended": ended}


def _hashes(db: Database) -> list[bytes]:
    return [each.handle_hash for each in sessions.list_(db)]


async def end_sessions(call: Call) -> dict[str, Any]:
    """End all sessions of one user (``?user=``)."""
    user = call.parameter("user")
    if not user:
        raise Problem(400, "query", "names no user; write ?user=NAME")
    ended = await call.relay.store.write(sessions.end_user, user, call.relay.now())
    call.done("user-signed-out", "ended all sessions of {user}", user=user, ended=ended)
    return {"user": user, "ended": ended}


async def status(call: Call) -> dict[str, Any]:
    """The relay's state in short."""
    relay = call.relay
    now = relay.now()
    known = await relay.store.read(connectors.list_)
    enrolled = [each for each in known if each.revoked is None]
    stored = await relay.store.read(applications.list_)
    return {
        "version": appproxy.__version__,
        "now": now,
        "applications": {
            "published": len([each for each in stored if each.application.enabled]),
            "disabled": len([each for each in stored if not each.application.enabled]),
        },
        "connectors": {"enrolled": len(enrolled), "online": len(relay.live.by_connector)},
        "sessions": len([each for each in await relay.store.read(sessions.list_) if each.is_live(now)]),
        "configuration": await relay.store.read(feed.latest),
        "authority": {
            "fingerprint": relay.authorities.issuing.fingerprint.hex(),
            "until": int(relay.authorities.issuing.certificate.not_valid_after_utc.timestamp()),
        },
    }
