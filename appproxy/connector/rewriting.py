"""An answer's body on its way through translation, at the pace of whoever reads it.

What comes in is translated step by step; after a few steps everybody else has a turn.  While the relay gives no credit
nothing is translated, and the origin's socket is not read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from appproxy.channel.stream import Stream
from appproxy.connector.connection import OriginConnection
from appproxy.connector.exchange import OriginResponse
from appproxy.connector.failures import OriginUndecodable
from appproxy.errors import AppproxyError
from appproxy.http.codings import Bomb, Unreadable
from appproxy.http.messages import Field
from appproxy.http.rewriting import Rewritten, rewritten_fields
from appproxy.wire.heads import ResponseHead

#: Steps of :class:`~appproxy.http.rewriting.Rewritten` in one turn of the reactor: some 4 ms.
STEPS: Final = 4


@implementer(IPushProducer)
class RewrittenAnswer:
    """Taker of an answer's body, writer of a stream.

    :param clock: gives everybody else a turn.
    """

    __slots__ = (
        "_clock", "_done", "_ended", "_ending", "_paused", "_rewritten", "_source", "_steps", "_stream", "_trailers",
        "_turn", "_waiting",
    )  # fmt: skip

    def __init__(self, stream: Stream, rewritten: Rewritten, clock: Any) -> None:
        self._stream = stream
        self._rewritten = rewritten
        self._clock = clock
        self._source: OriginConnection | None = None  # what can be paused
        self._waiting: deque[bytes] = deque()
        self._steps: Iterator[bytes] = iter(())
        self._ended = self._ending = False  # the origin is done; its end is being translated
        self._trailers: Sequence[Field] = ()
        self._paused = False
        self._turn: Any = None
        self._done: Deferred[None] = Deferred()

    def send(self, head: ResponseHead, response: OriginResponse) -> Deferred[None]:
        """Answer with *head* and the body; fires when all of it is on its way, or fails with why it is not."""
        self._done = Deferred(lambda _: self._stop(response))
        if response.ended:
            self._waiting.append(response.body)
            self._ended, self._trailers = True, rewritten_fields(response.trailers)
            self._send_whole(head)
        else:
            self._stream.answer(head)
            self._source = response.connection
            self._stream.registerProducer(self, True)
            response.deliver(self)
        return self._done

    def _send_whole(self, head: ResponseHead) -> None:
        """Of a body that is there already the length is known, unless it is very long."""
        pieces = []
        try:
            for _ in range(STEPS):
                piece = self._next()
                if piece is None:
                    break
                pieces.append(piece)
        except (Bomb, Unreadable) as problem:
            self._give_up(problem)
            return
        stream, whole = self._stream, b"".join(pieces)
        if self._ending and piece is None and not self._trailers:
            head.fields.append((b"Content-Length", b"%d" % len(whole)))
            stream.answer(head, end=not whole)
            if whole:
                stream.end(whole)
            self._done.callback(None)
            return
        stream.answer(head)
        stream.registerProducer(self, True)
        stream.write(whole)
        self._run()

    # connector.exchange.ResponseBody

    def body_received(self, data: bytes) -> None:
        """Some of the body as the origin sent it."""
        self._waiting.append(data)
        self._run()

    def body_ended(self, data: bytes, trailers: Sequence[Field]) -> None:
        """The last of it; the connection is somebody else's now."""
        self._source = None
        self._waiting.append(data)
        self._ended, self._trailers = True, rewritten_fields(trailers)
        self._run()

    def body_failed(self, failure: AppproxyError) -> None:
        """It is cut short."""
        self._source = None
        self._leave()
        if not self._done.called:
            self._done.errback(failure)

    # IPushProducer

    def pauseProducing(self) -> None:
        """The relay gives no credit."""
        self._paused = True
        if self._source is not None:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """It does again."""
        self._paused = False
        self._run()

    def stopProducing(self) -> None:
        """Nobody wants the rest; the journey is cancelled by whoever says so."""

    # Translation

    def _run(self) -> None:
        """Translate while there is something to do, credit, and time."""
        if self._turn is not None:
            return
        try:
            for _ in range(STEPS):
                if self._paused or self._done.called:
                    return
                piece = self._next()
                if piece is None:
                    self._rest()
                    return
                self._stream.write(piece)
        except (Bomb, Unreadable) as problem:
            self._give_up(problem)
            return
        if self._source is not None:
            self._source.pauseProducing()
        self._turn = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        self._run()

    def _next(self) -> bytes | None:
        """What the next step gives; ``None`` when more has to come first, or all is done."""
        while (piece := next(self._steps, None)) is None:
            if self._waiting:
                self._steps = self._rewritten.receive(self._waiting.popleft())
            elif self._ended and not self._ending:
                self._ending = True
                self._steps = self._rewritten.end()
            else:
                return None
        return piece

    def _rest(self) -> None:
        """Nothing is left to do by now."""
        if self._ending:
            self._leave()
            self._stream.finish(self._trailers)
            self._done.callback(None)
        elif self._source is not None:
            self._source.resumeProducing()

    def _give_up(self, problem: Exception) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.abandon()
        self._leave()
        self._done.errback(OriginUndecodable(str(problem)))

    def _stop(self, response: OriginResponse) -> None:
        """The journey was cancelled."""
        if self._source is not None:
            self._source = None
            response.abandon()
        self._leave()

    def _leave(self) -> None:
        """Translate no more."""
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._stream.unregisterProducer()
