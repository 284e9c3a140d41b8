"""One request on a client's connection: what it says, how its body is taken, and the pen for its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as TwistedProtocol

from appproxy.http.addresses import canonical_path
from appproxy.http.cookies import take_reserved
from appproxy.http.forwarded import TrustedProxies
from appproxy.http.guard import HSTS
from appproxy.http.messages import TUNNEL_METHODS, Field, RequestHead
from appproxy.http.serving import RequestBegun
from appproxy.relay.exchange import ClientGone, Exchange, PayloadTooLarge
from appproxy.wire.heads import Packed

if TYPE_CHECKING:
    from appproxy.relay.connectors.pins import Pin

_REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def reason_for(status: int) -> bytes:
    """The usual reason phrase, or none."""
    return _REASONS.get(status, b"")


class Taker(Protocol):
    """Who takes a request's body as it comes."""

    def body_received(self, data: bytes) -> None:
        """Some of it."""

    def body_ended(self, trailers: Sequence[Field]) -> None:
        """All of it has come."""

    def client_lost(self) -> None:
        """The client went away."""

    def pauseProducing(self) -> None:
        """The client's socket is full: whoever produces the answer must stop."""

    def resumeProducing(self) -> None:
        """It has room again."""


class Pen(Protocol):
    """Writes the answer to one request.

    What it returns is ready for :meth:`Line.write`, with other octets before and after it: an HTTP/1.1 answer.  Where
    requests share a connection the pen sends what it writes itself, and returns nothing.
    """

    def informational(self, status: int, reason: bytes, fields: Sequence[Field] = ()) -> bytes:
        """An interim answer (1xx but 101)."""

    def begin(self, status: int, reason: bytes, fields: Sequence[Field] = (), length: int | None = None) -> bytes:
        """The head of the final answer, or of a 101."""

    def body(self, data: bytes) -> bytes:
        """Some of its body; :raises LengthMismatch: more than announced."""

    def end(self, trailers: Sequence[Field] = ()) -> bytes:
        """Its end; :raises LengthMismatch: less than announced."""

    def whole(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes = b"") -> bytes:
        """A complete final answer."""


class Settings(Protocol):
    """What an exchange needs of what all connections of a listener share."""

    @property
    def secure(self) -> bool:
        """Clients come by TLS."""

    @property
    def seconds(self) -> Callable[[], float]:
        """A monotonic clock."""

    @property
    def new_id(self) -> Callable[[], str]:
        """Makes request ids."""

    @property
    def proxies(self) -> TrustedProxies | None:
        """Those in front who are believed about clients, if there are any."""

    def authority(self, host: bytes, scheme: str = "") -> tuple[str, str]:
        """Canonical host, and authority as clients use it; *scheme* if it may be another than the listener's own."""

    def own_fields(self) -> list[Field]:
        """What stands on every answer that the relay makes up itself."""


class Line(Protocol):
    """The way to the client that one exchange has: a whole connection, or its share of one.

    :ivar reading: of the last request on the connection; shared by those that repeat its fields.
    """

    @property
    def settings(self) -> Settings:
        """What all connections of the listener share."""

    @property
    def client(self) -> str:
        """The client's address."""

    @property
    def pen(self) -> Pen:
        """Writes the answer."""

    @property
    def source(self) -> Any:
        """The push producer of the request's body, and of what comes after a switch."""

    @property
    def secured(self) -> Any:
        """The connection's transport, for what TLS has found out."""

    reading: Reading | None

    @property
    def pin(self) -> Pin | None:
        """What the whole connection has, if it shall have one to the origin for itself."""

    def hold(self, pin: Pin) -> bool:
        """Let the connection have *pin*; False where requests share it, and the client is told to come otherwise."""

    def write(self, data: bytes) -> None:
        """Write what the pen returned; after a switch, octets as they are."""

    def answered(self) -> None:
        """The answer has been written whole."""

    def pause_reading(self) -> None:
        """Nobody takes the body for now."""

    def resume_reading(self) -> None:
        """Somebody takes it."""

    def become_pipe(self, pipe: Taker) -> None:
        """From now on what the client sends is *pipe*'s."""

    def half_close(self) -> None:
        """End our half, once all is written."""

    def lose(self) -> None:
        """End both halves, once all is written."""

    def abort(self) -> None:
        """End both halves at once."""

    def hand_over(self, protocol: TwistedProtocol) -> bytes:
        """Make *protocol* the transport's; returns what came after the head."""


