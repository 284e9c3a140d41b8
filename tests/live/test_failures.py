"""What happens when something dies, is told to stop, is changed or taken away in the middle of requests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import IncompleteRead
from pathlib import Path

import pytest

from tests.bench.bench_speed import PROVIDER, signed_in
from tests.live.clients import FETCHES, Answer, Raw
from tests.live.programs import BIN, Program, free_ports, own_environment, until
from tests.live.stack import OPEN, Stack

pytestmark = pytest.mark.live

#: After a process has come back, everything works again within this time.
BACK_SECONDS = 5.0
APPLICATIONS = (
    OPEN
    + """[[application]]
id = "closed"
external_url = "https://closed.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["staff"] }
"""
)
NEW = """
[[application]]
id = "new"
external_url = "https://open.localhost:PORT/new/"
internal_url = "ORIGIN/own/"
connector_group = "hq"
preauthentication = "passthrough"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("failures"), relay_more=PROVIDER) as stack:
        stack.start(APPLICATIONS)
        yield stack


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that wait."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def ask(stack: Stack, path: str = "/", application: str = "open", method: str = "GET", cookie: str = "") -> Answer:
    """One request of a program."""
    fields = {**FETCHES, **({"Cookie": cookie} if cookie else {})}
    return stack.browser().ask(stack.address(application, path), method=method, fields=fields)


def held(stack: Stack, pool: ThreadPoolExecutor, gate: str, method: str = "GET") -> Future[Answer]:
    """A request that has reached the origin and waits there."""
    asked = pool.submit(ask, stack, f"/held/{gate}", "open", method)
    until("the origin has the request", lambda: stack.origin.waits(gate))
    return asked


def opened(stack: Stack, application: str = "open", path: str = "/socket", cookie: str = "") -> Raw:
    """An upgraded connection through everything, that echoes."""
    raw = Raw(stack.clients_port, stack.tls(), f"{application}.localhost")
    more = f"Cookie: {cookie}\r\n" if cookie else ""
    raw.send(
        f"GET {path} HTTP/1.1\r\nHost: {application}.localhost:{stack.clients_port}\r\n{more}"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    )
    assert b" 101 " in raw.until(b"\r\n\r\n")
    return raw


def echoes(raw: Raw, text: bytes) -> bool:
    """Whether an upgraded connection is alive."""
    raw.send(text)
    return raw.until(text).endswith(text)


def served(stack: Stack) -> bool:
    """Whether requests reach the origin."""
    return ask(stack).status == 200


def seconds_until_served(stack: Stack) -> float:
    """How long it takes from now on until requests reach the origin, at most BACK_SECONDS."""
    began = time.monotonic()
    until("requests are served again", lambda: served(stack), BACK_SECONDS)
    return time.monotonic() - began


@pytest.mark.feature("HTTP-8", "CON-3")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_connector_killed(stack: Stack, pool: ThreadPoolExecutor, method: str) -> None:
    """C12, C33: who waits is told at once, with the hop; the next request works when the connector is back."""
    stack.origin.requests()
    asked = held(stack, pool, f"killed-{method}", method)
    assert stack.connector is not None
    stack.connector.kill()
    answer = asked.result(2)
    told = answer.json()
    assert (answer.status, told["code"], told["side"], told["phase"]) == (502, "connector-lost", "connector", "channel")
    assert len(stack.origin.requests()) == 1
    without = ask(stack)
    assert (without.status, without.json()["code"]) == (503, "no-connector")
    stack.start_connector()
    assert served(stack)


@pytest.mark.feature("HTTP-8")
def test_connector_killed_in_a_body(stack: Stack, pool: ThreadPoolExecutor) -> None:
    """C38: an answer that has begun is cut off, never ended politely."""
    asked = pool.submit(ask, stack, "/begun/cut")
    until("the answer has begun", lambda: stack.origin.waits("cut"))
    assert stack.connector is not None
    stack.connector.kill()
    with pytest.raises((IncompleteRead, ConnectionError)):
        asked.result(2)
    stack.start_connector()


