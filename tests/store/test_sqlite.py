"""The store in one SQLite file."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import DeferredList, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import ConfigError
from appproxy.store import (
    Store,
    StoreBusy,
    StoreDamaged,
    StoreFull,
    feed,
    migrations,
    once,
    open_store,
    secrets,
    sessions,
    sqlite,
)
from appproxy.store.interface import Database, StoreUnavailable
from appproxy.store.migrations import Migration, read_migrations
from tests.store import contract


class OnSQLite(contract.Contract):
    """A store in the test's own folder."""

    conflict = sqlite3.IntegrityError

    def make(self) -> Store:
        """A store over ``relay.db``."""
        self.folder = getattr(self, "folder", None) or Path(self.mktemp()).absolute()
        return open_store("sqlite:relay.db", self.folder, self.threads, self.clock)

    @property
    def file(self) -> Path:
        """The file."""
        return self.folder / "relay.db"


class TestStore(OnSQLite, contract.StoreContract):
    """Running operations, in SQLite."""

    __test__ = True


class TestFeed(OnSQLite, contract.FeedContract):
    """The feed, in SQLite."""

    __test__ = True


class TestSessions(OnSQLite, contract.SessionsContract):
    """Sessions, in SQLite."""

    __test__ = True


class TestEnrolment(OnSQLite, contract.EnrolmentContract):
    """Tokens, connectors and keys, in SQLite."""

    __test__ = True


class TestNodes(OnSQLite, contract.NodesContract):
    """Names and leads, in SQLite."""

    __test__ = True


class TestApplications(OnSQLite, contract.ApplicationsContract):
    """Applications, in SQLite."""

    __test__ = True


class TestKept(OnSQLite, contract.KeptContract):
    """Requests that wait, in SQLite."""

    __test__ = True


