from __future__ import annotations

import hashlib
import json

import pytest

from appproxy.identity import Identity
from appproxy.store import SessionRecord, sessions
from tests.cli.running import NOW, CommandTestCase, command


@pytest.mark.feature("AUTH-7", "ADM-3")
class SessionTests(CommandTestCase):
    def sign_in(self, user: str) -> str:
        handle_hash = hashlib.sha256(user.encode()).digest()
        record = SessionRecord(
            handle_hash=handle_hash,
            host="proxy.example.com",
            provider="entra",
            identity=Identity("https://login", user, user),
            created=NOW,
            last_seen=NOW,
            idle_seconds=600,
            until=NOW + 3600,
        )
        self.write(sessions.create, record)
        return handle_hash.hex()[:12]

    def test_list(self) -> None:
        """Who is signed in, where and until when; one user only on request."""
        alice, bob = self.sign_in("alice@example.com"), self.sign_in("bob & co/ü@example.com")
        listed = self.done("session", "list")
        self.assertIn(alice, listed)
        self.assertIn("2030-03-17 17:56Z", listed)
        self.assertNotIn(alice, self.done("session", "list", "--user", "bob & co/ü@example.com"))
        self.assertIn(bob, self.done("session", "list", "--user", "bob & co/ü@example.com"))
        self.assertIn("nobody", self.done("session", "list", "--user", ""))

    def test_end_one(self) -> None:
        """By its id; a second time there is none."""
        alice = self.sign_in("alice@example.com")
        self.assertEqual(self.done("session", "end", alice), "1 session of this sign-in ended\n")
        self.assertIn("no such session", self.refused("session", "end", alice))

    def test_end_a_users(self) -> None:
        """All of one user; others stay."""
        self.sign_in("alice@example.com")
        self.sign_in("bob@example.com")
        self.assertIn("1 session of alice", self.done("session", "end", "--user", "alice@example.com"))
        self.assertIn("bob", self.done("session", "list"))

    def test_ends_nothing_by_a_slip(self) -> None:
        """Neither or both of id and user is not understood; an empty user ends nobody."""
        self.sign_in("alice@example.com")
        self.assertEqual(command("session", "end", "--socket", self.socket).code, 2)
        self.assertEqual(command("session", "end", "x", "--user", "y", "--socket", self.socket).code, 2)
        self.refused("session", "end", "--user", "")
        self.assertIn("alice", self.done("session", "list"))

    def test_status(self) -> None:
        """The relay in six lines, or as JSON."""
        self.sign_in("alice@example.com")
        self.assertIn("sessions      1\n", self.done("status"))
        self.assertEqual(json.loads(self.done("status", "--output", "json"))["sessions"], 1)
