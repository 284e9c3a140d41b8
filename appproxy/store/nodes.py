"""Who is a relay now, and who does what only one may do: leases with an epoch that fences earlier holders."""

from __future__ import annotations

from typing import NamedTuple

from appproxy.store.interface import Database


class Node(NamedTuple):
    """A relay with a live lease."""

    id: str
    boot: str
    epoch: int
    until: int


def lease(db: Database, node: str, boot: str, until: int, now: int) -> int | None:
    """Take or renew the name *node* for the process *boot*; returns its epoch, None while another process has it."""
    return _take(db, f"node:{node}", boot, until, now)


def lead(db: Database, task: str, boot: str, until: int, now: int) -> int | None:
    """Take or renew the lead of *task*; returns the epoch that fences it, None while another has it."""
    return _take(db, f"task:{task}", boot, until, now)


def is_leader(db: Database, task: str, boot: str, epoch: int) -> bool:
    """Whether nobody took the lead since; asked in the transaction that the lead is for."""
    row = db.execute(
        "SELECT 1 FROM lease WHERE name = ? AND holder = ? AND epoch = ?", (f"task:{task}", boot, epoch)
    ).fetchone()
    return row is not None


def leave(db: Database, node: str, boot: str) -> None:
    """Give up the node's name and every lead of this process, so that others need not wait."""
    db.execute(
        "UPDATE lease SET until = 0 WHERE holder = ? AND (name = ? OR name LIKE 'task:%')", (boot, f"node:{node}")
    )


def live(db: Database, now: int) -> list[Node]:
    """All relays whose lease runs, by id."""
    rows = db.execute(
        "SELECT substr(name, 6), holder, epoch, until FROM lease WHERE name LIKE 'node:%' AND until > ? ORDER BY name",
        (now,),
    )
    return [Node(*row) for row in rows]


def _take(db: Database, name: str, boot: str, until: int, now: int) -> int | None:
    row = db.execute(
        "INSERT INTO lease (name, holder, epoch, until) VALUES (?, ?, 1, ?) ON CONFLICT (name) DO UPDATE SET"
        " epoch = lease.epoch + (lease.holder <> excluded.holder), holder = excluded.holder, until = excluded.until"
        " WHERE lease.holder = excluded.holder OR lease.until <= ? RETURNING epoch",
        (name, boot, until, now),
    ).fetchone()
    return int(row[0]) if row else None
