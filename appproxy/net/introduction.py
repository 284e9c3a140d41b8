"""A connection of a balancer before it has said for whom it is: the time of the PROXY protocol's preface."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from appproxy.net.preface import MAX_PREFACE, MalformedPreface, PrefaceReader
from appproxy.net.readiness import readiness_of
from appproxy.net.sockets import Address


@implementer(IReadDescriptor)
class Introduction:
    """Reads the preface and nothing else: what follows it is for TLS, which reads from the socket itself.

    :param ended: called once with this object, and either the socket, which is the caller's then, or None, the socket
        being closed, and what was wrong (nothing when the balancer merely went away).
    :ivar client: the real client, once introduced; the balancer before, or when it speaks for itself.
    """

    def __init__(
        self,
        reactor: Any,
        accepted: socket.socket,
        balancer: Address,
        seconds: float,
        ended: Callable[[Introduction, socket.socket | None, str], None],
    ) -> None:
        self._reactor = reactor
        self._watch = readiness_of(reactor)
        self._socket = accepted
        self._seconds = seconds
        self._ended = ended
        self._preface = PrefaceReader()
        self._timer: Any = None
        self.client: Address = balancer

    def start(self) -> None:
        """Begin to read."""
        self._socket.setblocking(False)
        self._timer = self._reactor.callLater(self._seconds, self._late)
        self._watch.addReader(self)

    def doRead(self) -> None:
        """Look at what is there and take what belongs to the preface."""
        try:
            there = self._socket.recv(MAX_PREFACE, socket.MSG_PEEK)
            if not there:
                self.close()
                return
            self._socket.recv(self._preface.look(there))
        except BlockingIOError:
            return
        except OSError:
            self.close()
        except MalformedPreface as problem:
            self.close(str(problem))
        else:
            if self._preface.done:
                self.client = self._preface.client or self.client
                self._release()
                self._ended(self, self._socket, "")

    def _late(self) -> None:
        self.close(f"did not end within {self._seconds:g} s")

    def _release(self) -> None:
        self._watch.removeReader(self)
        if self._timer.active():
            self._timer.cancel()

    def close(self, problem: str = "") -> None:
        """Give the connection up."""
        self._release()
        self._socket.close()
        self._ended(self, None, problem)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Name us in lines that the reactor logs."""
        return "introduction"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw a failing socket, or is shutting down."""
        if self._socket.fileno() != -1:
            self.close()