class Reading:
    """What the fields of a request mean to the relay.  Clients mostly repeat them; then this is used again.

    :ivar fields: the very list that was read; never changed.
    :ivar client: the client's address, and *scheme* and *authority* as it used them, perhaps by a trusted proxy's word.
    :ivar binds: it signs somebody in on this connection, for all that follows on it.
    :ivar cookie: the application's own cookies, as the origin gets them.
    :ivar packed: what the connector gets of all this, for the application and identity in *packed_for*; see
        :mod:`appproxy.relay.upward`.
    """

    __slots__ = (
        "authority", "binds", "client", "cookie", "fields", "host", "packed", "packed_for", "reserved", "scheme",
        "version",
    )  # fmt: skip

    def __init__(self, settings: Settings, head: RequestHead, client: str) -> None:
        self.fields, self.version = head.fields, head.version
        scheme, host, proxies = "https" if settings.secure else "http", head.host, settings.proxies
        if proxies is not None and proxies.trusts(client):
            client, scheme, host = proxies.believe(client, scheme, host, head.known)
        self.client, self.scheme = client, scheme
        self.host, self.authority = settings.authority(host, scheme)
        self.reserved: dict[bytes, list[bytes]]
        cookies = head.known.get(b"cookie")
        self.reserved, self.cookie = take_reserved(cookies) if cookies else ({}, None)
        self.binds = any(value[:9].lower().startswith(_BINDING) for value in head.known.get(b"authorization", ()))
        self.packed: Packed | None = None
        self.packed_for: tuple[object, ...] | None = None


#: Schemes of ``Authorization`` that may hold for a connection and not for one request (RFC 4559, MS-NTHT).
_BINDING: Final = (b"ntlm", b"negotiate")


