"""Content codings."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.codings import FREE, MAX_RATIO, Bomb, Decoder, UnknownCoding, Unreadable, acceptable, find_codec

CODINGS = (b"gzip", b"deflate", b"br", b"zstd")
TEXT = b"".join(b"<p>line %d of many</p>\n" % number for number in range(5000))


def encoded(text: bytes, coding: bytes) -> bytes:
    """*text* as this side writes it."""
    codec = find_codec([coding])
    assert codec is not None
    return codec[1].encode(text) + codec[1].end()


def decoder(coding: bytes) -> Decoder:
    """What reads *coding*."""
    codec = find_codec([coding])
    assert codec is not None
    return codec[0]


def taken(reading: Decoder, limit: int = 1000) -> bytes:
    """All that can be had by now, bounded at each step."""
    text = b""
    while piece := reading.take(limit):
        assert len(piece) <= max(2 * limit, 128 * 1024)  # brotli's own steps are larger than this limit
        text += piece
    return text


class CodingTests(SynchronousTestCase):
    """In and out."""

    @pytest.mark.feature("TRN-2")
    def test_every_coding_both_ways(self) -> None:
        """What is written is read, in small pieces and in one, to its end."""
        for coding in (*CODINGS, b"x-gzip", b"GZIP"):
            octets = encoded(TEXT, coding)
            self.assertLess(len(octets), len(TEXT) // 4)
            for size in (1, 7, len(octets)):
                reading, text = decoder(coding), b""
                for start in range(0, len(octets), size):
                    self.assertEqual(reading.take(1000), b"")
                    reading.receive(octets[start : start + size])
                    text += taken(reading)
                self.assertEqual((text, reading.complete), (TEXT, True), coding)

    def test_what_others_write_is_read(self) -> None:
        """Several members, trailing rubbish, deflate without a frame."""
        bare = zlib.compressobj(9, zlib.DEFLATED, -15)
        for coding, octets in (
            (b"gzip", gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:])),
            (b"gzip", gzip.compress(b"") + gzip.compress(TEXT) + b"\0\0rubbish"),
            (b"deflate", zlib.compress(TEXT)),
            (b"deflate", bare.compress(TEXT) + bare.flush()),
            (b"br", brotli.compress(TEXT)),
            (b"zstd", encoded(TEXT[:9], b"zstd") + encoded(TEXT[9:], b"zstd") + b"rubbish"),
        ):
            for size in (1, 1000):
                reading, text = decoder(coding), b""
                for start in range(0, len(octets), size):
                    reading.receive(octets[start : start + size])
                    text += taken(reading)
                self.assertEqual((text, reading.complete), (TEXT, True), coding)

    def test_a_flush_shows_all_so_far(self) -> None:
        """L10: whoever reads has everything that was written."""
        for coding in CODINGS:
            codec = find_codec([coding])
            assert codec is not None
            reading, writing = decoder(coding), codec[1]
            for text in (b"one", b"two", b"three"):
                reading.receive(writing.encode(text) + writing.flush())
                self.assertEqual(taken(reading), text)
            self.assertFalse(reading.complete)

    @settings(max_examples=100, deadline=None)
    @given(st.sampled_from(CODINGS), st.binary(min_size=8, max_size=100))
    def test_rubbish_is_refused(self, coding: bytes, octets: bytes) -> None:
        """L03: it is unreadable, or is read; nothing else happens."""
        reading = decoder(coding)
        reading.receive(octets)
        try:
            taken(reading)
        except Unreadable:
            self.assertFalse(reading.complete)

    def test_plain_text_is_in_no_coding(self) -> None:
        """L03: a wrong label shows at once."""
        for coding in CODINGS:
            reading = decoder(coding)
            reading.receive(b"<!doctype html><html><body>plain</body></html>")
            with self.assertRaises(Unreadable):
                taken(reading)

    def test_bombs(self) -> None:
        """L01: what stands for absurdly much is given up, without ever having much in memory."""
        for coding in CODINGS:
            codec = find_codec([coding])
            assert codec is not None
            zeros = b"\0" * 1_000_000
            octets = b"".join(codec[1].encode(zeros) for _ in range(20)) + codec[1].end()
            reading = decoder(coding)
            with self.assertRaises(Bomb):
                for start in range(0, len(octets), 4096):
                    reading.receive(octets[start : start + 4096])
                    while reading.take(65536):
                        pass
            self.assertLess(reading.decoded, FREE + MAX_RATIO * 8192)

    def test_large_windows_are_refused(self) -> None:
        """L01: a zstd frame cannot ask for more than 8 MiB."""
        reading = decoder(b"zstd")
        reading.receive(b"\x28\xb5\x2f\xfd\x00\x70" + b"\0" * 100)  # 16 MiB
        with self.assertRaises(Unreadable):
            taken(reading)

    def test_labels(self) -> None:
        """L02: one known coding; none and ``identity`` are none; chains and strangers are nobody's."""
        self.assertIsNone(find_codec([]))
        self.assertIsNone(find_codec([b"identity"]))
        self.assertIsNotNone(find_codec([b"identity, GZip"]))
        for values in ([b"gzip, gzip"], [b"gzip", b"br"], [b"x-foo"], [b"compress"], [b"dcb"]):
            with self.assertRaises(UnknownCoding):
                find_codec(values)

    def test_what_is_asked_for(self) -> None:
        """gzip where it is taken, else what can be read."""
        for value, expected in (
            (b"gzip, deflate, br, zstd", b"gzip"),
            (b"br;q=1.0, gzip;q=0.5", b"gzip"),
            (b"br, gzip;q=0", b"br, gzip;q=0"),
            (b"gzip; q=0.000, deflate;q=0.3, x-foo", b"gzip; q=0.000, deflate;q=0.3"),
            (b"*", b"identity"),
            (b"identity;q=0, zstd", b"identity;q=0, zstd"),
            (b"x-foo", b"identity"),
            (b"", b"identity"),
        ):
            self.assertEqual(acceptable(value), expected)
