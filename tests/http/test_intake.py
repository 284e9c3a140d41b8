"""What passes, what is dropped, what is counted, whatever way octets are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.intake import PREFACE, BrokenConnection, Budget, Code, Intake
from tests.fakes.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GREETING,
    HEADERS,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)

#: Frames of all kinds that are allowed in this order, and whether the library sees them.
MIXTURE = (
    (PREFACE, True),
    (frame(SETTINGS, 0, 0, b"\0\3\0\0\0\1"), True),
    (frame(PRIORITY, 0, 3, bytes(5)), False),
    (frame(HEADERS, 0, 1, b"abc"), True),
    (frame(CONTINUATION, END_HEADERS, 1, b"defg"), True),
    (frame(0xF0, 0xFF, 7, b"x" * 300), False),
    (frame(DATA, 0, 1, b"d" * 1000), True),
    (frame(GOAWAY, 0, 0, bytes(8)), False),
    (frame(PING, 0, 0, bytes(8)), True),
    (frame(DATA, END_STREAM, 1), True),
)


class BudgetTests(SynchronousTestCase):
    """So many at once, so many a second."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.budget = Budget("too many", 10, 2, lambda: self.now)

    def test_a_burst_and_no_more(self) -> None:
        """The burst may come at once; the next is a flood."""
        for _ in range(10):
            self.budget.spend()
        with pytest.raises(BrokenConnection) as broken:
            self.budget.spend()
        self.assertEqual((broken.value.code, broken.value.text), (Code.ENHANCE_YOUR_CALM, "too many"))

    def test_time_fills_it_again(self) -> None:
        """What comes slower than the rate may come for ever, also when the burst is used up the first time."""
        for _ in range(100):
            self.now += 0.5
            self.budget.spend()

    def test_no_more_is_saved_up_than_the_burst(self) -> None:
        """A quiet day entitles to nothing special."""
        self.now += 86400
        for _ in range(10):
            self.budget.spend()
        self.now += 86400
        for _ in range(11):
            self.budget.spend()
        with pytest.raises(BrokenConnection):
            self.budget.spend()

    def test_work_entitles(self) -> None:
        """What is earned may be spent, up to the burst and a little."""
        for _ in range(1000):
            self.budget.spend()
            self.budget.earn(1)


class IntakeTests(SynchronousTestCase):
    """Frames."""

    def setUp(self) -> None:
        self.intake = Intake(1000, lambda: 0.0)

    def test_a_head_is_under_way(self) -> None:
        """From the first octet of a head to its last, and at no other time."""
        octets = frame(HEADERS, 0, 1, b"abc") + frame(CONTINUATION, END_HEADERS, 1, b"defg")
        self.intake.take(GREETING)
        seen = [self.intake.in_head]
        for at in range(len(octets)):
            self.intake.take(octets[at : at + 1])
            seen.append(self.intake.in_head)
        # Nine octets say what a frame is.
        self.assertEqual(seen, [False] * 9 + [True] * (len(octets) - 9) + [False])

    def test_goodbye_is_heard(self) -> None:
        """A client that says goodbye may still be answered: the library does not hear of it."""
        self.assertEqual(self.intake.take(GREETING + frame(GOAWAY, 0, 0, bytes(8))), GREETING)
        self.assertTrue(self.intake.went_away)

    def test_readers_may_open_windows(self) -> None:
        """Two window updates for every frame of an answer are fine, for ever."""
        self.intake.take(GREETING)
        for _ in range(10_000):
            self.intake.sent_data()
            self.intake.take(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"))

    def test_pieces_are_passed_on_at_once(self) -> None:
        """Nothing but the beginning of a frame's header is held back, nothing that need not be is copied."""
        whole = frame(DATA, 0, 1, b"d" * 1000)
        self.intake.take(GREETING)
        first, second = whole[:100], whole[100:]
        self.assertIs(self.intake.take(first), first)
        self.assertIs(self.intake.take(second), second)
        self.assertEqual(self.intake.take(whole[:8]), b"")


@given(st.lists(st.integers(1, 400), max_size=30))
def test_any_slicing(cuts: list[int]) -> None:
    """What passes is the same, however the octets are cut."""
    octets = b"".join(each for each, _ in MIXTURE)
    intake = Intake(1000, lambda: 0.0)
    passed, at = b"", 0
    for cut in [*cuts, len(octets)]:
        passed += intake.take(octets[at : at + cut])
        at += cut
    assert passed == b"".join(each for each, passes in MIXTURE if passes)
    assert intake.went_away
    assert not intake.in_head


@given(st.binary(max_size=2000))
def test_any_octets(octets: bytes) -> None:
    """Nothing but the one known exception comes of any octets."""
    intake = Intake(1000, lambda: 0.0)
    intake.take(GREETING)
    try:
        passed = intake.take(octets)
    except BrokenConnection:
        return
    assert len(passed) <= len(octets)
