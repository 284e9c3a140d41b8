"""Frames that pass by: borders are found however the octets are cut, and only what was asked for is taken out."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.websocket_frames import PING_OCTETS, FrameTracker, PongFilter, is_websocket, ping

OURS = bytes(range(PING_OCTETS))
OTHER = bytes(PING_OCTETS)


def frame(opcode: int, payload: bytes = b"", *, mask: bytes = b"", first: int = 0x80) -> bytes:
    """One frame; *first* has FIN and the reserved bits."""
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first | opcode, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first | opcode, bit | 127, size)
    if mask:
        payload = bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))
    return head + mask + payload


MASKS = st.binary(min_size=4, max_size=4)
PAYLOADS = st.one_of(st.binary(max_size=130), st.sampled_from([b"x" * 70_000, OTHER]))
DATA = st.tuples(st.sampled_from([0x0, 0x1, 0x2]), PAYLOADS, st.sampled_from([0x00, 0x80, 0xC0, 0x40]))
CONTROL = st.tuples(st.sampled_from([0x9, 0xA]), st.one_of(st.binary(max_size=125), st.just(OTHER)), st.just(0x80))
FRAMES = st.lists(st.one_of(DATA, CONTROL), max_size=6)
CUTS = st.lists(st.integers(0, 80_000), max_size=8)


def cut(octets: bytes, at: list[int]) -> list[bytes]:
    """The octets in pieces."""
    borders = sorted({0, len(octets), *(position for position in at if position < len(octets))})
    return [octets[start:end] for start, end in pairwise(borders)]


@pytest.mark.feature("HTTP-4")
class TrackerTests(SynchronousTestCase):
    @given(FRAMES, CUTS, st.booleans())
    def test_borders(self, frames: list[tuple[int, bytes, int]], cuts: list[int], masked: bool) -> None:
        """W05: it is at a border exactly where a frame has ended, whatever its size and however it comes."""
        octets, borders = b"", {0}
        for opcode, payload, first in frames:
            octets += frame(opcode, payload, mask=b"abcd" if masked else b"", first=first)
            borders.add(len(octets))
        tracker, position = FrameTracker(masked), 0
        self.assertTrue(tracker.at_border)
        for piece in cut(octets, cuts):
            tracker.follow(piece)
            position += len(piece)
            self.assertEqual((tracker.at_border, tracker.over), (position in borders, False))

    def test_close_is_the_last(self) -> None:
        """After the header of a Close frame nothing may be put in any more."""
        tracker = FrameTracker(masked=False)
        tracker.follow(frame(0x1, b"hello") + frame(0x8, b"\x03\xe8bye"))
        self.assertEqual((tracker.at_border, tracker.over), (False, True))

    def test_what_is_no_websocket(self) -> None:
        """Octets that are no frames end the tracking, and nothing else."""
        for masked, octets in (
            (False, frame(0x1, b"x", mask=b"abcd")),  # masked by a server
            (True, frame(0x1, b"x")),  # not masked by a client
            (False, frame(0x3, b"x")),  # reserved
            (False, frame(0xB, b"x")),
            (False, frame(0x9, b"x" * 126)),  # control frames are short
            (False, frame(0x9, b"x", first=0x00)),  # and whole
            (False, frame(0x9, b"x", first=0xC0)),
            (False, b"\x82\x7f" + b"\xff" * 8),  # longer than may be
            (False, b"SSH-2.0"),
        ):
            tracker = FrameTracker(masked)
            tracker.follow(octets)
            self.assertEqual((tracker.over, tracker.at_border), (True, False), octets)
            tracker.follow(frame(0x1, b"more"))
            self.assertFalse(tracker.at_border)

    def test_which_answers_open_one(self) -> None:
        """RFC 6455 with extensions of messages only; anything else may have frames of another kind."""
        accept = (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        upgrade = (b"Upgrade", b"WebSocket")
        deflate = (b"Sec-WebSocket-Extensions", b"permessage-deflate; server_max_window_bits=10")
        self.assertTrue(is_websocket([upgrade, accept]))
        self.assertTrue(is_websocket([upgrade, accept, deflate]))
        self.assertFalse(is_websocket([upgrade]))
        self.assertFalse(is_websocket([(b"Upgrade", b"tls"), accept]))
        self.assertFalse(is_websocket([accept]))
        self.assertFalse(is_websocket([upgrade, accept, deflate, (b"sec-websocket-extensions", b"mux")]))


@pytest.mark.feature("HTTP-4")
class PongTests(SynchronousTestCase):
    @given(FRAMES, CUTS, MASKS, st.integers(0, 6))
    def test_only_ours_is_taken_out(
        self, frames: list[tuple[int, bytes, int]], cuts: list[int], mask: bytes, place: int
    ) -> None:
        """W05: the client's other frames pass octet for octet, pongs among them; ours does not, wherever it comes."""
        others = [frame(opcode, payload, mask=b"wxyz", first=first) for opcode, payload, first in frames]
        with_ours = [*others[:place], frame(0xA, OURS, mask=mask), *others[place:]]
        sieve, awaited, passed = PongFilter(), [b"?" * PING_OCTETS, OURS], b""
        for piece in cut(b"".join(with_ours), cuts):
            passed += sieve.sift(piece, awaited)
        self.assertEqual(passed + sieve.rest(), b"".join(others))
        self.assertEqual(awaited, [b"?" * PING_OCTETS])

    @given(st.binary(max_size=300), CUTS, st.booleans())
    def test_anything_else_passes(self, octets: bytes, cuts: list[int], waiting: bool) -> None:
        """What is no WebSocket passes as it is."""
        sieve, passed = PongFilter(), b""
        for piece in cut(octets, cuts):
            passed += sieve.sift(piece, [OURS] if waiting else [])
        self.assertEqual(passed + sieve.rest(), octets)

    def test_a_ping_in_the_middle_of_the_clients_frame(self) -> None:
        """A frame whose header was half passed on before there was a ping is never taken for the answer to it."""
        whole = frame(0xA, OURS, mask=b"abcd")
        for at in range(1, len(whole)):
            sieve, awaited = PongFilter(), [OURS]
            passed = sieve.sift(whole[:at], []) + sieve.sift(whole[at:], awaited)
            self.assertEqual((passed, awaited), (whole, [OURS]), at)
            self.assertEqual((sieve.sift(whole, awaited), awaited), (b"", []))

    def test_answered_once(self) -> None:
        """A second pong with the same payload is the client's own affair."""
        sieve, awaited, pong = PongFilter(), [OURS], frame(0xA, OURS, mask=b"abcd")
        self.assertEqual(sieve.sift(pong + pong, awaited), pong)

    def test_nothing_waits_longer_than_needed(self) -> None:
        """A frame that cannot be our pong passes as soon as that is known."""
        sieve = PongFilter()
        text = frame(0x1, b"hello", mask=b"abcd")
        self.assertEqual(sieve.sift(text[:5], [OURS]), b"")
        self.assertEqual(sieve.sift(text[5:7], [OURS]), text[:7])

    def test_what_a_ping_looks_like(self) -> None:
        """A whole, unmasked control frame."""
        self.assertEqual(ping(OURS), frame(0x9, OURS))
