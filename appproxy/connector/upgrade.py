"""An upgraded exchange: two byte pipes, each with its own end and its own pace."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from appproxy.channel.stream import Stream
from appproxy.connector.exchange import OriginResponse
from appproxy.errors import AppproxyError
from appproxy.http.messages import Field
from appproxy.wire.heads import ResponseHead


class BytePipes:
    """Joins a stream and the origin's connection after a 101.

    Receiver of the stream; the connection's :class:`~appproxy.connector.exchange.Pipe`.
    """

    __slots__ = ("_connection", "_done", "_down_ended", "_stream", "_up_ended")

    def __init__(self, stream: Stream, response: OriginResponse) -> None:
        self._stream = stream
        self._connection = response.connection
        self._down_ended = False
        self._up_ended = False
        self._done: Deferred[None] = Deferred(lambda _: self._connection.abandon())

    def join(self, response: OriginResponse, early: list[bytes], ended: bool) -> Deferred[None]:
        """Let the bytes flow, those that came *early* first; fires when both directions have ended."""
        stream = self._stream
        stream.receiver = self
        stream.registerProducer(self._connection, True)
        response.pipe(self)
        self._connection.registerProducer(self, True)
        for data in early:
            self.data_received(data, False)
        if ended:
            self.data_received(b"", True)
        return self._done

    # From the relay: channel.stream.Receiver

    def head_received(self, head: ResponseHead, end: bool, informational: bool, upgrade: bool, data: bytes) -> None:
        """Relay side only."""

    def data_received(self, data: bytes, end: bool) -> None:
        """Bytes for the origin; at the end its half of the connection is closed, ours stays open."""
        if data:
            self._connection.write(data)
            self._stream.consumed(len(data))
        if end and not self._up_ended:
            self._up_ended = True
            self._connection.finish()

    def trailers_received(self, fields: list[Field]) -> None:
        """Pipes have none; the end counts."""
        self.data_received(b"", True)

    def stream_reset(self, code: int, text: str) -> None:
        """The relay's side is gone."""
        self._done.cancel()

    def pauseProducing(self) -> None:
        """The origin's socket is full."""
        self._stream.pauseProducing()

    def resumeProducing(self) -> None:
        """It has room again."""
        self._stream.resumeProducing()

    def stopProducing(self) -> None:
        """It is gone."""
        self._stream.resumeProducing()

    # From the origin: connector.exchange.Pipe

    def received(self, data: bytes) -> None:
        """Bytes from the origin."""
        self._stream.write(data)

    def ended(self) -> None:
        """The origin says no more."""
        if not self._down_ended:
            self._down_ended = True
            self._stream.unregisterProducer()
            self._stream.finish()

    def lost(self, failure: AppproxyError) -> None:
        """The connection is gone."""
        self._stream.unregisterProducer()
        if self._done.called:
            return
        if self._up_ended and self._down_ended:
            self._done.callback(None)
        else:
            self._done.errback(failure)
