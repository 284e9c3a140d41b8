"""The numbered schema files, applied in order, each in a transaction of its own.

``schema(version, compat)`` says what the file is and the oldest program that may still use it: a release that only adds
leaves *compat*, so that two releases run side by side.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from appproxy.errors import ConfigError

_NAME = re.compile(r"(\d{4})-[a-z-]+\.sql")
_COMPAT = re.compile(r"^-- compat: (\d+)$", re.MULTILINE)


class Migration(NamedTuple):
    """One step of the schema."""

    version: int
    compat: int
    script: str


def read_migrations() -> list[Migration]:
    """The steps this release knows, in order."""
    found = []
    for file in resources.files("appproxy.store").joinpath("schema", "sqlite").iterdir():
        if name := _NAME.fullmatch(file.name):
            script = file.read_text("utf-8")
            compat = _COMPAT.search(script)
            if compat is None:
                raise ValueError(f"{file.name} has no line '-- compat: N'")
            found.append(Migration(int(name[1]), int(compat[1]), script))
    return sorted(found)


def migrate(connection: sqlite3.Connection, path: Path, migrations: list[Migration]) -> None:
    """Bring the file up to date; a copy as it was stays beside it.

    The caller sees to it that no other process does the same now.

    :raises ConfigError: the file is of a newer release that this one cannot work with.
    """
    version, compat = _state(connection)
    newest = migrations[-1].version
    if compat > newest:
        raise ConfigError(
            str(path), f"is of a newer release (schema {version}, this one knows {newest}); install that release"
        )
    pending = [each for each in migrations if each.version > version]
    if pending and version:
        _copy(connection, path.with_name(f"{path.name}.before-{newest:04}"))
    for each in pending:
        _step(connection, each)


def _state(connection: sqlite3.Connection) -> tuple[int, int]:
    tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'schema'").fetchone()[0]
    if not tables:
        return 0, 0
    version, compat = connection.execute("SELECT version, compat FROM schema").fetchone()
    return version, compat


def _step(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(migration.script):
            connection.execute(statement)
        connection.execute("DELETE FROM schema")
        connection.execute("INSERT INTO schema VALUES (?, ?)", (migration.version, migration.compat))
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split a script; ``executescript`` would commit between statements."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if re.sub(r"--.*", "", statement).strip():
        raise ValueError(f"the last statement has no end: {statement.strip()[:60]}")


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)
