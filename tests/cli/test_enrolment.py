from __future__ import annotations

import os
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from appproxy.applications import ConnectorGroup
from appproxy.relay.certificates import ServerCertificates
from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.connectors.authority import Authority, make_authority
from appproxy.relay.connectors.enrolment import Enrolment, hash_secret, make_token
from appproxy.store import applications, connectors, tokens
from tests.cli.processes import begin, finish
from tests.cli.running import CommandTestCase, Ended
from tests.fakes.exchange import FakeExchange

#: The command's own clock is the machine's.
AUTHORITY = Authority.load(make_authority(int(time.time())))


class _Door(BaseHTTPRequestHandler):
    """One enrolment, put to the relay's own code."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        exchange = FakeExchange(f"https://{self.headers['Host']}{self.path}", method=b"POST", fields=(), body=body)
        Deferred.fromCoroutine(self.server.enrolment.respond(exchange))  # type: ignore[attr-defined]
        self.send_response(exchange.status)
        self.send_header("Content-Length", str(len(exchange.body)))
        self.end_headers()
        self.wfile.write(exchange.body)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.mark.live
@pytest.mark.feature("CON-2", "ADM-3")
class EnrolTests(CommandTestCase):
    """``appproxy connector enrol`` as its own process, against the relay's enrolment behind its own TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.write(applications.put_group, ConnectorGroup(name="hq"))
        self.now = int(time.time())
        server: Any = HTTPServer(("127.0.0.1", 0), _Door)
        server.enrolment = Enrolment(Authorities([AUTHORITY]), self.store, now=lambda: self.now, seconds=lambda: 0.0)
        server.socket = ServerCertificates(
            Authorities([AUTHORITY]), "localhost", now=lambda: self.now
        ).context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *args: None
        self.url = f"https://localhost:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        self.addCleanup(serving.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

    def token(self, expires: int = 3600, fingerprint: bytes = AUTHORITY.fingerprint) -> str:
        secret = secrets.token_bytes(32)
        self.write(tokens.issue, hash_secret(secret), "hq", self.now + expires, self.now)
        return self.file("token", make_token(secret, fingerprint) + "\n")

    def enrol(self, token_file: str, state: str = "state", url: str = "", *more: str) -> Ended:
        arguments = ["--relay", url or self.url, "--token-file", token_file, "--state-dir", str(self.folder / state)]
        return finish(begin("connector", "enrol", *arguments, *more))

    def line(self, ended: Ended) -> str:
        """The one line of a command that failed."""
        self.assertEqual((ended.code, ended.out, ended.err.count("\n")), (1, "", 1), ended)
        return ended.err

    def test_once_and_never_again(self) -> None:
        """A token makes credentials that only their owner can read; the second use is refused (R01)."""
        token = self.token()
        ended = self.enrol(token)
        self.assertEqual((ended.code, ended.err), (0, ""))
        (record,) = self.write(connectors.list_)
        self.assertIn(f"connector {record.id} is enrolled", ended.out)
        self.assertEqual((self.folder / "state" / "connector.pem").stat().st_mode & 0o777, 0o600)
        self.assertIn("was enrolled before", self.enrol(token).out)
        line = self.line(self.enrol(token, "other"))
        self.assertIn("enrolment token is not valid", line)
        self.assertIn("appproxy token enrol", line)

    def test_expired(self) -> None:
        """R02: a token that came too late is one line with the remedy."""
        self.assertIn("appproxy token enrol", self.line(self.enrol(self.token(expires=0))))

    def test_another_relays_token(self) -> None:
        """C27: a relay whose authority the token does not name never sees the token."""
        line = self.line(self.enrol(self.token(fingerprint=bytes(32))))
        self.assertIn("does not come from the authority that the enrolment token names", line)
        self.assertEqual(self.write(connectors.list_), [])

    def test_nobody_there(self) -> None:
        """A relay that cannot be reached is one line, at once: the command does not wait."""
        self.assertIn(
            "cannot enrol at https://localhost:1", self.line(self.enrol(self.token(), url="https://localhost:1"))
        )

    def test_bad_arguments_and_files(self) -> None:
        """Each names the argument or file: addresses, names, tokens, permissions."""
        token = self.token()
        self.assertIn("--relay", self.line(self.enrol(token, url="http://localhost:1")))
        self.assertIn("--relay", self.line(self.enrol(token, url="https://localhost/x")))
        self.assertIn("--name", self.line(self.enrol(token, "state", "", "--name", "a b")))
        self.assertIn("/nowhere", self.line(self.enrol("/nowhere")))
        self.assertIn("no enrolment token", self.line(self.enrol(self.file("junk", "junk"))))
        os.chmod(token, 0o644)
        self.assertIn("chmod 600", self.line(self.enrol(token)))
