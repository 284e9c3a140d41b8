"""Failures that the code under test logged."""

from __future__ import annotations

from typing import Self

from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure


class LoggedFailures:
    """Keeps every failure logged while it is entered."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def __enter__(self) -> Self:
        globalLogPublisher.addObserver(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        globalLogPublisher.removeObserver(self._note)

    def flush(self, *kinds: type[BaseException]) -> list[Failure]:
        """Take what is expected out and return it; all of it when no kind is named."""
        flushed = [failure for failure in self.failures if not kinds or failure.check(*kinds)]
        self.failures = [failure for failure in self.failures if failure not in flushed]
        return flushed

    def _note(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self.failures.append(failure)
