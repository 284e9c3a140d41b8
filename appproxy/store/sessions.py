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

_OWN = (
    "handle_hash, parent, host, application, provider, identity, created, last_seen, idle_seconds, until, sealed, "
    "provider_session, client, agent"
)
#: A session made from another is refreshed with it.
_ROOT = "(SELECT {0} FROM session AS root WHERE root.handle_hash = coalesce(session.parent, session.handle_hash))"
_COLUMNS = ", ".join((_OWN, *map(_ROOT.format, ("refresh_due", "refresh_wait", "refresh_deadline"))))
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
        f"INSERT INTO session ({_OWN}, user_name, subject, refresh_due, refresh_wait, refresh_deadline)"  # noqa: S608
        " SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
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
            record.client,
            record.agent,
            record.identity.user,
            record.identity.subject,
            record.refresh_due,
            record.refresh_wait,
            record.refresh_deadline,
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
    """Note when sessions were last used; never backwards, and never for one that has ended.

    Using a session is using the sign-in that it came from.
    """
    for handle_hash, last_seen in seen:
        db.execute(
            "UPDATE session SET last_seen = ? WHERE last_seen < ?"
            " AND handle_hash IN (?, (SELECT parent FROM session WHERE handle_hash = ?))",
            (last_seen, last_seen, handle_hash, handle_hash),
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


def end_provider_session(
    db: Database, provider: str, provider_session: str, now: int, subject: str | None = None
) -> int:
    """End the sessions that came from one session at the provider, and those made from them.

    :param subject: whose it is, if the provider said so too.
    """
    rows = db.execute(
        "SELECT handle_hash FROM session WHERE provider = ? AND provider_session = ? AND provider_session <> ''"
        " AND (? IS NULL OR subject = ?)",
        (provider, provider_session, subject, subject),
    ).fetchall()
    return sum(end(db, row[0], now) for row in rows)


def end_subject(db: Database, provider: str, subject: str, now: int, before: int | None = None) -> int:
    """End all sessions of one person at a provider; returns how many.

    :param before: only sign-ins from before this moment.
    """
    rows = db.execute(
        "SELECT handle_hash FROM session WHERE provider = ? AND subject = ? AND parent IS NULL AND created < ?",
        (provider, subject, now + 1 if before is None else before),
    ).fetchall()
    return sum(end(db, row[0], now) for row in rows)


def find_addressed(db: Database, provider: str, email: str) -> list[tuple[str, str]]:
    """Issuer and subject of the people at a provider who have this e-mail address, in whatever letter case."""
    rows = db.execute(
        "SELECT DISTINCT identity FROM session WHERE provider = ? AND parent IS NULL"
        " AND instr(lower(CAST(identity AS TEXT)), lower(?)) > 0",
        (provider, email),
    )
    people = (_identity.decode(row[0]) for row in rows)
    wanted = email.lower()
    return sorted(
        {
            (each.issuer, each.subject)
            for each in people
            if wanted in (each.user.lower(), str(each.claims.get("email", "")).lower())
        }
    )


# Refreshing


def claim_refresh(db: Database, handle_hash: bytes, now: int, until: int) -> SessionRecord | None:
    """Take it upon oneself to refresh a sign-in that is due; None when it is not, or somebody else is at it."""
    claimed = db.execute(
        "UPDATE session SET refresh_claimed = ? WHERE handle_hash = ? AND refresh_due BETWEEN 1 AND ?"
        " AND refresh_claimed <= ?",
        (until, handle_hash, now, now),
    )
    return find(db, handle_hash) if claimed.rowcount else None


def refreshed(
    db: Database,
    handle_hash: bytes,
    identity: Identity,
    sealed: bytes,
    provider_session: str,
    times: tuple[int, int, int],
) -> list[bytes]:
    """Note what a refresh brought, for the sign-in and all sessions made from it; returns the hashes of them all.

    :param times: when it is next due, from when requests wait for it, until when it may go on without; none: never.
    """
    changed = [
        row[0]
        for row in db.execute(
            "UPDATE session SET identity = ?, user_name = ? WHERE handle_hash = ? OR parent = ? RETURNING handle_hash",
            (_encode(identity), identity.user, handle_hash, handle_hash),
        ).fetchall()
    ]
    db.execute(
        "UPDATE session SET sealed = ?, refresh_due = ?, refresh_wait = ?, refresh_deadline = ?, refresh_claimed = 0"
        " WHERE handle_hash = ?",
        (sealed, *times, handle_hash),
    )
    if provider_session:
        db.execute(
            "UPDATE session SET provider_session = ? WHERE handle_hash = ? OR parent = ?",
            (provider_session, handle_hash, handle_hash),
        )
    for each in changed:
        feed.append(db, feed.SESSION_CHANGED, each.hex())
    return changed


def postpone_refresh(db: Database, handle_hash: bytes, due: int) -> None:
    """The provider is away: try again at *due*, and let no request wait meanwhile."""
    db.execute(
        "UPDATE session SET refresh_due = ?, refresh_wait = 0, refresh_claimed = 0 WHERE handle_hash = ?",
        (due, handle_hash),
    )


def list_of(db: Database, provider: str, subject: str) -> list[SessionRecord]:
    """All sessions of one person at a provider, newest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM session WHERE provider = ? AND subject = ? ORDER BY created DESC, handle_hash",  # noqa: S608
        (provider, subject),
    )
    return [_record(row) for row in rows]


def list_(db: Database, user: str | None = None) -> list[SessionRecord]:
    """All sessions, or one user's, newest first."""
    where, parameters = ("WHERE user_name = ?", (user,)) if user is not None else ("", ())
    rows = db.execute(f"SELECT {_COLUMNS} FROM session {where} ORDER BY created DESC, handle_hash", parameters)  # noqa: S608
    return [_record(row) for row in rows]


def purge(db: Database, now: int) -> int:
    """Forget sessions whose time is over; nobody needs telling, every relay sees the same clock run out.

    A sign-in that has idled stays for as long as sessions made from it live: they are refreshed with it.
    """
    children = db.execute(
        "DELETE FROM session WHERE until <= ? OR (last_seen + idle_seconds <= ? AND parent IS NOT NULL)", (now, now)
    ).rowcount
    roots = db.execute(
        "DELETE FROM session WHERE last_seen + idle_seconds <= ? AND NOT EXISTS"
        " (SELECT 1 FROM session AS child WHERE child.parent = session.handle_hash)",
        (now,),
    ).rowcount
    return children + roots


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
        client=row[12],
        agent=row[13],
        refresh_due=row[14] or 0,
        refresh_wait=row[15] or 0,
        refresh_deadline=row[16] or 0,
    )
