"""The part of a reactor that other threads talk to, run by the test itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

#: Longer than anything here takes; only a lost answer waits so long.
PATIENCE_SECONDS = 30.0


class Threads:
    """Collects what threads want called; :meth:`result_of` calls it until an answer is there."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()

    def callFromThread(self, called: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        """Keep a call for the test's thread."""
        self._calls.put((called, args))

    def turn(self) -> None:
        """Make the next call, waiting for it."""
        called, args = self._calls.get(timeout=PATIENCE_SECONDS)
        called(*args)

    def result_of(self, work: Deferred[T] | Coroutine[Any, Any, T]) -> T:
        """Wait for a result; raises what it failed with."""
        outcome: list[Any] = []
        deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        deferred.addBoth(outcome.append)
        while not outcome:
            self.turn()
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        result: T = outcome[0]
        return result
