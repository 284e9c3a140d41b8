"""The users file."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.devidp.users import User, read_users
from appproxy.errors import ConfigError

GOOD = """
[[user]]
name = "alice@example.com"
password = "wonder"
groups = ["hr"]
claims = { name = "Alice" }
[[user]]
name = "bob"
password = "builder"
[[client]]
client_id = "relay"
client_secret = "s"
redirect_uris = ["https://proxy.localhost/cb"]
"""


class UsersFileTest(SynchronousTestCase):
    """What it says, and how mistakes are told."""

    def read(self, text: str) -> object:
        """Read a file with this text."""
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return read_users(path)

    @pytest.mark.feature("AUTH-14")
    def test_users(self) -> None:
        """Users have claims of their own; passwords are compared whole."""
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GOOD)
        users = read_users(path)
        alice = users.check_password("alice@example.com", "wonder")
        assert alice is not None
        self.assertEqual(
            alice.told(),
            {
                "sub": "alice@example.com",
                "preferred_username": "alice@example.com",
                "name": "Alice",
                "groups": ["hr"],
                "email": "alice@example.com",
                "email_verified": True,
            },
        )
        for name, password in (("alice@example.com", "wonde"), ("alice@example.com", ""), ("bob", "wonder"), ("x", "")):
            self.assertIsNone(users.check_password(name, password))
        self.assertNotIn("email", User("bob", "x").told())
        self.assertNotIn("wonder", repr(users))

    def test_mistakes(self) -> None:
        """Each is one line that names the place."""
        for text, words in (
            ("", "at least one"),
            ("x = 1", "unknown field"),
            (GOOD.replace("password", "pasword"), "pasword"),
            (GOOD.replace('"builder"', '""'), "password"),
            (GOOD.replace('"bob"', '"alice@example.com"'), "same name"),
            (GOOD.replace('name = "Alice"', 'iss = "x"'), "iss"),
            (GOOD.replace('["hr"]', "7"), "groups"),
        ):
            with self.assertRaises(ConfigError) as caught:
                self.read(text)
            self.assertIn(words, str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))
