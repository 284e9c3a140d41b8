"""Carriers: two real WebSocket ends over joined transports, and what hostile peers may try at this level."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import pytest
from autobahn.websocket.protocol import WebSocketProtocol
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from appproxy.channel.carrier import MAX_MESSAGE_BYTES, MAX_REASON_BYTES, MAX_STRAY_FRAMES, Carrier, CloseCode
from appproxy.channel.dial import ChannelDialler
from appproxy.channel.listen import ChannelListener
from appproxy.wire.frames import MAX_DOCUMENT, MAX_MESSAGE
from tests.fakes.sockets import Line

#: Around every change of a frame's length field, and the largest message that there is.
SIZES = (0, 1, 125, 126, 127, 65535, 65536, MAX_MESSAGE_BYTES)


class RecordingCargo:
    """Keeps what a carrier tells."""

    def __init__(self) -> None:
        self.carrier: Carrier | None = None
        self.messages: list[bytes] = []
        self.closed: list[tuple[int, str]] = []

    def carrier_opened(self, carrier: Carrier) -> None:
        self.carrier = carrier

    def message_received(self, payload: bytes) -> None:
        self.messages.append(payload)

    def carrier_closed(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


class Ends:
    """Both ends of one WebSocket, shaken hands."""

    def __init__(self, slices: Iterable[int] = ()) -> None:
        self.line = Line(slices=slices)
        self.relay, self.connector = RecordingCargo(), RecordingCargo()
        self.certificates: list[bytes | None] = []
        self.line.connect(
            ChannelListener(self.admit).carrier(), ChannelDialler("relay.example.com", 443, self.connector).carrier()
        )

    async def admit(self, certificate: bytes | None, peer: str) -> RecordingCargo:
        self.certificates.append(certificate)
        return self.relay

    def relay_sends(self, *messages: bytes) -> None:
        assert self.relay.carrier is not None
        for message in messages:
            self.relay.carrier.send_message(message)
        self.line.run()

    def connector_sends(self, *messages: bytes) -> None:
        assert self.connector.carrier is not None
        for message in messages:
            self.connector.carrier.send_message(message)
        self.line.run()

    def hostile(self, octets: bytes) -> None:
        """Octets that the connector's own carrier would never send."""
        self.line.connector.write(octets)
        self.line.run()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, key: bytes | None = b"\x01\x02\x03\x04", reserved: int = 0
) -> bytes:
    """A frame by the book; *key* None is unmasked."""
    mask = 0x80 if key is not None else 0
    size = len(payload)
    if size < 126:
        length = bytes([mask | size])
    elif size < 65536:
        length = struct.pack("!BH", mask | 126, size)
    else:
        length = struct.pack("!BQ", mask | 127, size)
    if key is not None:
        payload = bytes(octet ^ key[index % 4] for index, octet in enumerate(payload))
    return bytes([(0x80 if fin else 0) | reserved << 4 | opcode]) + length + (key or b"") + payload


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class CarrierTestCase(SynchronousTestCase):
    """Autobahn's own timers are off: nothing may wait in the real reactor, whatever happened."""

    def run(self, result: Any = None) -> Any:
        self.timers = reactor.getDelayedCalls()  # type: ignore[attr-defined]
        return super().run(result)

    def tearDown(self) -> None:
        self.assertEqual(reactor.getDelayedCalls(), self.timers)  # type: ignore[attr-defined]


