"""The relay, assembled: the one place where its rooms meet."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.application.service import Service
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from appproxy import tuning
from appproxy.channel.carrier import PATH as CHANNEL_PATH
from appproxy.channel.listen import ChannelListener
from appproxy.config.relay import RelayConfig
from appproxy.errors import AppproxyError, ConfigError
from appproxy.http.forwarded import TrustedProxies
from appproxy.http.guard import HSTS
from appproxy.http.limits import Limits
from appproxy.http.messages import Field
from appproxy.http.refusal import BadRequest
from appproxy.logs import AccessLog, attach
from appproxy.net.certificates import Certificates
from appproxy.net.listen import Limits as ConnectionLimits
from appproxy.net.listen import Listening, listen
from appproxy.net.notify import notify
from appproxy.net.sockets import Address
from appproxy.net.tls import ALPN, ALPN_WITH_HTTP2
from appproxy.relay.admin import Admin
from appproxy.relay.catalog import Published
from appproxy.relay.certificates import ServerCertificates, open_authorities, publish_authorities
from appproxy.relay.connectors.admission import Admission
from appproxy.relay.connectors.attachments import Attachments
from appproxy.relay.connectors.channels import Channels
from appproxy.relay.connectors.enrolment import PATH as ENROLMENT_PATH
from appproxy.relay.connectors.enrolment import Enrolment
from appproxy.relay.following import Following
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.relay.front.http1 import Front, FrontSettings
from appproxy.relay.front.patience import Patience
from appproxy.relay.gateway import RESERVED, Gateway, NoApplication, NotAssigned
from appproxy.relay.node import LEASE_SECONDS, NodeName
from appproxy.relay.people.identification import Identification
from appproxy.relay.people.identity_tokens import SECRET as IDENTITY_TOKEN_SECRET
from appproxy.relay.people.identity_tokens import IdentityTokens, make_key
from appproxy.relay.people.sealing import KEY_BYTES, Sealer
from appproxy.relay.people.sessions import TICK_SECONDS as SESSIONS_TICK_SECONDS
from appproxy.relay.programs.access_tokens import AccessTokens
from appproxy.relay.programs.credentials import Credentials
from appproxy.relay.programs.service_tokens import ServiceTokens
from appproxy.relay.purging import PURGE_SECONDS, purge
from appproxy.relay.rendering import Rendering
from appproxy.store import secrets as stored_secrets
from appproxy.store.interface import StoreUnavailable
from appproxy.store.opening import open_store
from appproxy.tasks import Tasks
from appproxy.wire.windows import Budget

#: How often connections that are overdue are looked for: whoever waits for a client that left hears of it within this.
SWEEP_SECONDS = 0.5
#: What clients speak, as access records say it.
PROTOCOLS = {(1, 0): "HTTP/1.0", (1, 1): "HTTP/1.1", (2, 0): "HTTP/2"}
#: A client gets so long to read what was written before the relay stopped; looked at so often.
FAREWELL_SECONDS, FAREWELL_LOOK_SECONDS = 10.0, 0.05


class RelayService(Service):
    """One relay node."""

    log = Logger()

    def __init__(self, reactor: Any, config: RelayConfig) -> None:
        self.config = config
        self._reactor = reactor
        self._tasks = Tasks()
        self._store = open_store(config.store.url, config.relay.state_dir, reactor, reactor)
        self._listening: list[Listening] = []
        self._loops: list[LoopingCall] = []
        self._fronts: list[FrontSettings] = []
        self._attachments = Attachments()
        self._name = NodeName(config.relay.node, config.relay.state_dir, self._store, epoch)

    # Life

    def setServiceParent(self, parent: Any) -> None:
        """Twisted: the application's log is ours from here on."""
        super().setServiceParent(parent)
        self._events = attach(parent, self.config.logging)

    def startService(self) -> None:
        """Twisted: begin; what is wrong is told in one line and ends the program."""
        super().startService()
        self._tasks.spawn("start", self._start())

    async def _start(self) -> None:
        try:
            await self._open()
        except (ConfigError, StoreUnavailable) as problem:
            tuning.give_up(self._reactor, "appproxy-relay", str(problem))
            return
        except Exception:
            self.log.failure("the relay could not start", event="relay.start-failed")
            tuning.give_up(self._reactor, "appproxy-relay", "could not start; the log has the traceback")
            return
        tuning.settle()
        notify("READY=1")
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))
        self.log.info(
            "relay {node} serves {public} and connectors at {connect}",
            event="relay.ready",
            node=self.config.relay.node,
            public=self.config.relay.public_url,
            connect=self.config.listen.connect_url,
        )

    async def stopService(self) -> None:
        """Twisted: accept no more, finish what is in flight, close the store."""
        super().stopService()
        notify("STOPPING=1")
        for listening in self._listening:
            listening.stop()
        for front in [front for settings in self._fronts for front in settings.fronts]:
            front.retire()
        for loop in self._loops:
            if loop.running:
                loop.stop()
        if hasattr(self, "_channels"):
            await self._channels.stop()
        await self._see_clients_off()
        await self._tasks.stop()
        if hasattr(self, "_sessions"):
            await self._sessions.tick()
            await self._name.leave()
        await self._store.stop()
        if hasattr(self, "_access"):
            self._access.close()

    async def _see_clients_off(self) -> None:
        """Close connections; slow readers get a while for what is written already."""
        for front in [front for settings in self._fronts for front in settings.fronts]:
            front.see_off()
        late = self._reactor.seconds() + FAREWELL_SECONDS
        while waiting := [each for listening in self._listening for each in listening.connections if each.buffered]:
            if self._reactor.seconds() > late:
                for transport in waiting:
                    transport.abortConnection()
                break
            await deferLater(self._reactor, FAREWELL_LOOK_SECONDS)

    # Assembly

    async def _open(self) -> None:
        config, reactor = self.config, self._reactor
        _make_folder(config.relay.state_dir)
        await self._store.start()
        await self._name.take()
        now = epoch
        authorities = await open_authorities(self._store, now())
        publish_authorities(authorities, config.relay.state_dir)
        key = await self._store.write(stored_secrets.get_or_create, "sealing", lambda: secrets.token_bytes(KEY_BYTES))
        sealer = Sealer(key, secrets.token_bytes)
        pem = await self._store.write(stored_secrets.get_or_create, IDENTITY_TOKEN_SECRET, make_key)
        identity_tokens = IdentityTokens(pem, config.relay.public_url, now)
        self._access = AccessLog.open(config.logging, reactor)
        self._rendering = Rendering(epoch=now)
        people = Identification(
            config,
            reactor=reactor,
            store=self._store,
            sealer=sealer,
            rendering=self._rendering,
            applications=lambda: self._gateway.catalog.applications,
            epoch=now,
            spawn=self._tasks.spawn,
            more={b"jwks": ((b"GET", b"HEAD"), identity_tokens.serve_keys)},
        )
        self._sessions, self._signin, self._portal = people.sessions, people.signin, people.portal
        preauth, relay_host = people.preauth, people.host
        self._service_tokens = ServiceTokens(self._store, reactor.seconds, now)
        access_tokens = AccessTokens(preauth.providers, preauth.provider_id, now)
        self._gateway = Gateway(
            host=relay_host,
            attachments=self._attachments,
            preauth=preauth,
            programs=Credentials(self._service_tokens, access_tokens),
            own=self._answer_own,
            fail=self._fail,
            record=self._record,
            seconds=reactor.seconds,
            vouch=identity_tokens.field,
        )
        admission = Admission(authorities, self._store, now)
        self._channels = Channels(
            clock=reactor,
            store=self._store,
            tasks=self._tasks,
            attachments=self._attachments,
            budget=Budget(),
            node=config.relay.node,
            now=now,
            trusted=authorities.told,
            examine=admission.admit,
            reissue=admission.reissue,
        )
        self._carriers = ChannelListener(self._channels.admit)
        self._enrolment = Enrolment(authorities, self._store, now=now, seconds=reactor.seconds)
        self._admin = Admin(
            self._store,
            authorities,
            self._attachments,
            now=now,
            providers=[each.id for each in config.provider],
            own_host=relay_host,
        )
        self._following = Following(
            self._store,
            gateway=self._gateway,
            channels=self._channels,
            sessions=self._sessions,
            service_tokens=self._service_tokens,
            authorities=authorities,
            state_dir=config.relay.state_dir,
        )
        await self._following.begin()
        self._store.watch(self._changed)
        offered = ALPN_WITH_HTTP2 if config.listen.http2 else ALPN
        folder = config.tls.certificates
        directory = Certificates(folder, reactor, protocols=offered) if folder else None
        self._directory = directory
        if directory is not None:
            directory.start()
        client_certificates = ServerCertificates(
            authorities,
            relay_host,
            now=now,
            publishes=self._publishes,
            directory=directory,
            protocols=offered,
            asks=lambda name: self._gateway.catalog.trusted_at(name),
        )
        connect_host = urlsplit(config.listen.connect_url).hostname or ""
        connector_certificates = ServerCertificates(authorities, connect_host, now=now, asks_clients=True)
        self._listen_everywhere(client_certificates, connector_certificates)
        self._every(SWEEP_SECONDS, self._sweep)
        self._every(SESSIONS_TICK_SECONDS, self._sessions.tick)
        self._every(SESSIONS_TICK_SECONDS, self._service_tokens.tick)
        self._every(SESSIONS_TICK_SECONDS, access_tokens.tick)
        self._every(LEASE_SECONDS / 3, self._name.renew)
        self._every(PURGE_SECONDS, lambda: purge(self._store, now()))

    def _listen_everywhere(self, clients: ServerCertificates, connectors: ServerCertificates) -> None:
        config = self.config.listen
        per_client = ConnectionLimits(
            total=self.config.limits.connections,
            per_address=self.config.limits.connections_per_address,
            exempt=config.trusted_proxies,
        )
        trusted = config.trusted_proxies
        proxies = TrustedProxies(trusted, config.trusted_fields) if trusted else None
        introduced_by = trusted if config.proxy_protocol else ()
        for address in config.clients:
            secure = address.kind in ("tls", "systemd")
            settings = self._front(self._gateway.respond, secure, proxies)
            self._listening.append(
                listen(
                    self._reactor, address, _serving(settings), clients,
                    limits=per_client, introduced_by=introduced_by, by_alpn=self._multiplexed(settings),
                    by_name=lambda: clients.asking if self._gateway.catalog.asks_for_certificates else None,
                )
            )  # fmt: skip
        door = self._front(self._answer_connector, secure=True)
        self._listening.append(
            listen(
                self._reactor, config.connectors, _serving(door), connectors, where="listen.connectors",
                limits=per_client,
            )
        )  # fmt: skip
        assert config.admin is not None  # the configuration's reader gave it a place
        local = self._front(self._admin.respond, secure=False)
        self._listening.append(listen(self._reactor, config.admin, _serving(local), where="listen.admin", mode=0o600))

    def _multiplexed(self, settings: FrontSettings) -> dict[str, Callable[[Address], Protocol]]:
        """The front for HTTP/2, where that is wanted: only then what it needs is asked for."""
        if not self.config.listen.http2:
            return {}
        from appproxy.relay.front.http2 import MultiplexedFront

        return {"h2": lambda _: MultiplexedFront(settings)}

    def _front(
        self, responder: Callable[[ClientExchange], Any], secure: bool, proxies: TrustedProxies | None = None
    ) -> FrontSettings:
        limits = self.config.limits
        settings = FrontSettings(
            responder=responder,
            refused=self._refused,
            spawn=self._tasks.spawn,
            seconds=self._reactor.seconds,
            new_id=new_request_id,
            secure=secure,
            limits=Limits(head=limits.head, fields=limits.fields, target=limits.target),
            patience=Patience(
                head=float(limits.head_timeout),
                keep_alive=float(limits.keep_alive),
                body=float(limits.body_idle),
                body_rate=limits.body_rate,
                write=float(limits.write_idle),
            ),
            answer_fields=(HSTS,) if secure else (),
            soon=lambda call: self._reactor.callLater(0, call),
            proxies=proxies,
        )
        self._fronts.append(settings)
        return settings

    # Responders that are not the gateway

    async def _answer_own(self, exchange: ClientExchange, published: Published | None) -> None:
        """The relay's own pages: its host's, and the reserved paths of every host; never in the clear."""
        if exchange.scheme == "http" and self.config.relay.public_url.startswith("https:"):
            own = published.origin(exchange.host) if published is not None else self.config.relay.public_url
            exchange.answer(308, [(b"Location", own.encode("ascii") + exchange.head.target)])
        elif exchange.path.startswith(RESERVED):
            await self._signin.serve_reserved(exchange, published.application if published is not None else None)
        else:
            await self._portal.serve(exchange)

    async def _answer_connector(self, exchange: ClientExchange) -> None:
        """The connectors' door: a channel or an enrolment."""
        if exchange.path == CHANNEL_PATH.encode("ascii") and exchange.upgrade:
            carrier = self._carriers.carrier()
            head = exchange.raw_head()
            rest = exchange.hand_over(carrier)
            carrier.dataReceived(head + rest)
            return
        await self._guarded(self._enrolment.respond if exchange.path == ENROLMENT_PATH else _nothing_here)(exchange)

    def _guarded(self, respond: Callable[[Any], Any]) -> Callable[[ClientExchange], Any]:
        """Turn what *respond* raises into an answer."""

        async def guarded(exchange: ClientExchange) -> None:
            try:
                await respond(exchange)
            except AppproxyError as failure:
                self._rendering.fail(exchange, failure)
            except Exception:
                self.log.failure("{request} failed inside the relay", request=exchange.request_id)
                self._rendering.fail(exchange, AppproxyError())

        return guarded

    def _fail(self, exchange: ClientExchange, error: AppproxyError, fields: Sequence[Field] = (), /) -> None:
        """Answer with what went wrong; who may not use an application is shown the way to those that they may."""
        link = self.config.relay.public_url if isinstance(error, NotAssigned) else ""
        self._rendering.fail(exchange, error, fields, link=link, link_text="Your applications")

    def _record(
        self, exchange: ClientExchange, application: str, user: str, connector: str, cause: str, up: int, down: int
    ) -> None:
        head = exchange.head
        self._access.record(
            exchange.request_id, exchange.client, exchange.host, head.method, head.target, exchange.status, up, down,
            self._reactor.seconds() - exchange.started, application, user, connector, cause, "",
            PROTOCOLS[head.version],
        )  # fmt: skip

    def _refused(self, bad: BadRequest, client: str) -> tuple[list[Field], bytes]:
        """The answer to what was no request, and its access record: what was asked for is not known."""
        request_id = new_request_id()
        self._access.record(request_id, client, "", b"-", b"-", bad.status, 0, 0, 0.0, cause=bad.code, side="client")
        return self._rendering.refusal(bad, request_id)

    def _changed(self, _seq: int) -> None:
        self._tasks.spawn("follow the feed", self._following.follow())

    def _publishes(self, host: str) -> bool:
        return self._gateway.catalog.knows_host(host)

    def _reload(self) -> None:
        """SIGHUP: open the logs anew, look at the certificates."""
        notify("RELOADING=1")
        try:
            self._events.reopen()
            self._access.reopen()
        except ConfigError as problem:
            self.log.error("{problem}", event="relay.reload-failed", problem=str(problem))
        if self._directory is not None:
            self._directory.reload()
        notify("READY=1")

    # Routine

    def _every(self, seconds: float, work: Callable[[], Any]) -> None:
        def guarded() -> None:
            result = work()
            if result is not None:
                self._tasks.spawn("routine", result)

        loop = LoopingCall(guarded)
        loop.clock = self._reactor
        loop.start(seconds, now=False)
        self._loops.append(loop)

    def _sweep(self) -> None:
        self._sessions.sweep()
        for settings in self._fronts:
            settings.sweep()
        self._channels.note_store_age(self._reactor.seconds() - self._store.answered_at)
        notify("WATCHDOG=1")


def _serving(settings: FrontSettings) -> Callable[[Address], Any]:
    """Makes the protocol of each connection of a listener."""
    return lambda _: Front(settings)


async def _nothing_here(exchange: ClientExchange) -> None:
    raise NoApplication


def _make_folder(path: Path) -> None:
    """:raises ConfigError: the state folder cannot be made."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        problem = f"{path} cannot be made: {(error.strerror or str(error)).lower()}; create it or choose another"
        raise ConfigError("relay.state_dir", problem) from None


def epoch() -> int:
    """Now, in whole epoch seconds."""
    return int(time.time())


_PREFIX = os.urandom(6).hex()
_count = 0


def new_request_id() -> str:
    """An id that no other request has: random for this process, counted within it."""
    global _count
    _count += 1
    return f"{_PREFIX}-{_count:x}"
