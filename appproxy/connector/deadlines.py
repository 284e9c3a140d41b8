"""Deadlines without a timer each: whoever waits holds a time, and one look a second finds those that have passed.

A ``callLater`` that is cancelled again costs a microsecond for every request; assigning a float costs nothing.  The
price is precision: a deadline is noticed up to two seconds late, and never early.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final, Protocol

#: Seconds between two looks.
TICK_SECONDS: Final = 1.0
#: The deadline of whoever waits for nothing.
NEVER: Final = inf


class Waiting(Protocol):
    """Something with a deadline, changed at will."""

    @property
    def deadline(self) -> float:
        """The clock's time after which :meth:`expired` is called; ``NEVER`` for none."""

    def expired(self) -> None:
        """The deadline has passed; unless it is moved or forgotten this is said again every second."""


class Limit:
    """A time by which something has to be over, besides all that it waits for on its way.

    :ivar deadline: when *call* is called, once, unless :meth:`stop` was called before.
    """

    __slots__ = ("_call", "_deadlines", "deadline")

    def __init__(self, deadlines: Deadlines, seconds: float, call: Callable[[], None]) -> None:
        self._deadlines = deadlines
        self._call = call
        deadlines.watch(self)
        self.deadline = deadlines.from_now + seconds

    def expired(self) -> None:
        """Waiting: it is not over."""
        self.stop()
        self._call()

    def stop(self) -> None:
        """It is over."""
        self._deadlines.forget(self)


class Deadlines:
    """Everything in one program that may wait too long for an origin.

    :ivar from_now: with seconds added, the deadline for whatever may take them from now on.  Whoever asks is being
        watched.
    """

    __slots__ = ("_call", "_clock", "_watched", "from_now")

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._watched: set[Waiting] = set()
        self._call: Any = None
        self.from_now = 0.0  # of the last look, and a tick later: never early

    def watch(self, waiting: Waiting) -> None:
        """Look after *waiting* from now on."""
        self._watched.add(waiting)
        if self._call is None:
            self.from_now = self._clock.seconds() + TICK_SECONDS
            self._call = self._clock.callLater(TICK_SECONDS, self._look)

    def forget(self, waiting: Waiting) -> None:
        """Look after *waiting* no more."""
        self._watched.discard(waiting)

    def stop(self) -> None:
        """Forget everyone."""
        self._watched.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        now = self._clock.seconds()
        self.from_now = now + TICK_SECONDS
        late = [waiting for waiting in self._watched if waiting.deadline <= now]
        for waiting in late:
            waiting.expired()
        self._call = self._clock.callLater(TICK_SECONDS, self._look) if self._watched else None
