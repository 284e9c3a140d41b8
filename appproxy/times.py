"""Times of the week, as people write them in rules."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, NamedTuple

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:(\w{3})(?:-(\w{3}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)")


class Window(NamedTuple):
    """A time of the week: days (0 is Monday) and minutes; an end before the beginning is on the next day."""

    first: int
    last: int
    begins: int
    ends: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read ``mon-fri 08:00-18:00``; the days may be left out, or be one.

        :raises ValueError: it is none.
        """
        match = _WINDOW.fullmatch(text.strip().lower())
        if match is None or not {match[1] or "mon", match[2] or "mon"} <= set(_DAYS):
            raise ValueError(f"{text!r} is no time of the week; write for instance mon-fri 08:00-18:00")
        begins, ends = int(match[3]) * 60 + int(match[4]), int(match[5]) * 60 + int(match[6])
        if begins > 24 * 60 or ends > 24 * 60 or begins == ends:
            raise ValueError(f"{text!r} is no time of the day; write for instance 08:00-18:00")
        first = _DAYS.index(match[1]) if match[1] else 0
        last = _DAYS.index(match[2]) if match[2] else first if match[1] else 6
        return cls(first, last, begins, ends)

    def holds(self, moment: datetime) -> bool:
        """Whether *moment* (in the rule's time zone) is within."""
        minute = moment.hour * 60 + moment.minute
        if self.begins < self.ends:
            return self._has_day(moment.weekday()) and self.begins <= minute < self.ends
        return (self._has_day(moment.weekday()) and minute >= self.begins) or (
            self._has_day((moment.weekday() - 1) % 7) and minute < self.ends
        )

    def _has_day(self, day: int) -> bool:
        return self.first <= day <= self.last if self.first <= self.last else day >= self.first or day <= self.last
