"""What several modules of live tests start once each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.live.chromium import visits


@pytest.fixture(scope="module")
def visit() -> Iterator[Callable[..., None]]:
    """Calls a function with a fresh profile of a real browser."""
    yield from visits()
