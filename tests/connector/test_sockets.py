"""A connector and raw origins on real sockets: what only they can show."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from appproxy.connector.assignments import Assignments
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.origin import Origins
from appproxy.connector.serve import Serving
from appproxy.net.dial import dial
from appproxy.wire.frames import Code
from tests.connector.rig import head_of
from tests.fakes.certificates import Authority
from tests.fakes.channels import Pair, RecordingReceiver
from tests.net.kit import until

pytestmark = pytest.mark.live

Script = Callable[[socket.socket], None]


class RawOrigin:
    """Accepts connections one by one and does with each what a script says, in a thread of its own."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(20)
        self.port = self._listening.getsockname()[1]
        self.problems: list[BaseException] = []
        self._thread: Thread | None = None

    def play(self, *scripts: Script) -> None:
        """One script for each connection."""

        def run() -> None:
            try:
                for script in scripts:
                    connected, _ = self._listening.accept()
                    connected.settimeout(10)
                    with connected:
                        script(connected)
            except BaseException as problem:
                self.problems.append(problem)

        self._thread = Thread(target=run)
        self._thread.start()

    def close(self) -> None:
        self._listening.close()
        if self._thread is not None:
            self._thread.join(20)
        assert not self.problems, self.problems


def read_until(connected: socket.socket, end: bytes) -> bytes:
    """What came, up to *end*."""
    heard = b""
    while not heard.endswith(end):
        piece = connected.recv(65536)
        if not piece:
            raise AssertionError(f"the end came after {heard[-200:]!r}")
        heard += piece
    return heard


class RealRig:
    """A channel in memory whose connector dials real origins."""

    def __init__(self, internal_url: str, **application: Any) -> None:
        self.pair = Pair(self)
        self.deadlines = Deadlines(reactor)
        self.assignments = Assignments(self.dial, self.deadlines)
        refused = self.assignments.replace(
            1,
            [
                {
                    "id": "hr",
                    "external_url": "https://hr.example.com/",
                    "internal_url": internal_url,
                    "connector_group": "hq",
                    **application,
                }
            ],
        )
        assert not refused, refused
        self.causes: list[str] = []
        self.serving = Serving(
            self.assignments, Origins(reactor), reactor, self.deadlines, lambda *record: self.causes.append(record[-1])
        )

    def stream_opened(self, *arguments: Any) -> None:
        self.serving.stream_opened(*arguments)

    def channel_lost(self, channel: Any) -> None:
        self.serving.channel_lost(channel)

    def dial(self, *arguments: Any) -> Any:
        return dial(reactor, *arguments)

    def ask(self, *fields: tuple[bytes, bytes], method: bytes = b"GET", **how: bool) -> RecordingReceiver:
        head = head_of(method, b"/x", (b"Host", b"hr.example.com"), *fields)
        receiver = RecordingReceiver()
        receiver.stream = self.pair.relay.open(head, receiver, how.get("end", True), how.get("upgrade", False))
        self.pair.run()
        return receiver

    async def until(self, true: Callable[[], object]) -> None:
        def look() -> object:
            self.pair.run()
            return true()

        await until(look)

    def close(self) -> None:
        self.assignments.close()
        self.deadlines.stop()


@pytest.fixture
def origin() -> Iterator[RawOrigin]:
    """A raw origin."""
    raw = RawOrigin()
    yield raw
    raw.close()


@pytest.fixture
def rig(origin: RawOrigin) -> Iterator[RealRig]:
    """A connector that serves it."""
    real = RealRig(f"http://127.0.0.1:{origin.port}/")
    yield real
    real.close()


