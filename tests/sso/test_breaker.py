"""The circuit breaker."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.sso.breaker import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Breaker


class BreakerTests(SynchronousTestCase):
    """Open after a failure, one attempt at a time, closed by a success."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.breaker = Breaker(self.clock.seconds)

    def test_life(self) -> None:
        """B-K10: closed, open, one attempt, open for longer, one attempt, closed."""
        self.assertTrue(self.breaker.allows() and self.breaker.allows() and not self.breaker.is_open)
        self.breaker.failed()
        self.assertFalse(self.breaker.allows())
        self.clock.advance(FIRST_PAUSE_SECONDS)
        self.assertEqual([self.breaker.allows(), self.breaker.allows()], [True, False])
        self.breaker.failed()
        self.clock.advance(FIRST_PAUSE_SECONDS)
        self.assertFalse(self.breaker.allows())
        self.clock.advance(FIRST_PAUSE_SECONDS)
        self.assertTrue(self.breaker.allows() and self.breaker.is_open)
        self.breaker.succeeded()
        self.assertTrue(self.breaker.allows() and self.breaker.allows())

    def test_pauses_are_bounded(self) -> None:
        """However often it failed, it tries again soon."""
        for _ in range(2000):
            self.breaker.failed()
        self.clock.advance(MAX_PAUSE_SECONDS)
        self.assertTrue(self.breaker.allows())
