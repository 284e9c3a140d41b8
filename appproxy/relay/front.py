"""The front: one client connection, strict HTTP/1.1 on its bytes, one exchange after the other.

The bytes are :class:`appproxy.http.serving.ServerConversation`'s business; this is its Twisted side: reading is paused
while nobody takes the body or too much is pipelined, the source of an answer is paused while the client does not read.
The same class serves clients, the connectors' door and the admin socket; only the responder differs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from appproxy.http.addresses import AmbiguousPath, MalformedHost, canonical_host, canonical_path, split_target
from appproxy.http.cookies import take_reserved
from appproxy.http.messages import Field, LengthMismatch, Limits, RequestHead
from appproxy.http.serving import BadRequest, BodyReceived, RequestBegun, ServerConversation
from appproxy.relay.exchange import ClientGone, Exchange, PayloadTooLarge

#: Bytes of pipelined requests that are read ahead before reading stops.
READ_AHEAD = 64 * 1024


_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def reason_for(status: int) -> bytes:
    """The usual reason phrase, or none."""
    return _REASONS.get(status, b"")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long the front waits for clients, in seconds."""

    #: For the first octet of the first request, and for the whole of any head.
    head: float = 30.0
    #: Between two requests on a kept connection.
    keep_alive: float = 75.0
    #: For the next octet of a request body.
    body: float = 60.0
    #: For a client that stopped reading its answer.
    write: float = 120.0


class Taker(Protocol):
    """Who takes a request's body as it comes."""

    def body_received(self, data: bytes) -> None:
        """Some of it."""

    def body_ended(self, trailers: list[Field]) -> None:
        """All of it has come."""

    def client_lost(self) -> None:
        """The client went away."""

    def pauseProducing(self) -> None:
        """The client's socket is full: whoever produces the answer must stop."""

    def resumeProducing(self) -> None:
        """It has room again."""


class FrontSettings:
    """What all connections of one listener share.

    :ivar responder: answers one exchange; what it raises is turned into an answer by *failed*.
    """

    def __init__(
        self,
        *,
        responder: Callable[[ClientExchange], Coroutine[Deferred[Any], Any, None]],
        refused: Callable[[Front, BadRequest], tuple[list[Field], bytes]],
        spawn: Callable[[str, Coroutine[Deferred[Any], Any, None]], object],
        seconds: Callable[[], float],
        new_id: Callable[[], str],
        secure: bool,
        limits: Limits | None = None,
        patience: Patience | None = None,
        answer_fields: tuple[Field, ...] = (),
    ) -> None:
        self.responder = responder
        self.refused = refused
        self.spawn = spawn
        self.seconds = seconds
        self.new_id = new_id
        self.secure = secure
        self.limits = limits or Limits()
        self.patience = patience or Patience()
        self.answer_fields = answer_fields
        self.fronts: set[Front] = set()
        self._hosts: dict[bytes, tuple[str, str]] = {}

    def authority(self, host: bytes) -> tuple[str, str]:
        """Canonical host, and authority with a port other than the scheme's; remembered, bounded.

        :raises MalformedHost: it is none.
        """
        found = self._hosts.get(host)
        if found is None:
            name, port = canonical_host(host)
            default = 443 if self.secure else 80
            found = name, name if port in (None, default) else f"{name}:{port}"
            if len(self._hosts) >= 1000:
                self._hosts.clear()
            self._hosts[host] = found
        return found

    def sweep(self) -> None:
        """Cut off connections that made nobody any progress; called once a second."""
        now = self.seconds()
        for front in [front for front in self.fronts if 0.0 < front.deadline <= now]:
            front.overdue()


class Reading:
    """What the fields of a request mean to the relay.  Clients mostly repeat them; then this is used again.

    :ivar fields: the very list that was read; never changed.
    :ivar cookie: the application's own cookies, as the origin gets them.
    :ivar upward: what the origin gets of all fields, once somebody asked; see :mod:`appproxy.relay.upward`.
    """

    __slots__ = ("authority", "cookie", "fields", "host", "reserved", "upward", "version")

    def __init__(self, front: Front, head: RequestHead) -> None:
        self.fields, self.version = head.fields, head.version
        self.host, self.authority = front.settings.authority(head.host)
        self.reserved: dict[bytes, list[bytes]]
        cookies = head.known.get(b"cookie")
        self.reserved, self.cookie = take_reserved(cookies) if cookies else ({}, None)
        self.upward: list[Field] | None = None


