"""The real schema and statements in memory, answering at once: for tests of what stands on a store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from appproxy.store import StoreUnavailable
from appproxy.store.migrations import migrate, read_migrations


class MemoryStore:
    """An :class:`appproxy.store.Store` without threads.

    :ivar away: True: everything fails with ``StoreUnavailable``.
    """

    def __init__(self) -> None:
        self.answered_at = 0.0
        self.away = False
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        migrate(self._db, Path("memory"), read_migrations())

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Forget everything."""
        self._db.close()

    def write(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Run *function* in a transaction."""
        return self._run(function, *args, **kwargs)

    def read(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Run *function* on the present state; what it writes is undone."""
        return self._run(function, *args, keep=False, **kwargs)

    def watch(self, changed: Callable[[int], None]) -> Callable[[], None]:
        """Nobody else writes here."""
        return lambda: None

    def _run(self, function: Callable[..., Any], *args: Any, keep: bool = True, **kwargs: Any) -> Deferred[Any]:
        if self.away:
            return fail(StoreUnavailable())
        self._db.execute("BEGIN")
        try:
            result = function(self._db, *args, **kwargs)
        except Exception:
            self._db.execute("ROLLBACK")
            return fail()
        self._db.execute("COMMIT" if keep else "ROLLBACK")
        return succeed(result)
