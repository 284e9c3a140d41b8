"""Documents that are read from afar."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.preauth.remembered import Remembered


class RememberedTest(SynchronousTestCase):
    """A document that is a number, fresh for 60 s, retried after 5."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reads: list[Deferred[int]] = []
        self.remembered = Remembered(self.read, self.clock.seconds, 60, 5)

    async def read(self) -> int:
        """The test answers."""
        self.reads.append(Deferred())
        return await self.reads[-1]

    def ask(self) -> Deferred[int]:
        """Somebody wants it."""
        return Deferred.fromCoroutine(self.remembered.get())

    def test_fresh(self) -> None:
        """It is read once while it is fresh, then again."""
        first = self.ask()
        self.assertTrue(self.remembered.reading)
        self.reads[0].callback(1)
        self.assertEqual(self.successResultOf(first), 1)
        self.clock.advance(59)
        self.assertEqual(self.successResultOf(self.ask()), 1)
        self.clock.advance(1)
        again = self.ask()
        self.reads[1].callback(2)
        self.assertEqual(self.successResultOf(again), 2)

    def test_together(self) -> None:
        """All who wait get the one answer, though the first of them gave up."""
        waiting = [self.ask() for _ in range(3)]
        waiting[0].addErrback(lambda _: None)
        waiting[0].cancel()
        self.reads[0].callback(1)
        self.assertEqual([self.successResultOf(each) for each in waiting[1:]], [1, 1])
        self.assertEqual(len(self.reads), 1)

    def test_outage(self) -> None:
        """A failure is told to those who have no document, and not tried again at once; an old document serves."""
        first = self.ask()
        self.reads[0].errback(ValueError("down"))
        self.failureResultOf(first, ValueError)
        self.failureResultOf(self.ask(), ValueError)
        self.assertEqual(len(self.reads), 1)
        self.clock.advance(5)
        second = self.ask()
        self.reads[1].callback(1)
        self.successResultOf(second)
        self.clock.advance(60)
        third = self.ask()
        self.reads[2].errback(ValueError("down"))
        self.assertEqual(self.successResultOf(third), 1)
        self.assertEqual(self.successResultOf(self.ask()), 1)
        self.assertEqual(len(self.reads), 3)
