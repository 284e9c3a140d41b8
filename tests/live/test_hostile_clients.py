"""Clients who mean harm, octet by octet over real TLS, with an origin behind that records what reaches it."""

from __future__ import annotations

import json
import os
import select
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

import pytest

from tests.http.smuggling import FAMILIES, REQUESTS, Request
from tests.live.clients import FETCHES, Answer, Raw
from tests.live.programs import BIN, until
from tests.live.stack import IMPORTABLE, OPEN, Memory, Stack

pytestmark = pytest.mark.live

#: So long may a head take: short here, so that the test need not wait for half a minute.
HEAD_SECONDS = 4
PER_ADDRESS = 512
LIMITS = f"""
[limits]
head_timeout = "{HEAD_SECONDS}s"
connections_per_address = {PER_ADDRESS}
"""
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: open.localhost\r\n\r\n"
#: A second answer can only come of a second request.
ANSWER = b"HTTP/1.1 "


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("hostile"), relay_more=LIMITS) as stack:
        stack.start(OPEN)
        yield stack


def connected(stack: Stack, address: str = "127.0.0.1") -> Raw:
    """A TLS connection to the relay."""
    return Raw(stack.clients_port, stack.tls(), "open.localhost", address=address)


def ask(stack: Stack) -> Answer:
    """What anybody else asks meanwhile, from an address of their own."""
    return stack.browser().ask(stack.address("open"), fields=FETCHES)


@pytest.mark.feature("HTTP-6", "HTTP-2")
@pytest.mark.parametrize("case", [*REQUESTS, *FAMILIES[::9]], ids=lambda case: case.name)
def test_smuggling(stack: Stack, case: Request) -> None:
    """One refusal, then the end of the connection; what was hidden behind the request reaches no origin."""
    stack.origin.requests()
    octets = case.octets.replace(b"a.test", b"open.localhost")
    with connected(stack) as raw:
        # What is endless is refused before it ends.
        raw.send(octets if case.name.startswith("endless") else octets + SMUGGLED)
        answered = raw.rest(5)
    assert answered.startswith(ANSWER + b"%d " % case.status), answered[:200]
    assert answered.count(ANSWER) == 1, answered
    assert b"connection: close" in answered.lower()
    seen = stack.origin.requests()
    assert len(seen) <= 1
    assert not [each for each in seen if each["target"] != "/"], seen


@pytest.mark.feature("HTTP-8", "HTTP-6")
def test_reference_of_a_refusal(stack: Stack) -> None:
    """A refusal says status, cause, side, phase, reference and time; the access log has the reference."""
    with connected(stack, "127.0.0.3") as raw:
        raw.send(b"GET /" + b"a" * 33_000)
        head, _, body = raw.rest(5).partition(b"\r\n\r\n")
    assert head.startswith(ANSWER + b"414 ")
    told = json.loads(body)
    assert {name: told[name] for name in ("status", "code", "side", "phase")} == {
        "status": 414, "code": "target-too-long", "side": "client", "phase": "request",
    }  # fmt: skip
    assert time.time() - datetime.fromisoformat(told["time"]).timestamp() < 60
    until("the record is written", lambda: told["request_id"] in stack.access_log.read_text())
    [record] = [line for line in stack.access_log.read_text().splitlines() if told["request_id"] in line]
    for word in ("127.0.0.3", "414", "cause=target-too-long"):
        assert word in record.split(), record


@pytest.mark.feature("HTTP-5")
def test_slow_heads(stack: Stack) -> None:
    """D01: 200 clients that send a head octet by octet: others are served, and all are closed when the time is over."""
    slow = [connected(stack, "127.0.0.2") for _ in range(200)]
    began = time.monotonic()
    head, worst, rounds = SMUGGLED[:-2] + b"X: " + b"y" * 10_000, 0.0, 0
    while time.monotonic() < began + HEAD_SECONDS - 1:
        for raw in slow:
            raw.send(head[rounds : rounds + 1])
        rounds += 1
        asked = time.monotonic()
        assert ask(stack).status == 200
        worst = max(worst, time.monotonic() - asked)
    print(f"slowest of the others {worst * 1000:.0f} ms, {rounds} octets each")
    assert worst < 1
    assert rounds > 3
    for raw in slow:
        assert raw.rest(5)[:13] in (b"", b"HTTP/1.1 408 ")
        raw.socket.close()
    assert time.monotonic() < began + HEAD_SECONDS + 5


