"""A connector in memory: a channel with a scripted relay on one side, scripted origins on the other."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from appproxy.channel.stream import Stream
from appproxy.connector.allowing import AllowList
from appproxy.connector.assignments import Assignments
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.origin import Origins
from appproxy.connector.serve import Serving
from appproxy.sso.delegation import Delegation
from appproxy.wire.heads import RequestHead, Standing
from tests.fakes.channels import Pair, RecordingReceiver

HR = {
    "id": "hr",
    "external_url": "https://hr.example.com/",
    "internal_url": "http://hr.corp.local:8080/",
    "connector_group": "hq",
    "sso": {"mode": "header", "header": [{"name": "X-Remote-User", "value": "user"}]},
}
GET = b"GET / HTTP/1.1\r\nHost: hr.corp.local:8080\r\n\r\n"


class OriginSocket:
    """One connection to an origin: keeps what it is told, says what the test lets it say."""

    def __init__(self, address: tuple[str, int], protocol: Any) -> None:
        self.address = address
        self.protocol = protocol
        self.heard = b""
        self.producer: Any = None
        self.paused = False
        self.half_closed = False
        self.closing = False
        self.aborted = False
        self.lost = False

    # What the connector calls

    def write(self, data: bytes) -> None:
        if not self.aborted and not self.lost:
            self.heard += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseConnection(self) -> None:
        self.closing = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True

    # What the test does

    def take(self) -> bytes:
        """What was heard since the last call."""
        heard, self.heard = self.heard, b""
        return heard

    def say(self, data: bytes) -> None:
        assert not self.paused
        assert not self.aborted
        self.protocol.dataReceived(data)

    def end(self) -> None:
        """Say no more (FIN)."""
        self.protocol.readConnectionLost()

    def lose(self, clean: bool = True) -> None:
        """The connection is gone."""
        self.lost = True
        if self.producer is not None:
            self.producer.stopProducing()
        self.protocol.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost("reset by peer")))

    @property
    def open(self) -> bool:
        return not (self.aborted or self.closing or self.lost)


class Rig:
    """One connector, its relay and its origins.

    :ivar sockets: every connection to an origin, in the order they were made.
    :ivar refusals: what the next dials fail with.
    :ivar held: while true, dials wait in *dials*.
    """

    def __init__(
        self,
        *applications: dict[str, Any],
        allow: list[str] | None = None,
        delegation: Delegation | None = None,
    ) -> None:
        self.sockets: list[OriginSocket] = []
        self.refusals: list[Exception] = []
        self.dials: list[Deferred[None]] = []
        self.hold_dials = False
        self.records: list[tuple[RequestHead, int, int, int, float, str]] = []
        self.pair = Pair(self)
        self.clock = self.pair.clock
        self.deadlines = Deadlines(self.clock)
        self.assignments = Assignments(self.dial, self.deadlines, AllowList(allow), delegation=delegation)
        self.refused = self.assignments.replace(1, applications or (HR,))
        self.serving = Serving(
            self.assignments, Origins(self.clock), self.clock, self.deadlines, lambda *r: self.records.append(r)
        )

    def stream_opened(self, *arguments: Any) -> None:
        self.serving.stream_opened(*arguments)

    def channel_lost(self, channel: Any) -> None:
        self.serving.channel_lost(channel)

    async def dial(self, host: str, port: int, factory: Any, tls: Any, seconds: float) -> Any:
        waiting: Deferred[None] = Deferred() if self.hold_dials else succeed(None)
        self.dials.append(waiting)
        await waiting
        if self.refusals:
            raise self.refusals.pop(0)
        protocol = factory(None)
        socket = OriginSocket((host, port), protocol)
        self.sockets.append(socket)
        protocol.makeConnection(socket)
        return protocol

    def ask(
        self,
        target: bytes = b"/",
        *fields: tuple[bytes, bytes],
        method: bytes = b"GET",
        application: str = "hr",
        identity: dict[str, Any] | None = None,
        host: str = "hr.example.com",
        end: bool = True,
        upgrade: bool = False,
        greedy: bool = True,
        request_id: str = "",
        affinity: str = "",
        segment: str = "",
    ) -> Asking:
        """Let the relay open a stream."""
        head = head_of(
            method,
            target,
            (b"Host", host.encode()),
            *fields,
            application=application,
            identity=identity,
            host=host,
            request_id=request_id,
            affinity=affinity,
            segment=segment,
        )
        receiver = RecordingReceiver(greedy)
        stream = self.pair.relay.open(head, receiver, end, upgrade)
        receiver.stream = stream
        self.pair.run()
        return Asking(self, stream, receiver)

    def advance(self, seconds: float) -> None:
        """Let time pass, second by second; both ends of the channel stay alive."""
        while seconds > 0:
            self.clock.advance(min(1.0, seconds))
            self.pair.run()
            seconds -= 1.0


def head_of(
    method: bytes,
    target: bytes,
    *fields: tuple[bytes, bytes],
    application: str = "hr",
    identity: dict[str, Any] | None = None,
    host: str = "hr.example.com",
    request_id: str = "",
    affinity: str = "",
    segment: str = "",
) -> RequestHead:
    """A request as a relay makes it of *fields*, ``Content-Length`` among them."""
    lengths = [int(value) for name, value in fields if name.lower() == b"content-length"]
    kept = [field for field in fields if field[0].lower() != b"content-length"]
    standing = Standing(kept, application, "192.0.2.7", identity, host=host, segment=segment)
    return RequestHead.of(method, target, standing, request_id, lengths[0] if lengths else None, affinity)


class Asking:
    """One request, from the relay's side."""

    def __init__(self, rig: Rig, stream: Stream, receiver: RecordingReceiver) -> None:
        self.rig = rig
        self.stream = stream
        self._receiver = receiver

    @property
    def answer(self) -> RecordingReceiver:
        """What has come back by now."""
        self.rig.pair.run()
        return self._receiver

    @property
    def status(self) -> int:
        """Of the final answer; 0 while there is none."""
        heads = [head for head, _end, informational, _upgrade in self.answer.heads if not informational]
        return heads[-1].status if heads else 0

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        return self.answer.heads[-1][0].fields

    @property
    def reset(self) -> int | None:
        """The code that the stream was reset with."""
        resets = self.answer.resets
        return resets[-1][0] if resets else None

    def send(self, data: bytes, end: bool = False) -> None:
        """Some of the body."""
        if end:
            self.stream.end(data)
        else:
            self.stream.write(data)
        self.rig.pair.run()

    def finish(self, *trailers: tuple[bytes, bytes]) -> None:
        self.stream.finish(trailers)
        self.rig.pair.run()
