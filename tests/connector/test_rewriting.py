"""Answers' bodies through translation."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.codings import find_codec
from appproxy.wire.frames import Code
from tests.connector.rig import HR, Asking, OriginSocket, Rig
from tests.http.test_codings import taken

BODIES = {**HR, "translate": {"bodies": True}}
WIKI = {**HR, "id": "wiki", "external_url": "https://wiki.example.com/", "internal_url": "http://wiki.corp.local/"}
LINK, MOVED = b'<a href="http://wiki.corp.local/x">', b'<a href="https://wiki.example.com/x">'


def head(*lines: bytes, status: bytes = b"200 OK", kind: bytes = b"text/html") -> bytes:
    """An answer's head."""
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\n%b\r\n" % (status, kind, b"".join(line + b"\r\n" for line in lines))


def length(body: bytes) -> bytes:
    """Its framing."""
    return b"Content-Length: %d" % len(body)


class RewritingTests(SynchronousTestCase):
    """One application whose bodies are translated, another one that it links to."""

    def setUp(self) -> None:
        self.rig = Rig(BODIES, WIKI)

    def answered(self, octets: bytes, method: bytes = b"GET", **more: Any) -> Asking:
        """A request and what the origin says to it."""
        asking = self.rig.ask(method=method, **more)
        self.socket.say(octets)
        return asking

    @property
    def socket(self) -> OriginSocket:
        """The connection that was made last."""
        return self.rig.sockets[-1]

    @pytest.mark.feature("TRN-2")
    def test_a_small_answer_keeps_a_length(self) -> None:
        """L08: its own; the validator is weak, the digest gone."""
        body = b"<p>" + LINK + b"</p>"
        asking = self.answered(head(length(body), b'ETag: "a"', b"Content-MD5: x", b"X-Other: y") + body)
        self.assertEqual(asking.answer.data, body.replace(LINK, MOVED))
        self.assertEqual(
            asking.fields,
            [
                (b"Content-Type", b"text/html"),
                (b"ETag", b'W/"a"'),
                (b"X-Other", b"y"),
                (b"Content-Length", b"%d" % len(asking.answer.data)),
            ],
        )
        self.assertTrue(asking.answer.ended)
        self.assertEqual(self.rig.records[-1][5], "")

    @pytest.mark.feature("TRN-2")
    def test_a_long_answer_streams(self) -> None:
        """L05: links across pieces and chunks; nothing is said of a length, and each piece goes on at once."""
        asking = self.rig.ask()
        self.socket.say(head(b"Transfer-Encoding: chunked"))
        self.assertEqual(asking.status, 200)
        self.assertEqual([name for name, _ in asking.fields], [b"Content-Type", b"Transfer-Encoding"])
        for number, piece in enumerate((b"one http://wi", b"ki.corp.lo", b"cal/ two ", b"three ")):
            self.socket.say(b"%x\r\n%b\r\n" % (len(piece), piece))
            expected = (
                b"one ",
                b"one ",
                b"one https://wiki.example.com/ two ",
                b"one https://wiki.example.com/ two three ",
            )
            self.assertEqual(asking.answer.data, expected[number])
        self.socket.say(b"0\r\nDigest: x\r\nX-Sum: 1\r\n\r\n")
        self.assertTrue(asking.answer.ended)
        self.assertEqual(asking.answer.trailers, [(b"X-Sum", b"1")])
        self.rig.ask()
        self.assertEqual(len(self.rig.sockets), 1)

    @pytest.mark.feature("TRN-2")
    def test_compressed_answers(self) -> None:
        """They stay compressed."""
        body = gzip.compress(LINK * 1000)
        for whole in (True, False):
            asking = self.rig.ask()
            octets = head(length(body), b"Content-Encoding: gzip") + body
            if whole:
                self.socket.say(octets)
            else:
                for start in range(0, len(octets), 100):
                    self.socket.say(octets[start : start + 100])
            self.assertEqual(gzip.decompress(asking.answer.data), MOVED * 1000)
            self.assertIn((b"Content-Encoding", b"gzip"), asking.fields)

    @pytest.mark.feature("TRN-2")
    def test_what_passes_as_it_came(self) -> None:
        """L03, L08, L09: pictures, parts, wrong labels, answers to HEAD, and what says that it must not be changed."""
        body = LINK
        for octets in (
            head(length(body), b'ETag: "a"', kind=b"image/png"),
            head(length(body), b"Content-Range: bytes 0-9/99", status=b"206 Partial Content"),
            head(length(body), b"Cache-Control: no-transform"),
            head(length(body), b"Content-Encoding: x-foo"),
        ):
            asking = self.answered(octets + body)
            self.assertEqual(asking.answer.data, body)
            self.assertIn((b"Content-Length", b"%d" % len(body)), asking.fields)
        asking = self.answered(head(length(body), b"Content-Encoding: gzip") + body)
        self.assertEqual((asking.answer.data, asking.answer.ended), (body, True))

    def test_answers_without_a_body(self) -> None:
        """L08: HEAD says of itself what GET would; 304 stays; an empty body is empty."""
        asking = self.answered(head(b"Content-Length: 99", b'ETag: "a"'), method=b"HEAD")
        self.assertEqual(asking.fields, [(b"Content-Type", b"text/html"), (b"ETag", b'W/"a"')])
        self.assertEqual((asking.answer.data, asking.answer.ended), (b"", True))
        asking = self.answered(head(b'ETag: "a"', status=b"304 Not Modified"))
        self.assertIn((b"ETag", b'"a"'), asking.fields)
        asking = self.answered(head(b"Content-Length: 0"))
        self.assertEqual((asking.fields[-1], asking.answer.ended), ((b"Content-Length", b"0"), True))

    @pytest.mark.feature("TRN-2")
    def test_what_the_origin_is_asked(self) -> None:
        """Codings that can be read; nothing of the sort for applications whose bodies stay."""
        fields = ((b"Accept-Encoding", b"zstd, gzip"), (b"If-Match", b'W/"a"'))
        self.rig.ask(b"/", *fields)
        heard = self.socket.take()
        self.assertIn(b"Accept-Encoding: gzip\r\n", heard)
        self.assertIn(b'If-Match: "a"\r\n', heard)
        self.rig.ask(b"/", *fields, application="wiki", host="wiki.example.com")
        self.assertIn(b"Accept-Encoding: zstd, gzip\r\n", self.socket.take())

    def test_off_is_off(self) -> None:
        """Bodies of other applications pass octet by octet."""
        asking = self.answered(head(length(LINK)) + LINK, application="wiki", host="wiki.example.com")
        self.assertEqual(asking.answer.data, LINK)

    @pytest.mark.feature("TRN-1")
    def test_multistatus_moves_with_headers(self) -> None:
        """L13: also where bodies do not; with headers off, neither."""
        body = b"<D:href>http://wiki.corp.local/a</D:href>"
        octets = head(length(body), status=b"207 Multi-Status", kind=b"text/xml") + body
        asking = self.answered(octets, method=b"PROPFIND", application="wiki", host="wiki.example.com")
        self.assertEqual(asking.answer.data, b"<D:href>https://wiki.example.com/a</D:href>")
        self.rig = Rig({**WIKI, "translate": {"headers": False}})
        octets = octets.replace(b"text/xml\r\n", b"text/xml\r\nLocation: http://wiki.corp.local/\r\n")
        asking = self.answered(octets, method=b"PROPFIND", application="wiki", host="wiki.example.com")
        self.assertEqual(asking.answer.data, body)
        self.assertIn((b"Location", b"http://wiki.corp.local/"), asking.fields)

    @pytest.mark.feature("TRN-2")
    def test_bombs(self) -> None:
        """L01: the answer is cut, the connection closed, and nothing of it was ever in memory."""
        bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
        zeros = b"\0" * 1_000_000
        octets = b"".join(bomb.compress(zeros) for _ in range(30)) + bomb.flush()
        asking = self.rig.ask()
        self.socket.say(head(length(octets), b"Content-Encoding: gzip"))
        for start in range(0, len(octets), 1000):
            if self.socket.aborted:
                break
            self.socket.say(octets[start : start + 1000])
            while self.socket.paused:
                self.rig.clock.advance(0)
                self.rig.pair.run()
        self.assertEqual((self.socket.aborted, asking.reset), (True, Code.ORIGIN_BROKE_OFF))
        self.assertEqual(self.rig.records[-1][5], "origin-undecodable")
        asking = self.answered(head(length(octets), b"Content-Encoding: gzip") + octets)
        for _ in range(1000):
            self.rig.clock.advance(0)
            self.rig.pair.run()
        self.assertEqual(asking.reset, Code.ORIGIN_BROKE_OFF)

    @pytest.mark.feature("TRN-2")
    def test_a_slow_client_stops_the_origin(self) -> None:
        """What expands does not pile up: without credit nothing is translated and nothing is read."""
        octets = gzip.compress(random.Random(1).randbytes(400_000) + b"\0" * 3_000_000)
        chunks = [octets[start : start + 16384] for start in range(0, len(octets), 16384)] + [b""]
        asking = self.rig.ask(greedy=False)
        self.socket.say(head(b"Transfer-Encoding: chunked", b"Content-Encoding: gzip"))

        def say() -> None:
            while chunks and not self.socket.paused:
                chunk = chunks.pop(0)
                self.socket.say(b"%x\r\n%b\r\n" % (len(chunk), chunk))

        say()
        self.rig.advance(3)
        self.assertTrue(self.socket.paused)
        self.assertLess(len(asking.answer.data), 300_000)
        self.assertGreater(len(chunks), 5)
        read = 0
        while not asking.answer.ended:
            asking.stream.consumed(len(asking.answer.data) - read)
            read = len(asking.answer.data)
            self.rig.advance(0.01)
            say()
        codec = find_codec([b"gzip"])
        assert codec is not None
        codec[0].receive(asking.answer.data)
        self.assertEqual(len(taken(codec[0], 65536)), 3_400_000)

    def test_the_connection_is_free_while_the_rest_is_translated(self) -> None:
        """Long bodies that came at once are sent in turns; the next request does not wait, nor is it held back."""
        octets = gzip.compress(b"<p>text</p>" * 200_000)
        first = self.answered(head(length(octets), b"Content-Encoding: gzip") + octets)
        second = self.answered(head(length(LINK)) + LINK)
        self.assertEqual(len(self.rig.sockets), 1)
        self.assertEqual(second.answer.data, MOVED)
        self.assertFalse(self.socket.paused)
        for _ in range(100):
            self.rig.clock.advance(0)
            self.rig.pair.run()
        self.assertEqual(gzip.decompress(first.answer.data), b"<p>text</p>" * 200_000)
        self.assertTrue(first.answer.ended)

    def test_endings(self) -> None:
        """Cancelled by the relay or broken off by the origin, everything is let go of."""
        for ending in ("relay", "origin"):
            asking = self.rig.ask()
            self.socket.say(head(b"Content-Length: 99") + b"<p>begin http://wi")
            self.assertEqual(asking.answer.data, b"<p>begin ")
            if ending == "relay":
                asking.stream.reset(Code.CANCELLED)
                self.rig.pair.run()
                self.assertTrue(self.socket.aborted)
            else:
                self.socket.lose(clean=False)
                self.assertEqual(asking.reset, Code.ORIGIN_BROKE_OFF)
        self.assertEqual([record[5] for record in self.rig.records], ["cancelled", "origin-broke-off"])
        self.assertEqual(self.rig.serving.journeys, set())
        octets = gzip.compress(random.Random(1).randbytes(1_000_000).hex().encode())
        asking = self.answered(head(length(octets), b"Content-Encoding: gzip") + octets, greedy=False)
        self.assertFalse(asking.answer.ended)
        asking.stream.reset(Code.CANCELLED)
        self.rig.pair.run()
        self.assertEqual(self.rig.records[-1][5], "cancelled")
        self.assertEqual(self.rig.serving.journeys, set())
