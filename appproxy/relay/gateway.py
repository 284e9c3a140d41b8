"""The journey of one request through the relay: read :meth:`Gateway.respond` from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from appproxy.applications import Application
from appproxy.channel.protocol import Channel
from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.cors import is_preflight
from appproxy.http.messages import IDEMPOTENT, Field
from appproxy.identity import Identity
from appproxy.relay import causes
from appproxy.relay.access.policy import StepUp
from appproxy.relay.access.rates import ApplicationRates, Rates, TooManyRequests
from appproxy.relay.access.rules import Applying, Request
from appproxy.relay.catalog import Catalog, Published
from appproxy.relay.connectors.attachments import Attachments
from appproxy.relay.connectors.pins import Pin, Pins, tunnel_of
from appproxy.relay.exchange import ClientGone, Exchange
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.relay.front.upgrades import check_origin
from appproxy.relay.people.client_certificates import Certificate, Owner
from appproxy.relay.people.sessions import Session, Watcher
from appproxy.relay.preauth.cookies import REPLAY
from appproxy.relay.programs.refusing import METADATA_PATH, Program, StepUpNeeded, Unauthorised, challenge, shared
from appproxy.relay.relaying import Relaying
from appproxy.relay.upward import upward_head
from appproxy.wire.frames import Code
from appproxy.wire.heads import HeadTooLarge
from appproxy.wire.misuse import CannotOpen

#: The relay's own paths, on every host; origins never see them.
RESERVED: Final = b"/.appproxy/"
#: How those begin, and all that is well known.
HIDDEN: Final = b"/."
#: Where search engines ask what they may read.
ROBOTS: Final = b"/robots.txt"
#: When to look again; nobody knows how long the work takes.
MAINTENANCE_FIELDS: Final = ((b"Retry-After", b"600"),)
#: Other connectors that are tried before a request fails.
MAX_ATTEMPTS: Final = 3


class NoApplication(AppproxyError):
    """Nothing is published at this address."""

    code = "no-application"
    status = 404
    side = Side.CLIENT
    phase = Phase.REQUEST


class UnderMaintenance(AppproxyError):
    """Somebody is working on the application."""

    code = "maintenance"
    status = 503
    side = Side.RELAY
    phase = Phase.POLICY


class NotAssigned(AppproxyError):
    """The user is signed in but not assigned to this application."""

    code = "refused"
    status = 403
    side = Side.CLIENT
    phase = Phase.POLICY


class PreAuthentication(Protocol):
    """How people prove who they are."""

    def peek(self, exchange: Exchange, application: Application) -> Session | None:
        """The session that the exchange's cookie names, if it is at hand."""

    async def identify(self, exchange: Exchange, application: Application) -> Session | None:
        """The same, asking the store."""

    async def challenge(self, exchange: Exchange, published: Published) -> None:
        """Answer somebody who is not signed in."""

    async def step_up(self, exchange: Exchange, published: Published, step_up: StepUp) -> None:
        """Answer somebody whose sign-in is too old, or too weak, for this."""

    async def replay(self, exchange: ClientExchange, session: Session) -> bool:
        """Let a request stand for one that was kept while its user signed in; True if it does now."""


class SignedIn(Protocol):
    """A person's session, or a program's credential in use."""

    @property
    def identity(self) -> Identity:
        """Who it is."""

    def watch(self, watcher: Watcher, /) -> None:
        """Tell *watcher* when it ends."""

    def unwatch(self, watcher: Watcher, /) -> None:
        """Undo :meth:`watch`."""


class Programs(Protocol):
    """How programs prove who they are."""

    async def identify(self, exchange: ClientExchange, published: Published) -> Program | None:
        """The program that the exchange's credentials name; None when they are none of ours.

        :raises Unauthorised: they are, and not good for this.
        """

    def describe(self, exchange: ClientExchange, published: Published) -> None:
        """Answer with what programs have to know to get a credential."""


