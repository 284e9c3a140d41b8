"""HTTP/2 from real clients: h2load, curl, Chromium; and from hostile ones, with what the relay's memory makes of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appproxy.http.intake import Code
from tests.fakes.http2 import END_HEADERS, GOAWAY, GREETING, PING, Client, asked, frame, packed
from tests.http.hostile_frames import many, request, reset
from tests.live.chromium import opened
from tests.live.clients import FETCHES, Raw
from tests.live.programs import BIN, Program, free_ports, listens, until
from tests.live.stack import OPEN, Memory, Stack

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.live

REQUESTS, CONNECTIONS, STREAMS = 4000, 8, 32
SIZE = 30_000_000
#: What the relay may grow by while it is attacked, in MiB.
MAX_GROWTH_MIB = 24
ATTACK_SECONDS = 5
INTRANET = """
[[application]]
id = "intranet"
external_url = "https://intranet.localhost:PORT/"
internal_url = "http://127.0.0.1:INTRANET/"
connector_group = "hq"
preauthentication = "passthrough"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything with HTTP/2 on, and the demo's intranet, started once for this module."""
    with Stack(tmp_path_factory.mktemp("http2")) as stack:
        stack.listen_more = "http2 = true"
        [port] = free_ports(1)
        intranet = Program(
            "intranet", [BIN / "python", "-m", "appproxy.demo.intranet", "--port", str(port)], stack.folder
        )
        stack.add(intranet).wait_for(lambda: listens(port), "the intranet listens")
        stack.start(OPEN + INTRANET.replace("INTRANET", str(port)))
        yield stack


def program(name: str, package: str) -> str:
    """A program that a test needs, or the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}; on Debian: apt-get install {package}")
    return found


class Speaker:
    """A client over real TLS that has agreed on HTTP/2."""

    def __init__(self, stack: Stack, address: str = "127.0.0.1") -> None:
        tls = stack.tls()
        tls.set_alpn_protocols(["h2"])
        self.raw = Raw(stack.clients_port, tls, "open.localhost", address=address)
        assert self.raw.socket.selected_alpn_protocol() == "h2"
        self.host = b"open.localhost:%d" % stack.clients_port

    def client(self) -> Client:
        """The library's client on it."""
        return Client(self.raw.send)

    def hears(self, client: Client, happened: Callable[[], object], seconds: float = 20) -> None:
        """Let *client* hear until something *happened*."""
        deadline = time.monotonic() + seconds
        while not happened():
            self.raw.socket.settimeout(max(0.01, deadline - time.monotonic()))
            octets = self.raw.socket.recv(65536)
            assert octets, "closed too early"
            client.hears(octets)


@pytest.mark.feature("HTTP-1")
def test_h2load(stack: Stack) -> None:
    """Thousands of requests, hundreds at a time, not one of which fails."""
    command = [
        program("h2load", "nghttp2-client"), f"--connect-to=127.0.0.1:{stack.clients_port}", f"-n{REQUESTS}",
        f"-c{CONNECTIONS}", f"-m{STREAMS}", stack.address("open", "/bytes/1000"),
    ]  # fmt: skip
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    print(printed)
    assert "Application protocol: h2" in printed
    assert re.search(rf"{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout", printed), printed
    assert re.search(rf"status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx", printed), printed
    until("they are recorded", lambda: stack.access_log.read_text().count("protocol=HTTP/2") >= REQUESTS)


@pytest.mark.feature("HTTP-1", "HTTP-2")
def test_bodies_by_curl(stack: Stack, tmp_path: Path) -> None:
    """C40: megabytes up, and the same down again while they go up, octet for octet."""
    sent, came = tmp_path / "sent", tmp_path / "came"
    sent.write_bytes(os.urandom(SIZE))
    told = subprocess.run(
        [
            program("curl", "curl"), "--silent", "--show-error", "--fail", "--http2", "--cacert", str(stack.authority),
            "--resolve", f"open.localhost:{stack.clients_port}:127.0.0.1", "--max-time", "60",
            "--upload-file", str(sent), "--output", str(came), "--write-out", "%{http_version} %{http_code}",
            stack.address("open", "/mirror"),
        ],
        capture_output=True, text=True, timeout=90, check=True,
    ).stdout  # fmt: skip
    assert told == "2 200"
    assert hashlib.sha256(came.read_bytes()).digest() == hashlib.sha256(sent.read_bytes()).digest()


