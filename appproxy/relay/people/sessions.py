"""Signed-in users as the relay remembers them.  The cookie holds a random handle; the store knows only its hash.

A session that was asked for within the last minute costs one dictionary look-up.  Whoever holds something open for a
session (a WebSocket, a long download) asks to be told when it ends.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from appproxy.identity import Identity
from appproxy.store.feed import SESSION_CHANGED, SESSION_ENDED
from appproxy.store.interface import Database, Store, StoreUnavailable
from appproxy.store.records import Change, SessionRecord
from appproxy.store.sessions import end, end_all_of, find, touch

#: A remembered session is looked up again after this long.
FRESH_SECONDS: Final = 60.0
#: How often :meth:`Sessions.tick` is to be called.
TICK_SECONDS: Final = 60.0
#: While the store is away a known session is vouched for in steps of this length, until the grace ends.
_AWAY_STEP_SECONDS: Final = 5.0
HANDLE_BYTES: Final = 32
_HANDLE: Final = re.compile(rb"[A-Za-z0-9_-]{43}")
#: Sessions and ended ones that are remembered at most; those beyond are looked up again.
MAX_REMEMBERED, MAX_ENDED = 100_000, 20_000


def hash_handle(handle: bytes) -> bytes:
    """What the store knows of a handle.  Handles are random, so a plain hash tells nothing."""
    return hashlib.sha256(handle).digest()


class Watcher(Protocol):
    """Something that is open for a session."""

    @property
    def progress(self) -> int:
        """A number that grows as the user sends something."""

    def session_ended(self) -> None:
        """The session is over; close."""


class Session:
    """One sign-in at one host.  Times are those of the monotonic clock unless they say epoch."""

    __slots__ = (
        "_watchers", "application", "asked", "created_epoch", "ended", "ends", "fresh_until", "handle", "handle_hash",
        "host", "identity", "idle_seconds", "noted", "parent", "provider", "refresh_due", "refresh_wait", "used",
    )  # fmt: skip

    def __init__(self, handle: bytes, record: SessionRecord, now: float, epoch: int) -> None:
        self.handle = handle
        self.handle_hash = record.handle_hash
        self.parent = record.parent
        self.host = record.host
        self.application = record.application
        self.provider = record.provider
        self.identity = record.identity
        self.created_epoch = record.created
        self.idle_seconds = record.idle_seconds
        self.ends = now + (record.until - epoch)
        self.used = self.noted = now - (epoch - record.last_seen)
        self.asked = now
        self.fresh_until = min(now + FRESH_SECONDS, self.ends)
        #: Epoch seconds, 0 for never: when it is to be refreshed, and from when requests wait for that.
        self.refresh_due, self.refresh_wait = record.refresh_due, record.refresh_wait
        self.ended = False
        #: With the progress of each when it was last looked at.
        self._watchers: dict[Watcher, int] = {}

    def __repr__(self) -> str:
        """Without anything that is secret."""
        return f"<Session {self.handle_hash.hex()[:8]} {self.identity.user!r} at {self.host}>"

    @property
    def watched(self) -> bool:
        """Whether something is held open for it."""
        return bool(self._watchers)

    def is_live(self, now: float) -> bool:
        """Whether neither lifetime has run out."""
        return not self.ended and now < self.ends and now < self.used + self.idle_seconds

    @property
    def root(self) -> bytes:
        """Hash of the handle of the relay's own session that this one came from."""
        return self.parent or self.handle_hash

    def watch(self, watcher: Watcher) -> None:
        """Tell *watcher* once when the session ends; at once if it has."""
        if self.ended:
            watcher.session_ended()
        else:
            self._watchers[watcher] = 0

    def unwatch(self, watcher: Watcher) -> None:
        """Undo :meth:`watch`."""
        self._watchers.pop(watcher, None)

    def look(self, now: float) -> None:
        """What the user sends over something that is open counts as use."""
        for watcher, before in self._watchers.items():
            if watcher.progress != before:
                self._watchers[watcher] = watcher.progress
                self.used = now

    def change(self, identity: Identity) -> None:
        """The user is now known as *identity*; who has lost a name or group loses what is open."""
        before, self.identity = self.identity, identity
        if before.user != identity.user or not set(before.groups) <= set(identity.groups):
            self.cut()

    def cut(self) -> None:
        """Tell everyone who holds something open that they must close it."""
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers:
            watcher.session_ended()


