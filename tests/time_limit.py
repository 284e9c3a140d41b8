"""A limit on how long a test may take, which holds although the reactor runs in a greenlet of its own."""

from __future__ import annotations

import faulthandler
import signal
import sys
from types import FrameType
from typing import Self

import greenlet
import pytest

#: After the limit and this many seconds the process ends with every thread's stack: nothing else would end it.
LAST_RESORT_SECONDS = 60.0


class TimeLimit:
    """Within it, the test fails when *seconds* are over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGALRM, self._over)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(self._seconds + LAST_RESORT_SECONDS, exit=True, file=sys.__stderr__)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, self._previous)

    def _over(self, _number: int, frame: FrameType | None) -> None:
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "unknown"
        failed = pytest.fail.Exception(f"took more than {self._seconds:g} s; was at {where}", pytrace=False)
        current = greenlet.getcurrent()
        if current.parent is None:
            raise failed
        # In the reactor, which logs whatever is raised and goes on; the test waits in the greenlet above.
        current.parent.throw(failed)