@pytest.mark.feature("CON-3", "OPS-4", "AUTH-4")
def test_relay_killed(stack: Stack, record_property: pytest.RecordProperty) -> None:
    """The connector is back within seconds of the relay's return, and sessions are as they were."""
    cookie = signed_in(stack, "closed.localhost", "closed")
    assert ask(stack, application="closed", cookie=cookie).status == 200
    assert stack.relay is not None
    stack.relay.kill()
    stack.start_relay()
    seconds = seconds_until_served(stack)
    record_property("back_seconds", seconds)
    print(f"served again {seconds:.2f} s after the relay's return")
    assert ask(stack, application="closed", cookie=cookie).status == 200


@pytest.mark.feature("CON-7")
def test_relay_told_to_stop(stack: Stack, pool: ThreadPoolExecutor) -> None:
    """O07: what is in flight is finished before the relay goes."""
    asked = held(stack, pool, "relay-stops")
    assert stack.relay is not None
    stack.relay.process.terminate()
    until("the relay accepts no more", lambda: _refused(stack))
    assert not asked.done()
    stack.origin.open("relay-stops")
    assert asked.result(5).status == 200
    stack.relay.process.wait(10)
    stack.start_relay()
    seconds_until_served(stack)


@pytest.mark.feature("CON-7")
def test_slow_reader_of_a_stopping_relay(stack: Stack) -> None:
    """What a client has not read yet when the relay is told to stop is not lost."""
    size = 300_000
    with Raw(stack.clients_port, stack.tls(), "open.localhost", receive_buffer=4096) as slow:
        slow.send(f"GET /bytes/{size} HTTP/1.1\r\nHost: open.localhost:{stack.clients_port}\r\n\r\n".encode())
        slow.until(b"\r\n\r\n")
        assert stack.relay is not None
        stack.relay.process.terminate()
        until("the relay accepts no more", lambda: _refused(stack))
        assert len(slow.rest(10)) == size
    stack.relay.process.wait(10)
    stack.start_relay()
    seconds_until_served(stack)


@pytest.mark.feature("CON-7")
def test_connector_told_to_stop(stack: Stack, pool: ThreadPoolExecutor) -> None:
    """What is in flight is finished before the connector goes, and nothing new is given to it."""
    asked = held(stack, pool, "connector-stops")
    assert stack.connector is not None
    stack.connector.process.terminate()
    until("the relay knows", lambda: ask(stack).status == 503)
    assert not asked.done()
    stack.origin.open("connector-stops")
    assert asked.result(5).status == 200
    stack.connector.process.wait(10)
    stack.start_connector()
    assert served(stack)


@pytest.mark.feature("HTTP-8")
def test_origin_down(stack: Stack, pool: ThreadPoolExecutor) -> None:
    """M08: an origin that is not there is told as such, without its address; it is found again at once."""
    [origin] = [program for program in stack.programs if program.name == "origin" and program.process.poll() is None]
    waiting = held(stack, pool, "origin-dies", "POST")
    origin.kill()
    assert (waiting.result(2).status, waiting.result().json()["code"]) == (502, "origin-broke-off")
    down = ask(stack)
    assert (down.status, down.json()["code"], down.json()["side"]) == (502, "origin-unreachable", "origin")
    assert str(stack.origin_port) not in down.text
    stack.start_origin()
    assert served(stack)


