"""Pings to idle clients: at the border of frames, when nothing moves, and never a trace of them at the origin."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.websocket_frames import PING_OCTETS, ping
from appproxy.relay.front.pinging import MAX_AWAITED, Pinging
from tests.http.test_websocket_frames import frame


@pytest.mark.feature("HTTP-4")
class PingingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[bytes] = []
        count = iter(range(1, 100))
        self.pinging = Pinging(self.clock, 30.0, self.written.append, lambda size: next(count).to_bytes(size, "big"))

    def payload(self, number: int) -> bytes:
        return number.to_bytes(PING_OCTETS, "big")

    def pong(self, number: int) -> bytes:
        return frame(0xA, self.payload(number), mask=b"abcd")

    def test_after_silence(self) -> None:
        """After so many seconds of silence in both directions there is a ping; what moves puts it off."""
        self.clock.advance(29)
        self.pinging.down(frame(0x1, b"news"))
        self.clock.advance(29)
        self.assertEqual(self.pinging.up(frame(0x1, b"thanks", mask=b"abcd")), frame(0x1, b"thanks", mask=b"abcd"))
        self.clock.pump([1.0] * 29)
        self.assertEqual(self.written, [])
        self.clock.advance(1)
        self.assertEqual(self.written, [ping(self.payload(1))])

    def test_the_answer_goes_no_further(self) -> None:
        """The origin never hears of it; its own pings and their answers pass."""
        self.clock.advance(30)
        own = frame(0xA, b"origin's own", mask=b"wxyz")
        self.assertEqual(self.pinging.up(own + self.pong(1) + own), own + own)
        self.assertEqual(self.pinging.up(self.pong(1)), self.pong(1))

    def test_never_within_a_frame(self) -> None:
        """An origin that stops in the middle of a frame is not interrupted."""
        whole = frame(0x2, b"x" * 1000)
        self.pinging.down(whole[:500])
        self.clock.pump([1.0] * 120)
        self.assertEqual(self.written, [])
        self.pinging.down(whole[500:])
        self.clock.pump([1.0] * 35)
        self.assertEqual(self.written, [ping(self.payload(1))])

    def test_clients_that_do_not_answer(self) -> None:
        """They are asked again; what is remembered of it is bounded, and an answer to the last one counts."""
        for _ in range(3 * MAX_AWAITED):
            self.clock.advance(30)
        self.assertEqual(len(self.written), 3 * MAX_AWAITED)
        self.assertEqual(len(self.pinging._awaited), MAX_AWAITED)
        self.assertEqual(self.pinging.up(self.pong(3 * MAX_AWAITED)), b"")

    def test_clients_that_do_not_read(self) -> None:
        """Nothing is added to what they have not read yet."""
        self.pinging.held_back = True
        self.clock.pump([30.0] * 3)
        self.assertEqual(self.written, [])
        self.pinging.held_back = False
        self.clock.advance(30)
        self.assertEqual(len(self.written), 1)

    def test_not_after_the_end(self) -> None:
        """After a Close frame of either side, or when these turn out to be no frames, there is no ping, nor a timer."""
        for direction, last in (
            ("down", frame(0x8, b"\x03\xe8")),
            ("up", frame(0x8, b"\x03\xe8", mask=b"abcd")),
            ("down", b"SSH-2.0"),
            ("up", b"SSH-2.0"),
        ):
            self.setUp()
            getattr(self.pinging, direction)(last)
            self.clock.pump([30.0] * 3)
            self.assertEqual((self.written, self.clock.getDelayedCalls()), ([], []), (direction, last))

    def test_stopped(self) -> None:
        """A client that says no more is asked no more; what was held back of its words is not lost."""
        self.clock.advance(30)
        self.assertEqual(self.pinging.up(self.pong(1)[:9]), b"")
        self.assertEqual(self.pinging.up_ended(), self.pong(1)[:9])
        self.pinging.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
