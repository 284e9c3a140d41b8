"""Bodies with their links moved."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.codings import Bomb, Unreadable, find_codec
from appproxy.http.messages import Field, ResponseHead, index
from appproxy.http.rewriting import Rewriting, Rewritten, rewritten_fields
from appproxy.http.translate import Translation
from tests.http.test_codings import encoded, taken
from tests.http.test_translate import ATLAS, HR, WIKI

WIKI_BODIES = Rewriting(Translation(*WIKI, atlas=ATLAS, bodies=True))
HEADERS_ONLY = Rewriting(Translation(*HR, atlas=ATLAS))
HTML = (b"Content-Type", b"text/html")
LINK, MOVED = b'<a href="http://wiki.corp/x">', b'<a href="https://wiki.test/x">'


def head(*fields: Field, status: int = 200) -> ResponseHead:
    """An answer's head."""
    return ResponseHead(status, b"", (1, 1), list(fields), index(fields))


def found(*fields: Field, status: int = 200, rewriting: Rewriting = WIKI_BODIES) -> Rewritten | None:
    """What rewrites such an answer."""
    return rewriting.find(head(*fields, status=status))


def rewritten(pieces: Sequence[bytes], *fields: Field, status: int = 200, rewriting: Rewriting = WIKI_BODIES) -> bytes:
    """The body that comes in *pieces*, rewritten."""
    body = found(*fields, status=status, rewriting=rewriting)
    assert body is not None
    return b"".join(b"".join(body.receive(piece)) for piece in pieces) + b"".join(body.end())


def decoded(octets: bytes, coding: bytes) -> bytes:
    """What *octets* stand for."""
    codec = find_codec([coding])
    assert codec is not None
    codec[0].receive(octets)
    text = taken(codec[0], 65536)
    assert codec[0].complete
    return text


