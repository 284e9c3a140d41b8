"""A circuit breaker: once a realm's KDC fails, requests that need it fail at once, and one at a time tries again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Until the first attempt after a failure; doubled by each that fails too.
FIRST_PAUSE_SECONDS: Final = 2.0
MAX_PAUSE_SECONDS: Final = 30.0


class Breaker:
    """Open after a failure, for a while that grows; closed by the first success.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    def __repr__(self) -> str:
        return f"<Breaker {f'open after {self._failures} failures' if self._failures else 'closed'}>"

    @property
    def is_open(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def allows(self) -> bool:
        """Whether to try now; after a failure one attempt in each pause."""
        if not self._failures:
            return True
        if self._clock() < self._until:
            return False
        self._until = self._clock() + self._pause()
        return True

    def failed(self) -> None:
        """An attempt failed."""
        self._failures += 1
        self._until = self._clock() + self._pause()

    def succeeded(self) -> None:
        """The KDC answers, whatever it says."""
        self._failures = 0

    def _pause(self) -> float:
        return float(min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10)))
