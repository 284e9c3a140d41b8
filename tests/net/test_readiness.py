"""The epoll of our own: faults stay where they are, and the reactor's end is everybody's."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from appproxy.net.readiness import Readiness


class Reactor:
    """Remembers who is registered."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


class Descriptor:
    """One end of a socket pair that notes what it is asked."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.asked: list[str] = []
        self.reason: Failure | None = None

    def fileno(self) -> int:
        return self.end.fileno()

    def doRead(self) -> None:
        self.asked.append("read")

    def doWrite(self) -> None:
        self.asked.append("write")

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason


class Failing(Descriptor):
    """Fails whatever it is asked."""

    def doRead(self) -> None:
        raise ZeroDivisionError

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        raise KeyError


class ReadinessTests(SynchronousTestCase):
    """With a reactor that we are."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.readiness = Readiness(self.reactor)

    def pair(self, kind: type[Descriptor] = Descriptor) -> tuple[Any, socket.socket]:
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        return kind(near), far

    def test_only_what_was_asked_for(self) -> None:
        """Readers are told of input, writers of room, and nobody of anything after its removal."""
        descriptor, far = self.pair()
        far.send(b"x")
        self.readiness.addReader(descriptor)
        self.readiness.addReader(descriptor)
        self.readiness.doRead()
        self.assertEqual(descriptor.asked, ["read"])
        self.readiness.addWriter(descriptor)
        self.readiness.doRead()
        self.assertEqual(descriptor.asked, ["read", "read", "write"])
        self.readiness.removeReader(descriptor)
        self.readiness.doRead()
        self.assertEqual(descriptor.asked[3:], ["write"])
        self.readiness.removeWriter(descriptor)
        self.readiness.removeWriter(descriptor)
        self.readiness.doRead()
        self.assertEqual(len(descriptor.asked), 4)

    def test_registered_while_there_are_any(self) -> None:
        """The reactor holds us only as long as we hold something."""
        first, _ = self.pair()
        second, _ = self.pair()
        self.readiness.addReader(first)
        self.readiness.addWriter(second)
        self.assertEqual(self.reactor.readers, [self.readiness])
        self.readiness.removeReader(first)
        self.readiness.removeWriter(second)
        self.assertEqual(self.reactor.readers, [])

    def test_a_hang_up_is_for_whoever_waits(self) -> None:
        """A writer whose peer is gone is asked to write, and finds out."""
        descriptor, far = self.pair()
        self.readiness.addWriter(descriptor)
        far.close()
        self.readiness.doRead()
        self.assertEqual(descriptor.asked, ["write"])

    def test_closed_by_another_in_the_same_turn(self) -> None:
        """One that is gone before its turn is not asked any more."""
        (first, far_1), (second, far_2) = self.pair(), self.pair()
        for descriptor, other, far in ((first, second, far_1), (second, first, far_2)):
            far.send(b"x")
            descriptor.doRead = lambda d=descriptor, o=other: (
                d.asked.append("read"),
                self.readiness.removeReader(o),
            )
            self.readiness.addReader(descriptor)
        self.readiness.doRead()
        self.assertEqual(len(first.asked) + len(second.asked), 1)

    def test_a_fault_stays_where_it_is(self) -> None:
        """A descriptor that fails is dropped with its failure; the others are served."""
        (failing, far_1), (fine, far_2) = self.pair(Failing), self.pair()
        for descriptor, far in ((failing, far_1), (fine, far_2)):
            far.send(b"x")
            self.readiness.addReader(descriptor)
        self.readiness.doRead()
        self.assertEqual(fine.asked, ["read"])
        self.assertIsInstance(failing.reason.value, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.readiness.doRead()
        self.assertEqual(fine.asked, ["read", "read"])

    def test_shutting_down(self) -> None:
        """Everybody is told when the reactor stops."""
        first, _ = self.pair()
        second, _ = self.pair()
        self.readiness.addReader(first)
        self.readiness.addWriter(second)
        self.readiness.connectionLost(Failure(ConnectionLost()))
        for descriptor in (first, second):
            self.assertIsInstance(descriptor.reason.value, ConnectionLost)
        self.assertEqual(self.reactor.readers, [])
