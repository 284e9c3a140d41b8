"""The front: one client connection, strict HTTP/1.1 on its bytes, one exchange after the other.

The bytes are :class:`appproxy.http.serving.ServerConversation`'s business; this is its Twisted side: reading is paused
while nobody takes the body or too much is pipelined, the source of an answer is paused while the client does not read.
The same class serves clients, the connectors' door and the admin socket; only the responder differs.
:mod:`appproxy.relay.front.http2` is its counterpart for HTTP/2.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from appproxy.http.addresses import AmbiguousPath, MalformedHost, canonical_host
from appproxy.http.forwarded import TrustedProxies
from appproxy.http.limits import Limits
from appproxy.http.messages import TUNNEL_METHODS, Field
from appproxy.http.refusal import BadRequest
from appproxy.http.serving import BodyReceived, RequestBegun, ServerConversation
from appproxy.relay.front.client_exchange import ClientExchange, Reading, Taker, reason_for
from appproxy.relay.front.patience import Patience

if TYPE_CHECKING:
    from appproxy.relay.connectors.pins import Pin

#: Bytes of pipelined requests that are read ahead before reading stops.
READ_AHEAD: Final = 64 * 1024
#: Seconds in which broken connections are told of only once.
BROKEN_LOG_SECONDS: Final = 60.0


class Attended(Protocol):
    """A client connection, as far as somebody has to look after it."""

    #: When to give up on the client, or to look again, by ``FrontSettings.seconds``; 0 for never.
    deadline: float

    def overdue(self) -> None:
        """The deadline has passed."""

    def retire(self) -> None:
        """The relay is about to stop: no more requests here, if there is a way to say so."""

    def see_off(self) -> None:
        """The relay stops: what is not finished is cut off, what is written still leaves."""


class FrontSettings:
    """What all connections of one listener share.

    :ivar responder: answers one exchange; what it raises is turned into an answer by *failed*.
    :ivar refused: fields and body of the answer to what was no request; told the client's address too.
    :ivar soon: calls something in the reactor's next turn.
    :ivar broken: HTTP/2 connections that were broken off because of what the client did, by code.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        responder: Callable[[ClientExchange], Coroutine[Deferred[Any], Any, None]],
        refused: Callable[[BadRequest, str], tuple[list[Field], bytes]],
        spawn: Callable[[str, Coroutine[Deferred[Any], Any, None]], object],
        seconds: Callable[[], float],
        new_id: Callable[[], str],
        secure: bool,
        limits: Limits | None = None,
        patience: Patience | None = None,
        answer_fields: tuple[Field, ...] = (),
        epoch: Callable[[], float] = time.time,
        soon: Callable[[Callable[[], None]], object],
        proxies: TrustedProxies | None = None,
    ) -> None:
        self.responder = responder
        self.refused = refused
        self.spawn = spawn
        self.seconds = seconds
        self.new_id = new_id
        self.secure = secure
        self.limits = limits or Limits()
        self.patience = patience or Patience()
        self._answer_fields = answer_fields
        self._epoch = epoch
        self.soon = soon
        self.fronts: set[Attended] = set()
        self.broken: Counter[str] = Counter()
        self._broken_told = float("-inf")
        self.proxies = proxies
        self._hosts: dict[tuple[bytes, str], tuple[str, str]] = {}

    def authority(self, host: bytes, scheme: str = "") -> tuple[str, str]:
        """Canonical host, and authority with a port other than the scheme's; remembered, bounded.

        :raises MalformedHost: it is none.
        """
        found = self._hosts.get((host, scheme))
        if found is None:
            name, port = canonical_host(host)
            default = 443 if scheme == "https" or (self.secure and not scheme) else 80
            found = name, name if port in (None, default) else f"{name}:{port}"
            if len(self._hosts) >= 1000:
                self._hosts.clear()
            self._hosts[host, scheme] = found
        return found

    def own_fields(self) -> list[Field]:
        """What stands on every answer that the relay makes up itself."""
        return [(b"Date", formatdate(self._epoch(), usegmt=True).encode("ascii")), *self._answer_fields]

    def broke_off(self, client: str, code: str, text: str) -> None:
        """Count a connection that was broken off because of what the client did; told now and then, not each time."""
        self.broken[code] += 1
        now = self.seconds()
        if now - self._broken_told >= BROKEN_LOG_SECONDS:
            self._broken_told = now
            self.log.warn(
                "{client} misused HTTP/2: {text} ({code}); such connections are closed ({count} so far)",
                event="front.broken",
                client=client,
                text=text,
                code=code,
                count=self.broken.total(),
            )

    def sweep(self) -> None:
        """Cut off connections that made nobody any progress; called once a second."""
        now = self.seconds()
        for front in [front for front in self.fronts if 0.0 < front.deadline <= now]:
            front.overdue()


