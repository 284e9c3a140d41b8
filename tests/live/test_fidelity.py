"""As if direct, with real programs: a part of the corpus of :mod:`tests.joined.corpus` over sockets and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterator, Sequence

import pytest

from tests.joined.corpus import FAMILIES
from tests.joined.exchanges import HOST, Conversation, Step
from tests.joined.reading import Message
from tests.joined.test_fidelity import compare
from tests.joined.worlds import ClientPlayer, OriginPlayer, Seen, direct
from tests.live.programs import free_ports
from tests.live.stack import Stack

pytestmark = pytest.mark.live

APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "app"
external_url = "https://app.example.com:PORT/"
internal_url = "http://127.0.0.1:PLAYED/"
connector_group = "hq"
preauthentication = "passthrough"
"""
#: Every so manieth conversation of each family is played.
STEP = 7
PATIENCE_SECONDS = 10.0


class PlayedOrigin:
    """An origin on a socket that plays the scripts of one conversation at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._scripts: deque[Sequence[Step]] = deque()
        self._players: set[OriginPlayer] = set()
        self._sizes: Sequence[int] = ()
        self._serving: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self.asked: list[Message] = []

    def begin(self, talk: Conversation) -> None:
        """The next conversation."""
        self.asked, self._sizes = [], talk.down
        self._scripts.clear()
        self._scripts.extend(talk.origin)
        for player in self._players:
            player.begin(self.asked, talk.down)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        player = OriginPlayer(self._scripts, self.asked, self._sizes)
        self._players.add(player)
        self._serving[asyncio.current_task()] = writer
        try:
            while not player.closing and (data := await reader.read(65536)):
                player.received(data)
                player.advance()
                while player.saying:
                    writer.write(player.saying.popleft())
                await writer.drain()
            if player.cutting:
                writer.transport.abort()
        except ConnectionError:
            pass
        finally:
            self._players.discard(player)
            del self._serving[asyncio.current_task()]
            writer.close()

    async def close(self) -> None:
        """End all connections."""
        tasks = [task for task in self._serving if task is not None]
        for writer in self._serving.values():
            writer.transport.abort()
        await asyncio.gather(*tasks)


async def through(talk: Conversation, origin: PlayedOrigin, port: int, tls: ssl.SSLContext) -> Seen:
    """Play *talk* through relay and connector."""
    origin.begin(talk)
    client = ClientPlayer(talk)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=HOST.decode())
    seen = Seen(origin.asked, client.reader)
    try:
        while not client.done:
            client.advance()
            while client.saying:
                writer.write(client.saying.popleft())
            if client.done:
                break
            data = await asyncio.wait_for(reader.read(65536), PATIENCE_SECONDS)
            if not data:
                client.reader.close()
                seen.closed = True
                break
            client.reader.feed(data)
    except ConnectionError:
        seen.closed = seen.cut = True
    writer.transport.abort()
    seen.asked = origin.asked
    authority = b"127.0.0.1:%d" % origin.port
    for request in seen.asked:  # its own address is no news
        request.fields = [(name, HOST if value == authority else value) for name, value in request.fields]
    return seen


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Relay and connector, started once for this module."""
    with Stack(tmp_path_factory.mktemp("fidelity")) as stack:
        stack.start_relay()
        yield stack


@pytest.mark.feature("HTTP-2", "HTTP-3")
def test_as_if_direct(stack: Stack) -> None:
    """C38, N19: hundreds of conversations of all kinds come to the same through TLS, channel and sockets."""
    [port] = free_ports(1)
    stack.apply(APPLICATIONS.replace("PLAYED", str(port)))
    stack.start_connector()

    async def play() -> list[str]:
        origin, found = PlayedOrigin(port), []
        server = await asyncio.start_server(origin.connected, "127.0.0.1", port, limit=1 << 20)
        async with server:
            for talk in [talk for family in FAMILIES for talk in list(family())[::STEP]]:
                try:
                    compare(talk, direct(talk), await through(talk, origin, stack.clients_port, stack.tls()))
                except (AssertionError, TimeoutError) as difference:
                    found.append(f"{talk!r}: {type(difference).__name__}: {difference}")
            await origin.close()
        return found

    found = asyncio.run(play())
    assert not found, f"{len(found)}: " + "\n".join(found[:5])
