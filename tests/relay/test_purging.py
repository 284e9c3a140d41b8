"""Nothing that has run out stays in the store."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay import purging
from appproxy.relay.purging import TOKEN_MEMORY_SECONDS, purge
from appproxy.store import kept, once, tokens
from tests.fakes.memory_store import MemoryStore
from tests.fakes.recorded_log import recorded

NOW = 1_800_000_000


class PurgingTest(SynchronousTestCase):
    """A store with one of each."""

    def test_what_has_run_out(self) -> None:
        """One-time ids, waiting requests and old tokens go at their time, and not before."""
        store = MemoryStore()
        for until in (NOW, NOW + 1):
            store.write(once.use, b"id-%d" % until, until)
            store.write(kept.put, b"kept-%d" % until, "192.0.2.1", b"x", until, NOW - 9)
            store.write(tokens.issue, b"token-%d" % until, "hq", until - TOKEN_MEMORY_SECONDS, 1)
        self.successResultOf(purge(store, NOW))
        for table in ("once", "kept", "token"):
            [(count,)] = self.successResultOf(
                store.read(lambda db, table=table: db.execute(f"SELECT count(*) FROM {table}").fetchall())
            )
            self.assertEqual(count, 1, table)

    def test_store_away(self) -> None:
        """While the store is away it is said, and tried again next time."""
        store = MemoryStore()
        store.away = True
        with recorded(purging) as events:
            self.successResultOf(purge(store, NOW))
        self.assertEqual([each["event"] for each in events], ["relay.purge-late"])
