"""Every coroutine has an owner: it is started, watched and stopped here."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure


class Tasks:
    """Runs coroutines, tells the log once when one fails, and can stop them all."""

    log = Logger()

    def __init__(self) -> None:
        self._running: dict[Deferred[Any], str] = {}
        self._stopped = False

    def __len__(self) -> int:
        """How many are running."""
        return len(self._running)

    def __repr__(self) -> str:
        """Names what is running."""
        return f"<Tasks {', '.join(sorted(self._running.values())) or 'idle'}>"

    def spawn(self, name: str, work: Coroutine[Deferred[Any], Any, Any]) -> None:
        """Run *work* until it first waits, and on from there; its result is nobody's.

        After :meth:`stop` nothing is begun any more.

        :param name: what the log calls it.
        """
        if self._stopped:
            work.close()
            return
        task: Deferred[Any] = Deferred.fromCoroutine(work)

        def ended(result: object) -> None:
            self._running.pop(task, None)
            if isinstance(result, Failure) and not result.check(CancelledError):
                self.log.failure("task {task} failed", result, event="task.failed", task=name)

        self._running[task] = name
        task.addBoth(ended)

    async def stop(self) -> None:
        """Cancel all and wait until each has cleaned up."""
        self._stopped = True
        running = list(self._running)
        ended = DeferredList([_after(task) for task in running])
        for task in running:
            task.cancel()
        await ended


def _after(task: Deferred[Any]) -> Deferred[None]:
    """Fires when *task* has ended, whatever became of it; cancelling the one does not touch the other."""
    done: Deferred[None] = Deferred()
    task.addBoth(lambda _: done.callback(None))
    return done
