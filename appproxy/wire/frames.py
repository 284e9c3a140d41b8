"""Frames: the smallest unit in a channel.  ``length u32 | kind u8 | flags u8 | stream u32``, then *length* bytes."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final


class Kind(IntEnum):
    """What a frame is."""

    CONTROL = 0
    HEADERS = 1
    DATA = 2
    WINDOW = 3
    RESET = 4
    PING = 5
    GOAWAY = 6


class Flag(IntFlag):
    """What a frame says beside its payload."""

    #: The sender's half of the stream ends with this frame.
    END = 1
    #: An interim answer (1xx); the final one follows.
    INFORMATIONAL = 2
    #: Fields that follow the body; always with END.
    TRAILERS = 4
    #: Request: may become a byte pipe.  Answer: becomes one now (status 101).
    UPGRADE = 8
    #: This PING answers one; the same bit as END, which a PING cannot have.
    ACK = 1


class Code(IntEnum):
    """Why a stream or a channel ended, for the peer."""

    NONE = 0
    PROTOCOL = 1
    INTERNAL = 2
    #: Nothing was delivered: safe to try again elsewhere.
    REFUSED = 3
    #: The client went away.
    CANCELLED = 4
    FLOW = 5
    LIMIT = 6
    UNKNOWN_APPLICATION = 16
    NOT_ALLOWED = 17
    DNS = 18
    CONNECT = 19
    TLS = 20
    SSO = 21
    FIRST_BYTE = 22
    IDLE = 23
    ORIGIN_BROKE_OFF = 24
    NOT_HTTP = 25
    CONNECT_TIMEOUT = 26
    TOTAL = 27


HEADER: Final = Struct("!IBBI")
U32: Final = Struct("!I")
U16: Final = Struct("!H")
GOAWAY: Final = Struct("!IHI")

#: A DATA payload is never larger, so that one stream cannot hold the link for long.
MAX_DATA: Final = 32 * 1024
#: A head or trailers: more than any server accepts (nginx 32 KiB, IIS 16 KiB), Kerberos tickets and identity included.
MAX_HEAD: Final = 256 * 1024
#: A document: some thousand applications of one group.
MAX_DOCUMENT: Final = 1024 * 1024
#: The text of RESET and GOAWAY: one line for a log.
MAX_TEXT: Final = 1024
#: The opaque bytes of a PING.
PING_BYTES: Final = 8
#: Kinds of later versions are skipped, but never with more payload than a head.
MAX_UNKNOWN: Final = MAX_HEAD
#: The most payload that a frame of each kind may declare, by kind.
MAX_PAYLOADS: Final = (MAX_DOCUMENT, MAX_HEAD, MAX_DATA, 4, 2 + MAX_TEXT, PING_BYTES + 4, GOAWAY.size + MAX_TEXT)
#: The least payload of each kind.
MIN_PAYLOADS: Final = (0, 0, 0, 4, 2, PING_BYTES, GOAWAY.size)
#: The flags that a frame of each kind may carry, by kind.
KNOWN_FLAGS: Final = (0, 15, 1, 0, 0, 1, 0)
#: Least and most payload and the flags that it cannot have, by kind; at last for all kinds of later versions.
BOUNDS: Final = (
    *zip(MIN_PAYLOADS, MAX_PAYLOADS, [0xFF & ~known for known in KNOWN_FLAGS], strict=True),
    (0, MAX_UNKNOWN, 0),
)
#: What leaves in one turn travels as one message of about this many bytes, so that its cost is shared.
MESSAGE_BYTES: Final = 64 * 1024
#: No message is larger: a frame that is larger than ``MESSAGE_BYTES`` travels alone.
MAX_MESSAGE: Final = HEADER.size + MAX_DOCUMENT
#: The last id that 32 bits hold.
MAX_STREAM: Final = 2**32 - 1


def encode(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(len(payload), kind, flags, stream) + payload


def encode_text(text: str) -> bytes:
    """*text* as UTF-8, cut at a character to at most ``MAX_TEXT`` bytes."""
    octets = text.encode("utf-8", "replace")
    return octets if len(octets) <= MAX_TEXT else octets[:MAX_TEXT].decode("utf-8", "ignore").encode()


def decode_text(octets: bytes) -> str:
    """What a peer wrote, whatever it is; for people, never for decisions."""
    return octets.decode("utf-8", "replace")


def encode_window(stream: int, credit: int) -> bytes:
    """Give the peer *credit* more bytes on *stream*; 0 is the channel."""
    return HEADER.pack(4, Kind.WINDOW, 0, stream) + U32.pack(credit)


def encode_reset(stream: int, code: int, text: str = "") -> bytes:
    """End *stream* in both directions, saying why."""
    return encode(Kind.RESET, 0, stream, U16.pack(code) + encode_text(text))


def decode_reset(payload: bytes) -> tuple[int, str]:
    """The code (perhaps one of a later version) and the text of a RESET."""
    return U16.unpack_from(payload)[0], decode_text(payload[2:])


def encode_goaway(last: int, code: int, retry_after_ms: int, text: str = "") -> bytes:
    """No streams after *last* will be served."""
    return encode(Kind.GOAWAY, 0, 0, GOAWAY.pack(last, code, retry_after_ms) + encode_text(text))


def decode_goaway(payload: bytes) -> tuple[int, int, int, str]:
    """Last stream, code, retry-after in ms, text."""
    last, code, retry_after_ms = GOAWAY.unpack_from(payload)
    return last, code, retry_after_ms, decode_text(payload[GOAWAY.size :])
