"""Line-of-business applications that know only their internal names, used from outside."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
import time
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

import pytest

from tests.live.clients import FETCHES, Answer, Raw
from tests.live.stack import Memory, Stack

pytestmark = pytest.mark.live

#: The orders are below another path outside; the wiki is an application of its own; its bodies stay as they are.
APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "orders"
external_url = "https://apps.localhost:PORT/orders/"
internal_url = "http://127.0.0.1:INSIDE/app/"
connector_group = "hq"
preauthentication = "passthrough"
translate = { bodies = true }
[[application]]
id = "wiki"
external_url = "https://wiki.localhost:PORT/"
internal_url = "http://127.0.0.1:INSIDE/wiki/"
connector_group = "hq"
preauthentication = "passthrough"
"""
PAGE = """<!doctype html><html><head><meta charset="utf-8">
<link rel="stylesheet" href="http://INTERNAL/app/style.css">
<script src="//INTERNAL/app/script.js"></script></head><body data-api="http://INTERNAL/app/api">
<a href="http://INTERNAL/app/orders?id=1&amp;x=2#top">orders</a> <a href='/app/customers'>customers</a>
<a href=http://INTERNAL/wiki/Help>help</a> <a href="relative/page">relative</a>
<form action="http://INTERNAL/app/login" method="post"><input name="return" value="http://INTERNAL/app/"></form>
<img srcset="/app/a.png 1x, http://INTERNAL/app/b.png 2x"> <a href="http://INTERNAL.evil.test/app/">look-alike</a>
<a href="https://login.example/?return=http%3A%2F%2FESCAPED%2Fapp%2F">sign in</a></body></html>"""
OTHERS = {
    "/app/style.css": ("text/css", '@import "http://INTERNAL/app/more.css"; p { background: url(/app/p.png) }'),
    "/app/script.js": ("text/javascript; charset=utf-8", 'const api = "http:\\/\\/INTERNAL\\/app\\/api";'),
    "/app/api": (
        "application/json",
        '{"next":"http:\\/\\/INTERNAL\\/app\\/orders","help":"http://INTERNAL/wiki/Help"}',
    ),
    "/app/feed": ("application/atom+xml", "<feed><id>http://INTERNAL/app/orders</id></feed>"),
}
ZEROS = bytes(1 << 20)


class Inside(BaseHTTPRequestHandler):
    """Everything that is inside, with absolute links to its own name; gzip where it is taken."""

    protocol_version = "HTTP/1.1"
    #: What came, as ``METHOD target``.
    heard: list[str] = []

    @property
    def name(self) -> str:
        """Host and port as the inside knows them."""
        return f"127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        """Pages, streams and bombs."""
        self.heard.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        name = self.name
        if path == "/app/events":
            self._stream(
                "text/event-stream", (b"data: http://%b/app/%d\n\n" % (name.encode(), n) for n in range(3)), 0.5
            )
        elif path == "/app/long":
            line = b'<a href="http://%b/app/x">line</a>\n' % name.encode() * 1000
            self._stream("text/html", (line for _ in range(1000)), 0)
        elif path == "/app/bomb":
            self._stream("text/html", _bomb(), 0, ("Content-Encoding", "gzip"))
        elif path == "/app/archive.zip":
            self._answer("application/zip", f"PK http://{name}/app/".encode() * 1000)
        else:
            kind, text = OTHERS.get(path, ("text/html", PAGE))
            text = text.replace("INTERNAL", name).replace("ESCAPED", name.replace(":", "%3A"))
            self._answer(kind, text.encode())

    def do_POST(self) -> None:
        """A form was sent: on to another page."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append(f"{self.command} {self.path}")
        self.send_response(303)
        self.send_header("Location", f"http://{self.name}/app/start")
        self.send_header("Set-Cookie", "session=1; Path=/app/; HttpOnly")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()[:8]}"')
        if "gzip" in self.headers.get("Accept-Encoding", "") and not kind.endswith("zip"):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, kind: str, pieces: Iterator[bytes], pause: float, *more: tuple[str, str]) -> None:
        self.send_response(200)
        for name, value in (("Content-Type", kind), ("Transfer-Encoding", "chunked"), *more):
            self.send_header(name, value)
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                time.sleep(pause)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


def _bomb() -> Iterator[bytes]:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(500):
        yield deflate.compress(ZEROS) or deflate.flush(zlib.Z_SYNC_FLUSH)
    yield deflate.flush()


