"""Applications that speak when they have something to say: event streams, long polls, Socket.IO."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.live.programs import BIN, Program, free_ports, listens
from tests.live.stack import IMPORTABLE, NODE, Stack

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

pytestmark = pytest.mark.live

#: Node asks the system's resolver, which may know no other name of this machine than the first.
APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "chat"
external_url = "https://localhost:PORT/"
internal_url = "http://127.0.0.1:CHAT/"
connector_group = "hq"
preauthentication = "passthrough"
[[application]]
id = "news"
external_url = "https://news.localhost:PORT/"
internal_url = "http://127.0.0.1:NEWS/"
connector_group = "hq"
preauthentication = "passthrough"
"""
#: Whoever has to wait longer waits for something else than the news.
PROMPT_SECONDS = 3.0
LISTENERS = 5


class Deployed(Stack):
    """A deployment, with the origins' ports."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.chat_port, self.news_port = free_ports(2)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Relay and connector, started once for this module."""
    with Deployed(tmp_path_factory.mktemp("realtime")) as stack:
        ports = {"CHAT": stack.chat_port, "NEWS": stack.news_port}
        applications = APPLICATIONS
        for name, port in ports.items():
            applications = applications.replace(name, str(port))
        stack.start(applications)
        yield stack


@pytest.fixture(scope="module")
def news(stack: Deployed) -> Deployed:
    """The same with the news."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install aiohttp")
    arguments = [BIN / "python", "-m", "tests.live.news", str(stack.news_port)]
    program = stack.add(Program("news", arguments, stack.folder, IMPORTABLE))
    program.wait_for(lambda: listens(stack.news_port), "the news listen")
    return stack


@asynccontextmanager
async def session(stack: Deployed) -> AsyncIterator[ClientSession]:
    """A client of aiohttp's for which every name is this machine."""
    from aiohttp import ClientSession, ClientTimeout, TCPConnector, abc

    class Loopback(abc.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

        async def close(self) -> None:
            """Nothing is open."""

    connector = TCPConnector(resolver=Loopback(), ssl=stack.tls(), limit=0)
    timeout = ClientTimeout(total=60)
    async with ClientSession(stack.address("news"), connector=connector, timeout=timeout) as client:
        yield client


def run(stack: Deployed, talk: Callable[[ClientSession], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine with a session, at most for a while."""

    async def within() -> None:
        async with session(stack) as client:
            await talk(client)

    asyncio.run(asyncio.wait_for(within(), 60))


async def event(stream: ClientResponse) -> str:
    """The next event of a stream."""
    lines = await asyncio.wait_for(stream.content.readuntil(b"\n\n"), PROMPT_SECONDS)
    return lines.decode().strip().rpartition("\n")[2]


async def listening(client: ClientSession, expected: int, seconds: float) -> None:
    """Wait until so many listen, and no longer than that."""
    deadline = time.monotonic() + seconds
    while (count := await (await client.get("/listeners")).json()) != expected:
        assert time.monotonic() < deadline, f"{count} listen"
        await asyncio.sleep(0.02)


@pytest.mark.feature("HTTP-4", "HTTP-2")
def test_events(news: Deployed) -> None:
    """Each event has reached every listener before the next is said."""

    async def talk(client: ClientSession) -> None:
        streams = [await client.get("/events") for _ in range(LISTENERS)]
        for stream in streams:
            assert await event(stream) == ": welcome"
        for number in range(20):
            await client.post("/say", data=f"piece {number}")
            for stream in streams:
                assert await event(stream) == f"data: piece {number}"
        for stream in streams:
            stream.close()
        await listening(client, 0, PROMPT_SECONDS)

    run(news, talk)


@pytest.mark.feature("HTTP-2")
def test_listener_leaves(news: Deployed) -> None:
    """C35: an application that has nothing to say hears within a second that its listener went."""

    async def talk(client: ClientSession) -> None:
        streams = [await client.get("/events") for _ in range(LISTENERS)]
        await listening(client, LISTENERS, PROMPT_SECONDS)
        for left in reversed(range(LISTENERS)):
            streams.pop().close()
            await listening(client, left, 1.0)

    run(news, talk)


@pytest.mark.feature("HTTP-4")
def test_long_polls(news: Deployed) -> None:
    """Polls wait while there is nothing, hold nobody else up, and are all answered with the next piece."""

    async def talk(client: ClientSession) -> None:
        await client.post("/say", data="first")
        after = (await (await client.get("/poll?after=0")).json())["after"]
        for number in range(10):
            polls = [asyncio.create_task(client.get(f"/poll?after={after}")) for _ in range(20)]
            await client.get("/listeners")
            assert not any(poll.done() for poll in polls)
            await client.post("/say", data=f"news {number}")
            answers = await asyncio.wait_for(asyncio.gather(*polls), PROMPT_SECONDS)
            after += 1
            for answer in answers:
                assert await answer.json() == {"news": [f"news {number}"], "after": after}

    run(news, talk)


class SocketIO:
    """Socket.IO's own server and client on Node.js."""

    def __init__(self, stack: Deployed) -> None:
        node = shutil.which("node")
        if node is None or not (NODE / "node_modules" / "socket.io").is_dir():
            pytest.skip("no node, or no socket.io in tests/live/node: npm install --no-package-lock")
        self._arguments = [node, str(NODE / "socketio.mjs")]
        self._stack = stack
        self.visits = 0

    def serve(self) -> Program:
        """Start the server."""
        arguments = [*self._arguments, "serve", str(self._stack.chat_port)]
        program = self._stack.add(Program("chat", arguments, self._stack.folder))
        program.wait_for(lambda: listens(self._stack.chat_port), "the chat listens")
        return program

    def visit(self, transports: str) -> Program:
        """Start a client."""
        self.visits += 1
        arguments = [*self._arguments, "visit", f"https://localhost:{self._stack.clients_port}", transports]
        trusting = {"NODE_EXTRA_CA_CERTS": str(self._stack.authority)}
        return self._stack.add(Program(f"visitor-{self.visits}", arguments, self._stack.folder, trusting))


@pytest.fixture(scope="module")
def chat(stack: Deployed) -> SocketIO:
    """The same with Socket.IO's server."""
    chat = SocketIO(stack)
    chat.serve()
    return chat


@pytest.mark.feature("HTTP-4", "SCN-12")
@pytest.mark.parametrize("transports", ["polling,websocket", "polling", "websocket"])
def test_socket_io(chat: SocketIO, transports: str) -> None:
    """Polls, the upgrade from them, WebSockets: texts, octets and floods arrive, and a lost connection comes back."""
    visitor = chat.visit(transports)
    visitor.says("echo after loss still there")
    lines = visitor.text().splitlines()
    first, _, last = transports.partition(",")
    assert lines == [
        f"opened by {first}",
        "connected",
        f"stays with {last or first}",
        "text gr\u00fc\u00df \u0001 \U0001f600",
        "binary true",
        "called everybody",
        "numbers true",
        "lost transport close",
        f"opened by {first}",
        "again",
        "echo after loss still there",
    ]
    visitor.kill()


@pytest.mark.feature("HTTP-4", "CON-3")
def test_socket_io_survives_a_connector(stack: Deployed, chat: SocketIO) -> None:
    """C12: when the connector is killed the client hears of it, and is back as soon as the connector is."""
    visitor = chat.visit("polling,websocket")
    visitor.says("echo after loss")
    losses = visitor.text().count("lost transport")
    assert stack.connector is not None
    stack.connector.kill()
    visitor.wait_for(lambda: visitor.text().count("lost transport") > losses, "the loss is noticed")
    stack.start_connector()
    visitor.wait_for(lambda: visitor.text().count("echo after loss still there") > 1, "the client is back")
    visitor.kill()