class ChoiceTests(SynchronousTestCase):
    """Which answers."""

    @pytest.mark.feature("TRN-2")
    def test_types(self) -> None:
        """Text with links in it, by its type; L09: pictures, archives, documents, films, fonts and forms never."""
        for kind in (
            b"text/html", b"Text/HTML; charset=utf-8", b"text/css", b"application/json", b"application/ld+json",
            b"text/xml", b"application/atom+xml", b"image/svg+xml", b"application/xhtml+xml", b"text/javascript",
            b"text/event-stream", b"application/javascript;charset=windows-1252",
        ):  # fmt: skip
            self.assertIsNotNone(found((b"Content-Type", kind)), kind)
        for kind in (
            b"image/png", b"application/zip", b"application/pdf", b"application/octet-stream", b"text/plain",
            b"video/mp4", b"font/woff2", b"multipart/form-data", b"", b"nonsense",
            b"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ):  # fmt: skip
            self.assertIsNone(found((b"Content-Type", kind)), kind)
        self.assertIsNone(found())
        self.assertIsNone(found(HTML, (b"Content-Type", b"text/css")))

    def test_answers_that_pass(self) -> None:
        """L02, L08: parts, answers without a body, unknown codings and charsets, and whatever must not be changed."""
        for status in (101, 204, 205, 206, 304):
            self.assertIsNone(found(HTML, status=status))
        self.assertIsNotNone(found(HTML, status=404))
        for field in (
            (b"Content-Range", b"bytes 0-1/2"),
            (b"Cache-Control", b"private, No-Transform"),
            (b"Content-Encoding", b"x-foo"),
            (b"Content-Encoding", b"gzip, gzip"),
            (b"Content-Encoding", b"gzip, br"),
        ):
            self.assertIsNone(found(HTML, field), field)
        for charset in (b"iso-2022-jp", b"utf-7", b"ebcdic-cp-be", b"nonsense", b'"utf-32"'):
            self.assertIsNone(found((b"Content-Type", b"text/html; charset=" + charset)), charset)

    def test_what_pages_vouch_for(self) -> None:
        """L12: a page's ``integrity`` stays, and what it is for can be excepted by the origin that sends it."""
        page = b'<script src="http://wiki.corp/x.js" integrity="sha384-http://wiki.corpAAAA"></script>'
        self.assertEqual(rewritten([page], HTML), page.replace(b'src="http://wiki.corp/', b'src="https://wiki.test/'))
        script = (b"Content-Type", b"text/javascript")
        self.assertIsNotNone(found(script))
        self.assertIsNone(found(script, (b"Cache-Control", b"max-age=60, no-transform")))

    @pytest.mark.feature("TRN-1")
    def test_multistatus(self) -> None:
        """L13: WebDAV's listings go with the fields, whether bodies are rewritten or not; other bodies do not."""
        xml = (b"Content-Type", b'application/xml; charset="utf-8"')
        text = b"<D:href>%b</D:href> <p>http://wiki.corp/</p>"
        for bodies in (False, True):
            rewriting = Rewriting(Translation(*HR, atlas=ATLAS, bodies=bodies))
            self.assertEqual(rewritten([text % b"/app/x"], xml, status=207, rewriting=rewriting), text % b"/hr/x")
        self.assertIsNone(found(xml, rewriting=HEADERS_ONLY))
        self.assertIsNone(found(HTML, status=207, rewriting=HEADERS_ONLY))
        neither = Rewriting(Translation(*HR, atlas=ATLAS, headers=False))
        self.assertIsNone(found(xml, status=207, rewriting=neither))


class FieldTests(SynchronousTestCase):
    """What goes with it."""

    @pytest.mark.feature("TRN-2")
    def test_what_is_said_of_the_octets(self) -> None:
        """L08: lengths, digests and ranges go, strong validators become weak, all else stays."""
        kept = [HTML, (b"Content-Encoding", b"gzip"), (b"Last-Modified", b"x"), (b"ETag", b'W/"a"')]
        names = "Content-Length Content-MD5 Digest Content-Digest Repr-Digest Accept-Ranges"
        dropped = [(name.encode(), b"x") for name in names.split()]
        self.assertEqual(rewritten_fields([*kept, *dropped]), kept)
        self.assertEqual(rewritten_fields([(b"etag", b'"a"')]), [(b"etag", b'W/"a"')])

    @pytest.mark.feature("TRN-2")
    def test_what_is_asked(self) -> None:
        """Codings that can be read; tags as the origin knows them; no part by date of what may have been changed."""
        for fields, expected in (
            ([(b"accept-encoding", b"zstd, br, gzip")], [(b"accept-encoding", b"gzip")]),
            ([(b"If-Match", b'W/"a", "b"')], [(b"If-Match", b'"a", "b"')]),
            ([(b"If-None-Match", b'W/"a"')], [(b"If-None-Match", b'W/"a"')]),
            ([(b"Range", b"bytes=1-")], [(b"Range", b"bytes=1-")]),
            ([(b"Range", b"bytes=1-"), (b"If-Range", b'"a"')], [(b"Range", b"bytes=1-"), (b"If-Range", b'"a"')]),
            ([(b"Range", b"bytes=1-"), (b"If-Range", b"Sat, 29 Oct 1994 19:43:31 GMT"), HTML], [HTML]),
        ):
            self.assertEqual(WIKI_BODIES.up(fields), expected)


class BodyTests(SynchronousTestCase):
    """What becomes of the octets."""

    @pytest.mark.feature("TRN-2")
    def test_every_coding(self) -> None:
        """Read, rewritten, and written in the coding that the origin chose."""
        text = LINK + b"text " * 40_000 + LINK
        for coding in (b"gzip", b"deflate", b"br", b"zstd"):
            octets = encoded(text, coding)
            pieces = [octets[start : start + 1000] for start in range(0, len(octets), 1000)]
            answer = rewritten(pieces, HTML, (b"Content-Encoding", coding))
            self.assertEqual(decoded(answer, coding), text.replace(LINK, MOVED))

    def test_wrong_labels(self) -> None:
        """L03: what is not in its coding passes as it came, whatever the pieces."""
        for coding in (b"gzip", b"deflate", b"br", b"zstd"):
            for text in (LINK * 10, b"plain", b"p", b""):
                for size in (1, 3, 1000):
                    pieces = [text[start : start + size] for start in range(0, len(text), size)]
                    self.assertEqual(rewritten(pieces, HTML, (b"Content-Encoding", coding)), text)

    def test_cut_short(self) -> None:
        """What the origin did not complete is not complete for the client either."""
        octets = gzip.compress(LINK + b"x" * 100)[:-4]
        answer = rewritten([octets], HTML, (b"Content-Encoding", b"gzip"))
        codec = find_codec([b"gzip"])
        assert codec is not None
        codec[0].receive(answer)
        self.assertEqual(taken(codec[0]), MOVED + b"x" * 100)
        self.assertFalse(codec[0].complete)

    def test_broken_in_the_middle(self) -> None:
        """What was begun cannot be taken back: it is an error."""
        body = found(HTML, (b"Content-Encoding", b"gzip"))
        assert body is not None
        octets = gzip.compress(b"".join(hashlib.sha512(b"%d" % number).hexdigest().encode() for number in range(4000)))
        b"".join(body.receive(octets[:50_000]))
        with self.assertRaises(Unreadable):
            b"".join(body.receive(octets[50_000:-8] + b"\xff" * 8))

    @pytest.mark.feature("TRN-2")
    def test_bombs_are_given_up(self) -> None:
        """L01: after some megabytes, in bounded steps."""
        body = found(HTML, (b"Content-Encoding", b"gzip"))
        assert body is not None
        octets = gzip.compress(b"\0" * 20_000_000)
        longest = 0
        with self.assertRaises(Bomb):
            for start in range(0, len(octets), 16384):
                for piece in body.receive(octets[start : start + 16384]):
                    longest = max(longest, len(piece))
        self.assertLess(longest, 65536)

    @pytest.mark.feature("TRN-2")
    def test_charsets(self) -> None:
        """L04: with one octet a character, several or two; said by the answer, by the text or by its first octets."""
        page = '<meta charset="%s"><p>表 é ü</p>' + LINK.decode()
        for charset, kind in (
            ("utf-8", b"text/html"),
            ("utf-8", b"text/html; charset=utf-8"),
            ("utf-16-le", b"text/html; charset=utf-16"),
            ("utf-16-be", b"text/html; charset=utf-16be"),
            ("utf-16", b"text/html; charset=utf-8"),  # with a byte order mark, which counts for more
            ("utf-16-be", b"application/json"),
            ("shift_jis", b"text/html; charset=Shift_JIS"),
            ("gb18030", b"text/html"),
            ("euc_jp", b"text/html"),
        ):
            text = page % charset
            if "jis" in charset or "jp" in charset:
                text = text.replace("é ü", "")
            octets = text.encode(charset)
            for size in (1, 2, 5, 10_000):
                pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
                answer = rewritten(pieces, (b"Content-Type", kind))
                self.assertEqual(answer, text.replace(LINK.decode(), MOVED.decode()).encode(charset), (charset, kind))

    def test_texts_that_say_they_are_something_else(self) -> None:
        """L04: from where a page says so, it is left alone."""
        text = LINK + b'<meta charset="iso-2022-jp">' + LINK
        for size in (1, 7, 1000):
            pieces = [text[start : start + size] for start in range(0, len(text), size)]
            self.assertEqual(rewritten(pieces, HTML), MOVED + b'<meta charset="iso-2022-jp">' + LINK)
        self.assertEqual(rewritten([text], (b"Content-Type", b"text/html; charset=latin1")), text.replace(LINK, MOVED))

    @pytest.mark.feature("TRN-2")
    def test_each_piece_is_passed_on_at_once(self) -> None:
        """L10: events of a stream do not wait for one another, compressed or not."""
        body = found((b"Content-Type", b"text/event-stream"))
        assert body is not None
        for number in range(3):
            event = b"data: %d http://wiki.corp/\n\n" % number
            self.assertEqual(b"".join(body.receive(event)), event.replace(b"http://wiki.corp", b"https://wiki.test"))
        packed = found((b"Content-Type", b"text/event-stream"), (b"Content-Encoding", b"gzip"))
        origin, client = find_codec([b"gzip"]), find_codec([b"gzip"])
        assert packed is not None
        assert origin is not None
        assert client is not None
        for number in range(3):
            event = b"data: %d http://wiki.corp/\n\n" % number
            for piece in packed.receive(origin[1].encode(event) + origin[1].flush()):
                client[0].receive(piece)
            self.assertEqual(taken(client[0]), event.replace(b"http://wiki.corp", b"https://wiki.test"))

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.sampled_from([LINK, b"t ", b"//", b'<meta charset="gbk">', b'<?xml encoding="gbk"?>', b"\xe9h", b"http"])
        ),
        st.sampled_from([b"", b"gzip", b"br", b"zstd"]),
        st.sampled_from(["utf-8", "utf-16-le"]),
        st.data(),
    )
    def test_however_it_is_cut(self, words: list[bytes], coding: bytes, charset: str, data: st.DataObject) -> None:
        """L05: any pieces, any coding, the same text."""
        text = b"".join(words)
        if charset != "utf-8":
            text = text.decode("latin-1").encode(charset)
        octets = encoded(text, coding) if coding else text
        fields = [HTML, (b"Content-Encoding", coding)] if coding else [HTML]
        pieces, left = [], octets
        while left:
            cut = data.draw(st.integers(1, len(left)))
            pieces.append(left[:cut])
            left = left[cut:]
        answers = [rewritten(cut, *fields) for cut in ([octets], pieces)]
        if coding and octets:
            answers = [decoded(answer, coding) for answer in answers]
        self.assertEqual(*answers)
