"""Every coroutine has an owner: it is started, watched and stopped here."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

Result = TypeVar("Result")


class Awaited(Protocol):
    """What a task waits for: a Deferred, or as much of one as it needs."""

    def addBoth(self, call: Callable[[Any], Any], /) -> object:
        """Have *call* told the result, or a Failure."""

    def cancel(self) -> None:
        """Have it told a CancelledError, unless it was told something else before."""


class Outcome(Generic[Result]):
    """One result, told once to the one task that waits for it.

    All that most requests want of a Deferred, whose chain of callbacks costs four times as much.  Only a
    :class:`Task` can wait for it; there is :meth:`deferred` for the others.

    :ivar told: somebody has told it, or the task was cancelled; what is told later is dropped.
    """

    __slots__ = ("_result", "_waiter", "told")

    def __init__(self) -> None:
        self.told = False
        self._result: Any
        self._waiter: Callable[[Any], Any] | None = None

    def tell(self, result: Result | Failure) -> None:
        """Let the task go on with *result*, or with an exception."""
        if not self.told:
            self.told = True
            self._result = result
            if self._waiter is not None:
                self._waiter(result)

    def cancel(self) -> None:
        """See :class:`Awaited`."""
        self.tell(Failure(CancelledError()))

    def addBoth(self, call: Callable[[Any], Any], /) -> None:
        """See :class:`Awaited`; there is one *call*, and it comes before the result."""
        self._waiter = call

    def deferred(self) -> Deferred[Result]:
        """The same for whoever waits and is no task."""
        same: Deferred[Result] = Deferred(lambda _: self.cancel())
        if self.told:
            same.callback(self._result)
        else:
            self.addBoth(same.callback)
        return same

    def __await__(self) -> Generator[Awaited, Any, Result]:
        if not self.told:
            yield self  # a failure is thrown here
        elif isinstance(self._result, Failure):
            self._result.raiseException()
        result: Result = self._result
        return result


class Task:
    """One coroutine and what it waits for.

    Drives the coroutine itself: nobody wants a result, and ``Deferred.fromCoroutine`` costs a request as much again as
    all that the gateway does for it (another Deferred, a copy of the context, a cancellation record).
    """

    __slots__ = ("_tasks", "_waiting", "_work", "name")

    def __init__(self, tasks: Tasks, name: str, work: Coroutine[Awaited, Any, Any]) -> None:
        self.name = name
        self._tasks = tasks
        self._work = work
        self._waiting: Awaited | None = None

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def cancel(self) -> None:
        """Cancel what it waits for; the coroutine decides what becomes of that."""
        if self._waiting is not None:
            self._waiting.cancel()

    def proceed(self, result: object = None) -> None:
        """Run until the coroutine waits again; *result* is what it waited for."""
        self._waiting = None
        try:
            if isinstance(result, Failure):
                waiting = result.throwExceptionIntoGenerator(self._work)
            else:
                waiting = self._work.send(result)
        except StopIteration:
            self._tasks.ended(self, None)
        except CancelledError:
            self._tasks.ended(self, None)
        except BaseException:
            self._tasks.ended(self, Failure())
        else:
            # It is yielded only while it has no result, so this never comes back before it returns.
            self._waiting = waiting
            waiting.addBoth(self.proceed)


class Tasks:
    """Runs coroutines, tells the log once when one fails, and can stop them all."""

    log: ClassVar[Logger] = Logger()

    def __init__(self) -> None:
        self._running: set[Task] = set()
        self._stopped = False
        self._idle: Deferred[None] | None = None

    def __len__(self) -> int:
        """How many are running."""
        return len(self._running)

    def __repr__(self) -> str:
        """Names what is running."""
        return f"<Tasks {', '.join(sorted(task.name for task in self._running)) or 'idle'}>"

    def spawn(self, name: str, work: Coroutine[Awaited, Any, Any]) -> Task:
        """Run *work* until it first waits, and on from there; its result is nobody's.

        After :meth:`stop` nothing is begun any more.

        :param name: what the log calls it.
        :return: what cancels it.
        """
        task = Task(self, name, work)
        if self._stopped:
            work.close()
        else:
            self._running.add(task)
            task.proceed()
        return task

    def ended(self, task: Task, failure: Failure | None) -> None:
        """A task's own word that it is over."""
        self._running.discard(task)
        if failure is not None:
            self.log.failure("task {task} failed", failure, event="task.failed", task=task.name)
        if self._idle is not None and not self._running:
            idle, self._idle = self._idle, None
            idle.callback(None)

    async def stop(self) -> None:
        """Cancel all and wait until each has cleaned up."""
        self._stopped = True
        if self._running:
            idle = self._idle = Deferred()
            for task in list(self._running):
                task.cancel()
            await idle
