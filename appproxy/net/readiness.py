"""Being told when sockets are ready, without the reactor's price per event.

Twisted's epoll reactor calls every descriptor through its logging context: about 2.5 µs, a third of what an echo
over these transports costs in all.  Here our sockets share one epoll descriptor of their own, which is one reader of
the reactor; a turn of the reactor is one turn of ours.  The interface is the reactor's: ``addReader`` and so on.

Also, an error or hang-up is not guessed about: the descriptor is asked to do what it waits for, and finds out.
"""

from __future__ import annotations

import select
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

#: Events handled in one turn of the reactor; the kernel hands out the others in the next.
EVENTS_PER_TURN: Final = 256

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT


class Readiness:
    """The descriptors that one reactor watches for us; it is registered there only while there are any."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}
        self._watched: dict[int, Any] = {}

    def addReader(self, descriptor: Any) -> None:
        """Call *descriptor*'s ``doRead`` whenever there is something to read."""
        number = descriptor.fileno()
        mask = self._masks.get(number, 0)
        if not mask & _IN:
            self._watch(number, descriptor, mask, mask | _IN)

    def addWriter(self, descriptor: Any) -> None:
        """Call *descriptor*'s ``doWrite`` whenever there is room."""
        number = descriptor.fileno()
        mask = self._masks.get(number, 0)
        if not mask & _OUT:
            self._watch(number, descriptor, mask, mask | _OUT)

    def removeReader(self, descriptor: Any) -> None:
        """Undo :meth:`addReader`."""
        number = descriptor.fileno()
        mask = self._masks.get(number, 0)
        if mask & _IN:
            self._watch(number, descriptor, mask, mask & ~_IN)

    def removeWriter(self, descriptor: Any) -> None:
        """Undo :meth:`addWriter`."""
        number = descriptor.fileno()
        mask = self._masks.get(number, 0)
        if mask & _OUT:
            self._watch(number, descriptor, mask, mask & ~_OUT)

    def _watch(self, number: int, descriptor: Any, before: int, after: int) -> None:
        if not after:
            self._epoll.unregister(number)
            del self._masks[number], self._watched[number]
            if not self._masks:
                self._reactor.removeReader(self)
            return
        if before:
            self._epoll.modify(number, after)
        else:
            self._epoll.register(number, after)
            if not self._masks:
                self._reactor.addReader(self)
        self._masks[number] = after
        self._watched[number] = descriptor

    # What the reactor asks

    def doRead(self) -> None:
        """Serve the descriptors that are ready."""
        watched, masks = self._watched, self._masks
        for number, event in self._epoll.poll(0, EVENTS_PER_TURN):
            descriptor = watched.get(number)
            if descriptor is None:
                continue  # an earlier one of this turn has closed it
            try:
                # Errors and hang-ups go to whoever is waiting.  If the number means another socket by now, the call
                # finds nothing to do.
                mask = masks[number]
                if mask & _IN and event != _OUT:
                    descriptor.doRead()
                if event != _IN and mask & _OUT and number in watched and watched[number] is descriptor:
                    descriptor.doWrite()
            except Exception:
                self.log.failure("{descriptor!r} failed", event="net.descriptor-failed", descriptor=descriptor)
                self._lose(number, descriptor, Failure())

    def _lose(self, number: int, descriptor: Any, reason: Failure) -> None:
        if self._watched.get(number) is descriptor:
            self._watch(number, descriptor, self._masks[number], 0)
        try:
            descriptor.connectionLost(reason)
        except Exception:
            self.log.failure("{descriptor!r} failed", event="net.descriptor-failed", descriptor=descriptor)

    def fileno(self) -> int:
        """Return the number of the epoll descriptor."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """Name us in lines that the reactor logs."""
        return "net"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is shutting down: so are all."""
        for number, descriptor in list(self._watched.items()):
            self._lose(number, descriptor, Failure(ConnectionLost("shutting down")))


classImplements(Readiness, IReadDescriptor)


_OF_REACTOR: WeakKeyDictionary[Any, Readiness] = WeakKeyDictionary()


def readiness_of(reactor: Any) -> Readiness:
    """Return the one that belongs to *reactor*."""
    found = _OF_REACTOR.get(reactor)
    if found is None:
        found = _OF_REACTOR[reactor] = Readiness(reactor)
    return found
