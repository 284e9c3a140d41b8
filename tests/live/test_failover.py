"""One of two connectors is killed under load: what may be repeated is, elsewhere; nothing else is, ever."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live.programs import until
from tests.live.stack import OPEN, Stack

pytestmark = pytest.mark.live

CLIENTS = 24
#: Requests take connectors in turn, so that each gets some of both.
METHODS = ("GET", "GET", "POST", "POST") * 5
LOAD_SECONDS = 3.0
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


class Client:
    """Asks one request after the other on a kept connection; whatever is wrong with an answer is kept."""

    def __init__(self, stack: Stack, tls: ssl.SSLContext) -> None:
        self._stack = stack
        self._tls = tls
        self.statuses: Counter[int] = Counter()

    async def run(self, number: int, seconds: float) -> None:
        """For so long."""
        end = asyncio.get_running_loop().time() + seconds
        reader, writer = await self._connect()
        count = 0
        while asyncio.get_running_loop().time() < end:
            count += 1
            method = IDEMPOTENT[(number + count) % len(IDEMPOTENT)]
            self.statuses[await self.ask(reader, writer, method, f"/load/{number}-{count}")] += 1
        writer.close()

    async def once(self, method: str, path: str) -> int:
        """One request; returns its status."""
        reader, writer = await self._connect()
        status = await self.ask(reader, writer, method, path)
        writer.close()
        return status

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self._stack.clients_port
        return await asyncio.open_connection("127.0.0.1", port, ssl=self._tls, server_hostname="open.localhost")

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str) -> int:
        """Send a request without a body, read all of its answer."""
        host = f"open.localhost:{self._stack.clients_port}"
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        lengths = [line[16:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if method != "HEAD":
            await reader.readexactly(int(lengths[0]))
        return int(head.split(b" ", 2)[1])


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """A relay with two connectors."""
    return Stack(tmp_path)


@pytest.mark.feature("HTTP-9", "CON-5")
def test_connector_killed_under_load(stack: Stack) -> None:
    """C33, C34: no idempotent request without a body is lost, no POST comes twice, its client is told with 502."""
    with stack, ThreadPoolExecutor(2) as pool:
        stack.start(OPEN)
        first = stack.connector
        assert first is not None
        stack.start_connector(name="second")
        tls, seen = stack.tls(), Counter[str]()
        client = Client(stack, tls)

        async def load() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(client.run(number, LOAD_SECONDS))

        async def held() -> list[int]:
            return await asyncio.gather(*(client.once(method, f"/held/gate?{n}") for n, method in enumerate(METHODS)))

        def came() -> Counter[str]:
            seen.update("{method} {target}".format(**each) for each in stack.origin.requests())
            return Counter({key: count for key, count in seen.items() if "/held/" in key})

        waiting = pool.submit(asyncio.run, held())
        until("all are held at the origin", lambda: len(came()) == len(METHODS))
        loading = pool.submit(asyncio.run, load())
        until("there is load", lambda: client.statuses[200] > 100)
        first.kill()
        loading.result(30)
        until("what was held by the dead one is held again", lambda: max(came().values()) == 2)
        stack.origin.open("gate")
        statuses = waiting.result(30)
        again = {key for key, count in came().items() if count > 1}

    assert set(client.statuses) == {200}, client.statuses
    outcomes = {
        kind: {status for status, method in zip(statuses, METHODS, strict=True) if method == kind} for kind in METHODS
    }
    assert outcomes == {"GET": {200}, "POST": {200, 502}}, statuses
    assert {key.partition(" ")[0] for key in again} == {"GET"}
    assert max(seen.values()) == 2
    assert not [key for key, count in seen.items() if key.startswith("POST") and count > 1]