class Front:
    """One connection of a client."""

    log: ClassVar[Logger] = Logger()
    transport: Any

    def __init__(self, settings: FrontSettings) -> None:
        self.settings = settings
        self.conversation = self.pen = ServerConversation(settings.limits, settings.secure)
        self.client = ""
        #: When to give up on the client, by ``settings.seconds``; 0 for never.
        self.deadline = 0.0
        self._exchange: ClientExchange | None = None
        self._pipe: Taker | None = None
        self.reading: Reading | None = None
        self.pin: Pin | None = None
        self._full = False
        self._reading = True
        self._closing = False
        self._waiting_for_body = False
        #: When the body has to be here, at the least rate that it may have.
        self._latest = 0.0
        self._turning = False
        self._more = False

    def makeConnection(self, transport: Any) -> None:
        """Twisted: this is the connection."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """Twisted: a client came."""
        peer = self.transport.getPeer()
        self.client = getattr(peer, "host", "") or "local"
        self.settings.fronts.add(self)
        self.deadline = self.settings.seconds() + self.settings.patience.head
        self.transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Twisted: the client went."""
        self.settings.fronts.discard(self)
        self.deadline = 0.0
        serving = self._exchange or self._pipe
        self._exchange = self._pipe = None
        if serving is not None:
            serving.client_lost()
        if self.pin is not None:
            self.pin.release()
            self.pin = None

    def hold(self, pin: Pin) -> bool:
        """The connection has one to an origin for itself from now on."""
        self.pin = pin
        return True

    @property
    def source(self) -> Any:
        """The push producer of bodies and pipes: the socket."""
        return self.transport

    @property
    def secured(self) -> Any:
        """The transport, for what TLS has found out."""
        return self.transport

    # Reading

    def dataReceived(self, data: bytes) -> None:
        """Twisted: some octets came."""
        if self._pipe is not None:
            self._pipe.body_received(data)
            return
        if self._closing and self._exchange is None:
            return
        # The next request is begun when all events of this one are told: they must not be taken for its own.
        self._turning = True
        try:
            events = self.conversation.receive(data)
            self._dispatch(events)
        except BadRequest as bad:
            self._refuse(bad)
        finally:
            self._turning = False
        if self._more:
            self._turn()
        if self._waiting_for_body and not self._full:
            patience = self.settings.patience
            self._latest += len(data) / patience.body_rate if patience.body_rate else math.inf
            self.deadline = min(self.settings.seconds() + patience.body, self._latest)
        if self.conversation.buffered > READ_AHEAD:
            self.pause_reading()

    def readConnectionLost(self) -> None:
        """Twisted: the client will send no more.

        Pipes go on.  An HTTP client that does so has nearly always gone: what it waits for is given up at the next
        sweep, which leaves a scripted one the time for a quick answer.
        """
        if self._pipe is not None:
            self._pipe.body_ended([])
        elif self._exchange is not None and self._exchange.ended:
            self._closing = True
            self.deadline = self.settings.seconds()
        elif self._exchange is not None:
            self.cut_off()
        else:
            self.lose()

    def writeConnectionLost(self) -> None:
        """Twisted: our own half-close is done."""

    def _dispatch(self, events: list[Any]) -> None:
        for event in events:
            kind = type(event)
            if kind is RequestBegun:
                self._begin(event)
            elif self._exchange is None:
                continue  # answered early: nobody wants the rest
            elif kind is BodyReceived:
                self._exchange.body_received(event.data)
            else:
                self._waiting_for_body = False
                self.deadline = 0.0
                self._exchange.body_ended(event.trailers)

    def _begin(self, begun: RequestBegun) -> None:
        try:
            exchange = ClientExchange(self, begun)
        except (MalformedHost, AmbiguousPath) as problem:
            raise BadRequest(400, str(problem)) from None
        self._exchange = exchange
        if begun.ended or begun.head.method in TUNNEL_METHODS:
            self.deadline = 0.0  # a tunnel may be silent as long as the application says
        else:
            self._waiting_for_body = True
            self._latest = self.deadline = self.settings.seconds() + self.settings.patience.body
        self.settings.spawn("exchange", self.settings.responder(exchange))

    def _refuse(self, bad: BadRequest) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            begun = exchange.begun
            exchange.client_lost()
            if begun:
                self.abort()
                return
        fields, body = self.settings.refused(bad, self.client)
        fields += self.settings.own_fields()
        self.write(self.conversation.whole(bad.status, reason_for(bad.status), fields, body))
        self.lose()

    def pause_reading(self) -> None:
        """Stop reading the client's socket."""
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Go on reading it."""
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()

    # Answering

    def write(self, data: bytes) -> None:
        """Write to the client."""
        self.transport.write(data)

    def answered(self) -> None:
        """The exchange's answer has been written whole."""
        self._exchange = None
        self._waiting_for_body = False
        if self._closing or not self.conversation.keep_alive:
            self.lose()
        else:
            self._more = True
            self._turn()

    def _turn(self) -> None:
        """Begin the next request, if its octets are here and the client reads its answers.

        Requests that are answered at once come back here before the loop has turned; they only ask it to turn again.
        """
        if self._turning:
            return
        self._turning = True
        settings, conversation = self.settings, self.conversation
        patience = settings.patience
        try:
            while self._more and not self._full and not self._closing:
                self._more = False
                events = conversation.next_request()
                waits = patience.keep_alive if conversation.idle else patience.head
                self.deadline = settings.seconds() + waits
                if events:
                    self._dispatch(events)
        except BadRequest as bad:
            self._refuse(bad)
        finally:
            self._turning = False
        if self._reading or conversation.buffered > READ_AHEAD:
            return
        if self._exchange is None or self._exchange.ended:
            self.resume_reading()

    def overdue(self) -> None:
        """The client took longer than we have patience."""
        if self._exchange is None and self._pipe is None and not self._closing and self.conversation.buffered:
            self._refuse(BadRequest(408, "the request head took too long"))
        elif self._waiting_for_body and self._exchange is not None and not self._full:
            self._body_overdue(self._exchange)
        elif self._full or self._closing or self._exchange is not None:
            self.cut_off()
        else:
            self.lose()

    def _body_overdue(self, exchange: ClientExchange) -> None:
        patience = self.settings.patience
        if exchange.begun:
            self.deadline = 0.0  # from now on the application's own limits count
        elif self.transport.paused or self.conversation.expecting:
            # Nobody takes the body, or has asked for it yet; that is not the client's doing.
            self._latest += patience.body
            self.deadline = self.settings.seconds() + patience.body
        else:
            self._refuse(BadRequest(408, "the request body took too long"))

    # Upgrades

    def become_pipe(self, pipe: Taker) -> None:
        """From now on the client's octets are *pipe*'s."""
        self._exchange = None
        self._waiting_for_body = False
        self.deadline = 0.0
        self._pipe = pipe
        leftover = self.conversation.upgraded()
        if leftover:
            pipe.body_received(leftover)
        self.resume_reading()

    def half_close(self) -> None:
        """End our half of the connection, once all is written."""
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def lose(self) -> None:
        """Close, once all is written; what the client still sends is dropped by the transport, for a while."""
        self._pipe = None
        self._closing = True
        self.deadline = 0.0
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection."""
        self._exchange = None
        self._pipe = None
        self._closing = True
        self.transport.abortConnection()

    def cut_off(self) -> None:
        """Give the client up, and tell whoever serves it."""
        serving = self._exchange or self._pipe
        self.abort()
        if serving is not None:
            serving.client_lost()

    def retire(self) -> None:
        """HTTP/1.1 has no word for it."""

    def see_off(self) -> None:
        """The relay stops: what is not finished is cut off, what is written still leaves."""
        if self._exchange is not None or self._pipe is not None:
            self.cut_off()
        else:
            self.lose()

    def hand_over(self, protocol: TwistedProtocol) -> bytes:
        """Make *protocol* the transport's; returns what came after the head."""
        self._exchange = None
        self.settings.fronts.discard(self)
        self.deadline = 0.0
        transport = self.transport
        transport.unregisterProducer()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.resume_reading()
        return self.conversation.upgraded()

    # IPushProducer for the transport: the client's pace

    def pauseProducing(self) -> None:
        """The client reads slower than we write."""
        self._full = True
        self.deadline = self.settings.seconds() + self.settings.patience.write
        taker = self._pipe or (self._exchange.taker if self._exchange is not None else None)
        if taker is not None:
            taker.pauseProducing()

    def resumeProducing(self) -> None:
        """The client caught up."""
        self._full = False
        self.deadline = 0.0
        if self._pipe is not None:
            self._pipe.resumeProducing()
        elif self._exchange is None:
            if not self._closing:
                self._turn()
        elif self._exchange.taker is not None:
            self._exchange.taker.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is done with us; its loss is told separately."""


classImplements(Front, IProtocol, IHalfCloseableProtocol, IPushProducer)
