"""Tokens of programs: which applications each opens, until when, and when it was used last."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from appproxy.store import feed
from appproxy.store.interface import Database
from appproxy.store.records import ServiceTokenRecord

_COLUMNS = "id, hash, name, owner, applications, paths, created, expires, last_used, revoked"


def create(db: Database, record: ServiceTokenRecord) -> bool:
    """Keep a new token; False when one of that name is in force."""
    if db.execute("SELECT 1 FROM service_token WHERE name = ? AND revoked IS NULL", (record.name,)).fetchone():
        return False
    row = (
        record.id, record.hash, record.name, record.owner, json.dumps(record.applications), json.dumps(record.paths),
        record.created, record.expires, record.last_used, record.revoked,
    )  # fmt: skip
    db.execute(f"INSERT INTO service_token ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
    return True


def find(db: Database, token_hash: bytes) -> ServiceTokenRecord | None:
    """The token of that hash, in force or not."""
    row = db.execute(f"SELECT {_COLUMNS} FROM service_token WHERE hash = ?", (token_hash,)).fetchone()  # noqa: S608
    return _record(row) if row else None


def list_(db: Database) -> list[ServiceTokenRecord]:
    """All tokens, by name, revoked ones included."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM service_token ORDER BY name, created")  # noqa: S608
    return [_record(row) for row in rows]


def revoke(db: Database, id: str, now: int) -> bool:
    """Put a token out of force; False when there is none of that id that is."""
    revoked = db.execute("UPDATE service_token SET revoked = ? WHERE id = ? AND revoked IS NULL", (now, id)).rowcount
    if revoked:
        feed.append(db, feed.SERVICE_TOKEN, id)
    return bool(revoked)


def touch(db: Database, used: Iterable[tuple[str, int]]) -> None:
    """Note when tokens were used last."""
    for id, when in used:
        db.execute("UPDATE service_token SET last_used = max(last_used, ?) WHERE id = ?", (when, id))


def _record(row: Any) -> ServiceTokenRecord:
    id, hash, name, owner, applications, paths, created, expires, last_used, revoked = row
    return ServiceTokenRecord(
        id=id, hash=hash, name=name, owner=owner, applications=tuple(json.loads(applications)),
        paths=tuple(json.loads(paths)), created=created, expires=expires, last_used=last_used, revoked=revoked,
    )  # fmt: skip
