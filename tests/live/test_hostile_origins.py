"""Origins that mean harm: whatever octets they answer, no client gets more than a refusal, and others go on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.http.splitting import ANSWER_FAMILIES, ANSWERS, Answer
from tests.live.clients import FETCHES, Raw
from tests.live.stack import OPEN, Stack

pytestmark = pytest.mark.live

APPLICATIONS = (
    OPEN
    + """[[application]]
id = "hostile"
external_url = "https://open.localhost:PORT/hostile/"
internal_url = "http://127.0.0.1:HOSTILE/"
connector_group = "hq"
preauthentication = "passthrough"
"""
)


class HostileOrigin:
    """Answers every request with the octets that the test chose, then says nothing more."""

    def __init__(self) -> None:
        self.octets = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(20)
            try:
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(65536)
                connection.sendall(self.octets)
                while connection.recv(65536):
                    pass
            except OSError:
                return

    def close(self) -> None:
        """Accept no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileOrigin]:
    """The origin, in a thread."""
    origin = HostileOrigin()
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, hostile: HostileOrigin) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("origins")) as stack:
        stack.start(APPLICATIONS.replace("HOSTILE", str(hostile.port)))
        yield stack


@pytest.mark.feature("HTTP-8", "HTTP-2")
@pytest.mark.parametrize("case", [*ANSWERS, *ANSWER_FAMILIES[::9]], ids=lambda case: case.name)
def test_answer(stack: Stack, hostile: HostileOrigin, case: Answer) -> None:
    """What is not strictly HTTP becomes one 502, or a connection cut off; the next answer is its own request's."""
    hostile.octets = case.octets
    with Raw(stack.clients_port, stack.tls(), "open.localhost") as raw:
        raw.send(b"GET /hostile/x HTTP/1.1\r\nHost: open.localhost\r\n\r\n")
        raw.send(b"GET /mine HTTP/1.1\r\nHost: open.localhost\r\nConnection: close\r\n\r\n")
        answered = raw.rest(10)
    first, *others = answered.split(b"HTTP/1.1 ")[1:]
    if first.startswith(b"502 "):
        assert b'"code":"origin-not-http"' in first, first
        assert len(others) == 1
        assert others[0].startswith(b"200 ")
        assert b'"target": "/mine"' in others[0]
    else:  # the head was good, the body was not
        assert others == []
        assert not answered.endswith(b"0\r\n\r\n"), answered
    assert b"Set-Cookie" not in answered
    assert stack.browser().ask(stack.address("open"), fields=FETCHES).status == 200
