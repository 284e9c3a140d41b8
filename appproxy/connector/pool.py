"""The connections to one origin: kept alive, lent to one request at a time, never shared between applications.

The connection that was used last is used next (LIFO), so that the others can grow old and go.  When as many are open
as may be, requests wait their turn (FIFO).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from appproxy.applications import Timeouts
from appproxy.connector.connection import OriginConnection
from appproxy.connector.deadlines import NEVER, Deadlines
from appproxy.connector.exchange import Asked
from appproxy.connector.failures import (
    OriginBusy,
    OriginConnectTimeout,
    OriginFailed,
    OriginRefused,
    OriginTLS,
    OriginUnresolved,
)
from appproxy.connector.origin import PreparedURL
from appproxy.net.failures import ConnectTimedOut, DialFailed, DnsFailed, TlsFailed

#: More would cost an origin more than it gains: measured, a FIFO queue before 256 is five times cheaper than 4,000.
MAX_CONNECTIONS = 256
#: Shorter than what common servers keep idle connections for (75 s and more), so that we close first.
KEEP_SECONDS: Final = 60.0

#: Connects the protocol that the callable makes to the pool's origin.
Dial = Callable[[Callable[[Any], Any]], Coroutine["Deferred[Any]", Any, Any]]


class Pool:
    """All connections of one application to one origin that are shared, or the one that belongs to a single client.

    :ivar name: scheme, host and port, for logs; *url*: the same for treq.
    :ivar shared: whether requests of several clients may use the same connection, one after the other.
    """

    __slots__ = (
        "_connections", "_deadlines", "_dial", "_dialling", "_idle", "_limit", "_on_empty", "_retired", "_single",
        "_timeouts", "_waiting", "first_byte", "idle", "keep", "name", "shared", "total", "upgraded_idle", "url",
    )  # fmt: skip

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        name: str,
        dial: Dial,
        deadlines: Deadlines,
        timeouts: Timeouts,
        on_empty: Callable[[Pool], None] | None = None,
        *,
        shared: bool = True,
    ) -> None:
        self.name = name
        self.url = PreparedURL(name + "/")
        self.first_byte = float(timeouts.first_byte)
        self.idle = float(timeouts.idle)
        self.upgraded_idle = float(timeouts.upgraded_idle)
        self.total = float(timeouts.total)
        self.shared = shared
        self.keep = KEEP_SECONDS if shared else self.idle
        self._limit = MAX_CONNECTIONS if shared else 1
        self._single: set[Pool] = set()
        self._timeouts = timeouts
        self._dial = dial
        self._deadlines = deadlines
        self._on_empty = on_empty
        self._connections: set[OriginConnection] = set()
        self._idle: list[OriginConnection] = []
        self._waiting: deque[Asked] = deque()
        self._dialling = 0
        self._retired = False

    def __repr__(self) -> str:
        return f"<Pool {self.name} {len(self._connections)} open, {len(self._idle)} idle, {len(self._waiting)} waiting>"

    # Asking

    def ask(self, asked: Asked) -> None:
        """Send a request on the connection that was idle last, on a new one, or on the first that becomes free."""
        if self._idle:
            self._idle.pop().ask(asked)
            return
        if not self._waiting:
            self._deadlines.watch(self)
        asked.deadline = self._deadlines.from_now + self.first_byte
        self._waiting.append(asked)
        if len(self._connections) + self._dialling < self._limit:
            self._begin_dialling()

    def ask_afresh(self, asked: Asked) -> None:
        """Send a request on a new connection and on no other."""
        self._begin_dialling(asked)

    def forget(self, asked: Asked) -> None:
        """A request that waits is no longer wanted."""
        if asked in self._waiting:
            self._waiting.remove(asked)
            self._settle()

    # Connections

    def single(self, on_empty: Callable[[], None]) -> Pool:
        """A pool to the same origin with one connection at most, which is kept as long as it may be idle.

        :param on_empty: is called when it has none any more.
        """

        def emptied(pool: Pool) -> None:
            self._single.discard(pool)
            on_empty()
            self._settle()

        pool = Pool(self.name, self._dial, self._deadlines, self._timeouts, emptied, shared=False)
        self._single.add(pool)
        return pool

    def apart(self, on_empty: Callable[[], object]) -> Pool:
        """Another pool to the same origin, whose connections stay apart from all others.

        :param on_empty: is called when it has none any more.
        """

        def emptied(pool: Pool) -> None:
            self._single.discard(pool)
            on_empty()
            self._settle()

        pool = Pool(self.name, self._dial, self._deadlines, self._timeouts, emptied)
        self._single.add(pool)
        return pool

    def give_back(self, connection: OriginConnection) -> None:
        """A connection is free: it goes to whoever waits longest, or rests."""
        if self._waiting:
            asked = self._waiting.popleft()
            self._settle()
            connection.ask(asked)
        elif self._retired:
            connection.abandon()
        else:
            connection.deadline = self._deadlines.from_now + self.keep
            self._idle.append(connection)

    def lost(self, connection: OriginConnection) -> None:
        """A connection carries nothing any more."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting and len(self._waiting) > self._dialling:
            self._begin_dialling()
        self._settle()

    def retire(self) -> None:
        """The origin is not served any more: what is in flight may end, nothing is kept."""
        self._retired = True
        for connection in list(self._idle):
            connection.abandon()
        for pool in list(self._single):
            pool.retire()

    def close(self) -> None:
        """Close everything at once."""
        self._retired = True
        for connection in list(self._connections):
            connection.abandon()
        for pool in list(self._single):
            pool.close()

    def _begin_dialling(self, asked: Asked | None = None) -> None:
        self._dialling += 1
        Deferred.fromCoroutine(self._connect(asked)).addErrback(self._broken)

    async def _connect(self, asked: Asked | None) -> None:
        """Dial; the connection, or the failure, is for *asked*, else for whoever waits longest then."""
        connection = OriginConnection(self, self._deadlines)
        failure: OriginFailed
        try:
            await self._dial(lambda address: connection)
        except DnsFailed as problem:
            failure = OriginUnresolved(problem.detail)
        except TlsFailed as problem:
            failure = OriginTLS(problem.detail)
        except ConnectTimedOut as problem:
            failure = OriginConnectTimeout(problem.detail)
        except DialFailed as problem:
            failure = OriginRefused(problem.detail)
        else:
            self._dialling -= 1
            self._connections.add(connection)
            if asked is None:
                self.give_back(connection)
            elif asked.told:
                connection.abandon()
            else:
                connection.ask(asked)
            return
        self._dialling -= 1
        if asked is None and self._waiting:
            asked = self._waiting.popleft()
        if asked is not None:
            asked.fail(failure)
        if self._waiting and not self._connections and not self._dialling:
            self._begin_dialling()
        self._settle()

    def _broken(self, failure: Any) -> None:
        self.log.failure("dialling {pool} failed", failure, event="origin.dial-failed", pool=self.name)

    # Deadlines

    @property
    def deadline(self) -> float:
        """Waiting: that of the request that waits longest."""
        return self._waiting[0].deadline if self._waiting else NEVER

    def expired(self) -> None:
        """Waiting: no connection became free in time."""
        asked = self._waiting.popleft()
        self._settle()
        asked.fail(OriginBusy(f"{self.name}: {self._limit} connections were busy for {self.first_byte:g} s"))

    def _settle(self) -> None:
        if not self._waiting:
            self._deadlines.forget(self)
            if not self._connections and not self._dialling and not self._single and self._on_empty is not None:
                self._on_empty(self)
