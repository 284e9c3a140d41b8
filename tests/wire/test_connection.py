"""A connection as its own side uses it: whole exchanges, upgrades, credit, going away, and what is refused to us."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import Side
from appproxy.wire import control, frames
from appproxy.wire.connection import (
    Budget,
    CannotOpen,
    Connection,
    Leaving,
    Misuse,
    NoRoom,
    StreamsExhausted,
    TooManyStreams,
)
from appproxy.wire.events import (
    Answered,
    Control,
    Data,
    GoingAway,
    Ping,
    Pong,
    RequestOpened,
    Reset,
    RoomOpened,
    Trailers,
)
from appproxy.wire.frames import Code
from appproxy.wire.heads import HeadTooLarge, ResponseHead
from appproxy.wire.windows import CHANNEL_WINDOW, INITIAL_WINDOW
from appproxy.wire.writing import NUDGE
from tests.wire.pair import (
    CONTINUE,
    DATA,
    END,
    GOAWAY,
    HEAD,
    OK,
    PING,
    RESET,
    SWITCHING,
    WINDOW,
    carry,
    drain,
    end,
    ends,
    frame,
    said,
    split,
    window,
)


def opened(**options: Any) -> tuple[Connection, Connection]:
    """Both ends with stream 1 open."""
    relay, connector = ends()
    relay.open(HEAD, **options)
    carry(relay, connector)
    return relay, connector


@pytest.mark.feature("CON-4")
class ExchangeTests(SynchronousTestCase):
    """Requests and answers."""

    def test_a_small_exchange(self) -> None:
        """A request without a body and a small answer are one message each way."""
        relay, connector = ends()
        stream = relay.open(HEAD, end=True)
        self.assertEqual(connector.receive(relay.output()), [RequestOpened(stream, HEAD, True, False)])
        connector.answer(stream, OK)
        connector.send(stream, b"hello", end=True)
        self.assertEqual(relay.receive(connector.output()), [Answered(stream, OK, True, False, False, b"hello")])
        self.assertEqual((relay.streams, connector.streams), (0, 0))
        self.assertTrue(relay.is_closed(stream))
        self.assertFalse(relay.pending or connector.pending)

    def test_bodies_both_ways_with_trailers(self) -> None:
        """Bytes and trailers go up and down at the same time."""
        relay, connector = opened()
        connector.answer(1, OK)
        relay.send(1, b"up")
        relay.finish(1, [(b"Up", b"1")])
        connector.send(1, b"down")
        connector.finish(1, [(b"Down", b"2")])
        self.assertEqual(carry(relay, connector), [Data(1, b"up", False), Trailers(1, [(b"Up", b"1")])])
        self.assertEqual(
            carry(connector, relay),
            [Answered(1, OK, False, False, False), Data(1, b"down", False), Trailers(1, [(b"Down", b"2")])],
        )
        self.assertEqual((relay.streams, connector.streams), (0, 0))

    def test_an_answer_without_a_body(self) -> None:
        """Head and end are one frame."""
        relay, connector = opened(end=True)
        connector.answer(1, OK, end=True)
        self.assertEqual(carry(connector, relay), [Answered(1, OK, True, False, False)])
        self.assertTrue(relay.is_closed(1))

    def test_an_early_answer(self) -> None:
        """The answer may end before the request has; the request may still go on."""
        relay, connector = opened()
        connector.answer(1, OK, end=True)
        self.assertEqual(carry(connector, relay), [Answered(1, OK, True, False, False)])
        self.assertFalse(relay.is_closed(1))
        relay.send(1, b"still")
        relay.finish(1)
        self.assertEqual(carry(relay, connector), [Data(1, b"still", False), Data(1, b"", True)])
        self.assertTrue(relay.is_closed(1) and connector.is_closed(1))

    def test_interim_answers(self) -> None:
        """A 100 passes ahead of the answer."""
        relay, connector = opened()
        connector.answer(1, CONTINUE, informational=True)
        connector.answer(1, OK, end=True)
        self.assertEqual(
            carry(connector, relay), [Answered(1, CONTINUE, False, True, False), Answered(1, OK, True, False, False)]
        )

    def test_upgrade(self) -> None:
        """After a 101 both halves are bytes, each with an end of its own."""
        relay, connector = ends()
        relay.open(HEAD, upgrade=True)
        self.assertEqual(carry(relay, connector), [RequestOpened(1, HEAD, False, True)])
        connector.answer(1, SWITCHING, upgrade=True)
        self.assertEqual(carry(connector, relay), [Answered(1, SWITCHING, False, False, True)])
        relay.send(1, b"ping")
        relay.finish(1)
        self.assertEqual(carry(relay, connector), [Data(1, b"ping", False), Data(1, b"", True)])
        connector.send(1, b"pong", end=True)
        self.assertEqual(carry(connector, relay), [Data(1, b"pong", True)])
        self.assertTrue(relay.is_closed(1) and connector.is_closed(1))

    def test_a_refused_upgrade_is_an_ordinary_answer(self) -> None:
        """Any other status leaves the stream an ordinary exchange."""
        relay, connector = opened(upgrade=True)
        connector.answer(1, OK)
        connector.finish(1, [(b"A", b"b")])
        self.assertEqual(carry(connector, relay), [Answered(1, OK, False, False, False), Trailers(1, [(b"A", b"b")])])

    def test_reset(self) -> None:
        """Either side may cut; the other hears code and text, and what was queued does not leave."""
        relay, connector = opened()
        relay.send(1, b"never")
        relay.reset(1, Code.CANCELLED, "the client went away")
        self.assertEqual(carry(relay, connector), [Reset(1, Code.CANCELLED, "the client went away")])
        self.assertEqual((relay.streams, connector.streams), (0, 0))
        relay.reset(1, Code.CANCELLED)
        self.assertFalse(relay.pending)

    def test_what_is_said_on_a_stream_that_is_over_is_dropped(self) -> None:
        """Whoever has not yet heard that a stream was cut may go on for a moment."""
        relay, connector = opened()
        relay.reset(1, Code.CANCELLED)
        carry(relay, connector)
        connector.answer(1, OK)
        connector.send(1, b"x")
        connector.finish(1)
        connector.finish(1, [(b"A", b"b")])
        connector.consumed(1, 5)
        self.assertEqual(connector.room(1), 0)
        self.assertFalse(connector.pending)

    def test_data_in_flight_after_our_reset_is_dropped(self) -> None:
        """A peer that has not yet heard our RESET may still send; that is no error, and its credit comes back."""
        relay, connector = opened()
        connector.answer(1, OK)
        for _ in range(4):
            connector.send(1, b"x" * (INITIAL_WINDOW // 4))
        connector.finish(1, [(b"A", b"b")])
        relay.reset(1, Code.CANCELLED)
        self.assertEqual(carry(connector, relay), [])
        relay.receive(b"".join(frame(DATA, 1, b"x" * 32768) for _ in range(24)))
        self.assertIn(WINDOW, [kind for kind, *_ in said(relay)])

    def test_a_reset_after_the_end_stops_what_is_queued(self) -> None:
        """The peer may lose interest after our half has ended; what has not left stays."""
        relay, connector = opened(end=True)
        connector.answer(1, OK)
        connector.send(1, b"x" * 200_000, end=True)
        relay.receive(connector.output())
        relay.reset(1, Code.CANCELLED)
        self.assertEqual(carry(relay, connector), [])
        self.assertFalse(connector.pending)

    def test_repr(self) -> None:
        """A log line shows side, state and streams."""
        relay, _ = opened()
        self.assertEqual(repr(relay), "<Connection relay up, 1 streams, last 1>")
        relay.goaway()
        self.assertIn("leaving", repr(relay))
        relay.lost()
        self.assertIn("broken", repr(relay))


@pytest.mark.feature("CON-4")
class MisuseTests(SynchronousTestCase):
    """What our own side may not do is an exception of another kind than what a peer may not."""

    def refuses(self, act: Any, *arguments: Any, **options: Any) -> None:
        """The call is refused and nothing is sent."""
        with self.assertRaises(Misuse):
            act(*arguments, **options)

    def test_sides(self) -> None:
        """Connectors open nothing and relays answer nothing."""
        relay, connector = opened()
        self.refuses(connector.open, HEAD)
        self.refuses(relay.answer, 1, OK)
        self.refuses(relay.open, HEAD, end=True, upgrade=True)

    def test_order(self) -> None:
        """No bytes before the answer's head, no second head, nothing after the end."""
        relay, connector = opened()
        self.refuses(connector.send, 1, b"x")
        self.refuses(connector.finish, 1)
        connector.answer(1, OK)
        self.refuses(connector.answer, 1, OK)
        self.refuses(connector.answer, 1, CONTINUE, informational=True)
        connector.finish(1)
        self.refuses(connector.send, 1, b"x")
        self.refuses(connector.finish, 1, [(b"A", b"b")])
        self.assertEqual(len(carry(connector, relay)), 2)

    def test_a_whole_answer_out_of_turn(self) -> None:
        """Not by a relay, not twice, not with a status that no answer with a body has."""
        relay, connector = opened()
        self.refuses(relay.answer_whole, 1, OK, b"x")
        for status in (100, 101):
            self.refuses(connector.answer_whole, 1, ResponseHead(status), b"x")
        with self.assertRaises(HeadTooLarge):
            connector.answer_whole(1, ResponseHead(200, b"", [(b"a", b"x" * 300_000)]), b"x")
        self.assertFalse(connector.pending)
        self.assertTrue(connector.answer_whole(1, OK, b"x"))
        self.refuses(connector.answer_whole, 1, OK, b"x")
        self.assertEqual(carry(connector, relay), [Answered(1, OK, True, False, False, b"x")])

    def test_an_answer_told_whole(self) -> None:
        """Where its only DATA came in the message of its head, whatever of other streams came between."""
        budget = Budget()
        relay, connector = ends(budget)
        for ending in (True, False, True):
            relay.open(HEAD, end=ending)
        carry(relay, connector)
        connector.answer(1, OK)
        connector.answer(2, OK)
        connector.answer(3, OK)
        connector.send(1, b"one", end=True)
        connector.send(2, b"two", end=True)
        connector.send(3, b"thr")
        connector.send(3, b"ee", end=True)
        self.assertEqual(
            carry(connector, relay),
            [
                Answered(1, OK, True, False, False, b"one"),
                Answered(2, OK, True, False, False, b"two"),
                Answered(3, OK, False, False, False),
                Data(3, b"thr", False),
                Data(3, b"ee", True),
            ],
        )
        self.assertEqual((budget.waiting, relay.streams), (5, 1))
        with self.assertRaises(ValueError):
            relay.consumed(2, 1)
        relay.send(2, b"still", end=True)
        self.assertEqual((carry(relay, connector), relay.streams), ([Data(2, b"still", True)], 0))

    def test_an_answer_told_in_parts(self) -> None:
        """Where its DATA came later, is none, or belongs to a pipe."""
        relay, connector = ends()
        relay.open(HEAD, end=True)
        relay.open(HEAD, end=True)
        relay.open(HEAD, upgrade=True)
        carry(relay, connector)
        connector.answer(1, OK)
        head = connector.output()
        connector.send(1, b"x", end=True)
        self.assertEqual(relay.receive(head), [Answered(1, OK, False, False, False)])
        self.assertEqual(carry(connector, relay), [Data(1, b"x", True)])
        connector.answer(2, OK)
        connector.finish(2)
        self.assertEqual(carry(connector, relay), [Answered(2, OK, False, False, False), Data(2, b"", True)])
        connector.answer(3, SWITCHING, upgrade=True)
        connector.send(3, b"x", end=True)
        self.assertEqual(carry(connector, relay), [Answered(3, SWITCHING, False, False, True), Data(3, b"x", True)])

    def test_statuses(self) -> None:
        """A status that does not fit its flags is not sent."""
        _, connector = opened()
        for status, options in (
            (100, {}),
            (101, {}),
            (200, {"informational": True}),
            (101, {"informational": True}),
            (101, {"upgrade": True}),
            (200, {"upgrade": True}),
            (100, {"informational": True, "end": True}),
        ):
            self.refuses(connector.answer, 1, ResponseHead(status), **options)
        self.assertFalse(connector.pending)

    def test_pipes_have_no_trailers(self) -> None:
        """After an upgrade there are only bytes."""
        _, connector = opened(upgrade=True)
        connector.answer(1, SWITCHING, upgrade=True)
        self.refuses(connector.finish, 1, [(b"A", b"b")])

    def test_more_than_there_is_room_for(self) -> None:
        """Whoever writes asks for room first."""
        relay, _ = opened()
        with self.assertRaises(NoRoom):
            relay.send(1, b"x" * (INITIAL_WINDOW + 1))
        self.assertEqual(relay.room(1), INITIAL_WINDOW)

    def test_nothing_is_not_sent(self) -> None:
        """An empty send without an end costs no frame."""
        relay, _ = opened()
        relay.send(1, b"")
        self.assertFalse(relay.pending)

    def test_too_large(self) -> None:
        """A head that no channel carries leaves the stream as it was, so that another answer can be given."""
        relay, connector = opened()
        large = [(b"a", b"x" * 300_000)]
        with self.assertRaises(HeadTooLarge):
            relay.open(type(HEAD)(b"GET", b"/" * 300_000, HEAD.packed))
        with self.assertRaises(HeadTooLarge):
            connector.answer(1, ResponseHead(200, b"", large))
        connector.answer(1, OK)
        with self.assertRaises(HeadTooLarge):
            connector.finish(1, large)
        connector.finish(1)
        self.assertEqual(len(carry(connector, relay)), 2)
        self.assertEqual(relay.open(HEAD), 2)

    def test_pings_are_eight_bytes(self) -> None:
        """And not those by which the connection itself asks."""
        relay, _ = ends()
        self.refuses(relay.ping, b"short")
        self.refuses(relay.ping, NUDGE)


