"""What an HTTP/2 client sends, frame by frame, before anything else looks at it: here ends what only costs.

Most attacks on HTTP/2 are frames that are cheap to send and dear to answer, each of them allowed.  So frames are
counted by kind, against budgets that fill up again with time and with honest work; what is over its budget is a flood.
Frames that change nothing for a server (priorities, extensions) are dropped on the way.  Nothing is copied that need
not be, and nothing but the start of a frame's header is ever kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

#: What a client says first (RFC 9113, 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: The largest frame that is taken; it is also what every client may send without asking (RFC 9113, 4.2).
MAX_FRAME = 16 * 1024
#: Frames after the first that a head may be spread over; the largest that is taken needs eight.
MAX_PIECES = 32

_HEADER = struct.Struct("!HBBBL")
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 0x1, 0x4, 0x1, 0x8
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS = 0, 1, 2, 3, 4
_PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 5, 6, 7, 8, 9
#: DATA with less than this is small, and a padded frame up to this size is as good as empty.
_SMALL, _NOTHING = 64, 8


class Code(IntEnum):
    """Why a stream or connection ends (RFC 9113, 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11
    HTTP_1_1_REQUIRED = 13


class BrokenConnection(Exception):
    """The client broke HTTP/2, or asked for more than is decent; the connection ends with *code*.

    The text says why and repeats nothing of what came.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Budget:
    """So many at once, and so many a second after that.

    :param burst: what may come at once, or be saved up.
    """

    __slots__ = ("_burst", "_left", "_looked", "_rate", "_seconds", "_text")

    def __init__(self, text: str, burst: float, rate: float, seconds: Callable[[], float]) -> None:
        self._text = text
        self._burst = self._left = burst
        self._rate = rate
        self._seconds = seconds
        self._looked = seconds()

    def spend(self, count: float = 1) -> None:
        """Count what came.

        :raises BrokenConnection: it is a flood.
        """
        self._left -= count
        if self._left < 0:
            now = self._seconds()
            self._left = min(self._burst, self._left + (now - self._looked) * self._rate)
            self._looked = now
            if self._left < 0:
                raise BrokenConnection(Code.ENHANCE_YOUR_CALM, self._text)

    def earn(self, count: float) -> None:
        """Honest work was done that entitles to *count* more."""
        if self._left < self._burst:
            self._left += count


class Intake:
    """Looks at every frame of one client.

    :param max_head: octets of a compressed head; what is longer unpacks to more than anybody accepts.
    :param seconds: a monotonic clock, asked only when a budget is used up.
    :ivar resets: cancelled requests, and those that a client made us cancel.
    :ivar went_away: the client has said that it will ask no more.
    """

    __slots__ = (
        "_block", "_block_stream", "_control", "_dropping", "_first", "_held", "_kind", "_left", "_max_head",
        "_pieces", "_preface", "_small", "_windows", "resets", "went_away",
    )  # fmt: skip

    def __init__(self, max_head: int, seconds: Callable[[], float]) -> None:
        self._max_head = max_head
        self._preface = PREFACE
        #: No frame has come yet.
        self._first = True
        #: The beginning of a frame's header.
        self._held = b""
        #: Octets that are still to come of the frame under way, its kind, and whether it is dropped.
        self._left = self._kind = 0
        self._dropping = False
        #: The stream of the head that is being sent, 0 between heads; its size and further frames.
        self._block_stream = self._block = self._pieces = 0
        self.went_away = False
        # A browser that leaves a page cancels all that it waits for.
        self.resets = Budget("too many cancelled requests", 200, 20, seconds)
        self._control = Budget("too many frames that ask for nothing", 400, 20, seconds)
        self._windows = Budget("too many window updates", 2000, 100, seconds)
        self._small = Budget("too many tiny pieces", 10_000, 1000, seconds)

    @property
    def in_head(self) -> bool:
        """A head has begun and has not ended."""
        return bool(self._block_stream) or (self._left > 0 and self._kind in (_HEADERS, _CONTINUATION))

    def sent_data(self) -> None:
        """A DATA frame went out: its reader will open windows again."""
        self._windows.earn(4)

    def take(self, data: bytes) -> bytes:
        """Those octets of *data* that matter.

        :raises BrokenConnection: they are too many, or of a size that nobody may send.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        position, size = 0, len(data)
        kept, kept_from = [], 0
        if self._preface:
            position = min(len(self._preface), size)
            if not self._preface.startswith(data[:position]):
                raise BrokenConnection(Code.PROTOCOL_ERROR, "this is not HTTP/2")
            self._preface = self._preface[position:]
        if self._left:
            end = min(position + self._left, size)
            self._left -= end - position
            if self._dropping:
                kept.append(data[:position])
                kept_from = end
            position = end
        while size - position >= 9:
            high, low, kind, flags, stream = _HEADER.unpack_from(data, position)
            length = high << 8 | low
            self._kind = kind
            self._dropping = not self._judge(kind, flags, stream & 0x7FFFFFFF, length)
            end = position + 9 + length
            self._left = max(0, end - size)
            if self._dropping:
                kept.append(data[kept_from:position])
                kept_from = min(end, size)
            position = min(end, size)
        if position < size:
            self._held = data[position:]
            kept.append(data[kept_from:position])
        elif not kept_from:
            return data
        else:
            kept.append(data[kept_from:])
        return b"".join(kept)

    def _judge(self, kind: int, flags: int, stream: int, length: int) -> bool:
        """Whether a frame is of any interest."""
        if length > MAX_FRAME:
            raise BrokenConnection(Code.FRAME_SIZE_ERROR, "a frame is too large")
        if self._first:
            self._first = False
            if kind != _SETTINGS or flags & _ACK:
                raise BrokenConnection(Code.PROTOCOL_ERROR, "the settings do not come first")
        if self._block_stream and (kind != _CONTINUATION or stream != self._block_stream):
            raise BrokenConnection(Code.PROTOCOL_ERROR, "a frame stands in the middle of a head")
        if kind == _DATA:
            if length < _SMALL and not flags & _END_STREAM:
                empty = not length or (flags & _PADDED and length <= _NOTHING)
                (self._control if empty else self._small).spend()
        elif kind in (_HEADERS, _PUSH_PROMISE, _CONTINUATION):
            self._judge_head(kind, flags, stream, length)
        elif kind == _WINDOW_UPDATE:
            self._windows.spend()
        elif kind == _RST_STREAM:
            self.resets.spend()
        else:
            self._control.spend()
            if kind == _GOAWAY:
                self.went_away = True
            return kind in (_SETTINGS, _PING)
        return True

    def _judge_head(self, kind: int, flags: int, stream: int, length: int) -> None:
        if kind == _CONTINUATION:
            self._pieces += 1
            if self._pieces > MAX_PIECES:
                raise BrokenConnection(Code.ENHANCE_YOUR_CALM, "a head comes in too many pieces")
        else:
            self._block = self._pieces = 0
            self._control.earn(2)
        self._block += length
        if self._block > self._max_head:
            raise BrokenConnection(Code.ENHANCE_YOUR_CALM, "a head is too large")
        self._block_stream = 0 if flags & _END_HEADERS else stream
