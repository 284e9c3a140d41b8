"""One request's share of an HTTP/2 connection: what its exchange takes for the way to the client."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from zope.interface import implementer

from appproxy.http.addresses import AmbiguousPath, MalformedHost
from appproxy.http.intake import Code
from appproxy.http.messages import TUNNEL_METHODS, Field, OutOfTurn
from appproxy.http.refusal import BadRequest
from appproxy.http.server_stream import ServerStream
from appproxy.http.serving import RequestBegun
from appproxy.relay.front.client_exchange import ClientExchange, Reading, Taker, reason_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appproxy.relay.connectors.pins import Pin
    from appproxy.relay.front.http2 import MultiplexedFront


@implementer(IPushProducer)
class ClientStream:
    """A :class:`~appproxy.relay.front.client_exchange.Line`; as a producer it is the client's half of this one request.

    :ivar pen: the stream in the conversation.
    """

    __slots__ = (
        "_came_at", "_exchange", "_front", "_latest", "_owed", "_paused", "_pipe", "_taker_paused",
        "_waiting_for_body", "client", "pen", "settings",
    )  # fmt: skip

    def __init__(self, front: MultiplexedFront, pen: ServerStream) -> None:
        self._front = front
        self.pen = pen
        self.settings = front.settings
        self.client = front.client
        self._exchange: ClientExchange | None = None
        self._pipe: Taker | None = None
        self._paused = False
        #: Octets that came while nobody took them.
        self._owed = 0
        self._taker_paused = False
        self._waiting_for_body = False
        #: When something of the body came, or could come again; when it has to be here at its least rate.
        self._came_at = self._latest = 0.0

    def __repr__(self) -> str:
        return f"<ClientStream {self.pen!r}>"

    @property
    def secured(self) -> Any:
        """The connection's transport, for what TLS has found out."""
        return self._front.transport

    # From the client

    def begin(self, begun: RequestBegun) -> None:
        """A request has come."""
        try:
            exchange = ClientExchange(self, begun)
        except (MalformedHost, AmbiguousPath) as problem:
            self.pen.deaf = True
            self.refuse(BadRequest(400, str(problem)))
            return
        self._exchange = exchange
        if not begun.ended and begun.head.method not in TUNNEL_METHODS:
            self._waiting_for_body = True
            self._came_at = self.settings.seconds()
            self._latest = self._came_at + self.settings.patience.body
            self._front.look_again(self._latest)
        self.settings.spawn("exchange", self.settings.responder(exchange))

    def received(self, data: bytes) -> None:
        """Some of its body, or of its half of a pipe."""
        if self._waiting_for_body:
            rate = self.settings.patience.body_rate
            self._came_at = self.settings.seconds()
            self._latest += len(data) / rate if rate else inf
        self._owed += len(data)
        taker = self._pipe or self._exchange
        if taker is not None:
            taker.body_received(data)
        if not self._paused:
            self._pay()

    def ended(self, trailers: Sequence[Field]) -> None:
        """All of it."""
        self._waiting_for_body = False
        taker = self._pipe or self._exchange
        if taker is not None:
            taker.body_ended(list(trailers))

    def lost(self) -> None:
        """The client cancelled it, or is gone."""
        self._waiting_for_body = False
        serving = self._exchange or self._pipe
        self._exchange = self._pipe = None
        if serving is not None:
            serving.client_lost()

    def refuse(self, bad: BadRequest) -> None:
        """What came is no request, or not what its head said."""
        exchange, self._exchange = self._exchange, None
        self._waiting_for_body = False
        if exchange is not None:
            exchange.client_lost()
            if exchange.begun:
                self.pen.reset(Code.PROTOCOL_ERROR)
                self._front.wake()
                return
        if self.pen.begun:
            return  # answered early: what the rest was does not matter
        fields, body = self.settings.refused(bad, self.client)
        self.pen.whole(bad.status, reason_for(bad.status), fields + self.settings.own_fields(), body)
        self._front.wake()

    def _pay(self) -> None:
        owed, self._owed = self._owed, 0
        self.pen.consumed(owed)

    # The client's half as a producer, and as the exchange sees it

    def pauseProducing(self) -> None:
        """Whoever takes the body has no room: the client gets no more credit."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It has."""
        if self._paused:
            self._paused = False
            if self._owed:
                self._pay()
                self._front.wake()
            if self._waiting_for_body:
                # That nobody took it was not the client's doing.
                self._came_at = self.settings.seconds()
                self._latest = max(self._latest, self._came_at + self.settings.patience.body)
                self._front.look_again(self._came_at + self.settings.patience.body)

    def stopProducing(self) -> None:
        """Whoever took it has gone; the exchange says what becomes of the request."""

    pause_reading = pauseProducing
    resume_reading = resumeProducing

    @property
    def source(self) -> Any:
        """The producer of the body: this."""
        return self

    @property
    def reading(self) -> Reading | None:
        """Of the last request on the connection."""
        return self._front.reading

    @reading.setter
    def reading(self, reading: Reading | None) -> None:
        self._front.reading = reading

    @property
    def pin(self) -> None:
        """A connection that is shared belongs to nobody."""

    def hold(self, pin: Pin) -> bool:
        """Have the client come back by HTTP/1.1, where it has a connection for itself (RFC 9113, 7)."""
        self.pen.reset(Code.HTTP_1_1_REQUIRED)
        self.lost()
        self._front.wake()
        return False

    # The answer

    def write(self, data: bytes) -> None:
        """Let what the pen has begun go; after a switch, *data*."""
        pen = self.pen
        pen.write(data)
        self._front.wake()
        if pen.must_wait() and not self._taker_paused and (taker := self._taker) is not None:
            self._taker_paused = True
            taker.pauseProducing()

    @property
    def _taker(self) -> Taker | None:
        """Who produces the answer."""
        return self._pipe or (self._exchange.taker if self._exchange is not None else None)

    def relieved(self) -> None:
        """The client caught up."""
        self._taker_paused = False
        if (taker := self._taker) is not None:
            taker.resumeProducing()

    def answered(self) -> None:
        """The exchange's answer has been written whole."""
        self._exchange = None
        self._waiting_for_body = False
        self._front.wake()

    def become_pipe(self, pipe: Taker) -> None:
        """From now on the client's octets are *pipe*'s."""
        self._exchange = None
        self._pipe = pipe
        self._paused = False
        held, ended = self.pen.upgraded()
        for data in held:
            self._owed += len(data)
            pipe.body_received(data)
        if ended:
            pipe.body_ended([])
        if not self._paused:
            self._pay()
        self._front.wake()

    def half_close(self) -> None:
        """End our half, once all is written."""
        self.pen.finish()
        self._front.wake()

    def lose(self) -> None:
        """End both halves, once all is written."""
        self._pipe = None
        self.half_close()

    def abort(self) -> None:
        """End both halves at once; the client must not take what it got for all."""
        self._exchange = self._pipe = None
        self._waiting_for_body = False
        self.pen.reset(Code.INTERNAL_ERROR)
        self._front.wake()

    def cut_off(self) -> None:
        """The relay stops, and this is not finished."""
        self.pen.reset(Code.CANCEL)
        self.lost()

    def hand_over(self, protocol: TwistedProtocol) -> bytes:
        """Not possible: the transport is everybody's."""
        raise OutOfTurn("an HTTP/2 connection cannot be handed over")

    # Looking after the client

    @property
    def deadline(self) -> float:
        """When to give up on the client; 0 for never."""
        patience, pen = self.settings.patience, self.pen
        deadline = pen.moved + patience.write if pen.queued else 0.0
        exchange = self._exchange
        # After the answer has begun the application's own limits count.
        if self._waiting_for_body and not (self._paused or self.pen.expecting or exchange is None or exchange.begun):
            body = min(self._came_at + patience.body, self._latest)
            deadline = min(deadline, body) if deadline else body
        return deadline

    def overdue(self) -> None:
        """The client took longer than we have patience."""
        exchange = self._exchange
        if self.pen.queued or exchange is None or exchange.begun:
            self.cut_off()
            self._front.wake()
        else:
            self.pen.deaf = True
            self.refuse(BadRequest(408, "the request body took too long"))
