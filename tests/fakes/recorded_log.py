"""What a class logs, for tests of log events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.logger import LogEvent, Logger


@contextmanager
def recorded(kind: Any) -> Iterator[list[LogEvent]]:
    """Catch the events of *kind* (a class or module with a ``log``) in a list, away from the tests' log."""
    events: list[LogEvent] = []
    before = kind.log
    kind.log = Logger(namespace=before.namespace, observer=events.append)
    try:
        yield events
    finally:
        kind.log = before
