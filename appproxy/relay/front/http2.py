"""The front for HTTP/2: one client connection, many exchanges at once, each a share of it.

The octets are :class:`appproxy.http.multiplexed.MultiplexedConversation`'s business; this is its Twisted side.  What is
written in one turn of the reactor leaves together.  A client that asks and asks and does not read is not read either.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from appproxy.http.intake import BrokenConnection, Code
from appproxy.http.multiplexed import MultiplexedConversation
from appproxy.http.server_stream import Came, Cancelled, Ended, Event, Opened, Refused
from appproxy.relay.front.client_exchange import Reading
from appproxy.relay.front.client_stream import ClientStream
from appproxy.relay.front.http1 import FrontSettings

#: Pieces of output that leave in one turn; then it is others' turn.
PIECES_PER_TURN = 4
#: What a client asks for while it does not read may wait up to here, besides bodies; then it is not read any more.
MAX_UNSENT = 64 * 1024

_NAMES = {int(code): code.name for code in Code}


@implementer(IPushProducer)
class MultiplexedFront(TwistedProtocol):
    """One HTTP/2 connection of a client."""

    transport: Any

    def __init__(self, settings: FrontSettings) -> None:
        self.settings = settings
        self.conversation = MultiplexedConversation(settings.limits, settings.seconds)
        self.client = ""
        #: When to look whether to give up on the client, by ``settings.seconds``; 0 for never.
        self.deadline = 0.0
        self.reading: Reading | None = None
        self._streams: dict[int, ClientStream] = {}
        self._full = False
        self._reading = True
        self._closing = False
        self._awake = False
        #: What the connection itself waits for, and until when: a head, another request, a reader.
        self._head_by = 0.0
        self._idle_until = 0.0
        self._read_by = 0.0

    def connectionMade(self) -> None:
        """Twisted: a client came."""
        self.client = getattr(self.transport.getPeer(), "host", "") or "local"
        self.settings.fronts.add(self)
        self.transport.registerProducer(self, True)
        self._idle_until = self.settings.seconds() + self.settings.patience.head
        self.look_again(self._idle_until)
        self._flush()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Twisted: the client went."""
        self.settings.fronts.discard(self)
        self.deadline = 0.0
        self._closing = True
        self._lose_streams()

    def _lose_streams(self) -> None:
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.lost()

    # Reading

    def dataReceived(self, data: bytes) -> None:
        """Twisted: some octets came."""
        if self._closing:
            return
        conversation = self.conversation
        self._awake = True  # what this brings is written at its end
        try:
            for event in conversation.receive(data):
                self._dispatch(event)
        except BrokenConnection as broken:
            self._break_off(broken.code, broken.text)
            return
        finally:
            self._awake = False
        if not conversation.in_head:
            self._head_by = 0.0
        elif not self._head_by:
            self._head_by = self.settings.seconds() + self.settings.patience.head
            self.look_again(self._head_by)
        self._flush()
        if self._full and self._reading and conversation.unsent > MAX_UNSENT:
            self._reading = False
            self.transport.pauseProducing()

    def _dispatch(self, event: Event) -> None:
        kind = type(event)
        pen = event.stream
        if kind is Opened:
            stream = self._streams[pen.id] = ClientStream(self, pen)
            stream.begin(event.begun)  # type: ignore[union-attr]
            return
        known = self._streams.get(pen.id)
        if kind is Refused:
            if known is None:
                known = self._streams[pen.id] = ClientStream(self, pen)
            known.refuse(event.bad)  # type: ignore[union-attr]
        elif known is None:
            return
        elif kind is Came:
            known.received(event.data)  # type: ignore[union-attr]
        elif kind is Ended:
            known.ended(event.trailers)  # type: ignore[union-attr]
        else:
            assert kind is Cancelled
            del self._streams[pen.id]
            known.lost()

    def _break_off(self, code: int, text: str) -> None:
        """The client broke the protocol: say so, and close."""
        self.settings.broke_off(self.client, _NAMES.get(code, str(code)), text)
        self._closing = True
        self._lose_streams()
        self._write_all()
        self._lose()

    # Writing

    def wake(self) -> None:
        """Something waits to be written: it leaves with what else this turn brings."""
        if not self._awake and not self._closing:
            self._awake = True
            self.settings.soon(self._turn)

    def _turn(self) -> None:
        self._awake = False
        if not self._closing:
            self._flush()

    def _flush(self) -> None:
        conversation = self.conversation
        for _ in range(PIECES_PER_TURN):
            if self._full or not (octets := conversation.output()):
                break
            self.transport.write(octets)
        else:
            self.wake()
        while conversation.relieved:
            stream = self._streams.get(conversation.relieved.pop().id)
            if stream is not None:
                stream.relieved()
        self._settle()

    def _write_all(self) -> None:
        """All that can be written, whether the client reads or not; its windows bound it."""
        while octets := self.conversation.output():
            self.transport.write(octets)

    def _settle(self) -> None:
        """Forget what is over; see what there is to wait for."""
        conversation = self.conversation
        open_ = conversation.streams
        if len(open_) != len(self._streams):
            for identifier in [each for each in self._streams if each not in open_]:
                del self._streams[identifier]
        if open_:
            self._idle_until = 0.0
            if conversation.queued:
                self.look_again(self.settings.seconds() + self.settings.patience.write)
        elif conversation.going_away or conversation.client_leaves:
            if not self._full:
                self._see_nobody()
        elif not self._idle_until:
            self._idle_until = self.settings.seconds() + self.settings.patience.keep_alive
            self.look_again(self._idle_until)

    def _see_nobody(self) -> None:
        """Nothing is open and nothing will be."""
        self.conversation.go_away()
        self._closing = True
        self._write_all()
        self._lose()

    def _lose(self) -> None:
        self._closing = True
        self.deadline = 0.0
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    # Time

    def look_again(self, at: float) -> None:
        """Somebody is waited for until *at*."""
        if not self.deadline or at < self.deadline:
            self.deadline = at

    def _look_ahead(self) -> None:
        """The next moment that somebody is waited for."""
        for at in (self._head_by, self._idle_until, self._read_by):
            if at:
                self.look_again(at)
        for stream in self._streams.values():
            if at := stream.deadline:
                self.look_again(at)

    def overdue(self) -> None:
        """It may be that the client took longer than we have patience."""
        now = self.settings.seconds()
        self.deadline = 0.0
        if 0.0 < self._read_by <= now:
            self._abort()
        elif 0.0 < self._head_by <= now:
            self.conversation.break_off(Code.ENHANCE_YOUR_CALM, "a head took too long")
            self._break_off(Code.ENHANCE_YOUR_CALM, "a head took too long")
        elif 0.0 < self._idle_until <= now:
            self._see_nobody()
        else:
            for stream in list(self._streams.values()):
                if 0.0 < stream.deadline <= now:
                    stream.overdue()
            self._look_ahead()

    # The relay stops

    def retire(self) -> None:
        """No more requests here; those under way go on."""
        if not self._closing:
            self.conversation.go_away()
            self._flush()

    def see_off(self) -> None:
        """What is not finished is cut off, what is written still leaves."""
        if self._closing:
            return
        self._awake = True
        self._write_all()
        for stream in list(self._streams.values()):
            stream.cut_off()
        self._see_nobody()

    def _abort(self) -> None:
        self._closing = True
        self._lose_streams()
        self.transport.abortConnection()

    # IPushProducer for the transport: the client's pace

    def pauseProducing(self) -> None:
        """The client reads slower than we write."""
        self._full = True
        self._read_by = self.settings.seconds() + self.settings.patience.write
        self.look_again(self._read_by)

    def resumeProducing(self) -> None:
        """The client caught up."""
        self._full = False
        self._read_by = 0.0
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()
        self.wake()

    def stopProducing(self) -> None:
        """The transport is done with us; its loss is told separately."""
