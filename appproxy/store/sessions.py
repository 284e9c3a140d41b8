"""Signed-in users.  An ended session has no row; ending it and telling every relay is one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from appproxy.errors import AppproxyError, Phase
from appproxy.identity import Identity
from appproxy.store import feed
from appproxy.store.interface import Database
from appproxy.store.records import SessionRecord

_COLUMNS = (
    "handle_hash, parent, host, application, provider, identity, created, last_seen, idle_seconds, until, sealed, "
    "provider_session"
)
_identity = msgspec.json.Decoder(Identity)
_encode = msgspec.json.encode


class ParentEnded(AppproxyError):
    """The sign-in that this session was to be made from has ended; the user has to sign in again."""

    code, status, phase = "signed-out", 401, Phase.SIGN_IN


def create(db: Database, record: SessionRecord) -> None:
    """Keep a new session.

    :raises ParentEnded: the session it is made from has ended meanwhile; a sign-out is never undone.
    """
    created = db.execute(
        f"INSERT INTO session ({_COLUMNS}, user_name) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"  # noqa: S608
        " WHERE CAST(? AS BLOB) IS NULL OR EXISTS (SELECT 1 FROM session WHERE handle_hash = ?)",
        (
            record.handle_hash,
            record.parent,
            record.host,
            record.application,
            record.provider,
            _encode(record.identity),
            record.created,
            record.last_seen,
            record.idle_seconds,
            record.until,
            record.sealed,
            record.provider_session,
            record.identity.user,
            record.parent,
            record.parent,
        ),
    )
    if not created.rowcount:
        raise ParentEnded


def find(db: Database, handle_hash: bytes) -> SessionRecord | None:
    """The session of a handle; whether its time is over is for the caller to see."""
    row = db.execute(f"SELECT {_COLUMNS} FROM session WHERE handle_hash = ?", (handle_hash,)).fetchone()  # noqa: S608
    return _record(row) if row else None


def touch(db: Database, seen: Iterable[tuple[bytes, int]]) -> None:
    """Note when sessions were last used; never backwards, and never for one that has ended."""
    for handle_hash, last_seen in seen:
        db.execute(
            "UPDATE session SET last_seen = ? WHERE handle_hash = ? AND last_seen < ?",
            (last_seen, handle_hash, last_seen),
        )


def end(db: Database, handle_hash: bytes, now: int) -> int:
    """End a session and those made from it; returns how many ended.

    Relays are told about *handle_hash* even when it has no row any more: they may still remember it.
    """
    children = "DELETE FROM session WHERE parent = ? RETURNING handle_hash"
    ended = [row[0] for row in db.execute(children, (handle_hash,)).fetchall()]
    count = db.execute("DELETE FROM session WHERE handle_hash = ?", (handle_hash,)).rowcount
    for each in (handle_hash, *ended):
        feed.append(db, feed.SESSION_ENDED, each.hex())
    return count + len(ended)


def end_all_of(db: Database, handle_hash: bytes, now: int) -> int:
    """End everything that belongs to one sign-in, given any session of it; returns how many ended."""
    row = db.execute("SELECT parent FROM session WHERE handle_hash = ?", (handle_hash,)).fetchone()
    return end(db, row[0] if row and row[0] is not None else handle_hash, now)


def end_user(db: Database, user: str, now: int) -> int:
    """End all sessions of one user; returns how many."""
    rows = db.execute("DELETE FROM session WHERE user_name = ? RETURNING handle_hash", (user,)).fetchall()
    for row in rows:
        feed.append(db, feed.SESSION_ENDED, row[0].hex())
    return len(rows)


def end_provider_session(db: Database, provider: str, provider_session: str, now: int) -> int:
    """End the sessions that came from one session at the provider, and those made from them."""
    rows = db.execute(
        "SELECT handle_hash FROM session WHERE provider = ? AND provider_session = ?", (provider, provider_session)
    ).fetchall()
    return sum(end(db, row[0], now) for row in rows)


def list_(db: Database, user: str | None = None) -> list[SessionRecord]:
    """All sessions, or one user's, newest first."""
    where, parameters = ("WHERE user_name = ?", (user,)) if user is not None else ("", ())
    rows = db.execute(f"SELECT {_COLUMNS} FROM session {where} ORDER BY created DESC, handle_hash", parameters)  # noqa: S608
    return [_record(row) for row in rows]


def purge(db: Database, now: int) -> int:
    """Forget sessions whose time is over; nobody needs telling, every relay sees the same clock run out."""
    return db.execute("DELETE FROM session WHERE until <= ? OR last_seen + idle_seconds <= ?", (now, now)).rowcount


def _record(row: Any) -> SessionRecord:
    return SessionRecord(
        handle_hash=row[0],
        parent=row[1],
        host=row[2],
        application=row[3],
        provider=row[4],
        identity=_identity.decode(row[5]),
        created=row[6],
        last_seen=row[7],
        idle_seconds=row[8],
        until=row[9],
        sealed=row[10],
        provider_session=row[11],
    )