@pytest.mark.feature("CON-4")
class CreditTests(SynchronousTestCase):
    """A slow stream waits, the others do not; nothing grows behind anyone's back."""

    def test_a_slow_consumer_stops_its_own_stream_only(self) -> None:
        """C09, C10: without consumption a stream sends one window and no more; its neighbour goes on."""
        relay, connector = ends()
        for stream in (1, 2):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(stream, OK)
        connector.send(1, b"x" * INITIAL_WINDOW)
        carry(connector, relay)
        self.assertEqual(connector.room(1), 0)
        total = 0
        while total < 64 * 1024 * 1024:
            size = connector.room(2)
            self.assertGreater(size, 0)
            connector.send(2, b"y" * size)
            total += size
            for event in carry(connector, relay):
                relay.consumed(event.stream, len(event.data))
            self.assertNotIn(RoomOpened(1), carry(relay, connector))

    def test_a_whole_answer_needs_room(self) -> None:
        """What takes several frames, or more credit than stream and channel have, is left to be sent in parts."""
        _, connector = opened()
        self.assertFalse(connector.answer_whole(1, OK, b"x" * (frames.MAX_DATA + 1)))
        self.assertFalse(connector.answer_whole(1, OK, b""))
        for holder in (connector._out, connector._streams[1]):
            holder.credit, before = 9, holder.credit  # type: ignore[attr-defined]
            self.assertFalse(connector.answer_whole(1, OK, b"x" * 10))
            holder.credit = before  # type: ignore[attr-defined]
        connector._out.waiting[7] = connector._streams[1]
        self.assertFalse(connector.answer_whole(1, OK, b"x"))
        connector._out.waiting.clear()
        self.assertFalse(connector.pending)
        connector.reset(1, Code.CANCELLED)
        drain(connector)
        self.assertTrue(connector.answer_whole(1, OK, b"x"), "what is over wants nothing more")
        self.assertFalse(connector.pending)

    def test_room_opens_when_the_consumer_takes(self) -> None:
        """Who was told to wait is told to go on."""
        relay, connector = opened(end=True)
        connector.answer(1, OK)
        connector.send(1, b"x" * INITIAL_WINDOW)
        carry(connector, relay)
        self.assertEqual(connector.room(1), 0)
        self.assertFalse(relay.consumed(1, 1000), "not worth a frame")
        self.assertEqual(carry(relay, connector), [])
        self.assertTrue(relay.consumed(1, INITIAL_WINDOW - 1000))
        self.assertEqual(carry(relay, connector), [RoomOpened(1)])
        self.assertEqual(connector.room(1), INITIAL_WINDOW)

    def test_who_did_not_ask_is_not_told(self) -> None:
        """RoomOpened is only for those who heard that there is none."""
        relay, connector = opened(end=True)
        connector.answer(1, OK)
        connector.send(1, b"x" * INITIAL_WINDOW)
        carry(connector, relay)
        relay.consumed(1, INITIAL_WINDOW)
        self.assertEqual(carry(relay, connector), [])

    def test_the_channel_window(self) -> None:
        """What is under way in a channel is bounded, comes back on receipt, and everyone who waits is told."""
        relay, connector = ends()
        for stream in range(1, 67):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(stream, OK)
        for stream in range(1, 65):
            connector.send(stream, b"x" * INITIAL_WINDOW)
        self.assertEqual((connector.room(65), connector.room(66)), (0, 0))
        carry(connector, relay)
        self.assertEqual(carry(relay, connector), [RoomOpened(65), RoomOpened(66)])
        self.assertGreater(connector.room(65), 0)

    def test_starved_of_both(self) -> None:
        """A stream that gets credit of its own while the channel has none goes on when the channel has."""
        relay, connector = opened(end=True)
        connector.answer(1, OK)
        connector.send(1, b"x" * INITIAL_WINDOW)
        self.assertEqual(connector.room(1), 0)
        for stream in range(2, 65):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(stream, OK)
            connector.send(stream, b"x" * INITIAL_WINDOW)
        self.assertEqual(connector.receive(window(1, 1000)), [])
        self.assertEqual(connector.receive(window(0, CHANNEL_WINDOW)), [RoomOpened(1)])
        self.assertEqual(connector.room(1), 1000)

    def test_a_reset_that_makes_room_wakes_the_waiting(self) -> None:
        """When nothing is under way that would, the peer is asked to speak."""
        relay, connector = ends()
        for stream in range(1, 66):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(stream, OK)
        for stream in range(1, 65):
            connector.send(stream, b"x" * INITIAL_WINDOW)
        self.assertEqual(connector.room(65), 0)
        connector.reset(64, Code.ORIGIN_BROKE_OFF)
        message = connector.output(65536)
        self.assertIn((PING, 0, 0, NUDGE), split(message))
        relay.receive(message)
        self.assertEqual(carry(relay, connector), [RoomOpened(65)])
        self.assertGreaterEqual(connector.room(65), frames.MAX_DATA)

    def test_a_wakening_that_comes_too_late(self) -> None:
        """The room may have been taken before the peer has spoken; the line stays."""
        relay, connector = ends()
        for stream in range(1, 67):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(stream, OK)
        for stream in range(1, 65):
            connector.send(stream, b"x" * INITIAL_WINDOW)
        self.assertEqual(connector.room(65), 0)
        connector.reset(64, Code.ORIGIN_BROKE_OFF)
        while size := connector.room(66):
            connector.send(66, b"x" * size)
        self.assertEqual(connector.receive(frame(PING, 0, NUDGE, END)), [])
        self.assertEqual(connector.receive(window(0, 1000)), [RoomOpened(65)])

    def test_who_waits_may_end(self) -> None:
        """A stream that ends with trailers leaves the line."""
        relay, connector = ends()
        for stream in range(1, 66):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(stream, OK)
        for stream in range(1, 65):
            connector.send(stream, b"x" * INITIAL_WINDOW)
        self.assertEqual(connector.room(65), 0)
        connector.finish(65, [(b"A", b"b")])
        self.assertEqual(connector.receive(window(0, CHANNEL_WINDOW)), [])

    def test_who_waits_may_be_reset(self) -> None:
        """A stream that was cut is not told of room."""
        relay, connector = ends()
        for stream in range(1, 66):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(stream, OK)
        for stream in range(1, 65):
            connector.send(stream, b"x" * INITIAL_WINDOW)
        self.assertEqual(connector.room(65), 0)
        connector.reset(65, Code.IDLE)
        self.assertEqual(connector.receive(window(0, CHANNEL_WINDOW)), [])

    def test_consumed_after_the_end(self) -> None:
        """The budget counts what a consumer has not taken, also of streams that have ended."""
        budget = Budget()
        relay, connector = ends(budget)
        relay.open(HEAD, end=True)
        carry(relay, connector)
        connector.answer(1, OK)
        carry(connector, relay)
        connector.send(1, b"x" * 1000, end=True)
        carry(connector, relay)
        self.assertEqual(budget.waiting, 1000)
        relay.consumed(1, 400)
        with self.assertRaises(ValueError):
            relay.consumed(1, 601)
        relay.consumed(1, 600)
        self.assertEqual((budget.waiting, relay._leftover), (0, {}))
        relay.consumed(1, 0)
        self.assertFalse(relay.pending)

    def test_no_credit_for_a_half_that_has_ended(self) -> None:
        """Who has ended needs none."""
        relay, connector = opened()
        relay.send(1, b"x" * INITIAL_WINDOW)
        relay.finish(1)
        carry(relay, connector)
        connector.consumed(1, INITIAL_WINDOW)
        self.assertFalse(connector.pending)

    def test_consumed_before_anything_came(self) -> None:
        """More was taken than came: our own mistake."""
        relay, _ = opened()
        relay.consumed(1, 0)
        with self.assertRaises(ValueError):
            relay.consumed(1, 1)

    def test_the_budget_is_given_back(self) -> None:
        """However a stream or a channel ends, what it held no longer counts."""
        budget = Budget()
        relay, connector = ends(budget)
        for stream in (1, 2, 3):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(stream, OK)
            carry(connector, relay)
            connector.send(stream, b"x" * 1000, end=stream == 3)
        carry(connector, relay)
        self.assertEqual(budget.waiting, 3000)
        relay.reset(1, Code.CANCELLED)
        self.assertEqual(budget.waiting, 2000)
        self.assertEqual(relay.lost(), [2])
        self.assertEqual(budget.waiting, 0)

    def test_windows_shrink_above_the_budget(self) -> None:
        """When too much waits in the process, streams get back less than they used."""
        budget = Budget(1)
        relay, connector = ends(budget)
        relay.open(HEAD, end=True)
        carry(relay, connector)
        connector.answer(1, OK)
        room = []
        for _ in range(3):
            size = connector.room(1)
            room.append(size)
            connector.send(1, b"x" * size)
            carry(connector, relay)
            relay.consumed(1, size)
            carry(relay, connector)
        self.assertEqual(room, [256 * 1024, 128 * 1024, 64 * 1024])


