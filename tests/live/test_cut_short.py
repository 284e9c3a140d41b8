"""Halves: downloads whose origin dies, which curl must not take for whole, and uploads that are answered early."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.joined.corpus import body, framed
from tests.joined.exchanges import answer, length
from tests.live.programs import until
from tests.live.stack import Stack

pytestmark = pytest.mark.live

APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "dying"
external_url = "https://dying.localhost:PORT/"
internal_url = "http://127.0.0.1:DYING/"
connector_group = "hq"
preauthentication = "passthrough"
"""
SIZE = 5_000_000
CONTENT = body(SIZE)


class DyingOrigin:
    """Sends half of what it promises, ``/length`` or ``/chunked``, and closes; ``…/reset`` breaks off.

    ``/early`` answers 413 to what it has not read, and then reads it for a while; ``/early/reset`` does not.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                head = connection.makefile("rb").readline().split()[1].decode()
                _, how, *more = head.split("/")
                if how == "early":
                    self._refuse(connection, bool(more))
                    continue
                fields, octets = framed(CONTENT, how)
                connection.sendall(answer(fields=fields, body=octets[: len(octets) // 2]))
                if more:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _refuse(self, connection: socket.socket, leaves: bool) -> None:
        connection.sendall(answer(413, b"Too Much", [length(9)], b"too much!"))
        try:
            while not leaves and connection.recv(1 << 20):
                pass
        except OSError:
            pass

    def close(self) -> None:
        """Accept no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    origin = DyingOrigin()
    with Stack(tmp_path_factory.mktemp("dying")) as stack:
        stack.start(APPLICATIONS.replace("DYING", str(origin.port)))
        yield stack
    origin.close()


@pytest.mark.feature("HTTP-8", "OBS-1")
@pytest.mark.parametrize("path", ["/length", "/chunked", "/length/reset", "/chunked/reset"])
def test_half_a_download(stack: Stack, tmp_path: Path, path: str) -> None:
    """C38, C39: curl fails, what it has is a beginning of the whole, and the log names application and connector."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl; on Debian: apt-get install curl")
    got = tmp_path / "got"
    url = stack.address("dying", path)
    arguments = [curl, "-sS", "--http1.1", "--max-time", "20", "--cacert", stack.authority, "-o", got, url]
    ran = subprocess.run(list(map(str, arguments)), capture_output=True, text=True)
    # 18: partial file; 56: failure in receiving; 92: stream not closed cleanly.
    assert ran.returncode in (18, 56, 92), ran.stderr
    received = got.read_bytes()
    assert len(received) <= SIZE // 2 + 100
    assert CONTENT.startswith(received)
    until("the exchange is logged", lambda: f"GET {path} " in stack.access_log.read_text())
    [line] = [line for line in stack.access_log.read_text().splitlines() if f"GET {path} " in line]
    assert re.search(r' application=dying user=- connector=c-\w+ cause="cut-short origin-broke-off"', line), line


@pytest.mark.feature("HTTP-2")
@pytest.mark.parametrize("path", ["/early", "/early/reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_refused_upload(stack: Stack, path: str, framing: str) -> None:
    """An answer that comes before the body has gone reaches a client that sends all of it before it listens."""
    pieces = [CONTENT] * 4
    browser = stack.browser()
    more = {"Content-Length": str(len(pieces) * SIZE)} if framing == "length" else {}
    refused = browser.ask(stack.address("dying", path), method="PUT", fields=more, body=iter(pieces))  # type: ignore[arg-type]
    assert (refused.status, refused.body) == (413, b"too much!")
