"""The kinds of sockets that the contract is run for, and what is logged meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

from tests.logged_failures import LoggedFailures
from tests.net.kit import Link


@pytest.fixture
def logged(logged_failures: LoggedFailures) -> Iterator[list[Any]]:
    """Collect warnings, errors and failures for a test that expects some; it clears the list when it has looked."""
    events: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)
    logged_failures.flush()
    assert not events, [event.get("log_failure") or event for event in events]


def _link(kind: str, directory: Path) -> Iterator[Link]:
    link = Link(kind, directory)
    yield link
    pytest_twisted.blockon(Deferred.fromCoroutine(link.close()))


@pytest.fixture(params=["tcp", "tls", "unix"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Link]:
    """A connection of each kind."""
    yield from _link(request.param, tmp_path)


@pytest.fixture
def tls_link(tmp_path: Path) -> Iterator[Link]:
    """A TLS connection."""
    yield from _link("tls", tmp_path)


@pytest.fixture
def tcp_link(tmp_path: Path) -> Iterator[Link]:
    """A plain TCP connection."""
    yield from _link("tcp", tmp_path)
