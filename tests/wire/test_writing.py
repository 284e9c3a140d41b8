"""What leaves first, and who takes turns."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire.frames import MAX_DATA, encode
from appproxy.wire.streams import Stream
from appproxy.wire.windows import CHANNEL_WINDOW, INITIAL_WINDOW
from appproxy.wire.writing import NUDGE, Outbox
from tests.wire.pair import DATA, END, PING, split


def take_all(outbox: Outbox, limit: int = 65536) -> list[tuple[int, int, int, bytes]]:
    """Every frame in the order in which it leaves."""
    found = []
    while message := outbox.take(limit):
        found += split(message)
    return found


@pytest.mark.feature("CON-4")
class OrderTests(SynchronousTestCase):
    """The order of frames."""

    def test_nothing(self) -> None:
        """An empty outbox has nothing to say."""
        outbox = Outbox()
        self.assertFalse(outbox.pending)
        self.assertEqual(outbox.take(65536), b"")

    def test_small_frames_go_ahead(self) -> None:
        """A PING does not wait for the bodies queued before it."""
        outbox = Outbox()
        outbox.send(Stream(1), b"x" * 100_000, False)
        outbox.put_first(encode(PING, 0, 0, b"12345678"))
        self.assertEqual(split(outbox.take(100))[0][0], PING)

    def test_streams_take_turns(self) -> None:
        """One that has much to say does not delay one that has little."""
        outbox = Outbox()
        outbox.send(Stream(1), b"a" * 8 * MAX_DATA, True)
        outbox.send(Stream(3), b"b" * 2 * MAX_DATA, True)
        outbox.send(Stream(5), b"c", True)
        self.assertEqual(
            [(stream, flags) for _, flags, stream, _ in take_all(outbox)],
            [(1, 0), (3, 0), (5, END), (1, 0), (3, END), *[(1, 0)] * 5, (1, END)],
        )

    def test_large_sends_are_cut_into_frames(self) -> None:
        """No DATA frame is larger than 32 KiB, nothing is lost and only the last ends."""
        outbox = Outbox()
        outbox.send(Stream(1), bytes(range(256)) * 257, True)
        frames = take_all(outbox)
        self.assertEqual([len(payload) for *_, payload in frames], [MAX_DATA, MAX_DATA, 256])
        self.assertEqual(b"".join(payload for *_, payload in frames), bytes(range(256)) * 257)
        self.assertEqual([flags for _, flags, _, _ in frames], [0, 0, END])

    def test_messages_are_of_about_the_limit(self) -> None:
        """Frames share a message up to the limit; one that is larger travels alone."""
        outbox = Outbox()
        for size in (10, 50, 60, 500, 10):
            outbox.put_first(encode(0, 0, 0, bytes(size)))
        outbox.send(Stream(1), bytes(300), False)
        outbox.send(Stream(3), bytes(20), False)
        outbox.send(Stream(5), bytes(20), False)
        sizes = []
        while outbox.pending:
            sizes.append([len(payload) for *_, payload in split(outbox.take(100))])
        self.assertEqual(sizes, [[10, 50], [60], [500], [10], [300], [20, 20]])

    def test_forced_bytes_count_until_the_peer_has_read(self) -> None:
        """What the peer made us say is forgotten once it has left."""
        outbox = Outbox()
        outbox.force(bytes(12))
        self.assertEqual(outbox.forced, 12)
        outbox.take(100)
        self.assertEqual(outbox.forced, 0)

    def test_abandon(self) -> None:
        """Nothing leaves a channel that is broken."""
        outbox = Outbox()
        outbox.put_first(b"x")
        outbox.send(Stream(1), b"y", False)
        outbox.abandon()
        self.assertFalse(outbox.pending)


@pytest.mark.feature("CON-4")
class RoomTests(SynchronousTestCase):
    """Who may send how much."""

    def test_room_is_the_lesser_credit(self) -> None:
        """The stream's or the channel's, whichever is smaller; what is queued has been taken from both."""
        outbox, stream = Outbox(), Stream(1)
        self.assertEqual(outbox.room(stream), INITIAL_WINDOW)
        outbox.send(stream, b"x" * 1000, False)
        self.assertEqual(outbox.room(stream), INITIAL_WINDOW - 1000)
        self.assertEqual(outbox.credit, CHANNEL_WINDOW - 1000)
        outbox.credit = 5
        self.assertEqual(outbox.room(stream), 5)

    def test_no_room(self) -> None:
        """Who is told that there is none is remembered by the credit that it lacks."""
        outbox, poor, rich = Outbox(), Stream(1), Stream(3)
        poor.credit = 0
        self.assertEqual(outbox.room(poor), 0)
        self.assertTrue(poor.starved)
        outbox.credit = 0
        self.assertEqual(outbox.room(rich), 0)
        self.assertEqual(list(outbox.waiting), [3])

    def test_little_channel_credit_is_shared(self) -> None:
        """While others wait, nobody takes all; but nobody is sent away with less than a frame."""
        outbox = Outbox()
        streams = [Stream(number) for number in (1, 3, 5)]
        for stream in streams:
            stream.credit = CHANNEL_WINDOW
        outbox.credit = 0
        for stream in streams:
            outbox.room(stream)
        outbox.credit = 400_000
        self.assertEqual(outbox.room(streams[0]), 100_000)
        outbox.credit = 40_000
        self.assertEqual(outbox.room(streams[0]), MAX_DATA)
        outbox.credit = 4
        self.assertEqual(outbox.room(streams[0]), 4)

    def test_who_has_sent_stands_at_the_end(self) -> None:
        """The line is in the order of asking, and sending ends a place in it."""
        outbox = Outbox()
        first, second = Stream(1), Stream(3)
        outbox.credit = 0
        outbox.room(first)
        outbox.room(second)
        outbox.credit = 10
        outbox.send(first, b"0123456789", False)
        outbox.room(first)
        self.assertEqual(list(outbox.waiting), [3, 1])

    def test_a_dropped_stream_gives_its_credit_back(self) -> None:
        """What never left does not count; trailers never did."""
        outbox, stream = Outbox(), Stream(1)
        outbox.send(stream, b"x" * 100_000, False)
        outbox.put(stream, encode(1, 5, 1, b"trailers")[:10], b"trailers")
        outbox.drop(stream)
        self.assertEqual(outbox.credit, CHANNEL_WINDOW)
        self.assertFalse(outbox.pending)
        outbox.drop(stream)

    def test_room_made_by_dropping_wakes_the_waiting(self) -> None:
        """The peer is made to speak once, so that whoever waits is told."""
        outbox, big, also, small = Outbox(), Stream(1), Stream(3), Stream(5)
        outbox.send(big, b"x" * 1000, False)
        outbox.send(also, b"x" * 1000, False)
        outbox.credit = 0
        outbox.room(small)
        outbox.drop(big)
        outbox.drop(also)
        self.assertEqual(take_all(outbox), [(PING, 0, 0, NUDGE)])
        self.assertEqual(outbox.credit, 2000)

    def test_forget(self) -> None:
        """A stream that has ended for us, but not for the peer, is dropped by its number."""
        outbox = Outbox()
        outbox.send(Stream(1), b"x", True)
        outbox.send(Stream(3), b"y", True)
        outbox.forget(3)
        outbox.forget(4)
        self.assertEqual(take_all(outbox), [(DATA, END, 1, b"x")])
