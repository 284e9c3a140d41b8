"""Credit: nothing is lost between what was given, what came, what was taken and what is given back."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire.windows import FORGET_SECONDS, INITIAL_WINDOW, MAX_WINDOW, MIN_WINDOW, Budget, Path, ReceiveWindow

K = 1024


class Sender:
    """A sender that uses up all its credit at once, so many seconds away, and a consumer that takes so much a second.

    :param speed: of the consumer, bytes a second; endless unless it is said.
    """

    def __init__(self, trip: float, speed: float = inf) -> None:
        self.now = 1000.0
        self.window = ReceiveWindow()
        self.window.path.measured(trip, self.now)
        self._trip = trip
        self._speed = speed
        self._credit = INITIAL_WINDOW

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def round(self, piece: int = 32 * K, exceeded: bool = False, company: bool = False) -> None:
        """The sender sends what it may, and what it is given meanwhile reaches it a round trip later.

        :param company: another stream was opened in its channel.
        """
        self.window.path.opened += company
        self.now += self._trip
        returned, credit = 0, self._credit
        while credit:
            size = min(piece, credit)
            assert self.window.receive(size, self.clock)
            credit -= size
            self.now += size / self._speed
            returned += self.window.consume(size, exceeded, self.clock)
        self._credit = returned


def still() -> float:
    """A clock that stands."""
    return 1000.0


@pytest.mark.feature("CON-4")
class WindowTests(SynchronousTestCase):
    """One stream's window."""

    def test_credit_goes_back_in_quarters(self) -> None:
        """A WINDOW frame is shared by many small chunks."""
        window = ReceiveWindow()
        given_back = []
        for _ in range(64):
            window.receive(2 * K, still)
            given_back.append(window.consume(2 * K, False, still))
        self.assertEqual([credit for credit in given_back if credit], [64 * K, 64 * K])

    def test_a_peer_without_credit_is_noticed(self) -> None:
        """C07: one byte more than was given."""
        window = ReceiveWindow()
        self.assertTrue(window.receive(INITIAL_WINDOW, still))
        self.assertFalse(window.receive(1, still))

    def test_no_consumer_takes_more_than_came(self) -> None:
        """Our own mistakes are not given to the peer as credit."""
        window = ReceiveWindow()
        window.receive(10, still)
        for count in (11, -1):
            with self.assertRaises(ValueError):
                window.consume(count, False, still)

    def test_grows_when_it_limits(self) -> None:
        """A sender that uses up all it has, to a consumer that keeps up, soon has 8 MiB and never more."""
        path = Sender(0.064)
        for _ in range(12):
            path.round()
        self.assertEqual(path.window.size, MAX_WINDOW)
        for _ in range(12):
            path.round()
        self.assertEqual(path.window.size, MAX_WINDOW)

    def test_grows_with_pieces_of_any_size(self) -> None:
        """It is where the sender stops that tells, not the size of its frames."""
        for piece in (1000, 7777, 30_001):
            path = Sender(0.064)
            for _ in range(12):
                path.round(piece)
            self.assertEqual(path.window.size, MAX_WINDOW)

    def test_grows_to_what_the_path_holds(self) -> None:
        """Where the consumer is what takes time, a larger window would only lengthen the queue."""
        path = Sender(0.0003, speed=200e6)
        for _ in range(1000):
            path.round()
        self.assertLessEqual(path.window.size, 512 * K)

    def test_shrinks_where_others_wait(self) -> None:
        """What is under way takes others as long as it takes the consumer; alone again, the window is larger again."""
        path = Sender(0.0003, speed=200e6)
        for _ in range(1000):
            path.round()
        alone = path.window.size
        for _ in range(1000):
            path.round(company=True)
        shrunk = path.window.size
        self.assertLess(shrunk, alone)
        self.assertLessEqual(shrunk, 3 * 200e6 * 0.0003)
        for _ in range(5000):
            path.round()
        self.assertGreater(path.window.size, shrunk)

    def test_company_costs_no_speed_where_the_path_is_long(self) -> None:
        """Several downloads at once from far away, each as fast as the distance allows."""
        path = Sender(0.064)
        for _ in range(12):
            path.round(company=True)
        self.assertEqual(path.window.size, MAX_WINDOW)

    def test_company_costs_no_speed_where_round_trips_vary(self) -> None:
        """What looks like a queue may be one of others' making, far from here: the window is that of a stream alone."""
        sizes = []
        for company in (False, True):
            path = Sender(0.064)
            path.window.path.measured(0.02, path.now)
            for _ in range(100):
                path.round(company=company)
            sizes.append(path.window.size)
        self.assertEqual(sizes, [MAX_WINDOW, MAX_WINDOW])

    def test_shrinks_for_a_slow_consumer_where_others_wait(self) -> None:
        """What is not taken soon is not asked for soon."""
        path = Sender(0.0003, speed=1e6)
        for _ in range(50):
            path.round(company=True)
        self.assertEqual(path.window.size, MIN_WINDOW)

    def test_does_not_grow_for_a_slow_consumer(self) -> None:
        """What is not taken is not asked for."""
        window = ReceiveWindow()
        window.receive(INITIAL_WINDOW, still)
        for _ in range(3):
            credit = window.consume(64 * K, False, still)
            window.receive(credit, still)
        self.assertEqual(window.size, INITIAL_WINDOW)

    def test_does_not_grow_for_a_slow_sender(self) -> None:
        """A sender that is never held up needs no more."""
        window = ReceiveWindow()
        for _ in range(10_000):
            window.receive(999, still)
            window.consume(999, False, still)
        self.assertEqual(window.size, INITIAL_WINDOW)

    def test_shrinks_while_too_much_waits_and_grows_again(self) -> None:
        """Above the budget every return of credit is smaller, down to 64 KiB; below it, windows recover."""
        path = Sender(0.064)
        for _ in range(10):
            path.round()
        for _ in range(20):
            path.round(exceeded=True)
        self.assertEqual(path.window.size, MIN_WINDOW)
        for _ in range(20):
            path.round()
        self.assertEqual(path.window.size, MAX_WINDOW)

    @given(
        st.lists(
            st.tuples(st.integers(1, 400 * K), st.floats(0, 1), st.booleans(), st.booleans(), st.floats(0, 0.1)),
            max_size=60,
        )
    )
    def test_every_byte_is_in_one_place(self, steps: list[tuple[int, float, bool, bool, float]]) -> None:
        """Left, held and owed are the size; the sender's credit is what is left; nobody waits for ever."""
        window, credit, now = ReceiveWindow(), INITIAL_WINDOW, 1000.0
        window.path.measured(0.01, now)
        for wish, share, exceeded, company, seconds in steps:
            now += seconds
            window.path.opened += company
            size = min(wish, credit)
            self.assertTrue(window.receive(size, lambda: now))  # noqa: B023
            credit += window.consume(int(window.held * share), exceeded, lambda: now) - size  # noqa: B023
            self.assertEqual(window.left, credit)
            self.assertEqual(window.left + window.held + window.owed, window.size)
            self.assertTrue(MIN_WINDOW <= window.size <= MAX_WINDOW)
            self.assertGreaterEqual(min(window.left, window.held, window.owed), 0)
        credit += window.consume(window.held, False, still)
        self.assertGreater(credit, 0)


