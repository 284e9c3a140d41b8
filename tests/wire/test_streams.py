"""The life of a stream: every pair of state and input is decided."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire.streams import DOWN_OPEN, MOVES, TABLE, UP_OPEN, Input, State


class TableTests(SynchronousTestCase):
    """The table itself; who may send what is shown with whole connections."""

    def test_every_pair_is_decided(self) -> None:
        """Any input in any state either moves to a state or is refused, and the fast table says the same."""
        for state in State:
            for happened in Input:
                self.assertIs(MOVES[state][happened], TABLE.get((state, happened)))

    def test_an_ordinary_exchange(self) -> None:
        """Request, its end, the answer, its end."""
        state = State.IDLE
        for happened in (
            Input.REQUEST,
            Input.UP,
            Input.UP_END,
            Input.INTERIM,
            Input.ANSWER,
            Input.DOWN,
            Input.DOWN_END,
        ):
            state = TABLE[state, happened]
        self.assertIs(state, State.CLOSED)

    def test_an_early_answer(self) -> None:
        """The answer may begin and end before the request has ended."""
        state = State.IDLE
        for happened in (Input.REQUEST, Input.ANSWER, Input.DOWN_END, Input.UP, Input.UP_END):
            state = TABLE[state, happened]
        self.assertIs(state, State.CLOSED)

    def test_what_never_happens(self) -> None:
        """C05, C06: bytes before the head, two heads and anything after the end are in no row."""
        for pair in (
            (State.IDLE, Input.UP),
            (State.IDLE, Input.DOWN),
            (State.IDLE, Input.RESET),
            (State.ASKING, Input.DOWN),
            (State.ASKED, Input.DOWN_END),
            (State.ASKED, Input.UP),
            (State.OPEN, Input.ANSWER),
            (State.OPEN, Input.INTERIM),
            (State.ANSWERING, Input.UP),
            (State.ANSWERED, Input.DOWN),
        ):
            self.assertNotIn(pair, TABLE)
        for happened in set(Input) - {Input.RESET}:
            self.assertNotIn((State.CLOSED, happened), TABLE)

    @given(st.lists(st.sampled_from(Input)))
    def test_closed_is_the_end_of_every_path(self, inputs: list[Input]) -> None:
        """Whatever happens, a half never opens again and a closed stream stays closed."""
        state = State.IDLE
        up = down = True
        for happened in inputs:
            state = TABLE.get((state, happened), state)
            if state is State.IDLE:
                continue
            self.assertLessEqual(state in UP_OPEN, up)
            self.assertLessEqual(state in DOWN_OPEN, down)
            up, down = state in UP_OPEN, state in DOWN_OPEN
            self.assertEqual(state is State.CLOSED, not up and not down)
