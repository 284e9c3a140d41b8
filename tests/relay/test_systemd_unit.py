from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.cli.relay import DEFAULT_SOCKET
from appproxy.config import read_relay
from appproxy.relay import service
from appproxy.relay.connectors import channels

UNIT = Path(__file__).parents[2] / "etc" / "appproxy-relay.service"


class _Unit(ConfigParser):
    """systemd's form: keys keep their case and may come again."""

    def __init__(self) -> None:
        super().__init__(interpolation=None, strict=False, delimiters=["="], comment_prefixes=["#"])

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.mark.feature("OPS-2")
class SystemdUnitTests(SynchronousTestCase):
    def setUp(self) -> None:
        unit = _Unit()
        unit.read(UNIT)
        self.service = unit["Service"]

    def test_waits_as_long_as_the_relay_needs(self) -> None:
        """Stopping outlasts the drain, the watchdog several sweeps."""
        self.assertEqual(self.service["Type"], "notify")
        self.assertGreater(int(self.service["TimeoutStopSec"]), channels.DRAIN_SECONDS + 5)
        self.assertGreater(int(self.service["WatchdogSec"]), 10 * service.SWEEP_SECONDS)

    def test_the_command_finds_the_socket(self) -> None:
        """The unit puts the admin socket where ``appproxy`` looks for it, in a folder that systemd makes."""
        name, _, value = self.service["Environment"].partition("=")
        admin = read_relay(None, {name: value}).listen.admin
        assert admin is not None
        self.assertEqual(admin.path, DEFAULT_SOCKET)
        self.assertEqual(Path(DEFAULT_SOCKET).parent, Path("/run") / self.service["RuntimeDirectory"])

    def test_reload_is_sighup(self) -> None:
        """``systemctl reload`` sends what the relay listens to."""
        self.assertRegex(self.service["ExecReload"], re.escape("kill -HUP $MAINPID"))

    def test_has_no_privilege_but_binding(self) -> None:
        """A relay that is taken over can neither write elsewhere nor gain anything."""
        for key, value in {
            "DynamicUser": "yes",
            "ProtectSystem": "strict",
            "NoNewPrivileges": "yes",
            "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
            "AmbientCapabilities": "CAP_NET_BIND_SERVICE",
        }.items():
            self.assertEqual(self.service[key], value)


@pytest.mark.feature("OPS-2")
@pytest.mark.parametrize("name", ["appproxy-relay", "appproxy-connector"])
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    """No unknown key, no malformed value; and little of the system is exposed to the programs."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed here")
    unit = tmp_path / f"{name}.service"
    text = (UNIT.parent / unit.name).read_text()
    unit.write_text(text.replace("/opt/appproxy/bin/twistd", sys.executable))
    verified = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    told = [line for line in verified.stderr.splitlines() if unit.name in line]
    assert told == []
    command = [analyze, "security", "--offline=true", "--threshold=25", unit]
    exposed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert exposed.returncode == 0, exposed.stdout[-200:] + exposed.stderr
