"""Every coroutine has an owner."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from appproxy.tasks import Tasks


class TestTasks(SynchronousTestCase):
    """Starting, failing, stopping."""

    def setUp(self) -> None:
        """Nothing runs."""
        self.tasks = Tasks()
        self.told: list[str] = []

    async def wait(self, turn: Deferred[None]) -> None:
        """Wait for *turn*; tell how it went."""
        try:
            await turn
            self.told.append("done")
        except CancelledError:
            self.told.append("cancelled")
            raise

    def test_runs_until_it_waits(self) -> None:
        """A coroutine begins at once, is known while it waits, and forgotten at its end."""
        turn: Deferred[None] = Deferred()
        self.tasks.spawn("waiting", self.wait(turn))
        self.assertEqual((len(self.tasks), repr(self.tasks)), (1, "<Tasks waiting>"))
        turn.callback(None)
        self.assertEqual((self.told, len(self.tasks), repr(self.tasks)), (["done"], 0, "<Tasks idle>"))

    def test_failure_is_told_once(self) -> None:
        """What goes wrong is in the log, with the task's name, and nowhere else."""

        async def fails() -> None:
            raise ValueError("no")

        self.tasks.spawn("failing", fails())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(self.tasks), 0)

    def test_stop_cancels_all(self) -> None:
        """Stopping cancels what waits; that is no failure."""
        for name in ("one", "two"):
            self.tasks.spawn(name, self.wait(Deferred()))
        self.successResultOf(Deferred.fromCoroutine(self.tasks.stop()))
        self.assertEqual((self.told, len(self.tasks)), (["cancelled", "cancelled"], 0))

    def test_stop_waits_for_cleaning_up(self) -> None:
        """A task that has to tidy up first is waited for."""
        tidied: Deferred[None] = Deferred()

        async def tidies() -> None:
            try:
                await Deferred()
            finally:
                await tidied

        self.tasks.spawn("tidy", tidies())
        stopped = Deferred.fromCoroutine(self.tasks.stop())
        self.assertNoResult(stopped)
        tidied.callback(None)
        self.successResultOf(stopped)

    def test_failing_while_being_stopped(self) -> None:
        """A task that fails on its way out is told, and stopping goes on."""

        async def stumbles() -> None:
            try:
                await Deferred()
            finally:
                raise ValueError("no")

        self.tasks.spawn("stumble", stumbles())
        self.successResultOf(Deferred.fromCoroutine(self.tasks.stop()))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_nothing_begins_after_the_end(self) -> None:
        """After stopping, a coroutine is closed without having run."""
        self.successResultOf(Deferred.fromCoroutine(self.tasks.stop()))
        turn: Deferred[None] = Deferred()
        turn.callback(None)
        self.tasks.spawn("late", self.wait(turn))
        self.assertEqual(self.told, [])
