"""What every store offers, whatever keeps the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred

from appproxy.errors import AppproxyError

T = TypeVar("T")
P = ParamSpec("P")


class Rows(Protocol):
    """The answer to one statement."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""

    def fetchone(self) -> Any:
        """The next row or None."""

    def fetchall(self) -> list[Any]:
        """All remaining rows."""

    def __iter__(self) -> Iterator[Any]:
        """The rows, one after the other."""


class Database(Protocol):
    """A connection inside a transaction; what domain functions are given."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows:
        """Run one statement with ``?`` for its parameters."""


class Clock(Protocol):
    """The part of a reactor that knows the time."""

    def seconds(self) -> float:
        """Seconds since some moment."""

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
        """Call after *delay* seconds; returns something to ``cancel()``."""


class Threads(Protocol):
    """The part of a reactor that other threads may talk to."""

    def callFromThread(self, callable: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        """Call on the reactor's thread."""


class StoreUnavailable(AppproxyError):
    """The store did not do it; nothing of this operation was kept."""

    code, status = "store-unavailable", 503


class StoreFull(StoreUnavailable):
    """The disk of the store is full; make room on it, nothing else needs doing."""

    code = "store-full"


class StoreBusy(StoreUnavailable):
    """Another process held the store for too long; is a backup or a shell keeping a transaction open?"""

    code = "store-busy"


class StoreDamaged(StoreUnavailable):
    """The store's file is damaged or no store at all; restore a backup, or move the file away to start afresh."""

    code = "store-damaged"


class StoreStopped(StoreUnavailable):
    """The store has not been started, or has been stopped."""

    code = "store-stopped"


class Store(Protocol):
    """Runs domain functions, off the reactor; every Deferred fires on the reactor's thread."""

    @property
    def answered_at(self) -> float:
        """When the store last did something, in the clock's seconds: how stale what we know may be."""

    async def start(self) -> None:
        """Open, bring the schema up to date, begin to look for changes.

        :raises ConfigError: not a store, or one of a newer release.
        :raises StoreUnavailable: full, locked, damaged.
        """

    async def stop(self) -> None:
        """Finish what was asked before, then close; later calls fail with :class:`StoreStopped`."""

    def write(self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run *function* alone in a transaction; fires once the result is on the disk.

        What *function* raises undoes its statements and comes out unchanged.
        """

    def read(self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run *function* on one consistent view that includes everything acknowledged before."""

    def watch(self, changed: Callable[[int], None]) -> Callable[[], None]:
        """Call ``changed(seq)`` when the feed has grown, by us or another process; returns how to stop it."""
