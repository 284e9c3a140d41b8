"""Every coroutine has an owner."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from appproxy.tasks import Outcome, Tasks


class TestTasks(SynchronousTestCase):
    """Starting, failing, stopping."""

    def setUp(self) -> None:
        """Nothing runs."""
        self.tasks = Tasks()
        self.told: list[str] = []

    async def wait(self, turn: Deferred[None] | Outcome[None]) -> None:
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

    def test_outcome_is_told_once(self) -> None:
        """Whoever waits for an outcome goes on with the first that is told, also if that was before it waited."""

        async def listens(outcome: Outcome[str]) -> None:
            self.told.append(await outcome)
            self.told.append(await outcome)

        early: Outcome[str] = Outcome()
        early.tell("early")
        late: Outcome[str] = Outcome()
        self.tasks.spawn("early", listens(early))
        self.tasks.spawn("late", listens(late))
        self.assertEqual((self.told, repr(self.tasks)), (["early", "early"], "<Tasks late>"))
        late.tell("late")
        late.tell("later")
        late.cancel()
        self.assertEqual((self.told[2:], len(self.tasks), late.told), (["late", "late"], 0, True))

    def test_outcome_that_is_a_failure(self) -> None:
        """It is raised where it is waited for, whether it was told before or comes later."""

        async def listens(outcome: Outcome[str]) -> None:
            try:
                await outcome
            except ValueError as problem:
                self.told.append(str(problem))

        early: Outcome[str] = Outcome()
        early.tell(Failure(ValueError("early")))
        late: Outcome[str] = Outcome()
        self.tasks.spawn("early", listens(early))
        self.tasks.spawn("late", listens(late))
        late.tell(Failure(ValueError("late")))
        self.assertEqual((self.told, len(self.tasks)), (["early", "late"], 0))

    def test_outcome_is_for_tasks(self) -> None:
        """What cannot wait for it fails at once, and does not take it for a result."""

        async def listens() -> None:
            await Outcome()

        self.failureResultOf(Deferred.fromCoroutine(listens()), AttributeError)

    def test_outcome_as_a_deferred(self) -> None:
        """Whoever is no task waits for a Deferred, which fires, fails and is cancelled as the outcome is."""
        outcomes: list[Outcome[str]] = [Outcome() for _ in range(4)]
        early, late, failing, cancelled = outcomes
        early.tell("early")
        deferreds = [outcome.deferred() for outcome in outcomes]
        late.tell("late")
        failing.tell(Failure(ValueError("no")))
        deferreds[3].cancel()
        self.assertEqual([self.successResultOf(each) for each in deferreds[:2]], ["early", "late"])
        self.failureResultOf(deferreds[2], ValueError)
        self.failureResultOf(deferreds[3], CancelledError)
        self.assertTrue(cancelled.told)

    def test_outcome_of_a_cancelled_task(self) -> None:
        """Who was cancelled hears nothing more; nobody is harmed by telling it."""
        outcome: Outcome[None] = Outcome()
        task = self.tasks.spawn("waiting", self.wait(outcome))
        task.cancel()
        outcome.tell(None)
        self.assertEqual((self.told, len(self.tasks), outcome.told), (["cancelled"], 0, True))

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
