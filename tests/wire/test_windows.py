"""Credit: nothing is lost between what was given, what came, what was taken and what is given back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire.windows import INITIAL_WINDOW, MAX_WINDOW, MIN_WINDOW, Budget, ReceiveWindow

K = 1024


def fill(window: ReceiveWindow, credit: int, piece: int, exceeded: bool = False) -> int:
    """A sender uses all its *credit*, a consumer keeps up; returns the credit that the sender has then."""
    returned = 0
    while credit:
        size = min(piece, credit)
        assert window.receive(size)
        credit -= size
        returned += window.consume(size, exceeded)
    return returned


@pytest.mark.feature("CON-4")
class WindowTests(SynchronousTestCase):
    """One stream's window."""

    def test_credit_goes_back_in_quarters(self) -> None:
        """A WINDOW frame is shared by many small chunks."""
        window = ReceiveWindow()
        given_back = []
        for _ in range(64):
            window.receive(2 * K)
            given_back.append(window.consume(2 * K, False))
        self.assertEqual([credit for credit in given_back if credit], [64 * K, 64 * K])

    def test_a_peer_without_credit_is_noticed(self) -> None:
        """C07: one byte more than was given."""
        window = ReceiveWindow()
        self.assertTrue(window.receive(INITIAL_WINDOW))
        self.assertFalse(window.receive(1))

    def test_no_consumer_takes_more_than_came(self) -> None:
        """Our own mistakes are not given to the peer as credit."""
        window = ReceiveWindow()
        window.receive(10)
        for count in (11, -1):
            with self.assertRaises(ValueError):
                window.consume(count, False)

    def test_grows_when_it_limits(self) -> None:
        """A sender that uses up all it has, to a consumer that keeps up, soon has 8 MiB and never more."""
        window, credit = ReceiveWindow(), INITIAL_WINDOW
        sizes = []
        for _ in range(12):
            credit = fill(window, credit, 32 * K)
            sizes.append(window.size)
        for before, after in pairwise([INITIAL_WINDOW, *sizes]):
            self.assertGreaterEqual(after, min(2 * before, MAX_WINDOW))
        self.assertEqual(sizes[-1], MAX_WINDOW)

    def test_grows_with_pieces_of_any_size(self) -> None:
        """It is where the sender stops that tells, not the size of its frames."""
        for piece in (1000, 7777, 30_001):
            window, credit = ReceiveWindow(), INITIAL_WINDOW
            for _ in range(8):
                credit = fill(window, credit, piece)
            self.assertEqual(window.size, MAX_WINDOW)

    def test_does_not_grow_for_a_slow_consumer(self) -> None:
        """What is not taken is not asked for."""
        window = ReceiveWindow()
        window.receive(INITIAL_WINDOW)
        for _ in range(3):
            credit = window.consume(64 * K, False)
            window.receive(credit)
        self.assertEqual(window.size, INITIAL_WINDOW)

    def test_does_not_grow_for_a_slow_sender(self) -> None:
        """A sender that is never held up needs no more."""
        window = ReceiveWindow()
        for _ in range(10_000):
            window.receive(999)
            window.consume(999, False)
        self.assertEqual(window.size, INITIAL_WINDOW)

    def test_shrinks_while_too_much_waits_and_grows_again(self) -> None:
        """Above the budget every return of credit is smaller, down to 64 KiB; below it, windows recover."""
        window, credit = ReceiveWindow(), INITIAL_WINDOW
        for _ in range(8):
            credit = fill(window, credit, 32 * K)
        for _ in range(20):
            credit = fill(window, credit, 32 * K, exceeded=True)
        self.assertEqual(window.size, MIN_WINDOW)
        for _ in range(20):
            credit = fill(window, credit, 32 * K)
        self.assertEqual(window.size, MAX_WINDOW)

    @given(
        st.lists(
            st.tuples(st.integers(1, 400 * K), st.floats(0, 1), st.booleans()),
            max_size=60,
        )
    )
    def test_every_byte_is_in_one_place(self, steps: list[tuple[int, float, bool]]) -> None:
        """Left, held and owed are the size; the sender's credit is what is left; nobody waits for ever."""
        window, credit = ReceiveWindow(), INITIAL_WINDOW
        for wish, share, exceeded in steps:
            size = min(wish, credit)
            self.assertTrue(window.receive(size))
            credit += window.consume(int(window.held * share), exceeded) - size
            self.assertEqual(window.left, credit)
            self.assertEqual(window.left + window.held + window.owed, window.size)
            self.assertTrue(MIN_WINDOW <= window.size <= MAX_WINDOW)
            self.assertGreaterEqual(min(window.left, window.held, window.owed), 0)
        credit += window.consume(window.held, False)
        self.assertGreater(credit, 0)


class BudgetTests(SynchronousTestCase):
    """What waits in the whole process."""

    def test_exceeded(self) -> None:
        """It is exceeded above its limit, not at it."""
        budget = Budget(10)
        budget.waiting = 10
        self.assertFalse(budget.exceeded)
        budget.waiting = 11
        self.assertTrue(budget.exceeded)
