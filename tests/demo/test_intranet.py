"""The intranet in a box, over real sockets on loopback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import treq
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent

from appproxy.demo.intranet import MEGABYTE, Blocks, Digest, make_site


@async_yield_fixture()
async def intranet() -> AsyncIterator[str]:
    """The address of a running intranet."""
    port: Any = reactor.listenTCP(0, make_site(reactor), interface="127.0.0.1")  # type: ignore[attr-defined]
    yield f"http://127.0.0.1:{port.getHost().port}/"
    await port.stopListening()


async def get(url: str, **more: Any) -> Any:
    """One request on a connection of its own."""
    return await treq.get(url, agent=Agent(reactor), **more)


@ensureDeferred
async def test_shows_what_it_was_told(intranet: str) -> None:
    """The page names the user and the forwarding fields, and whatever they hold is text, never markup."""
    answer = await get(intranet, headers={"X-Remote-User": "<script>alice", "X-Forwarded-Proto": "https"})
    page = await answer.text()
    assert '<span id="user">&lt;script&gt;alice</span>' in page
    assert '<th scope="row">X-Forwarded-Proto</th><td>https</td>' in page
    assert "<script>alice" not in page
    assert "default-src 'self'" in answer.headers.getRawHeaders("content-security-policy")[0]


@ensureDeferred
async def test_pages_need_nothing_from_elsewhere(intranet: str) -> None:
    """Style and script come from the intranet itself, under both of its pages."""
    for page in ("", "reports/"):
        assert "//" not in (await (await get(intranet + page)).text()).replace("<!doctype", "")
        for name in ("intranet.css", "intranet.js", "intranet.svg"):
            assert (await get(intranet + page + name)).code == 200


@ensureDeferred
async def test_reports_show_groups(intranet: str) -> None:
    """The second application shows the groups it was told."""
    page = await (await get(intranet + "reports/", headers={"X-Remote-Groups": "finance"})).text()
    assert '<span id="groups">finance</span>' in page


@ensureDeferred
async def test_upload_is_counted_and_hashed(intranet: str) -> None:
    """An upload is answered with its length and SHA-256."""
    body = bytes(range(256)) * 5000
    answer = await treq.put(intranet + "upload", body, agent=Agent(reactor))
    assert json.loads(await answer.content()) == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@ensureDeferred
async def test_download_has_the_length_asked_for(intranet: str) -> None:
    """``?mb=2`` is two million bytes; nonsense is refused."""
    assert len(await (await get(intranet + "download?mb=2")).content()) == 2 * MEGABYTE
    for wrong in ("-1", "x", "100001", "9999999"):
        assert (await get(intranet + "download?mb=" + wrong)).code == 400


class Listener(Protocol):
    """Sends *request* and waits until *awaited* was heard, then hangs up."""

    def __init__(self, request: str, awaited: bytes) -> None:
        self._request = request
        self._awaited = awaited
        self._text = b""
        self.heard: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """Twisted: connected."""
        self.transport.write(self._request.replace("\n", "\r\n").encode())  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Twisted: some bytes."""
        self._text += data
        if self._awaited in self._text and not self.heard.called:
            self.transport.abortConnection()  # type: ignore[union-attr]
            self.heard.callback(self._text)


async def listen(intranet: str, request: str, awaited: bytes) -> bytes:
    """What the intranet says, up to and with *awaited*."""
    port = int(intranet.rsplit(":", 1)[1].rstrip("/"))
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    listener = await connectProtocol(endpoint, Listener(request, awaited))
    return await listener.heard


@ensureDeferred
async def test_clock_writes_at_once(intranet: str) -> None:
    """The first event of the clock comes without waiting for the second."""
    heard = await listen(intranet, "GET /clock HTTP/1.1\nHost: intranet\n\n", b"data: ")
    assert b"text/event-stream" in heard
    assert b"data: open for 0 s" in heard


@ensureDeferred
async def test_echo_answers_an_upgrade(intranet: str) -> None:
    """``/echo`` speaks WebSocket under any host: the handshake of RFC 6455, section 1.3."""
    request = (
        "GET /echo HTTP/1.1\nHost: intranet.localhost:8443\nUpgrade: websocket\nConnection: Upgrade\n"
        "Origin: https://intranet.localhost:8443\n"
        "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n"
    )
    head = await listen(intranet, request, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head


class DigestTest(SynchronousTestCase):
    """Where request bodies go."""

    def test_keeps_nothing(self) -> None:
        """What was written is counted and hashed, and cannot be read back."""
        digest = Digest()
        digest.write(b"ab")
        digest.write(b"c")
        self.assertEqual((digest.tell(), digest.seek(0)), (3, 0))
        self.assertEqual(digest.hexdigest(), hashlib.sha256(b"abc").hexdigest())


class _Asked(StringTransport):
    """A request as far as a producer knows it."""

    finished = False

    def finish(self) -> None:
        self.finished = True


class BlocksTest(SynchronousTestCase):
    """Downloads, written no faster than they are read."""

    def test_writes_when_asked_only(self) -> None:
        """Without being asked nothing is written, and a reader that leaves ends it."""
        request = _Asked()
        blocks = Blocks(request, 10 * MEGABYTE)  # type: ignore[arg-type]
        blocks.start()
        self.assertEqual(len(request.value()), 0)
        blocks.resumeProducing()
        self.assertLess(len(request.value()), MEGABYTE)
        blocks.stopProducing()
        blocks.resumeProducing()
        self.assertLess(len(request.value()), MEGABYTE)

    def test_ends_after_the_last_byte(self) -> None:
        """Exactly the size asked for is written, then the answer ends."""
        request = _Asked()
        blocks = Blocks(request, 100_000)  # type: ignore[arg-type]
        blocks.start()
        while not request.finished:
            blocks.resumeProducing()
        self.assertEqual(len(request.value()), 100_000)
