"""Tickets in users' names: asked for once, by a few threads, and kept for some minutes.

Nobody waits for the KDC longer than the deadline, and only who needs it waits at all.  Requests for the same user and
service share one question; a refusal is remembered for a moment, so that a page of fifty pictures asks once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from appproxy.sso.asking import RC4, Account, GssFailed, Number, Step, UserName
from appproxy.sso.causes import (
    KDC_BUSY,
    LIBRARY,
    PASSING,
    WEAK,
    KerberosFailed,
    cause_of,
)
from appproxy.sso.locating import kdcs_of
from appproxy.sso.realms import Realm
from appproxy.sso.workers import AllBusy

#: Tickets that are kept; one is about 7 kB.
MAX_TICKETS: Final = 8192
#: A refusal is repeated for so long without asking again.
REFUSED_SECONDS: Final = 5.0
MAX_REFUSALS: Final = 1024
#: A ticket is not used in its last minute.
MARGIN_SECONDS: Final = 60.0


class Ticket(Protocol):
    """See :class:`appproxy.sso._gss.ServiceTicket`."""

    @property
    def client(self) -> str:
        """The user in it."""

    @property
    def expires(self) -> int:
        """Epoch seconds."""

    @property
    def enctype(self) -> int:
        """How it is encrypted."""

    def begin(self, spnego: bool, mutual: bool, binding: bytes | None) -> Proof:
        """A token for one request."""

    def destroy(self) -> None:
        """Forget it."""


class Proof(Protocol):
    """See :class:`appproxy.sso._gss.Proof`."""

    @property
    def token(self) -> bytes:
        """For the request."""

    def check(self, reply: bytes) -> None:
        """See what the origin replies; :raises GssFailed: it proves nothing."""


class Library(Protocol):
    """The part of :mod:`appproxy.sso._gss` that asks the KDC."""

    def obtain(self, account: Account, user: UserName, spn: str) -> Ticket:
        """A ticket; blocks."""

    def forget_initial(self, account: Account) -> None:
        """Have the connector's own ticket asked for anew."""


class Settings(Protocol):
    """The part of ``[kerberos]`` that is about asking."""

    @property
    def cache(self) -> float:
        """Seconds that a ticket is kept."""

    @property
    def timeout(self) -> float:
        """Seconds that a request waits."""

    @property
    def allow_rc4(self) -> bool:
        """Whether tickets with broken encryption will do."""


class _Kept(NamedTuple):
    ticket: Ticket
    until: float  # by the reactor's clock
    epoch_until: float  # by the wall clock, which tickets go by and which may jump


_Key = tuple[UserName, str]


class Delegation:
    """The connector's account at work.

    :param account: the connector's own.
    :param config: ``krb5.conf`` files, for where KDCs are.
    :param library: :mod:`appproxy.sso._gss`.
    """

    log = Logger()

    def __init__(
        self,
        account: Account,
        settings: Settings,
        config: Sequence[Path],
        reactor: Any,
        library: Library,
        *,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self.account = account
        self.realm = account.principal.rpartition("@")[2]
        self._settings = settings
        self._config = tuple(config)
        self._reactor = reactor
        self._library = library
        self._epoch = epoch
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._refused: OrderedDict[_Key, tuple[float, KerberosFailed]] = OrderedDict()
        self._waiting: dict[_Key, list[Deferred[Ticket]]] = {}
        self._realms: dict[str, Realm] = {}

    def find(self, user: UserName, spn: str) -> Ticket | None:
        """The ticket that is at hand."""
        kept = self._kept.get((user, spn))
        if kept is None or self._reactor.seconds() >= kept.until or self._epoch() >= kept.epoch_until:
            return None
        return kept.ticket

    def ask(self, user: UserName, spn: str) -> Deferred[Ticket]:
        """A ticket, from the KDC unless one is at hand; fails with :class:`KerberosFailed`."""
        key = user, spn
        waiting = self._waiting.get(key)
        done: Deferred[Ticket] = Deferred(lambda gone: self._forget_waiting(key, gone))
        if waiting is not None:
            waiting.append(done)
            return done
        self._waiting[key] = [done]
        Deferred.fromCoroutine(self._answer(key)).addErrback(self._broken)
        return done

    def drop(self, user: UserName, spn: str, ticket: Ticket) -> None:
        """The origin does not take it: ask anew next time."""
        kept = self._kept.get((user, spn))
        if kept is not None and kept.ticket is ticket:
            del self._kept[user, spn]
            ticket.destroy()

    def close(self) -> None:
        """Forget everything."""
        for kept in self._kept.values():
            kept.ticket.destroy()
        self._kept.clear()
        for realm in self._realms.values():
            realm.workers.stop()

    def _forget_waiting(self, key: _Key, gone: Deferred[Ticket]) -> None:
        waiting = self._waiting.get(key, [])
        if gone in waiting:
            waiting.remove(gone)

    async def _answer(self, key: _Key) -> None:
        """Find out, and tell everybody who waits."""
        try:
            ticket = self.find(*key) or await self._fetch(key)
        except Exception as problem:
            for done in self._waiting.pop(key):
                done.errback(_again(problem) if isinstance(problem, KerberosFailed) else problem)
            return
        for done in self._waiting.pop(key):
            done.callback(ticket)

    async def _fetch(self, key: _Key) -> Ticket:
        user, spn = key
        refused = self._refused.get(key)
        if refused is not None and self._reactor.seconds() < refused[0]:
            raise refused[1]
        realm = self._realm(spn)
        await realm.admit()
        try:
            asking = realm.workers.call(partial(self._obtain, user, spn))
        except AllBusy as busy:
            raise KerberosFailed(KDC_BUSY, str(busy)) from None
        return await realm.watch(asking, partial(self._obtained, key), partial(self._not_obtained, key))

    def _realm(self, spn: str) -> Realm:
        name = spn.rpartition("@")[2]
        if name not in self._realms:
            places = kdcs_of(name, self._config)
            self._realms[name] = Realm(name, places, float(self._settings.timeout), self._reactor)
        return self._realms[name]

    def _obtain(self, user: UserName, spn: str) -> Ticket:
        """In a thread: ask, and once more when only the connector's own ticket was stale."""
        try:
            return self._library.obtain(self.account, user, spn)
        except GssFailed as failure:
            stale = failure.number in (Number.TICKET_EXPIRED, Number.NO_CACHE)
            if not stale or not self.account.keytab or failure.step is Step.REPLY:
                raise
        self._library.forget_initial(self.account)
        return self._library.obtain(self.account, user, spn)

    def _obtained(self, key: _Key, ticket: Ticket) -> Ticket:
        """In the reactor: keep it."""
        if ticket.enctype in RC4 and not self._settings.allow_rc4:
            ticket.destroy()
            raise self._refuse(key, KerberosFailed(WEAK, f"for {key[1]}", Step.DELEGATE))
        now, epoch = self._reactor.seconds(), self._epoch()
        while self._kept:
            oldest, kept = next(iter(self._kept.items()))
            if len(self._kept) < MAX_TICKETS and kept.until > now:
                break
            del self._kept[oldest]
            kept.ticket.destroy()
        if (before := self._kept.pop(key, None)) is not None:
            before.ticket.destroy()
        cache = float(self._settings.cache)
        self._kept[key] = _Kept(ticket, now + cache, min(epoch + cache, ticket.expires - MARGIN_SECONDS))
        self._refused.pop(key, None)
        self.log.info(
            "a ticket for {user} to {spn}",
            event="kerberos.ticket",
            user=ticket.client,
            spn=key[1],
        )
        return ticket

    def _not_obtained(self, key: _Key, problem: Exception) -> KerberosFailed:
        """In the reactor: the named cause."""
        user, spn = key
        asked = f"for {user.text} to {spn} as {self.account.principal}"
        if not isinstance(problem, GssFailed):
            return KerberosFailed(LIBRARY, f"{asked}: {type(problem).__name__}: {problem}")
        foreign = user.text.rpartition("@")[2] != self.realm
        cause = cause_of(problem, foreign=foreign)
        failed = KerberosFailed(cause, f"{asked}: {problem.text}", problem.step)
        return failed if cause in PASSING else self._refuse(key, failed)

    def _refuse(self, key: _Key, failed: KerberosFailed) -> KerberosFailed:
        self._refused[key] = self._reactor.seconds() + REFUSED_SECONDS, failed
        self._refused.move_to_end(key)
        if len(self._refused) > MAX_REFUSALS:
            self._refused.popitem(last=False)
        return failed

    def _broken(self, failure: Failure) -> None:
        self.log.failure("asking for a ticket failed inside the connector", failure, event="kerberos.broken")


def _again(failed: KerberosFailed) -> KerberosFailed:
    """The same failure, for somebody else: an exception keeps the place where it was raised."""
    copy = KerberosFailed(failed.cause, "", failed.step)
    copy.args, copy.detail = failed.args, failed.detail
    return copy
