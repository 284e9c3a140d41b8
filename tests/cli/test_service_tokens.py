from __future__ import annotations

import pytest

from tests.cli.running import APPS, CommandTestCase


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
