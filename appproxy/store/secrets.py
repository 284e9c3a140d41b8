"""Keys that all relays share: for sealing cookies, for the connectors' CA."""

from __future__ import annotations

from collections.abc import Callable

from appproxy.store.interface import Database


def find(db: Database, name: str) -> bytes | None:
    """The secret of that name."""
    row = db.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
    return bytes(row[0]) if row else None


def get_or_create(db: Database, name: str, make: Callable[[], bytes]) -> bytes:
    """The secret of that name; the first to ask makes it, everybody gets the same."""
    known = find(db, name)
    if known is not None:
        return known
    (value,) = db.execute(
        "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value RETURNING value",
        (name, make()),
    ).fetchone()
    return bytes(value)


def put(db: Database, name: str, value: bytes) -> None:
    """Keep a secret, in place of the one of that name."""
    db.execute(
        "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )
