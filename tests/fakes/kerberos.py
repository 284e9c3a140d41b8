"""A Kerberos library without a KDC, and the connector's delegation over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from appproxy.config.kerberos import Kerberos
from appproxy.sso.asking import Account, GssFailed, Step, UserName
from appproxy.sso.delegation import Delegation
from appproxy.sso.workers import AllBusy, Workers

ACCOUNT = Account("svc-connector@CORP.EXAMPLE", "connector.keytab", "MEMORY:connector")
ALICE = UserName("alice@CORP.EXAMPLE", False)
SPN = "HTTP/origin@CORP.EXAMPLE"


class FakeProof:
    """A token that its service answers with ``proof of TOKEN``."""

    def __init__(self, token: bytes) -> None:
        self.token = token

    def check(self, reply: bytes) -> None:
        """What a service replies."""
        if reply != b"proof of " + self.token:
            raise GssFailed(Step.REPLY, int(reply) if reply.isdigit() else 0, "no proof")


class FakeTicket:
    """A ticket that counts its tokens."""

    def __init__(self, client: str, spn: str, serial: int, expires: int, enctype: int = 18) -> None:
        self.client, self.spn, self.serial, self.expires, self.enctype = client, spn, serial, expires, enctype
        self.begun: list[tuple[bool, bool, bytes | None]] = []
        self.destroyed = False
        self.padding = b""

    def begin(self, spnego: bool, mutual: bool, binding: bytes | None) -> FakeProof:
        """Another token."""
        assert not self.destroyed
        self.begun.append((spnego, mutual, binding))
        return FakeProof(b"%s %d.%d" % (self.client.encode(), self.serial, len(self.begun)) + self.padding)

    def destroy(self) -> None:
        """Gone."""
        self.destroyed = True


class FakeLibrary:
    """Answers what *failures* do not refuse.

    :ivar asked: user and service of each question.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.asked: list[tuple[str, str]] = []
        self.failures: list[Exception] = []
        self.forgotten = 0
        self.enctype = 18
        self.lifetime = 36_000

    def obtain(self, account: Account, user: UserName, spn: str) -> FakeTicket:
        """A ticket, or the next failure."""
        self.asked.append((user.text, spn))
        if self.failures:
            raise self.failures.pop(0)
        expires = int(self._now()) + self.lifetime
        return FakeTicket(user.text, spn, len(self.asked), expires, self.enctype)

    def forget_initial(self, account: Account) -> None:
        """Count it."""
        self.forgotten += 1


class Realm(Delegation):
    """The connector's delegation, with a virtual clock and with calls that are done when the test says so.

    :ivar held: calls that wait, while :attr:`frozen`.
    """

    def __init__(self, config: tuple[Path, ...] = (), **settings: Any) -> None:
        self.clock = Clock()
        self.clock.callFromThread = lambda call, *arguments: call(*arguments)  # type: ignore[attr-defined]
        self.library = FakeLibrary(self.epoch)
        self.ahead = 0.0
        self.frozen = False
        self.held: list[Callable[[], None]] = []
        super().__init__(ACCOUNT, Kerberos(**settings), config, self.clock, self.library, epoch=self.epoch)

    def epoch(self) -> float:
        """The wall clock."""
        return 1_700_000_000 + self.clock.seconds() + self.ahead

    def _realm(self, spn: str) -> Any:
        realm = super()._realm(spn)
        if not isinstance(realm.workers, HeldWorkers):
            realm.workers = HeldWorkers(self)
        return realm

    def thaw(self) -> None:
        """Let all calls that wait be done."""
        self.frozen = False
        held, self.held = self.held, []
        for call in held:
            call()


class HeldWorkers(Workers):
    """No threads: calls are done at once, or when the realm thaws."""

    def __init__(self, realm: Realm) -> None:
        super().__init__(lambda call, *arguments: call(*arguments), threads=4, waiting=2)
        self._held = realm

    def call(self, work: Any) -> Any:
        """Do it now, or later."""
        if self.pending >= self._limit:
            raise AllBusy("all are busy")
        self.pending += 1
        done: Deferred[Any] = Deferred(lambda _: None)

        def run() -> None:
            try:
                result = work()
            except Exception as problem:
                result = Failure(problem)
            self._finish(done, result)

        if self._held.frozen:
            self._held.held.append(run)
        else:
            run()
        return done
