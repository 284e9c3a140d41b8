from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from appproxy.relay.authorities import AUTHORITY_SECRET, name_of
from appproxy.relay.enrolment import hash_token
from appproxy.store import ConnectorRecord, connectors, secrets, tokens
from tests.cli.running import APPS, AUTHORITY, NOW, CommandTestCase


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


class AuthorityTests(CommandTestCase):
    """``appproxy authority``."""

    def setUp(self) -> None:
        super().setUp()
        self.write(secrets.put, AUTHORITY_SECRET, AUTHORITY.whole())

    def test_one_takes_over_from_another(self) -> None:
        """R12: add, use, remove; the list says which issues."""
        old = name_of(AUTHORITY)
        said = self.done("authority", "add")
        new = said.split()[1]
        self.assertIn(f"appproxy authority use {new}", said)
        self.assertEqual([line.split()[:2] for line in self.done("authority", "list").splitlines()[1:]],
                         [[old, "yes"], [new, "no"]])  # fmt: skip
        self.assertIn("tokens issued before", self.done("authority", "use", new))
        self.assertIn("issues already", self.refused("authority", "use", new))
        self.assertIn("appproxy authority use", self.refused("authority", "remove", new))
        self.assertIn("no more", self.done("authority", "remove", old, "--force"))
        self.assertNotIn(old, self.done("authority", "list"))


@pytest.mark.feature("AUTH-11", "ADM-3")
class ServiceTokenTests(CommandTestCase):
    """``appproxy token service``."""

    def test_made_shown_revoked(self) -> None:
        """The text is printed once; lists never have it; revoked once."""
        self.done("apply", self.file("apps.toml", APPS))
        token = self.done(
            "token", "service", "backup", "--owner", "ops", "--application", "hr", "--path", "/api/"
        ).strip()
        self.assertRegex(token, r"\Aaps1\.[\w-]{43}\Z")
        listed = self.done("token", "services")
        self.assertNotIn(token[5:], listed)
        self.assertIn("/api/", listed)
        id = listed.splitlines()[1].split()[0]
        self.assertIn("ends now", self.done("token", "revoke", id))
        self.assertIn("appproxy token services", self.refused("token", "revoke", id))

    def test_what_cannot_be_made(self) -> None:
        """One line each."""
        self.done("apply", self.file("apps.toml", APPS))
        make = ("token", "service", "backup", "--owner", "ops")
        self.assertIn("appproxy app list", self.refused(*make, "--application", "moon"))
        self.assertIn("canonical", self.refused(*make, "--path", "api"))
        self.assertIn("366d", self.refused(*make, "--expires", "999d"))
        self.done(*make)
        self.assertIn("revoke it first", self.refused(*make))
