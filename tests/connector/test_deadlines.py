"""Deadlines looked at once a second."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector.deadlines import NEVER, Deadlines, Limit


class Waiter:
    """Notes when it was late."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadline = NEVER
        self.deadlines = deadlines
        self.late = 0

    def expired(self) -> None:
        self.late += 1
        self.deadlines.forget(self)


class DeadlinesTests(SynchronousTestCase):
    """Cheap, never early."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)

    def test_never_early_and_at_most_two_seconds_late(self) -> None:
        """Wherever between two looks the wait begins."""
        for offset in (0.0, 0.25, 0.5, 0.99):
            for seconds in (1, 1.5, 10):
                waiter, other = Waiter(self.deadlines), Waiter(self.deadlines)
                self.deadlines.watch(other)
                self.clock.advance(offset)
                self.deadlines.watch(waiter)
                waiter.deadline = self.deadlines.from_now + seconds
                waited = 0.0
                while not waiter.late:
                    self.clock.advance(0.01)
                    waited += 0.01
                self.assertGreaterEqual(waited, seconds - 0.001)
                self.assertLessEqual(waited, seconds + 2.01)
                self.deadlines.forget(other)

    def test_a_deadline_can_be_moved(self) -> None:
        """Assigning it is all it takes."""
        waiter = Waiter(self.deadlines)
        self.deadlines.watch(waiter)
        for _ in range(10):
            waiter.deadline = self.deadlines.from_now + 3
            self.clock.advance(1)
        waiter.deadline = NEVER
        self.clock.pump([1] * 10)
        self.assertEqual(waiter.late, 0)

    def test_nobody_waiting_costs_nothing(self) -> None:
        """No timer runs then."""
        waiter = Waiter(self.deadlines)
        self.deadlines.watch(waiter)
        self.deadlines.forget(waiter)
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deadlines.watch(waiter)
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_limit_is_told_once_if_at_all(self) -> None:
        """Whatever moves meanwhile; unless it was stopped."""
        told: list[str] = []
        Limit(self.deadlines, 5, lambda: told.append("first"))
        Limit(self.deadlines, 5, lambda: told.append("stopped")).stop()
        self.clock.pump([1.0] * 5)
        self.assertEqual(told, [])
        self.clock.pump([1.0] * 20)
        self.assertEqual((told, self.clock.getDelayedCalls()), (["first"], []))
