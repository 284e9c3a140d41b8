"""What one request through two ends of a channel costs, without sockets: ``python -m tests.bench.bench_wire``."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from appproxy.errors import Side
from appproxy.wire.connection import Connection
from appproxy.wire.events import Data
from appproxy.wire.heads import Packed, RequestHead, ResponseHead, Standing

REQUEST_FIELDS = [
    (b"Host", b"hr.example.com"),
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"Accept-Language", b"en-GB,en;q=0.5"),
    (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
    (b"Referer", b"https://hr.example.com/"),
    (b"Cookie", b"theme=dark; " + b"s" * 200),
    (b"Sec-Fetch-Dest", b"document"),
    (b"Sec-Fetch-Mode", b"navigate"),
]
ANSWER_FIELDS = [
    (b"Server", b"nginx"),
    (b"Date", b"Mon, 02 Nov 2026 10:00:00 GMT"),
    (b"Content-Type", b"text/html"),
    (b"Content-Length", b"1000"),
    (b"ETag", b'"65f1-3e8"'),
]
IDENTITY = {
    "issuer": "https://idp.example.com",
    "subject": "0b1e",
    "user": "alice@example.com",
    "groups": ["staff", "hr"],
}
BODY = b"x" * 1000
STANDING = Packed(
    Standing(
        REQUEST_FIELDS,
        "hr",
        "192.0.2.7",
        IDENTITY,
        host="hr.example.com",
    )
)


def exchange(relay: Connection, connector: Connection) -> None:
    """One GET and its answer of 1 kB; every end writes once."""
    relay.open(RequestHead(b"GET", b"/leave?year=2026", STANDING, "01J9Z8"), end=True)
    for event in connector.receive(relay.output()):
        connector.answer(event.stream, ResponseHead(200, b"OK", ANSWER_FIELDS))
        if connector.room(event.stream) >= len(BODY):
            connector.send(event.stream, BODY, end=True)
    stream = 0
    for event in relay.receive(connector.output()):
        stream = event.stream
    relay.consumed(stream, len(BODY))


def bulk(relay: Connection, connector: Connection, total: int = 16 * 1024 * 1024) -> None:
    """One answer of *total* bytes to a consumer that keeps up."""
    relay.open(RequestHead.of(b"GET", b"/", Standing([], "hr")), end=True)
    (event,) = connector.receive(relay.output())
    connector.answer(event.stream, ResponseHead(200))
    piece = bytes(64 * 1024)
    while total or connector.pending:
        while total and (room := connector.room(event.stream)):
            size = min(room, total, len(piece))
            connector.send(event.stream, piece[:size], end=size == total)
            total -= size
        while message := connector.output():
            for arrived in relay.receive(message):
                if type(arrived) is Data:
                    relay.consumed(arrived.stream, len(arrived.data))
        connector.receive(relay.output())


def measure(work: Callable[[], None], times: int, rounds: int) -> float:
    """The median of *rounds*, in microseconds per call."""
    figures = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(times):
            work()
        figures.append((time.perf_counter() - begun) / times * 1e6)
    return statistics.median(figures)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    ticks = iter(range(1 << 62))  # a clock that refills every allowance
    relay = Connection(Side.RELAY, clock=lambda: float(next(ticks)))
    connector = Connection(Side.CONNECTOR, clock=lambda: float(next(ticks)))
    print(f"exchange, both ends: {measure(lambda: exchange(relay, connector), options.times, options.rounds):.2f} µs")
    print(f"16 MiB, both ends: {measure(lambda: bulk(relay, connector), 1, options.rounds) / 1000:.1f} ms")


if __name__ == "__main__":
    main()
