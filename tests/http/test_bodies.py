"""Body framing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.bodies import BodyWriter, ChunkedReader, keep_allowed_trailers
from appproxy.http.messages import LengthMismatch, MalformedMessage


def read(octets: bytes, cuts: list[int]) -> tuple[bytes, ChunkedReader]:
    """Read *octets* cut at *cuts*; what comes after the end is added to the rest."""
    reader = ChunkedReader(1000, 10)
    body = b""
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        if reader.done:
            reader.rest += octets[start:end]
        else:
            body += reader.read(octets[start:end])
    return body, reader


class ChunkedReaderTests(SynchronousTestCase):
    """Chunked bodies taken apart."""

    WIRE = b'5;a="b;c"\r\nhello\r\n00A\r\n0123456789\r\n0;last\r\nDigest: x\r\nHost: evil\r\n\r\nGET /'

    @given(st.lists(st.integers(0, len(WIRE)), max_size=len(WIRE)).map(sorted))
    def test_slicing_makes_no_difference(self, cuts: list[int]) -> None:
        """Body, trailers and rest are the same, whatever way the octets arrive."""
        body, reader = read(self.WIRE, cuts)
        self.assertEqual(body, b"hello0123456789")
        self.assertTrue(reader.done)
        self.assertEqual(reader.trailers, [(b"Digest", b"x")])
        self.assertEqual(reader.rest, b"GET /")

    @given(st.binary(max_size=200))
    def test_any_octets(self, octets: bytes) -> None:
        """Whatever is read, it is a body or malformed."""
        try:
            read(octets, [])
        except MalformedMessage:
            return

    @given(st.lists(st.binary(max_size=50)), st.booleans())
    def test_what_is_written_reads_the_same(self, parts: list[bytes], trailers: bool) -> None:
        """read(write(x)) is x."""
        fields = [(b"a", b"b")] if trailers else []
        writer = BodyWriter(None, chunked=True)
        body, reader = read(b"".join(map(writer.body, parts)) + writer.end(fields), [])
        self.assertEqual((body, reader.trailers, reader.rest), (b"".join(parts), fields, b""))

    def test_extensions_may_accompany_a_body(self) -> None:
        """Signed chunks, as some storage clients send them, pass in any number."""
        chunk = b"1000;chunk-signature=" + b"0" * 64 + b"\r\n" + b"x" * 0x1000 + b"\r\n"
        reader = ChunkedReader(1000, 10)
        self.assertEqual(sum(len(reader.read(chunk)) for _ in range(500)), 500 * 0x1000)

    def test_nonsense_is_refused_at_once(self) -> None:
        """What cannot become a size line is not waited for."""
        for octets in (b"x", b"5x", b"5\n", b"5;\n", b"1" * 16, b"5\r\nhello1"):
            with self.assertRaises(MalformedMessage):
                ChunkedReader(1000, 10).read(octets)


class BodyWriterTests(SynchronousTestCase):
    """Bodies framed."""

    def test_known_length_passes_the_octets_themselves(self) -> None:
        """No copy is made."""
        part = b"hello"
        writer = BodyWriter(5, chunked=False)
        self.assertIs(writer.body(part), part)
        self.assertEqual(writer.end([(b"a", b"b")]), b"")
        self.assertTrue(writer.ended)

    def test_unknown_length_until_close(self) -> None:
        """Without framing, octets pass as they are."""
        writer = BodyWriter(None, chunked=False)
        self.assertEqual(writer.body(b"x") + writer.end(), b"x")

    def test_chunks(self) -> None:
        """An empty part is no chunk: that would be the end."""
        writer = BodyWriter(None, chunked=True)
        self.assertEqual(
            writer.body(b"") + writer.body(b"x" * 17) + writer.end(), b"11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"
        )

    def test_lengths_are_kept(self) -> None:
        """C38: a body longer or shorter than announced is never passed off as complete."""
        with self.assertRaises(LengthMismatch):
            BodyWriter(1, chunked=False).body(b"xy")
        with self.assertRaises(LengthMismatch):
            BodyWriter(1, chunked=False).end()
        writer = BodyWriter(0, chunked=False)
        writer.end()
        with self.assertRaises(LengthMismatch):
            writer.body(b"x")
        with self.assertRaises(LengthMismatch):
            writer.end()


class TrailerTests(SynchronousTestCase):
    """Which fields may come late."""

    @pytest.mark.feature("HTTP-3")
    def test_forbidden_trailers_go(self) -> None:
        """Framing, routing, credentials and cookies cannot be said in a trailer, in any spelling."""
        good = [(b"Digest", b"x"), (b"grpc-status", b"0"), (b"Server-Timing", b"a")]
        bad = [
            (name, b"x")
            for name in (
                b"Content-Length", b"transfer_encoding", b"HOST", b"Cookie", b"Set-Cookie", b"Authorization",
                b"X-Forwarded-For", b"x_forwarded.proto", b"Sec-Fetch-Mode", b"Connection",
            )
        ]  # fmt: skip
        self.assertEqual(keep_allowed_trailers([*bad, *good]), good)
        writer = BodyWriter(None, chunked=True)
        self.assertEqual(writer.end(bad), b"0\r\n\r\n")