class Fail(Protocol):
    """Answers an exchange with an error's page or JSON, and perhaps further fields."""

    def __call__(self, exchange: ClientExchange, error: AppproxyError, fields: Sequence[Field] = (), /) -> None:
        """Answer."""


class Gateway:
    """Answers every exchange of the client listeners.

    :param own: answers what is for the relay itself: its own host and the reserved paths of every host.
    :param fail: answers an exchange that failed.
    :param epoch: epoch seconds.
    :param seconds: a monotonic clock.
    :param vouch: writes the field in which origins get a signed statement on who the user is.
    :param record: is told of every finished exchange, with application, user, connector, cause and bytes up and down.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        host: str,
        attachments: Attachments,
        preauth: PreAuthentication,
        programs: Programs,
        own: Callable[[ClientExchange, Published | None], Coroutine[Deferred[Any], Any, None]],
        fail: Fail,
        record: Callable[[ClientExchange, str, str, str, str, int, int], None],
        epoch: Callable[[], int] = lambda: int(time.time()),
        seconds: Callable[[], float] = time.monotonic,
        vouch: Callable[[Published, Identity], Field] | None = None,
    ) -> None:
        self.catalog = Catalog()
        self._host = host
        self._attachments = attachments
        self._pins = Pins(attachments)
        self._preauth = preauth
        self._programs = programs
        self._own = own
        self._fail = fail
        self._record = record
        self._epoch = epoch
        self._rates = Rates(seconds)
        self._vouch = vouch

    async def respond(self, exchange: ClientExchange) -> None:
        """Answer one exchange, whatever happens, and leave one access record."""
        trip = Trip()
        try:
            published = await self._received(exchange, trip)
            if published is not None:
                await self._relay(exchange, published, trip)
        except AppproxyError as failure:
            trip.cause = trip.cause or failure.code
            if failure.status >= 500:
                self.log.warn(
                    "{request}: {code} at {side} in {phase}: {detail}",
                    event="exchange.failed",
                    request=exchange.request_id,
                    code=failure.code,
                    side=str(failure.side),
                    phase=str(failure.phase),
                    detail=failure.detail,
                )
            self._fail(exchange, failure, _fields_of(exchange, failure, trip.published))
        except Exception:
            trip.cause = "internal"
            self.log.failure("{request} failed inside the relay", request=exchange.request_id)
            self._fail(exchange, AppproxyError())
        finally:
            self._record(exchange, trip.application, trip.user, trip.connector, trip.cause, trip.up, trip.down)

    async def _received(self, exchange: ClientExchange, trip: Trip) -> Published | None:
        """Find what the request is for, and whether it may go there; None when it has been answered."""
        if exchange.host == self._host:
            await self._own(exchange, None)
            return None
        published = self.catalog.find(exchange.host, exchange.path, exchange.scheme, exchange.authority)
        if exchange.path.startswith(HIDDEN):
            if exchange.path.startswith(RESERVED) and self.catalog.knows_host(exchange.host):
                await self._own(exchange, published)
                return None
            if exchange.path.startswith(METADATA_PATH) and self._describe(exchange):
                return None
        if published is None:
            if _asks_for_robots(exchange) and any(each.signs_in for each in self.catalog.at_host(exchange.host)):
                self._keep_robots_out(exchange)
                return None
            raise NoApplication
        trip.application, trip.published = published.id, published
        if exchange.scheme != published.external.scheme and exchange.scheme == "http":
            origin = published.origin(exchange.host).encode("ascii")
            exchange.answer(308, [(b"Location", origin + exchange.head.target)])  # no cookie is looked at
            return None
        if published.rate is not None:
            trip.rates = self._rates.of(published.id, published.rate)
            trip.rates.arrived(exchange.client)
        if published.attended and self._attend(exchange, published, trip):
            return None
        if published.certificate is not None:
            trip.certificate = published.certificate.look(exchange, self._epoch())
        if published.signs_in:
            if exchange.path == ROBOTS and _asks_for_robots(exchange):
                self._keep_robots_out(exchange)
                return None
            if not await self._admit(exchange, published, trip):
                return None
            if trip.rates is not None and trip.signed_in is not None:
                identity = trip.signed_in.identity
                trip.rates.identified((identity.issuer, identity.subject))
            if exchange.upgrade:
                check_origin(exchange, published)
        return published

    async def _admit(self, exchange: ClientExchange, published: Published, trip: Trip) -> bool:
        """Find out who it is and whether they may; False when it has been answered.

        :raises Unauthorised: a program's credential is not good, or not for this.
        :raises NotAssigned: they may not.
        """
        application = published.application
        applying = self._applying(exchange, published)
        program: Program | None = None
        if published.credential in exchange.head.known:
            program = await self._programs.identify(exchange, published)
            if program is not None:
                trip.drop = published.drop_credential
        if program is None and trip.certificate is not None and trip.certificate.identity is not None:
            program = Owner(trip.certificate.identity)
        if program is not None:
            trip.signed_in, trip.user = program, program.identity.user
            decision = program.decide(published, applying, self._epoch())
            if not decision.allowed:
                raise program.refusal(published, decision, self._epoch())
            return True
        if applying is not None and applying.sign_in == "public":
            return True
        session = self._preauth.peek(exchange, application) or await self._preauth.identify(exchange, application)
        if session is None:
            if applying is not None and applying.sign_in == "optional":
                return True
            trip.cause = "challenged"
            await self._preauth.challenge(exchange, published)
            return False
        trip.signed_in, trip.user = session, session.identity.user
        if REPLAY in exchange.reserved and await self._preauth.replay(exchange, session):
            applying = self._applying(exchange, published)
        if applying is None:
            decision = published.assignment.decide(session.identity)
        else:
            decision = applying.decide(session.identity, self._epoch())
        if decision.step_up is not None:
            trip.cause = StepUpNeeded.code
            await self._preauth.step_up(exchange, published, decision.step_up)
            return False
        if not decision.allowed:
            raise NotAssigned(", ".join(decision.reasons))
        return True

    def _applying(self, exchange: ClientExchange, published: Published) -> Applying | None:
        """The rules that have something to say of this request; None where there are none at all."""
        if published.rules is None:
            return None
        return published.rules.look(Request(exchange.path, exchange.head.method, exchange.client, self._epoch()))

    async def _relay(self, exchange: ClientExchange, published: Published, trip: Trip) -> None:
        """Send the request through a connector; try another one where that is safe (HTTP-9)."""
        if exchange.answered:
            raise ClientGone  # while the store was asked who it is
        pin: Pin | None = None
        if published.pinned or exchange.bound:
            pin = self._pins.pin(exchange)
            if pin is None:
                trip.cause = "http1-required"
                return None
            exchange.lasting = True
        repeatable = exchange.ended and not exchange.upgrade and pin is None
        session = trip.signed_in
        identity = session.identity if session is not None else None
        told: tuple[Field, ...] = ()
        if published.tells_by_token and identity is not None and self._vouch is not None:
            told = (self._vouch(published, identity),)
        if trip.certificate is not None and trip.certificate.field is not None:
            told = (*told, trip.certificate.field)
        try:
            head = upward_head(exchange, published, identity, "" if pin is None else pin.affinity, trip.drop, told)
        except HeadTooLarge as refusal:
            raise causes.head_too_large(str(refusal)) from None
        tried: frozenset[Channel] = frozenset()
        failure: causes.Failed | None = None
        group = published.application.connector_group
        for _ in range(MAX_ATTEMPTS):
            if pin is None:
                channel = self._attachments.pick(group, tried)
            else:
                channel = pin.pick(group, tunnel_of(exchange, published.id), tried)
            if channel is None:
                break
            trip.connector = channel.connector
            relaying = Relaying(exchange, published.cors, published.ping, published.drop_trailers)
            try:
                relaying.carry(channel, head)
            except CannotOpen as full:
                failure = causes.failed(Code.REFUSED, repr(full))
                tried |= {channel}
                continue
            except HeadTooLarge as refusal:
                raise causes.head_too_large(str(refusal)) from None
            if session is not None:
                session.watch(relaying)
            outcome = await relaying.finished
            if session is not None:
                session.unwatch(relaying)
            trip.up, trip.down, trip.cause = relaying.up, relaying.down, relaying.cause
            if outcome is None:
                if pin is not None:
                    pin.used = True
                return None
            failure = outcome
            if pin is not None and pin.used and failure.code == "origin-broke-off":
                # As the origin did: whoever was signed in is so no more, and clients try again on a new connection.
                trip.cause = failure.code
                return exchange.abort()
            if not repeatable or (failure.code != "connector-busy" and not self._may_repeat(exchange, failure)):
                break
            tried |= {channel}
        raise failure or causes.no_connector()

    def _may_repeat(self, exchange: ClientExchange, failure: causes.Failed) -> bool:
        return failure.code == "connector-lost" and exchange.head.method in IDEMPOTENT

    def _attend(self, exchange: ClientExchange, published: Published, trip: Trip) -> bool:
        """Answer what the origin has no part in: an application under maintenance, a preflight where there are rules.

        A preflight comes without cookies, so nobody is asked who they are; it opens no door for other methods.
        """
        if published.application.maintenance:
            trip.cause = UnderMaintenance.code
            self._fail(exchange, UnderMaintenance(), MAINTENANCE_FIELDS)
            return True
        known = exchange.head.known
        if published.cors is None or not is_preflight(exchange.head.method, known):
            return False
        trip.cause = "preflight"
        fields = published.cors.preflight(known)
        exchange.answer(403 if fields is None else 204, fields or [(b"Vary", b"Origin")])
        return True

    def _describe(self, exchange: ClientExchange) -> bool:
        """Say how programs get tokens for what is published at the path after the well-known one (RFC 9728)."""
        path = exchange.path[len(METADATA_PATH) :] or b"/"
        described = self.catalog.find(exchange.host, path, exchange.scheme, exchange.authority)
        if described is None or not described.audiences or not path.startswith(b"/"):
            return False
        self._programs.describe(exchange, described)
        return True

    def _keep_robots_out(self, exchange: ClientExchange) -> None:
        """What needs a sign-in is nothing for search engines (RFC 9309)."""
        exchange.answer(200, [(b"Content-Type", b"text/plain; charset=utf-8")], b"User-agent: *\nDisallow: /\n")


def _fields_of(exchange: ClientExchange, failure: AppproxyError, published: Published | None) -> list[Field]:
    """What the answer to a failed request says beside its page: to programs, and to scripts of other sites."""
    if published is None:
        return []
    fields: list[Field] = list(failure.fields) if isinstance(failure, TooManyRequests) else []
    if isinstance(failure, Unauthorised):
        fields.append(challenge(published.id, {**failure.parameters, **published.metadata_of(exchange.host)}))
    if published.cors is not None:
        fields += shared(published.cors, exchange.head.known)
    return fields


def _asks_for_robots(exchange: ClientExchange) -> bool:
    return exchange.path == ROBOTS and exchange.head.method in (b"GET", b"HEAD")


class Trip:
    """What the access record will say of one exchange."""

    __slots__ = (
        "application",
        "cause",
        "certificate",
        "connector",
        "down",
        "drop",
        "published",
        "rates",
        "signed_in",
        "up",
        "user",
    )

    def __init__(self) -> None:
        self.signed_in: SignedIn | None = None
        #: Fields that do not go on, where they are others than usual.
        self.drop: frozenset[bytes] | None = None
        self.published: Published | None = None
        self.rates: ApplicationRates | None = None
        self.certificate: Certificate | None = None
        self.application = self.user = self.connector = self.cause = ""
        self.up = self.down = 0
