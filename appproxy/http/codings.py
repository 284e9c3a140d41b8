"""Content codings, in and out, piece by piece: gzip, deflate, br and zstd (RFC 9110 8.4, 7932, 8878).

Reading is bounded: whoever takes says how many octets there may be at once, so that a few octets which stand for
gigabytes cost no memory, and :class:`Bomb` ends it before they cost much time.  Writing favours speed.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import brotli

from appproxy.http.messages import tokens

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: A body may stand for so many times its own length, once that is more than :data:`FREE` octets.
MAX_RATIO: Final = 200
FREE: Final = 8 * 1024 * 1024
#: Windows in octets, as powers of two: what the coding zstd may need at most (RFC 9659), and what is written here.
_ZSTD_WINDOW_LOG: Final = 23
_WINDOW_LOG: Final = 18
#: For zlib: 32 KiB windows, framed as gzip, as zlib's own format, or not at all.
_GZIP, _ZLIB, _BARE = 31, 15, -15


class Unreadable(Exception):
    """What came is not in that coding."""


class Bomb(Exception):
    """What came stands for absurdly more than it is."""


class _Frame(Protocol):
    """One compressed unit; a body may have several after one another."""

    def read(self, data: bytes, limit: int) -> bytes:
        """What *data*, or what is left of earlier data, stands for; :raises Unreadable: nothing."""

    @property
    def rest(self) -> bytes | None:
        """What came after the end; ``None`` before it."""


class _Inflated:
    """gzip and deflate."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)

    def read(self, data: bytes, limit: int) -> bytes:
        try:
            return self._inflate.decompress(self._inflate.unconsumed_tail + data, limit)
        except zlib.error as problem:
            raise Unreadable(str(problem)) from None

    @property
    def rest(self) -> bytes | None:
        return self._inflate.unused_data if self._inflate.eof else None


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()
        self._waiting: list[bytes] = []

    def read(self, data: bytes, limit: int) -> bytes:
        try:
            if data:
                self._waiting.append(data)
            if not self._decompressor.can_accept_more_data():
                return self._take(b"", limit)
            data, self._waiting = b"".join(self._waiting), []
            return self._take(data, limit)
        except brotli.error as problem:
            raise Unreadable(str(problem)) from None

    def _take(self, data: bytes, limit: int) -> bytes:
        taken: bytes = self._decompressor.process(data, output_buffer_limit=limit)
        return taken

    @property
    def rest(self) -> bytes | None:
        return b"" if self._decompressor.is_finished() else None


class _Zstd:
    def __init__(self) -> None:
        options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
        self._decompressor = zstd.ZstdDecompressor(options=options)

    def read(self, data: bytes, limit: int) -> bytes:
        try:
            return self._decompressor.decompress(data, limit)
        except zstd.ZstdError as problem:
            raise Unreadable(str(problem)) from None

    @property
    def rest(self) -> bytes | None:
        return self._decompressor.unused_data if self._decompressor.eof else None


def _deflated(beginning: bytes) -> _Frame:
    """Deflate in zlib's format or, as some servers send it, without."""
    framed = beginning[0] & 0x0F == 8 and (beginning[0] << 8 | beginning[1]) % 31 == 0
    return _Inflated(_ZLIB if framed else _BARE)


class Decoder:
    """Reads one body in one coding.

    :ivar complete: its end has come.
    :ivar received: its octets so far, and *decoded*: what they stood for.
    """

    __slots__ = ("_coding", "_frame", "_waiting", "complete", "decoded", "received")

    def __init__(self, coding: _Coding) -> None:
        self._coding = coding
        self._frame: _Frame | None = None
        self._waiting = b""
        self.complete = False
        self.received = self.decoded = 0

    def receive(self, data: bytes) -> None:
        """Some more of it."""
        self.received += len(data)
        self._waiting += data

    def take(self, limit: int) -> bytes:
        """What it stands for, at most *limit* octets at a time; empty when more has to come.

        :raises Unreadable: it is something else.
        :raises Bomb: it is not worth reading.
        """
        while self._frame is not None or self._begin():
            data, self._waiting = self._waiting, b""
            decoded = self._frame.read(data, limit)  # type: ignore[union-attr]
            rest = self._frame.rest  # type: ignore[union-attr]
            if rest is not None:
                self._frame, self._waiting, self.complete = None, rest, True
            if decoded:
                self.decoded += len(decoded)
                if self.decoded > FREE and self.decoded > MAX_RATIO * self.received:
                    raise Bomb(f"{self.received} octets stand for more than {self.decoded}")
                return decoded
            if rest is None:
                break
        return b""

    def _begin(self) -> bool:
        """Begin with a frame, if enough of one has come; what follows the last one is nothing."""
        if len(self._waiting) < self._coding.least:
            return False
        if self.complete and not (self._coding.magic and self._coding.magic.match(self._waiting)):
            self._waiting = b""
            return False
        self._frame = self._coding.frame(self._waiting)
        return True


