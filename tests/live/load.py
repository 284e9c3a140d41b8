"""Many clients at an easy pace, in a process of their own: ``python -m tests.live.load PORT HOST CA CLIENTS SECONDS``.

Each keeps one TLS connection, asks for a small thing, waits a little, asks again.  Prints JSON: requests, p50 and p99
in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time

#: Between two requests of one client: 100 clients ask 200 times a second.
PAUSE_SECONDS = 0.5


class Load:
    """All clients and what they saw."""

    def __init__(self, port: int, host: str, ca: str, seconds: float) -> None:
        self._port = port
        self._host = host
        self._tls = ssl.create_default_context(cafile=ca)
        self._request = f"GET /small HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        self._seconds = seconds
        self.seen: list[float] = []

    async def client(self, position: float, begin: asyncio.Barrier) -> None:
        """One client; *position* from 0 to 1 spreads them over the pause."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname=self._host
        )
        await self._ask(reader, writer)
        await begin.wait()
        end = time.perf_counter() + self._seconds
        await asyncio.sleep(position * PAUSE_SECONDS)
        while time.perf_counter() < end:
            began = time.perf_counter()
            await self._ask(reader, writer)
            self.seen.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE_SECONDS)
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        [length] = [line[16:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(length))

    async def run(self, clients: int) -> dict[str, float]:
        """All of them."""
        begin = asyncio.Barrier(clients)
        async with asyncio.TaskGroup() as group:
            for count in range(clients):
                group.create_task(self.client(count / clients, begin))
        times = sorted(self.seen)
        at = {f"p{percent}": times[len(times) * percent // 100] * 1000 for percent in (50, 99)}
        return {"requests": len(times), **at}


if __name__ == "__main__":
    port, host, ca, clients, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(Load(int(port), host, ca, float(seconds)).run(int(clients)))))
