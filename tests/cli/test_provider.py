from __future__ import annotations

import json
import re
import signal
import socket
from urllib.request import urlopen

import pytest

from tests.cli.processes import begin, finish
from tests.cli.running import CommandTestCase, Ended, command

USERS = """
[[user]]
name = "alice"
password = "alice"
[[client]]
client_id = "relay"
client_secret = "development"
redirect_uris = ["https://proxy.localhost:4443/.appproxy/callback"]
"""


@pytest.mark.live
@pytest.mark.feature("AUTH-14", "ADM-3")
class ServeTests(CommandTestCase):
    def arguments(self, *more: str, users: str = USERS) -> list[str]:
        file = self.file("users.toml", users)
        return ["idp", "serve", "--users", file, "--state-dir", str(self.folder / "idp"), *more]

    def line(self, ended: Ended) -> str:
        self.assertEqual((ended.code, ended.out, ended.err.count("\n")), (1, "", 1), ended)
        return ended.err

    def test_serves_until_interrupted(self) -> None:
        """It says loudly what it is and where, answers there, and leaves quietly with Ctrl-C."""
        process = begin(*self.arguments("--port", "0"))
        self.addCleanup(process.kill)
        assert process.stdout is not None
        notice = process.stdout.readline()
        self.assertIn("DEVELOPMENT", notice)
        issuer = re.findall(r"http://localhost:\d+", notice)[0]
        with urlopen(f"{issuer}/.well-known/openid-configuration", timeout=10) as answer:
            self.assertEqual(json.load(answer)["issuer"], issuer)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        self.assertEqual((ended.code, ended.err), (0, ""))

    def test_a_taken_port(self) -> None:
        """One line that names the port and the remedy."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            line = self.line(finish(begin(*self.arguments("--port", port))))
        self.assertIn(f"port {port} is taken", line)
        self.assertIn("--port", line)

    def test_public_addresses_and_bad_files(self) -> None:
        """AUTH-14: it is for this machine only; a misspelt users file is one line."""
        self.assertIn("0.0.0.0", self.line(finish(begin(*self.arguments("--host", "0.0.0.0")))))
        line = self.line(finish(begin(*self.arguments(users='[[user]]\nnme = "x"\n'))))
        self.assertIn("users.toml", line)

    def test_ports_are_numbers(self) -> None:
        """A port that is none is not understood."""
        for port in ("x", "-1", "65536"):
            self.assertEqual(command(*self.arguments("--port", port)).code, 2)
