from __future__ import annotations

from appproxy.relay.connectors.authorities import AUTHORITY_SECRET, name_of
from appproxy.store import secrets
from tests.cli.running import AUTHORITY, CommandTestCase


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
