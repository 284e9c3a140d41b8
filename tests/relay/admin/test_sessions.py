from __future__ import annotations

import hashlib

import msgspec
import pytest

from appproxy.identity import Identity
from appproxy.store import SessionRecord, sessions
from tests.relay.admin.calls import HR, NOW, AdminTestCase


@pytest.mark.feature("AUTH-7")
class SessionTests(AdminTestCase):
    def sign_in(self, handle: bytes, user: str = "alice@example.com", parent: bytes | None = None) -> bytes:
        handle_hash = hashlib.sha256(handle).digest()
        record = SessionRecord(
            handle_hash=handle_hash,
            parent=parent,
            host="hr.example.com" if parent else "proxy.example.com",
            application="hr" if parent else "",
            provider="entra",
            identity=Identity("https://login", user, user),
            created=NOW,
            last_seen=NOW,
            idle_seconds=600,
            until=NOW + 3600,
        )
        self.write(sessions.create, record)
        return handle_hash

    def test_lists_by_user(self) -> None:
        """All sessions or one user's, each by the beginning of its hash; never the handle or more of the hash."""
        root = self.sign_in(b"root")
        self.sign_in(b"app", parent=root)
        self.sign_in(b"bob", "bob@example.com")
        self.assertEqual(len(self.asked("GET", "/v1/sessions")["sessions"]), 3)
        listed = self.asked("GET", "/v1/sessions?user=alice%40example.com")["sessions"]
        self.assertEqual({each["user"] for each in listed}, {"alice@example.com"})
        self.assertEqual({each["sign_in"] for each in listed}, {root.hex()[:12]})
        self.assertEqual({each["until"] for each in listed}, {NOW + 600})
        self.assertNotIn(root.hex()[:13], repr(listed))

    def test_what_has_run_out_is_not_listed(self) -> None:
        """A session beyond its idle time is no session."""
        self.sign_in(b"root")
        self.now += 600
        self.assertEqual(self.asked("GET", "/v1/sessions")["sessions"], [])

    def test_ends_everything_of_one_sign_in(self) -> None:
        """Ending one session ends its siblings and its parent, or it would come back by itself; others stay."""
        root = self.sign_in(b"root")
        one, two = self.sign_in(b"one", parent=root), self.sign_in(b"two", parent=root)
        other = self.sign_in(b"other")
        self.assertEqual(self.asked("DELETE", f"/v1/sessions/{one.hex()[:12]}"), {"ended": 3})
        self.assertIsNone(self.write(sessions.find, two))
        self.assertIsNotNone(self.write(sessions.find, other))
        self.assertEqual([act["event"] for act in self.acts], ["admin.session-ended"])

    def test_ends_all_of_one_user(self) -> None:
        """Every sign-in of the user ends; other users' stay; without a user nothing does."""
        self.sign_in(b"one")
        self.sign_in(b"two")
        bob = self.sign_in(b"bob", "bob@example.com")
        self.refused("DELETE", "/v1/sessions", 400)
        self.refused("DELETE", "/v1/sessions?user=", 400)
        self.assertEqual(self.asked("DELETE", "/v1/sessions?user=alice@example.com")["ended"], 2)
        self.assertIsNotNone(self.write(sessions.find, bob))
        self.assertEqual([act["event"] for act in self.acts], ["admin.user-signed-out"])

    def test_ids_name_exactly_one(self) -> None:
        """Too short, not hexadecimal or unknown is 404; the beginning of two is 409, and ends neither."""
        first = self.sign_in(b"one")
        for name in (first.hex()[:7], "z" * 12, "0" * 12):
            self.refused("DELETE", f"/v1/sessions/{name}", 404)
        twin = bytearray(first)
        twin[-1] ^= 1
        record = self.write(sessions.find, first)
        self.write(sessions.create, msgspec.structs.replace(record, handle_hash=bytes(twin)))
        self.refused("DELETE", f"/v1/sessions/{first.hex()[:12]}", 409)
        self.assertEqual(len(self.asked("GET", "/v1/sessions")["sessions"]), 2)
        self.assertEqual(self.acts, [])


class StatusTests(AdminTestCase):
    @pytest.mark.feature("ADM-2")
    def test_counts(self) -> None:
        """Applications, connectors and sessions in short, and the authority that connectors pin."""
        self.publish(HR, HR | {"id": "x", "external_url": "https://x.example.com/", "enabled": False})
        status = self.asked("GET", "/v1/status")
        self.assertEqual(status["applications"], {"published": 1, "disabled": 1})
        self.assertEqual(status["connectors"], {"enrolled": 0, "online": 0})
        self.assertEqual(status["sessions"], 0)
        self.assertEqual(len(status["authority"]["fingerprint"]), 64)
