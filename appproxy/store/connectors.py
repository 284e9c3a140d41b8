"""Enrolled connectors.  A revoked one keeps its row, so that its certificate stays refused."""

from __future__ import annotations

from typing import Any

from appproxy.store import feed
from appproxy.store.interface import Database
from appproxy.store.records import ConnectorRecord

_COLUMNS = "id, name, connector_group, serial, not_after, enrolled, generation, revoked, boot, epoch"


def enrol(db: Database, record: ConnectorRecord) -> None:
    """Keep a new connector."""
    db.execute(
        f"INSERT INTO connector ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            record.id,
            record.name,
            record.group,
            record.serial,
            record.not_after,
            record.enrolled,
            record.generation,
            record.revoked,
            record.boot,
            record.epoch,
        ),
    )
    feed.append(db, feed.CONNECTOR, record.id)


def find(db: Database, connector: str) -> ConnectorRecord | None:
    """The connector of that id, revoked or not."""
    row = db.execute(f"SELECT {_COLUMNS} FROM connector WHERE id = ?", (connector,)).fetchone()  # noqa: S608
    return _record(row) if row else None


def list_(db: Database) -> list[ConnectorRecord]:
    """All connectors, by name."""
    return [_record(row) for row in db.execute(f"SELECT {_COLUMNS} FROM connector ORDER BY name, id")]  # noqa: S608


def revoke(db: Database, connector: str, now: int) -> bool:
    """Shut a connector out for good; False when it is unknown or already was."""
    revoked = db.execute("UPDATE connector SET revoked = ? WHERE id = ? AND revoked IS NULL", (now, connector)).rowcount
    if revoked:
        feed.append(db, feed.CONNECTOR_REVOKED, connector)
    return bool(revoked)


def renew(db: Database, connector: str, generation: int, serial: str, not_after: int) -> bool:
    """Replace the certificate of *generation* by the next; False when that is not the current one (R06) or revoked."""
    renewed = db.execute(
        "UPDATE connector SET generation = generation + 1, serial = ?, not_after = ?"
        " WHERE id = ? AND generation = ? AND revoked IS NULL",
        (serial, not_after, connector, generation),
    ).rowcount
    if renewed:
        feed.append(db, feed.CONNECTOR, connector)
    return bool(renewed)


def move(db: Database, connector: str, group: str) -> bool:
    """Put a connector into another group; False when it is unknown."""
    moved = db.execute("UPDATE connector SET connector_group = ? WHERE id = ?", (group, connector)).rowcount
    if moved:
        feed.append(db, feed.CONNECTOR, connector)
    return bool(moved)


def fence(db: Database, connector: str, boot: str, epoch: int) -> bool:
    """Let the process *boot* speak for a connector; False when a newer one does, or the connector may not.

    A new boot wins with a higher epoch; the same boot may come again.
    """
    row = db.execute(
        "UPDATE connector SET boot = ?, epoch = ? WHERE id = ? AND revoked IS NULL"
        " AND (epoch < ? OR (epoch = ? AND boot IN (?, ''))) RETURNING id",
        (boot, epoch, connector, epoch, epoch, boot),
    ).fetchone()
    return row is not None


def _record(row: Any) -> ConnectorRecord:
    return ConnectorRecord(
        id=row[0],
        name=row[1],
        group=row[2],
        serial=row[3],
        not_after=row[4],
        enrolled=row[5],
        generation=row[6],
        revoked=row[7],
        boot=row[8],
        epoch=row[9],
    )
