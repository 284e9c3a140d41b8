"""Programs that cannot start say so in one line, without a traceback, and end with a code that supervisors see."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.certificates import Authority
from tests.live.programs import BIN, free_ports, own_environment

pytestmark = pytest.mark.live


class RefusalTestCase(SynchronousTestCase):
    program = ""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.touch(0o600)
        path.write_text(text)
        return path

    def line(self, settings: str, **environ: str) -> str:
        """Start the program with these settings; the one line that it says of its own."""
        config = self.file("settings.toml", settings)
        ended = subprocess.run(
            [BIN / "twistd", "-n", "--pidfile=", self.program, "--config", config],
            capture_output=True, text=True, timeout=30, check=False, cwd=self.folder,
            env={**own_environment(), "PYTHONUNBUFFERED": "1", **environ},
        )  # fmt: skip
        said = ended.stdout + ended.stderr
        self.assertEqual(ended.returncode, 1, said)
        self.assertNotIn("Traceback", said)
        lines = [line for line in ended.stderr.splitlines() if line.startswith(f"{self.program}: ")]
        self.assertEqual(len(lines), 1, said)
        return lines[0].replace(f"{self.folder}/", "")


@pytest.mark.feature("OPS-1")
class RelayRefusalTests(RefusalTestCase):
    program = "appproxy-relay"

    def settings(self, clients: int = 0, more: str = "") -> str:
        ports = free_ports(2)
        return (
            '[relay]\nstate_dir = "state"\n[listen]\n'
            f'clients = ["tls:{clients or ports[0]}:interface=127.0.0.1"]\n'
            f'connectors = "tls:{ports[1]}:interface=127.0.0.1"\n{more}'
        )

    def test_a_misspelt_key(self) -> None:
        """The line has file, key and the nearest known key."""
        self.assertEqual(
            self.line('[relay]\nnod = "x"\n'),
            'appproxy-relay: settings.toml: relay.nod: unknown key; did you mean "node"?',
        )

    def test_a_misspelt_variable(self) -> None:
        """So it is for the environment."""
        self.assertIn("APPPROXY_RELAY_NOD", self.line("", APPPROXY_RELAY_NOD="x"))

    def test_a_taken_port(self) -> None:
        """The line names the setting and the port."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = self.line(self.settings(port))
        self.assertIn(str(port), line)
        self.assertIn("listen.clients", line)

    def test_a_key_that_everybody_can_read(self) -> None:
        """R13: the line names the file and the command that mends it."""
        certificates = self.folder / "certs"
        certificates.mkdir()
        Authority().write(certificates / "hr.pem", "hr.example.com").chmod(0o644)
        line = self.line(self.settings(more='[tls]\ncertificates = "certs"\n'))
        self.assertIn("certs/hr.pem", line)
        self.assertIn("chmod 600", line)

    def test_a_secret_that_is_missing(self) -> None:
        """The line names the setting and the file."""
        provider = (
            '[[provider]]\nid = "a"\nissuer = "https://a.example"\nclient_id = "x"\nclient_secret_file = "gone"\n'
        )
        line = self.line(self.settings(more=provider))
        self.assertIn("provider[0].client_secret_file", line)
        self.assertIn("gone", line)

    def test_a_store_that_is_none(self) -> None:
        """A damaged store, and one of a newer release, are named with what to do."""
        state = self.folder / "state"
        state.mkdir()
        self.file("state/relay.db", "this is no database, however long it is " * 100)
        self.assertIn("relay.db", self.line(self.settings()))
        (state / "relay.db").unlink()
        with sqlite3.connect(state / "relay.db") as newer:
            newer.execute("CREATE TABLE schema (version INTEGER, compat INTEGER)")
            newer.execute("INSERT INTO schema VALUES (999, 999)")
        self.assertIn("newer release", self.line(self.settings()))


@pytest.mark.feature("OPS-1", "CON-2")
class ConnectorRefusalTests(RefusalTestCase):
    program = "appproxy-connector"

    def settings(self, more: str = "") -> str:
        return f'[connector]\nrelays = ["https://localhost:1"]\nstate_dir = "state"\n{more}'

    def test_a_misspelt_key(self) -> None:
        """The line has file, key and the nearest known key."""
        line = self.line(self.settings('enrolment_tokenfile = "x"\n'))
        self.assertIn('connector.enrolment_tokenfile: unknown key; did you mean "enrolment_token_file"?', line)

    def test_without_a_token(self) -> None:
        """A connector that is not enrolled and has no token says how to get one."""
        self.assertIn("appproxy token enrol", self.line(self.settings()))

    def test_token_files(self) -> None:
        """Missing, open to others, and not a token: the line names setting, file and remedy."""
        settings = self.settings('enrolment_token_file = "token"\n')
        self.assertIn("token", self.line(settings))
        token = self.file("token", "junk")
        self.assertIn("no enrolment token", self.line(settings))
        token.chmod(0o644)
        self.assertIn("chmod 600", self.line(settings))

    def test_damaged_credentials(self) -> None:
        """R13: credentials that are junk, or that others can read, are named."""
        (self.folder / "state").mkdir()
        credentials = self.file("state/connector.pem", "junk")
        self.assertIn("state/connector.pem", self.line(self.settings()))
        credentials.chmod(0o644)
        self.assertIn("chmod 600", self.line(self.settings()))
