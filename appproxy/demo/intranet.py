"""An intranet in a box: the internal web server of the quick start.

``python -m appproxy.demo.intranet --port 8480`` serves, on loopback, a page that shows what the server was told about
the user, a WebSocket echo, a clock of server-sent events, an upload that is counted and hashed but kept nowhere, and
downloads of any size.  ``/reports/`` is a second application for the portal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib import import_module, resources
from io import RawIOBase
from typing import Any

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from jinja2 import Environment, PackageLoader, StrictUndefined
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IPullProducer
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

MEGABYTE = 1_000_000
#: Downloads end somewhere, even those with a slip of the finger in the address.
MAX_DOWNLOAD_MEGABYTES = 100_000
#: Bytes written at once, when the reader has taken the ones before.
BLOCK = bytes(range(256)) * 256
#: Fields by which a server behind a proxy learns whom it talks to.
TOLD = ("host", "forwarded", "via", "client-cert")
TOLD_PREFIXES = ("x-forwarded-", "x-remote-", "x-appproxy-", "remote-")
#: Everything comes from here, and nothing is framed.
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

_pages = Environment(
    loader=PackageLoader("appproxy.demo", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


class Digest(RawIOBase):
    """Where request bodies go: counted and hashed as they come, kept nowhere."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._count = 0

    def write(self, piece: Any) -> int:
        """Take some of the body."""
        self._hash.update(piece)
        self._count += len(piece)
        return len(piece)

    def tell(self) -> int:
        """How many bytes came."""
        return self._count

    def seek(self, _offset: int, _whence: int = 0) -> int:
        """Nothing was kept, so there is nowhere to go."""
        return 0

    def readinto(self, _buffer: Any) -> int:
        """Nothing was kept, so there is nothing to read."""
        return 0

    def hexdigest(self) -> str:
        """SHA-256 of all that came."""
        return self._hash.hexdigest()


class IntranetRequest(Request):
    """A request whose body is not kept."""

    def gotLength(self, length: int | None) -> None:
        """Twisted: the head has come."""
        self.content = Digest()


class Page(Resource):
    """The front page or, with *page* ``"reports"``, the second application's."""

    def __init__(self, page: str, root: str) -> None:
        super().__init__()
        self._page = page
        self._root = root

    def getChild(self, path: bytes, request: Request) -> Resource:
        """Twisted: the page is its own index."""
        return self if path == b"" else super().getChild(path, request)

    def render_GET(self, request: Request) -> bytes:
        """Show the user what this server knows."""
        received = list(_fields(request))
        known = {name.lower(): value for name, value in received}
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        request.setHeader(b"content-security-policy", POLICY.encode())
        request.setHeader(b"cache-control", b"no-store")
        text = _pages.get_template("intranet.html").render(
            title="Reports" if self._page == "reports" else "Intranet",
            page=self._page,
            root=self._root,
            user=known.get("x-remote-user", ""),
            groups=known.get("x-remote-groups", ""),
            told=[(name, value) for name, value in received if _is_told(name)],
            received=received,
        )
        return text.encode()


def _fields(request: Request) -> Iterator[tuple[str, str]]:
    for name, values in request.requestHeaders.getAllRawHeaders():
        for value in values:
            yield name.decode("latin-1"), value.decode("utf-8", "replace")


def _is_told(name: str) -> bool:
    folded = name.lower()
    return folded in TOLD or folded.startswith(TOLD_PREFIXES)


class File(Resource):
    """One of the files beside this module."""

    isLeaf = True

    def __init__(self, name: str, kind: str) -> None:
        super().__init__()
        self._content = resources.files("appproxy.demo").joinpath(name).read_bytes()
        self._kind = kind

    def render_GET(self, request: Request) -> bytes:
        """The file."""
        request.setHeader(b"content-type", self._kind.encode())
        return self._content


