"""Canaille, an identity provider that has nothing in common with the certified one: Python, Flask, Authlib."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.live.programs import BIN, Program, free_ports, listens

CLIENT_SECRET = "another-secret"
SETTINGS = """
SECRET_KEY = "for tests"
DATABASE = "sql"
SERVER_NAME = "localhost:{port}"
PREFERRED_URL_SCHEME = "http"
[CANAILLE]
[CANAILLE_SQL]
DATABASE_URI = "sqlite:///{folder}/canaille.db"
[CANAILLE_OIDC]
"""
#: For ``relay.toml``.  Its ID tokens name people by ``sub``.
PROVIDER = """
[[provider]]
id = "canaille"
issuer = "http://localhost:{port}"
client_id = "relay"
client_secret = "{secret}"
scopes = ["openid", "profile", "email", "groups", "offline_access"]
user_claim = "sub"
allow_http = true
"""


class Canaille:
    """One such provider with users in a group, and the relay at *relay* as its client."""

    def __init__(self, folder: Path, relay: str) -> None:
        if importlib.util.find_spec("canaille") is None:
            pytest.skip("canaille is not installed: pip install 'appproxy[test]'")
        [self.port] = free_ports(1)
        self._folder = folder
        self._relay = relay
        settings = folder / "canaille.toml"
        settings.write_text(SETTINGS.format(port=self.port, folder=folder))
        self._environ = {"CANAILLE_CONFIG": str(settings)}

    @property
    def settings(self) -> str:
        """The relay's."""
        return PROVIDER.format(port=self.port, secret=CLIENT_SECRET)

    def command(self, *arguments: str) -> str:
        """Run its command; what it printed."""
        done = subprocess.run(
            [BIN / "canaille", *arguments],
            cwd=self._folder,
            env={**os.environ, **self._environ},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def start(self) -> Program:
        """Make its database, its people and its client, and start it."""
        self.command("install")
        for name in ("alice", "bob"):
            person = ("--given-name", name.title(), "--family-name", "X", "--formatted-name", name.title())
            self.command(
                "create", "user", "--user-name", name, "--password", f"{name}-secret", "--emails",
                f"{name}@example.com", *person, "--quiet",
            )  # fmt: skip
        self.command("create", "group", "--display-name", "staff", "--members", "alice", "--members", "bob", "--quiet")
        made = json.loads(
            self.command(
                "create", "client", "--client-id", "relay", "--client-secret", CLIENT_SECRET, "--client-name", "Relay",
                "--client-uri", self._relay,
                "--redirect-uris", f"{self._relay}/.appproxy/callback",
                "--post-logout-redirect-uris", f"{self._relay}/.appproxy/signed-out",
                "--token-endpoint-auth-method", "client_secret_basic",
                "--grant-types", "authorization_code", "--grant-types", "refresh_token", "--response-types", "code",
                "--scope", "openid", "--scope", "profile", "--scope", "email", "--scope", "groups",
                "--scope", "offline_access", "--id-token-signed-response-alg", "RS256",
            )
        )  # fmt: skip
        # Without itself among them its ID tokens are for nobody.
        self.command("set", "client", made["id"], "--audience", made["id"], "--quiet")
        arguments = [BIN / "canaille", "run", "--bind", f"127.0.0.1:{self.port}"]
        program = Program("canaille", arguments, self._folder, self._environ)
        program.wait_for(lambda: listens(self.port), "canaille listens", 40)
        return program
