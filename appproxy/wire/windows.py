"""Credit: how much a peer may send before someone has taken what it sent.

Every byte is in one of three places: *left* (the peer may still send it), *held* (received, not yet consumed) or *owed*
(consumed, not yet given back); together they are the window's *size*.  Credit goes back in quarters of the window, so
that a WINDOW frame is shared by many chunks.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Both ends start here, without a word: the product of 20 Mbit/s and 100 ms.
INITIAL_WINDOW: Final = 256 * 1024
#: The largest window of a stream: 1 Gbit/s at 64 ms.
MAX_WINDOW: Final = 8 * 1024 * 1024
#: The smallest, when too much waits for slow consumers: two DATA frames.
MIN_WINDOW: Final = 64 * 1024
#: Bytes of all streams that may be under way in a channel.
CHANNEL_WINDOW: Final = 16 * 1024 * 1024
#: No window may be told to be larger, as in HTTP/2.
MAX_CREDIT: Final = 2**31 - 1
#: What may wait for slow consumers in a process unless it is configured otherwise.
BUDGET_BYTES: Final = 256 * 1024 * 1024


class Budget:
    """What waits for slow consumers in the whole process; one object is shared by all channels.

    :ivar limit: bytes; above it windows stop growing, then shrink.
    :ivar waiting: bytes received and not yet consumed.
    """

    __slots__ = ("limit", "waiting")

    def __init__(self, limit: int = BUDGET_BYTES) -> None:
        self.limit = limit
        self.waiting = 0

    @property
    def exceeded(self) -> bool:
        """True while more waits than should."""
        return self.waiting > self.limit


class ReceiveWindow(msgspec.Struct, gc=False, eq=False):
    """What the peer may send on one stream, and what became of what it sent."""

    size: int = INITIAL_WINDOW
    left: int = INITIAL_WINDOW
    held: int = 0
    owed: int = 0
    #: Bytes until the peer has used up what it had been given before the last WINDOW.
    edge: int = 0
    #: The peer stopped exactly there: it was the window that held it up.
    limiting: bool = False

    def receive(self, count: int) -> bool:
        """Count arriving bytes; False when the peer had no credit for them."""
        self.left -= count
        self.held += count
        self.edge -= count
        if self.edge == 0 or self.left == 0:
            self.limiting = True
        return self.left >= 0

    def consume(self, count: int, exceeded: bool) -> int:
        """Count bytes that the consumer took.

        :param exceeded: too much waits in this process.
        :returns: the credit to give back now; 0 while it is not worth a frame.
        :raises ValueError: more was taken than had come.
        """
        if not 0 <= count <= self.held:
            raise ValueError(f"{count} bytes consumed of {self.held}")
        self.held -= count
        self.owed += count
        if exceeded:
            cut = max(0, min(self.owed, self.size - max(MIN_WINDOW, self.size // 2)))
            self.size -= cut
            self.owed -= cut
            self.limiting = False
        elif self.limiting and not self.held:
            growth = min(self.size, MAX_WINDOW - self.size)
            self.size += growth
            self.owed += growth
            self.limiting = False
        credit = self.owed
        if credit * 4 < self.size:
            return 0
        if self.edge <= 0:
            self.edge = self.left
        self.left += credit
        self.owed = 0
        return credit