class Clock(Resource):
    """Server-sent events: the count of seconds since the page was opened, one event a second."""

    isLeaf = True

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor

    def render_GET(self, request: Request) -> int:
        """Write until the reader is gone."""
        request.setHeader(b"content-type", b"text/event-stream")
        request.setHeader(b"cache-control", b"no-store")
        began = self._reactor.seconds()

        def tick() -> None:
            request.write(b"data: open for %d s\n\n" % round(self._reactor.seconds() - began))

        ticking = LoopingCall(tick)
        ticking.clock = self._reactor
        request.notifyFinish().addErrback(lambda _: ticking.stop())
        ticking.start(1.0)
        return NOT_DONE_YET


class Upload(Resource):
    """Says what came: number of bytes and SHA-256, as JSON."""

    isLeaf = True

    def render_PUT(self, request: Request) -> bytes:
        """The body is the file."""
        digest = request.content
        assert isinstance(digest, Digest)  # made by IntranetRequest
        request.setHeader(b"content-type", b"application/json")
        told = {"bytes": digest.tell(), "sha256": digest.hexdigest()}
        return json.dumps(told).encode() + b"\n"

    render_POST = render_PUT


class Download(Resource):
    """``?mb=N``: N million bytes, written no faster than they are read."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes | int:
        """Begin to write."""
        text = request.args.get(b"mb", [b"10"])[0]
        if not text.isdigit() or len(text) > 6 or int(text) > MAX_DOWNLOAD_MEGABYTES:
            request.setResponseCode(400)
            return b"mb is a number up to %d\n" % MAX_DOWNLOAD_MEGABYTES
        size = int(text) * MEGABYTE
        request.setHeader(b"content-type", b"application/octet-stream")
        request.setHeader(b"content-length", b"%d" % size)
        Blocks(request, size).start()
        return NOT_DONE_YET


@implementer(IPullProducer)
class Blocks:
    """Writes *size* bytes to a request, a block each time the socket has taken the one before."""

    def __init__(self, request: Request, size: int) -> None:
        self._request = request
        self._left = size

    def start(self) -> None:
        """Begin; the socket asks from now on."""
        self._request.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Twisted: there is room."""
        piece = BLOCK[: self._left]
        self._left -= len(piece)
        if piece:
            self._request.write(piece)
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        """Twisted: the reader is gone."""
        self._left = 0


class Echo(WebSocketServerProtocol):
    """Sends back what it hears."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Autobahn: a message has come."""
        self.sendMessage(payload, isBinary)


def make_site(reactor: Any) -> Site:
    """The whole intranet."""
    root = Page("home", "./")
    reports = Page("reports", "./")
    echo = WebSocketServerFactory(reactor=reactor)
    echo.protocol = Echo
    children: dict[bytes, Any] = {
        b"echo": WebSocketResource(echo),
        b"clock": Clock(reactor),
        b"upload": Upload(),
        b"download": Download(),
        b"reports": reports,
    }
    files: dict[bytes, Any] = {
        b"intranet.css": File("intranet.css", "text/css; charset=utf-8"),
        b"intranet.js": File("intranet.js", "text/javascript; charset=utf-8"),
        b"intranet.svg": File("intranet.svg", "image/svg+xml"),
    }
    for name, child in (children | files).items():
        root.putChild(name, child)
    for name, child in files.items():
        reports.putChild(name, child)
    site = Site(root, requestFactory=IntranetRequest, reactor=reactor, parsePOSTFormSubmission=False)
    site.displayTracebacks = False
    return site


def main(argv: Sequence[str] | None = None) -> None:
    """Serve on loopback until stopped."""
    parser = argparse.ArgumentParser(prog="python -m appproxy.demo.intranet", description="An intranet in a box.")
    parser.add_argument("--port", type=int, default=8480)
    port = parser.parse_args(argv).port
    reactor: Any = import_module("twisted.internet.reactor")
    try:
        listening = reactor.listenTCP(port, make_site(reactor), interface="127.0.0.1")
    except CannotListenError:
        raise SystemExit(f"intranet: port {port} of 127.0.0.1 is taken; choose another with --port") from None
    print(f"intranet at http://127.0.0.1:{listening.getHost().port}/", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
