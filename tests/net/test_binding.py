"""Opening listening sockets: what is refused, and the remedy."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from appproxy.config.listening import ListenAddress
from appproxy.errors import ConfigError
from appproxy.net.binding import _remedy, open_socket

ADOPTING = """
import os, socket, sys
from appproxy.config.listening import ListenAddress
from appproxy.errors import ConfigError
from appproxy.net.binding import open_socket

listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
plain = socket.socket()
os.dup2(plain.fileno(), 4)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "clients:broken"}
adopted = open_socket(ListenAddress(kind="systemd", name="clients"), "listen.clients", environ=environ)
assert adopted.getsockname() == listening.getsockname() and not adopted.getblocking()
for name in ("broken", "missing"):
    try:
        open_socket(ListenAddress(kind="systemd", name=name), "listen.clients", environ=environ)
    except ConfigError as refused:
        print(refused)
"""


class TcpTests(SynchronousTestCase):
    """Ports."""

    def open(self, host: str, port: int = 0) -> socket.socket:
        opened = open_socket(ListenAddress(kind="tcp", host=host, port=port), "listen.clients")
        self.addCleanup(opened.close)
        return opened

    def test_a_taken_port(self) -> None:
        """The message names the port, the remedy and the setting."""
        port = self.open("127.0.0.1").getsockname()[1]
        refused = self.assertRaises(ConfigError, self.open, "127.0.0.1", port)
        self.assertEqual(
            str(refused),
            f"listen.clients: port {port} is taken by another program; stop it or choose another in listen.clients",
        )

    def test_all_addresses(self) -> None:
        """Without a host, IPv4 clients are served, by the same socket as those of IPv6 where there is IPv6."""
        port = self.open("").getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            pass

    def test_another_machines_address(self) -> None:
        """An address that is not ours is named."""
        self.assertIn("192.0.2.77", str(self.assertRaises(ConfigError, self.open, "192.0.2.77")))

    def test_a_privileged_port(self) -> None:
        """The remedy is the capability."""
        self.assertIn("CAP_NET_BIND_SERVICE", _remedy(PermissionError(13, "Permission denied"), "", 443, "x"))


class UnixTests(SynchronousTestCase):
    """Paths."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def open(self, mode: int = 0o660) -> socket.socket:
        opened = open_socket(ListenAddress(kind="unix", path=str(self.path)), "listen.admin", mode=mode)
        self.addCleanup(opened.close)
        return opened

    def test_modes(self) -> None:
        """The file is for its owner and group, or as told; the process's mask is as before."""
        before = os.umask(0o22)
        self.addCleanup(os.umask, before)
        self.open()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o660)
        self.path.unlink()
        self.open(0o600)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(os.umask(0o22), 0o22)

    def test_left_behind(self) -> None:
        """What a killed program left is replaced."""
        self.open().close()
        self.assertTrue(self.path.exists())
        self.open()

    def test_in_use(self) -> None:
        """A live one is not taken away."""
        self.open()
        self.assertIn("used by another program", str(self.assertRaises(ConfigError, self.open)))

    def test_something_else(self) -> None:
        """A file that is no socket stays, and so does a missing directory."""
        self.path.write_text("precious")
        self.assertIn("is not a socket", str(self.assertRaises(ConfigError, self.open)))
        self.assertEqual(self.path.read_text(), "precious")
        self.path = self.path.parent / "missing" / "socket"
        self.assertIn("No such file", str(self.assertRaises(ConfigError, self.open)))


class SystemdTests(SynchronousTestCase):
    """Sockets from systemd."""

    def test_by_name(self) -> None:
        """The one of that name is adopted; others are refused with the reason.  (Its number is fixed: 3.)"""
        done = subprocess.run([sys.executable, "-c", ADOPTING], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        broken, missing = done.stdout.splitlines()
        self.assertIn("not a listening stream socket", broken)
        self.assertIn("no socket named 'missing' (broken, clients)", missing)

    def test_not_under_systemd(self) -> None:
        """Without its environment there is nothing to adopt."""
        address = ListenAddress(kind="systemd", name="clients")
        refused = self.assertRaises(ConfigError, open_socket, address, "listen.clients", environ={})
        self.assertIn("none at all", str(refused))