class ClientExchange(Exchange):
    """One request on a :class:`Line`, and the pen for its answer."""

    __slots__ = (
        "_body",
        "_line",
        "_read",
        "_read_limit",
        "_request_ended",
        "_trailers",
        "answered",
        "authority",
        "begun",
        "client",
        "expects_continue",
        "head",
        "host",
        "lasting",
        "length",
        "path",
        "query",
        "reading",
        "request_id",
        "reserved",
        "scheme",
        "started",
        "status",
        "taker",
        "upgrade",
    )

    def __init__(self, line: Line, begun: RequestBegun) -> None:
        settings = line.settings
        self._line = line
        head = begun.head
        self.head = head
        self.length = begun.length
        self.upgrade = begun.upgrade
        self.expects_continue = begun.expect_continue
        reading = line.reading
        if reading is None or reading.fields is not head.fields or reading.version != head.version:
            reading = line.reading = Reading(settings, head, line.client)
        self.reading = reading
        self.client, self.scheme = reading.client, reading.scheme
        self.host, self.authority, self.reserved = reading.host, reading.authority, reading.reserved
        path, mark, query = head.target.partition(b"?")
        self.query = query if mark else None
        self.path = canonical_path(path) if path != b"*" else b"/"  # OPTIONS for the whole host
        self.request_id = settings.new_id()
        self.started = settings.seconds()
        #: Set once the answer's head is on its way; its status then.
        self.begun = False
        self.status = 0
        self.answered = False
        #: The request goes on to its own end, also after a complete answer to it.
        self.lasting = False
        self._request_ended = begun.ended
        self._trailers: Sequence[Field] = ()
        self._body: list[bytes] = []
        self.taker: Taker | None = None
        self._read: Deferred[bytes] | None = None
        self._read_limit = 0

    @property
    def bound(self) -> bool:
        """Whether the client's connection has, or now needs, one to the origin for itself."""
        return self.reading.binds or self._line.pin is not None or self.head.method in TUNNEL_METHODS

    @property
    def pin(self) -> Pin | None:
        """That of the client's connection."""
        return self._line.pin

    def hold(self, pin: Pin) -> bool:
        """Let the client's connection have *pin*; see :meth:`Line.hold`."""
        held = self._line.hold(pin)
        self.answered = self.answered or not held
        return held

    @property
    def secured(self) -> Any:
        """The transport of the client's connection, for what TLS has found out."""
        return self._line.secured

    # The request's body

    @property
    def ended(self) -> bool:
        """Whether the whole request has come."""
        return self._request_ended and not self._body

    @property
    def source(self) -> Any:
        """The push producer of the body: the client's socket, or its share of one."""
        return self._line.source

    def take(self, taker: Taker) -> None:
        """Give *taker* the body: what has come at once, the rest as it comes."""
        self.taker = taker
        pieces, self._body = self._body, []
        if not self._request_ended:
            self._line.resume_reading()  # first: the taker may pause it at once
        for data in pieces:
            taker.body_received(data)
        if self._request_ended and pieces:
            taker.body_ended(self._trailers)

    async def read_body(self, limit: int) -> bytes:
        """The whole body; see :meth:`Exchange.read_body`."""
        if self.length is not None and self.length > limit:
            raise PayloadTooLarge(f"{self.length} bytes, at most {limit} are taken here")
        if not self._request_ended:
            if self.expects_continue:
                self.informational(100, b"Continue", [])
            self._read, self._read_limit = Deferred(), limit
            self._line.resume_reading()
            await self._read
        body = b"".join(self._body)
        self._body = []
        if len(body) > limit:
            raise PayloadTooLarge(f"at most {limit} bytes are taken here")
        return body

    def substitute(self, head: RequestHead, body: bytes) -> None:
        """Let this request, which has no body of its own, stand for another of the same client."""
        self.head, self.length = head, len(body)
        self.reading = Reading(self._line.settings, head, self._line.client)
        self._body, self._request_ended, self._trailers = [body] if body else [], True, ()

    def body_received(self, data: bytes) -> None:
        """The front: some of the body came."""
        if self.taker is not None:
            self.taker.body_received(data)
        elif not self.answered:
            self._body.append(data)
            if self._read is None:
                self._line.pause_reading()  # until somebody wants it
            elif sum(map(len, self._body)) > self._read_limit:
                self._wake_reader()

    def body_ended(self, trailers: Sequence[Field]) -> None:
        """The front: all of the body came."""
        self._request_ended = True
        self._trailers = trailers
        if self.taker is not None:
            self.taker.body_ended(trailers)
        else:
            self._wake_reader()

    def _wake_reader(self) -> None:
        if self._read is not None:
            read, self._read = self._read, None
            read.callback(b"")

    def client_lost(self) -> None:
        """The front: the client went away."""
        self.answered = True
        if self.taker is not None:
            self.taker.client_lost()
        elif self._read is not None:
            read, self._read = self._read, None
            read.errback(ClientGone())

    # The answer

    def answer(self, status: int, fields: Sequence[Field] = (), body: bytes = b"") -> None:
        """A whole answer of the relay's own; see :meth:`Exchange.answer`."""
        if self.begun or self.answered:
            return
        self.lasting = False
        complete = list(fields)
        names = {name.lower() for name, _ in complete}
        if b"cache-control" not in names:
            complete.append((b"Cache-Control", b"no-store"))
        settings = self._line.settings
        complete.extend(field for field in settings.own_fields() if field[0].lower() not in names)
        if self.scheme == "https" and not settings.secure:  # a trusted proxy ends TLS in front of us
            complete.append(HSTS)
        octets = self._line.pen.whole(status, reason_for(status), complete, body)
        self.status, self.begun = status, True
        self._line.write(octets)
        self._done()

    def informational(self, status: int, reason: bytes, fields: list[Field]) -> None:
        """An interim answer (1xx)."""
        if not self.begun and not self.answered and self.head.version >= (1, 1):
            self._line.write(self._line.pen.informational(status, reason, fields))

    def whole(self, status: int, reason: bytes, fields: list[Field], body: bytes) -> None:
        """Write a whole answer of the origin's."""
        line = self._line
        octets = line.pen.whole(status, reason, fields, body)
        self.status, self.begun = status, True
        line.write(octets)
        self._done()

    def begin(self, status: int, reason: bytes, fields: list[Field], length: int | None) -> bytes:
        """Serialise the answer's head; the caller joins it with the body's beginning and writes both."""
        octets = self._line.pen.begin(status, reason, fields, length)
        self.status, self.begun = status, True
        return octets

    def body(self, data: bytes) -> bytes:
        """Serialise some of the answer's body.

        :raises LengthMismatch: it is longer than its head said.
        """
        return self._line.pen.body(data)

    def end(self, pending: bytes, trailers: Sequence[Field] = ()) -> None:
        """Write *pending* and what ends the answer.

        :raises LengthMismatch: the body is shorter than its head said.
        """
        self._line.write(pending + self._line.pen.end(trailers))
        self._done()

    def write(self, data: bytes) -> None:
        """Write what was serialised."""
        self._line.write(data)

    def switch(self, pipe: Taker, head: bytes) -> None:
        """After a 101: write its serialised *head*; *pipe* takes the client's raw bytes from now on."""
        self.taker = pipe
        self._line.write(head)
        self._line.become_pipe(pipe)

    def close_pipe(self) -> None:
        """The origin's half of an upgraded exchange has ended."""
        self._line.half_close()

    def finish_pipe(self) -> None:
        """Both halves of an upgraded exchange have ended."""
        self.answered = True
        self._line.lose()

    def abort(self) -> None:
        """Cut the connection: the client must not take what it got for all."""
        self.answered = True
        self._line.abort()

    def raw_head(self) -> bytes:
        """The request's head, written anew from its validated parts."""
        head = self.head
        lines = [head.method + b" " + head.target + b" HTTP/1.1", *map(b": ".join, head.fields)]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def hand_over(self, protocol: TwistedProtocol) -> bytes:
        """Give the whole connection to *protocol*; returns what came after the request's head."""
        self.answered = True
        return self._line.hand_over(protocol)

    def request_ended(self) -> None:
        """The rest of a lasting request has come, after the answer to it."""
        self._done()

    def _done(self) -> None:
        if self.lasting and not self._request_ended:
            return
        self.answered = True
        self.taker = None  # who holds us; a circle would wait for the garbage collector, far from the caches
        self._line.answered()
