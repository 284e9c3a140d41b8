"""Published applications and connector groups: a JSON document and a version each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from appproxy.applications import Application, ConnectorGroup, from_document, to_document
from appproxy.config.publishing import check_groups, check_overlap
from appproxy.errors import ConfigError
from appproxy.store import feed
from appproxy.store.differences import Changed, Diff, Item, differences
from appproxy.store.interface import Database


class StoredApplication(NamedTuple):
    """An application with the version it has now; every change raises it by one."""

    version: int
    application: Application


class StoredGroup(NamedTuple):
    """A connector group with the version it has now."""

    version: int
    group: ConnectorGroup


class VersionMismatch(Exception):
    """Somebody else changed it meanwhile; read it again."""


def list_(db: Database) -> list[StoredApplication]:
    """All applications, by id."""
    rows = db.execute("SELECT version, document FROM application ORDER BY id")
    return [StoredApplication(row[0], _application(row[1])) for row in rows]


def find(db: Database, application: str) -> StoredApplication | None:
    """The application of that id."""
    row = db.execute("SELECT version, document FROM application WHERE id = ?", (application,)).fetchone()
    return StoredApplication(row[0], _application(row[1])) if row else None


def put(db: Database, application: Application, expected: int | None = None) -> int:
    """Add or replace an application; returns its version, the old one when nothing differs.

    :param expected: the version that is to be replaced, 0 for none.
    :raises VersionMismatch: it is not that one.
    :raises ConfigError: its URL is another's (N22), or its connector group does not exist.
    """
    known = find(db, application.id)
    if expected is not None and expected != (known.version if known else 0):
        raise VersionMismatch
    if known and known.application == application:
        return known.version
    _check(db, [application], ())
    return _put(db, "application", "id", application.id, application)


def delete(db: Database, application: str) -> bool:
    """Publish it no longer; False when there was none."""
    deleted = db.execute("DELETE FROM application WHERE id = ?", (application,)).rowcount
    if deleted:
        feed.append(db, feed.APPLICATION, application)
    return bool(deleted)


def list_groups(db: Database) -> list[StoredGroup]:
    """All connector groups, by name."""
    rows = db.execute("SELECT version, document FROM connector_group ORDER BY name")
    return [StoredGroup(row[0], _group(row[1])) for row in rows]


def find_group(db: Database, name: str) -> StoredGroup | None:
    """The connector group of that name."""
    row = db.execute("SELECT version, document FROM connector_group WHERE name = ?", (name,)).fetchone()
    return StoredGroup(row[0], _group(row[1])) if row else None


def put_group(db: Database, group: ConnectorGroup) -> int:
    """Add or replace a connector group; returns its version."""
    known = find_group(db, group.name)
    if known and known.group == group:
        return known.version
    return _put(db, "connector_group", "name", group.name, group)


def delete_group(db: Database, name: str) -> bool:
    """Remove a connector group; False when there was none.

    :raises ConfigError: applications or connectors are still in it.
    """
    using = [each.application.id for each in list_(db) if each.application.connector_group == name]
    rows = db.execute("SELECT id FROM connector WHERE connector_group = ? AND revoked IS NULL", (name,))
    connectors = [row[0] for row in rows]
    for kind, users in (("application", using), ("connector", connectors)):
        if users:
            raise ConfigError(f"group {name}", f"is used by {kind} {', '.join(sorted(users))}; move them first")
    deleted = db.execute("DELETE FROM connector_group WHERE name = ?", (name,)).rowcount
    if deleted:
        feed.append(db, feed.GROUP, name)
    return bool(deleted)


def apply(
    db: Database, applications: Sequence[Application], groups: Sequence[ConnectorGroup], now: int, dry_run: bool = False
) -> Diff:
    """Add and change what a file names, all or nothing; what it does not name stays.

    :param dry_run: only say what would happen; then ``store.read`` does.
    :raises ConfigError: an external URL is a stored application's (N22), or a connector group does not exist.
    """
    _check(db, applications, groups)
    added: list[Item] = []
    changed: list[Changed] = []
    unchanged: list[Item] = []
    for item, before, after in _pairs(db, applications, groups):
        if before is None:
            added.append(item)
        elif before == after:
            unchanged.append(item)
            continue
        else:
            changed.append(Changed(item, differences(before, after)))
        if not dry_run and isinstance(after, Application):
            _put(db, "application", "id", after.id, after)
        elif not dry_run and isinstance(after, ConnectorGroup):
            _put(db, "connector_group", "name", after.name, after)
    return Diff(tuple(added), tuple(changed), tuple(unchanged))


_Pair = tuple[Item, Application | ConnectorGroup | None, Application | ConnectorGroup]


def _pairs(db: Database, applications: Sequence[Application], groups: Sequence[ConnectorGroup]) -> Iterable[_Pair]:
    for group in groups:
        known_group = find_group(db, group.name)
        yield Item("group", group.name), known_group and known_group.group, group
    for application in applications:
        known = find(db, application.id)
        yield Item("application", application.id), known and known.application, application


def _check(db: Database, applications: Sequence[Application], groups: Sequence[ConnectorGroup]) -> None:
    named = {application.id for application in applications}
    kept = [each.application for each in list_(db) if each.application.id not in named]
    check_overlap([*kept, *applications])
    check_groups(applications, {each.group.name for each in list_groups(db)} | {group.name for group in groups})


def _put(db: Database, table: str, column: str, key: str, value: Application | ConnectorGroup) -> int:
    (version,) = db.execute(
        f"INSERT INTO {table} ({column}, version, document) VALUES (?, 1, ?)"  # noqa: S608
        f" ON CONFLICT ({column}) DO UPDATE SET version = {table}.version + 1, document = excluded.document"
        " RETURNING version",
        (key, msgspec.json.encode(to_document(value))),
    ).fetchone()
    feed.append(db, feed.APPLICATION if table == "application" else feed.GROUP, key)
    return int(version)


def _application(document: Any) -> Application:
    return from_document(msgspec.json.decode(document), Application)


def _group(document: Any) -> ConnectorGroup:
    return from_document(msgspec.json.decode(document), ConnectorGroup)
