"""What our own side did wrong or may not do now; what a peer does wrong is a :class:`ChannelViolation` or a Reset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from appproxy.errors import ProtocolViolation

if TYPE_CHECKING:
    from appproxy.wire.events import Event


class Misuse(Exception):
    """The caller asked for what the protocol does not allow on this side or in this state."""


class NoRoom(Misuse):
    """More was sent than there is room for."""


class CannotOpen(Exception):
    """This channel takes no new stream now; nothing was sent, so another one may be tried."""


class StreamsExhausted(CannotOpen):
    """The ids of this channel are used up; it says so to the peer and is to be replaced."""


class TooManyStreams(CannotOpen):
    """As many streams are open as may be."""


class Leaving(CannotOpen):
    """One of the two ends has said that it is going away, or the channel is broken."""


class ChannelViolation(ProtocolViolation):
    """The peer broke the rules in a way that ends the channel.

    :ivar events: what the same bytes said before that; complete, and still worth delivering.
    """

    def __init__(self, code: int, text: str, events: Sequence[Event] = ()) -> None:
        super().__init__(code, text)
        self.events = list(events)