@pytest.mark.feature("HTTP-1")
def test_http1_is_still_spoken(stack: Stack) -> None:
    """Who offers nothing else is spoken to as ever, on the same port."""
    assert stack.browser().ask(stack.address("open"), fields=FETCHES).status == 200
    tls = stack.tls()
    tls.set_alpn_protocols(["http/1.1"])
    with Raw(stack.clients_port, tls, "open.localhost") as raw:
        assert raw.socket.selected_alpn_protocol() == "http/1.1"


@pytest.mark.feature("HTTP-1", "HTTP-4")
def test_a_browser(stack: Stack, visit: Callable[..., None]) -> None:
    """Chromium comes by HTTP/2, pages, scripts and WebSockets alike."""

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(stack.address("intranet"))
        page.wait_for_selector("#ws-status:has-text('open')")
        page.fill("#ws-text", "hello by HTTP/2")
        page.press("#ws-text", "Enter")
        page.wait_for_selector("#ws-echo:has-text('hello by HTTP/2')")
        assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        resources = page.evaluate("performance.getEntriesByType('resource').map(each => each.nextHopProtocol)")
        assert set(resources) == {"h2"}
        assert page.complaints == []  # type: ignore[attr-defined]

    visit(play)
    until("the WebSocket is recorded", lambda: re.search(r" 101 .* protocol=HTTP/2", stack.access_log.read_text()))


def attack(stack: Stack, octets: bytes, code: Code) -> tuple[int, int]:
    """Send *octets* on connection after connection, for a while; gives connections, and answers meanwhile."""
    deadline = time.monotonic() + ATTACK_SECONDS
    connections = answers = 0
    while time.monotonic() < deadline:
        speaker = Speaker(stack, "127.0.0.3")
        with speaker.raw as raw:
            with suppress(OSError):  # it is closed while we are still sending
                raw.send(GREETING + octets.replace(b"HOST", speaker.host))
            told = raw.rest(10)
        assert not told or code.to_bytes(4, "big") in told[-200:], told[-200:]
        connections += 1
        if connections % 5 == 0:
            assert stack.browser().ask(stack.address("open"), fields=FETCHES).status == 200
            answers += 1
    return connections, answers


@pytest.mark.feature("HTTP-1")
def test_rapid_resets(stack: Stack) -> None:
    """F01, D11: floods of requests that are cancelled at once: memory stays where it was, others are served."""
    assert stack.relay is not None
    assert stack.connector is not None
    head = packed(asked(host=b"open.localhost:%d" % stack.clients_port, path=b"/held/never"))
    flood = many(2000, lambda each: request(each, END_HEADERS | 1, head) + reset(each))
    memory = Memory(relay=stack.relay.pid, connector=stack.connector.pid)
    connections, answers = attack(stack, flood, Code.ENHANCE_YOUR_CALM)
    growth = memory.growth()
    print(f"{connections} connections with 2,000 cancelled requests each, {answers} others, growth in MiB {growth}")
    assert connections > 5
    assert answers
    assert max(growth.values()) < MAX_GROWTH_MIB
    assert stack.relay.text().count("front.broken") == 1


@pytest.mark.feature("HTTP-1")
def test_pings_that_nobody_reads(stack: Stack) -> None:
    """F03, D11: floods of pings whose answers nobody reads."""
    assert stack.relay is not None
    memory = Memory(relay=stack.relay.pid)
    connections, _ = attack(stack, frame(PING, 0, 0, bytes(8)) * 100_000, Code.ENHANCE_YOUR_CALM)
    print(f"{connections} connections, growth in MiB {memory.growth()}")
    assert memory.growth()["relay"] < MAX_GROWTH_MIB


@pytest.mark.feature("HTTP-1", "CON-7")
def test_the_relay_stops(stack: Stack) -> None:
    """A client hears that the relay stops, still gets what it is waiting for, and asks nothing more here."""
    assert stack.relay is not None
    speaker = Speaker(stack)
    client = speaker.client()
    number = client.ask(host=speaker.host, path=b"/held/stop")
    until("the origin has it", lambda: stack.origin.waits("stop"))
    stack.relay.process.send_signal(signal.SIGTERM)
    goodbye = b""
    while not goodbye:
        octets = speaker.raw.socket.recv(65536)
        assert octets, "closed without a word"
        # The library would take a goodbye for the end of everything; a real client reads on.
        before, goodbye, _ = octets.partition(frame(GOAWAY, length=8)[:9])
        client.hears(before)
    stack.origin.open("stop")
    speaker.hears(client, lambda: client.streams[number].ended)
    assert client.streams[number].status == b"200"
    assert speaker.raw.rest() == b""
    stack.relay.process.wait(20)
