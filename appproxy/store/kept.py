"""Bodies of requests that wait for a sign-in: encrypted, bounded, each taken once."""

from __future__ import annotations

from appproxy.store.interface import Database

#: All that wait together; more are not kept.
MAX_BYTES = 64 << 20
#: Those of one client address, by bytes and by number: behind one may be an office whose people all sign in now.
MAX_CLIENT_BYTES, MAX_PER_CLIENT = 16 << 20, 256


def put(db: Database, id: bytes, client: str, sealed: bytes, until: int, now: int) -> bool:
    """Keep *sealed* until then; False when there is no room."""
    (total,) = db.execute("SELECT coalesce(sum(length(sealed)), 0) FROM kept WHERE until > ?", (now,)).fetchone()
    if total + len(sealed) > MAX_BYTES:
        return False
    held, count = db.execute(
        "SELECT coalesce(sum(length(sealed)), 0), count(*) FROM kept WHERE client = ? AND until > ?", (client, now)
    ).fetchone()
    if held + len(sealed) > MAX_CLIENT_BYTES or count >= MAX_PER_CLIENT:
        return False
    db.execute("INSERT INTO kept (id, client, sealed, until) VALUES (?, ?, ?, ?)", (id, client, sealed, until))
    return True


def take(db: Database, id: bytes, now: int) -> bytes | None:
    """Give it to the first who asks, and to nobody else; None when it is gone or too old."""
    row = db.execute("DELETE FROM kept WHERE id = ? RETURNING sealed, until", (id,)).fetchone()
    return bytes(row[0]) if row and row[1] > now else None


def purge(db: Database, now: int) -> int:
    """Forget what nobody came back for."""
    return db.execute("DELETE FROM kept WHERE until <= ?", (now,)).rowcount