class ClientExchange(Exchange):
    """One request on a :class:`Front`, and the pen for its answer."""

    __slots__ = (
        "_body",
        "_front",
        "_read",
        "_read_limit",
        "_request_ended",
        "_taker",
        "_trailers",
        "answered",
        "authority",
        "begun",
        "client",
        "expects_continue",
        "head",
        "host",
        "length",
        "path",
        "query",
        "reading",
        "request_id",
        "reserved",
        "scheme",
        "started",
        "status",
        "upgrade",
    )

    def __init__(self, front: Front, begun: RequestBegun) -> None:
        settings = front.settings
        self._front = front
        head = begun.head
        self.head = head
        self.length = begun.length
        self.upgrade = begun.upgrade
        self.expects_continue = begun.expect_continue
        self.scheme = "https" if settings.secure else "http"
        reading = front.reading
        if reading is None or reading.fields is not head.fields or reading.version != head.version:
            reading = front.reading = Reading(front, head)
        self.reading = reading
        self.host, self.authority, self.reserved = reading.host, reading.authority, reading.reserved
        path, self.query = split_target(head.target)
        self.path = canonical_path(path) if path != b"*" else b"/"  # OPTIONS for the whole host
        self.client = front.client
        self.request_id = settings.new_id()
        self.started = settings.seconds()
        #: Set once the answer's head is on its way; its status then.
        self.begun = False
        self.status = 0
        self.answered = False
        self._request_ended = begun.ended
        self._trailers: list[Field] = []
        self._body: list[bytes] = []
        self._taker: Taker | None = None
        self._read: Deferred[bytes] | None = None
        self._read_limit = 0

    # The request's body

    @property
    def ended(self) -> bool:
        """Whether the whole request has come."""
        return self._request_ended and not self._body

    @property
    def secure_peer(self) -> bytes | None:
        """The DER of the certificate that the peer proved to hold, if any."""
        certificate: bytes | None = self._front.transport.getPeerCertificateDER()
        return certificate

    @property
    def source(self) -> Any:
        """The push producer of the body: the client's socket."""
        return self._front.transport

    def take(self, taker: Taker) -> None:
        """Give *taker* the body: what has come at once, the rest as it comes."""
        self._taker = taker
        pieces, self._body = self._body, []
        for data in pieces:
            taker.body_received(data)
        if self._request_ended:
            if pieces:
                taker.body_ended(self._trailers)
        else:
            self._front.resume_reading()

    async def read_body(self, limit: int) -> bytes:
        """The whole body; see :meth:`Exchange.read_body`."""
        if self.length is not None and self.length > limit:
            raise PayloadTooLarge(f"{self.length} bytes, at most {limit} are taken here")
        if not self._request_ended:
            if self.expects_continue:
                self.informational(100, b"Continue", [])
            self._read, self._read_limit = Deferred(), limit
            self._front.resume_reading()
            await self._read
        body = b"".join(self._body)
        self._body = []
        if len(body) > limit:
            raise PayloadTooLarge(f"at most {limit} bytes are taken here")
        return body

    def body_received(self, data: bytes) -> None:
        """The front: some of the body came."""
        if self._taker is not None:
            self._taker.body_received(data)
        elif not self.answered:
            self._body.append(data)
            if self._read is None:
                self._front.pause_reading()  # until somebody wants it
            elif sum(map(len, self._body)) > self._read_limit:
                self._wake_reader()

    def body_ended(self, trailers: list[Field]) -> None:
        """The front: all of the body came."""
        self._request_ended = True
        self._trailers = trailers
        if self._taker is not None:
            self._taker.body_ended(trailers)
        else:
            self._wake_reader()

    def _wake_reader(self) -> None:
        if self._read is not None:
            read, self._read = self._read, None
            read.callback(b"")

    def client_lost(self) -> None:
        """The front: the client went away."""
        self.answered = True
        if self._taker is not None:
            self._taker.client_lost()
        elif self._read is not None:
            read, self._read = self._read, None
            read.errback(ClientGone())

    # The answer

    def answer(self, status: int, fields: Sequence[Field] = (), body: bytes = b"") -> None:
        """A whole answer of the relay's own; see :meth:`Exchange.answer`."""
        if self.begun or self.answered:
            return
        complete = list(fields)
        names = {name.lower() for name, _ in complete}
        if b"cache-control" not in names:
            complete.append((b"Cache-Control", b"no-store"))
        complete.extend(field for field in self._front.settings.answer_fields if field[0].lower() not in names)
        self.status, self.begun = status, True
        self._front.write(self._front.conversation.whole(status, reason_for(status), complete, body))
        self._done()

    def informational(self, status: int, reason: bytes, fields: list[Field]) -> None:
        """An interim answer (1xx)."""
        if not self.begun and not self.answered and self.head.version >= (1, 1):
            self._front.write(self._front.conversation.informational(status, reason, fields))

    def whole(self, status: int, reason: bytes, fields: list[Field], body: bytes) -> None:
        """Write a whole answer of the origin's."""
        octets = self._front.conversation.whole(status, reason, fields, body)
        self.status, self.begun = status, True
        self._front.write(octets)
        self._done()

    def begin(self, status: int, reason: bytes, fields: list[Field], length: int | None) -> bytes:
        """Serialise the answer's head; the caller joins it with the body's beginning and writes both."""
        octets = self._front.conversation.begin(status, reason, fields, length)
        self.status, self.begun = status, True
        return octets

    def body(self, data: bytes) -> bytes:
        """Serialise some of the answer's body.

        :raises LengthMismatch: it is longer than its head said.
        """
        return self._front.conversation.body(data)

    def end(self, pending: bytes, trailers: Sequence[Field] = ()) -> None:
        """Write *pending* and what ends the answer.

        :raises LengthMismatch: the body is shorter than its head said.
        """
        self._front.write(pending + self._front.conversation.end(trailers))
        self._done()

    def write(self, data: bytes) -> None:
        """Write what was serialised."""
        self._front.write(data)

    def switch(self, pipe: Taker, head: bytes) -> None:
        """After a 101: write its serialised *head*; *pipe* takes the client's raw bytes from now on."""
        self._taker = pipe
        self._front.write(head)
        self._front.become_pipe(pipe)

    def close_pipe(self) -> None:
        """The origin's half of an upgraded exchange has ended."""
        self._front.half_close()

    def finish_pipe(self) -> None:
        """Both halves of an upgraded exchange have ended."""
        self.answered = True
        self._front.lose()

    def abort(self) -> None:
        """Cut the connection: the client must not take what it got for all."""
        self.answered = True
        self._front.abort()

    def raw_head(self) -> bytes:
        """The request's head, written anew from its validated parts."""
        head = self.head
        lines = [head.method + b" " + head.target + b" HTTP/1.1", *map(b": ".join, head.fields)]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def hand_over(self, protocol: TwistedProtocol) -> bytes:
        """Give the whole connection to *protocol*; returns what came after the request's head."""
        self.answered = True
        return self._front.hand_over(protocol)

    def _done(self) -> None:
        self.answered = True
        self._taker = None  # who holds us; a circle would wait for the garbage collector, far from the caches
        self._front.answered()