@pytest.mark.feature("CON-7")
class LeavingTests(SynchronousTestCase):
    """Going away: nothing new, and nothing in flight is lost."""

    def test_goaway_of_a_connector(self) -> None:
        """What began before it is finished; what came after it is refused, so that another may be tried."""
        relay, connector = opened(end=True)
        relay.open(HEAD, end=True)
        connector.goaway(Code.NONE, "upgrade", retry_after_ms=250)
        self.assertEqual(
            carry(connector, relay),
            [
                GoingAway(1, Code.NONE, 250, "upgrade"),
                Reset(2, Code.REFUSED, "the connector went away before it began"),
            ],
        )
        self.assertEqual(carry(relay, connector), [])
        self.assertEqual([(kind, stream) for kind, _, stream, _ in split(connector.output())], [(RESET, 2)])
        with self.assertRaises(Leaving):
            relay.open(HEAD)
        connector.answer(1, OK, end=True)
        self.assertEqual(carry(connector, relay), [Answered(1, OK, True, False, False)])

    def test_goaway_twice(self) -> None:
        """The last stream stays what it was, whatever was refused in between."""
        relay, connector = opened(end=True)
        connector.goaway()
        relay.open(HEAD)
        carry(relay, connector)
        connector.goaway(Code.NONE, "now")
        self.assertEqual([event for event in carry(connector, relay) if type(event) is GoingAway][1].last, 1)

    def test_goaway_of_a_relay(self) -> None:
        """It opens nothing more; the connector finishes."""
        relay, connector = opened(end=True)
        relay.goaway(Code.NONE, "stopping")
        with self.assertRaises(CannotOpen):
            relay.open(HEAD)
        self.assertEqual(carry(relay, connector), [GoingAway(1, Code.NONE, 0, "stopping")])
        connector.answer(1, OK, end=True)
        self.assertEqual(len(carry(connector, relay)), 1)

    def test_late_refusals_are_no_error(self) -> None:
        """A RESET for a stream that the GOAWAY ended already is ignored."""
        relay, connector = ends()
        connector.goaway()
        relay.open(HEAD)
        carry(relay, connector)
        self.assertEqual(len(carry(connector, relay)), 2)
        self.assertEqual(relay.streams, 0)

    def test_ids_are_used_up(self) -> None:
        """C04: ids never go back; the channel says that it is to be replaced."""
        relay, connector = ends(last_stream=2)
        self.assertEqual([relay.open(HEAD), relay.open(HEAD)], [1, 2])
        with self.assertRaises(StreamsExhausted):
            relay.open(HEAD)
        self.assertEqual([type(event) for event in carry(relay, connector)], [RequestOpened, RequestOpened, GoingAway])
        with self.assertRaises(Leaving):
            relay.open(HEAD)

    def test_too_many(self) -> None:
        """As many as the limit says; one that ends makes place for another."""
        relay = end(Side.RELAY, max_streams=1)
        relay.open(HEAD)
        with self.assertRaises(TooManyStreams):
            relay.open(HEAD)
        relay.reset(1, Code.CANCELLED)
        self.assertEqual(relay.open(HEAD), 2)

    def test_a_stream_counts_until_its_last_bytes_have_left(self) -> None:
        """A head goes ahead of bodies, but the peer must not see more streams than there may be."""
        relay, connector = ends(max_streams=1)
        relay.open(HEAD)
        carry(relay, connector)
        connector.answer(1, OK, end=True)
        carry(connector, relay)
        relay.send(1, b"last", end=True)
        self.assertEqual(relay.streams, 0)
        with self.assertRaises(TooManyStreams):
            relay.open(HEAD)
        carry(relay, connector)
        self.assertEqual(relay.open(HEAD), 2)
        self.assertEqual(carry(relay, connector), [RequestOpened(2, HEAD, False, False)])

    def test_lost(self) -> None:
        """The carrier's end cuts all streams, each named once; nothing can be opened or said."""
        relay, _ = opened()
        relay.open(HEAD)
        self.assertEqual(relay.lost(), [1, 2])
        self.assertEqual(relay.lost(), [])
        self.assertFalse(relay.pending)
        self.assertEqual(relay.receive(b"anything"), [])
        with self.assertRaises(Leaving):
            relay.open(HEAD)


