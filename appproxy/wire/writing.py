"""What is to leave: small frames first, then the streams in turn, one DATA frame each.

Nothing is queued without credit, so what waits here is bounded by what the peer is ready to take.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from appproxy.wire.frames import HEADER, MAX_DATA, Flag, Kind, encode
from appproxy.wire.streams import State, Stream
from appproxy.wire.windows import CHANNEL_WINDOW

#: The PING by which we ask to hear of room that we made ourselves.
NUDGE: Final = b"\0\0\0\0room"
_END: Final = int(Flag.END)
_DATA: Final = int(Kind.DATA)


class Outbox:
    """The frames of one channel that wait to be written, and the channel's own credit.

    :ivar credit: bytes of DATA that may still be queued.
    :ivar forced: bytes that the peer made us queue since it last read everything.
    :ivar waiting: streams that found no credit left in the channel, in the order in which they asked.
    """

    __slots__ = ("_first", "_first_bytes", "_turns", "credit", "forced", "nudged", "waiting")

    def __init__(self) -> None:
        self._first: deque[bytes] = deque()
        self._first_bytes = 0
        self._turns: deque[Stream] = deque()
        self.credit = CHANNEL_WINDOW
        self.forced = 0
        self.nudged = False
        self.waiting: dict[int, Stream] = {}

    @property
    def pending(self) -> bool:
        """True when :meth:`take` would return something."""
        return bool(self._first or self._turns)

    def lingering(self, enough: int) -> int:
        """How many streams have ended for us, but not for the peer, as their last bytes have not left.

        :param enough: fewer than this need not be counted.
        """
        if len(self._turns) < enough:
            return 0
        return sum(stream.state is State.CLOSED for stream in self._turns)

    def put_first(self, frame: bytes) -> None:
        """Queue a frame that goes ahead of all DATA."""
        self._first.append(frame)
        self._first_bytes += len(frame)

    def force(self, frame: bytes) -> None:
        """The same, for what the peer made us say."""
        self.forced += len(frame)
        self.put_first(frame)

    def put(self, stream: Stream, header: bytes, payload: bytes | memoryview) -> None:
        """Queue a frame behind what *stream* has queued already."""
        queue = stream.queue
        if not queue:
            if queue is None:
                queue = stream.queue = deque()
            self._turns.append(stream)
        queue.append((header, payload))

    def room(self, stream: Stream) -> int:
        """How many bytes *stream* may send now; who hears 0 is remembered."""
        if stream.credit <= 0:
            stream.starved = True
            return 0
        credit = self.credit
        if credit <= 0:
            self.waiting.setdefault(stream.id, stream)
            return 0
        if self.waiting:
            share = credit // (len(self.waiting) + 1)
            credit = min(credit, max(share, MAX_DATA))
        return min(stream.credit, credit)

    def send(self, stream: Stream, data: bytes, end: bool) -> None:
        """Queue *data*, for which :meth:`room` said that there is room, in frames."""
        size = len(data)
        stream.credit -= size
        self.credit -= size
        if self.waiting:
            self.waiting.pop(stream.id, None)
        if size <= MAX_DATA:
            self.put(stream, HEADER.pack(size, _DATA, _END if end else 0, stream.id), data)
            return
        view = memoryview(data)
        for at in range(0, size, MAX_DATA):
            part = view[at : at + MAX_DATA]
            last = _END if end and at + MAX_DATA >= size else 0
            self.put(stream, HEADER.pack(len(part), _DATA, last, stream.id), part)

    def send_whole(self, stream: Stream, head: bytes, data: bytes) -> None:
        """Queue an answer's frame *head*, and all of its body as one DATA frame that ends it.

        There is credit for *data*, which fits a frame, nobody waits for any, and *stream* has nothing queued yet.
        """
        size = len(data)
        stream.credit -= size
        self.credit -= size
        self._first.append(head)
        self._first_bytes += len(head)
        stream.queue = deque(((HEADER.pack(size, _DATA, _END, stream.id), data),))
        self._turns.append(stream)

    def drop(self, stream: Stream) -> None:
        """Forget what *stream* has queued: its credit is the channel's again."""
        self.waiting.pop(stream.id, None)
        if not stream.queue:
            return
        self._turns.remove(stream)
        # Trailers have no credit; only the kind byte of the header tells.
        self.credit += sum(len(payload) for header, payload in stream.queue if header[4] == _DATA)
        stream.queue = None
        if self.waiting and not self.nudged:
            # Nothing that we receive may be under way to wake the waiting with: make the peer say something.
            self.nudged = True
            self.put_first(encode(Kind.PING, 0, 0, NUDGE))

    def forget(self, number: int) -> None:
        """The peer wants no more of a stream that has ended for us: drop what is still queued."""
        for stream in self._turns:
            if stream.id == number:
                self.drop(stream)
                return

    def abandon(self) -> None:
        """Forget everything."""
        self._first.clear()
        self._first_bytes = 0
        self._turns.clear()
        self.waiting.clear()

    def take(self, limit: int) -> bytes:
        """The next message: whole frames of about *limit* bytes, at least one if there is one."""
        first, turns = self._first, self._turns
        if not first and not turns:
            return b""
        parts: list[bytes | memoryview]
        size = self._first_bytes
        if size <= limit:
            parts = list(first)
            first.clear()
            self._first_bytes = self.forced = 0
        else:
            parts = [first.popleft()]
            size = len(parts[0])
            while first and size + len(first[0]) <= limit:
                size += len(first[0])
                parts.append(first.popleft())
            self._first_bytes -= size
            return b"".join(parts)
        while turns:
            stream = turns[0]
            queue = stream.queue
            assert queue
            header, payload = queue[0]
            size += len(header) + len(payload)
            if size > limit and parts:
                break
            queue.popleft()
            parts.append(header)
            parts.append(payload)
            if queue:
                turns.rotate(-1)
            else:
                turns.popleft()
        return b"".join(parts)
