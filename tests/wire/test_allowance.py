"""Allowances: so many a second."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire.allowance import Allowance
from tests.wire.pair import Clock


class AllowanceTests(SynchronousTestCase):
    """A bucket that time refills."""

    def test_at_once(self) -> None:
        """What was saved up may be spent at once, and no more."""
        allowance = Allowance((1, 5), Clock())
        self.assertEqual([allowance.spend() for _ in range(7)], [True] * 5 + [False] * 2)

    def test_refills(self) -> None:
        """Each second brings its share, but never more than may be saved."""
        clock = Clock()
        allowance = Allowance((2, 4), clock)
        while allowance.spend():
            pass
        clock.seconds += 1
        self.assertEqual([allowance.spend() for _ in range(3)], [True, True, False])
        clock.seconds += 1000
        self.assertEqual(sum(allowance.spend() for _ in range(10)), 4)

    def test_a_steady_rate_is_never_refused(self) -> None:
        """Who keeps to the rate may go on for ever."""
        clock = Clock()
        allowance = Allowance((10, 5), clock)
        for _ in range(500):
            clock.seconds += 0.1
            self.assertTrue(allowance.spend())