@pytest.fixture(scope="module")
def inside() -> Iterator[ThreadingHTTPServer]:
    """The origin of both applications."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Inside)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # connections that are cut are meant to be
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, inside: ThreadingHTTPServer) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("translation")) as stack:
        stack.start(APPLICATIONS.replace("INSIDE", str(inside.server_port)))
        yield stack


class Links(HTMLParser):
    """The addresses of a page, read as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Keep what leads somewhere."""
        for name, value in attributes:
            if name in ("href", "src", "action", "data-api") and value:
                self.found.append(value)
            elif name == "srcset" and value:
                self.found += [source.split()[0] for source in value.split(",")]


def ask(stack: Stack, path: str, accept: str = "gzip, deflate, br, zstd") -> Answer:
    """One request to the orders, with the body as it was before it was compressed."""
    address = f"https://apps.localhost:{stack.clients_port}{path}"
    answer = stack.browser().ask(address, fields={**FETCHES, "Accept-Encoding": accept})
    if answer.value("Content-Encoding") == "gzip":
        return answer._replace(body=gzip.decompress(answer.body))
    return answer


@pytest.mark.feature("SCN-12", "TRN-2")
@pytest.mark.parametrize("accept", ["gzip, deflate, br, zstd", "identity"])
def test_a_page_and_all_that_it_leads_to(stack: Stack, inside: ThreadingHTTPServer, accept: str) -> None:
    """Every link of a page with absolute internal links can be followed from outside; look-alikes stay."""
    page = ask(stack, "/orders/start", accept)
    outside, wiki = (
        f"https://apps.localhost:{stack.clients_port}/orders/",
        f"https://wiki.localhost:{stack.clients_port}/",
    )
    assert page.value("ETag").startswith('W/"')
    links = [urljoin(page.url, link) for link in Links(page.text).found]
    evil = f"http://127.0.0.1:{inside.server_port}.evil.test/app/"
    assert links.count(evil) == 1
    escaped = outside.replace(":", "%3A").replace("/", "%2F")
    assert f"https://login.example/?return={escaped}" in links
    followed = [link for link in links if link != evil and not link.startswith("https://login.example/")]
    assert len(followed) == 10
    assert all(link.startswith((outside, wiki)) for link in followed), followed
    for link in followed:
        assert stack.browser().ask(link, fields={**FETCHES, "Accept-Encoding": accept}).status == 200
    assert page.text.count("127.0.0.1") == 2
    assert f'value="http://127.0.0.1:{inside.server_port}/app/"' in page.text  # goes back to the origin
    assert "GET /app/orders?id=1&x=2" in Inside.heard
    assert "GET /wiki/Help" in Inside.heard


@pytest.mark.feature("SCN-12", "TRN-2")
def test_style_sheets_scripts_data_and_feeds(stack: Stack) -> None:
    """Other text is translated by its type, archives never."""
    for path in OTHERS:
        answer = ask(stack, path.replace("/app/", "/orders/"))
        text = answer.text.replace("\\/", "/")
        assert "127.0.0.1" not in text
        assert "/app/" not in text
        assert f"https://apps.localhost:{stack.clients_port}/orders/" in text
    archive = ask(stack, "/orders/archive.zip")
    assert b"127.0.0.1" in archive.body
    assert archive.value("ETag").startswith('"')
    assert archive.value("Content-Length") == str(len(archive.body))


@pytest.mark.feature("SCN-12", "TRN-1")
def test_a_form_is_sent(stack: Stack) -> None:
    """S10, L13: redirect and cookie lead outside, like the page's links."""
    address = f"https://apps.localhost:{stack.clients_port}/orders/login"
    answer = stack.browser().ask(address, method="POST", body=b"user=alice", fields=FETCHES)
    assert answer.status == 303
    assert answer.value("Location") == f"https://apps.localhost:{stack.clients_port}/orders/start"
    assert answer.value("Set-Cookie") == "session=1; Path=/orders/; HttpOnly"


@pytest.mark.feature("TRN-2")
def test_events_come_when_they_happen(stack: Stack) -> None:
    """L10: the first within a second, translated; the origin takes half a second for each."""
    with Raw(stack.clients_port, stack.tls(), "apps.localhost") as raw:
        began = time.monotonic()
        raw.send(b"GET /orders/events HTTP/1.1\r\nHost: apps.localhost:%d\r\n\r\n" % stack.clients_port)
        heard = raw.until(b"/orders/0\n\n")
        assert time.monotonic() - began < 0.9
        assert b"127.0.0.1" not in heard
        raw.until(b"/orders/2\n\n")
        assert time.monotonic() - began > 0.9


@pytest.mark.feature("TRN-2")
def test_memory_stays_flat(stack: Stack) -> None:
    """L01, L10: 36 MB of links stream through; a bomb of 500 MB is cut; neither is ever held."""
    assert stack.connector is not None
    memory = Memory(connector=stack.connector.pid)
    answer = ask(stack, "/orders/long", "identity")
    assert re.fullmatch(rb'(?:<a href="https://apps.localhost:\d+/orders/x">line</a>\n){1000000}', answer.body)
    with Raw(stack.clients_port, stack.tls(), "apps.localhost") as raw:
        raw.send(
            b"GET /orders/bomb HTTP/1.1\r\nHost: apps.localhost:%d\r\nAccept-Encoding: gzip\r\n\r\n"
            % stack.clients_port
        )
        answered = raw.rest(30)
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert not answered.endswith(b"0\r\n\r\n")
    assert len(answered) < 1 << 20
    assert memory.growth()["connector"] < 24
    assert ask(stack, "/orders/start").status == 200
