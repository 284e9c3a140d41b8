"""Gigabytes both ways: memory stays flat, other clients hardly notice, every byte is right."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live.clients import Raw
from tests.live.origin import PIECE
from tests.live.programs import BIN, Program, free_ports, listens
from tests.live.stack import IMPORTABLE, OPEN, Memory, Stack

pytestmark = pytest.mark.live

GIGABYTE = 1_000_000_000
#: What relay and connector may grow by, in MiB.
MAX_GROWTH_MIB = 64
CLIENTS, LOAD_SECONDS = 100, 10
#: What the others ask for has an origin of its own: one that is busy with gigabytes would be slow by itself.
SMALL = OPEN.partition("[[application]]")[2].replace("open", "small").replace("ORIGIN", "http://127.0.0.1:{port}")
#: How many times as long as alone the slowest hundredth of the others' requests may take, in the best of so many
#: rounds.  On two processors that all programs of this test share it is 1.3 to 2.4 times; a queue makes it 50.
MAX_SLOWER, ROUNDS = 3.0, 3


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module, and warm."""
    with Stack(tmp_path_factory.mktemp("bulk")) as stack:
        stack.start(OPEN + "[[application]]" + SMALL.format(port=start_small_origin(stack)))
        upload(stack, 100_000_000)
        download(stack, 100_000_000)
        yield stack


def start_small_origin(stack: Stack) -> int:
    """An origin beside the one for gigabytes; its port."""
    [port] = free_ports(1)
    command = [BIN / "python", "-m", "tests.live.origin", str(port)]
    program = stack.add(Program("small-origin", command, stack.folder, IMPORTABLE))
    program.wait_for(lambda: listens(port), "the origin for small things listens")
    return port


def give_way(thread_or_process: int) -> None:
    """Let others go first: in earnest, who moves gigabytes is another machine and takes no processor of the relay."""
    os.setpriority(os.PRIO_PROCESS, thread_or_process, 19)


def connected(stack: Stack, receive_buffer: int = 0) -> Raw:
    """A TLS connection to the relay."""
    return Raw(stack.clients_port, stack.tls(), "open.localhost", timeout=60, receive_buffer=receive_buffer)


def upload(stack: Stack, size: int) -> float:
    """Send *size* bytes and see that as many came; returns the seconds it took."""
    began = time.monotonic()
    with connected(stack) as raw:
        raw.send(f"POST /sink HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        for start in range(0, size, len(PIECE)):
            raw.send(PIECE[: size - start])
        raw.until(b"\r\n\r\n", 60)
        assert json.loads(raw.until(b"}"))["bytes"] == size
    return time.monotonic() - began


def download(stack: Stack, size: int, pause: Callable[[int], None] = lambda count: None) -> float:
    """Receive *size* bytes, calling *pause* with the count of those read; returns the seconds it took."""
    began, count, buffer = time.monotonic(), 0, bytearray(1 << 18)
    with connected(stack) as raw:
        raw.send(f"GET /bytes/{size} HTTP/1.1\r\nHost: open.localhost\r\n\r\n".encode())
        raw.until(b"\r\n\r\n")
        count = len(raw.received)
        raw.socket.settimeout(60)
        while count < size:
            came = raw.socket.recv_into(buffer)
            assert came, f"cut short at {count}"
            count += came
            pause(count)
        assert count == size
    return time.monotonic() - began


class Pauses:
    """A reader that stops for a second each time it has read another tenth."""

    def __init__(self, size: int) -> None:
        self._step = size // 10
        self._next = self._step

    def __call__(self, count: int) -> None:
        """So many bytes have been read."""
        if count >= self._next:
            self._next += self._step
            time.sleep(1)


def load(stack: Stack) -> subprocess.Popen[str]:
    """Begin with the other clients; when they have ended, they say how it was."""
    command = [BIN / "python", "-m", "tests.live.load", stack.clients_port, "small.localhost", stack.authority]
    return subprocess.Popen(
        [str(each) for each in [*command, CLIENTS, LOAD_SECONDS]],
        env={**os.environ, **IMPORTABLE},
        stdout=subprocess.PIPE,
        text=True,
    )


def told(running: subprocess.Popen[str]) -> dict[str, float]:
    """What the other clients say."""
    said, _ = running.communicate(timeout=LOAD_SECONDS + 60)
    assert running.returncode == 0
    result: dict[str, float] = json.loads(said)
    return result


@pytest.mark.feature("HTTP-2", "CON-4")
@pytest.mark.time_limit(300)
def test_gigabytes(stack: Stack) -> None:
    """C09, C10, D03: a GB up, a GB down to a reader that pauses: flat memory, and others wait for no queue."""
    assert stack.relay is not None
    assert stack.connector is not None
    memory = Memory(relay=stack.relay.pid, connector=stack.connector.pid)
    slower = []
    while len(slower) < ROUNDS and min(slower, default=MAX_SLOWER) >= MAX_SLOWER:
        alone = told(load(stack))
        beside = beside_gigabytes(stack)
        print(f"alone {alone}\nbeside {beside}\ngrowth in MiB {memory.growth()}")
        slower.append(beside["p99"] / alone["p99"])
    assert max(memory.growth().values()) < MAX_GROWTH_MIB
    assert min(slower) < MAX_SLOWER, slower


def beside_gigabytes(stack: Stack) -> dict[str, float]:
    """What the other clients say while a GB goes up and another down."""
    [origin] = [program for program in stack.programs if program.name == "origin"]
    give_way(origin.pid)
    others = load(stack)
    with ThreadPoolExecutor(2, initializer=lambda: give_way(threading.get_native_id())) as pool:
        up = pool.submit(upload, stack, GIGABYTE)
        down = pool.submit(download, stack, GIGABYTE, Pauses(GIGABYTE))
        beside = told(others)
        print(f"up {up.result():.1f} s, down {down.result():.1f} s")
    return beside


@pytest.mark.feature("HTTP-2", "CON-4")
def test_bodies_are_not_mixed_up(stack: Stack) -> None:
    """C40: 64 bodies of 5 MB, up and back down at the same time, arrive as they were sent."""
    bodies = [hashlib.sha256(b"%d" % number).digest() * (5_000_000 // 32) for number in range(64)]
    digests = asyncio.run(mirrored(stack, bodies))
    assert digests == [hashlib.sha256(body).hexdigest() for body in bodies]


async def mirrored(stack: Stack, bodies: list[bytes]) -> list[str]:
    """Send all bodies at once; the digests of what the origin sends back."""
    return await asyncio.gather(*[mirror(stack, body) for body in bodies])


async def mirror(stack: Stack, body: bytes) -> str:
    """Send one body while it comes back."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", stack.clients_port, ssl=stack.tls(), server_hostname="open.localhost"
    )

    async def send() -> None:
        writer.write(f"PUT /mirror HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), 65536):
            writer.write(body[start : start + 65536])
            await writer.drain()

    sending, digest = asyncio.create_task(send()), hashlib.sha256()
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    while size := int(await reader.readuntil(b"\r\n"), 16):
        digest.update(await reader.readexactly(size))
        await reader.readexactly(2)
    await sending
    writer.close()
    return digest.hexdigest()
