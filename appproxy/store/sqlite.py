"""The store in one SQLite file, shared by up to eight processes of one machine.

One thread writes and commits in groups: whatever waits when it is free shares one transaction and one ``fsync``, each
operation in a savepoint of its own.  Two threads read.  Nothing here blocks the reactor.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from appproxy.errors import ConfigError
from appproxy.store import feed
from appproxy.store.interface import (
    Clock,
    Database,
    StoreBusy,
    StoreDamaged,
    StoreFull,
    StoreStopped,
    StoreUnavailable,
    Threads,
)
from appproxy.store.migrations import migrate, read_migrations

T = TypeVar("T")
P = ParamSpec("P")

#: Operations that share a transaction; more would make the first of them wait noticeably.
GROUP = 512
#: Readers: lists for administrators must not hold up session look-ups; more threads only fight for the interpreter.
READERS = 2
#: How long a statement waits for another process's transaction.
BUSY_SECONDS = 5.0
#: How often to look for changes of other processes; they must be known within a second.
LOOK_SECONDS = 0.25

#: The first with STRICT tables.
OLDEST_SQLITE = (3, 37, 0)

_TROUBLES: dict[int, type[StoreUnavailable]] = {
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
}


class _Job(NamedTuple):
    """One operation on its way to a thread and back."""

    run: Callable[[sqlite3.Connection], Any]
    done: Deferred[Any]


_Queue = SimpleQueue[_Job | None]
_Outcome = tuple[Deferred[Any], Any]


class SQLiteStore:
    """:class:`~appproxy.store.Store` over one file."""

    log = Logger()

    def __init__(self, path: Path, reactor: Threads, clock: Clock) -> None:
        self.path = path
        self.answered_at = 0.0
        self._reactor = reactor
        self._clock = clock
        self._writes: _Queue = SimpleQueue()
        self._reads: _Queue = SimpleQueue()
        self._running = False
        self._ended: list[Deferred[None]] = []
        self._watchers: list[Callable[[int], None]] = []
        self._seq = 0
        self._look: Any = None

    async def start(self) -> None:
        """Open, bring the schema up to date, begin to look for changes.

        :raises ConfigError: not a store, or one of a newer release.
        :raises StoreUnavailable: full, locked, damaged.
        """
        opened: Deferred[int] = Deferred()
        self._begin(lambda: self._write_all(opened))
        self._seq = await opened
        self.answered_at = self._clock.seconds()
        for _ in range(READERS):
            self._begin(self._read_all)
        self._running = True
        self._wait_to_look()

    async def stop(self) -> None:
        """Finish what was asked before, then close."""
        if not self._running:
            return
        self._running = False
        if self._look is not None:
            self._look.cancel()
        self._writes.put(None)
        for _ in range(READERS):
            self._reads.put(None)
        await DeferredList(self._ended)

    def write(self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run *function* alone in a transaction; fires once the result is on the disk."""
        return self._ask(self._writes, lambda db: function(cast(Database, db), *args, **kwargs))

    def read(self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run *function* on one consistent view that includes everything acknowledged before."""
        return self._ask(self._reads, lambda db: function(cast(Database, db), *args, **kwargs))

    def watch(self, changed: Callable[[int], None]) -> Callable[[], None]:
        """Call ``changed(seq)`` when the feed has grown; returns how to stop it."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    # On the reactor's thread.

    def _ask(self, queue: _Queue, run: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        if not self._running:
            return fail(StoreStopped())
        done: Deferred[T] = Deferred()
        queue.put(_Job(run, done))
        return done

    def _deliver(self, outcomes: list[_Outcome], seq: int) -> None:
        """Fire what a thread has finished."""
        if any(not _is_away(outcome) for _, outcome in outcomes):
            self.answered_at = self._clock.seconds()
        for done, outcome in outcomes:
            done.callback(outcome)
        self._noticed(seq)

    def _noticed(self, seq: int) -> None:
        """Tell the watchers when the feed has grown."""
        if seq > self._seq:
            self._seq = seq
            for changed in list(self._watchers):
                try:
                    changed(seq)
                except Exception:
                    self.log.failure("a watcher of the store failed", event="store.watcher-failed")

    def _wait_to_look(self) -> None:
        self._look = self._clock.callLater(LOOK_SECONDS, self._start_to_look)

    def _start_to_look(self) -> None:
        """Ask whether another process has written; while the store is away :attr:`answered_at` stands still."""
        self._look = None
        looked = self.read(feed.latest)
        looked.addCallbacks(self._noticed, lambda _: None)
        looked.addBoth(lambda _: self._wait_to_look() if self._running else None)

    def _begin(self, work: Callable[[], None]) -> None:
        """Start a thread; :meth:`stop` waits for it."""
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)

        def whole() -> None:
            work()
            self._reactor.callFromThread(ended.callback, None)

        threading.Thread(target=whole, name=f"store {self.path.name}", daemon=True).start()

    # On the writer's thread.

    def _write_all(self, opened: Deferred[int]) -> None:
        try:
            connection = self._open()
            seq = feed.latest(cast(Database, connection))
        except Exception as error:
            self._reactor.callFromThread(opened.errback, Failure(_named(error, self.path)))
            return
        self._reactor.callFromThread(opened.callback, seq)
        last = False
        while not last:
            jobs, last = _take(self._writes)
            outcomes, seq = self._commit(connection, jobs, seq)
            self._reactor.callFromThread(self._deliver, outcomes, seq)
        connection.close()

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job], seq: int) -> tuple[list[_Outcome], int]:
        """Do all jobs in one transaction; returns what to tell each, and the end of the feed."""
        if not jobs:
            return [], seq
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [(job.done, _in_savepoint(connection, job, self.path)) for job in jobs]
            latest = feed.latest(cast(Database, connection))
            connection.execute("COMMIT")
        except Exception as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [(job.done, Failure(_named(error, self.path))) for job in jobs], seq
        return outcomes, latest

    def _open(self) -> sqlite3.Connection:
        """Create the file if need be, for its owner only, and bring it up to date; one process at a time."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise ConfigError("store.url", f"SQLite {sqlite3.sqlite_version} is too old; install 3.37 or later")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(self.path.with_name(f"{self.path.name}.lock")):
                if not self.path.exists():
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                elif self.path.stat().st_mode & 0o077:
                    self.path.chmod(0o600)
                connection = _connect(self.path, "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL")
                migrate(connection, self.path, read_migrations())
        except OSError as error:
            problem = f"cannot be opened: {(error.strerror or str(error)).lower()}; check the owner of the folder"
            raise ConfigError(str(self.path), problem) from None
        return connection

    # On a reader's thread.

    def _read_all(self) -> None:
        connection: sqlite3.Connection | None = None
        while (job := self._reads.get()) is not None:
            try:
                connection = connection or _connect(self.path, "PRAGMA query_only = ON")
                outcome = _in_view(connection, job, self.path)
            except sqlite3.Error as error:
                outcome = Failure(_named(error, self.path))
            self._reactor.callFromThread(self._deliver, [(job.done, outcome)], 0)
        if connection is not None:
            connection.close()


def _take(queue: _Queue) -> tuple[list[_Job], bool]:
    """Wait for a job; returns it with those behind it, and whether there will be no more."""
    job = queue.get()
    jobs: list[_Job] = []
    while job is not None:
        jobs.append(job)
        if len(jobs) == GROUP:
            return jobs, False
        try:
            job = queue.get_nowait()
        except Empty:
            return jobs, False
    return jobs, True


def _in_savepoint(connection: sqlite3.Connection, job: _Job, path: Path) -> Any:
    """Do one job of a group; its failure is its own, unless SQLite gave up the whole transaction."""
    connection.execute("SAVEPOINT job")
    try:
        result = job.run(connection)
    except Exception as error:
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO job")
        result = Failure(_named(error, path))
    connection.execute("RELEASE job")
    return result


def _in_view(connection: sqlite3.Connection, job: _Job, path: Path) -> Any:
    """Do one reading job in a transaction, so that all its statements see the same."""
    try:
        connection.execute("BEGIN")
        return job.run(connection)
    except Exception as error:
        return Failure(_named(error, path))
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _connect(path: Path, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS, cached_statements=256)
    for pragma in pragmas:
        connection.execute(pragma)
    return connection


def _is_away(outcome: Any) -> bool:
    return isinstance(outcome, Failure) and isinstance(outcome.value, StoreUnavailable)


def _named(error: Exception, path: Path) -> Exception:
    """SQLite's complaint as what happened; anything else as it is."""
    if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return error
    kind = _TROUBLES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, StoreUnavailable)
    return kind(f"{path}: {error}; {kind.__doc__}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a file lock, so that processes starting together do not change the schema at once."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
