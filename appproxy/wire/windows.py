"""Credit: how much a peer may send before someone has taken what it sent.

Every byte is in one of three places: *left* (the peer may still send it), *held* (received, not yet consumed) or *owed*
(consumed, not yet given back); together they are the window's *size*.  Credit goes back in quarters of the window, so
that a WINDOW frame is shared by many chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

#: Both ends start here, without a word: the product of 20 Mbit/s and 100 ms.
INITIAL_WINDOW: Final = 256 * 1024
#: The largest window of a stream: 1 Gbit/s at 64 ms.
MAX_WINDOW: Final = 8 * 1024 * 1024
#: The smallest, when too much waits for slow consumers: two DATA frames.
MIN_WINDOW: Final = 64 * 1024
#: A window grows while it is smaller than so many times what the path holds: speed, looked at no more often than this
#: many seconds, times the shortest round trip.  Where processors are slower than the path, more would only lengthen the
#: queue on the way.
AMPLE: Final = 4
SAMPLE_SECONDS: Final = 0.02
#: The same where the peer is near and others wait in that queue too; beyond twice as much the window shrinks.  Larger
#: windows cost less processor time, smaller ones less of the others' time.
SNUG: Final = 1.5
#: What is near.  Farther away round trips vary by themselves, which looks like a queue: smaller windows would cost
#: speed and bring nobody anything.
NEAR_SECONDS: Final = 0.005
#: For so long after a stream was opened in the same channel, others are taken to wait.
COMPANY_SECONDS: Final = 1.0
#: A sample of the speed is begun anew after this long at the latest.
STALE_SECONDS: Final = 1.0
#: Round trips are forgotten after this long: paths change.
FORGET_SECONDS: Final = 60.0
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


class Path:
    """What the windows of a channel share: how far the peer is, and how much company they have.

    The distance is the shortest of the last minute or two's round trips, by PINGs and by windows: what waits in queues,
    ours among them, is no distance.

    :ivar trip: in seconds; endless while it is not known.
    :ivar opened: a number that is another one after each stream that was opened.
    """

    __slots__ = ("_before", "_begun", "_recent", "opened", "trip")

    def __init__(self) -> None:
        self.opened = 0
        self.trip = self._before = self._recent = inf
        self._begun = 0.0

    def measured(self, seconds: float, now: float) -> None:
        """A round trip took so long."""
        if now - self._begun >= FORGET_SECONDS:
            self._before, self._recent, self._begun = self._recent, inf, now
        self._recent = min(self._recent, seconds)
        self.trip = min(self._before, self._recent)


class ReceiveWindow:
    """What the peer may send on one stream, and what became of what it sent."""

    size: int = INITIAL_WINDOW
    left: int = INITIAL_WINDOW
    held: int = 0
    owed: int = 0
    #: Bytes until the peer has used up what it had been given before the last WINDOW.
    edge: int = 0
    #: The peer stopped exactly there: it was the window that held it up.
    limiting: bool = False
    #: When the WINDOW was sent that leads past the edge; 0 once the peer has used it.
    given: float = 0.0
    #: Bytes taken since the last look at the speed, and when that was.
    taken: int = 0
    looked: float = 0.0
    #: Until when others are taken to wait.
    company_until: float = 0.0

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path()
        #: What :attr:`Path.opened` was then.
        self.opened = self.path.opened

    def receive(self, count: int, clock: Callable[[], float]) -> bool:
        """Count arriving bytes; False when the peer had no credit for them.

        :param clock: seconds; asked once a window.
        """
        self.left -= count
        self.held += count
        self.edge -= count
        if self.given and self.edge < 0:
            now = clock()
            self.path.measured(now - self.given, now)
            self.given = 0.0
        if self.edge == 0 or self.left == 0:
            self.limiting = True
        return self.left >= 0

    def consume(self, count: int, exceeded: bool, clock: Callable[[], float]) -> int:
        """Count bytes that the consumer took.

        :param exceeded: too much waits in this process.
        :param clock: seconds; asked a few times a window.
        :returns: the credit to give back now; 0 while it is not worth a frame.
        :raises ValueError: more was taken than had come.
        """
        if not 0 <= count <= self.held:
            raise ValueError(f"{count} bytes consumed of {self.held}")
        self.held -= count
        self.owed += count
        self.taken += count
        if exceeded:
            self._shrink()
            self.limiting = False
        elif self.limiting and not self.held:
            self.limiting = False
            self._fit(clock(), limiting=True)
        elif self.taken >= self.size and self.owed * 4 >= self.size:
            self._fit(clock(), limiting=False)
        credit = self.owed
        if credit * 4 < self.size:
            return 0
        if self.edge <= 0:
            self.edge = self.left
            self.given = clock()
        self.left += credit
        self.owed = 0
        return credit

    def _fit(self, now: float, limiting: bool) -> None:
        """Grow if it is the window that limits; shrink if it only makes a queue longer in which others wait."""
        seconds = now - self.looked
        if seconds < SAMPLE_SECONDS:
            return
        path = self.path
        if self.looked and path.trip < inf:
            holds = self.taken / seconds * path.trip
            if path.opened != self.opened:
                self.opened = path.opened
                self.company_until = now + COMPANY_SECONDS
            snug = path.trip < NEAR_SECONDS and now < self.company_until
            if limiting and self.size < holds * (SNUG if snug else AMPLE):
                growth = min(self.size, MAX_WINDOW - self.size)
                self.size += growth
                self.owed += growth
            elif snug and self.size > holds * SNUG * 2:
                self._shrink()
            elif not limiting and seconds < STALE_SECONDS:
                return  # a moment when it limits may come yet, and wants a sample
        self.taken, self.looked = 0, now

    def _shrink(self) -> None:
        """Keep back what was to be given, down to a half and to the smallest window."""
        cut = max(0, min(self.owed, self.size - max(MIN_WINDOW, self.size // 2)))
        self.size -= cut
        self.owed -= cut
