"""Clients that take their time or take too much: others are served, limits bite, memory stays flat.

What is printed here stands in docs/reference/limits.rst.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.live.clients import FETCHES, Answer, Raw
from tests.live.programs import BIN, until
from tests.live.stack import IMPORTABLE, OPEN, Memory, Stack

pytestmark = pytest.mark.live

#: Short, so that the tests need not wait; but for idle connections, which are to stay.
SECONDS = 3
IDLE = 10_000
LIMITS = f"""
[limits]
head_timeout = "5m"
body_idle = "{SECONDS}s"
body_rate = "1KiB"
write_idle = "{SECONDS}s"
connections = {IDLE + 1000}
connections_per_address = {IDLE}
"""
#: Descriptors that relay and test need besides those of clients.
SPARE_DESCRIPTORS = 500


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("limits"), relay_more=LIMITS) as stack:
        stack.start(OPEN)
        assert ask(stack).status == 200
        yield stack


def connected(stack: Stack, receive_buffer: int = 0) -> Raw:
    """A TLS connection to the relay."""
    return Raw(stack.clients_port, stack.tls(), "open.localhost", receive_buffer=receive_buffer, address="127.0.0.2")


def ask(stack: Stack, path: str = "/", fields: dict[str, str] | None = None) -> Answer:
    """What anybody else asks meanwhile, from an address of their own."""
    return stack.browser().ask(stack.address("open", path), fields={**FETCHES, **(fields or {})})


def pid_of(stack: Stack) -> int:
    """The relay's process."""
    assert stack.relay is not None
    return stack.relay.pid


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """What a process has used of processors."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def others_are_served(stack: Stack, milliseconds: float = 1000) -> Iterator[Callable[[], None]]:
    """Call it now and then: somebody else asks, and is answered soon."""
    times = []

    def look() -> None:
        asked = time.monotonic()
        assert ask(stack).status == 200
        times.append((time.monotonic() - asked) * 1000)

    yield look
    look()
    print(f"the others' slowest of {len(times)}: {max(times):.0f} ms")
    assert max(times) < milliseconds


def load(stack: Stack, clients: int, seconds: int) -> dict[str, float]:
    """The times of some clients at an easy pace."""
    command = [BIN / "python", "-m", "tests.live.load", stack.clients_port, "open.localhost", stack.authority]
    words = [str(each) for each in [*command, clients, seconds]]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **IMPORTABLE})
    times: dict[str, float] = json.loads(done.stdout)
    return times


@pytest.mark.feature("HTTP-5", "HTTP-6")
def test_ten_thousand_idle_connections(stack: Stack) -> None:
    """D05: ten thousand silent TLS connections, or as many as descriptors allow, cost memory alone."""
    pid = pid_of(stack)
    allowed = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.prlimit(pid, resource.RLIMIT_NOFILE)[0])
    count = min(IDLE, allowed - SPARE_DESCRIPTORS)
    before, memory, used = load(stack, 20, 3), Memory(relay=pid), cpu_seconds(pid)
    began = time.monotonic()
    addresses = [f"127.0.1.{last}" for last in range(1, 5)]
    command = [
        BIN / "python",
        "-m",
        "tests.live.idle",
        stack.clients_port,
        "open.localhost",
        stack.authority,
        count // 4,
    ]
    with subprocess.Popen(
        [str(each) for each in [*command, count // 4, *addresses]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **IMPORTABLE},
    ) as idle:  # fmt: skip
        assert idle.stdin is not None
        assert idle.stdout is not None
        kept = int(idle.stdout.readline())
        seconds, used = time.monotonic() - began, cpu_seconds(pid) - used
        grown = memory.growth()["relay"]
        assert kept == count // 4 * 4
        still = cpu_seconds(pid)
        time.sleep(2)
        still = (cpu_seconds(pid) - still) / 2
        with others_are_served(stack) as look:
            look()
        meanwhile = load(stack, 20, 3)
        print(
            f"{kept} idle connections ({allowed} descriptors allowed) after {seconds:.1f} s; "
            f"{grown:.0f} MiB, {grown * 1024 / kept:.1f} KiB each; {used / kept * 1000:.2f} ms of CPU each to begin, "
            f"{still:.1%} of one afterwards; p50 and p99 of others {before['p50']:.1f} and {before['p99']:.1f} ms "
            f"before, {meanwhile['p50']:.1f} and {meanwhile['p99']:.1f} ms meanwhile"
        )
        assert grown * 1024 / kept < 64
        assert still < 0.5
        assert meanwhile["p99"] < max(20 * before["p99"], 200)
        idle.stdin.write("?\n")
        idle.stdin.flush()
        assert int(idle.stdout.readline()) == kept
        idle.stdin.close()
        idle.wait(30)
    until("their descriptors are free again", lambda: descriptors(pid) < SPARE_DESCRIPTORS, 30)
    assert ask(stack).status == 200


@pytest.mark.feature("HTTP-5")
def test_slow_bodies(stack: Stack) -> None:
    """D02: 100 uploads of an octet now and then: each is 408 in time; others are served, origins are let go."""
    memory = Memory(relay=pid_of(stack))
    head = b"POST /sink HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: 1000000\r\n\r\n"
    with ExitStack() as open_, others_are_served(stack) as look:
        slow = [open_.enter_context(connected(stack)) for _ in range(100)]
        for raw in slow:
            raw.send(head)
        began = time.monotonic()
        answered = [b""] * len(slow)
        while time.monotonic() < began + 3 * SECONDS and not all(answered):
            for position, raw in enumerate(slow):
                if not answered[position]:
                    try:
                        raw.send(b"x")
                        raw.socket.settimeout(0.001)
                        answered[position] = raw.socket.recv(1000) or b"closed"
                    except TimeoutError:
                        continue
                    except OSError:
                        answered[position] = b"reset"
            look()
        seconds = time.monotonic() - began
        print(f"all given up after {seconds:.1f} s; growth in MiB {memory.growth()}")
        assert all(answered)
        assert sum(each.startswith(b"HTTP/1.1 408 ") for each in answered) > 90, set(answered)
        assert seconds >= SECONDS - 1
        assert memory.growth()["relay"] < 32
    until("the origin is rid of them", lambda: stack.origin.connections() < 20)


@pytest.mark.feature("HTTP-5")
def test_slow_readers(stack: Stack) -> None:
    """D03: 50 clients who ask for 100 MB and take nothing: flat memory, others are served, and they are cut off."""
    memory = Memory(relay=pid_of(stack), connector=stack.connector.pid if stack.connector is not None else 0)
    ask_for = b"GET /bytes/100000000 HTTP/1.1\r\nHost: open.localhost\r\n\r\n"
    with ExitStack() as open_, others_are_served(stack) as look:
        slow = [open_.enter_context(connected(stack, 4096)) for _ in range(50)]
        for raw in slow:
            raw.send(ask_for)
        began = time.monotonic()
        while time.monotonic() < began + 2 * SECONDS + 2:
            look()
            time.sleep(0.2)
        taken = [len(raw.rest(20)) for raw in slow]
        print(f"{len(taken)} cut off; growth in MiB {memory.growth()}")
        assert max(taken) < 20_000_000
        assert memory.growth()["relay"] < 128
        assert memory.growth()["connector"] < 128


@pytest.mark.feature("HTTP-6")
def test_heads_just_below_the_limit(stack: Stack) -> None:
    """D07: 90 connections whose heads are almost too large, kept open: bounded memory for each."""
    memory = Memory(relay=pid_of(stack), connector=stack.connector.pid if stack.connector is not None else 0)
    lines = b"".join(b"X-%d: %b\r\n" % (position, b"y" * 630) for position in range(100))
    head = b"GET /small HTTP/1.1\r\nHost: open.localhost\r\n" + lines + b"\r\n"
    assert 0.9 * 65536 < len(head) < 64 * 1024
    with ExitStack() as open_, others_are_served(stack):
        many = [open_.enter_context(connected(stack)) for _ in range(90)]
        for _ in range(3):
            for raw in many:
                raw.send(head)
            for raw in many:
                assert raw.until(b'"}').startswith(b"HTTP/1.1 200 ")
        each = memory.growth()["relay"] * 1024 / len(many)
        print(f"{each:.0f} KiB for each at most; growth in MiB {memory.growth()}")
        assert each < 512


@pytest.mark.feature("HTTP-6")
def test_very_many_parameters(stack: Stack) -> None:
    """D09, N21: 100,000 parameters are too long; as many as fit cost no more than other octets."""
    with connected(stack) as raw:
        raw.send(b"GET /?" + b"a&" * 100_000 + b" HTTP/1.1\r\nHost: open.localhost\r\n\r\n")
        assert raw.rest(10).startswith(b"HTTP/1.1 414 ")
    asked = time.monotonic()
    assert ask(stack, "/small?" + "a&" * 16_000).status == 200
    seconds = time.monotonic() - asked
    print(f"16,000 parameters: {seconds * 1000:.0f} ms")
    assert seconds < 1


@pytest.mark.feature("HTTP-2")
def test_three_thousand_ranges(stack: Stack) -> None:
    """D04: ranges are the origin's to judge; the relay makes nothing more of them."""
    ranges = "bytes=" + ",".join(f"{each}-{each}" for each in range(3000))
    answer = ask(stack, "/bytes/5000", {"Range": ranges})
    assert answer.status in (200, 206, 416)
    assert len(answer.body) <= 5000
    seen = [each for each in stack.origin.requests() if each["target"] == "/bytes/5000"]
    assert len(seen) == 1
    assert [value for name, value in seen[0]["fields"] if name == "Range"] == [ranges]


@pytest.mark.feature("HTTP-6")
def test_descriptors_run_out(stack: Stack) -> None:
    """D12: without descriptors the relay waits calmly, and serves those who waited when it has some again."""
    pid = pid_of(stack)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with ExitStack() as open_:
        kept = open_.enter_context(connected(stack))
        room = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1 + 10
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, hard))
        try:
            plain = [Raw(stack.clients_port, None, "") for _ in range(60)]
            for raw in plain:
                open_.enter_context(raw)
            time.sleep(0.5)
            used = cpu_seconds(pid)
            time.sleep(2)
            used = (cpu_seconds(pid) - used) / 2
            print(f"{descriptors(pid)} descriptors in use, {used * 100:.0f} % of a processor")
            assert descriptors(pid) <= room
            assert used < 0.3
            kept.send(b"GET /small HTTP/1.1\r\nHost: open.localhost\r\n\r\n")
            assert kept.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert ask(stack).status == 200
    assert stack.relay is not None
    assert stack.relay.text().count("net.exhausted") <= 2
