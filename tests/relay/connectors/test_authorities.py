"""Several authorities: one takes over from another while everybody stays connected (R12)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.connectors import authorities
from appproxy.relay.connectors.authorities import AUTHORITY_SECRET, HEARD_SECONDS, Authorities, CannotChange, name_of
from appproxy.relay.connectors.authority import CONNECTOR_DAYS, DAY, Authority, make_authority
from appproxy.store import connectors, feed, secrets
from appproxy.store.records import ConnectorRecord
from tests.fakes.memory_store import MemoryStore

NOW = 1_900_000_000


class RolloverTests(SynchronousTestCase):
    """A store with one authority and one connector that has a certificate of it."""

    def setUp(self) -> None:
        self.store: Any = MemoryStore()
        self.write(secrets.get_or_create, AUTHORITY_SECRET, lambda: make_authority(NOW - DAY))
        self.live = self.load()
        self.old = self.live.issuing
        until = NOW - DAY + CONNECTOR_DAYS * DAY
        record = ConnectorRecord(id="c-1", name="hq-1", group="hq", serial="1", not_after=until, enrolled=NOW - DAY)
        self.write(connectors.enrol, record)

    def write(self, function: Any, *arguments: Any) -> Any:
        return self.successResultOf(self.store.write(function, *arguments))

    def refused(self, function: Any, *arguments: Any) -> str:
        return str(self.failureResultOf(self.store.write(function, *arguments), CannotChange).value)

    def load(self) -> Authorities:
        return Authorities.load(self.write(secrets.find, AUTHORITY_SECRET))

    def trusted(self) -> list[str]:
        return [name_of(member) for member in self.load().members]

    def test_a_new_one_takes_over_step_by_step(self) -> None:
        """R12: added it is trusted; used it issues, and the old one still is trusted; removed the old one is not."""
        before = self.write(feed.latest)
        added = self.write(authorities.add, NOW)
        self.assertEqual(self.trusted(), [name_of(self.old), name_of(added)])
        self.write(authorities.use, name_of(added), NOW)
        loaded = self.load()
        self.assertEqual((loaded.issuing.pem, loaded.since), (added.pem, NOW + HEARD_SECONDS))
        self.assertEqual(self.trusted(), [name_of(added), name_of(self.old)])
        self.write(connectors.renew, "c-1", 1, "2", NOW + 10 + CONNECTOR_DAYS * DAY)
        self.write(authorities.remove, name_of(self.old), NOW + 20)
        self.assertEqual(self.trusted(), [name_of(added)])
        changes = [change.kind for change in self.write(feed.since, before)]
        self.assertEqual(changes.count(feed.AUTHORITY), 3)

    def test_whoever_holds_them_sees_the_change(self) -> None:
        """The same object, with another version; what changes nothing changes no version."""
        added = self.write(authorities.add, NOW)
        octets = self.write(secrets.find, AUTHORITY_SECRET)
        self.assertTrue(self.live.replace(octets))
        self.assertFalse(self.live.replace(octets))
        self.assertEqual((self.live.version, self.live.issuing.pem), (1, self.old.pem))
        told = self.live.told()
        self.assertEqual((told["type"], told["issuer"]), ("trust", self.old.fingerprint.hex()))
        self.assertEqual(told["authorities"], (self.old.pem + added.pem).decode())

    def test_the_old_one_stays_while_connectors_depend_on_it(self) -> None:
        """Unless the administrator insists."""
        added = self.write(authorities.add, NOW)
        self.write(authorities.use, name_of(added), NOW)
        held = self.write(authorities.holders, NOW + 5)
        self.assertEqual([(name_of(each.authority), each.connectors) for each in held],
                         [(name_of(added), 0), (name_of(self.old), 1)])  # fmt: skip
        self.assertIn("1 connectors have not renewed", self.refused(authorities.remove, name_of(self.old), NOW + 5))
        self.write(authorities.remove, name_of(self.old), NOW + 5, True)
        self.assertEqual(self.trusted(), [name_of(added)])

    def test_revoked_and_expired_connectors_do_not_count(self) -> None:
        """Their certificates are refused anyway."""
        added = self.write(authorities.add, NOW)
        self.write(authorities.use, name_of(added), NOW)
        self.assertEqual(self.write(authorities.holders, NOW + CONNECTOR_DAYS * DAY)[1].connectors, 0)
        self.write(connectors.revoke, "c-1", NOW)
        self.assertEqual(self.write(authorities.holders, NOW + 5)[1].connectors, 0)

    def test_what_makes_no_sense_is_refused(self) -> None:
        """Removing the one that issues, using it again, a name that is none, one too many; nothing changes."""
        self.assertIn("issues", self.refused(authorities.remove, name_of(self.old), NOW))
        self.assertIn("issues already", self.refused(authorities.use, name_of(self.old), NOW))
        self.assertIn("appproxy authority list", self.refused(authorities.use, "0" * 12, NOW))
        for _ in range(3):
            self.write(authorities.add, NOW)
        self.assertIn("there are 4", self.refused(authorities.add, NOW))

    def test_junk_is_none(self) -> None:
        """What is damaged is told apart from what is there."""
        self.assertRaises(ValueError, Authorities.load, b"issues-from: 12\n")
        self.assertRaises(ValueError, self.live.replace, b"junk")
        self.assertEqual(self.live.issuing.pem, self.old.pem)

    def test_members_are_whole(self) -> None:
        """Each keeps its key: it can issue when its turn comes."""
        added = self.write(authorities.add, NOW)
        [_, loaded] = self.load().members
        self.assertEqual(loaded.pem, added.pem)
        self.assertEqual(Authority.load(loaded.whole()).fingerprint, added.fingerprint)
