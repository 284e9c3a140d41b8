from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from appproxy.relay.connectors.enrolment import hash_token
from appproxy.store import ConnectorRecord, connectors, tokens
from tests.cli.running import APPS, NOW, CommandTestCase


@pytest.mark.feature("CON-2", "ADM-3")
class TokenTests(CommandTestCase):
    def test_prints_the_token_alone(self) -> None:
        """``appproxy token enrol --group hq > file`` makes a token file: one line, nothing else."""
        self.done("apply", self.file("apps.toml", APPS))
        out = self.done("token", "enrol", "--group", "hq", "--expires", "2h")
        self.assertEqual(out.count("\n"), 1)
        token_hash = hash_token(out)
        assert token_hash is not None
        self.assertEqual(self.write(tokens.find, token_hash).expires, NOW + 7200)

    def test_needs_a_group(self) -> None:
        """Without the group nothing is made, no group either, and the line says how to make one."""
        line = self.refused("token", "enrol", "--group", "nothing")
        self.assertIn('no connector group "nothing"', line)
        self.assertIn("appproxy apply", line)
        self.assertIn("no connector groups", self.done("group", "list"))

    def test_needs_a_duration(self) -> None:
        """A lifetime that is none is one line that says how one is written."""
        self.done("apply", self.file("apps.toml", APPS))
        self.assertIn('"12h"', self.refused("token", "enrol", "--group", "hq", "--expires", "soon"))

    def test_list(self) -> None:
        """Tokens by the beginning of their hash; never their text."""
        self.assertIn("no tokens", self.done("token", "list"))
        self.done("apply", self.file("apps.toml", APPS))
        document = json.loads(self.done("token", "enrol", "--group", "hq", "--output", "json"))
        listed = self.done("token", "list")
        self.assertIn(document["id"], listed)
        self.assertNotIn(document["token"].split(".")[1], listed)


@pytest.mark.feature("CON-2", "ADM-3")
class ConnectorTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        record = ConnectorRecord(
            id="c-1", name="hq-1", group="hq", serial="1", not_after=NOW + 86400 * 30, enrolled=NOW
        )
        self.write(connectors.enrol, record)

    def test_list(self) -> None:
        """Who is here, with how many channels, from where, and until when its certificate is good."""
        self.assertIn("offline", self.done("connector", "list"))
        self.live.by_connector["c-1"] = SimpleNamespace(peer="192.0.2.1", since=NOW, channels=[1, 2])
        self.assertEqual(
            self.done("connector", "list"),
            "ID   NAME  GROUP  STATE   CHANNELS  PEER       SINCE              ENROLLED           CERTIFICATE UNTIL\n"
            "c-1  hq-1  hq     online  2         192.0.2.1  2030-03-17 17:46Z  2030-03-17 17:46Z  2030-04-16 17:46Z\n",
        )

    def test_move(self) -> None:
        """R14: into a group that exists."""
        self.done("apply", self.file("apps.toml", APPS + '\n[[connector_group]]\nname = "lab"\n'))
        self.assertIn("lab", self.done("connector", "move", "c-1", "--group", "lab"))
        self.assertIn("lab", self.done("connector", "list"))
        self.assertIn('no connector group "moon"', self.refused("connector", "move", "c-1", "--group", "moon"))

    def test_revoke(self) -> None:
        """Shut out once; then it has been, and others do not exist."""
        self.done("connector", "revoke", "c-1")
        self.assertIn("revoked", self.done("connector", "list"))
        self.assertIn("before", self.refused("connector", "revoke", "c-1"))
        self.assertIn("appproxy connector list", self.refused("connector", "revoke", "c-2"))