@implementer(IPushProducer, IHalfCloseableProtocol)
class Front(TwistedProtocol):
    """One connection of a client."""

    log = Logger()
    transport: Any

    def __init__(self, settings: FrontSettings) -> None:
        self.settings = settings
        self.conversation = ServerConversation(settings.limits, settings.secure)
        self.client = ""
        #: When to give up on the client, by ``settings.seconds``; 0 for never.
        self.deadline = 0.0
        self._exchange: ClientExchange | None = None
        self._pipe: Taker | None = None
        self.reading: Reading | None = None
        self._full = False
        self._reading = True
        self._closing = False
        self._waiting_for_body = False
        self._turning = False
        self._more = False

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
        exchange, self._exchange = self._exchange, None
        pipe, self._pipe = self._pipe, None
        if exchange is not None:
            exchange.client_lost()
        elif pipe is not None:
            pipe.client_lost()

    # Reading

    def dataReceived(self, data: bytes) -> None:
        """Twisted: some octets came."""
        if self._pipe is not None:
            self._pipe.body_received(data)
            return
        if self._closing and self._exchange is None:
            return
        try:
            events = self.conversation.receive(data)
            self._dispatch(events)
        except BadRequest as bad:
            self._refuse(bad)
        if self._waiting_for_body:
            self.deadline = self.settings.seconds() + self.settings.patience.body
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
        if begun.ended:
            self.deadline = 0.0
        else:
            self._waiting_for_body = True
        self.settings.spawn("exchange", self.settings.responder(exchange))

    def _refuse(self, bad: BadRequest) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            begun = exchange.begun
            exchange.client_lost()
            if begun:
                self.abort()
                return
        fields, body = self.settings.refused(self, bad)
        self._closing = True
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
            self._closing = True
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
        patience = self.settings.patience
        try:
            while self._more and not self._full and not self._closing:
                self._more = False
                events = self.conversation.next_request()
                waits = patience.keep_alive if self.conversation.idle else patience.head
                self.deadline = self.settings.seconds() + waits
                self._dispatch(events)
        except BadRequest as bad:
            self._refuse(bad)
        finally:
            self._turning = False
        if self.conversation.buffered <= READ_AHEAD and (self._exchange is None or self._exchange.ended):
            self.resume_reading()

    def overdue(self) -> None:
        """The client took longer than we have patience."""
        if self._exchange is None and self._pipe is None and not self._closing and self.conversation.buffered:
            self._refuse(BadRequest(408, "the request head took too long"))
        elif self._waiting_for_body and self._exchange is not None and not self._exchange.begun:
            self._refuse(BadRequest(408, "the request body took too long"))
        elif self._full or self._closing or self._exchange is not None:
            self.cut_off()
        else:
            self.lose()

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
        exchange, pipe = self._exchange, self._pipe
        self.abort()
        if exchange is not None:
            exchange.client_lost()
        elif pipe is not None:
            pipe.client_lost()

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
        taker = self._pipe or (self._exchange._taker if self._exchange is not None else None)
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
        elif self._exchange._taker is not None:
            self._exchange._taker.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is done with us; its loss is told separately."""


__all__ = ["ClientExchange", "Front", "FrontSettings", "LengthMismatch", "Patience", "Taker"]
