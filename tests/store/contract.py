"""What every store does, whatever keeps the rows; one subclass an engine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned, ConnectorGroup, HeaderRule, SingleSignOn, Timeouts
from appproxy.errors import ConfigError
from appproxy.identity import Identity
from appproxy.store import (
    Change,
    ConnectorRecord,
    SessionRecord,
    Store,
    StoreStopped,
    StoreUnavailable,
    applications,
    connectors,
    feed,
    kept,
    nodes,
    once,
    secrets,
    sessions,
    tokens,
)
from appproxy.store.differences import FieldChange, Item
from appproxy.store.interface import Database
from appproxy.store.sqlite import LOOK_SECONDS
from appproxy.units import Duration
from tests.store.threads import Threads

ALICE = Identity(
    issuer="https://login.example.com",
    subject="1",
    user="alice@example.com",
    groups=("hr", "all"),
    claims={"email": "alice@example.com", "nested": {"list": [1, None, "\u00fc"]}},
    authenticated_at=900,
)


def session(handle: bytes, parent: bytes | None = None, **changes: Any) -> SessionRecord:
    """A session of Alice's, made at 1000."""
    values: dict[str, Any] = {
        "host": "hr.example.com",
        "application": "hr",
        "provider": "corp",
        "identity": ALICE,
        "created": 1000,
        "last_seen": 1000,
        "idle_seconds": 100,
        "until": 2000,
        "sealed": b"\x00sealed\xff",
        "provider_session": "sid",
    }
    return SessionRecord(handle_hash=handle, parent=parent, **{**values, **changes})


def connector(**changes: Any) -> ConnectorRecord:
    """An enrolled connector."""
    values = {"id": "c1", "name": "hq-1", "group": "hq", "serial": "01", "not_after": 5000, "enrolled": 1000}
    return ConnectorRecord(**{**values, **changes})


def application(**changes: Any) -> Application:
    """A published application."""
    values: dict[str, Any] = {
        "id": "hr",
        "external_url": "https://hr.example.com/",
        "internal_url": "http://hr.corp.local:8080/",
        "connector_group": "hq",
        "assigned": Assigned(users=("alice",)),
        "sso": SingleSignOn(mode="header", header=(HeaderRule(name="X-User", value="user"),)),
        "timeouts": Timeouts(connect=Duration(2.5)),
    }
    return Application(**{**values, **changes})


HQ = ConnectorGroup(name="hq")


class Contract(SynchronousTestCase):
    """The promises of :class:`appproxy.store.Store`."""

    __test__ = False
    #: What the engine raises when a row is there already.
    conflict: ClassVar[type[Exception]]

    def make(self) -> Store:
        """A store over this test's rows, not started; called again: another process's."""
        raise NotImplementedError

    def setUp(self) -> None:
        """A running store."""
        self.threads = Threads()
        self.clock = Clock()
        self.store = self.running()

    def running(self) -> Store:
        """A store that has been started and will be stopped."""
        store = self.make()
        self.get(store.start())
        self.addCleanup(lambda: self.get(store.stop()))
        return store

    def get(self, work: Deferred[Any] | Coroutine[Any, Any, Any]) -> Any:
        """Wait for a result."""
        return self.threads.result_of(work)

    def write(self, function: Callable[..., Any], *args: Any) -> Any:
        """Write and wait."""
        return self.get(self.store.write(function, *args))

    def read(self, function: Callable[..., Any], *args: Any) -> Any:
        """Read and wait."""
        return self.get(self.store.read(function, *args))

    def kinds(self) -> list[tuple[str, str]]:
        """What the feed says."""
        return [(change.kind, change.key) for change in self.read(feed.since, 0)]


