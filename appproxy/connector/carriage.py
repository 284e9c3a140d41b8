"""One stream's octets on their way: the request's body up to the origin, the answer's body down to the relay.

Neither is buffered.  The relay's credit is given back when the origin's socket has taken what it paid for; the
origin's socket is read while the relay gives credit.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from appproxy.channel.stream import Stream
from appproxy.connector.connection import OriginConnection
from appproxy.connector.deadlines import Limit
from appproxy.connector.exchange import OriginResponse
from appproxy.errors import AppproxyError
from appproxy.http import messages
from appproxy.http.messages import Field
from appproxy.http.translate import Translation
from appproxy.sso.method import Method
from appproxy.tasks import Task
from appproxy.wire.frames import Code
from appproxy.wire.heads import RequestHead, ResponseHead


class Carriage:
    """Receiver of a stream, source of a request's body, taker of an answer's body.

    :ivar journey: what is cancelled when the relay resets the stream.
    :ivar limit: until when all of it has to be over, if the application says so.
    :ivar status: of the answer; 0 while there is none.
    :ivar sso: cleans the request's trailers; *translation* is that of its origin.
    """

    __slots__ = (
        "_answered", "_connection", "_done", "_dropping", "_ended", "_held", "_sent", "_trailers", "head",
        "journey", "limit", "sso", "status", "stream", "translation",
    )  # fmt: skip

    def __init__(self, stream: Stream, head: RequestHead, ended: bool) -> None:
        self.stream = stream
        self.head = head
        self.journey: Task | None = None
        self.limit: Limit | None = None
        self.sso: Method | None = None
        self.translation: Translation | None = None
        self.status = 0
        self._connection: OriginConnection | None = None
        self._held: list[bytes] = []
        self._sent: list[bytes] | None = []  # the whole body, where it had come before it was sent
        self._ended = ended  # the relay's half
        self._answered = False  # wholly
        self._trailers: Sequence[Field] = ()
        self._done: Deferred[None] | None = None
        self._dropping = False  # bytes that no connection waits for

    # The request's body: channel.stream.Receiver

    def head_received(self, head: ResponseHead, end: bool, informational: bool, upgrade: bool, data: bytes) -> None:
        """Relay side only."""

    def data_received(self, data: bytes, end: bool) -> None:
        """Some of the request's body; it waits, within its credit, until there is a connection."""
        connection = self._connection
        if end:
            self._ended = True
        if connection is None and not self._dropping:
            if data:
                self._held.append(data)
            return
        if connection is not None and data:
            connection.write(data)
        self.stream.consumed(len(data))
        if end:
            self._finish()

    def trailers_received(self, fields: list[Field]) -> None:
        """The request ended with trailers."""
        self._ended = True
        self._trailers = fields
        self._finish()

    def stream_reset(self, code: int, text: str) -> None:
        """The relay does not want this exchange any more: the origin's connection is closed at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        if self.journey is not None:
            self.journey.cancel()

    # The request's body: connector.exchange.RequestBody

    @property
    def body(self) -> Carriage | None:
        """What treq is given as the body: nothing, when the request has none."""
        return None if self._ended and not self._held and not self._trailers else self

    def start(self, connection: OriginConnection) -> None:
        """The head is sent; the body follows as it comes."""
        self._connection = connection
        connection.registerProducer(self, True)
        held = self.take_held()
        whole = held or self._sent or []
        self._sent = whole if self._ended else None
        for data in whole:
            connection.write(data)
        for data in held:
            self.stream.consumed(len(data))
        if self._ended:
            self._finish()

    def rewind(self) -> bool:
        """Whether the request can be sent once more: it has no body, or all of it had come before it was sent."""
        return self._sent is not None

    @property
    def sending(self) -> bool:
        """Whether some of the request's body is still to be written."""
        return self._connection is not None

    def cut_off(self) -> None:
        """The connection is gone.

        Whoever has his whole answer and still sends loses nothing, unless what he sends counts by itself: where his
        connection is bound to the origin's it goes with it.
        """
        self._connection = None
        self._dropping = True
        if self._answered and self.head.affinity:
            self.stream.reset(Code.ORIGIN_BROKE_OFF, "the origin took no more of the request")

    def take_held(self) -> list[bytes]:
        """What came before there was anywhere to put it; whoever takes it gives the credit back."""
        held, self._held = self._held, []
        return held

    def drop_body(self) -> None:
        """Nobody waits for what came, or still comes: an upgrade was not taken, or the head was refused."""
        self._dropping = True
        for data in self.take_held() if self._held else ():
            self.stream.consumed(len(data))

    @property
    def ended(self) -> bool:
        """Whether the relay's half has ended."""
        return self._ended

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            trailers = self.sso.clean_trailers(self._trailers) if self._trailers and self.sso else self._trailers
            connection.finish(trailers)

    def pauseProducing(self) -> None:
        """The origin's socket is full: keep the credit back."""
        self.stream.pauseProducing()

    def resumeProducing(self) -> None:
        """It has room again."""
        self.stream.resumeProducing()

    def stopProducing(self) -> None:
        """It is gone: what still comes is dropped, so that the relay's writer can end."""
        self.stream.resumeProducing()

    # The answer

    def interim_received(self, interim: messages.ResponseHead) -> None:
        """Pass on a 1xx answer."""
        assert self.translation is not None
        down = ResponseHead(interim.status, interim.reason, self.translation.down(interim.fields, interim.known))
        self.stream.answer(down, informational=True)

    # Its body: connector.exchange.ResponseBody

    def answer_whole(self, head: ResponseHead, response: OriginResponse) -> None:
        """Send an answer that came in one piece."""
        stream = self.stream
        self._answered = True
        if self._held or not self._ended:
            self.drop_body()
        if response.trailers:
            stream.answer(head)
            stream.write(response.body)
            stream.finish(response.trailers)
        else:
            stream.answer_whole(head, response.body)

    def deliver(self, response: OriginResponse) -> Deferred[None]:
        """Let the answer's body flow; fires when all of it is on its way, or fails with why it is not."""
        done: Deferred[None] = Deferred(lambda _: response.abandon())
        self._done = done
        self.drop_body()
        self.stream.registerProducer(response.connection, True)
        response.deliver(self)
        return done

    def body_received(self, data: bytes) -> None:
        """Some of the answer's body."""
        self.stream.write(data)

    def body_ended(self, data: bytes, trailers: Sequence[Field]) -> None:
        """The last of it."""
        stream = self.stream
        self._answered = True
        stream.unregisterProducer()
        if trailers:
            stream.write(data)
            stream.finish(trailers)
        else:
            stream.end(data)
        self._done.callback(None)  # type: ignore[union-attr]

    def body_failed(self, failure: AppproxyError) -> None:
        """It is cut short."""
        self.stream.unregisterProducer()
        if not self._done.called:  # type: ignore[union-attr]
            self._done.errback(failure)  # type: ignore[union-attr]
