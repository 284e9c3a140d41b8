"""WebSocket by the ``websockets`` library at both ends: what is the ends' business is not the proxy's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.live.programs import BIN, Program, free_ports, listens, until
from tests.live.stack import IMPORTABLE, Stack

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

pytest.importorskip("websockets", reason="websockets is not installed: pip install websockets")
pytestmark = pytest.mark.live

MEBIBYTE = 1 << 20
APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "sockets"
external_url = "https://sockets.localhost:PORT/ws/"
internal_url = "http://127.0.0.1:SOCKETS/"
connector_group = "hq"
preauthentication = "passthrough"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    [port] = free_ports(1)
    with Stack(tmp_path_factory.mktemp("websockets")) as stack:
        program = Program("sockets", [BIN / "python", "-m", "tests.live.sockets", str(port)], stack.folder, IMPORTABLE)
        stack.add(program).wait_for(lambda: listens(port), "the WebSocket server listens")
        stack.start(APPLICATIONS.replace("SOCKETS", str(port)))
        yield stack


@asynccontextmanager
async def connected(stack: Stack, path: str, **more: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket through everything."""
    from websockets.asyncio.client import connect

    url = f"wss://sockets.localhost:{stack.clients_port}/ws/{path}"
    more = {"max_size": 32 * MEBIBYTE, **more}
    async with connect(url, ssl=stack.tls(), host="127.0.0.1", port=stack.clients_port, **more) as socket:
        yield socket


def run(talk: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine, at most for a while."""
    return asyncio.run(asyncio.wait_for(talk(), 60))


@pytest.mark.feature("HTTP-4")
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 3000, 4000, 4999])
def test_close_codes(stack: Stack, code: int) -> None:
    """W05: whoever closes, the other one hears code and reason; nothing is made up on the way."""

    async def talk() -> None:
        async with connected(stack, f"close/{code}/be%20well%20%C3%BC") as socket:
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (code, "be well \u00fc")
        async with connected(stack, "echo") as socket:
            await socket.close(code, f"client {code}")
        deadline = asyncio.get_running_loop().time() + 5
        told = None
        while told != [code, f"client {code}"]:
            assert asyncio.get_running_loop().time() < deadline, told
            async with connected(stack, "told") as socket:
                told = json.loads(await socket.recv())

    run(talk)


@pytest.mark.feature("HTTP-4")
def test_connection_cut(stack: Stack) -> None:
    """W05, C38: a server that dies without closing is a broken connection for the client, no clean close."""

    async def talk() -> None:
        async with connected(stack, "cut") as socket:
            await asyncio.wait_for(socket.wait_closed(), 5)
            assert socket.close_code == 1006

    run(talk)


@pytest.mark.feature("HTTP-4")
@pytest.mark.parametrize("compression", ["deflate", None])
def test_fragments(stack: Stack, compression: str | None) -> None:
    """W05: fragments come one by one, each before the next is sent, and stay fragments."""

    async def talk() -> None:
        async with connected(stack, "fragments", compression=compression) as socket:
            for kind, size in ((str, 1), (bytes, 5), (str, 40)):
                sent = [f"piece {number} " * 3 for number in range(size)]
                come: asyncio.Queue[Any] = asyncio.Queue()

                async def pieces(sent: list[str] = sent, kind: type = kind, come: asyncio.Queue[Any] = come) -> Any:
                    for piece in sent:
                        yield piece if kind is str else piece.encode()
                        back = await asyncio.wait_for(come.get(), 10)
                        assert back == (piece if kind is str else piece.encode())

                async def receive(come: asyncio.Queue[Any] = come) -> None:
                    async for piece in socket.recv_streaming():
                        if piece:
                            await come.put(piece)

                receiving = asyncio.create_task(receive())
                await socket.send(pieces())
                await receiving

    run(talk)


@pytest.mark.feature("HTTP-4")
def test_ping(stack: Stack) -> None:
    """W05: pings of either end are answered by the other end, payload and all."""

    async def talk() -> None:
        async with connected(stack, "ping") as socket:
            assert await socket.recv() == "answered"
        async with connected(stack, "echo") as socket:
            waiting = [await socket.ping(b"%d" % number) for number in range(50)]
            await asyncio.gather(*waiting)
            await socket.send("still open")
            assert await socket.recv() == "still open"

    run(talk)


@pytest.mark.feature("HTTP-4", "SCN-8")
@pytest.mark.parametrize("compression", ["deflate", None])
def test_large_messages(stack: Stack, compression: str | None) -> None:
    """Messages of 16 MiB come back as they were sent, compressed by the ends or not."""
    message = random.Random(3).randbytes(MEBIBYTE) * 16

    async def talk() -> None:
        async with connected(stack, "echo", compression=compression) as socket:
            await socket.send(message)
            back = await socket.recv()
            assert hashlib.sha256(back).digest() == hashlib.sha256(message).digest()
            await socket.send("x" * 16 * MEBIBYTE)
            assert len(await socket.recv()) == 16 * MEBIBYTE

    run(talk)


@pytest.mark.feature("HTTP-4")
def test_compression_is_the_ends(stack: Stack) -> None:
    """W04: the extension and its parameters are what the ends agree on, and compressed octets stay compressed."""

    async def talk() -> Any:
        async with connected(stack, "echo/compressed") as socket:
            [extension] = socket.protocol.extensions
            await socket.send("again and " * MEBIBYTE)
            assert len(await socket.recv()) == 10 * MEBIBYTE
            return extension

    extension = run(talk)
    assert (extension.remote_max_window_bits, extension.local_max_window_bits) == (11, 12)
    until("the exchange is logged", lambda: "/ws/echo/compressed" in stack.access_log.read_text())
    [line] = [line for line in stack.access_log.read_text().splitlines() if "echo/compressed" in line]
    moved = {
        key: int(value) for key, _, value in (word.partition("=") for word in line.split()) if key in ("up", "down")
    }
    assert max(moved.values()) < 100_000, line


@pytest.mark.feature("HTTP-4")
def test_handshake(stack: Stack) -> None:
    """W04: the server chooses the subprotocol, and its cookies come with the handshake."""

    async def talk() -> None:
        async with connected(stack, "echo", subprotocols=["chat.v1", "chat.v2"]) as socket:
            assert socket.subprotocol == "chat.v2"
            assert socket.response is not None
            assert socket.response.headers.get_all("Set-Cookie") == ["first=1; Path=/ws/", "second=2; HttpOnly"]
        async with connected(stack, "echo", compression=None) as socket:
            assert socket.subprotocol is None
            assert socket.response is not None
            assert "Sec-WebSocket-Extensions" not in socket.response.headers

    run(talk)


@pytest.mark.feature("HTTP-4")
def test_refusal(stack: Stack) -> None:
    """A handshake that the server refuses is its answer, whole."""
    from websockets.exceptions import InvalidStatus

    async def talk() -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with connected(stack, "refused"):
                pass
        response = refused.value.response
        assert (response.status_code, response.body) == (418, b"no, sir!")
        assert response.headers["X-Why"] == "full moon"
        assert response.headers["Set-Cookie"] == "refused=1"

    run(talk)
