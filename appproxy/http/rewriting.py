"""Bodies with their links moved: which answers, what becomes of their fields, and the octets piece by piece.

Decode, find the charset, move links, encode again: each step holds a bounded number of octets, and what an origin has
sent completely is passed on at once.  Whatever cannot be read, or must not be changed, passes as it is: unknown types,
charsets and codings, parts (206), ``Cache-Control: no-transform``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

from appproxy.http.charsets import DECLARED_WITHIN, SNIFFED, Narrowed, Reading, find_declaration, reading_of, sniff
from appproxy.http.codings import Decoder, Encoder, UnknownCoding, Unreadable, acceptable, find_codec
from appproxy.http.links import Links, LinkScanner
from appproxy.http.messages import Field, ResponseHead, tokens
from appproxy.http.translate import Translation

#: Decoded octets that are handled in one step, and octets that may come before a coding has shown to be what it says.
STEP: Final = 64 * 1024
_MAX_DOUBTED: Final = 128 * 1024
#: What is text with links in it; ``+json`` and ``+xml`` likewise.
_TYPES: Final = frozenset(
    b"text/html text/css text/javascript text/ecmascript text/xml text/json text/event-stream text/uri-list "
    b"application/javascript application/x-javascript application/ecmascript application/json application/x-ndjson "
    b"application/xml application/xhtml+xml application/manifest+json".split()
)
_XML: Final = (b"text/xml", b"application/xml")
#: Types that may say their charset in themselves.
_DECLARING: Final = frozenset(b"text/html text/css text/xml application/xml application/xhtml+xml".split())
_CHARSET = re.compile(rb";[ \t]*charset[ \t]*=[ \t]*(\"[^\"]*\"|[^ \t;,]*)", re.IGNORECASE)
#: What is said of the octets of the body, and not true of the new ones.
_OF_OCTETS: Final = frozenset(
    b"content-length content-md5 digest content-digest repr-digest accept-ranges signature signature-input".split()
)
_NO_CONTENT: Final = frozenset({204, 205, 206, 304})
MULTISTATUS: Final = 207


class Rewriting:
    """Rewrites the bodies of one published place; made once and used for every answer.

    Without ``translation.bodies`` these are WebDAV's multistatus answers only, whose places go with those in fields.
    """

    def __init__(self, translation: Translation) -> None:
        self._translation = translation
        self.bodies = translation.bodies

    # Made when they are needed: most places never have such answers.

    @cached_property
    def _links(self) -> Links | None:
        return Links(self._translation) if self.bodies else None

    @cached_property
    def _elements(self) -> Links | None:
        return Links(self._translation, elements=True) if self._translation.headers else None

    def up(self, fields: Sequence[Field]) -> list[Field]:
        """The fields of a request whose answer may be rewritten.

        Codings that can be read; entity tags as the origin gave them; no part of something that may have been
        rewritten, as far as the client can be told from its own words: a part from a certain date on is all of it.
        """
        kept = [_up(name, value) for name, value in fields]
        dated = any(name.lower() == b"if-range" and not value.endswith(b'"') for name, value in kept)
        if dated:
            kept = [field for field in kept if field[0].lower() not in (b"range", b"if-range")]
        return kept

    def find(self, head: ResponseHead) -> Rewritten | None:
        """What rewrites the body of this answer; ``None`` when it passes as it is."""
        known = head.known
        multistatus = head.status == MULTISTATUS
        links = self._elements if multistatus else self._links
        if links is None:
            return None
        types = known.get(b"content-type", ())
        if len(types) != 1 or head.status in _NO_CONTENT or head.status < 200 or b"content-range" in known:
            return None
        kind = types[0].partition(b";")[0].strip(b" \t").lower()
        if kind not in _XML if multistatus else kind not in _TYPES and not kind.endswith((b"+json", b"+xml")):
            return None
        if b"no-transform" in tokens(known.get(b"cache-control", ())):
            return None
        label = _CHARSET.search(types[0])
        reading = reading_of(label[1]) if label else None
        if reading is Reading.NONE:
            return None
        try:
            codec = find_codec(known.get(b"content-encoding", ()))
        except UnknownCoding:
            return None
        return Rewritten(RewrittenText(links, reading, kind in _DECLARING, kind == b"text/html"), codec)


def _up(name: bytes, value: bytes) -> Field:
    match name.lower():
        case b"accept-encoding":
            return name, acceptable(value)
        case b"if-match":
            return name, value.replace(b'W/"', b'"')
    return name, value


def rewritten_fields(fields: Sequence[Field]) -> list[Field]:
    """The fields of an answer whose body is rewritten: nothing that was said of its octets, and weak validators."""
    return [
        (name, b"W/" + value if value.startswith(b'"') and name.lower() == b"etag" else value)
        for name, value in fields
        if name.lower() not in _OF_OCTETS
    ]


class RewrittenText:
    """Text in whatever charset.

    :param reading: what the answer said of its charset, if anything.
    :param declares: whether the text itself may say it.
    :param html: whether it has elements whose text is no markup.
    """

    __slots__ = ("_beginning", "_declares", "_html", "_links", "_narrowed", "_reading", "_scanner", "_sniffed")

    def __init__(self, links: Links, reading: Reading | None, declares: bool, html: bool = False) -> None:
        self._links = links
        self._reading = reading
        self._html = html
        self._declares = declares and reading is None
        self._beginning = b""
        self._sniffed = False
        self._narrowed: Narrowed | None = None
        self._scanner: LinkScanner | None = None

    def receive(self, data: bytes) -> bytes:
        """Some more of the text; returns what is decided of it."""
        if not self._sniffed:
            data = self._beginning + data
            if len(data) < SNIFFED:
                self._beginning = data
                return b""
            self._begin(data)
        if not self._declares:
            return self._scan(data)
        # Until it has said how to read it, it is read in the way that is right for all.
        before = len(self._beginning)
        self._beginning = (self._beginning + data)[:DECLARED_WITHIN]
        found = find_declaration(self._beginning)
        if found is None:
            self._declares = len(self._beginning) < DECLARED_WITHIN
            return self._scan(data)
        reading, end = found
        self._declares = False
        here = max(0, end - before)
        begun = self._scan(data[:here]) + self._end_scanning()
        self._read(reading)
        return begun + self._scan(data[here:])

    def end(self) -> bytes:
        """There is no more; returns the rest."""
        rest = b""
        if not self._sniffed:
            data = self._beginning
            self._begin(data)
            rest = self._scan(data)
        rest += self._end_scanning()
        return rest + self._narrowed.rest() if self._narrowed is not None else rest

    def _begin(self, data: bytes) -> None:
        self._sniffed = True
        self._beginning = b""
        reading = sniff(data)
        if reading is not None:
            self._declares = False
        self._read(reading or self._reading or (Reading.HALVES if self._declares else Reading.OCTETS))

    def _read(self, reading: Reading) -> None:
        if reading is Reading.NONE:
            self._scanner = None
            return
        self._scanner = LinkScanner(self._links, reading is Reading.HALVES, self._html)
        if reading in (Reading.UTF16_LE, Reading.UTF16_BE):
            self._narrowed = Narrowed(reading)

    def _scan(self, data: bytes) -> bytes:
        if self._scanner is None:
            return data
        if self._narrowed is None:
            return self._scanner.receive(data)
        return self._narrowed.widen(self._scanner.receive(self._narrowed.narrow(data)))

    def _end_scanning(self) -> bytes:
        if self._scanner is None:
            return b""
        rest = self._scanner.end()
        return rest if self._narrowed is None else self._narrowed.widen(rest)


class Rewritten:
    """One body on its way; each step of its iterators handles about :data:`STEP` octets.

    All iterators but the last one have to be used up before more is received.
    """

    __slots__ = ("_decoder", "_doubted", "_encoder", "_passing", "_text")

    def __init__(self, text: RewrittenText, codec: tuple[Decoder, Encoder] | None) -> None:
        self._text = text
        self._decoder: Decoder | None = codec[0] if codec else None
        self._encoder: Encoder | None = codec[1] if codec else None
        #: What came before the coding has shown to be what it says.
        self._doubted: list[bytes] | None = None if codec is None else []
        self._passing = False

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Some more of the body; gives what can be sent by now, sometimes nothing in a step.

        :raises Unreadable: it stopped being in its coding.
        :raises Bomb: it stands for absurdly much.
        """
        if self._passing:
            yield data
        elif self._decoder is None:
            for start in range(0, len(data), STEP):
                yield self._text.receive(data[start : start + STEP])
        else:
            yield from self._decoded(data)

    def end(self) -> Iterator[bytes]:
        """There is no more; gives the rest."""
        if self._passing:
            return
        if self._decoder is None or self._encoder is None:
            yield self._text.end()
        elif self._doubted is not None:
            yield b"".join(self._doubted)
        elif self._decoder.complete:
            yield self._encoder.encode(self._text.end()) + self._encoder.end()
        else:  # cut short, and it is to be seen as such
            yield self._encoder.encode(self._text.end()) + self._encoder.flush()

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        decoder, encoder = self._decoder, self._encoder
        assert decoder is not None
        assert encoder is not None
        decoder.receive(data)
        if self._doubted is not None:
            self._doubted.append(data)
        written = False
        while True:
            try:
                decoded = decoder.take(STEP)
            except Unreadable:
                if self._doubted is None:
                    raise
                decoded = b""
                self._passing = True
            if self._doubted is not None and not decoded and decoder.received > _MAX_DOUBTED:
                self._passing = True
            if self._passing:
                yield b"".join(self._doubted or ())
                self._doubted = None
                return
            if not decoded:
                break
            self._doubted = None
            yield encoder.encode(self._text.receive(decoded))
            written = True
        if written:
            yield encoder.flush()
