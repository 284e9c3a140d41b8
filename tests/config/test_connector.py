"""``connector.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from appproxy.config import ConnectorConfig, read_connector
from tests.config.files import Written

MINIMAL = '[connector]\nrelays = ["https://connect.example.com:8443"]\n'

#: What is written, and what is said.
MISTAKES = {
    "": "connector.toml: connector.relays: is missing",
    "[connector]\nrelays = []": (
        'connector.toml: connector.relays: is empty; write for instance ["https://connect.proxy.example.com:8443"]'
    ),
    '[connector]\nrelays = ["http://connect.example.com"]': (
        "connector.toml: connector.relays[0]: must be https; the channel to a relay is always TLS"
    ),
    '[connector]\nrelays = ["https://c.example.com/x"]': (
        "connector.toml: connector.relays[0]: 'https://c.example.com/x' has a path; write only scheme, host and port"
    ),
    MINIMAL + "channels = 0": "connector.toml: connector.channels: 0 is not between 1 and 4",
    MINIMAL + 'name = "a/b"': (
        "connector.toml: connector.name: 'a/b' is not a name; use letters, digits, dots and hyphens"
    ),
    MINIMAL + 'allow = ["corp.local"]': (
        "connector.toml: connector.allow[0]: 'corp.local' is not an http or https address; write https://host/path/"
    ),
    MINIMAL + 'enrolment_token = "a"\nenrolment_token_file = "b"': (
        "connector.toml: connector.enrolment_token: is given twice; keep enrolment_token_file only"
    ),
    MINIMAL + 'relay_ca_file = "ca.pem"': (
        "connector.toml: connector.relay_ca_file: there is no file ca.pem; create it or correct the path"
    ),
    MINIMAL + '[egress]\nproxy = "http://proxy:3128"': (
        "connector.toml: egress: not available in this release; remove it"
    ),
    MINIMAL + '[kerberos]\nprincipal = "svc@CORP"': (
        "connector.toml: kerberos.keytab_file: is missing; where are the keys?"
    ),
    MINIMAL + "[relay]": "connector.toml: relay: unknown key; known: connector, kerberos, listen, logging, origin",
}


@pytest.mark.feature("OPS-1")
class TestConnector(Written):
    """Reading ``connector.toml``."""

    def read(self, text: str, environ: Mapping[str, str] = {}) -> ConnectorConfig:
        """Read settings that are *text*."""
        return read_connector(self.write("connector.toml", text), {"HOME": "/home/c", **environ})

    def test_every_mistake_is_one_line(self) -> None:
        """Each mistake is told with the file, the key and what to do."""
        for text, said in MISTAKES.items():
            self.assertEqual(self.problem(lambda text=text: self.read(text)), said)  # type: ignore[misc]

    def test_minimal(self) -> None:
        """One relay is all that has to be named."""
        connector = self.read(MINIMAL).connector
        self.assertEqual(connector.relays, ("https://connect.example.com:8443",))
        self.assertEqual(connector.state_dir, Path("/home/c/.local/state/appproxy-connector"))
        self.assertEqual((connector.channels, connector.allow), (2, None))
        self.assertTrue(connector.name)

    def test_allowed_origins_are_canonical(self) -> None:
        """Origins lose default port and case; an empty list allows nothing, which is not the same as no list."""
        connector = self.read(MINIMAL + 'allow = ["HTTP://Hr.corp.local:80", "https://*.corp.local:444"]').connector
        self.assertEqual(connector.allow, ("http://hr.corp.local", "https://*.corp.local:444"))
        self.assertEqual(self.read(MINIMAL + "allow = []").connector.allow, ())

    def test_variables(self) -> None:
        """All of it may come from the environment; a mistake names the variable."""
        relays = {"APPPROXY_CONNECTOR_RELAYS": "https://a.example.com,https://b.example.com"}
        self.assertEqual(self.read("", relays).connector.relays, ("https://a.example.com", "https://b.example.com"))
        said = "APPPROXY_CONNECTOR_RELAYS: must be https; the channel to a relay is always TLS"
        self.assertEqual(self.problem(lambda: self.read("", {"APPPROXY_CONNECTOR_RELAYS": "http://a"})), said)

    def test_enrolment_token_may_be_gone(self) -> None:
        """The token's file is looked at when it is needed: after enrolment it may be missing."""
        connector = self.read(MINIMAL + 'enrolment_token_file = "token"').connector
        said = "connector.enrolment_token_file: there is no file token; create it or correct the path"
        self.assertEqual(self.problem(connector.read_enrolment_token), said)
        self.write("token", "t0ken\n")
        self.assertEqual(connector.read_enrolment_token(), "t0ken")

    def test_token_is_in_no_repr(self) -> None:
        """O02: settings that are logged do not show the token."""
        connector = self.read(MINIMAL + 'enrolment_token = "t0ken"').connector
        self.assertEqual(connector.read_enrolment_token(), "t0ken")
        self.assertNotIn("t0ken", repr(connector))
