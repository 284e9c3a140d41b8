"""So many a second: what keeps a peer from flooding us."""

from __future__ import annotations

from collections.abc import Callable


class Allowance:
    """So many a second, with so many saved up; the clock is read only once half of those are gone."""

    __slots__ = ("_at", "_clock", "_left", "_most", "_rate")

    def __init__(self, rate: tuple[float, float], clock: Callable[[], float]) -> None:
        self._rate, self._most = rate
        self._clock = clock
        self._left = self._most
        self._at = clock()

    def spend(self) -> bool:
        """Take one; False when there is none."""
        left = self._left
        if left < self._most / 2:
            now = self._clock()
            left = min(self._most, left + (now - self._at) * self._rate)
            self._at = now
        self._left = left - 1 if left >= 1 else left
        return left >= 1
