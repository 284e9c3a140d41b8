"""Ids that may be used once: sign-in states, tickets, logout tokens."""

from __future__ import annotations

from appproxy.store.interface import Database


def use(db: Database, key: bytes, until: int) -> bool:
    """Use up *key*, remembered until *until*; True for the first that does."""
    row = db.execute(
        "INSERT INTO once (key, until) VALUES (?, ?) ON CONFLICT (key) DO NOTHING RETURNING 1", (key, until)
    ).fetchone()
    return row is not None


def is_used(db: Database, key: bytes) -> bool:
    """Whether *key* has been used up and is still remembered."""
    return db.execute("SELECT 1 FROM once WHERE key = ?", (key,)).fetchone() is not None


def purge(db: Database, now: int) -> int:
    """Forget keys whose time is over: by then what they name is refused for its age."""
    return db.execute("DELETE FROM once WHERE until <= ?", (now,)).rowcount
