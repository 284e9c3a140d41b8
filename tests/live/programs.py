"""Real programs on loopback, each a process of its own: relay, connector, whatever a test adds.

Everything is bounded: a program that does not become ready in time, or does not end, fails the test with its log.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import compiled

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent.parent
READY_SECONDS = 20.0
#: Programs of the package: started compiled where that is asked for.
OURS = (BIN / "twistd", BIN / "appproxy")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses at the moment; all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def until(what: str, happened: Callable[[], object], seconds: float = READY_SECONDS) -> None:
    """Wait until *happened* gives something true; :raises AssertionError: it does not in time."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether somebody accepts connections at *port* of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def own_environment() -> dict[str, str]:
    """The environment of a program of ours: where ``APPPROXY_COMPILED`` names a folder, it is imported from there."""
    environ = dict(os.environ)
    environ.pop(compiled.VARIABLE, None)
    if folder := compiled.find_folder():
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), environ.get("PYTHONPATH"))))
    return environ


class Program:
    """One process, with what it wrote in *log*."""

    def __init__(
        self, name: str, arguments: Sequence[str | Path], folder: Path, environ: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        inherited = own_environment() if arguments[0] in OURS else os.environ
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(each) for each in arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**inherited, "PYTHONUNBUFFERED": "1", **(environ or {})},
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def text(self) -> str:
        """All that it wrote."""
        return self.log.read_text("utf-8", "replace")

    def wait_for(self, happened: Callable[[], object], what: str, seconds: float = READY_SECONDS) -> None:
        """Wait until *happened*; fails at once when the program ends, with its last words."""

        def look() -> object:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}: {self.text()[-2000:]}")
            return happened()

        try:
            until(what, look, seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.name}: {self.text()[-3000:]}") from None

    def says(self, words: str, seconds: float = READY_SECONDS) -> None:
        """Wait until its log has *words*."""
        self.wait_for(lambda: words in self.text(), f"{self.name} says {words!r}", seconds)

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, seconds: float = 40.0) -> int:
        """SIGTERM, then SIGKILL for who does not listen; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode


class Deployment:
    """A relay and a connector with an application or more; ``with`` stops what was started."""

    def __init__(self, folder: Path, *, relay_more: str = "", connector_more: str = "", patience: float = 5.0) -> None:
        self.folder = folder
        self.patience = patience
        self.clients_port, self.connectors_port = free_ports(2)
        self.public_url = f"https://proxy.localhost:{self.clients_port}"
        self.connect_url = f"https://localhost:{self.connectors_port}"
        self.socket = folder / "relay" / "admin.sock"
        self.access_log = folder / "relay-access.log"
        self.programs: list[Program] = []
        self.relay_more = relay_more
        self.connector_more = connector_more
        #: Where clients come in besides.
        self.further_ports: tuple[int, ...] = ()
        #: More of the relay's ``[listen]``.
        self.listen_more = ""
        self.relay: Program | None = None
        self.connector: Program | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for program in reversed(self.programs):
            program.stop(self.patience)

    def add(self, program: Program) -> Program:
        """Have *program* stopped with the rest."""
        self.programs.append(program)
        return program

    @property
    def authority(self) -> Path:
        """The relay's own CA, which its development certificates are from."""
        return self.folder / "relay" / "development-ca.pem"

    def write(self, name: str, text: str) -> Path:
        """Write a file only we can read."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def start_relay(self) -> Program:
        """Start the relay, again with the same state after it was stopped or killed."""
        clients = [f"tls:{port}:interface=127.0.0.1" for port in (self.clients_port, *self.further_ports)]
        config = self.write(
            "relay.toml",
            f"""
[relay]
public_url = "{self.public_url}"
state_dir = "relay"
node = "relay-test"
[listen]
clients = {json.dumps(clients)}
connectors = "tls:{self.connectors_port}:interface=127.0.0.1"
connect_url = "{self.connect_url}"
{self.listen_more}
[logging]
access_log = "relay-access.log"
{self.relay_more}
""",
        )
        before = self.folder.joinpath("relay.log").read_text().count("relay.ready") if self.relay else 0
        self.relay = self.add(
            Program("relay", [BIN / "twistd", "-n", "--pidfile=", "appproxy-relay", "--config", config], self.folder)
        )
        relay = self.relay
        relay.wait_for(lambda: relay.text().count("relay.ready") > before, "the relay is ready")
        return relay

    def command(self, *arguments: str, code: int = 0) -> str:
        """Run the ``appproxy`` command against the relay; returns what it printed."""
        result = subprocess.run(
            [BIN / "appproxy", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
            env={**own_environment(), "APPPROXY_ADMIN_SOCKET": str(self.socket)},
        )
        assert result.returncode == code, (arguments, result.returncode, result.stdout, result.stderr)
        return result.stdout if code == 0 else result.stderr

    def apply(self, text: str) -> str:
        """Apply a file with that text."""
        return self.command("apply", str(self.write("applications.toml", text)))

    def start_connector(self, group: str = "hq", name: str = "connector") -> Program:
        """Start a connector, enrolled with a fresh token when it has never been."""
        state = self.folder / name
        token = self.folder / f"{name}.token"
        if not state.exists():
            self.write(token.name, self.command("token", "enrol", "--group", group, "--expires", "1h"))
        config = self.write(
            f"{name}.toml",
            f"""
[connector]
name = "{name}"
relays = ["{self.connect_url}"]
state_dir = "{name}"
enrolment_token_file = "{token.name}"
{self.connector_more}
[logging]
access_log = "{name}-access.log"
""",
        )
        relay = self.relay
        assert relay is not None
        before = relay.text().count("connector.attached")
        self.connector = self.add(
            Program(name, [BIN / "twistd", "-n", "--pidfile=", "appproxy-connector", "--config", config], self.folder)
        )
        self.connector.wait_for(lambda: relay.text().count("connector.attached") > before, "the connector is attached")
        return self.connector

    def tls(self) -> ssl.SSLContext:
        """A client's context that trusts the relay."""
        return ssl.create_default_context(cafile=str(self.authority))
