"""The connector, assembled: everything it consists of is made here and handed what it needs."""

from __future__ import annotations

import platform
import random
import secrets
import signal
import time
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

import appproxy
from appproxy import tuning
from appproxy.channel.carrier import CloseCode
from appproxy.channel.dial import ChannelDialler
from appproxy.channel.protocol import Channel
from appproxy.config import ConnectorConfig
from appproxy.connector.allowing import AllowList
from appproxy.connector.assignments import Assignments
from appproxy.connector.credentials import next_epoch
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.dialing import Dialling
from appproxy.connector.enrolment import ENROL_AGAIN, Enrolment
from appproxy.connector.origin import Origins
from appproxy.connector.realm import make_delegation
from appproxy.connector.renewal import LOOK_SECONDS, Renewal
from appproxy.connector.resolving import origin_resolver
from appproxy.connector.serve import Serving
from appproxy.connector.snapshot import keep_assignments
from appproxy.errors import ConfigError, Side
from appproxy.logs import AccessLog, EventLog, attach
from appproxy.net.dial import dial
from appproxy.net.failures import TlsFailed
from appproxy.net.notify import notify, watchdog_seconds
from appproxy.net.tls import ClientTLS
from appproxy.tasks import Tasks
from appproxy.wire import control
from appproxy.wire.connection import Budget, Connection
from appproxy.wire.heads import RequestHead

#: Between the first channel and the second, and so on: a relay that just came back is not stormed.
STAGGER_SECONDS: Final = 1.0


class ConnectorService(Service):
    """One connector process.

    :raises ConfigError: the settings cannot work.
    """

    log = Logger()

    def __init__(self, reactor: Any, config: ConnectorConfig) -> None:
        self.config = config
        self._reactor = reactor
        self._tasks = Tasks()
        self._deadlines = Deadlines(reactor)
        self._resolve = origin_resolver(reactor)
        allow = AllowList(config.connector.allow)
        self._delegation = make_delegation(config.kerberos, reactor)
        self._assignments = Assignments(
            self._dial_origin, self._deadlines, allow, config.origin.ca_file, self._delegation
        )
        self._events: EventLog | None = None
        self._refused: dict[str, str] = {}
        self._access = AccessLog.open(config.logging, reactor)
        self._serving = Serving(self._assignments, Origins(reactor), reactor, self._deadlines, self._record)
        self._budget = Budget()
        self._relays: list[RelayLink] = []
        self._loops: list[LoopingCall] = []

    # Life

    def setServiceParent(self, parent: Any) -> None:
        """Twisted: the application's log is ours from here on."""
        super().setServiceParent(parent)
        self._events = attach(parent, self.config.logging)

    def startService(self) -> None:
        """Twisted: enrol if needed, then dial; what only an administrator can mend ends the program."""
        super().startService()
        self._tasks.spawn("start", self._start())

    async def _start(self) -> None:
        settings = self.config.connector
        try:
            credentials = await Enrolment(settings, self._reactor, random.random).credentials()
            epoch = next_epoch(settings.state_dir, time.time())
            hello = control.Hello(
                connector=credentials.connector,
                version=appproxy.__version__,
                boot=secrets.token_hex(8),
                epoch=epoch,
                host={"system": platform.system(), "release": platform.release(), "name": platform.node()},
            )
            self.renewal = Renewal(credentials, settings, up=self._channels_up, later=self.later, random=random.random)
            self._relays = [RelayLink(self, relay, hello) for relay in settings.relays]
        except (ConfigError, OSError) as problem:
            tuning.give_up(self._reactor, "appproxy-connector", str(problem))
            return
        for relay in self._relays:
            relay.start()
        self._every(LOOK_SECONDS, self.renewal.look)
        if watchdog := watchdog_seconds():
            self._every(watchdog, lambda: notify("WATCHDOG=1"))
        tuning.settle()
        notify("READY=1")
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))
        self.log.info(
            "connector {connector} ({name}) dials {relays}",
            event="connector.ready",
            connector=credentials.connector,
            name=settings.name,
            relays=", ".join(settings.relays),
        )

    def stopService(self) -> Deferred[None]:
        """Twisted: take no more, finish what is in flight, close."""
        super().stopService()
        notify("STOPPING=1")
        stopping = Deferred.fromCoroutine(self._stop())
        stopping.addErrback(lambda failure: self.log.failure("stopping failed", failure, event="connector.stop-failed"))
        return stopping

    async def _stop(self) -> None:
        for loop in self._loops:
            loop.stop()
        await DeferredList([relay.stop() for relay in self._relays])
        await self._tasks.stop()
        self._assignments.close()
        if self._delegation is not None:
            self._delegation.close()
        self._deadlines.stop()
        self._access.close()

    def _reload(self) -> None:
        """SIGHUP: open the logs anew."""
        notify("RELOADING=1")
        try:
            if self._events is not None:
                self._events.reopen()
            self._access.reopen()
        except ConfigError as problem:
            self.log.error("{problem}", event="connector.reload-failed", problem=str(problem))
        notify("READY=1")

    def _every(self, seconds: float, work: Any) -> None:
        loop = LoopingCall(work)
        loop.clock = self._reactor
        loop.start(seconds, now=False)
        self._loops.append(loop)

    def _channels_up(self) -> Iterator[Channel]:
        for relay in self._relays:
            for dialling in relay.diallings:
                if dialling.is_up and dialling.channel is not None:
                    yield dialling.channel

    # What relays' links need

    def make_channel(self, owner: Any) -> Channel:
        """A channel whose streams are served here."""
        clock = self._reactor
        return Channel(
            clock, Connection(Side.CONNECTOR, budget=self._budget, clock=clock.seconds), owner, self._serving
        )

    def dial_relay(self, relay: str, tls: ClientTLS, channel: Channel) -> Coroutine[Deferred[Any], Any, Any]:
        """Connect *channel* to *relay*."""
        parts = urlsplit(relay)
        host, port = parts.hostname or "", parts.port or 443
        dialler = ChannelDialler(host, port, channel)
        return dial(self._reactor, host, port, lambda address: dialler.carrier(), tls)

    def later(self, seconds: float, call: Any) -> None:
        """Call later."""
        self._reactor.callLater(seconds, call)

    def dialling(self, relay: str, owner: Any) -> Dialling:
        """One more channel to *relay*."""
        return Dialling(relay, owner, self._reactor, random.random)

    def assigned(self, told: control.Assignments) -> dict[str, str]:
        """Assignments, new ones or those of another channel again; returns what is refused and why."""
        if told.version == self._assignments.version:
            return self._refused
        refused = self._refused = self._assignments.replace(told.version, told.applications)
        self.log.info(
            "{count} applications assigned, version {version}",
            event="connector.assigned",
            count=len(self._assignments),
            version=told.version,
        )
        try:
            keep_assignments(told.applications, self.config.connector.state_dir)
        except OSError as problem:
            self.log.warn("the assignments cannot be kept: {problem}", event="connector.not-kept", problem=str(problem))
        for application, reason in refused.items():
            self.log.warn(
                "application {application} is not served: {reason}",
                event="connector.refused-assignment",
                application=application,
                reason=reason,
            )
        return refused

    def unpinned(self, channel: Channel, affinities: Iterable[str]) -> None:
        """Clients' connections are gone, and with them those to origins that were only for them."""
        for affinity in affinities:
            self._serving.reservations.release(channel, affinity)

    @property
    def assignments_version(self) -> int:
        """Of the snapshot in force."""
        return self._assignments.version

    def disconnected(self) -> None:
        """A channel was lost; with the last one, whatever version comes next is taken, even an older one."""
        if not any(dialling.is_up for relay in self._relays for dialling in relay.diallings):
            self._assignments.version = -1

    # Origins

    def _dial_origin(
        self, host: str, port: int, factory: Any, tls: ClientTLS | None, seconds: float
    ) -> Coroutine[Deferred[Any], Any, Any]:
        return dial(self._reactor, host, port, factory, tls, seconds, resolve=self._resolve)

    def _record(self, head: RequestHead, status: int, up: int, down: int, seconds: float, cause: str) -> None:
        standing = head.standing
        user = standing.identity.get("user", "") if standing.identity else ""
        self._access.record(
            head.request_id, standing.client, standing.host, head.method, head.target, status, up, down, seconds,
            standing.application, user, self.config.connector.name, cause,
        )  # fmt: skip


