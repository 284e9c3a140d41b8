"""The numbered feed: what changed, in an order every relay agrees on."""

from __future__ import annotations

from appproxy.store.interface import Database
from appproxy.store.records import Change

#: Kinds of entries.
APPLICATION = "application"
GROUP = "group"
SESSION_ENDED = "session-ended"
#: Somebody's claims or groups are others than before.
SESSION_CHANGED = "session-changed"
CONNECTOR = "connector"
CONNECTOR_REVOKED = "connector-revoked"
AUTHORITY = "authority"
SERVICE_TOKEN = "service-token"  # noqa: S105

#: Entries read at once; a reader asks again until none come.
PAGE = 1000
#: Entries kept; a relay that is further behind reads everything anew.
KEPT = 100_000


class FeedCutOff(Exception):
    """The entries asked for are no longer kept; read everything anew, then continue from *latest*."""

    def __init__(self, latest: int) -> None:
        super().__init__(f"continue from {latest}")
        self.latest = latest


def append(db: Database, kind: str, key: str) -> int:
    """Add an entry in the transaction that makes the change; returns its number."""
    (seq,) = db.execute("UPDATE feed_counter SET seq = seq + 1 RETURNING seq").fetchone()
    db.execute("INSERT INTO feed (seq, kind, key) VALUES (?, ?, ?)", (seq, kind, key))
    return int(seq)


def since(db: Database, seq: int, limit: int = PAGE) -> list[Change]:
    """Entries after *seq*, oldest first, at most *limit*.

    :raises FeedCutOff: some of them are no longer kept.
    """
    latest_, dropped = db.execute("SELECT seq, dropped FROM feed_counter").fetchone()
    if seq < dropped or seq > latest_:
        raise FeedCutOff(latest_)
    rows = db.execute("SELECT seq, kind, key FROM feed WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
    return [Change(*row) for row in rows]


def latest(db: Database) -> int:
    """The number of the newest entry, 0 before the first."""
    return int(db.execute("SELECT seq FROM feed_counter").fetchone()[0])


def purge(db: Database, kept: int = KEPT) -> int:
    """Drop all but the newest *kept* entries; returns how many went."""
    update = "UPDATE feed_counter SET dropped = max(dropped, seq - ?) RETURNING dropped"
    (dropped,) = db.execute(update, (kept,)).fetchone()
    return db.execute("DELETE FROM feed WHERE seq <= ?", (dropped,)).rowcount
