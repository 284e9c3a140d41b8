"""One-time enrolment tokens: stored hashed, one winner."""

from __future__ import annotations

from appproxy.store.interface import Database
from appproxy.store.records import TokenRecord


def issue(db: Database, token_hash: bytes, group: str, expires: int, now: int) -> None:
    """Keep a new token for connectors of *group*."""
    db.execute(
        "INSERT INTO token (hash, connector_group, issued, expires) VALUES (?, ?, ?, ?)",
        (token_hash, group, now, expires),
    )


def redeem(db: Database, token_hash: bytes, now: int) -> str | None:
    """Use a token up; returns its group, None for all but the first, in time and known."""
    row = db.execute(
        "UPDATE token SET used = ? WHERE hash = ? AND used IS NULL AND expires > ? RETURNING connector_group",
        (now, token_hash, now),
    ).fetchone()
    return str(row[0]) if row else None


def find(db: Database, token_hash: bytes) -> TokenRecord | None:
    """The token of that hash, to tell an operator why it was refused."""
    row = db.execute(
        "SELECT hash, connector_group, issued, expires, used FROM token WHERE hash = ?", (token_hash,)
    ).fetchone()
    return TokenRecord(*row) if row else None


def list_(db: Database) -> list[TokenRecord]:
    """All tokens, used ones included, newest first."""
    rows = db.execute("SELECT hash, connector_group, issued, expires, used FROM token ORDER BY issued DESC, hash")
    return [TokenRecord(*row) for row in rows]


def revoke(db: Database, token_hash: bytes) -> bool:
    """Withdraw a token; False when there was none."""
    return db.execute("DELETE FROM token WHERE hash = ?", (token_hash,)).rowcount == 1


def purge(db: Database, before: int) -> int:
    """Forget tokens that expired before a time; returns how many."""
    return db.execute("DELETE FROM token WHERE expires <= ?", (before,)).rowcount
