"""How long to wait before the next attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector.backoff import Backoff


def most() -> float:
    return 1.0


class BackoffTests(SynchronousTestCase):
    """CON-3: full jitter, quick while an outage is young."""

    @pytest.mark.feature("CON-3")
    def test_waits_double_up_to_a_ceiling(self) -> None:
        """One, two, four seconds at most; then four until two minutes have passed, then up to a minute."""
        backoff = Backoff()
        self.assertEqual([backoff.delay(n, 0, most) for n in range(5)], [1, 2, 4, 4, 4])
        self.assertEqual([backoff.delay(99, outage, most) for outage in (60, 120, 240, 1800, 1e6)], [4, 4, 8, 60, 60])

    def test_a_refusal_is_not_hurried(self) -> None:
        """Only an administrator can mend it."""
        self.assertEqual([Backoff().delay(n, 0, most, hopeless=True) for n in (0, 4, 9)], [1, 16, 60])

    @given(st.integers(0, 1000), st.floats(0, 1e7), st.floats(0, 1))
    def test_any_wait_is_between_none_and_a_minute(self, failures: int, outage: float, chance: float) -> None:
        """C32: and jitter is full, so that many connectors spread."""
        delay = Backoff().delay(failures, outage, lambda: chance)
        assert 0 <= delay <= 60
        assert delay <= chance * 60
