"""The relay behind a balancer that speaks the PROXY protocol, or that has ended TLS and speaks for its clients."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.live.clients import Raw
from tests.live.programs import until
from tests.live.stack import OPEN, Stack

pytestmark = pytest.mark.live

LISTEN = """
trusted_proxies = ["127.0.0.1/32"]
proxy_protocol = true
"""
GET = "GET /x HTTP/1.1\r\nHost: open.localhost\r\nConnection: close\r\n{}\r\n"
FIRST = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n"
ADDRESSES = socket.inet_aton("192.0.2.8") + bytes(4) + struct.pack("!HH", 50000, 443)
SECOND = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, len(ADDRESSES)) + ADDRESSES
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("balancer")) as stack:
        stack.listen_more = LISTEN
        stack.start(OPEN)
        yield stack


def asked(stack: Stack, preface: bytes, fields: str = "") -> dict[str, str]:
    """What the origin hears of a request that the balancer introduces with *preface*."""
    with Raw(stack.clients_port, None, "") as raw:
        raw.send(preface)
        raw.socket = stack.tls().wrap_socket(raw.socket, server_hostname="open.localhost")
        raw.send(GET.format(fields).encode())
        head, _, body = raw.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return {name.lower(): value for name, value in json.loads(body)["fields"]}


@pytest.mark.feature("HTTP-3")
@pytest.mark.parametrize(("preface", "client"), [(FIRST, "192.0.2.7"), (SECOND, "192.0.2.8"), (LOCAL, "127.0.0.1")])
def test_proxy_protocol(stack: Stack, preface: bytes, client: str) -> None:
    """The client that the balancer names is the one that origins and logs hear of; its own words are not believed."""
    spoofed = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n" if client != "127.0.0.1" else ""
    heard = asked(stack, preface, spoofed)
    assert heard["x-forwarded-for"] == client
    assert heard["forwarded"] == f'for={client};host="open.localhost";proto=https'
    until("the record is written", lambda: f" {client} " in stack.access_log.read_text())


@pytest.mark.feature("HTTP-3")
def test_balancer_that_speaks_for_clients(stack: Stack) -> None:
    """H10: a trusted proxy's own request says for whom it is; the right-most stranger is the client."""
    heard = asked(stack, LOCAL, "X-Forwarded-For: 6.6.6.6, 198.51.100.9, 127.0.0.1\r\nForwarded: for=6.6.6.6\r\n")
    assert heard["x-forwarded-for"] == "198.51.100.9"
    assert "6.6.6.6" not in json.dumps(heard)


@pytest.mark.feature("HTTP-3")
def test_strangers_and_silence(stack: Stack) -> None:
    """N12: nobody else is let in by a preface, and without one there is no TLS."""
    with Raw(stack.clients_port, None, "", address="127.0.0.2") as stranger:
        with suppress(ConnectionError):
            stranger.send(FIRST)
        assert stranger.rest(5) == b""
    with pytest.raises(OSError):  # noqa: PT011 - a reset, an end of file or a broken handshake
        Raw(stack.clients_port, stack.tls(), "open.localhost")
    assert stack.relay is not None
    stack.relay.says("net.refused")
    assert asked(stack, FIRST)["x-forwarded-for"] == "192.0.2.7"