@pytest.mark.feature("PUB-10", "HTTP-4")
def test_publishing_drops_nothing(stack: Stack, pool: ThreadPoolExecutor) -> None:
    """A change takes effect at once; an upgraded connection, an event stream and a download go on through it."""
    download = pool.submit(ask, stack, "/begun/download")
    with opened(stack) as socket, Raw(stack.clients_port, stack.tls(), "open.localhost") as events:
        events.send(f"GET /events HTTP/1.1\r\nHost: open.localhost:{stack.clients_port}\r\n\r\n".encode())
        events.until(b"data: 1\n")
        until("the download has begun", lambda: stack.origin.waits("download"))
        assert ask(stack, "/new/x").json()["target"] == "/new/x"
        assert "new" in stack.apply(APPLICATIONS.replace('"ORIGIN/"', '"ORIGIN/changed/"', 1) + NEW)
        until("the new one is there", lambda: ask(stack, "/new/x").json()["target"] == "/own/x", 2)
        until("the change is there", lambda: ask(stack, "/x").json()["target"] == "/changed/x", 2)
        assert echoes(socket, b"still here")
        seen = int(re.findall(rb"data: (\d+)\n", events.until(b"\n\n"))[-1])
        events.until(b"data: %d\n" % (seen + 5))
        stack.origin.open("download")
        assert download.result(5).body == b"begun ended"
    stack.command("app", "delete", "new")
    stack.apply(APPLICATIONS)
    until("it is as it was", lambda: ask(stack, "/new/x").json()["target"] == "/new/x", 2)


@pytest.mark.feature("AUTH-7")
def test_ended_session_closes_what_is_open(stack: Stack) -> None:
    """W03: a session that an administrator ends takes its open connections with it within a second or two."""
    ours = signed_in(stack, "closed.localhost", "closed")
    with opened(stack, "closed", cookie=ours) as socket, opened(stack) as other:
        assert echoes(socket, b"hello")
        began = time.monotonic()
        assert "ended" in stack.command("session", "end", "--user", "alice@example.com")
        assert socket.rest(2) == b""
        print(f"closed {time.monotonic() - began:.2f} s after the command was typed")
        assert ask(stack, application="closed", cookie=ours).status == 401
        assert echoes(other, b"others are not touched")


@pytest.mark.feature("CON-2")
def test_enrolment_token_twice(stack: Stack, tmp_path: Path) -> None:
    """R01, R02: a token enrols one connector; used, expired and made up are refused alike, and the remedy is named."""
    used, expired = (stack.command("token", "enrol", "--group", "hq", "--expires", age) for age in ("1h", "1s"))
    stack.write("token", used)
    first = _enrol(stack, tmp_path / "first")
    assert first.returncode == 0, first.stderr
    # A letter of the secret is another: apt1.SECRET.FINGERPRINT
    made_up = used[:9] + ("a" if used[9] != "a" else "b") + used[10:]
    said = []
    for name, token in {"used": used, "made-up": made_up, "expired": expired}.items():
        stack.write("token", token)
        said.append(_refusal(_refuse_until(stack, tmp_path / name)))
    assert len(set(said)) == 1, said
    assert "token" in said[0]
    assert "appproxy token enrol" in said[0]


@pytest.mark.feature("CON-2")
def test_used_token_of_a_program(stack: Stack, tmp_path: Path) -> None:
    """A connector program with a used token ends with one line that says what to do."""
    token = stack.command("token", "enrol", "--group", "hq")
    stack.write("token", token)
    assert _enrol(stack, tmp_path / "first").returncode == 0
    config = stack.write(
        "late.toml",
        f'[connector]\nrelays = ["{stack.connect_url}"]\nstate_dir = "late"\nenrolment_token_file = "token"\n',
    )
    program = stack.add(
        Program("late", [BIN / "twistd", "-n", "--pidfile=", "appproxy-connector", "--config", config], stack.folder)
    )
    assert program.process.wait(20) == 1
    assert "Traceback" not in program.text()
    [line] = [line for line in program.text().splitlines() if line.startswith("appproxy-connector: ")]
    assert "appproxy token enrol" in line


