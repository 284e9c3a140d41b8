"""One request to an origin and its answer, as the rooms of the connector hand them to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.python.failure import Failure

from appproxy.connector.deadlines import NEVER
from appproxy.errors import AppproxyError
from appproxy.http.messages import IDEMPOTENT, Field, FieldLines, ResponseHead
from appproxy.tasks import Outcome

if TYPE_CHECKING:
    from appproxy.connector.connection import OriginConnection
    from appproxy.connector.pool import Pool


class RequestBody(Protocol):
    """Where a request's body comes from; it writes to the connection as its octets arrive."""

    def start(self, connection: OriginConnection) -> None:
        """The head is sent; the body may follow."""

    def cut_off(self) -> None:
        """The connection is gone before the body's end."""


class ResponseBody(Protocol):
    """Where an answer's body goes."""

    def body_received(self, data: bytes) -> None:
        """Some of it."""

    def body_ended(self, data: bytes, trailers: Sequence[Field]) -> None:
        """The last of it."""

    def body_failed(self, failure: AppproxyError) -> None:
        """It is cut short; nothing follows."""


class Pipe(Protocol):
    """Where an upgraded connection's octets go."""

    def received(self, data: bytes) -> None:
        """Some of them."""

    def ended(self) -> None:
        """The origin will send no more; it may still listen."""

    def lost(self, failure: AppproxyError) -> None:
        """The connection is gone; *failure* says why, unless both halves had ended."""


class Asked(Outcome["OriginResponse"]):
    """One request that is waiting for its answer: whoever awaits it gets an :class:`OriginResponse`.

    Cancelling it closes the connection.

    :ivar target: as the origin is to read it, octet for octet; *lines* likewise, without framing; *more* follow them.
    :ivar length: of the body, if known.
    :ivar interim: is told of each 1xx answer.
    :ivar sign: makes of a connection's transport the fields that prove whose request it is.
    :ivar patience: seconds from the end of the request to the head of its answer.
    """

    __slots__ = (
        "body", "connection", "deadline", "interim", "length", "lines", "method", "more",
        "patience", "pool", "sign", "target", "upgrade",
    )  # fmt: skip

    def __init__(
        self,
        pool: Pool,
        method: bytes,
        target: bytes,
        lines: FieldLines,
        interim: Callable[[ResponseHead], None],
        length: int | None = None,
        more: Sequence[Field] = (),
        upgrade: bool = False,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.sign: Callable[[Any], Sequence[Field]] | None = None
        self.patience = pool.first_byte
        self.method = method
        self.target = target
        self.lines = lines
        self.more = more
        self.interim = interim
        self.length = length
        self.upgrade = upgrade
        self.body: RequestBody | None = None
        self.connection: OriginConnection | None = None
        self.deadline = NEVER

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        if not self.told:
            if self.connection is not None:
                self.connection.abandon()
            else:
                self.pool.forget(self)
            super().cancel()

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent once more when the first connection died without a word."""
        return self.body is None and not self.upgrade and self.method in IDEMPOTENT and self.pool.shared

    def give_up(self, failure: AppproxyError) -> None:
        """It has taken too long, whatever it waits for now; harmless when it is over."""
        if self.connection is not None:
            self.connection.give_up(self, failure)
        else:
            self.pool.forget(self)
            self.fail(failure)

    def fail(self, failure: AppproxyError) -> None:
        """There will be no answer."""
        self.tell(Failure(failure))


class OriginResponse:
    """An answer whose head has come.

    :ivar head: status, reason and fields as the origin wrote them.
    :ivar ended: it is complete: *body* and *trailers* are all there is.
    :ivar switched: the connection speaks another protocol now; see :meth:`pipe`.
    """

    __slots__ = (
        "_failure", "body", "connection", "ended", "head", "receiver", "switched", "trailers",
    )  # fmt: skip

    def __init__(
        self,
        connection: OriginConnection,
        head: ResponseHead,
        ended: bool,
        body: bytes = b"",
        trailers: Sequence[Field] = (),
    ) -> None:
        self.connection = connection
        self.head = head
        self.ended = ended
        self.body = body
        self.trailers = trailers
        self.receiver: ResponseBody | None = None
        self.switched = False
        self._failure: AppproxyError | None = None

    def deliver(self, receiver: ResponseBody) -> None:
        """Let the body flow to *receiver*."""
        self.receiver = receiver
        if self._failure is None:
            self.connection.resume_events()
        else:
            receiver.body_failed(self._failure)

    def fail(self, failure: AppproxyError) -> None:
        """The connection: the rest will not come."""
        self._failure = failure
        if self.receiver is not None:
            self.receiver.body_failed(failure)

    def pipe(self, pipe: Pipe) -> None:
        """After a 101: let the connection's octets flow to *pipe*."""
        if self._failure is None:
            self.connection.become_pipe(pipe)
        else:
            pipe.lost(self._failure)

    def abandon(self) -> None:
        """Nobody wants the rest: close the connection."""
        if self.connection.response is self:
            self.connection.abandon()
