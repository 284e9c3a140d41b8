"""Connections that say nothing, in a process of their own: ``python -m tests.live.idle PORT HOST CA COUNT ADDRESS...``.

Opens COUNT TLS connections from each loopback ADDRESS, prints how many the relay kept, and how many it still keeps each
time a line comes in.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
import sys
from contextlib import suppress


class Idle:
    """All connections."""

    def __init__(self, port: int, host: str, ca: str) -> None:
        self._port = port
        self._host = host
        self._tls = ssl.create_default_context(cafile=ca)
        #: Dozens of handshakes at once, not thousands: they are to succeed.
        self._turns = asyncio.Semaphore(50)
        self.held: set[asyncio.Task[None]] = set()

    async def open(self, address: str) -> None:
        """Open one from *address*, if the relay lets us."""
        with suppress(OSError, asyncio.IncompleteReadError):
            async with self._turns:
                streams = await asyncio.open_connection(
                    "127.0.0.1", self._port, ssl=self._tls, server_hostname=self._host, local_addr=(address, 0)
                )
            task = asyncio.create_task(self._hold(*streams))
            self.held.add(task)
            task.add_done_callback(self.held.discard)

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while await reader.read(4096):
                pass
        writer.close()


async def main() -> None:
    """Open, then answer lines."""
    port, host, ca, count, *addresses = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = Idle(int(port), host, ca)
    await asyncio.gather(*[idle.open(address) for address in addresses for _ in range(int(count))])
    print(len(idle.held), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(len(idle.held), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