@pytest.mark.feature("HTTP-2")
def test_pipelining_without_reading(stack: Stack) -> None:
    """D08: 10,000 requests from a client that does not read: the relay stops reading; later every answer comes."""
    count, size = 10_000, 3000
    assert stack.relay is not None
    stack.origin.requests()
    memory = Memory(relay=stack.relay.pid)
    request = f"GET /bytes/{size} HTTP/1.1\r\nHost: open.localhost\r\n\r\n".encode()
    with connected(stack) as raw:
        raw.socket.setblocking(False)
        octets, sent, asked = memoryview(request * count), 0, 0
        still = time.monotonic()
        while time.monotonic() < still + 0.5:  # until nothing has moved for so long
            try:
                sent += raw.socket.send(octets[sent : sent + 16384]) if sent < len(octets) else 0
            except ssl.SSLWantWriteError:
                time.sleep(0.01)
            if came := len(stack.origin.requests()):
                asked, still = asked + came, time.monotonic()
        print(f"{asked} asked for, growth in MiB {memory.growth()}")
        assert asked < count / 2
        assert memory.growth()["relay"] < 16
        assert ask(stack).status == 200
        answers, body, tail = 0, 0, b""
        deadline = time.monotonic() + 30
        while answers < count:
            assert time.monotonic() < deadline, f"{answers} answers"
            with suppress(ssl.SSLWantWriteError):
                sent += raw.socket.send(octets[sent : sent + 16384]) if sent < len(octets) else 0
            try:
                piece = raw.socket.recv(1 << 18)
            except ssl.SSLWantReadError:
                select.select([raw.socket], [], [], 0.01)
                continue
            assert piece, "closed"
            body += len(piece)
            answers += (tail + piece).count(ANSWER)
            tail = (tail + piece)[-len(ANSWER) + 1 :]
    assert body >= count * size / 2


@pytest.mark.feature("HTTP-6")
def test_idle_connections(stack: Stack) -> None:
    """D05: 2,000 TLS connections that say nothing: a cap per address, small memory, others served, and then closed."""
    assert stack.relay is not None
    memory = Memory(relay=stack.relay.pid)
    began = time.monotonic()
    addresses = [f"127.0.1.{last}" for last in range(1, 4)]
    command = [BIN / "python", "-m", "tests.live.idle", stack.clients_port, "open.localhost", stack.authority, 667]
    with subprocess.Popen(
        [str(each) for each in [*command, *addresses]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **IMPORTABLE},
    ) as idle:  # fmt: skip
        assert idle.stdin is not None
        assert idle.stdout is not None
        kept = int(idle.stdout.readline())
        print(f"{kept} kept, after {time.monotonic() - began:.1f} s, growth in MiB {memory.growth()}")
        assert kept <= PER_ADDRESS * len(addresses)
        assert memory.growth()["relay"] < 256
        assert ask(stack).status == 200

        def gone() -> bool:
            assert idle.stdin is not None
            assert idle.stdout is not None
            idle.stdin.write("?\n")
            idle.stdin.flush()
            time.sleep(0.1)
            return idle.stdout.readline() == "0\n"

        until("all were closed", gone, HEAD_SECONDS + 10)
        idle.stdin.close()
        idle.wait(10)
    assert ask(stack).status == 200


@pytest.mark.feature("HTTP-1")
@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: open.localhost\r\n\r\n",
        b"\x16\x03\x01\x40\x00" + b"\x01" * 20_000,
        os.urandom(5000),
        b"\0" * 5000,
    ],
    ids=["plain HTTP", "endless hello", "noise", "zeros"],
)
def test_what_is_no_tls(stack: Stack, octets: bytes) -> None:
    """D06: what is no TLS is cut off; nobody else notices."""
    with Raw(stack.clients_port, None, "open.localhost") as raw:
        with suppress(ConnectionError):
            raw.send(octets)
        assert ANSWER not in raw.rest(5)
    assert ask(stack).status == 200


@pytest.mark.feature("HTTP-1")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls(stack: Stack) -> None:
    """TLS 1.1 is refused, 1.2 and 1.3 are spoken, and HTTP/1.1 is agreed on."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = stack.tls()
        tls.minimum_version = tls.maximum_version = version
        tls.set_alpn_protocols(["h2", "http/1.1"])
        with Raw(stack.clients_port, tls, "open.localhost") as raw:
            assert raw.socket.selected_alpn_protocol() == "http/1.1"
    old = stack.tls()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        Raw(stack.clients_port, old, "open.localhost")


@pytest.mark.feature("HTTP-1")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_renegotiation(stack: Stack) -> None:
    """D06: a client that wants to renegotiate is refused."""
    client = subprocess.run(
        ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{stack.clients_port}", "-servername", "localhost"],
        input="R\n", capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    said = client.stdout + client.stderr
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    assert ask(stack).status == 200


@pytest.mark.feature("HTTP-1")
def test_hello_in_pieces(stack: Stack) -> None:
    """D06: a ClientHello that comes octet by octet is understood."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = stack.tls().wrap_bio(incoming, outgoing, server_hostname="open.localhost")
    with Raw(stack.clients_port, None, "open.localhost") as raw:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                hello = outgoing.read()
                for octet in hello:
                    raw.send(bytes([octet]))
                incoming.write(raw.socket.recv(65536))
        client.write(SMUGGLED)
        raw.send(outgoing.read())
        assert client.version() == "TLSv1.3"
        answered = b""
        while ANSWER not in answered:
            incoming.write(raw.socket.recv(65536))
            try:
                answered += client.read(65536)
            except ssl.SSLWantReadError:
                continue
    assert answered.startswith(b"HTTP/1.1 200 ")
