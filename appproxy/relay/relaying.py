"""One exchange on its stream: the client's body up, the origin's answer down, each at the slower one's pace."""

from __future__ import annotations

from collections.abc import Sequence

from appproxy.channel.protocol import Channel
from appproxy.channel.stream import Stream
from appproxy.errors import AppproxyError
from appproxy.http.cors import CrossOriginRules
from appproxy.http.guard import guard_response
from appproxy.http.hops import REQUEST_DROP, clean_trailers
from appproxy.http.messages import Field, MalformedMessage, body_length
from appproxy.http.websocket_frames import is_websocket
from appproxy.relay import causes
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.relay.front.pinging import Pinging
from appproxy.tasks import Outcome
from appproxy.wire.frames import Code
from appproxy.wire.heads import CONNECTOR, RequestHead, ResponseHead


class Relaying:
    """Receiver of the stream, taker of the client's body.

    :ivar finished: is told None once the client has its answer (or was cut off), or with the failure that kept
        anything from being sent to it.
    :ivar cause: a word for the access record when it did not end well.
    """

    __slots__ = (
        "_answered", "_cors", "_drop", "_exchange", "_lost", "_ping", "_pinging", "_stream", "_upgraded", "_waiting",
        "cause", "down", "finished", "up",
    )  # fmt: skip

    def __init__(
        self,
        exchange: ClientExchange,
        cors: CrossOriginRules | None = None,
        ping: float = 0.0,
        drop: frozenset[bytes] = REQUEST_DROP,
    ) -> None:
        """Nothing is sent yet.

        :param cors: what the answer shall say about scripts of other sites, in place of what the origin says.
        :param ping: seconds of silence before the client of a WebSocket is pinged; 0: never.
        :param drop: folded names of trailers that do not go on.
        """
        self.finished: Outcome[causes.Failed | None] = Outcome()
        self.cause = ""
        self.up = 0
        self.down = 0
        self._exchange = exchange
        self._cors = cors
        self._stream: Stream | None = None
        #: A head that goes with the beginning of its body: status, reason, fields, length.
        self._waiting: tuple[int, bytes, list[Field], int | None] | None = None
        self._upgraded = False
        self._answered = False  # and the request lasts
        self._lost = False
        self._ping = ping
        self._drop = drop
        self._pinging: Pinging | None = None

    def carry(self, channel: Channel, head: RequestHead) -> None:
        """Open a stream for *head* and begin.

        :raises appproxy.wire.misuse.CannotOpen: the channel takes no more.
        """
        exchange = self._exchange
        ended = exchange.ended
        # An offered upgrade leaves our half open: it becomes a pipe, or is ended when the answer says otherwise.
        self._stream = stream = channel.open(head, self, ended and not exchange.upgrade, exchange.upgrade)
        if not ended:
            stream.registerProducer(exchange.source, True)
        exchange.take(self)

    @property
    def progress(self) -> int:
        """What the user has sent so far, in octets; see :class:`appproxy.relay.people.sessions.Watcher`."""
        return self._stream.bytes_sent if self._stream is not None else 0

    def session_ended(self) -> None:
        """The user's session is over: nothing of theirs stays open."""
        if self._lost:
            return
        self._lost = True
        self.cause = "session-ended"
        if self._stream is not None:
            self._stream.reset(Code.CANCELLED, "the session has ended")
        self._exchange.abort()
        self._finish(None)

    # The origin's answer: channel.stream.Receiver

    def head_received(self, head: ResponseHead, end: bool, informational: bool, upgrade: bool, data: bytes) -> None:
        """The answer begins, and with *data*, as most answers, ends."""
        exchange, stream = self._exchange, self._stream
        assert stream is not None
        if head.speaker == CONNECTOR:
            self._broken(causes.told(head))
            return
        try:
            fields, lengths = self._guarded(head)
            if informational:
                exchange.informational(head.status, head.reason, fields)
                return
            if upgrade:
                octets = exchange.begin(head.status, head.reason, fields, None)
                self._upgraded = True
                stream.registerProducer(exchange.source, True)
                if self._ping and is_websocket(fields):
                    self._pinging = Pinging(stream.channel.clock, self._ping, exchange.write)
                exchange.switch(self, octets)
                return
            if exchange.upgrade:
                stream.finish()
            length = body_length(lengths) if lengths else None
            if data:
                self._whole(head, fields, length, data)
                return
            if end and length is None and exchange.head.method != b"HEAD" and head.status != 304:
                length = 0  # after HEAD, and in a 304, it would be the length of something else
            if end:
                self._ended(exchange.begin(head.status, head.reason, fields, length), ())
            else:
                self._waiting = (head.status, head.reason, fields, length)
                stream.channel.after_message(self._flush_head)
        except (AppproxyError, MalformedMessage) as unsafe:
            self._unsafe(unsafe)

    def _whole(self, head: ResponseHead, fields: list[Field], length: int | None, data: bytes) -> None:
        """All of the answer has come at once.

        :raises LengthMismatch: the body is not as long as its head says.
        """
        exchange = self._exchange
        if length is None or length == len(data):
            exchange.whole(head.status, head.reason, fields, data)
            self._over()
        else:
            octets = exchange.begin(head.status, head.reason, fields, length)
            self._ended(octets + exchange.body(data), ())

    def _guarded(self, head: ResponseHead) -> tuple[list[Field], Sequence[bytes]]:
        """The fields of an answer as they may go to a client, and the lengths that it announced.

        :raises AppproxyError: it must not be passed on.
        """
        exchange = self._exchange
        fields, lengths = guard_response(head.status, head.reason, head.fields, exchange.scheme == "https")
        if self._cors is not None:
            fields = self._cors.answered(fields, exchange.head.known)
        return fields, lengths

    def _flush_head(self) -> None:
        """Nothing of the body came with the head: it goes alone."""
        if self._waiting is not None and not self._lost:
            try:
                self._exchange.write(self._begin())
            except AppproxyError as unsafe:
                self._unsafe(unsafe)

    def _begin(self) -> bytes:
        """The head's octets, if they have not been written yet."""
        waiting, self._waiting = self._waiting, None
        return b"" if waiting is None else self._exchange.begin(*waiting)

    def data_received(self, data: bytes, end: bool) -> None:
        """Some of the answer's body, or of the upgraded bytes."""
        exchange, stream = self._exchange, self._stream
        assert stream is not None
        size = len(data)
        if self._upgraded:
            if size:
                exchange.write(data)
                if self._pinging is not None:
                    self._pinging.down(data)
            stream.consumed(size)
            if end:
                self._pipe_down_ended()
            return
        try:
            stream.consumed(size)
            octets = self._begin()
            if size:
                octets += exchange.body(data)
            if end:
                self._ended(octets, ())
            else:
                exchange.write(octets)
        except AppproxyError as unsafe:
            self._unsafe(unsafe)

    def trailers_received(self, fields: list[Field]) -> None:
        """The answer ended with trailers."""
        try:
            self._ended(self._begin(), fields)
        except AppproxyError as unsafe:
            self._unsafe(unsafe)

    def _ended(self, octets: bytes, trailers: Sequence[Field]) -> None:
        self._exchange.end(octets, trailers)
        self._over()

    def _over(self) -> None:
        """The client has its whole answer; what is left of its request is of no interest, unless it lasts."""
        if self._exchange.lasting and not self._exchange.ended:
            self._answered = True
            return
        self._lost = True
        if self._stream is not None and not self._exchange.ended:
            self._stream.reset(Code.NONE, "answered early")
        self._finish(None)

    def stream_reset(self, code: int, text: str) -> None:
        """The stream is over before its time."""
        self._broken(causes.channel_lost() if code == Code.NONE else causes.failed(code, text))

    def _unsafe(self, problem: Exception) -> None:
        """What the connector passed on cannot be written to a client."""
        self._broken(causes.failed(Code.NOT_HTTP, f"{type(problem).__name__}: {problem}"))

    def _broken(self, failure: causes.Failed) -> None:
        if self._lost:
            return
        self._lost = True
        self.cause = failure.code
        if self._stream is not None:
            self._stream.reset(Code.CANCELLED, "the answer cannot be passed on")
        exchange = self._exchange
        self._waiting = None
        if exchange.begun:
            self.cause = f"cut-short {failure.code}"
            if self._answered:
                exchange.finish_pipe()  # what is written still leaves
            else:
                exchange.abort()
            self._finish(None)
        else:
            self._finish(failure)

    def _finish(self, outcome: causes.Failed | None) -> None:
        stream = self._stream
        if self._pinging is not None:
            self._pinging.stop()
        if stream is not None:
            self.up, self.down = stream.bytes_sent, stream.bytes_received
            stream.resumeProducing()  # what is still owed waits in the client's socket, if anywhere
        self.finished.tell(outcome)

    # The client's body: front.Taker

    def body_received(self, data: bytes) -> None:
        """Some of the request's body, or of the upgraded bytes."""
        if self._stream is not None:
            if self._pinging is not None:
                data = self._pinging.up(data)
            self._stream.write(data)

    def body_ended(self, trailers: Sequence[Field]) -> None:
        """All of the request's body, or the client's half of a pipe, has come."""
        stream = self._stream
        if stream is None or stream.closed:
            return
        if self._pinging is not None:
            stream.write(self._pinging.up_ended())
        stream.finish(clean_trailers(trailers, self._drop) if trailers else trailers)
        if self._answered:
            self._lost = True
            self._exchange.request_ended()
            self._finish(None)
        elif self._upgraded and stream.heard_end and stream.channel.connection.is_closed(stream.id):
            self._pipe_over()

    def client_lost(self) -> None:
        """The client went away: so does the stream."""
        if self._lost:
            return
        self._lost = True
        self.cause = "" if self._upgraded else "client-gone"
        if self._stream is not None:
            self._stream.reset(Code.CANCELLED, "the client has gone")
        self._finish(None)

    def pauseProducing(self) -> None:
        """The client's socket is full."""
        if self._pinging is not None:
            self._pinging.held_back = True
        if self._stream is not None:
            self._stream.pauseProducing()

    def resumeProducing(self) -> None:
        """It has room again."""
        if self._pinging is not None:
            self._pinging.held_back = False
        if self._stream is not None:
            self._stream.resumeProducing()

    # Pipes

    def _pipe_down_ended(self) -> None:
        stream = self._stream
        assert stream is not None
        if self._pinging is not None:
            self._pinging.stop()
        self._exchange.close_pipe()
        if stream.channel.connection.is_closed(stream.id):
            self._pipe_over()

    def _pipe_over(self) -> None:
        if not self._lost:
            self._lost = True
            self._exchange.finish_pipe()
            self._finish(None)
