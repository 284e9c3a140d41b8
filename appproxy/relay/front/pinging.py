"""Pings to the clients of idle WebSockets, so that whatever stands between them and the relay keeps the connection.

They are the relay's own: the origin hears neither of them nor of their answers.  A ping goes between two frames of the
origin's; what the client's end answers to it, and nothing else, is taken out of what goes up.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from appproxy.channel.protocol import Clock
from appproxy.http.websocket_frames import PING_OCTETS, FrameTracker, PongFilter, ping

#: Pings that may still be answered; who answers none of so many may answer the last one only (RFC 6455, 5.5.3).
MAX_AWAITED: Final = 4


class Pinging:
    """The pings to one client.

    :param seconds: of silence in both directions, before each ping.
    :param write: to the client.
    :param random: so many octets that nobody can guess.
    :ivar held_back: the client reads slower than the origin writes; it needs no ping.
    """

    __slots__ = ("_awaited", "_call", "_clock", "_down", "_moved", "_random", "_seconds", "_up", "_write", "held_back")

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        write: Callable[[bytes], None],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._write = write
        self._random = random
        self._up = PongFilter()
        self._down = FrameTracker(masked=False)
        self._awaited: list[bytes] = []
        self._moved = clock.seconds()
        self._call: Any = clock.callLater(seconds, self._look)
        self.held_back = False

    def down(self, data: bytes) -> None:
        """The origin says something to the client."""
        self._moved = self._clock.seconds()
        self._down.follow(data)

    def up(self, data: bytes) -> bytes:
        """The client says something; returns what of it is for the origin."""
        self._moved = self._clock.seconds()
        return self._up.sift(data, self._awaited)

    def up_ended(self) -> bytes:
        """The client says no more; returns what was not passed on yet."""
        self.stop()
        return self._up.rest()

    def stop(self) -> None:
        """No more pings; what is still answered is still taken out."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        if self._down.over or self._up.over:
            return
        wait = self._moved + self._seconds - self._clock.seconds()
        if wait <= 0.0:
            wait = self._seconds
            if self._down.at_border and not self.held_back:
                payload = self._random(PING_OCTETS)
                self._awaited = [*self._awaited, payload][-MAX_AWAITED:]
                self._write(ping(payload))
        self._call = self._clock.callLater(wait, self._look)