class StoreContract(Contract):
    """Running operations."""

    def test_a_failing_operation_takes_only_itself_back(self) -> None:
        """Operations that share a transaction succeed and fail apart from each other."""

        def fails(db: Database) -> None:
            once.use(db, b"undone", 9)
            raise KeyError("no")

        before = self.store.write(once.use, b"before", 9)
        failing = self.store.write(fails)
        after = self.store.write(once.use, b"after", 9)
        self.assertRaises(KeyError, self.get, failing)
        self.assertEqual(self.get(gatherResults([before, after])), [True, True])
        self.assertEqual(
            [self.write(once.use, key, 9) for key in (b"before", b"undone", b"after")], [False, True, False]
        )

    def test_readers_see_what_was_acknowledged(self) -> None:
        """A read that begins after an acknowledgement sees what it acknowledged."""
        for number in range(50):
            handle = bytes([number])
            self.write(sessions.create, session(handle))
            self.assertIsNotNone(self.read(sessions.find, handle))

    def test_reading_does_not_write(self) -> None:
        """A function that writes is refused where only reading was asked for."""
        self.assertRaises(StoreUnavailable, self.read, once.use, b"k", 9)
        self.assertTrue(self.write(once.use, b"k", 9))

    def test_stopping_finishes_what_was_asked(self) -> None:
        """What was asked before the end is done, what comes after is refused."""
        asked = gatherResults([self.store.write(once.use, b"%d" % number, 9) for number in range(2000)])
        self.get(self.store.stop())
        self.assertTrue(all(self.get(asked)))
        self.assertRaises(StoreStopped, self.write, once.use, b"late", 9)
        self.assertRaises(StoreStopped, self.read, feed.latest)
        self.store = self.running()
        self.assertFalse(self.write(once.use, b"1999", 9))

    def test_answered_at(self) -> None:
        """How stale the store may be is known."""
        self.clock.advance(5)
        self.read(feed.latest)
        self.assertEqual(self.store.answered_at, self.clock.seconds())

    def test_another_process_is_noticed(self) -> None:
        """A change by another process is told about at the next look."""
        other = self.running()
        told: list[int] = []
        stop = self.store.watch(told.append)
        self.get(other.write(connectors.enrol, connector()))
        self.assertEqual(told, [])
        self.clock.advance(LOOK_SECONDS)
        while not told:
            self.threads.turn()
        self.assertEqual(told, [1])
        stop()
        self.get(other.write(connectors.revoke, "c1", 1))
        self.write(feed.append, feed.GROUP, "hq")
        self.assertEqual(told, [1])

    def test_own_changes_are_told_at_once(self) -> None:
        """A change by this process is told about with its acknowledgement; a failing watcher stops nobody."""
        told: list[int] = []

        def fails(seq: int) -> None:
            raise ZeroDivisionError(seq)

        self.store.watch(fails)
        self.store.watch(told.append)
        self.write(connectors.enrol, connector())
        self.write(once.use, b"k", 9)
        self.assertEqual(told, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class FeedContract(Contract):
    """The numbered feed."""

    def test_pages(self) -> None:
        """Entries come in order, from where one asks, as many as one takes."""
        for key in "abc":
            self.write(feed.append, feed.GROUP, key)
        self.assertEqual(self.read(feed.since, 1), [Change(2, "group", "b"), Change(3, "group", "c")])
        self.assertEqual(self.read(feed.since, 0, 1), [Change(1, "group", "a")])
        self.assertEqual((self.read(feed.since, 3), self.read(feed.latest)), ([], 3))

    def test_numbers_have_no_gaps(self) -> None:
        """An operation that was undone took no number."""

        def fails(db: Database) -> None:
            feed.append(db, feed.GROUP, "undone")
            raise KeyError

        self.assertRaises(KeyError, self.write, fails)
        self.assertEqual(self.write(feed.append, feed.GROUP, "a"), 1)

    def test_too_far_behind(self) -> None:
        """Who asks for entries that are gone, or not there yet, is told to read everything anew."""
        for key in "abc":
            self.write(feed.append, feed.GROUP, key)
        self.assertEqual(self.write(feed.purge, 1), 2)
        self.assertEqual(self.read(feed.since, 2), [Change(3, "group", "c")])
        for seq in (1, 4):
            error = self.assertRaises(feed.FeedCutOff, self.read, feed.since, seq)
            self.assertEqual(error.latest, 3)


@pytest.mark.feature("AUTH-4", "AUTH-7")
class SessionsContract(Contract):
    """Sessions."""

    def test_round_trip(self) -> None:
        """A session comes back as it was, claims and sealed tokens included."""
        root, child = session(b"root", application=""), session(b"child", b"root")
        self.write(sessions.create, root)
        self.write(sessions.create, child)
        self.assertEqual(self.read(sessions.find, b"root"), root)
        self.assertEqual(self.read(sessions.find, b"child"), child)
        self.assertIsNone(self.read(sessions.find, b"other"))
        self.assertEqual({each.handle_hash for each in self.read(sessions.list_)}, {b"root", b"child"})
        self.assertEqual(self.read(sessions.list_, "bob"), [])
        self.assertNotIn("sealed", repr(root))

    def test_touching(self) -> None:
        """Last use moves forwards only."""
        self.write(sessions.create, session(b"a"))
        self.write(sessions.touch, [(b"a", 1050), (b"a", 1040), (b"gone", 1050)])
        found = self.read(sessions.find, b"a")
        assert found is not None
        self.assertEqual(found.last_seen, 1050)
        self.assertEqual([found.is_live(now) for now in (1149, 1150)], [True, False])

    def test_ending_ends_children(self) -> None:
        """Ending a session ends those made from it, and every relay is told of each."""
        for record in (session(b"root"), session(b"a", b"root"), session(b"b", b"root"), session(b"else")):
            self.write(sessions.create, record)
        self.assertEqual(self.write(sessions.end, b"a", 1100), 1)
        self.assertEqual(self.write(sessions.end, b"root", 1100), 2)
        self.assertEqual([each.handle_hash for each in self.read(sessions.list_)], [b"else"])
        told = [bytes.fromhex(key) for kind, key in self.kinds() if kind == "session-ended"]
        self.assertEqual(told, [b"a", b"root", b"b"])

    def test_ending_everything_from_a_child(self) -> None:
        """Signing out of everything at one application ends the whole sign-in."""
        for record in (session(b"root"), session(b"a", b"root"), session(b"b", b"root"), session(b"else")):
            self.write(sessions.create, record)
        self.assertEqual(self.write(sessions.end_all_of, b"a", 1100), 3)
        self.assertEqual([each.handle_hash for each in self.read(sessions.list_)], [b"else"])

    def test_ending_a_user(self) -> None:
        """All sessions of one user end, nobody else's."""
        bob = Identity(issuer="i", subject="2", user="bob")
        for record in (session(b"a"), session(b"b", b"a"), session(b"c", identity=bob)):
            self.write(sessions.create, record)
        self.assertEqual(self.write(sessions.end_user, "alice@example.com", 1100), 2)
        self.assertEqual([each.handle_hash for each in self.read(sessions.list_)], [b"c"])
        self.assertEqual(len(self.kinds()), 2)

    def test_ending_a_provider_session(self) -> None:
        """What the provider calls one session ends with it, children included."""
        child = session(b"child", b"a", provider_session="")
        for record in (session(b"a"), child, session(b"b", provider_session="x"), session(b"c", provider="other")):
            self.write(sessions.create, record)
        self.assertEqual(self.write(sessions.end_provider_session, "corp", "sid", 1100), 2)
        self.assertEqual({each.handle_hash for each in self.read(sessions.list_)}, {b"b", b"c"})

    def test_using_a_session_is_using_its_sign_in(self) -> None:
        """Who works in an application all day is not signed out because they never look at the portal."""
        self.write(sessions.create, session(b"root"))
        self.write(sessions.create, session(b"child", b"root"))
        self.write(sessions.touch, [(b"child", 1060)])
        self.assertEqual([each.last_seen for each in self.read(sessions.list_)], [1060, 1060])

    def test_ending_by_subject(self) -> None:
        """All sign-ins of one person at one provider end, or those from before a moment; nobody else's."""
        carol = Identity(issuer="i", subject="3", user="carol")
        later = session(b"c", created=1090)
        for record in (session(b"a"), session(b"b", b"a"), later, session(b"d", identity=carol)):
            self.write(sessions.create, record)
        self.assertEqual(self.write(sessions.end_subject, "other", "1", 1100), 0)
        self.assertEqual(self.write(sessions.end_subject, "corp", ALICE.subject, 1100, 1090), 2)
        self.assertEqual(self.write(sessions.end_subject, "corp", ALICE.subject, 1100), 1)
        self.assertEqual([each.handle_hash for each in self.read(sessions.list_)], [b"d"])

    def test_ending_a_provider_session_of_somebody(self) -> None:
        """A session at the provider ends for the subject that it is said to be of, and an empty name is no name."""
        self.write(sessions.create, session(b"a"))
        self.write(sessions.create, session(b"b", provider_session=""))
        self.assertEqual(self.write(sessions.end_provider_session, "corp", "", 1100), 0)
        self.assertEqual(self.write(sessions.end_provider_session, "corp", "sid", 1100, "nobody"), 0)
        self.assertEqual(self.write(sessions.end_provider_session, "corp", "sid", 1100, ALICE.subject), 1)

    def test_finding_by_address(self) -> None:
        """People are found by their name or e-mail address in any letter case, whole addresses only."""
        mailed = Identity(issuer="i", subject="9", user="x", claims={"email": "Zoe@Example.com"})
        for record in (session(b"a"), session(b"b", identity=mailed)):
            self.write(sessions.create, record)
        self.assertEqual(self.read(sessions.find_addressed, "corp", "zoe@example.COM"), [("i", "9")])
        self.assertEqual(self.read(sessions.find_addressed, "corp", "e@example.com"), [])
        found = self.read(sessions.find_addressed, "corp", ALICE.user.upper())
        self.assertEqual(found, [(ALICE.issuer, ALICE.subject)])

    @pytest.mark.feature("AUTH-5")
    def test_a_refresh_has_one_holder(self) -> None:
        """A36: of all that would refresh a sign-in that is due one does, and another when that one is not heard of."""
        due = {"refresh_due": 1050, "refresh_wait": 1080, "refresh_deadline": 2000}
        self.write(sessions.create, session(b"root", **due))
        self.write(sessions.create, session(b"never"))
        self.assertIsNone(self.write(sessions.claim_refresh, b"root", 1049, 1099))
        self.assertIsNotNone(self.write(sessions.claim_refresh, b"root", 1050, 1100))
        self.assertIsNone(self.write(sessions.claim_refresh, b"root", 1099, 1149))
        self.assertIsNotNone(self.write(sessions.claim_refresh, b"root", 1100, 1150))
        self.assertIsNone(self.write(sessions.claim_refresh, b"never", 1100, 1150))

    @pytest.mark.feature("AUTH-5")
    def test_refreshing(self) -> None:
        """What a refresh brings holds for the sign-in and all sessions made from it, and every relay is told."""
        due = {"refresh_due": 1050, "refresh_wait": 1080, "refresh_deadline": 2000}
        for record in (session(b"root", **due), session(b"a", b"root"), session(b"else", **due)):
            self.write(sessions.create, record)
        child = self.read(sessions.find, b"a")
        self.assertEqual((child.refresh_due, child.refresh_wait, child.refresh_deadline), (1050, 1080, 2000))
        renamed = Identity(issuer="i", subject="1", user="alice-2")
        changed = self.write(sessions.refreshed, b"root", renamed, b"sealed-2", "sid-2", (1350, 1380, 2300))
        self.assertEqual(sorted(changed), [b"a", b"root"])
        for handle_hash in (b"root", b"a"):
            found = self.read(sessions.find, handle_hash)
            self.assertEqual((found.identity, found.refresh_due, found.provider_session), (renamed, 1350, "sid-2"))
        self.assertEqual(self.read(sessions.find, b"root").sealed, b"sealed-2")
        self.assertEqual(self.read(sessions.find, b"else").identity, ALICE)
        self.assertEqual(len(self.read(sessions.list_, "alice-2")), 2)
        self.assertEqual([kind for kind, _ in self.kinds()], ["session-changed"] * 2)
        self.write(sessions.postpone_refresh, b"root", 1400)
        found = self.read(sessions.find, b"a")
        self.assertEqual((found.refresh_due, found.refresh_wait, found.refresh_deadline), (1400, 0, 2300))

    def test_a_sign_out_is_never_undone(self) -> None:
        """S12: a session cannot be made from one that has ended, nor does a late touch bring one back."""
        self.write(sessions.create, session(b"root"))
        self.write(sessions.end, b"root", 1100)
        self.assertRaises(sessions.ParentEnded, self.write, sessions.create, session(b"a", b"root"))
        self.write(sessions.touch, [(b"root", 1200)])
        self.assertEqual(self.read(sessions.list_), [])

    def test_a_handle_is_used_once(self) -> None:
        """Two sessions never share a handle."""
        self.write(sessions.create, session(b"a"))
        self.assertRaises(self.conflict, self.write, sessions.create, session(b"a", host="other"))

    def test_purging(self) -> None:
        """Sessions whose time is over are forgotten, silently."""
        for record in (
            session(b"idle"),
            session(b"old", until=1050, idle_seconds=500),
            session(b"live", last_seen=1090),
        ):
            self.write(sessions.create, record)
        self.assertEqual(self.write(sessions.purge, 1100), 2)
        self.assertEqual([each.handle_hash for each in self.read(sessions.list_)], [b"live"])
        self.assertEqual(self.kinds(), [])

    def test_a_sign_in_outlives_its_idle_time_for_its_sessions(self) -> None:
        """Sessions that may idle for longer than the sign-in keep it, so that they can be refreshed."""
        self.write(sessions.create, session(b"root"))
        self.write(sessions.create, session(b"child", b"root", idle_seconds=500))
        self.assertEqual(self.write(sessions.purge, 1200), 0)
        self.assertEqual(self.write(sessions.purge, 1500), 2)


@pytest.mark.feature("CON-2")
class EnrolmentContract(Contract):
    """Tokens, connectors and keys."""

    def test_a_token_has_one_winner(self) -> None:
        """R01: of all that redeem a token, in this process or another, one gets its group."""
        self.write(tokens.issue, b"t", "hq", 2000, 1000)
        other = self.running()
        tries = [store.write(tokens.redeem, b"t", 1100) for store in (self.store, other) * 20]
        self.assertEqual(sorted(self.get(gatherResults(tries)), key=str), [None] * 39 + ["hq"])
        found = self.read(tokens.find, b"t")
        assert found is not None
        self.assertEqual((found.used, found.group), (1100, "hq"))

    def test_tokens_that_do_not_work(self) -> None:
        """R02: expired, withdrawn and unknown tokens get nothing."""
        self.write(tokens.issue, b"old", "hq", 1100, 1000)
        self.write(tokens.issue, b"withdrawn", "hq", 2000, 1000)
        self.assertTrue(self.write(tokens.revoke, b"withdrawn"))
        self.assertFalse(self.write(tokens.revoke, b"withdrawn"))
        for token in (b"old", b"withdrawn", b"unknown"):
            self.assertIsNone(self.write(tokens.redeem, token, 1100))
        self.assertEqual([each.hash for each in self.read(tokens.list_)], [b"old"])
        self.assertEqual((self.write(tokens.purge, 1100), self.read(tokens.list_)), (1, []))

    def test_ids_are_used_once(self) -> None:
        """A09: a sign-in state is accepted once, and forgotten when it is too old anyway."""
        other = self.running()
        uses = [store.write(once.use, b"state", 1600) for store in (self.store, other) * 10]
        self.assertEqual(sum(self.get(gatherResults(uses))), 1)
        self.assertEqual([self.write(once.purge, now) for now in (1599, 1600)], [0, 1])
        self.assertTrue(self.write(once.use, b"state", 2000))

    def test_connector_round_trip(self) -> None:
        """A connector comes back as it was; its group can change."""
        self.write(connectors.enrol, connector())
        self.assertEqual(self.read(connectors.find, "c1"), connector())
        self.assertTrue(self.write(connectors.move, "c1", "dr"))
        self.assertFalse(self.write(connectors.move, "c2", "dr"))
        self.assertEqual(self.read(connectors.list_), [connector(group="dr")])
        self.assertIsNone(self.read(connectors.find, "c2"))
        self.assertEqual(self.kinds(), [("connector", "c1")] * 2)

    def test_revoking(self) -> None:
        """R10: a revoked connector stays known as such, is announced once, and neither renews nor connects."""
        self.write(connectors.enrol, connector())
        self.assertEqual(
            [self.write(connectors.revoke, each, 1100) for each in ("c1", "c1", "c2")], [True, False, False]
        )
        self.assertEqual(self.read(connectors.find, "c1"), connector(revoked=1100))
        self.assertFalse(self.write(connectors.renew, "c1", 1, "02", 9000))
        self.assertFalse(self.write(connectors.fence, "c1", "boot", 1))
        self.assertEqual(self.kinds()[1:], [("connector-revoked", "c1")])

    def test_renewing(self) -> None:
        """R06: only the current certificate is renewed; a copy of an older one is noticed."""
        self.write(connectors.enrol, connector())
        self.assertTrue(self.write(connectors.renew, "c1", 1, "02", 9000))
        self.assertFalse(self.write(connectors.renew, "c1", 1, "03", 9000))
        self.assertEqual(self.read(connectors.find, "c1"), connector(generation=2, serial="02", not_after=9000))

    def test_fencing(self) -> None:
        """A newer boot speaks for the connector; an older one never again, nor another with the same epoch."""
        self.write(connectors.enrol, connector())
        tries = [("a", 1), ("a", 1), ("b", 1), ("b", 2), ("a", 1), ("a", 3)]
        self.assertEqual(
            [self.write(connectors.fence, "c1", *each) for each in tries], [True, True, False, True, False, True]
        )

    def test_secrets_are_made_once(self) -> None:
        """All who ask for a key get the one that the first of them made."""
        other = self.running()
        made = [
            store.write(secrets.get_or_create, "key", str(number).encode)
            for number, store in enumerate((self.store, other) * 5)
        ]
        (key,) = set(self.get(gatherResults(made)))
        self.assertEqual(self.read(secrets.find, "key"), key)
        self.assertIsNone(self.read(secrets.find, "none"))
        self.write(secrets.put, "key", b"new")
        self.assertEqual(self.read(secrets.find, "key"), b"new")


class NodesContract(Contract):
    """Names and leads."""

    def test_a_name_has_one_holder(self) -> None:
        """A node's name is its process's until the lease runs out or is given up."""
        self.assertEqual(self.write(nodes.lease, "r1", "boot-a", 110, 100), 1)
        self.assertEqual(self.write(nodes.lease, "r1", "boot-a", 115, 105), 1)
        self.assertIsNone(self.write(nodes.lease, "r1", "boot-b", 120, 114))
        self.assertEqual(self.write(nodes.lease, "r1", "boot-b", 125, 115), 2)
        self.assertEqual(self.read(nodes.live, 120), [nodes.Node("r1", "boot-b", 2, 125)])
        self.assertEqual(self.read(nodes.live, 125), [])
        self.write(nodes.leave, "r1", "boot-b")
        self.assertEqual(self.write(nodes.lease, "r1", "boot-c", 125, 116), 3)

    def test_a_task_has_one_leader(self) -> None:
        """The epoch of a lead fences what an earlier leader still wants to write."""
        self.assertEqual(self.write(nodes.lead, "purge", "a", 110, 100), 1)
        self.assertIsNone(self.write(nodes.lead, "purge", "b", 110, 105))
        self.assertTrue(self.read(nodes.is_leader, "purge", "a", 1))
        self.assertEqual(self.write(nodes.lead, "purge", "b", 120, 110), 2)
        self.assertFalse(self.read(nodes.is_leader, "purge", "a", 1))
        self.assertIsNone(self.write(nodes.lead, "purge", "a", 130, 111))
        self.assertEqual(self.read(nodes.live, 110), [])


@pytest.mark.feature("PUB-1", "ADM-3")
class ApplicationsContract(Contract):
    """Applications and groups."""

    def apply(self, *wanted: Application, groups: tuple[ConnectorGroup, ...] = (HQ,), dry_run: bool = False) -> Any:
        """Apply a file."""
        return self.write(applications.apply, wanted, groups, 1000, dry_run)

    def test_applying(self) -> None:
        """A file adds what is new and says so; applied again it changes nothing, the feed included."""
        diff = self.apply(application())
        items = (Item("group", "hq"), Item("application", "hr"))
        self.assertEqual((diff.added, diff.changed, diff.unchanged), (items, (), ()))
        self.assertEqual(self.kinds(), [("group", "hq"), ("application", "hr")])
        diff = self.apply(application())
        self.assertEqual((diff.added, diff.changed, diff.unchanged), ((), (), items))
        self.assertEqual(self.read(feed.latest), 2)
        self.assertEqual(self.read(applications.find, "hr"), (1, application()))

    def test_what_is_not_named_stays(self) -> None:
        """Applying a file never removes what it does not name."""
        self.apply(application())
        other = application(id="pay", external_url="https://pay.example.com/")
        self.apply(other, groups=())
        self.assertEqual(self.read(applications.list_), [(1, application()), (1, other)])

    def test_changes_are_told_field_by_field(self) -> None:
        """The difference names each setting, with what it was and is."""
        self.apply(application())
        wanted = application(
            internal_url="http://new.corp.local/", assigned=Assigned(users=("alice", "bob")), timeouts=Timeouts()
        )
        (change,) = self.apply(wanted).changed
        self.assertEqual(change.item, Item("application", "hr"))
        self.assertEqual(
            set(change.fields),
            {
                FieldChange("internal_url", '"http://hr.corp.local:8080/"', '"http://new.corp.local/"'),
                FieldChange("assigned.users", '["alice"]', '["alice","bob"]'),
                FieldChange("timeouts.connect", '"2500ms"', '"10s"'),
            },
        )
        self.assertEqual(self.read(applications.find, "hr"), (2, wanted))

    def test_dry_run(self) -> None:
        """A dry run says the same and does nothing."""
        diff = self.read(applications.apply, [application()], [HQ], 1000, True)
        self.assertEqual(len(diff.added), 2)
        self.assertEqual((self.read(applications.list_), self.read(applications.list_groups)), ([], []))

    def test_all_or_nothing(self) -> None:
        """A file with one application that cannot be leaves everything as it was."""
        self.apply(application())
        good = application(id="a", external_url="https://a.example.com/")
        for bad, said in (
            (application(id="b"), "application[b].external_url: https://hr.example.com/ belongs to application hr; "
             "one URL, one application"),
            (application(id="b", external_url="https://b/", connector_group="dr"),
             'application[b].connector_group: there is no connector group "dr"; add a [[connector_group]]'),
        ):  # fmt: skip
            self.assertEqual(str(self.assertRaises(ConfigError, self.apply, good, bad)), said)
        self.assertEqual(self.read(applications.list_), [(1, application())])

    def test_addresses_can_be_swapped(self) -> None:
        """N22 looks at what will be, not at what was: two applications may exchange their URLs."""
        one, two = application(), application(id="two", external_url="https://two.example.com/")
        self.apply(one, two)
        swapped = application(external_url=two.external_url), application(id="two", external_url=one.external_url)
        self.assertEqual(len(self.apply(*swapped).changed), 2)

    def test_putting_one(self) -> None:
        """One application is replaced only if it still is what the caller saw; the same again is no new version."""
        self.apply(application())
        disabled = application(enabled=False)
        self.assertEqual(self.write(applications.put, disabled, 1), 2)
        self.assertEqual(self.write(applications.put, disabled), 2)
        self.assertRaises(applications.VersionMismatch, self.write, applications.put, application(), 1)
        self.assertRaises(applications.VersionMismatch, self.write, applications.put, application(id="x"), 1)
        self.assertRaises(ConfigError, self.write, applications.put, application(id="x"), 0)

    def test_deleting(self) -> None:
        """Deleting is announced; a group goes only when nothing is in it."""
        self.apply(application())
        self.write(connectors.enrol, connector())
        for said, remove in (
            ("group hq: is used by application hr; move them first", (applications.delete, "hr")),
            ("group hq: is used by connector c1; move them first", (connectors.revoke, "c1", 1100)),
        ):
            self.assertEqual(str(self.assertRaises(ConfigError, self.write, applications.delete_group, "hq")), said)
            self.assertTrue(self.write(*remove))
        self.assertFalse(self.write(applications.delete, "hr"))
        self.assertEqual([self.write(applications.delete_group, "hq") for _ in range(2)], [True, False])
        self.assertEqual(self.kinds()[-3:], [("application", "hr"), ("connector-revoked", "c1"), ("group", "hq")])

    def test_groups(self) -> None:
        """Groups come back as they were."""
        self.assertEqual(self.write(applications.put_group, HQ), 1)
        self.assertEqual(self.write(applications.put_group, HQ), 1)
        self.assertEqual(self.read(applications.list_groups), [(1, HQ)])
        self.assertIsNone(self.read(applications.find_group, "dr"))


@pytest.mark.feature("AUTH-9")
class KeptContract(Contract):
    """Requests that wait for a sign-in."""

    def test_taken_once(self) -> None:
        """What is kept is given to the first who asks, in time."""
        self.assertTrue(self.write(kept.put, b"a", "192.0.2.1", b"x" * 100, 1100, 1000))
        self.assertEqual([self.write(kept.take, b"a", 1099) for _ in range(2)], [b"x" * 100, None])
        self.write(kept.put, b"b", "192.0.2.1", b"x", 1100, 1000)
        self.assertIsNone(self.write(kept.take, b"b", 1100))

    def test_room(self) -> None:
        """A few of one client wait, and so much of all; what is over makes room again."""
        for number in range(kept.MAX_PER_CLIENT):
            self.assertTrue(self.write(kept.put, b"%d" % number, "192.0.2.1", b"x", 1100, 1000))
        self.assertFalse(self.write(kept.put, b"z", "192.0.2.1", b"x", 1100, 1000))
        self.assertTrue(self.write(kept.put, b"other", "192.0.2.2", b"x", 1100, 1000))
        self.assertFalse(self.write(kept.put, b"big", "192.0.2.3", bytes(kept.MAX_CLIENT_BYTES + 1), 1100, 1000))
        most = bytes(kept.MAX_CLIENT_BYTES)
        filled = [self.write(kept.put, b"f%d" % each, f"192.0.3.{each}", most, 1050, 1000) for each in range(4)]
        self.assertEqual(filled, [True, True, True, False])
        self.assertEqual(self.write(kept.purge, 1050), 3)
        self.assertTrue(self.write(kept.put, b"late", "192.0.2.1", b"x", 1200, 1100))
        self.assertEqual(self.write(kept.purge, 1100), kept.MAX_PER_CLIENT + 1)
