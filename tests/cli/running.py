"""Commands against a relay's real administration, on a real Unix socket."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import threading
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from types import SimpleNamespace
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from appproxy.cli.command import run
from appproxy.relay.admin import Admin
from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.connectors.authority import Authority, make_authority
from tests.fakes.exchange import FakeExchange
from tests.fakes.memory_store import MemoryStore

NOW = 1_900_000_000
AUTHORITY = Authority.load(make_authority(NOW))

APPS = """
[[connector_group]]
name = "hq"
[[application]]
id = "hr"
name = "HR portal"
external_url = "https://hr.example.com/"
internal_url = "http://hr.corp.local:8080/"
connector_group = "hq"
assigned = { users = ["alice@example.com"], groups = ["hr-staff"] }
[application.timeouts]
connect = "20s"
[application.sso]
mode = "header"
[[application.sso.header]]
name = "X-Remote-User"
value = "user"
"""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def command(*argv: str, environ: dict[str, str] | None = None) -> Ended:
    """Run ``appproxy`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = run(argv, environ or {})
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


class _Connection(BaseHTTPRequestHandler):
    """One call, put to the administration."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fields = [(name.encode(), value.encode()) for name, value in self.headers.items() if name != "Host"]
        exchange = FakeExchange(
            f"http://{self.headers['Host']}{self.path}", method=self.command.encode(), fields=fields, body=body
        )
        Deferred.fromCoroutine(self.server.admin.respond(exchange))  # type: ignore[attr-defined]
        self.send_response(exchange.status)
        for name, value in exchange.fields:
            self.send_header(name.decode(), value.decode())
        self.send_header("Content-Length", str(len(exchange.body)))
        self.end_headers()
        self.wfile.write(exchange.body)

    do_GET = do_POST = do_DELETE = answer

    def address_string(self) -> str:
        """Unix sockets have no address."""
        return "local"

    def log_message(self, *args: Any) -> None:
        """Nothing."""


class CommandTestCase(SynchronousTestCase):
    """A relay with one provider behind ``socket``, its ``store`` and its ``live`` connectors."""

    def setUp(self) -> None:
        # A Unix socket's path has to be short.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.socket = str(self.folder / "admin.sock")
        self.store: Any = MemoryStore()
        self.live = SimpleNamespace(by_connector={})
        server: Any = UnixStreamServer(self.socket, _Connection)
        server.admin = Admin(
            self.store,
            Authorities([AUTHORITY]),
            self.live,
            now=lambda: NOW,
            providers=["entra"],
            own_host="proxy.example.com",
        )
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        self.addCleanup(serving.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

    def relay(self, *argv: str) -> Ended:
        """Run a command on the relay."""
        return command(*argv, "--socket", self.socket)

    def done(self, *argv: str) -> str:
        """Run a command that succeeds; returns what it prints."""
        ended = self.relay(*argv)
        self.assertEqual((ended.code, ended.err), (0, ""), ended)
        return ended.out

    def refused(self, *argv: str) -> str:
        """Run a command that the relay refuses; returns its one line."""
        ended = self.relay(*argv)
        self.assertEqual((ended.code, ended.out), (1, ""), ended)
        self.assertEqual(ended.err.count("\n"), 1, ended.err)
        self.assertTrue(ended.err.startswith("appproxy: "), ended.err)
        return ended.err

    def file(self, name: str, text: str) -> str:
        """A file in the test's folder, readable by its owner only."""
        path = self.folder / name
        path.touch(0o600)
        path.write_text(text)
        return str(path)

    def write(self, function: Any, *args: Any) -> Any:
        """Do something with the relay's store."""
        return self.successResultOf(self.store.write(function, *args))


def as_root() -> bool:
    """Whether file permissions do not hold us."""
    return os.geteuid() == 0
