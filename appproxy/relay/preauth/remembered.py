"""A document read from afar: read once for all who ask at the same time, the last good one kept in an outage."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Remembered(Generic[T]):
    """One such document.

    :param read: reads it; what it raises, those who wait for a first document get.
    :param seconds: a monotonic clock.
    :param fresh_seconds: for how long a document is not read again.
    :param retry_seconds: for how long after a failure it is not tried again.
    """

    def __init__(
        self,
        read: Callable[[], Coroutine[Deferred[Any], Any, T]],
        seconds: Callable[[], float],
        fresh_seconds: float,
        retry_seconds: float,
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._fresh_seconds = fresh_seconds
        self._retry_seconds = retry_seconds
        #: The last good document; None before the first.
        self.value: T | None = None
        self._failure: Failure | None = None
        self._next = seconds()
        self._waiting: list[Deferred[None]] | None = None

    @property
    def reading(self) -> bool:
        """Whether a read is under way."""
        return self._waiting is not None

    async def get(self) -> T:
        """Give the document, reading it when it is not fresh."""
        if self._seconds() >= self._next:
            await self.refresh()
        return self._result()

    async def refresh(self) -> T:
        """Read anew, or wait for the read under way; on failure give the last good document if there is one."""
        turn: Deferred[None] = Deferred()
        if self._waiting is None:
            self._waiting = [turn]
            # The read belongs to all who wait: one of them going away does not stop it.
            Deferred.fromCoroutine(self._read()).addCallbacks(self._came, self._failed)
        else:
            self._waiting.append(turn)
        await turn
        return self._result()

    def _result(self) -> T:
        if self.value is None:
            if self._failure is None:
                raise AssertionError("neither read nor failed")
            self._failure.raiseException()
        return self.value

    def _came(self, value: T) -> None:
        self.value, self._failure = value, None
        self._ended(self._fresh_seconds)

    def _failed(self, failure: Failure) -> None:
        failure.cleanFailure()
        self._failure = failure
        self._ended(self._retry_seconds)

    def _ended(self, pause: float) -> None:
        self._next = self._seconds() + pause
        waiting, self._waiting = self._waiting or [], None
        for turn in waiting:
            if not turn.called:
                turn.callback(None)
