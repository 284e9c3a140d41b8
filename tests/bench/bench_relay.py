"""What one request costs the relay besides sockets: ``python -m tests.bench.bench_relay`` prints µs of CPU.

A browser's GET through front, gateway, policy and channel, its 1 kB answer back; the connector's frames are made
beforehand, so that only the relay's work is counted.
"""

from __future__ import annotations

import struct
import time

from appproxy import tuning
from appproxy.wire.heads import ResponseHead, encode_response
from tests.fakes.fronts import Bench, FakeSocket, get

BROWSER = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/130.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Cache-Control: max-age=0\r\n"
    b"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nUpgrade-Insecure-Requests: 1\r\n"
    b"Priority: u=0, i\r\nCookie: __Host-appproxy-session=" + b"h" * 43 + b"\r\n"
)
FIELDS = [
    (b"Server", b"nginx/1.22.1"),
    (b"Date", b"Mon, 23 Nov 2026 10:00:00 GMT"),
    (b"Content-Type", b"application/octet-stream"),
    (b"Content-Length", b"1024"),
    (b"Last-Modified", b"Mon, 23 Nov 2026 09:00:00 GMT"),
    (b"Connection", b"keep-alive"),
    (b"ETag", b'"6922d2a1-400"'),
    (b"Accept-Ranges", b"bytes"),
]


class Sink(FakeSocket):
    """A client's socket that forgets."""

    def write(self, data: bytes) -> None:
        """Forget."""


def measure(requests: int = 20_000, clients: int = 16) -> float:
    """CPU µs per request."""
    bench = Bench()
    sinks = []
    for _ in range(clients):
        client = bench.client()
        sink = Sink()
        client.protocol.transport = sink
        sinks.append(client.protocol)
    request = get(more=BROWSER)
    head = encode_response(ResponseHead(200, b"OK", FIELDS))
    body = b"x" * 1024
    stream = 0
    used = 0.0
    relay, carrier = bench.pair.relay, bench.pair.relay_carrier
    for _ in range(requests // clients):
        answers = []
        for number in range(stream + 1, stream + clients + 1):
            answers.append(struct.pack("!IBBI", len(head), 1, 0, number) + head)
            answers.append(struct.pack("!IBBI", len(body), 2, 1, number) + body)
        stream += clients
        message = b"".join(answers)
        began = time.process_time()
        for front in sinks:
            front.dataReceived(request)
        bench.clock.advance(0)
        relay.message_received(message)
        bench.clock.advance(0)
        used += time.process_time() - began
        carrier.sent.clear()
        bench.records.clear()
    assert not relay.streams
    return used / (requests // clients * clients) * 1e6


if __name__ == "__main__":
    tuning.settle()
    print(f"relay without sockets: {min(measure() for _ in range(3)):.1f} µs")
