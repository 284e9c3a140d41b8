"""What the connector's side of one request costs: a GET for 1 kB, from the channel's message to the answer's message.

The origin and the socket of the channel are in memory; everything between them is real.  Run: ``python -m
tests.bench.bench_connector [--profile]``; prints CPU microseconds for each request.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from collections.abc import Callable
from typing import Any

from appproxy import tuning
from appproxy.channel.protocol import Channel
from appproxy.connector.assignments import Assignments
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.origin import Origins
from appproxy.connector.serve import Serving
from appproxy.errors import Side
from appproxy.wire.connection import Connection
from appproxy.wire.heads import Packed, RequestHead, Standing
from appproxy.wire.limits import Limits

REQUESTS = 20_000
ROUNDS = 5
#: A browser's head, and what the relay adds to it.
FIELDS = [
    (b"Host", b"hr.example.com"),
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"Accept-Language", b"en-US,en;q=0.5"),
    (b"Accept-Encoding", b"gzip, deflate, br"),
    (b"Referer", b"https://hr.example.com/start"),
    (b"Cookie", b"session=" + b"x" * 240),
    (b"Upgrade-Insecure-Requests", b"1"),
    (b"Sec-Fetch-Dest", b"document"),
    (b"Sec-Fetch-Mode", b"navigate"),
    (b"Sec-Fetch-Site", b"same-origin"),
    (b"X-Forwarded-For", b"192.0.2.7"),
    (b"X-Forwarded-Host", b"hr.example.com"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Port", b"443"),
    (b"Forwarded", b'for=192.0.2.7;host="hr.example.com";proto=https'),
    (b"X-Request-ID", b"0123456789ab-1f"),
    (b"Via", b"1.1 appproxy"),
]
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Type: text/html\r\n"
    b"Content-Length: 1024\r\nLast-Modified: Mon, 23 Nov 2026 09:00:00 GMT\r\nConnection: keep-alive\r\n"
    b'ETag: "66a1-400"\r\nAccept-Ranges: bytes\r\n\r\n' + b"x" * 1024
)
APPLICATION = {
    "id": "hr",
    "external_url": "https://hr.example.com/",
    "internal_url": "http://hr.corp.local:8080/",
    "connector_group": "hq",
}
LIMITS = Limits(openings=(1e9, 1e9), windows=(1e9, 1e9), resets=(1e9, 1e9), max_streams=100_000)


class Turns:
    """A clock whose next turn is run by hand."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []

    def seconds(self) -> float:
        return time.monotonic()

    def callLater(self, delay: float, call: Callable[..., object], *arguments: Any) -> Any:
        if delay == 0:
            self.due.append(call)
        return self

    def active(self) -> bool:
        return False

    def turn(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


class Socket:
    """Takes whatever is written; an origin's connection, or the channel's."""

    transport: Any
    protocol: Any = None
    closed = 0

    def __init__(self) -> None:
        self.transport = self

    def write(self, data: bytes) -> None:
        pass

    send_message = write

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.closed += 1

    loseConnection = abortConnection


class Owner:
    """Of the channel."""

    def channel_opened(self, channel: Channel) -> None:
        pass


def prepare(count: int) -> tuple[list[bytes], Channel, Socket, Turns]:
    """Messages of a relay, each with one request, and a connector that serves them."""
    clock = Turns()
    socket = Socket()

    async def dial(host: str, port: int, factory: Any, tls: Any, seconds: float) -> None:
        socket.protocol = factory(None)
        socket.protocol.makeConnection(socket)

    deadlines = Deadlines(clock)
    assignments = Assignments(dial, deadlines)
    assert not assignments.replace(1, [APPLICATION])
    serving = Serving(assignments, Origins(clock), clock, deadlines, lambda *record: None)
    connection = Connection(Side.CONNECTOR, LIMITS)
    channel = Channel(clock, connection, Owner(), serving)  # type: ignore[arg-type]
    channel.carrier_opened(Socket())  # type: ignore[arg-type]
    relay = Connection(Side.RELAY, LIMITS)
    messages = []
    standing = Packed(Standing(list(FIELDS), "hr", "192.0.2.7", {"user": "alice"}, host="hr.example.com"))
    for number in range(count):
        relay.open(RequestHead(b"GET", b"/leave/%d?year=2026" % number, standing, f"r-{number}"), end=True)
        messages.append(relay.output())
    return messages, channel, socket, clock


def run(messages: list[bytes], channel: Channel, socket: Socket, clock: Turns) -> float:
    """CPU microseconds for each request."""
    connection = channel.connection
    tuning.settle()
    began = time.process_time()
    for message in messages:
        channel.message_received(message)
        socket.protocol.dataReceived(ANSWER)
        clock.turn()
        # What the relay gives back for the answer's bytes on the channel; it owes nothing for a stream that is over.
        connection._out.credit += 1024
    return (time.process_time() - began) / len(messages) * 1e6


def main() -> None:
    """Print the best and the median of some rounds."""
    results = sorted(run(*prepare(REQUESTS)) for _ in range(ROUNDS))
    print(f"connector, GET of 1 kB: {results[0]:.1f} µs at best, {results[ROUNDS // 2]:.1f} µs median")
    if "--profile" in sys.argv:
        prepared = prepare(REQUESTS)
        profile = cProfile.Profile()
        profile.runcall(run, *prepared)
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
