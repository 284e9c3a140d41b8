"""Connections that say nothing, in a process of their own: ``python -m tests.live.idle PORT HOST CA COUNT ADDRESS...``.

Opens COUNT TLS connections from each loopback ADDRESS, prints how many the relay kept, and how many it still keeps each
time a line comes in.  After the handshake only the descriptor is kept, so that ten thousand cost this process little.
"""

from __future__ import annotations

import resource
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

#: Handshakes at once: they are to succeed.
THREADS = 16


class Idle:
    """All connections."""

    def __init__(self, port: int, host: str, ca: str) -> None:
        self._port = port
        self._host = host
        self._tls = ssl.create_default_context(cafile=ca)
        self._held: list[socket.socket] = []

    def open(self, address: str) -> None:
        """Open one from *address*, if the relay lets us."""
        plain = socket.socket()
        plain.settimeout(30)
        try:
            plain.bind((address, 0))
            plain.connect(("127.0.0.1", self._port))
            secured = self._tls.wrap_socket(plain, server_hostname=self._host)
        except OSError:
            plain.close()
            return
        kept = socket.socket(fileno=secured.detach())
        kept.setblocking(False)
        self._held.append(kept)

    def held(self) -> int:
        """How many the relay keeps; what it has closed is forgotten."""
        self._held[:] = list(self._living())
        return len(self._held)

    def _living(self) -> Iterator[socket.socket]:
        for kept in self._held:
            with suppress(ConnectionError):
                try:
                    while kept.recv(4096):  # session tickets, or the alert before the end
                        pass
                except BlockingIOError:
                    yield kept
                    continue
            kept.close()


def main() -> None:
    """Open, then answer lines."""
    port, host, ca, count, *addresses = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = Idle(int(port), host, ca)
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(idle.open, addresses * int(count)):
            pass
    print(idle.held(), flush=True)
    for _ in sys.stdin:
        print(idle.held(), flush=True)


if __name__ == "__main__":
    main()