class Sessions:
    """All sessions, remembered for a minute each.

    :param seconds: a monotonic clock, the one that the store uses.
    :param epoch: epoch seconds.
    :param random: gives that many unpredictable bytes.
    :param grace_seconds: how stale the relay may be before it stops vouching for sessions.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        store: Store,
        seconds: Callable[[], float],
        epoch: Callable[[], int],
        random: Callable[[int], bytes],
        grace_seconds: float = 60.0,
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._epoch = epoch
        self._random = random
        self._grace_seconds = grace_seconds
        self._by_handle: dict[bytes, Session] = {}
        self._by_hash: dict[bytes, Session] = {}
        self._asking: dict[bytes, list[Deferred[Session | None]]] = {}
        self._ended: dict[bytes, None] = {}
        #: Those that end, unless used, before the next tick is over: looked at every second.
        self._ending: set[Session] = set()
        #: Refreshes a sign-in whose session is due, ends it if that is what the provider says; True: waits for it.
        self.refresh: Callable[[Session, bool], Coroutine[Deferred[Any], Any, None]] | None = None
        self._untold: dict[bytes, int] = {}

    def new_handle(self) -> bytes:
        """Make a handle for a new session: 256 random bits."""
        return urlsafe_b64encode(self._random(HANDLE_BYTES)).rstrip(b"=")

    def peek(self, handle: bytes) -> Session | None:
        """The session of a cookie if it is remembered and fresh; None says only that :meth:`find` must be asked."""
        session = self._by_handle.get(handle)
        if session is None:
            return None
        now = self._seconds()
        if now >= session.fresh_until or now >= session.used + session.idle_seconds:
            return None
        session.used = now
        return session

    async def find(self, handle: bytes) -> Session | None:
        """The session of a cookie; None for anything that is none (any more).

        :raises StoreUnavailable: it cannot be told, and what was known is older than the grace.
        """
        if (known := self.peek(handle)) is not None:
            return known
        if not _HANDLE.fullmatch(handle):
            return None
        if (waiting := self._asking.get(handle)) is not None:
            turn: Deferred[Session | None] = Deferred()
            waiting.append(turn)
            return await turn
        self._asking[handle] = []
        outcome: Session | Failure | None = None
        try:
            outcome = await self._renewed(await self._ask(handle))
            return outcome
        except BaseException:
            outcome = Failure()
            raise
        finally:
            for turn in self._asking.pop(handle, []):
                if not turn.called:
                    turn.callback(outcome)

    async def _renewed(self, session: Session | None, wait: bool = True) -> Session | None:
        """The session, refreshed if that is due; None if the provider has ended it."""
        if session is not None and self.refresh is not None and self._is_due(session):
            await self.refresh(session, wait)
            if session.ended:
                return None
        return session

    def _is_due(self, session: Session) -> bool:
        return 0 < session.refresh_due <= self._epoch()

    async def _ask(self, handle: bytes) -> Session | None:
        known = self._by_handle.get(handle)
        asked = self._seconds()
        try:
            record = await self._store.read(find, hash_handle(handle))
        except StoreUnavailable:
            now = self._seconds()
            if known is None or not known.is_live(now) or self._staleness(known, now) > self._grace_seconds:
                raise
            known.fresh_until = min(now + _AWAY_STEP_SECONDS, known.ends)
            known.used = now
            return known
        if record is None or record.handle_hash in self._ended:
            self._forget(hash_handle(handle))
            return None
        return self.remember(handle, record, asked)

    def _staleness(self, session: Session, now: float) -> float:
        return now - max(session.asked, self._store.answered_at)

    def remember(self, handle: bytes, record: SessionRecord, asked: float | None = None) -> Session | None:
        """Keep what the store said about *handle* at *asked*; None if the session's time is over."""
        now = self._seconds()
        session = Session(handle, record, now, self._epoch())
        known = self._by_handle.get(handle)
        if known is not None:
            # The same object stays, with those who watch it; the times are new, and what a refresh has changed.
            known.used, known.ends = max(known.used, session.used), session.ends
            known.refresh_due, known.refresh_wait = record.refresh_due, record.refresh_wait
            if known.identity != record.identity:
                known.change(record.identity)
            session = known
        session.asked = now if asked is None else asked
        self._freshen(session)
        if not session.is_live(now):
            self._forget(session.handle_hash)
            return None
        session.used = now
        # The youngest last: the oldest are forgotten first.
        self._by_handle.pop(handle, None)
        self._by_handle[handle] = self._by_hash[session.handle_hash] = session
        if len(self._by_handle) > MAX_REMEMBERED:
            self._make_room()
        self._note_ending(session, now)
        return session

    def _freshen(self, session: Session) -> None:
        session.fresh_until = min(session.asked + FRESH_SECONDS, session.ends)
        if session.refresh_due:
            now = self._epoch()
            if 0 < session.refresh_wait <= now:
                session.fresh_until = 0.0  # everybody waits for the refresh that is under way
            elif session.refresh_due > now:
                session.fresh_until = min(session.fresh_until, self._seconds() + session.refresh_due - now)

    def _note_ending(self, session: Session, now: float) -> None:
        if min(session.ends, session.used + session.idle_seconds) <= now + 2 * TICK_SECONDS:
            self._ending.add(session)

    def renewed(self, hashes: Iterable[bytes], identity: Identity, due: int, wait: int) -> None:
        """Take note of what a refresh has brought."""
        for handle_hash in hashes:
            session = self._by_hash.get(handle_hash)
            if session is not None:
                session.refresh_due, session.refresh_wait = due, wait
                session.change(identity)
                self._freshen(session)

    def _make_room(self) -> None:
        for session in list(self._by_handle.values())[: MAX_REMEMBERED // 100]:
            if not session.watched:
                self._note(session)
                self._drop(session)

    def _drop(self, session: Session) -> None:
        self._by_handle.pop(session.handle, None)
        self._by_hash.pop(session.handle_hash, None)

    def _forget(self, handle_hash: bytes) -> None:
        """The session has ended: nobody gets it any more, and what is open for it closes."""
        self._ended[handle_hash] = None
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        self._untold.pop(handle_hash, None)
        session = self._by_hash.get(handle_hash)
        if session is not None:
            self._drop(session)
            session.ended = True
            session.cut()

    async def end(self, session: Session) -> None:
        """End one session and those made from it, here at once and everywhere within a second.

        :raises StoreUnavailable: it was not done.
        """
        await self._store.write(end, session.handle_hash, self._epoch())
        self.forget_family(session.handle_hash)

    async def end_everything(self, session: Session) -> None:
        """End all that came from the same sign-in.

        :raises StoreUnavailable: it was not done.
        """
        await self._store.write(end_all_of, session.handle_hash, self._epoch())
        self.forget_family(session.parent or session.handle_hash)

    def forget_family(self, handle_hash: bytes) -> None:
        """Take note that a session and those made from it have ended."""
        for each in self.family(handle_hash):
            self._forget(each)
        self._forget(handle_hash)

    def postponed(self, root: bytes, due: int) -> None:
        """A refresh was not possible; no request waits for it any more."""
        for handle_hash in self.family(root):
            session = self._by_hash[handle_hash]
            session.refresh_due, session.refresh_wait = due, 0
            self._freshen(session)

    def family(self, root: bytes) -> list[bytes]:
        """Hashes of a session and those made from it, as far as they are remembered."""
        return [each.handle_hash for each in self._by_hash.values() if each.root == root]

    def heard(self, changes: Iterable[Change]) -> None:
        """Take note of the feed: sessions that ended anywhere end here, and changed ones are looked up anew."""
        for change in changes:
            if change.kind == SESSION_ENDED:
                self._forget(bytes.fromhex(change.key))
            elif change.kind == SESSION_CHANGED:
                session = self._by_hash.get(bytes.fromhex(change.key))
                if session is not None:
                    session.fresh_until = 0.0

    def missed(self) -> None:
        """Part of the feed is lost: every session is looked up anew before it is trusted again."""
        for session in self._by_handle.values():
            session.fresh_until = 0.0

    def _note(self, session: Session) -> None:
        if session.used > session.noted:
            self._untold[session.handle_hash] = self._epoch() - int(self._seconds() - session.used)
            session.noted = session.used

    async def tick(self) -> None:
        """Once a minute: tell the store who was seen, end what has run out, forget what nobody uses."""
        now = self._seconds()
        for session in list(self._by_handle.values()):
            if session.watched:
                session.look(now)
            self._note(session)
            self._note_ending(session, now)
            if not session.is_live(now):
                self._run_out(session)
            elif not session.watched and now >= session.asked + FRESH_SECONDS + self._grace_seconds:
                self._drop(session)
        await self._tell()
        await self._check_watched()

    async def _tell(self) -> None:
        seen, self._untold = self._untold, {}
        if seen:
            try:
                await self._store.write(touch, list(seen.items()))
            except StoreUnavailable:
                # Told with the next minute's; nobody is signed out before their idle time by that.
                self._untold = {**seen, **self._untold}
                self.log.warn("the store was not told who was seen", event="sessions.untold", sessions=len(seen))

    async def _check_watched(self) -> None:
        """What is open for a session may last for hours without a request that would look it up."""
        watched = [session for session in self._by_handle.values() if session.watched]
        asked = self._seconds()
        try:
            found = await self._store.read(_find_all, [session.handle_hash for session in watched]) if watched else {}
        except StoreUnavailable:
            for session in watched:
                if self._staleness(session, self._seconds()) > self._grace_seconds:
                    session.cut()
            return
        for session in watched:
            record = found.get(session.handle_hash)
            if record is None:
                self._forget(session.handle_hash)
            elif not session.ended:
                session.asked = max(session.asked, asked)
                session.used = max(session.used, asked - (self._epoch() - record.last_seen))
                session.refresh_due, session.refresh_wait = record.refresh_due, record.refresh_wait
                if session.identity != record.identity:
                    session.change(record.identity)
                await self._renewed(session, wait=False)

    def _run_out(self, session: Session) -> None:
        """As far as is known here, its time is over; whoever comes with it has the store asked."""
        if session.watched:
            self._forget(session.handle_hash)
        else:
            self._drop(session)

    def sweep(self) -> None:
        """Once a second: end what has just run out, and close what is open for it."""
        now = self._seconds()
        for session in list(self._ending):
            if session.watched:
                session.look(now)
            if session.ended or session.handle_hash not in self._by_hash:
                self._ending.discard(session)
            elif not session.is_live(now):
                self._ending.discard(session)
                self._run_out(session)
            elif min(session.ends, session.used + session.idle_seconds) > now + 2 * TICK_SECONDS:
                self._ending.discard(session)


def _find_all(db: Database, hashes: Sequence[bytes]) -> dict[bytes, SessionRecord]:
    found = ((handle_hash, find(db, handle_hash)) for handle_hash in hashes)
    return {handle_hash: record for handle_hash, record in found if record is not None}