class Encoder(Protocol):
    """Writes one body in one coding."""

    def encode(self, data: bytes) -> bytes:
        """Some more of it; returns what can be sent by now."""

    def flush(self) -> bytes:
        """What is missing so that all of it so far can be read."""

    def end(self) -> bytes:
        """The rest, and that it is complete."""


class _Deflating:
    def __init__(self, window_bits: int) -> None:
        # Half the time of the usual level, for a twentieth more octets.
        self._deflate = zlib.compressobj(4, zlib.DEFLATED, window_bits)

    def encode(self, data: bytes) -> bytes:
        return self._deflate.compress(data)

    def flush(self) -> bytes:
        return self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._deflate.flush()


class _BrotliWriting:
    def __init__(self) -> None:
        compressor: Any = brotli.Compressor(quality=3, lgwin=_WINDOW_LOG)
        self.encode: Callable[[bytes], bytes] = compressor.process
        self.flush: Callable[[], bytes] = compressor.flush
        self.end: Callable[[], bytes] = compressor.finish


class _ZstdWriting:
    def __init__(self) -> None:
        parameter = zstd.CompressionParameter
        options = {int(parameter.compression_level): 3, int(parameter.window_log): _WINDOW_LOG}
        self._compressor = zstd.ZstdCompressor(options=options)

    def encode(self, data: bytes) -> bytes:
        return self._compressor.compress(data)

    def flush(self) -> bytes:
        return self._compressor.flush(self._compressor.FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._compressor.flush()


class _Coding(NamedTuple):
    """How one coding is read and written; *least* octets tell how one begins, and *magic* that another one does."""

    frame: Callable[[bytes], _Frame]
    encoder: Callable[[], Encoder]
    least: int = 1
    magic: re.Pattern[bytes] | None = None


_GZIP_CODING = _Coding(lambda _: _Inflated(_GZIP), lambda: _Deflating(_GZIP), 2, re.compile(rb"\x1f\x8b"))
_CODINGS: Final = {
    b"gzip": _GZIP_CODING,
    b"x-gzip": _GZIP_CODING,
    b"deflate": _Coding(_deflated, lambda: _Deflating(_ZLIB), 2),
    b"br": _Coding(lambda _: _Brotli(), _BrotliWriting),
    b"zstd": _Coding(
        lambda _: _Zstd(), _ZstdWriting, 4, re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
    ),
}


class UnknownCoding(Exception):
    """A body is in a coding, or in several, that nobody here reads."""


def find_codec(content_encoding: Iterable[bytes]) -> tuple[Decoder, Encoder] | None:
    """What reads and writes bodies with these ``Content-Encoding`` values; ``None`` when they are as they are.

    :raises UnknownCoding: nothing does.
    """
    codings = [token for token in tokens(content_encoding) if token != b"identity"]
    if not codings:
        return None
    coding = _CODINGS.get(codings[0])
    if coding is None or len(codings) > 1:
        raise UnknownCoding
    return Decoder(coding), coding.encoder()


def acceptable(accept_encoding: bytes) -> bytes:
    """An ``Accept-Encoding`` of what can be read here: if the client takes gzip, that, which needs least memory."""
    readable = []
    for member in accept_encoding.split(b","):
        name, _, weight = member.partition(b";")
        name = name.strip(b" \t").lower()
        if name == b"gzip" and not re.fullmatch(rb"[ \t]*q=0(\.0*)?[ \t]*", weight, re.IGNORECASE):
            return b"gzip"
        if name in _CODINGS or name == b"identity":
            readable.append(member.strip(b" \t"))
    return b", ".join(readable) or b"identity"