@pytest_twisted.ensureDeferred
async def test_early_hints_trailers_and_keep_alive(rig: RealRig, origin: RawOrigin) -> None:
    """1xx, chunks, trailers, and the same connection for the next request."""

    def script(connected: socket.socket) -> None:
        read_until(connected, b"\r\n\r\n")
        connected.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        connected.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
        connected.sendall(b"lo\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert read_until(connected, b"0\r\nX-Up: 2\r\n\r\n").startswith(b"POST /x HTTP/1.1\r\n")
        connected.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    origin.play(script)
    first = rig.ask()
    await rig.until(lambda: first.ended)
    assert [head[0].status for head in first.heads] == [103, 200]
    assert (first.data, first.trailers) == (b"hello", [(b"X-Sum", b"1")])
    second = rig.ask(method=b"POST", end=False)
    assert second.stream is not None
    second.stream.write(b"body")
    second.stream.finish([(b"X-Up", b"2")])
    await rig.until(lambda: second.ended)
    assert second.heads[0][0].status == 204


@pytest_twisted.ensureDeferred
async def test_an_answer_may_come_before_its_request_is_complete(rig: RealRig, origin: RawOrigin) -> None:
    """HTTP-2: the whole of it, while the upload goes on."""

    def script(connected: socket.socket) -> None:
        read_until(connected, b"4\r\nfirs\r\n")
        connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        read_until(connected, b"0\r\n\r\n")
        arrived.set()

    arrived = Event()
    origin.play(script)
    asking = rig.ask(method=b"POST", end=False)
    stream = asking.stream
    assert stream is not None
    stream.write(b"firs")
    await rig.until(lambda: asking.ended)
    assert (asking.heads[0][0].status, asking.data) == (200, b"ok")
    for _ in range(10):
        stream.write(b"x" * 100_000)
        rig.pair.run()
    stream.finish()
    await rig.until(arrived.is_set)
    assert (stream.closed, asking.resets) == (True, [])


@pytest_twisted.ensureDeferred
async def test_an_upgrade_with_half_close_both_ways(rig: RealRig, origin: RawOrigin) -> None:
    """HTTP-4: FIN is passed as the end of one direction only."""

    def script(connected: socket.socket) -> None:
        read_until(connected, b"\r\n\r\n")
        connected.sendall(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello")
        heard = b""
        while piece := connected.recv(65536):
            heard += piece
        connected.sendall(b"%d bytes" % len(heard))
        connected.shutdown(socket.SHUT_WR)

    origin.play(script)
    asking = rig.ask((b"Upgrade", b"echo"), end=False, upgrade=True)
    await rig.until(lambda: asking.data == b"hello")
    assert asking.stream is not None
    asking.stream.write(b"x" * 1_000_000)
    asking.stream.finish()
    await rig.until(lambda: asking.ended)
    assert (asking.data, asking.resets) == (b"hello1000000 bytes", [])
    await rig.until(lambda: rig.causes)
    assert rig.causes == [""]


@pytest.mark.parametrize("how", ["close-delimited", "truncated", "reset"])
@pytest_twisted.ensureDeferred
async def test_how_bodies_end(rig: RealRig, origin: RawOrigin, how: str) -> None:
    """C38: a closed connection ends some bodies and cuts others short."""

    def script(connected: socket.socket) -> None:
        read_until(connected, b"\r\n\r\n")
        length = b"" if how == "close-delimited" else b"Content-Length: 10\r\n"
        connected.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\nhalf")
        if how == "reset":
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    origin.play(script)
    asking = rig.ask()
    await rig.until(lambda: asking.ended or asking.resets)
    if how == "close-delimited":
        assert (asking.data, asking.ended) == (b"half", True)
    else:
        assert asking.resets[0][0] == Code.ORIGIN_BROKE_OFF


@pytest_twisted.ensureDeferred
async def test_a_large_download_waits_for_its_reader(rig: RealRig, origin: RawOrigin) -> None:
    """C09: the origin's socket fills up; nothing is held here; then all of it arrives in order."""
    block = bytes(range(256)) * 4096

    def script(connected: socket.socket) -> None:
        read_until(connected, b"\r\n\r\n")
        connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(block) * 16))
        for _ in range(16):
            connected.sendall(block)

    origin.play(script)
    asking = rig.ask()
    asking.greedy = False
    await rig.until(lambda: len(asking.data) >= 256 * 1024)
    for _ in range(50):
        await rig.until(lambda: True)
    stream = asking.stream
    assert stream is not None
    assert len(asking.data) == 256 * 1024
    asking.greedy = True
    stream.consumed(len(asking.data))
    await rig.until(lambda: asking.ended)
    assert asking.data == block * 16


@pytest_twisted.ensureDeferred
async def test_an_https_origin_is_verified(origin: RawOrigin, tmp_path: Path) -> None:
    """By the application's authority and the origin's name; without it the request fails as TLS."""
    authority = Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.write(tmp_path / "origin.pem", "127.0.0.1"))
    (tmp_path / "ca.pem").write_text(authority.pem)

    def script(connected: socket.socket) -> None:
        with context.wrap_socket(connected, server_side=True) as secured:
            read_until(secured, b"\r\n\r\n")
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            secured.recv(1)

    def refused(connected: socket.socket) -> None:
        with pytest.raises(OSError, match=r"."):
            context.wrap_socket(connected, server_side=True).recv(1)

    origin.play(script, refused)
    url = f"https://127.0.0.1:{origin.port}/"
    trusting = RealRig(url, origin={"ca_file": str(tmp_path / "ca.pem")})
    asking = trusting.ask()
    await trusting.until(lambda: asking.ended)
    trusting.close()
    doubting = RealRig(url)
    asking = doubting.ask()
    await doubting.until(lambda: asking.resets)
    assert asking.resets[0][0] == Code.TLS
    doubting.close()


@pytest_twisted.ensureDeferred
async def test_a_port_where_nobody_listens(origin: RawOrigin) -> None:
    """Told as such, at once."""
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    rig = RealRig(f"http://127.0.0.1:{port}/")
    asking = rig.ask()
    await rig.until(lambda: asking.resets)
    assert asking.resets[0][0] == Code.CONNECT
    rig.close()
