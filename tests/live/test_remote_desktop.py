"""Remote Desktop Gateway through relay and connectors: every form of tunnel, NTLM on each connection, a real client."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.live import tsgu
from tests.live.programs import BIN, Program, free_ports, listens, until
from tests.live.rdclient import HttpTunnel, Line, WebSocketTunnel
from tests.live.stack import IMPORTABLE, Memory, Stack

pytestmark = pytest.mark.live

#: FreeRDP looks up the gateway's name by itself, so one of the two is what every machine calls itself.
APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "desktop"
external_url = "https://desktop.localhost:PORT/"
internal_url = "http://127.0.0.1:GATEWAY/"
connector_group = "hq"
preauthentication = "passthrough"
[[application]]
id = "freerdp"
external_url = "https://localhost:PORT/"
internal_url = "http://127.0.0.1:GATEWAY/"
connector_group = "hq"
preauthentication = "passthrough"
"""
CONNECTORS = ("connector", "second")
#: So many that they all come to one of two connectors by chance once in half a million times.
TUNNELS = 20
FLOWED_MIB = 24
MAX_GROWTH_MIB = 48


class Desktop(Stack):
    """A relay, two connectors, the gateway."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.gateway_port,) = free_ports(1)

    def start(self, applications: str = APPLICATIONS) -> None:
        python = BIN / "python"
        gateway = Program(
            "gateway", [python, "-m", "tests.live.rdgateway", str(self.gateway_port)], self.folder, IMPORTABLE
        )
        gateway.wait_for(lambda: listens(self.gateway_port), "the gateway listens")
        self.add(gateway)
        self.start_relay()
        self.apply(applications.replace("GATEWAY", str(self.gateway_port)))
        for name in CONNECTORS:
            self.start_connector(name=name)

    def line(self, path: str = "/remoteDesktopGateway/") -> Line:
        """A new connection."""
        return Line(self.clients_port, self.tls(), "desktop.localhost", path)

    def tunnels(self) -> list[dict[str, Any]]:
        """What the gateway says of them."""
        with urlopen(f"http://127.0.0.1:{self.gateway_port}/control/tunnels", timeout=10) as answer:
            told: list[dict[str, Any]] = json.load(answer)
        return told

    def tunnel(self, identifier: str) -> dict[str, Any]:
        """One of them."""
        (found,) = [each for each in self.tunnels() if each["id"] == identifier]
        return found


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    """Everything, started once for this module."""
    with Desktop(tmp_path_factory.mktemp("desktop")) as desktop:
        desktop.start()
        yield desktop


ORDER = ["HANDSHAKE_REQUEST", "TUNNEL_CREATE", "TUNNEL_AUTH", "CHANNEL_CREATE", "DATA", "KEEPALIVE", "DATA"]


@pytest.mark.feature("SCN-5")
@pytest.mark.feature("HTTP-7")
def test_over_a_websocket(desktop: Desktop) -> None:
    """W07: opened with RDG_OUT_DATA after a 401 on the same connection; cookies kept; frames of any size both ways."""
    with WebSocketTunnel(desktop.line(), "alice") as tunnel:
        assert "Set-Cookie: gateway=1; Path=/\r\n" in tunnel.line.head
        tunnel.open("pc-1.corp.local")
        tunnel.echo(b"hello")
        tunnel.keep_alive()
        tunnel.echo(os.urandom(60_000))
        seen = desktop.tunnel(tunnel.identifier)
        assert (seen["packets"], seen["target"], seen["received"]) == (ORDER, "pc-1.corp.local:3389", 60_005)
        assert seen["connections"]["both"][1] == "alice"
        tunnel.end()
    until("the gateway notices", lambda: not desktop.tunnel(tunnel.identifier)["open"])


@pytest.mark.feature("SCN-5")
@pytest.mark.feature("HTTP-7")
def test_over_two_halves(desktop: Desktop) -> None:
    """W07, W09: an endless answer and an endless request that was answered at once; each has its own connection."""
    with HttpTunnel(desktop.line(), desktop.line(), "alice") as tunnel:
        list(tunnel.legs)
        tunnel.open("pc-2.corp.local")
        tunnel.echo(b"hello")
        tunnel.keep_alive()
        tunnel.echo(os.urandom(60_000))
        seen = desktop.tunnel(tunnel.identifier)
        assert (seen["packets"], seen["target"]) == (ORDER, "pc-2.corp.local:3389")
        (out, its_user), (inwards, other_user) = seen["connections"]["out"], seen["connections"]["in"]
        assert out != inwards
        assert (its_user, other_user) == ("alice", "alice")
        tunnel.end()


@pytest.mark.feature("HTTP-7")
def test_logins_that_are_interleaved(desktop: Desktop) -> None:
    """W08: four users sign in at the same time, leg by leg; each is himself on both connections, and nobody else."""
    users = ["alice", "bob", "carol", "dave"]
    tunnels = [HttpTunnel(desktop.line(), desktop.line(), user) for user in users]
    try:
        for legs in zip(*(tunnel.legs for tunnel in tunnels), strict=True):
            assert len(legs) == 4
        for tunnel in tunnels:
            tunnel.open(f"{tunnel.user}.corp.local")
        for tunnel in reversed(tunnels):
            tunnel.echo(tunnel.user.encode() * 100)
        used = set()
        for tunnel in tunnels:
            seen = desktop.tunnel(tunnel.identifier)
            assert [user for _, user in seen["connections"].values()] == [tunnel.user] * 2
            assert seen["target"] == f"{tunnel.user}.corp.local:3389"
            used |= {number for number, _ in seen["connections"].values()}
        assert len(used) == 8
    finally:
        for tunnel in tunnels:
            tunnel.close()


@pytest.mark.feature("HTTP-7")
def test_a_message_on_another_connection(desktop: Desktop) -> None:
    """W08: the last message of a handshake counts on no other; a client that leaves takes its connection along."""
    first = desktop.line()
    first.challenged("RDG_OUT_DATA")
    second = desktop.line()
    second.signed_in("RDG_OUT_DATA", "mallory", "Content-Length: 0")
    assert second.answer() == 401
    first.raw.socket.close()
    second.raw.socket.close()
    third = desktop.line()
    third.request("RDG_OUT_DATA", "Content-Length: 0")
    assert third.answer() == 401
    third.raw.socket.close()


@pytest.mark.feature("SCN-5")
def test_both_halves_at_one_connector(desktop: Desktop) -> None:
    """Tunnels spread over both connectors, but no tunnel does."""
    logs = {name: desktop.folder / f"{name}-access.log" for name in CONNECTORS}
    before = {name: path.stat().st_size if path.exists() else 0 for name, path in logs.items()}
    for number in range(TUNNELS):
        path = f"/remoteDesktopGateway/{number}/"
        with HttpTunnel(desktop.line(path), desktop.line(path), "alice") as tunnel:
            list(tunnel.legs)
            tunnel.open("pc")

    def served() -> dict[str, set[str]]:
        found = {}
        for name, path in logs.items():
            text = path.read_text()[before[name] :] if path.exists() else ""
            found[name] = set(re.findall(r"/remoteDesktopGateway/(\d+)/", text))
        return found

    until("every half is recorded", lambda: len(set.union(*served().values())) == TUNNELS)
    time.sleep(0.3)
    first, second = served().values()
    assert first
    assert second
    assert not first & second, (first, second)


@pytest.mark.feature("SCN-5")
def test_rpc_over_http(desktop: Desktop) -> None:
    """W07, W11: lengths of 1 GiB both ways, none of it waited for or kept; an expectation is answered on the way."""
    connection, relay, connectors = os.urandom(16), desktop.relay, desktop.programs[-2:]
    assert relay is not None
    out, inwards = desktop.line("/rpc/rpcproxy.dll?pc:3388"), desktop.line("/rpc/rpcproxy.dll?pc:3388")
    out.challenged("RPC_OUT_DATA")
    out.signed_in("RPC_OUT_DATA", "alice", "Content-Length: 76")
    out.raw.send(tsgu.conn_a1(connection, os.urandom(16)))
    assert out.answer() == 200
    assert "Content-Length: 1073741824\r\n" in out.head
    assert out.exactly(28) == tsgu.conn_a3()
    inwards.challenged("RPC_IN_DATA")
    inwards.signed_in("RPC_IN_DATA", "alice", "Content-Length: 1073741824")
    inwards.raw.send(tsgu.conn_b1(connection, os.urandom(16)))
    assert out.exactly(44) == tsgu.conn_c2()
    inwards.raw.send(tsgu.rts(tsgu.PING))
    sent = tsgu.pdu(tsgu.REQUEST, os.urandom(60_000))
    inwards.raw.send(sent)
    assert out.exactly(len(sent)) == sent

    memory = Memory(relay=relay.pid, **{program.name: program.pid for program in connectors})
    count = FLOWED_MIB * 2**20 // len(sent)
    sender = threading.Thread(target=lambda: [inwards.raw.send(sent) for _ in range(count)])
    sender.start()
    for _ in range(count):
        assert out.exactly(len(sent)) == sent
    sender.join()
    assert max(memory.growth().values()) < MAX_GROWTH_MIB, memory.growth()
    seen = desktop.tunnel(connection.hex())
    assert seen["packets"][:2] == ["RTS", "REQUEST"]
    assert {half: user for half, (_, user) in seen["connections"].items()} == {"out": "alice", "in": "alice"}
    inwards.raw.socket.close()
    out.raw.socket.close()
    until("the gateway notices", lambda: not desktop.tunnel(connection.hex())["open"])


@pytest.mark.feature("SCN-5")
@pytest.mark.parametrize(
    ("form", "transport"), [("websocket", "http"), ("http", "http,no-websockets")], ids=["websocket", "halves"]
)
def test_freerdp(desktop: Desktop, form: str, transport: str) -> None:
    """Debian's own client signs in with NTLM, opens tunnel and channel, and hears what is at the end of it."""
    program = shutil.which("xfreerdp") or shutil.which("xfreerdp3")
    if program is None or shutil.which("Xvfb") is None:
        pytest.skip("no xfreerdp or no Xvfb: apt-get install freerdp2-x11 xvfb")
    before = len(desktop.tunnels())
    printed = freerdp(desktop, program, transport)
    tunnels = desktop.tunnels()[before:]
    assert tunnels, printed
    seen = tunnels[-1]
    assert seen["form"] == form, (seen, printed)
    assert seen["packets"][:5] == ["HANDSHAKE_REQUEST", "TUNNEL_CREATE", "TUNNEL_AUTH", "CHANNEL_CREATE", "DATA"], (
        printed
    )
    assert seen["target"] == "pc-9.corp.local:3389"
    assert {user for _, user in seen["connections"].values()} == {"alice"}
    assert "HYBRID_REQUIRED_BY_SERVER" in printed, printed


