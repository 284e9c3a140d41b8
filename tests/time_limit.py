"""A limit on how long a test may take, which holds although the reactor runs in a greenlet of its own."""

from __future__ import annotations

import faulthandler
import signal
import sys
from types import FrameType
from typing import Self

import greenlet
import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

#: After the limit and this many seconds the process ends with every thread's stack: nothing else would end it.
LAST_RESORT_SECONDS = 60.0


#: What the first alarm did not end the next ones will.
AGAIN_SECONDS = 1.0


class TimeLimit:
    """Within it, the test fails when *seconds* are over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGALRM, self._over)
        signal.setitimer(signal.ITIMER_REAL, self._seconds, AGAIN_SECONDS)
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(self._seconds + LAST_RESORT_SECONDS, exit=True, file=sys.__stderr__)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, self._previous)

    def _over(self, _number: int, frame: FrameType | None) -> None:
        """The alarm: interrupt what runs, or, when the reactor has nothing to do, what the test waits for."""
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "unknown"
        failed = pytest.fail.Exception(f"took more than {self._seconds:g} s; was at {where}", pytrace=False)
        awaited = _awaited() if frame is not None and frame.f_code.co_name == "doPoll" else None
        if awaited is None:
            raise failed
        awaited._suppressAlreadyCalled = True  # as cancel() does: whatever comes of it later is of no interest
        awaited.errback(Failure(failed))


def _awaited() -> Deferred[object] | None:
    """What the test waits for: pytest-twisted blocks on it in the greenlet above the reactor's."""
    waiting = greenlet.getcurrent().parent
    frame = waiting.gr_frame if waiting is not None else None
    awaited = frame.f_locals.get("d") if frame is not None else None
    return awaited if isinstance(awaited, Deferred) and not awaited.called else None
