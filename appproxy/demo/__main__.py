"""``python -m appproxy.demo``: everything on this machine, ready to try out."""

from __future__ import annotations

import argparse
import fcntl
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from appproxy.cli.failing import Failed
from appproxy.cli.relay import Relay
from appproxy.connector.credentials import CERTIFICATE_FILE, Credentials
from appproxy.demo.children import ChildDied, Children
from appproxy.demo.kdc import Missing
from appproxy.demo.kerberos import REALM, Domain
from appproxy.demo.settings import Ports, write_private, write_settings

#: Programs installed beside this Python.
PROGRAMS = Path(sysconfig.get_path("scripts"))


class Refused(Exception):
    """The demo cannot start; the message is one line with the remedy."""


class Demo:
    """The quick start.

    :param folder: keeps configuration, state and logs from one start to the next.
    :param kerberos: with a Kerberos realm and an origin in it.
    """

    def __init__(self, folder: Path, ports: Ports, kerberos: bool = False) -> None:
        self._kerberos = kerberos
        self._domain: Domain | None = None
        self._folder = folder
        self._ports = ports
        self._children = Children(folder)
        self._socket = folder / "relay" / "admin.sock"

    def run(self) -> None:
        """Start everything, say so, and stay until one of the processes ends.

        :raises Refused: it cannot start.
        :raises ChildDied: a process ended.
        """
        self._take_folder()
        if taken := self._ports.taken(self._kerberos):
            raise Refused(f"{taken}, is taken; choose another range with: make demo PORT=9443")
        try:
            with self._children.ended_at_last():
                self._start_domain()
                self._start()
                print(self._welcome(), flush=True)
                self._children.watch()
        finally:
            if self._domain is not None:
                self._domain.remove()

    def _start_domain(self) -> None:
        """The realm, where there is one, and all settings."""
        ports = self._ports
        if not self._kerberos:
            write_settings(self._folder, ports)
            return
        try:
            self._domain = domain = Domain(ports.kdc, ports.windows)
        except Missing as absent:
            raise Refused(str(absent)) from None
        _say("realm", f"{REALM}, a KDC at port {ports.kdc} of this machine, nothing of the machine's own is changed")
        _say("windows", f"http://localhost:{ports.windows}/, an intranet that takes Kerberos tickets only")
        domain.start(self._children)
        write_settings(self._folder, ports, domain.settings(), domain.application(ports.clients))

    def _take_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"a demo runs already in {self._folder}; stop it first, with Ctrl-C") from None

    def _start(self) -> None:
        ports, start = self._ports, self._children.start
        _say("intranet", f"http://127.0.0.1:{ports.intranet}/, reachable from this machine only")
        intranet = [sys.executable, "-m", "appproxy.demo.intranet", "--port", str(ports.intranet)]
        start("intranet", intranet, lambda: _listens(ports.intranet))
        _say("provider", f"http://localhost:{ports.provider}/, for development only")
        provider = ["idp", "serve", "--users", "users.toml", "--port", str(ports.provider), "--state-dir", "provider"]
        start("provider", [str(PROGRAMS / "appproxy"), *provider], lambda: _listens(ports.provider))
        _say("relay", f"https://proxy.localhost:{ports.clients}/")
        start("relay", self._twistd("relay"), self._relay_answers)
        _say("publish", self._appproxy("apply", "applications.toml").splitlines()[-1])
        if not self._is_enrolled():
            _say("enrol", "a one-time token for the connector")
            write_private(self._folder / "enrolment-token", self._appproxy("token", "enrol", "--group", "demo"))
        _say("connector", f"dials https://localhost:{ports.connectors}/ and listens nowhere")
        start("connector", self._twistd("connector"), lambda: self._relay_answers(with_connector=True))

    def _twistd(self, program: str) -> list[str]:
        twistd = str(PROGRAMS / "twistd")
        return [twistd, "--nodaemon", "--pidfile=", f"appproxy-{program}", "--config", f"{program}.toml"]

    def _appproxy(self, *arguments: str) -> str:
        """What the ``appproxy`` command prints; :raises Refused: what it complains of."""
        command = [str(PROGRAMS / "appproxy"), *arguments, "--socket", str(self._socket)]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise Refused(done.stderr.strip())
        return done.stdout

    def _relay_answers(self, with_connector: bool = False) -> bool:
        try:
            status = Relay(str(self._socket)).ask("GET", "status")
        except Failed:
            return False
        return not with_connector or status["connectors"]["online"] > 0

    def _is_enrolled(self) -> bool:
        """Whether the connector's certificate of an earlier start is still good; an expired one is put away."""
        credentials = Credentials.load(self._folder / "connector")
        if credentials is not None and credentials.not_after <= time.time():
            (self._folder / "connector" / CERTIFICATE_FILE).unlink()
            return False
        return credentials is not None

    def _welcome(self) -> str:
        clients = self._ports.clients
        first = [f"Open     https://intranet.localhost:{clients}/    an intranet, through relay and connector"]
        if self._kerberos:
            first.append(
                f"         https://windows.localhost:{clients}/     one for Kerberos tickets only; you need none"
            )
        return _box(
            [
                *first,
                f"         https://reports.localhost:{clients}/     for the finance group only",
                f"         https://proxy.localhost:{clients}/       the portal: what you may open",
                "",
                "Sign in  alice, password wonderland   groups staff and finance",
                "         bob, password builder        group staff: the reports are refused",
                "",
                "Your browser warns, for the certificates come from the demo's own authority:",
                f"         {_short(self._folder / 'relay' / 'development-ca.pem')}",
                f"Logs     {_short(self._folder)}/*.log",
                f"Command  appproxy status --socket {_short(self._socket)}",
                "Stop     Ctrl-C",
            ]
        )


def _say(what: str, more: str) -> None:
    print(f"  {what:<10} {more}", flush=True)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _box(lines: Sequence[str]) -> str:
    width = max(map(len, lines))
    edge = "+" + "-" * (width + 4) + "+"
    return "\n".join(["", edge, *(f"|  {line:<{width}}  |" for line in lines), edge])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 0 after Ctrl-C, 1 when it could not start or a process ended."""
    parser = argparse.ArgumentParser(
        prog="python -m appproxy.demo", description="Relay, connector, provider, intranet."
    )
    parser.add_argument("--port", type=int, default=Ports().clients, help="where browsers come in (default: 8443)")
    parser.add_argument("--state-dir", type=Path, default=Path(".demo"), help="default: .demo")
    parser.add_argument("--kerberos", action="store_true", help="with a Kerberos realm and an intranet in it")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        Demo(arguments.state_dir.absolute(), Ports.beginning(arguments.port), arguments.kerberos).run()
    except KeyboardInterrupt:
        print("\nstopped; the next start goes on from the same state", flush=True)
        return 0
    except (Refused, ChildDied, ValueError) as problem:
        print(f"demo: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