class MessageTests(CarrierTestCase):
    def setUp(self) -> None:
        self.ends = Ends()

    def test_handshake_opens_both_ends(self) -> None:
        """Both cargoes hear of it once; the relay's was made for the certificate that the connector showed."""
        self.assertIsNotNone(self.ends.relay.carrier)
        self.assertIsNotNone(self.ends.connector.carrier)
        self.assertEqual(self.ends.certificates, [b"certificate"])

    def test_messages_of_every_size_pass_both_ways(self) -> None:
        """Whole messages around every change of the length field arrive as they were sent."""
        for size in SIZES:
            message = bytes(index % 251 for index in range(min(size, 1000))) * (size // min(size, 1000) if size else 0)
            message = message.ljust(size, b"~")
            self.ends.relay_sends(message)
            self.ends.connector_sends(message)
            self.assertTrue(self.ends.connector.messages.pop() == message, size)
            self.assertTrue(self.ends.relay.messages.pop() == message, size)

    def test_cut_anywhere_in_the_header(self) -> None:
        """A frame whose header comes in two segments is read wherever the cut is, and so is the one behind it."""
        for size in (5, 126, 65536):
            octets = frame(BINARY, b"z" * size, key=b"\0\0\0\0") + frame(BINARY, b"next")
            for cut in range(1, 15):
                ends = Ends()
                ends.hostile(octets[:cut])
                ends.hostile(octets[cut:])
                self.assertEqual(ends.relay.messages, [b"z" * size, b"next"], (size, cut))

    def test_the_largest_frame_fits(self) -> None:
        """Whatever the wire may send as one message, the largest document with its header, the carrier takes."""
        self.assertGreaterEqual(MAX_MESSAGE_BYTES, MAX_MESSAGE)
        self.assertGreater(MAX_MESSAGE, MAX_DOCUMENT)

    def test_several_messages_in_one_segment(self) -> None:
        """Messages that arrive together are told one by one, in order."""
        messages = [b"one", b"", b"three" * 50, b"four"]
        octets = b"".join(frame(BINARY, message) for message in messages)
        self.ends.hostile(octets)
        self.assertEqual(self.ends.relay.messages, messages)

    @given(
        st.lists(st.one_of(st.binary(max_size=300), st.sampled_from([b"x" * 126, b"y" * 65536])), max_size=6),
        st.lists(st.integers(1, 40_000), min_size=1, max_size=6),
    )
    @settings(max_examples=60, deadline=None)
    def test_any_slicing_gives_the_same_messages(self, messages: list[bytes], slices: list[int]) -> None:
        """However the octets are cut into segments, the handshake's too, both ends hear the same messages."""
        if any(len(message) > 300 for message in messages):
            slices = [size + 500 for size in slices]
        ends = Ends(slices)
        ends.relay_sends(*messages)
        ends.connector_sends(*messages)
        self.assertEqual((ends.connector.messages, ends.relay.messages), (messages, messages))

    @given(st.binary(min_size=4, max_size=4), st.binary(max_size=400))
    @settings(max_examples=40, deadline=None)
    def test_masked_with_any_key(self, key: bytes, message: bytes) -> None:
        """A connector that masks as browsers do is understood."""
        ends = Ends()
        ends.hostile(frame(BINARY, message, key=key))
        self.assertEqual(ends.relay.messages, [message])

    def test_fragments_go_the_slow_way(self) -> None:
        """A message in fragments is one message, with whole ones before and behind it in the same segment."""
        self.ends.hostile(
            frame(BINARY, b"before")
            + frame(BINARY, b"in ", fin=False)
            + frame(CONTINUATION, b"three ", fin=False)
            + frame(CONTINUATION, b"parts")
            + frame(BINARY, b"behind")
        )
        self.assertEqual(self.ends.relay.messages, [b"before", b"in three parts", b"behind"])

    def test_pings_between_and_inside_messages(self) -> None:
        """A ping is answered with its payload wherever it stands: before, between fragments, between whole messages."""
        self.ends.hostile(
            frame(PING, b"1")
            + frame(BINARY, b"a", fin=False)
            + frame(PING, b"2")
            + frame(CONTINUATION, b"b")
            + frame(BINARY, b"c")
            + frame(PONG, b"unasked")
            + frame(PING, b"3")
            + frame(BINARY, b"d")
        )
        self.assertEqual(self.ends.relay.messages, [b"ab", b"c", b"d"])
        for payload in (b"1", b"2", b"3"):
            self.assertIn(frame(PONG, payload, key=None), self.ends.line.relay.sent)

    def test_a_message_in_many_small_pieces(self) -> None:
        """Octets that drip in one by one are one message at last, and are not kept as thousands of pieces."""
        message = b"drip" * 2000
        octets = frame(BINARY, message)
        carrier = self.ends.relay.carrier
        assert carrier is not None
        most = 0
        carrier.dataReceived(octets[:10])
        for index in range(10, len(octets)):
            carrier.dataReceived(octets[index : index + 1])
            most = max(most, len(carrier._partial or ()))
        self.assertEqual(self.ends.relay.messages, [message])
        self.assertLess(most, 1100)


class ClosingTests(CarrierTestCase):
    def setUp(self) -> None:
        self.ends = Ends()

    def test_code_and_reason_reach_the_other_end(self) -> None:
        """Every code of the channel protocol, from either end, is heard by both with its reason."""
        for code in vars(CloseCode).values():
            if not isinstance(code, int):
                continue
            for sender in ("relay", "connector"):
                ends = Ends()
                carrier = getattr(ends, sender).carrier
                carrier.close(code, "a reason to read")
                ends.line.run()
                self.assertEqual(ends.relay.closed, [(code, "a reason to read")], (code, sender))
                self.assertEqual(ends.connector.closed, [(code, "a reason to read")], (code, sender))

    def test_a_long_reason_is_cut_between_characters(self) -> None:
        """A reason of many octets is cut to what a close frame holds; it never breaks a character."""
        assert self.ends.relay.carrier is not None
        self.ends.relay.carrier.close(CloseCode.POLICY, "ü" * 300)
        self.ends.line.run()
        ((code, reason),) = self.ends.connector.closed
        self.assertEqual((code, reason), (CloseCode.POLICY, "ü" * (MAX_REASON_BYTES // 2)))

    def test_messages_before_the_close_arrive(self) -> None:
        """What was sent before the good-bye is heard before it; what is sent behind it is dropped."""
        carrier = self.ends.relay.carrier
        assert carrier is not None
        carrier.send_message(b"last words")
        carrier.close(CloseCode.GOING_AWAY, "")
        carrier.send_message(b"too late")
        self.ends.line.run()
        self.assertEqual(self.ends.connector.messages, [b"last words"])

    def test_loss_without_a_word_is_1006(self) -> None:
        """A cut connection is told once to each cargo, as abnormal."""
        self.ends.line.cut()
        self.assertEqual([code for code, _ in self.ends.relay.closed], [1006])
        self.assertEqual([code for code, _ in self.ends.connector.closed], [1006])

    def test_close_twice_and_after_the_end(self) -> None:
        """Closing again changes nothing; closing what is gone cuts it."""
        carrier = self.ends.relay.carrier
        assert carrier is not None
        carrier.close(CloseCode.NORMAL, "first")
        carrier.close(CloseCode.POLICY, "second")
        self.ends.line.run()
        self.assertEqual(self.ends.connector.closed, [(CloseCode.NORMAL, "first")])
        carrier.close(CloseCode.NORMAL, "third")
        carrier.abort()

    def test_closing_before_the_handshake_cuts(self) -> None:
        """A carrier that never opened is cut; one without a transport has nothing to cut."""
        carrier = ChannelDialler("relay.example.com", 443, RecordingCargo()).carrier()
        carrier.abort()
        line = Line()
        line.connector.connect(carrier)
        carrier.close(CloseCode.NORMAL, "changed my mind")
        self.assertTrue(line.connector.aborted)


@pytest.mark.feature("CON-4")
class HostileTests(CarrierTestCase):
    def setUp(self) -> None:
        self.ends = Ends()

    def refused(self, octets: bytes, code: int) -> None:
        """These octets close the WebSocket with *code*, and none of them becomes a message."""
        ends = self.ends = Ends()
        ends.hostile(octets)
        self.assertEqual([told for told, _ in ends.connector.closed], [code], octets[:20])
        self.assertEqual(ends.relay.messages, [])
        self.assertEqual(ends.relay.closed, ends.connector.closed)
        self.assertNotEqual(ends.relay.closed[0][1], "")

    def test_text_is_unsupported(self) -> None:
        """C14: a text message closes with 1003."""
        self.refused(frame(TEXT, b"hello"), 1003)

    def test_unmasked_frames_of_a_connector(self) -> None:
        """C14: a client frame without a mask closes with 1002."""
        self.refused(frame(BINARY, b"plain", key=None), 1002)

    def test_masked_frames_of_a_relay(self) -> None:
        """C14: a server frame with a mask closes with 1002."""
        self.ends.line.relay.write(frame(BINARY, b"masked"))
        self.ends.line.run()
        self.assertEqual([code for code, _ in self.ends.relay.closed], [1002])
        self.assertEqual(self.ends.connector.messages, [])

    def test_oversize_is_refused_from_its_header(self) -> None:
        """C11: a message longer than the limit closes with 1009 before any of it came, whole or in fragments."""
        head = struct.pack("!BBQ", 0x82, 0x80 | 127, MAX_MESSAGE_BYTES + 1) + b"\x01\x02\x03\x04"
        self.refused(head, 1009)
        half = frame(BINARY, b"x" * (MAX_MESSAGE_BYTES // 2 + 10), fin=False, key=b"\0\0\0\0")
        self.refused(half + b"\0" + half[1:], 1009)

    def test_reserved_bits_and_compression(self) -> None:
        """C15: no extension is spoken, so a reserved bit (permessage-deflate's too) closes with 1002."""
        for reserved in (4, 2, 1):
            self.refused(frame(BINARY, b"deflated", reserved=reserved), 1002)

    def test_reserved_opcodes_and_broken_order(self) -> None:
        """C14: unknown opcodes, a continuation of nothing, a message inside a message, long or split control frames."""
        self.refused(frame(3, b"?"), 1002)
        self.refused(frame(11, b"?"), 1002)
        self.refused(frame(CONTINUATION, b"of what"), 1002)
        self.refused(frame(BINARY, b"a", fin=False) + frame(BINARY, b"b"), 1002)
        self.refused(frame(PING, b"p" * 126), 1002)
        self.refused(frame(PING, b"p", fin=False), 1002)

    def test_invalid_close_codes(self) -> None:
        """C14: a close code that may not travel is answered with 1002, and is never told as if it had."""
        for code in (0, 1005, 1006, 1015, 5000):
            ends = Ends()
            ends.hostile(frame(CLOSE, struct.pack("!H", code)))
            self.assertEqual([told for told, _ in ends.relay.closed], [1002])

    def test_endless_fragments_are_bounded(self) -> None:
        """C16: fragments without an end, with or without octets in them, close the WebSocket."""
        for octets in (b"x", b""):
            ends = Ends()
            many = frame(BINARY, octets, fin=False) + frame(CONTINUATION, octets, fin=False) * MAX_STRAY_FRAMES
            ends.line.connector.write(many)
            ends.line.run()
            self.assertEqual([code for code, _ in ends.connector.closed], [CloseCode.POLICY])
            self.assertEqual((ends.relay.messages, ends.relay.closed), ([], ends.connector.closed))

    def test_a_flood_of_pings_is_bounded(self) -> None:
        """C17: pings without messages between them are answered a bounded number of times."""
        self.ends.hostile(frame(PING, b"") * (MAX_STRAY_FRAMES + 10))
        self.assertLess(self.ends.line.relay.sent.count(frame(PONG, b"", key=None)), MAX_STRAY_FRAMES + 1)
        self.assertEqual([code for code, _ in self.ends.relay.closed], [CloseCode.POLICY])

    def test_a_patient_pinger_may_stay(self) -> None:
        """Any number of pings is fine as long as messages flow between them."""
        for _ in range(3):
            self.ends.hostile(frame(PING, b"") * (MAX_STRAY_FRAMES - 10) + frame(BINARY, b"m"))
            self.ends.relay_sends(b"for the peer, which counts too")
        self.ends.hostile(frame(PING, b"") * 3000 + frame(BINARY, b"f", fin=False) + frame(CONTINUATION, b"g"))
        self.ends.relay_sends(b"and again")
        self.ends.hostile(frame(PING, b"") * 3000)
        self.assertEqual(self.ends.relay.messages, [b"m", b"m", b"m", b"fg"])
        self.assertEqual(self.ends.relay.closed, [])

    def test_nothing_is_heard_after_a_violation(self) -> None:
        """Messages behind a violation in the same segment are not told."""
        self.refused(frame(BINARY, b"plain", key=None) + frame(BINARY, b"fine again"), 1002)

    def test_a_peer_that_never_answers_a_close(self) -> None:
        """The close waits for nobody's timer: the cargo above cuts the connection when it thinks fit."""
        carrier = self.ends.relay.carrier
        assert carrier is not None
        carrier.close(CloseCode.POLICY, "revoked")
        self.assertEqual(carrier.state, WebSocketProtocol.STATE_CLOSING)
        carrier.abort()
        self.ends.line.run()
        self.assertEqual([code for code, _ in self.ends.relay.closed], [1006])