@pytest.mark.feature("ADM-3")
def test_command_says_what_is_wrong(stack: Stack, tmp_path: Path) -> None:
    """Whatever the command cannot do is one line that names key or file, and an exit code that is not 0."""
    misspelt = stack.write("misspelt.toml", APPLICATIONS.replace("internal_url", "internal_ulr", 1))
    clash = stack.write("clash.toml", APPLICATIONS.replace("closed.localhost", "open.localhost"))
    broken = stack.write("broken.toml", "[[application]\n")
    cases = {
        ("apply", str(misspelt)): "internal_ulr",
        ("apply", str(broken)): "broken.toml",
        ("apply", str(tmp_path / "none.toml")): "none.toml",
        ("apply", str(clash)): "open.localhost",
        ("app", "show", "nothing"): "nothing",
        ("app", "delete", "nothing"): "nothing",
        ("connector", "revoke", "nothing"): "nothing",
        ("token", "enrol", "--group", "nothing"): "nothing",
        ("token", "enrol", "--group", "hq", "--expires", "soon"): "expires",
        ("status", "--socket", str(tmp_path / "none.sock")): "none.sock",
    }
    for arguments, named in cases.items():
        said = stack.command(*arguments, code=1)
        assert "Traceback" not in said, said
        assert said.count("\n") == 1, (arguments, said)
        assert named in said, (arguments, said)
        assert said.startswith("appproxy: "), said
    for arguments in (("publish",), ("token", "enrol"), ("session", "end")):
        assert "usage:" in stack.command(*arguments, code=2)
    assert served(stack)


@pytest.mark.feature("OPS-1")
def test_second_relay_on_the_same_state(stack: Stack) -> None:
    """A second relay of the same name on the same state is refused; the first one does not notice."""
    first, second = free_ports(2)
    config = stack.write(
        "second.toml",
        f'[relay]\nstate_dir = "relay"\nnode = "relay-test"\n[listen]\nclients = ["tls:{first}:interface=127.0.0.1"]\n'
        f'connectors = "tls:{second}:interface=127.0.0.1"\n',
    )
    program = stack.add(
        Program("second", [BIN / "twistd", "-n", "--pidfile=", "appproxy-relay", "--config", config], stack.folder)
    )
    assert program.process.wait(20) == 1
    assert "Traceback" not in program.text()
    assert "relay.node" in program.text()
    stack.command("status")
    assert served(stack)


@pytest.mark.feature("CON-2")
def test_revoked_connector(stack: Stack, pool: ThreadPoolExecutor) -> None:
    """C26, R10: the channel of a revoked connector goes at once, with what was on it, and does not come back."""
    [connector] = re.findall(r"^(\S+)\s+connector\s.*online", stack.command("connector", "list"), re.MULTILINE)
    asked = held(stack, pool, "revoked")
    stack.command("connector", "revoke", connector)
    assert asked.result(2).status == 502
    assert (ask(stack).status, ask(stack).json()["code"]) == (503, "no-connector")
    assert stack.connector is not None
    stack.connector.says("revoked", 3)
    assert "online" not in stack.command("connector", "list")
    stack.connector.stop()
    stack.start_connector(name="successor")
    assert served(stack)


def _refused(stack: Stack) -> bool:
    try:
        Raw(stack.clients_port, stack.tls(), "open.localhost", 2).socket.close()
    except OSError:
        return True
    return False


def _enrol(stack: Stack, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "appproxy", "connector", "enrol", "--relay", stack.connect_url, "--token-file", "token",
         "--state-dir", state, "--name", state.name],
        cwd=stack.folder, env=own_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def _refuse_until(stack: Stack, state: Path) -> str:
    """What enrolling says when it is refused; a token of a second may need that second."""
    said: list[str] = []

    def refused() -> bool:
        ended = _enrol(stack, state)
        said[:] = [ended.stderr]
        return ended.returncode == 1

    until("it is refused", refused, 5)
    return said[0]


def _refusal(said: str) -> str:
    assert "Traceback" not in said, said
    assert said.count("\n") == 1, said
    return said


@pytest.mark.feature("OPS-2")
def test_a_connectors_logs_are_rotated(stack: Stack) -> None:
    """SIGHUP opens the access log anew; the channels stay."""
    assert stack.connector is not None
    before = stack.connector.text().count("connector.channel-up")
    name = stack.connector.log.stem
    log = stack.folder / f"{name}-access.log"
    log.rename(stack.folder / f"{name}-access.log.1")
    os.kill(stack.connector.pid, signal.SIGHUP)
    until("there is a new log", log.exists)
    ask(stack, "/after-rotation")
    until("the request is in it", lambda: "/after-rotation" in log.read_text())
    assert stack.connector.text().count("connector.channel-up") == before
