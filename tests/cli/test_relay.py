from __future__ import annotations

import socket
import threading
import unittest
from pathlib import Path

import pytest

from appproxy.cli import relay as module
from tests.cli.running import CommandTestCase, as_root, command


@pytest.mark.feature("ADM-3")
class ReachTests(CommandTestCase):
    def line(self, path: str) -> str:
        ended = command("app", "list", "--socket", path)
        self.assertEqual((ended.code, ended.out, ended.err.count("\n")), (1, "", 1))
        return ended.err

    def test_no_socket(self) -> None:
        """The line names the socket, and asks what people forget."""
        self.assertEqual(
            self.line("/nowhere/admin.sock"),
            "appproxy: cannot reach the relay at /nowhere/admin.sock: no such socket; is appproxy-relay running, "
            "and do you run as its user?\n",
        )

    def test_nobody_listens(self) -> None:
        """A socket that a killed relay left behind, and a file that is no socket."""
        left = str(self.folder / "left.sock")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(left)
        self.assertIn("nobody listens", self.line(left))
        self.assertIn("nobody listens", self.line(self.file("plain", "")))

    @unittest.skipIf(as_root(), "root may open every socket")
    def test_somebody_elses_socket(self) -> None:
        """Whoever may not open the socket is told so."""
        self.folder.chmod(0o000)
        self.addCleanup(self.folder.chmod, 0o700)
        self.assertIn("permission denied", self.line(self.socket))

    def test_paths_that_cannot_be(self) -> None:
        """A path that is too long for a socket is one line too."""
        self.assertIn("--socket", self.line("/tmp/" + "a" * 200))

    def answering(self, octets: bytes) -> str:
        path = str(self.folder / "odd.sock")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(1)

        def answer() -> None:
            accepted, _ = listening.accept()
            with accepted, listening:
                accepted.recv(65536)
                accepted.sendall(octets)

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)
        return self.line(path)

    def test_something_that_is_no_relay(self) -> None:
        """Another program's socket is told from a relay's."""
        self.assertIn("is not a relay", self.answering(b"+OK POP3 ready\r\n"))

    def test_answers_without_a_reason(self) -> None:
        """An error of something in between is shown as what it is."""
        self.assertIn("answered 502 without a reason", self.answering(b"HTTP/1.0 502 Bad\r\n\r\n<html>"))

    def test_silence(self) -> None:
        """A relay that hangs does not hang the command."""
        self.patch(module, "TIMEOUT_SECONDS", 0.05)
        path = str(self.folder / "mute.sock")
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(path)
            mute.listen(1)
            self.assertIn("no answer within", self.line(path))


@pytest.mark.feature("ADM-3")
class WhichRelayTests(CommandTestCase):
    def test_the_environment_names_it(self) -> None:
        """``APPPROXY_ADMIN_SOCKET`` is used without ``--socket``, which goes first."""
        environ = {"APPPROXY_ADMIN_SOCKET": self.socket}
        self.assertEqual(command("status", environ=environ).code, 0)
        self.assertIn("/nowhere", command("status", "--socket", "/nowhere", environ=environ).err)

    def test_a_relay_of_ones_own(self) -> None:
        """Without a service on the machine, the relay that this user runs without configuration is found."""
        state = self.folder / "appproxy"
        state.mkdir()
        Path(self.socket).rename(state / "admin.sock")
        self.patch(module, "DEFAULT_SOCKET", str(self.folder / "service.sock"))
        self.assertEqual(command("status", environ={"XDG_STATE_HOME": str(self.folder)}).code, 0)
        self.assertIn("service.sock", command("status", environ={"XDG_STATE_HOME": "/nowhere"}).err)
