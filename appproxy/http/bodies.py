"""Body framing of HTTP/1.1 in both directions: chunked read strictly, either framing written (RFC 9112, 6 and 7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from appproxy.http.messages import Field, LengthMismatch, MalformedMessage, parse_fields, serialise_trailers

#: A size of at most 15 digits stays below 2**60; extensions are read over and dropped.
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t -~\x80-\xff]*+)?\r\n")
#: Extensions as RFC 9112, 7.1.1 has them: an open quote or a bare ``;`` lets laxer readers end the line elsewhere.
_EXTENSIONS: Final = re.compile(
    rb"(?:[ \t]*;[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
    rb"(?:[ \t]*=[ \t]*(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++|\"(?:[^\"\\]|\\.)*+\"))?+)*+"
)
#: What may still become a size line, so that nonsense is refused at once and not when it has become long.
_SIZE_START: Final = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:;[\t -~\x80-\xff]*+)?\r?)?")
_MAX_SIZE_LINE: Final = 1024
#: Extension octets beyond one per body octet: many one-octet chunks with long extensions are an attack.
_FREE_EXTENSIONS: Final = 16 * 1024

#: Names that must not come late, with ``_`` and ``.`` read as ``-``: framing, routing, credentials, cookies,
#: conditions and what says how to read the body (RFC 9110, 6.5.1).
FORBIDDEN_TRAILERS: Final = frozenset(
    b"authorization cache-control client-cert connection content-disposition content-encoding content-length "
    b"content-location content-range content-security-policy content-type cookie date expect expires forwarded from "
    b"host if if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive location max-forwards "
    b"origin pragma proxy-authenticate proxy-authorization proxy-connection range referer refresh remote-user "
    b"retry-after set-cookie strict-transport-security te trailer transfer-encoding upgrade vary via warning "
    b"www-authenticate x-original-url x-rewrite-url".split()
)
_FORBIDDEN_PREFIXES: Final = (b"x-forwarded-", b"access-control-", b"sec-")
#: One translation folds case and the spellings that CGI-like servers confuse.
FOLD: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_.", b"abcdefghijklmnopqrstuvwxyz--")


def keep_allowed_trailers(fields: Sequence[Field]) -> list[Field]:
    """Those of *fields* that may stand in a trailer section."""
    return [
        field
        for field in fields
        if (name := field[0].translate(FOLD)) not in FORBIDDEN_TRAILERS and not name.startswith(_FORBIDDEN_PREFIXES)
    ]


class ChunkedReader:
    """Takes a chunked body apart, whatever way it is sliced.

    :ivar done: the body and its trailers are complete.
    :ivar trailers: the allowed ones, once done.
    :ivar rest: what came after the body, once done.
    """

    __slots__ = (
        "_extensions", "_held", "_max_fields", "_max_trailers", "_remaining", "_trailing", "done", "rest", "trailers",
    )  # fmt: skip

    def __init__(self, max_trailers: int, max_fields: int) -> None:
        self.done = False
        self.trailers: list[Field] = []
        self.rest = b""
        self._held = b""
        #: Octets left of this chunk with its CRLF; 0: a size line is next.
        self._remaining = 0
        self._trailing = False
        self._extensions = _FREE_EXTENSIONS
        self._max_trailers = max_trailers
        self._max_fields = max_fields

    def read(self, received: bytes) -> bytes:
        """The body octets in *received*, joined.

        :raises MalformedMessage: at the first octet that cannot belong to a strict chunked body.
        """
        if self._held:
            received = self._held + received
            self._held = b""
        position, size = 0, len(received)
        parts: list[bytes] = []
        while not self._trailing and position < size:
            if self._remaining:
                position = self._read_chunk(received, position, parts)
                if self._held:
                    break
                continue
            line = _SIZE_LINE.match(received, position)
            if line is None or line.end() - position > _MAX_SIZE_LINE:
                self._hold_size_line(received[position:])
                break
            self._count_extension(line)
            position = line.end()
            length = int(line[1], 16)
            if length:
                self._remaining = length + 2
                self._extensions += length
            else:
                self._trailing = True
        if self._trailing:
            self._read_trailers(received[position:])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_chunk(self, received: bytes, position: int, parts: list[bytes]) -> int:
        """Take what there is of a chunk; hold back a CR whose LF has not come."""
        remaining = self._remaining
        if remaining > 2:
            part = received[position : position + remaining - 2]
            parts.append(part)
            position += len(part)
            remaining -= len(part)
        if remaining == 2:
            end = received[position : position + 2]
            if end == b"\r\n":
                remaining = 0
                position += 2
            elif end in b"\r":
                self._held = end
            else:
                raise MalformedMessage("chunk longer than its size")
        self._remaining = remaining
        return position

    def _hold_size_line(self, start: bytes) -> None:
        if len(start) > _MAX_SIZE_LINE or not _SIZE_START.fullmatch(start):
            raise MalformedMessage("malformed chunk size")
        self._held = start

    def _count_extension(self, line: re.Match[bytes]) -> None:
        if line[2] is not None:
            if not _EXTENSIONS.fullmatch(line[2]):
                raise MalformedMessage("malformed chunk extension")
            self._extensions -= len(line[2])
            if self._extensions < 0:
                raise MalformedMessage("more chunk extensions than body")

    def _read_trailers(self, block: bytes) -> None:
        if block.startswith(b"\r\n"):
            end = 2
        else:
            end = block.find(b"\r\n\r\n") + 4
            if end > self._max_trailers or (end < 4 and len(block) > self._max_trailers):
                raise MalformedMessage("trailers too long")
            if end < 4:
                if block.count(b"\n") != block.count(b"\r\n"):
                    raise MalformedMessage("bare line feed in trailers")
                self._held = block
                return
            fields = parse_fields(b"\r\n" + block[:end], 0)
            if len(fields) > self._max_fields:
                raise MalformedMessage("too many trailers")
            self.trailers = keep_allowed_trailers(fields)
        self.done = True
        self.rest = block[end:]


class BodyWriter:
    """Frames one body that is being sent.

    :ivar remaining: octets still owed of a known length; ``None`` when the length is not known.
    :ivar ended: nothing more may be sent.
    """

    __slots__ = ("chunked", "ended", "remaining")

    def __init__(self, length: int | None, chunked: bool) -> None:
        self.remaining = length
        self.chunked = chunked
        self.ended = False

    def body(self, octets: bytes) -> bytes:
        """*octets* as they go on the wire.

        :raises LengthMismatch: more than the head announced.
        """
        if self.ended:
            raise LengthMismatch("after the end")
        if self.chunked:
            return b"%x\r\n%b\r\n" % (len(octets), octets) if octets else b""
        if self.remaining is not None:
            self.remaining -= len(octets)
            if self.remaining < 0:
                raise LengthMismatch("longer than announced")
        return octets

    def end(self, trailers: Sequence[Field] = ()) -> bytes:
        """What ends the body; trailers are lost where the framing has no place for them.

        :raises LengthMismatch: less than the head announced.
        """
        if self.ended or self.remaining:
            raise LengthMismatch("shorter than announced" if self.remaining else "ended twice")
        self.ended = True
        if self.chunked:
            return b"0\r\n" + serialise_trailers(keep_allowed_trailers(trailers))
        return b""
