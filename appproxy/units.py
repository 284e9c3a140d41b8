"""Durations and sizes as people write them: ``"30s"``, ``"5m"``, ``"12h"``, ``"30d"``, ``"64KiB"``."""

from __future__ import annotations

import re
from typing import Self

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]+)(B|KiB|MiB|GiB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Duration(float):
    """A length of time in seconds, written ``"85s"`` or ``"5m"`` in files."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a duration; :raises ValueError: with a sentence saying how one is written."""
        if isinstance(text, str) and (match := _DURATION.fullmatch(text)):
            return cls(float(match[1]) * _SECONDS[match[2]])
        raise ValueError(f'{text!r} is not a duration; write "30s", "5m", "12h" or "30d"')

    def __str__(self) -> str:
        """The shortest exact way to write it."""
        if not self:
            return "0s"
        for unit in ("d", "h", "m", "s"):
            amount = float(self) / _SECONDS[unit]
            if amount >= 1 and amount == int(amount):
                return f"{int(amount)}{unit}"
        return f"{round(float(self) * 1000)}ms"


class Size(int):
    """A number of bytes, written ``"64KiB"`` in files."""

    @classmethod
    def parse(cls, text: object) -> Size:
        """Read a size; :raises ValueError: with a sentence saying how one is written."""
        if isinstance(text, str) and (match := _SIZE.fullmatch(text)):
            return cls(int(match[1]) * _BYTES[match[2]])
        raise ValueError(f'{text!r} is not a size; write "512B", "64KiB", "1MiB" or "2GiB"')

    def __str__(self) -> str:
        """The shortest exact way to write it."""
        for unit in ("GiB", "MiB", "KiB"):
            if self and self % _BYTES[unit] == 0:
                return f"{self // _BYTES[unit]}{unit}"
        return f"{int(self)}B"