class RelayLink:
    """All channels to one relay: first one alone, then one more a second."""

    log = Logger()

    def __init__(self, service: ConnectorService, relay: str, hello: control.Hello) -> None:
        self.relay = relay
        self.diallings: list[Dialling] = []
        self._service = service
        self._hello: dict[str, Any] = msgspec.to_builtins(hello)
        self._stopping = False

    def start(self) -> None:
        """Begin with the first channel."""
        self._add()

    def stop(self) -> Deferred[Any]:
        """Drain and close all."""
        self._stopping = True
        return DeferredList([dialling.stop() for dialling in self.diallings])

    def _add(self) -> None:
        if not self._stopping and len(self.diallings) < self._service.config.connector.channels:
            dialling = self._service.dialling(self.relay, self)
            self.diallings.append(dialling)
            dialling.start()

    # dialing.Owner

    def make_channel(self, owner: Any) -> Channel:
        """A channel that is not connected yet."""
        return self._service.make_channel(owner)

    async def dial(self, channel: Channel) -> Any:
        """Connect it.

        :raises TlsFailed: the certificate expired while no relay could be asked for a new one; no relay takes it.
            It and its key stay where they are, and are tried again when the clock says otherwise.
        """
        renewal = self._service.renewal
        if renewal.credentials.not_after <= time.time():
            when = time.strftime("%Y-%m-%d", time.gmtime(renewal.credentials.not_after))
            raise TlsFailed(f"the certificate of this connector expired on {when}; {ENROL_AGAIN}")
        return await self._service.dial_relay(self.relay, renewal.tls, channel)

    def hello(self) -> dict[str, Any]:
        """Who we are."""
        return self._hello

    def risen(self, dialling: Dialling) -> None:
        """One is up: time for the next."""
        if dialling is self.diallings[-1]:
            self._service.later(STAGGER_SECONDS, self._add)
        self._service.renewal.look()

    def fallen(self, dialling: Dialling) -> None:
        """One is up no more."""
        self._service.disconnected()

    def told(self, dialling: Dialling, channel: Channel, document: control.AnyDocument) -> None:
        """The relay told something."""
        if isinstance(document, control.Assignments):
            if document.version < self._service.assignments_version:
                return  # another relay is ahead of this one
            refused = self._service.assigned(document)
            if refused:
                channel.control({"type": "refused", "version": document.version, "reasons": refused})
            else:
                channel.control({"type": "applied", "version": document.version})
        elif isinstance(document, control.Unpin):
            self._service.unpinned(channel, document.affinities)
        elif isinstance(document, control.Renew) and document.certificate:
            self._service.renewal.renewed(document.certificate)
        elif isinstance(document, control.Trust):
            self._service.renewal.trust(document)
        elif isinstance(document, control.Revoked):
            self.log.error(
                "{relay} has revoked this connector: {reason}; enrol it again with a new token",
                event="connector.revoked",
                relay=self.relay,
                reason=document.reason,
            )
            channel.close(CloseCode.NORMAL, "revoked")
