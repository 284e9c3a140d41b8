"""Frames: what the bytes of a channel look like."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire import frames
from appproxy.wire.frames import Code, Flag, Kind
from tests.wire.pair import split


class FrameTests(SynchronousTestCase):
    """Encoding and decoding of what has a fixed shape."""

    def test_layout(self) -> None:
        """Length, kind, flags and stream stand in ten bytes in network order."""
        self.assertEqual(
            frames.encode(Kind.DATA, Flag.END, 0x01020304, b"hello"), b"\0\0\0\x05\x02\x01\x01\x02\x03\x04hello"
        )

    def test_window(self) -> None:
        """Credit is one 32-bit number."""
        self.assertEqual(split(frames.encode_window(7, 65536)), [(Kind.WINDOW, 0, 7, b"\0\x01\0\0")])

    @given(st.integers(0, 0xFFFF), st.text(max_size=300))
    def test_reset_round_trip(self, code: int, text: str) -> None:
        """Code and text of a RESET arrive, also codes of later versions."""
        ((kind, flags, stream, payload),) = split(frames.encode_reset(9, code, text))
        self.assertEqual((kind, flags, stream), (Kind.RESET, 0, 9))
        self.assertEqual(frames.decode_reset(payload), (code, text.encode("utf-8", "replace").decode()))

    @given(st.integers(0, 2**32 - 1), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.text(max_size=300))
    def test_goaway_round_trip(self, last: int, code: int, retry_after_ms: int, text: str) -> None:
        """Every part of a GOAWAY arrives."""
        ((_, _, stream, payload),) = split(frames.encode_goaway(last, code, retry_after_ms, text))
        self.assertEqual(stream, 0)
        expected = text.encode("utf-8", "replace").decode()
        self.assertEqual(frames.decode_goaway(payload), (last, code, retry_after_ms, expected))

    def test_long_texts_are_cut_at_a_character(self) -> None:
        """A text is at most 1 KiB of whole characters, so that it fits into its frame."""
        octets = frames.encode_text("ü" * 600 + "x")
        self.assertEqual(octets.decode(), "ü" * 512)
        self.assertEqual(frames.encode_text("x" + "ü" * 600).decode(), "x" + "ü" * 511)

    def test_texts_of_peers_are_never_an_error(self) -> None:
        """What is no UTF-8 is shown as such."""
        self.assertEqual(frames.decode_reset(b"\0\x04\xff"), (Code.CANCELLED, "\N{REPLACEMENT CHARACTER}"))

    def test_every_kind_has_its_limits(self) -> None:
        """Each kind has a least and a greatest payload and its flags; none is larger than a message."""
        for table in (frames.MAX_PAYLOADS, frames.MIN_PAYLOADS, frames.KNOWN_FLAGS):
            self.assertEqual(len(table), len(Kind))
        self.assertEqual(max(frames.MAX_PAYLOADS) + frames.HEADER.size, frames.MAX_MESSAGE)