class PathTests(SynchronousTestCase):
    """How far the peer is."""

    def test_the_shortest_counts(self) -> None:
        """What waited in queues is no distance; but paths change, and after a while the past is forgotten."""
        path = Path()
        self.assertEqual(path.trip, inf)
        for seconds in (0.02, 0.01, 0.3):
            path.measured(seconds, 1000.0)
        self.assertEqual(path.trip, 0.01)
        path.measured(0.05, 1000.0 + FORGET_SECONDS)
        self.assertEqual(path.trip, 0.01)
        path.measured(0.06, 1000.0 + 2 * FORGET_SECONDS)
        self.assertEqual(path.trip, 0.05)

    def test_nothing_grows_before_it_is_known(self) -> None:
        """A stream that is early keeps the window that it began with."""
        sender = Sender(0.064)
        sender.window.path = Path()
        for _ in range(12):
            sender.round()
        self.assertEqual(sender.window.size, INITIAL_WINDOW)


class BudgetTests(SynchronousTestCase):
    """What waits in the whole process."""

    def test_exceeded(self) -> None:
        """It is exceeded above its limit, not at it."""
        budget = Budget(10)
        budget.waiting = 10
        self.assertFalse(budget.exceeded)
        budget.waiting = 11
        self.assertTrue(budget.exceeded)
