"""Commands that need the reactor: run it until a coroutine is done."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def run_until_done(reactor: Any, work: Coroutine[Deferred[Any], Any, T]) -> T | None:
    """Run the reactor until *work* is done; None when it was interrupted, and *work* cancelled.

    :raises Exception: what *work* raised.
    """
    results: list[T | Failure] = []
    over: Deferred[None] = Deferred()
    stopping = False

    def begin() -> None:
        done = Deferred.fromCoroutine(work)

        def interrupted() -> Deferred[None]:
            nonlocal stopping
            stopping = True
            if not results:
                done.cancel()
            return over  # the reactor stays until the work has cleaned up

        reactor.addSystemEventTrigger("before", "shutdown", interrupted)
        done.addBoth(ended)

    def ended(result: T | Failure) -> None:
        results.append(result)
        over.callback(None)
        if not stopping:
            reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run()
    (result,) = results
    if not isinstance(result, Failure):
        return result
    if not result.check(CancelledError):
        result.raiseException()
    return None