@pytest.mark.feature("CON-4")
class ChannelTests(SynchronousTestCase):
    """What belongs to no stream."""

    def test_ping(self) -> None:
        """It is answered at once, ahead of everything."""
        relay, connector = ends()
        connector.ping(b"12345678")
        self.assertEqual(carry(connector, relay), [Ping(b"12345678")])
        self.assertEqual(carry(relay, connector), [Pong(b"12345678", None)])

    def test_the_store_age(self) -> None:
        """A relay says how old its last access to the store is; numbers out of range are bent into it."""
        relay, connector = ends()
        for age, told in ((1234, 1234), (-1, 0), (2**40, 2**32 - 1)):
            relay.store_age_ms = age
            connector.ping(b"12345678")
            carry(connector, relay)
            self.assertEqual(carry(relay, connector), [Pong(b"12345678", told)])

    def test_the_same_ping_twice(self) -> None:
        """Each is answered by itself."""
        relay, connector = ends()
        connector.ping(b"12345678")
        connector.ping(b"12345678")
        carry(connector, relay)
        self.assertEqual(carry(relay, connector), [Pong(b"12345678", None)] * 2)

    def test_documents(self) -> None:
        """A document arrives as the map that it is, and has its type for the asking."""
        relay, connector = ends()
        connector.control(control.Applied(version=7))
        connector.control({"type": "drain"})
        events = carry(connector, relay)
        self.assertEqual(events, [Control({"type": "applied", "version": 7}), Control({"type": "drain"})])
        self.assertEqual(control.parse({"type": "applied", "version": 7}), control.Applied(version=7))

    def test_unknown_kinds_are_skipped(self) -> None:
        """A newer peer may say what we do not know."""
        relay, connector = opened()
        octets = frame(77, 3, b"whatever", 255) + frame(DATA, 1, b"x")
        self.assertEqual(connector.receive(octets), [Data(1, b"x", False)])
        self.assertEqual(relay.streams, 1)

    def test_frames_may_be_cut_anywhere(self) -> None:
        """Byte by byte is as good as whole."""
        relay, connector = ends()
        relay.open(HEAD)
        relay.send(1, b"hello")
        relay.ping(b"12345678")
        relay.finish(1)
        octets = drain(relay)
        events = []
        for at in range(len(octets)):
            events += connector.receive(octets[at : at + 1])
        self.assertEqual(
            events,
            [RequestOpened(1, HEAD, False, False), Ping(b"12345678"), Data(1, b"hello", False), Data(1, b"", True)],
        )

    def test_the_default_clock(self) -> None:
        """A connection may be made of its side alone."""
        connection = Connection(Side.RELAY)
        connection.goaway()
        self.assertEqual([kind for kind, *_ in said(connection)], [GOAWAY])
