"""One connection to an origin and the exchange that is on it: octets to events, events to whoever asked.

An exchange here is full duplex: the answer may begin, and end, while the request's body is still on its way.  Nothing
is buffered.  What the socket does not take pauses the source of the body; what the receiver of the answer has no room
for pauses the socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IProtocol, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import classImplements

from appproxy.connector.deadlines import NEVER, Deadlines
from appproxy.connector.exchange import Asked, OriginResponse, Pipe, RequestBody
from appproxy.connector.failures import OriginBrokeOff, OriginIdle, OriginNotHTTP, OriginTimeout
from appproxy.errors import AppproxyError
from appproxy.http.messages import Field
from appproxy.http.requesting import (
    BadResponse,
    BodyReceived,
    ClientConversation,
    Event,
    Informational,
    ResponseBegun,
    ResponseEnded,
    SwitchedProtocols,
    Truncated,
)

if TYPE_CHECKING:
    from appproxy.connector.pool import Pool


class _Gone:
    """The transport of a connection that is lost: takes everything, does nothing."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        pass

    def abortConnection(self) -> None:
        pass

    def loseConnection(self) -> None:
        pass

    def loseWriteConnection(self) -> None:
        pass

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass


_GONE: Final = _Gone()


class OriginConnection:
    """One connection of a pool.

    :ivar deadline: when whatever is awaited now is late; see :mod:`~appproxy.connector.deadlines`.
    :ivar response: the answer that is coming, from its head to its end.
    """

    __slots__ = (
        "_asked", "_body", "_conversation", "_deadlines", "_events", "_paused", "_pipe", "_pool", "_requesting",
        "_used", "deadline", "response", "transport",
    )  # fmt: skip

    def __init__(self, pool: Pool, deadlines: Deadlines) -> None:
        self._pool = pool
        self._deadlines = deadlines
        self._conversation = ClientConversation()
        self._asked: Asked | None = None
        self._body: RequestBody | None = None  # while it is on its way
        self._pipe: Pipe | None = None
        self._events: list[Event] | None = None  # held back until somebody takes the body
        self._requesting = False  # the request's body is still on its way
        self._paused = False
        self._used = False
        self.response: OriginResponse | None = None
        self.deadline = NEVER
        self.transport: Any = None

    def __repr__(self) -> str:
        state = "piped" if self._pipe else "answering" if self.response else "asked" if self._asked else "idle"
        return f"<OriginConnection {self._pool.name} {state}>"

    # Asking

    def ask(self, asked: Asked) -> None:
        """Send a request on this connection, which is idle."""
        asked.connection = self
        self._asked = asked
        try:
            more, length = asked.more, asked.length
            if asked.sign is not None:
                more = (*more, *asked.sign(self.transport))
            chunked = length is None and asked.body is not None
            octets = self._conversation.begin(
                asked.method, asked.target, asked.lines, length, chunked, asked.upgrade, more
            )
        except AppproxyError as failure:  # nothing was sent
            self._asked = None
            self._pool.give_back(self)
            asked.fail(failure)
            return
        self.transport.write(octets)
        if asked.body is None:
            self.deadline = self._deadlines.from_now + asked.patience
        else:
            self._requesting = True
            self._body = asked.body
            self.deadline = self._deadlines.from_now + self._pool.idle
            asked.body.start(self)

    def write(self, data: bytes) -> None:
        """IConsumer: some of the request's body, or of the upgraded octets."""
        if self._pipe is None and not self._requesting:
            return
        if self._pipe is None:
            try:
                data = self._conversation.body(data)
            except AppproxyError as failure:
                self._break_off(failure)
                return
        self.transport.write(data)
        if not self._paused:
            idle = self._pool.idle if self._pipe is None else self._pool.upgraded_idle
            self.deadline = self._deadlines.from_now + idle

    def finish(self, trailers: Sequence[Field] = ()) -> None:
        """The request's body, or our half of the upgraded connection, has ended."""
        if self._pipe is not None:
            self.unregisterProducer()
            self.transport.loseWriteConnection()
            return
        if not self._requesting:
            return
        try:
            octets = self._conversation.end(trailers)
        except AppproxyError as failure:
            self._break_off(failure)
            return
        self._requesting = False
        self._body = None
        self.transport.unregisterProducer()
        self.transport.write(octets)
        if self._asked is None:  # the answer has ended already
            self._release()
        elif self.response is None:
            self.deadline = self._deadlines.from_now + self._asked.patience

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """IConsumer: *producer* is paused while the socket is full."""
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """IConsumer: nobody writes any more."""
        self.transport.unregisterProducer()

    # Being held back

    def pauseProducing(self) -> None:
        """IPushProducer: the answer's receiver has no room; the origin's silence is not its own now."""
        if not self._paused:
            self._paused = True
            self.deadline = NEVER
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """IPushProducer: there is room again."""
        if self._paused:
            self._paused = False
            idle = self._pool.idle if self._pipe is None else self._pool.upgraded_idle
            self.deadline = self._deadlines.from_now + idle
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """IPushProducer: nobody wants the rest."""
        self.abandon()

    # The transport

    def makeConnection(self, transport: ITCPTransport) -> None:
        """IProtocol: connected."""
        self.transport = transport
        self._deadlines.watch(self)

    def connectionMade(self) -> None:
        """IProtocol: told by nobody, since :meth:`makeConnection` is ours."""

    def dataReceived(self, data: bytes) -> None:
        """IProtocol: the origin said something."""
        if self._pipe is not None:
            self.deadline = self._deadlines.from_now + self._pool.upgraded_idle
            self._pipe.received(data)
            return
        if self._asked is None:  # idle, or its answer is complete: nothing may come
            self.abandon()
            return
        try:
            events = self._conversation.receive(data)
        except BadResponse as problem:
            self._break_off(OriginNotHTTP(f"{self._pool.name}: {problem}"))
            return
        begun = events[0] if events else None
        if type(begun) is ResponseBegun and begun.ended:  # the short way of most answers
            self._begun(begun)
            return
        if events and not self._paused:  # half a head is no answer yet
            self.deadline = self._deadlines.from_now + self._pool.idle
        self._tell(events)

    def readConnectionLost(self) -> None:
        """IHalfCloseableProtocol: the origin will say no more."""
        if self._pipe is not None:
            self._pipe.ended()
            return
        if self._asked is not None:
            try:
                events = self._conversation.closed()
            except Truncated:
                self._break_off(OriginBrokeOff(f"{self._pool.name}: closed before the answer was complete"))
                return
            if self._events is not None:
                self._events += events
                return
            self._tell(events)
        if self._asked is None:
            self.abandon()

    def writeConnectionLost(self) -> None:
        """IHalfCloseableProtocol: our half is closed."""

    def connectionLost(self, reason: Failure) -> None:
        """IProtocol: the connection is gone."""
        self.transport = _GONE
        self._break_off(OriginBrokeOff(f"{self._pool.name}: {reason.getErrorMessage()}"))

    def expired(self) -> None:
        """Waiting: what is awaited is late."""
        if self._pipe is None and self._asked is None:
            self.abandon()
        elif self._pipe is None and self._asked is not None and self.response is None and not self._requesting:
            self._break_off(OriginTimeout(f"{self._pool.name}: no answer within {self._asked.patience:g} s"))
        else:
            self._break_off(OriginIdle(f"{self._pool.name}: silence"))

    # Events

    def _tell(self, events: list[Event]) -> None:
        """Tell what was heard; the last octets of a body travel with its end."""
        asked = self._asked
        data = b""
        for position, event in enumerate(events):
            kind = type(event)
            if kind is BodyReceived or kind is ResponseEnded:
                response = self.response
                if response is None or response.receiver is None:
                    self._hold(events[position:])
                    return
                if data:
                    response.receiver.body_received(data)
                    data = b""
                    if self._asked is not asked:
                        return
                if kind is BodyReceived:
                    data = event.data  # type: ignore[union-attr]
                    if position + 1 < len(events):
                        continue
                    response.receiver.body_received(data)
                else:
                    self._answer_ended()
                    response.receiver.body_ended(data, event.trailers)  # type: ignore[union-attr]
                    return
            elif kind is ResponseBegun:
                self._begun(event)  # type: ignore[arg-type]
            elif kind is Informational:
                asked.interim(event.head)  # type: ignore[union-attr]
                if not self._requesting:
                    self.deadline = self._deadlines.from_now + asked.patience  # type: ignore[union-attr]
            else:
                self._switched(event)  # type: ignore[arg-type]
            if self._asked is not asked:
                return

    def _begun(self, event: ResponseBegun) -> None:
        asked = self._asked
        assert asked is not None
        response = OriginResponse(self, event.head, event.ended, event.body, event.trailers)
        if event.ended:
            if self._requesting:
                self.deadline = self._deadlines.from_now + self._pool.idle
            self._answer_ended()
        else:
            self.response = response
        asked.tell(response)

    def _switched(self, event: SwitchedProtocols) -> None:
        asked = self._asked
        assert asked is not None
        self.response = response = OriginResponse(self, event.head, False)
        response.switched = True
        if event.leftover:
            self._hold([BodyReceived(event.leftover)])
        asked.tell(response)

    def _hold(self, events: list[Event]) -> None:
        """Nobody takes the body yet: read no further."""
        self._events = events
        self.pauseProducing()

    def resume_events(self) -> None:
        """Somebody takes the body now: what was held back first."""
        events, self._events = self._events, None
        if events is not None:
            self.resumeProducing()
            self._tell(events)

    def become_pipe(self, pipe: Pipe) -> None:
        """The octets of both directions are *pipe*'s from now on."""
        events, self._events = self._events, None
        self._pipe = pipe
        self.deadline = self._deadlines.from_now + self._pool.upgraded_idle
        if events is not None:
            for event in events:
                pipe.received(event.data)  # type: ignore[union-attr]
            self.resumeProducing()

    def _answer_ended(self) -> None:
        """The answer is complete; with the request complete too, the connection is free."""
        self._asked = None
        self.response = None
        if not self._requesting:
            self._release()

    def _release(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        if self._conversation.reusable:
            self._used = True
            self._pool.give_back(self)
        else:
            self._leave()
            self.transport.loseConnection()

    # Ending

    def abandon(self) -> None:
        """Close at once; whoever asked hears no more."""
        self._requesting = False
        body, self._body = self._body, None
        self._asked = self.response = self._pipe = self._events = None
        self._leave()
        self.transport.abortConnection()
        if body is not None:
            body.cut_off()

    def give_up(self, asked: Asked, failure: AppproxyError) -> None:
        """Close, if *asked* is what this connection carries."""
        if self._asked is asked:
            self._break_off(failure)

    def _leave(self) -> None:
        """This connection carries nothing any more."""
        self.deadline = NEVER
        self._deadlines.forget(self)
        self._pool.lost(self)

    def _break_off(self, failure: AppproxyError) -> None:
        """Close, and tell whoever is waiting why."""
        asked, response, pipe = self._asked, self.response, self._pipe
        quiet = self._used and not self._conversation.heard
        self.abandon()
        if pipe is not None:
            pipe.lost(failure)
        elif response is not None:
            response.fail(failure)
        elif asked is not None:
            asked.connection = None
            if quiet and isinstance(failure, OriginBrokeOff) and asked.repeatable:
                self._pool.ask_afresh(asked)  # at most once: the new one has not been used
            else:
                asked.fail(failure)


classImplements(OriginConnection, IProtocol, IHalfCloseableProtocol, IConsumer, IPushProducer)
