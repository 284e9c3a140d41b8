"""An origin for the live tests: records what it hears, streams both ways, and waits where it is told to.

``python -m tests.live.origin PORT``.  Paths: ``/held/NAME`` answers when gate NAME is opened, ``/begun/NAME`` begins at
once and ends then; ``/bytes/N``, ``/sink`` (only counts), ``/mirror`` (the body comes back as it arrives), ``/events``
(one every 50 ms), an ``Upgrade`` (raw bytes come back); anything else says as JSON what came.  ``/control/…`` is for
the test alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.request import urlopen

PIECE = bytes(range(256)) * 1024


class OriginControl:
    """What a test asks of the origin at *port*, past the relay."""

    def __init__(self, port: int) -> None:
        self.port = port

    def _ask(self, what: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}/control/{what}", timeout=10) as answer:
            return json.load(answer)

    def requests(self) -> list[dict[str, Any]]:
        """What came since the last time: method, target, fields (pairs)."""
        seen: list[dict[str, Any]] = self._ask("requests")
        return seen

    def open(self, gate: str) -> None:
        """Let go on who waits at *gate*."""
        self._ask(f"open/{gate}")

    def waits(self, gate: str) -> bool:
        """Whether somebody waits there."""
        return bool(self._ask(f"waits/{gate}"))

    def connections(self) -> int:
        """How many connections are open, without this one."""
        return int(self._ask("connections")) - 1


class Gate:
    """Holds requests until the test lets them go on."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0

    async def wait(self) -> None:
        """Until it is opened."""
        self.waiting += 1
        try:
            await self.opened.wait()
        finally:
            self.waiting -= 1


class Origin:
    """All connections of the origin."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.gates: defaultdict[str, Gate] = defaultdict(Gate)
        self.connections = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while await self._serve(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        method, target, _ = lines[0].split(" ")
        fields = [tuple(line.split(": ", 1)) if ": " in line else (line.rstrip(":"), "") for line in lines[1:]]
        known = {name.lower(): value for name, value in fields}
        _, first, *rest = target.partition("?")[0].split("/")
        if first == "control":
            await self._answer(writer, self._control(rest))
            return True
        self.requests.append({"method": method, "target": target, "fields": fields})
        if "upgrade" in known:
            await self._echo(reader, writer, known["upgrade"])
            return False
        body = _body(reader, known)
        if first == "sink":
            count = 0
            async for piece in body:
                count += len(piece)
            await self._answer(writer, {"bytes": count})
        elif first == "bytes":
            await _drain(body)
            await self._bytes(writer, int(rest[0]))
        elif first == "mirror":
            await self._stream(writer, body)
        elif first == "begun":
            await self._stream(writer, self._begun(rest[0]))
        elif first == "events":
            await self._stream(writer, _events())
        else:
            if first == "held":
                await self.gates[rest[0]].wait()
            size, digest = await _drain(body)
            told = {"method": method, "target": target, "fields": fields, "bytes": size, "sha256": digest}
            await self._answer(writer, told)
        return True

    def _control(self, words: list[str]) -> Any:
        match words:
            case ["requests"]:
                seen, self.requests = self.requests, []
                return seen
            case ["open", gate]:
                self.gates.pop(gate, Gate()).opened.set()
            case ["waits", gate]:
                return gate in self.gates and self.gates[gate].waiting
            case ["connections"]:
                return self.connections
        return None

    async def _answer(self, writer: asyncio.StreamWriter, told: Any) -> None:
        body = json.dumps(told).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()

    async def _bytes(self, writer: asyncio.StreamWriter, size: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for start in range(0, size, len(PIECE)):
            writer.write(PIECE[: size - start])
            await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        async for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _begun(self, gate: str) -> AsyncIterator[bytes]:
        yield b"begun "
        await self.gates[gate].wait()
        yield b"ended"

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: str) -> None:
        upgrade = f"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        writer.write(upgrade.encode())
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()


async def _events() -> AsyncIterator[bytes]:
    count = 0
    while True:
        count += 1
        yield b"data: %d\n\n" % count
        await asyncio.sleep(0.05)


async def _body(reader: asyncio.StreamReader, known: dict[str, str]) -> AsyncIterator[bytes]:
    if "transfer-encoding" in known:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return
    left = int(known.get("content-length", 0))
    while left:
        piece = await reader.read(min(left, 1 << 18))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


async def _drain(body: AsyncIterator[bytes]) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    async for piece in body:
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


async def main() -> None:
    """Serve on loopback until killed."""
    server = await asyncio.start_server(Origin().connected, "127.0.0.1", int(sys.argv[1]), limit=1 << 18, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