@pytest.mark.feature("SCN-5")
def test_freerdp_over_rpc(desktop: Desktop) -> None:
    """The same over RPC: two halves of a gibibyte each are joined, and the first call reaches the gateway."""
    program = shutil.which("xfreerdp") or shutil.which("xfreerdp3")
    if program is None or shutil.which("Xvfb") is None:
        pytest.skip("no xfreerdp or no Xvfb: apt-get install freerdp2-x11 xvfb")
    before = len(desktop.tunnels())
    printed = freerdp(desktop, program, "rpc")
    tunnels = desktop.tunnels()[before:]
    assert tunnels, printed
    seen = tunnels[-1]
    assert (seen["form"], seen["packets"]) == ("rpc", ["BIND"]), (seen, printed)
    assert {half: user for half, (_, user) in seen["connections"].items()} == {"out": "alice", "in": "alice"}


def freerdp(desktop: Desktop, program: str, transport: str) -> str:
    """Run the client until it gives up; returns what it printed."""
    arguments = [
        program, "/v:pc-9.corp.local", f"/g:localhost:{desktop.clients_port}", "/gu:alice", "/gp:secret", "/u:alice",
        "/p:secret", f"/gt:{transport}", "/cert:ignore", "/sec:rdp", "/log-level:INFO",
    ]  # fmt: skip
    (number,) = free_ports(1)
    name = f":{number % 10_000 + 100}"
    screen = subprocess.Popen(
        ["Xvfb", name, "-nolisten", "tcp", "-screen", "0", "640x480x24"], stderr=subprocess.DEVNULL
    )
    try:
        until("the display is there", Path(f"/tmp/.X11-unix/X{name[1:]}").exists)
        environ = {**os.environ, "DISPLAY": name, "HOME": str(desktop.folder)}
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, env=environ, check=False)
        return done.stdout + done.stderr
    finally:
        screen.terminate()
        screen.wait(10)
