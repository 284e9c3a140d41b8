"""A few threads for calls that block, up to a minute and with nothing that could stop them.

Daemon threads: a process that ends does not wait for a KDC that never answers.  There are never more, and only so many
calls wait for one; whoever asks has a deadline of its own and does not depend on either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class AllBusy(Exception):
    """Too many calls wait already."""


class Workers:
    """Threads that are started when they are needed.

    :param call_from_thread: runs a callable in the reactor's thread: ``reactor.callFromThread``.
    :param threads: the most; *waiting*: calls that may wait for one of them.
    """

    def __init__(
        self, call_from_thread: Callable[..., object], threads: int = 4, waiting: int = 256, name: str = "worker"
    ) -> None:
        self._call_from_thread = call_from_thread
        self._most = threads
        self._limit = threads + waiting
        self._name = name
        self._threads = 0
        self._calls: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        #: Calls that are under way or wait.
        self.pending = 0

    @property
    def idle(self) -> bool:
        """Whether a call would begin at once."""
        return self.pending < self._most

    def call(self, work: Callable[[], T]) -> Deferred[T]:
        """Run *work* in a thread; fires in the reactor's with what it returned or raised.

        :raises AllBusy: too many wait.
        """
        if self.pending >= self._limit:
            raise AllBusy(f"{self.pending} calls are under way or wait")
        self.pending += 1
        done: Deferred[T] = Deferred(lambda _: None)  # nothing stops it; who cancels hears no more
        self._calls.put((work, done))
        if self._threads < min(self._most, self.pending):
            self._threads += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        return done

    def stop(self) -> None:
        """End threads that have nothing to do; others end after their call."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            work, done = call
            try:
                result: object = work()
            except BaseException as problem:
                problem.__traceback__ = None  # holds names and tickets
                result = Failure(problem)
            del work, call
            self._call_from_thread(self._finish, done, result)
            del done, result

    def _finish(self, done: Deferred[Any], result: object) -> None:
        self.pending -= 1
        if isinstance(result, Failure):
            done.errback(result)
        else:
            done.callback(result)
