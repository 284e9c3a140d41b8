"""Sessions: found fast, ended everywhere, never trusted for longer than they may be."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.identity import Identity
from appproxy.relay.people.sessions import Session, Sessions, hash_handle
from appproxy.store import feed, sessions
from appproxy.store.interface import StoreUnavailable
from appproxy.store.records import Change, SessionRecord
from tests.fakes.memory_store import MemoryStore

ALICE = Identity(issuer="https://idp.test", subject="1", user="alice")
EPOCH = 1_800_000_000


class Open:
    """Something that is open for a session.

    :ivar closed: how often it was told to close.
    """

    def __init__(self) -> None:
        self.progress = 0
        self.closed = 0

    def session_ended(self) -> None:
        """Count."""
        self.closed += 1


class CountingStore(MemoryStore):
    """Counts reads, and holds them back when asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.hold: Deferred[None] | None = None

    def read(self, *args: object, **kwargs: object) -> Deferred[object]:
        """As the real one."""
        self.reads += 1
        result = super().read(*args, **kwargs)  # type: ignore[arg-type]
        if self.hold is None:
            return result
        waiting, self.hold = self.hold, None
        return waiting.addCallback(lambda _: result)


class SessionsTest(SynchronousTestCase):
    """One relay, its store and its clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5000)
        self.store = CountingStore()
        self.made = 0
        self.sessions = self.relay()

    def relay(self) -> Sessions:
        """Another relay on the same store."""
        return Sessions(self.store, self.clock.seconds, self.epoch, self.random)

    def epoch(self) -> int:
        """Now."""
        return EPOCH + int(self.clock.seconds())

    def random(self, n: int) -> bytes:
        """Never the same."""
        self.made += 1
        return self.made.to_bytes(n, "big")

    def create(self, parent: bytes | None = None, idle: int = 3600, absolute: int = 36000) -> bytes:
        """A new session in the store; its handle."""
        handle, now = self.sessions.new_handle(), self.epoch()
        record = SessionRecord(
            handle_hash=hash_handle(handle),
            parent=parent,
            host="hr.example.test",
            application="hr",
            provider="main",
            identity=ALICE,
            created=now,
            last_seen=now,
            idle_seconds=idle,
            until=now + absolute,
        )
        self.successResultOf(self.store.write(sessions.create, record))
        return handle

    def open(self, session: Session) -> Open:
        """Something is open for it from now on."""
        watcher = Open()
        session.watch(watcher)
        return watcher

    def find(self, handle: bytes) -> Session | None:
        """Ask."""
        return self.successResultOf(self.sessions.find(handle))

    def get(self, handle: bytes) -> Session:
        """Ask for one that exists."""
        session = self.find(handle)
        assert session is not None
        return session

    @pytest.mark.feature("AUTH-4")
    def test_remembered_for_a_minute(self) -> None:
        """A session is read from the store once a minute, however often it is used."""
        handle = self.create()
        self.assertIsNone(self.sessions.peek(handle))
        session = self.get(handle)
        for _ in range(59):
            self.clock.advance(1)
            self.assertIs(self.sessions.peek(handle), session)
        self.assertEqual(self.store.reads, 1)
        self.clock.advance(1)
        self.assertIsNone(self.sessions.peek(handle))
        self.assertIs(self.find(handle), session)
        self.assertEqual(self.store.reads, 2)

    def test_no_handle(self) -> None:
        """What cannot be a handle does not reach the store."""
        for handle in (b"", b"x" * 42, b"x" * 44, b"x" * 42 + b"=", b"\xff" * 43):
            self.assertIsNone(self.find(handle))
        self.assertEqual(self.store.reads, 0)
        self.assertIsNone(self.find(b"x" * 43))

    def test_handles(self) -> None:
        """A handle has 256 random bits, and the store never sees it."""
        handle = self.create()
        self.assertEqual(len(handle), 43)
        [record] = self.successResultOf(self.store.read(sessions.list_))
        self.assertEqual(record.handle_hash, hash_handle(handle))

    def test_asked_together(self) -> None:
        """Many requests with a session that is not remembered cost one read."""
        handle = self.create()
        self.store.hold = hold = Deferred()
        waiting = [Deferred.fromCoroutine(self.sessions.find(handle)) for _ in range(20)]
        hold.callback(None)
        found = {id(self.successResultOf(each)) for each in waiting}
        self.assertEqual((len(found), self.store.reads), (1, 1))

    def test_asked_together_for_nothing(self) -> None:
        """Many requests with a handle that is none (any more), or while the store is away, cost one read, too."""
        for away in (False, True):
            self.store.hold = hold = Deferred()
            reads = self.store.reads
            waiting = [Deferred.fromCoroutine(self.sessions.find(b"x" * 43)) for _ in range(20)]
            if away:
                hold.errback(StoreUnavailable())
            else:
                hold.callback(None)
            for each in waiting:
                if away:
                    self.failureResultOf(each, StoreUnavailable)
                else:
                    self.assertIsNone(self.successResultOf(each))
            self.assertEqual(self.store.reads, reads + 1)

    @pytest.mark.feature("AUTH-4")
    def test_idle(self) -> None:
        """S11: unused for too long it ends; used in time it goes on."""
        handle = self.create(idle=30)
        self.get(handle)
        for _ in range(5):
            self.clock.advance(29)
            self.assertIsNotNone(self.find(handle))
        self.clock.advance(30)
        self.assertIsNone(self.find(handle))

    @pytest.mark.feature("AUTH-4")
    def test_absolute(self) -> None:
        """S11: however much used it ends at its time."""
        handle = self.create(absolute=100)
        self.get(handle)
        self.clock.advance(55)
        self.assertIsNotNone(self.find(handle))
        self.clock.advance(44)
        self.assertIsNotNone(self.find(handle))
        self.clock.advance(1)
        self.assertIsNone(self.sessions.peek(handle))
        self.assertIsNone(self.find(handle))

    @pytest.mark.feature("AUTH-4")
    def test_touches_are_batched(self) -> None:
        """The store learns once a minute who was seen, so that another relay does not end a session in use."""
        handle = self.create(idle=100)
        self.get(handle)
        self.clock.advance(50)
        self.sessions.peek(handle)
        self.clock.advance(10)
        self.successResultOf(self.sessions.tick())
        [record] = self.successResultOf(self.store.read(sessions.list_))
        self.assertEqual(record.last_seen, self.epoch() - 10)
        self.clock.advance(80)
        self.assertIsNotNone(self.successResultOf(self.relay().find(handle)))

    def test_touches_wait_for_the_store(self) -> None:
        """What could not be told is told the next minute."""
        handle = self.create()
        self.clock.advance(5)
        self.get(handle)
        self.store.away = True
        self.successResultOf(self.sessions.tick())
        self.store.away = False
        self.successResultOf(self.sessions.tick())
        [record] = self.successResultOf(self.store.read(sessions.list_))
        self.assertEqual(record.last_seen, self.epoch())

    @pytest.mark.feature("AUTH-7")
    def test_end(self) -> None:
        """An ended session is gone at once, its children with it, and everything open for them is closed."""
        root = self.create()
        child, other = self.create(hash_handle(root)), self.create()
        opened = [self.open(self.get(handle)) for handle in (child, root, other)]
        self.successResultOf(self.sessions.end(self.get(root)))
        self.assertEqual([each.closed for each in opened], [1, 1, 0])
        self.assertEqual([self.find(handle) is None for handle in (root, child, other)], [True, True, False])

    @pytest.mark.feature("AUTH-6")
    def test_end_everything(self) -> None:
        """Ending everything from one application ends the relay's own session and all that came from it."""
        root = self.create()
        one, two = self.create(hash_handle(root)), self.create(hash_handle(root))
        self.get(two)
        self.successResultOf(self.sessions.end_everything(self.get(one)))
        self.assertEqual([self.find(handle) for handle in (root, one, two)], [None, None, None])

    @pytest.mark.feature("AUTH-7")
    def test_ended_elsewhere(self) -> None:
        """What another relay, or an administrator, ends is ended here as soon as the feed says so."""
        handle = self.create()
        watcher = self.open(self.get(handle))
        self.successResultOf(self.store.write(sessions.end_user, "alice", self.epoch()))
        self.assertIsNotNone(self.sessions.peek(handle))
        self.sessions.heard(self.successResultOf(self.store.read(feed.since, 0)))
        self.assertEqual(watcher.closed, 1)
        self.assertIsNone(self.sessions.peek(handle))

    def test_ended_while_being_read(self) -> None:
        """A session that ends between the read and its arrival is not remembered."""
        handle = self.create()
        self.store.hold = hold = Deferred()
        asked = Deferred.fromCoroutine(self.sessions.find(handle))
        self.successResultOf(self.store.write(sessions.end, hash_handle(handle), self.epoch()))
        self.sessions.heard(self.successResultOf(self.store.read(feed.since, 0)))
        hold.callback(None)
        self.assertIsNone(self.successResultOf(asked))

    def test_missed_feed(self) -> None:
        """When part of the feed is lost every session is looked up anew."""
        handle = self.create()
        self.get(handle)
        self.sessions.missed()
        self.assertIsNone(self.sessions.peek(handle))
        self.assertIsNotNone(self.find(handle))

    def test_store_away(self) -> None:
        """While the store is away known sessions go on until the grace ends; unknown ones cannot be told."""
        handle, unknown = self.create(), self.create()
        self.get(handle)
        self.store.away = True
        self.failureResultOf(self.sessions.find(unknown), StoreUnavailable)
        self.clock.advance(60)
        self.assertIsNotNone(self.find(handle))
        self.clock.advance(4)
        self.assertIsNotNone(self.sessions.peek(handle))
        self.clock.advance(1)
        self.failureResultOf(self.sessions.find(handle), StoreUnavailable)
        self.store.away = False
        self.assertIsNotNone(self.find(handle))

    def test_open_streams_end_with_the_session(self) -> None:
        """S11, W03: what is open for a session closes within a minute of its end, though no request comes."""
        handle = self.create(absolute=100)
        watcher = self.open(self.get(handle))
        self.clock.advance(99)
        self.successResultOf(self.sessions.tick())
        self.assertEqual(watcher.closed, 0)
        self.clock.advance(1)
        self.successResultOf(self.sessions.tick())
        self.assertEqual(watcher.closed, 1)

    def test_open_streams_end_with_the_grace(self) -> None:
        """When the store has been away for longer than the grace nothing stays open unvouched for."""
        watcher = self.open(self.get(self.create()))
        self.store.away = True
        self.clock.advance(60)
        self.successResultOf(self.sessions.tick())
        self.assertEqual(watcher.closed, 0)
        self.clock.advance(1)
        self.successResultOf(self.sessions.tick())
        self.assertEqual(watcher.closed, 1)

    def test_open_streams_are_looked_up(self) -> None:
        """What is open closes within a minute even if the feed never said that the session ended."""
        handle = self.create()
        watcher = self.open(self.get(handle))
        self.clock.advance(120)
        self.successResultOf(self.sessions.tick())
        self.assertEqual(watcher.closed, 0)
        self.successResultOf(self.store.write(sessions.end, hash_handle(handle), self.epoch()))
        self.successResultOf(self.sessions.tick())
        self.assertEqual(watcher.closed, 1)

    def test_watching(self) -> None:
        """Whoever closes in the meantime stops watching; who comes too late is told at once."""
        session = self.get(self.create())
        first, second = Open(), Open()
        session.watch(first)
        session.unwatch(first)
        session.unwatch(first)
        self.assertFalse(session.watched)
        self.successResultOf(self.sessions.end(session))
        session.watch(second)
        self.assertEqual((first.closed, second.closed), (0, 1))

    @pytest.mark.feature("AUTH-4")
    def test_open_streams_end_within_a_second(self) -> None:
        """S11: at the end of either lifetime what is open closes within a second, though no request comes."""
        for idle, absolute in ((100, 1000), (1000, 100)):
            watcher = self.open(self.get(self.create(idle=idle, absolute=absolute)))
            for second in range(100):
                self.assertEqual(watcher.closed, 0, second)
                self.clock.advance(1)
                if second % 60 == 59:
                    self.successResultOf(self.sessions.tick())
                self.sessions.sweep()
            self.assertEqual(watcher.closed, 1)

    @pytest.mark.feature("AUTH-4")
    def test_sending_is_use(self) -> None:
        """S11: what the user sends over an open WebSocket counts as use; a silent one ends at its idle time."""
        watcher = self.open(self.get(self.create(idle=100)))
        for _ in range(300):
            watcher.progress += 1
            self.clock.advance(1)
            self.sessions.sweep()
        self.assertEqual(watcher.closed, 0)
        for _ in range(101):
            self.clock.advance(1)
            self.sessions.sweep()
        self.assertEqual(watcher.closed, 1)

    @pytest.mark.feature("AUTH-5")
    def test_lost_groups_close_what_is_open(self) -> None:
        """Who is in another group from now on goes on; who has lost one must open everything anew."""
        handle = self.create()
        watcher = self.open(self.get(handle))
        times = (self.epoch() + 100, 0, 0)
        for groups, closed in (("a", "b"), 0), (("b", "a"), 0), (("b",), 1):
            identity = msgspec.structs.replace(ALICE, groups=groups)
            self.successResultOf(self.store.write(sessions.refreshed, hash_handle(handle), identity, b"", "", times))
            self.sessions.heard([Change(1, feed.SESSION_CHANGED, hash_handle(handle).hex())])
            self.assertEqual(self.get(handle).identity.groups, groups)
            self.assertEqual(watcher.closed, closed)

    @pytest.mark.feature("AUTH-5")
    def test_changes_elsewhere_reach_open_streams(self) -> None:
        """Another relay's refresh is seen within a minute where only a WebSocket is open."""
        handle = self.create()
        session = self.get(handle)
        watcher = self.open(session)
        identity = msgspec.structs.replace(ALICE, user="alice-2")
        write = self.store.write(sessions.refreshed, hash_handle(handle), identity, b"", "", (0, 0, 0))
        self.successResultOf(write)
        self.successResultOf(self.sessions.tick())
        self.assertEqual((session.identity.user, watcher.closed), ("alice-2", 1))

    def test_unused_sessions_are_forgotten(self) -> None:
        """Memory holds those in use, and a session that returns is read again."""
        handle = self.create()
        self.get(handle)
        self.clock.advance(121)
        self.successResultOf(self.sessions.tick())
        self.assertEqual(len(self.sessions._by_handle), 0)
        self.assertIsNotNone(self.find(handle))

    def test_bounded(self) -> None:
        """More sessions than are remembered are still all found."""
        self.patch(__import__("appproxy.relay.people.sessions", fromlist=["x"]), "MAX_REMEMBERED", 100)
        handles = [self.create() for _ in range(150)]
        for handle in handles:
            self.get(handle)
        self.assertLessEqual(len(self.sessions._by_handle), 100)
        self.assertIsNotNone(self.find(handles[0]))
