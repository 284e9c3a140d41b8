"""The KDCs of one realm: who may ask them now, and how long is waited for an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from appproxy.sso.breaker import Breaker
from appproxy.sso.causes import KDC_BUSY, KDC_SILENT, KDC_UNREACHABLE, Cause, KerberosFailed
from appproxy.sso.locating import reachable
from appproxy.sso.workers import Workers

#: Threads that ask the KDCs of one realm; measured, a KDC of one process is busy with two.
THREADS: Final = 4
T = TypeVar("T")


class Realm:
    """One realm.

    :param places: host and port of each KDC, as far as they are known.
    :param timeout: seconds that a request waits.
    :ivar workers: its threads; those of other realms are others.
    """

    log = Logger()

    def __init__(self, name: str, places: Sequence[tuple[str, int]], timeout: float, reactor: Any) -> None:
        self.name = name
        self.workers = Workers(reactor.callFromThread, THREADS, name=f"kerberos-{name}")
        self._places = places
        self._timeout = timeout
        self._reactor = reactor
        self._breaker = Breaker(reactor.seconds)
        self._why = KDC_UNREACHABLE
        self._answered_at = float("-inf")

    async def admit(self) -> None:
        """See that asking makes sense; :raises KerberosFailed: the KDCs failed a moment ago, or do so still."""
        if not self._breaker.is_open:
            return
        if not self.workers.idle or not self._breaker.allows():
            raise KerberosFailed(self._why, f"{self.name} failed a moment ago")
        if self._places and not await reachable(self._reactor, self._places):
            self._failed(KDC_UNREACHABLE)
            raise KerberosFailed(KDC_UNREACHABLE, f"no KDC of {self.name} accepts a connection")

    def watch(
        self,
        asking: Deferred[T],
        obtained: Callable[[T], T],
        failed: Callable[[Exception], KerberosFailed],
    ) -> Deferred[T]:
        """What becomes of *asking*, or a failure when it takes too long; an answer that comes late is of use still."""
        outcome: Deferred[T] = Deferred(lambda _: None)

        def late() -> None:
            if self._reactor.seconds() - self._answered_at < self._timeout:
                outcome.errback(KerberosFailed(KDC_BUSY, f"{self.workers.pending} questions to {self.name} wait"))
                return
            self._failed(KDC_SILENT)
            outcome.errback(KerberosFailed(KDC_SILENT, f"no answer of {self.name} within {self._timeout:g} s"))

        def answered(ticket: T) -> None:
            self._succeeded()
            try:
                result: T | Failure = obtained(ticket)
            except KerberosFailed as refused:
                result = Failure(refused)
            finish(result)

        def refused(failure: Failure) -> None:
            problem = failed(failure.value)  # type: ignore[arg-type]
            if problem.cause is KDC_UNREACHABLE:
                self._failed(KDC_UNREACHABLE)
            else:
                self._succeeded()
            finish(Failure(problem))

        def finish(result: T | Failure) -> None:
            if not outcome.called:
                timer.cancel()
                outcome.callback(result)

        timer = self._reactor.callLater(self._timeout, late)
        asking.addCallbacks(answered, refused)
        return outcome

    def _succeeded(self) -> None:
        self._answered_at = self._reactor.seconds()
        if self._breaker.is_open:
            self._breaker.succeeded()
            self.log.info("the KDC of {realm} answers again", event="kerberos.kdc-back", realm=self.name)

    def _failed(self, why: Cause) -> None:
        self._why = why
        self._breaker.failed()
        self.log.warn(
            "{says} {remedy} ({realm})", event="kerberos.kdc-failed", says=why.says, remedy=why.remedy, realm=self.name
        )