class TestTrouble(OnSQLite):
    """Full, locked, damaged."""

    __test__ = True

    def test_full(self) -> None:
        """D10: on a full disk writing fails with a clear error, reading goes on, and all is well with room again."""
        limit = int(self.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])) + 4
        self.write(lambda db: db.execute(f"PRAGMA max_page_count = {limit}").fetchall())
        error = self.assertRaises(StoreFull, self.write, secrets.put, "big", bytes(1_000_000))
        self.assertIn(f"{self.file}: database or disk is full; The disk of the store is full", str(error))
        self.assertEqual((error.status, error.code), (503, "store-full"))
        self.assertEqual(self.read(feed.latest), 0)
        self.write(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())
        self.write(secrets.put, "big", bytes(1_000_000))
        self.assertEqual(len(self.read(secrets.find, "big")), 1_000_000)

    def test_full_in_the_middle_of_a_group(self) -> None:
        """D10: when the disk fills up in a shared transaction, exactly what was acknowledged is kept."""
        limit = int(self.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])) + 4
        self.write(lambda db: db.execute(f"PRAGMA max_page_count = {limit}").fetchall())
        asked: list[Any] = [self.store.write(once.use, b"%d" % number, 9) for number in range(20)]
        asked[10:10] = [self.store.write(secrets.put, "big", bytes(1_000_000))]
        outcomes = self.get(DeferredList(asked, consumeErrors=True))
        outcomes.pop(10)[1].trap(StoreFull)
        self.write(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())
        kept = [not self.write(once.use, b"%d" % number, 9) for number in range(20)]
        self.assertEqual(kept, [done for done, _ in outcomes])

    def test_locked(self) -> None:
        """Another process that keeps a transaction open is waited for, then named; nothing is lost afterwards."""
        self.write(lambda db: db.execute("PRAGMA busy_timeout = 20").fetchall())
        with closing(sqlite3.connect(self.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            both = [self.store.write(once.use, b"%d" % number, 9) for number in range(2)]
            for each in both:
                self.assertRaises(StoreBusy, self.get, each)
            self.assertEqual(self.read(feed.latest), 0)
            other.execute("ROLLBACK")
        self.assertTrue(self.write(once.use, b"0", 9))

    def test_answered_at_stands_still(self) -> None:
        """A store that only fails does not count as answering; an operation that is refused does."""
        self.write(lambda db: db.execute("PRAGMA busy_timeout = 20").fetchall())

        def refuses(db: Database) -> None:
            raise KeyError

        self.clock.rightNow = 1.0
        self.assertRaises(KeyError, self.write, refuses)
        self.clock.rightNow = 2.0
        with closing(sqlite3.connect(self.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertRaises(StoreBusy, self.write, once.use, b"k", 9)
        self.assertEqual(self.store.answered_at, 1.0)

    def test_no_store(self) -> None:
        """A file that is something else is left alone and named."""
        self.get(self.store.stop())
        for leftover in self.folder.glob("relay.db?*"):
            leftover.unlink()
        self.file.write_bytes(b"The quick brown fox jumps over the lazy dog. " * 100)
        error = self.assertRaises(StoreDamaged, self.get, self.make().start())
        self.assertIn("relay.db: file is not a database; The store's file is damaged", str(error))
        self.assertTrue(self.file.read_bytes().startswith(b"The quick"))

    def test_damaged(self) -> None:
        """A page of garbage is noticed when it is read."""
        self.write(secrets.put, "big", bytes(100_000))
        self.get(self.store.stop())
        octets = bytearray(self.file.read_bytes())
        octets[4096:] = os.urandom(len(octets) - 4096)
        self.file.write_bytes(octets)
        store = self.make()
        self.assertRaises(StoreDamaged, self.get, store.start())
        self.get(store.stop())

    def test_folder_that_cannot_be(self) -> None:
        """A state folder that cannot be made is named in one line."""
        (self.folder / "taken").write_text("")
        store = open_store("sqlite:relay.db", self.folder / "taken", self.threads, self.clock)
        error = self.assertRaises(ConfigError, self.get, store.start())
        said = f"{self.folder}/taken/relay.db: cannot be opened: file exists; check the owner of the folder"
        self.assertEqual(str(error), said)

    def test_other_urls(self) -> None:
        """What is no store is named in one line."""
        error = self.assertRaises(ConfigError, open_store, "mysql://x", self.folder, self.threads, self.clock)
        self.assertEqual(str(error), "store.url: 'mysql://x' is not a store; write \"sqlite:relay.db\"")

    def test_nobody_else_can_read_it(self) -> None:
        """R13: the file and its companions are the owner's only, also when they were not."""
        self.write(once.use, b"k", 9)
        for path in (*self.folder.iterdir(), self.folder):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)
        self.get(self.store.stop())
        self.file.chmod(0o644)
        self.store = self.running()
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)

    def test_synchronous_full(self) -> None:
        """What is acknowledged survives a power cut: write-ahead log, synced at each commit."""

        def settings(db: Database) -> list[Any]:
            return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

        self.assertEqual(self.write(settings), ["wal", 2])

    def test_operations_share_commits(self) -> None:
        """Many operations that wait together cost few commits."""
        before = self.read(lambda db: db.execute("PRAGMA data_version").fetchone()[0])
        asked = [self.store.write(once.use, b"%d" % number, 9) for number in range(sqlite.GROUP * 4)]
        self.get(gatherResults(asked))
        after = self.read(lambda db: db.execute("PRAGMA data_version").fetchone()[0])
        self.assertLess(after - before, 100)


FIRST = read_migrations()[0]


@pytest.mark.feature("OPS-5")
class TestMigrations(OnSQLite):
    """Bringing a file up to date."""

    __test__ = True

    def setUp(self) -> None:
        """A store of the first release, stopped, with one row in it."""
        self.releases()
        super().setUp()
        self.write(once.use, b"kept", 9)
        self.get(self.store.stop())

    def releases(self, *later: Migration) -> None:
        """Make this the release that has *later* schema files."""
        self.patch(sqlite, "read_migrations", lambda: [FIRST, *later])

    def versions(self) -> tuple[int, int]:
        """What the file says it is."""
        with closing(sqlite3.connect(self.file)) as connection:
            version, compat = connection.execute("SELECT version, compat FROM schema").fetchone()
            return version, compat

    def test_files_are_numbered_and_say_who_can_use_them(self) -> None:
        """Schema files are numbered from 1 without gaps; ``compat`` never runs ahead."""
        known = read_migrations()
        self.assertEqual([each.version for each in known], list(range(1, len(known) + 1)))
        self.assertTrue(all(0 < each.compat <= each.version for each in known))
        self.patch(sqlite, "read_migrations", read_migrations)
        self.store = self.running()
        self.get(self.store.stop())
        self.assertEqual(self.versions(), (known[-1].version, known[-1].compat))

    def test_a_step_with_a_copy(self) -> None:
        """A newer release adds its step once and leaves a copy of the file as it was."""
        self.releases(
            Migration(
                2, 1, "-- a; comment\nCREATE TABLE added (\n  x INTEGER -- why; not\n);\nINSERT INTO added VALUES (1);"
            )
        )
        for _ in range(2):
            self.store = self.running()
            self.assertEqual(self.read(lambda db: db.execute("SELECT x FROM added").fetchall()), [(1,)])
            self.assertFalse(self.write(once.use, b"kept", 9))
            self.get(self.store.stop())
        self.assertEqual(self.versions(), (2, 1))
        copy = self.folder / "relay.db.before-0002"
        self.assertEqual(copy.stat().st_mode & 0o777, 0o600)
        with closing(sqlite3.connect(copy)) as connection:
            self.assertEqual(connection.execute("SELECT version FROM schema").fetchall(), [(1,)])
            self.assertEqual(connection.execute("SELECT count(*) FROM once").fetchall(), [(1,)])

    def test_sessions_of_the_first_release(self) -> None:
        """Who was signed in before stays so, and is found by their subject from then on."""
        identity = b'{"issuer":"https://idp.test","subject":"s-1","user":"alice"}'
        with closing(sqlite3.connect(self.file)) as connection:
            row = (b"h", None, "h.test", "", "main", "alice", identity, 1, 1, 100, 100, b"", "")
            connection.execute(f"INSERT INTO session VALUES ({', '.join('?' * 13)})", row)
            connection.commit()
        self.patch(sqlite, "read_migrations", read_migrations)
        self.store = self.running()
        [record] = self.read(sessions.list_of, "main", "s-1")
        self.assertEqual((record.identity.user, record.refresh_due), ("alice", 0))
        self.get(self.store.stop())

    def test_a_step_that_fails(self) -> None:
        """A step is done whole or not at all."""
        self.releases(Migration(2, 2, "CREATE TABLE added (x INTEGER);\nCREATE TABLE once (x INTEGER);"))
        self.assertRaises(StoreUnavailable, self.get, self.make().start())
        self.assertEqual(self.versions(), (1, 1))
        with closing(sqlite3.connect(self.file)) as connection:
            self.assertRaises(sqlite3.OperationalError, connection.execute, "SELECT * FROM added")

    def test_an_older_release_beside_a_newer(self) -> None:
        """A newer file that says so is usable by this release, one that does not is refused."""
        self.releases(Migration(2, 1, "CREATE TABLE added (x INTEGER);"))
        self.store = self.running()
        self.get(self.store.stop())
        self.releases()
        self.store = self.running()
        self.get(self.store.stop())
        self.releases(Migration(2, 1, ""), Migration(3, 2, "DROP TABLE added;"))
        self.store = self.running()
        self.get(self.store.stop())
        self.releases()
        error = self.assertRaises(ConfigError, self.get, self.make().start())
        said = f"{self.file}: is of a newer release (schema 3, this one knows 1); install that release"
        self.assertEqual(str(error), said)

    def test_scripts_that_are_cut_short(self) -> None:
        """A script whose last statement has no end is a fault of ours, not half a schema."""
        self.assertRaises(ValueError, list, migrations._statements("CREATE TABLE a (x INTEGER);\nCREATE TABLE b (x"))


#: Writes rows one by one and in bursts; says which are acknowledged, until it is killed.
WRITER = """
import sys
from pathlib import Path
from twisted.internet import reactor, task
from twisted.internet.defer import ensureDeferred, gatherResults
from appproxy.store import feed, once, open_store

async def main(reactor, folder, name):
    store = open_store("sqlite:relay.db", Path(folder), reactor, reactor)
    await store.start()
    def write(db, key):
        feed.append(db, "test", key)
        return once.use(db, key.encode(), 9)
    number = 0
    while True:
        keys = [f"{name}-{number + each}" for each in range(1 + number % 40)]
        number += len(keys)
        done = await gatherResults([store.write(write, key) for key in keys])
        assert all(done)
        print(*keys, sep="\\n", flush=True)

task.react(main, sys.argv[1:])
"""


@pytest.mark.live
@pytest.mark.feature("OPS-4")
class TestKilled(SynchronousTestCase):
    """Processes that share the file and are killed while they write."""

    def start(self, folder: Path, name: str) -> subprocess.Popen[bytes]:
        """One writing process."""
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), name],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def acknowledged(self, process: subprocess.Popen[bytes], seconds: float) -> set[str]:
        """Let it write that long after its first row, kill it; returns the rows that it had been told are safe."""
        assert process.stdout is not None
        octets = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if not select.select([process.stdout], [], [], 0.01)[0]:
                continue
            octets += os.read(process.stdout.fileno(), 1 << 20)
            if octets and deadline - time.monotonic() > seconds:
                deadline = time.monotonic() + seconds
        process.send_signal(signal.SIGKILL)
        octets += process.stdout.read()
        process.stdout.close()
        self.assertTrue(octets, "it never wrote anything")
        return {
            line.decode() for line in octets.splitlines(keepends=True) if line.endswith(b"\n") for line in [line[:-1]]
        }

    def test_every_acknowledged_row_is_there(self) -> None:
        """Three processes write at once and are killed in turn, three times over: no acknowledged row is lost."""
        folder = Path(self.mktemp()).absolute()
        acknowledged: set[str] = set()
        for round_ in range(3):
            processes = [self.start(folder, f"{round_}.{each}") for each in range(3)]
            for process in processes:
                acknowledged |= self.acknowledged(process, 0.3)
        copy = folder / "copy"
        copy.mkdir()
        for path in folder.glob("relay.db*"):
            shutil.copy(path, copy)
        with closing(sqlite3.connect(copy / "relay.db")) as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            kept = {row[0].decode() for row in connection.execute("SELECT key FROM once")}
            entries = connection.execute("SELECT seq, key FROM feed ORDER BY seq").fetchall()
        self.assertGreater(len(acknowledged), 300)
        self.assertEqual(acknowledged - kept, set())
        self.assertEqual([seq for seq, _ in entries], list(range(1, len(entries) + 1)))
        self.assertEqual({key for _, key in entries}, kept)
