"""Channels: batching, liveness, violation, loss."""

from __future__ import annotations

import struct

from twisted.trial.unittest import SynchronousTestCase

from appproxy.channel.protocol import DEAD_TICKS, PING_TICKS, TICK_SECONDS, WAKES_PER_MESSAGE
from appproxy.wire.frames import Code
from appproxy.wire.heads import ResponseHead
from tests.fakes.channels import Pair, RecordingReceiver


class ChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()

    def test_frames_of_a_turn_leave_as_one_message(self) -> None:
        """A few requests opened in one turn cost one message."""
        for _ in range(WAKES_PER_MESSAGE - 1):
            self.pair.request(RecordingReceiver())
        self.assertEqual(len(self.pair.relay_carrier.sent), 0)
        self.pair.clock.advance(0)
        self.assertEqual(len(self.pair.relay_carrier.sent), 1)

    def test_a_long_turn_sends_as_it_goes(self) -> None:
        """Many requests of one turn leave in messages of several, the first ones before the turn has ended."""
        for _ in range(3 * WAKES_PER_MESSAGE + 1):
            self.pair.request(RecordingReceiver())
        self.assertEqual(len(self.pair.relay_carrier.sent), 3)
        self.pair.clock.advance(0)
        self.assertEqual(len(self.pair.relay_carrier.sent), 4)
        self.pair.run()
        self.assertEqual(len(self.pair.opener.streams), 3 * WAKES_PER_MESSAGE + 1)

    def test_nothing_leaves_while_the_socket_is_full(self) -> None:
        """A paused carrier is given nothing until it is resumed."""
        self.pair.relay.pauseProducing()
        self.pair.request(RecordingReceiver())
        self.pair.clock.advance(0)
        self.assertEqual(len(self.pair.relay_carrier.sent), 0)
        self.pair.relay.resumeProducing()
        self.pair.clock.advance(0)
        self.assertEqual(len(self.pair.relay_carrier.sent), 1)

    def test_the_path_is_measured(self) -> None:
        """By a PING when the channel opens, and now and then while it is in use; an idle one is left alone."""
        path = self.pair.relay.connection.path
        self.pair.run()
        before = path.trip
        self.assertLess(before, 1.0)
        self.pair.request(RecordingReceiver())
        self.pair.run()
        self.pair.clock.advance(TICK_SECONDS)
        self.assertIsNotNone(self.pair.relay._pinged)
        self.pair.run()
        self.assertIsNone(self.pair.relay._pinged)

    def test_silence_is_answered_by_ping_then_death(self) -> None:
        """After 10 s of silence a PING is sent, after 15 s the carrier is cut (C31)."""
        self.pair.connector._ticking.cancel()
        self.pair.clock.advance(TICK_SECONDS)  # hears of the opening
        for _ in range(PING_TICKS - 1):
            self.pair.clock.advance(TICK_SECONDS)
        self.pair.clock.advance(0)
        self.assertEqual(len(self.pair.relay_carrier.sent), 0)
        self.pair.clock.advance(TICK_SECONDS)
        self.pair.clock.advance(0)
        self.assertEqual(len(self.pair.relay_carrier.sent), 1)
        self.assertFalse(self.pair.relay_carrier.aborted)
        for _ in range(DEAD_TICKS - PING_TICKS):
            self.pair.clock.advance(TICK_SECONDS)
        self.assertTrue(self.pair.relay_carrier.aborted)

    def test_a_live_peer_answers_the_ping(self) -> None:
        """Two idle ends keep each other alive for as long as they like."""
        for _ in range(100):
            self.pair.clock.advance(TICK_SECONDS)
            self.pair.run()
        self.assertFalse(self.pair.relay_carrier.aborted)
        self.assertFalse(self.pair.connector_carrier.aborted)

    def test_loss_resets_every_stream_once(self) -> None:
        """A lost carrier ends all streams and tells the owner last."""
        receivers = [RecordingReceiver() for _ in range(3)]
        for receiver in receivers:
            self.pair.request(receiver)
        self.pair.run()
        self.pair.relay.carrier_closed(1006, "cut")
        self.pair.relay.carrier_closed(1006, "cut")
        self.assertEqual([len(receiver.resets) for receiver in receivers], [1, 1, 1])
        self.assertEqual(self.pair.relay_owner.lost, [(1006, "cut")])
        self.assertFalse(self.pair.relay.usable)

    def test_violation_closes_with_a_reason_and_ends_streams(self) -> None:
        """C11: a frame of impossible length closes the channel from its header alone; streams end at once."""
        receiver = RecordingReceiver()
        self.pair.request(receiver)
        self.pair.run()
        self.pair.relay.message_received(struct.pack("!IBBI", 2**31, 2, 0, 1))
        self.assertEqual(self.pair.relay_carrier.closed[0], 1002)  # type: ignore[index]
        self.assertEqual(len(receiver.resets), 1)
        self.pair.clock.advance(3)
        self.assertTrue(self.pair.relay_carrier.aborted)

    def test_messages_of_another_channel(self) -> None:
        """C29: what was recorded of one channel ends another one: streams are known to their own channel only."""
        self.pair.request(RecordingReceiver())
        self.pair.run()
        self.pair.opener.streams[0].answer(ResponseHead(200, b"OK", []))
        self.pair.opener.streams[0].end(b"secret")
        self.pair.clock.advance(0)
        (recorded,) = self.pair.connector_carrier.sent
        other = Pair()
        other.relay.message_received(recorded)
        self.assertEqual(other.relay_carrier.closed[0], 1002)  # type: ignore[index]
        self.assertFalse(other.relay.usable)

    def test_events_before_a_violation_count(self) -> None:
        """An answer that came whole before the violation is delivered."""
        receiver = RecordingReceiver()
        self.pair.request(receiver)
        self.pair.run()
        stream = self.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", []))
        stream.end(b"whole")
        self.pair.clock.advance(0)
        message = self.pair.connector_carrier.sent.popleft()
        self.pair.relay.message_received(message + struct.pack("!IBBI", 2**31, 2, 0, 1))
        self.assertEqual((receiver.data, receiver.ended, receiver.resets), (b"whole", True, []))

    def test_going_away_is_told_and_refuses_new_streams(self) -> None:
        """After our GOAWAY the channel is not usable, what is in flight goes on, and idleness is reported."""
        idle: list[bool] = []
        receiver = RecordingReceiver()
        self.pair.request(receiver)
        self.pair.run()
        self.pair.relay.go_away(Code.NONE, "restart")
        self.pair.relay.when_idle(lambda: idle.append(True))
        self.pair.run()
        self.assertFalse(self.pair.relay.usable)
        self.assertEqual(len(self.pair.connector_owner.goaways), 1)
        self.assertEqual(idle, [])
        stream = self.pair.opener.streams[0]
        stream.answer(ResponseHead(204, b"", []), end=True)
        self.pair.run()
        self.assertEqual((receiver.ended, idle), (True, [True]))

    def test_documents_reach_the_owner(self) -> None:
        """CONTROL documents pass as maps."""
        self.pair.relay.control({"type": "drain", "reason": "update", "within_seconds": 5.0})
        self.pair.run()
        self.assertEqual(self.pair.connector_owner.documents[0]["reason"], "update")

    def test_close_flushes_first(self) -> None:
        """What was queued in this turn leaves before the good-bye; a deaf peer is cut off two seconds later."""
        self.pair.relay.control({"type": "revoked", "reason": "r"})
        self.pair.relay.close(1008, "revoked")
        self.assertEqual(len(self.pair.relay_carrier.sent), 1)
        self.assertEqual(self.pair.relay_carrier.closed, (1008, "revoked"))
        self.pair.clock.advance(2.1)
        self.assertTrue(self.pair.relay_carrier.aborted)

    def test_closing_refuses_new_streams(self) -> None:
        """From the good-bye on no stream is opened, though the peer has not answered it yet."""
        self.pair.relay.close(1008, "revoked")
        self.assertFalse(self.pair.relay.usable)
        self.pair.relay.close(1000, "again")
        self.assertEqual(self.pair.relay_carrier.closed, (1008, "revoked"))

    def test_a_connector_that_is_asked_by_nobody_refuses(self) -> None:
        """A relay's end that is sent a request refuses the stream; the sender's receiver hears the code."""
        pair = Pair()
        pair.connector._opener = None
        receiver = RecordingReceiver()
        pair.request(receiver)
        pair.run()
        self.assertEqual([code for code, _ in receiver.resets], [Code.REFUSED])

    def test_what_comes_after_the_loss_is_ignored(self) -> None:
        """A message, a close or a flush after the loss does nothing; the channel says in its repr that it is lost."""
        self.pair.relay.carrier_closed(1006, "cut")
        self.pair.relay.message_received(b"whatever")
        self.pair.relay.close(1000, "late")
        self.pair.relay.wake()
        self.pair.clock.advance(0)
        self.assertIsNone(self.pair.relay_carrier.closed)
        self.assertIn("lost", repr(self.pair.relay))

    def test_loss_in_the_middle_of_closing(self) -> None:
        """A carrier that closes in time is not cut afterwards; one whose transport stops us is given nothing more."""
        self.pair.relay.close(1000, "bye")
        self.pair.relay.carrier_closed(1000, "bye")
        self.pair.clock.advance(10)
        self.assertFalse(self.pair.relay_carrier.aborted)
        self.pair.connector.stopProducing()
        self.pair.connector.control({"type": "drain"})
        self.pair.clock.advance(0)
        self.assertEqual(len(self.pair.connector_carrier.sent), 0)
