"""Connectors as the relay sees them: hello, fencing, assignments, leaving; on a virtual clock and the real schema."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application
from appproxy.channel.carrier import CloseCode
from appproxy.channel.listen import Refused
from appproxy.channel.protocol import Channel
from appproxy.errors import Side
from appproxy.relay.catalog import Catalog
from appproxy.relay.connectors.attachments import Attachments
from appproxy.relay.connectors.channels import DRAIN_SECONDS, HELLO_SECONDS, Arrival, Channels
from appproxy.store import connectors
from appproxy.store.records import ConnectorRecord
from appproxy.tasks import Tasks
from appproxy.wire.connection import Connection
from appproxy.wire.frames import MAX_DOCUMENT
from appproxy.wire.heads import RequestHead, ResponseHead, Standing
from appproxy.wire.windows import Budget
from tests.fakes.channels import FakeCarrier, RecordingOpener, RecordingOwner, RecordingReceiver
from tests.fakes.memory_store import MemoryStore
from tests.fakes.recorded_log import recorded


def application(identifier: str, group: str = "hq", **more: Any) -> Application:
    """Something published at a host of its own."""
    return Application(
        id=identifier,
        external_url=f"https://{identifier}.example.com/",
        internal_url=f"http://{identifier}.corp.local/",
        connector_group=group,
        **more,
    )


class Visit:
    """One channel that a connector has opened, both ends of it."""

    def __init__(self, bench: Bench, relay: Channel) -> None:
        self.bench = bench
        self.relay = relay
        self.told = RecordingOwner()
        self.opener = RecordingOpener()
        connection = Connection(Side.CONNECTOR, clock=bench.clock.seconds)
        self.connector = Channel(bench.clock, connection, self.told, self.opener)
        self.relay_carrier, self.connector_carrier = FakeCarrier(), FakeCarrier()
        relay.carrier_opened(self.relay_carrier)  # type: ignore[arg-type]
        self.connector.carrier_opened(self.connector_carrier)  # type: ignore[arg-type]

    def move(self) -> bool:
        """Deliver what was sent; a good-bye ends both."""
        moved = False
        for carrier, other in ((self.relay_carrier, self.connector), (self.connector_carrier, self.relay)):
            while carrier.sent:
                moved = True
                other.message_received(carrier.sent.popleft())
        for carrier in (self.relay_carrier, self.connector_carrier):
            if carrier.closed is not None or carrier.aborted:
                code, reason = carrier.closed or (1006, "")
                self.relay.carrier_closed(code, reason)
                self.connector.carrier_closed(code, reason)
        return moved

    def hello(self, connector: str = "c-1", boot: str = "boot-1", epoch: int = 1) -> None:
        """The connector says who it is."""
        said = {"type": "hello", "connector": connector, "version": "1", "boot": boot, "epoch": epoch}
        self.connector.control(said)
        self.bench.run()

    def documents(self, kind: str) -> list[dict[str, Any]]:
        """What the connector was told of this kind."""
        return [document for document in self.told.documents if document["type"] == kind]

    def open(self) -> Any:
        """The relay opens a stream; returns the connector's end of it."""
        receiver = RecordingReceiver()
        stream = self.relay.open(RequestHead.of(b"GET", b"/", Standing([(b"Host", b"h")], "a")), receiver, True)
        receiver.stream = stream
        self.bench.run()
        return self.opener.streams[-1]


class Bench:
    """The relay's side with a store that holds connector c-1 of group hq and c-2 of group lab."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.tasks = Tasks()
        self.attachments = Attachments()
        self.visits: list[Visit] = []
        self.renewed: list[str] = []
        for identifier, group in (("c-1", "hq"), ("c-2", "lab")):
            record = ConnectorRecord(
                id=identifier, name=f"{group}-1", group=group, serial="1", not_after=2_000_000_000, enrolled=1
            )
            self.store.write(connectors.enrol, record)
        self.channels = Channels(
            clock=self.clock,
            store=self.store,  # type: ignore[arg-type]
            tasks=self.tasks,
            attachments=self.attachments,
            budget=Budget(),
            node="node-1",
            now=lambda: 1_700_000_000,
            trusted=lambda: {"type": "trust", "authorities": "PEM", "issuer": "ab"},
            examine=self.examine,
            reissue=self.reissue,
        )

    async def examine(self, certificate: bytes | None, peer: str) -> ConnectorRecord:
        assert certificate is not None
        record = await self.store.read(connectors.find, certificate.decode())
        if record is None:
            raise Refused("this connector is not enrolled here")
        found: ConnectorRecord = record
        return found

    async def reissue(self, record: ConnectorRecord, csr: str) -> str:
        if csr == "weak":
            raise Refused("the key is too weak")
        self.renewed.append(record.id)
        return f"certificate for {csr}"

    def run(self) -> None:
        """Everything moves until it rests; time stands still."""
        for _ in range(200):
            self.clock.advance(0)
            moved = [visit.move() for visit in self.visits]
            if not any(moved) and not any(
                call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()
            ):
                return
        raise AssertionError("the channels do not come to rest")

    def wait(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            self.run()


class ChannelsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()

    def visit(self, connector: str = "c-1") -> Visit:
        """A connector with a valid certificate opens a channel."""
        admitted: Any = self.bench.channels.admit(connector.encode(), "tcp4:192.0.2.9:4000")
        visit = Visit(self.bench, self.successResultOf(admitted))
        self.bench.visits.append(visit)
        self.bench.run()
        return visit

    def attached(self, connector: str = "c-1", boot: str = "boot-1", epoch: int = 1) -> Visit:
        """The same, and it has said hello."""
        visit = self.visit(connector)
        visit.hello(connector, boot, epoch)
        return visit


class HelloTests(ChannelsTestCase):
    @pytest.mark.feature("CON-4")
    def test_attached(self) -> None:
        """After its hello a connector is welcomed, told what it serves, and carries its group's streams."""
        self.bench.channels.publish(Catalog([application("hr"), application("lab", "lab")]), 7)
        visit = self.attached()
        self.assertEqual(visit.documents("welcome")[0]["node"], "node-1")
        (assignments,) = visit.documents("assignments")
        self.assertEqual((assignments["version"], [each["id"] for each in assignments["applications"]]), (7, ["hr"]))
        self.assertIs(self.bench.attachments.pick("hq"), visit.relay)
        self.assertIsNone(self.bench.attachments.pick("lab"))
        attachment = self.bench.attachments.by_connector["c-1"]
        self.assertEqual((attachment.boot, attachment.name, attachment.since), ("boot-1", "hq-1", 1_700_000_000))

    def test_unknown_connectors_do_not_come_in(self) -> None:
        """R10: who is not enrolled is refused before there is a channel."""
        self.failureResultOf(self.bench.channels.admit(b"c-9", "p"), Refused)  # type: ignore[arg-type]

    def test_no_hello_within_ten_seconds(self) -> None:
        """A channel that does not say who it is, is sent away and was never used."""
        visit = self.visit()
        self.assertIsNone(self.bench.attachments.pick("hq"))
        self.bench.wait(HELLO_SECONDS - 1)
        self.assertIsNone(visit.relay_carrier.closed)
        self.bench.wait(1.5)
        self.assertEqual(visit.relay_carrier.closed, (CloseCode.PROTOCOL, "no hello within 10 s"))
        self.assertEqual(self.bench.channels.arrivals, set())

    def test_hello_of_another_connector(self) -> None:
        """R11: a certificate speaks for its own connector only."""
        visit = self.visit("c-1")
        visit.hello("c-2")
        self.assertEqual(visit.relay_carrier.closed, (CloseCode.POLICY, "the certificate is another connector's"))
        self.assertEqual(self.bench.attachments.by_connector, {})

    def test_malformed_hello(self) -> None:
        """A hello without its keys closes the channel with what is wrong."""
        visit = self.visit()
        visit.connector.control({"type": "hello", "connector": "c-1"})
        self.bench.run()
        assert visit.relay_carrier.closed is not None
        self.assertEqual(visit.relay_carrier.closed[0], CloseCode.PROTOCOL)
        self.assertIn("hello: ", visit.relay_carrier.closed[1])

    def test_a_second_hello_is_ignored(self) -> None:
        """A connector is welcomed once on a channel."""
        visit = self.attached()
        visit.hello()
        self.assertEqual(len(visit.documents("welcome")), 1)

    def test_unknown_documents_are_ignored(self) -> None:
        """C13: a document of a later version changes nothing."""
        visit = self.attached()
        visit.connector.control({"type": "telepathy", "thought": 1})
        visit.connector.control({"type": "applied", "version": 1})
        self.bench.run()
        self.assertTrue(visit.relay.usable)

    def test_gone_while_the_store_was_asked(self) -> None:
        """A connector that vanished before its hello was recorded is not attached for ever."""
        visit = self.visit()
        waiting: Deferred[bool] = Deferred()
        self.bench.store.write = lambda *_: waiting  # type: ignore[method-assign]
        visit.hello()
        visit.relay.carrier_closed(1006, "cut")
        waiting.callback(True)
        self.assertEqual(self.bench.attachments.by_connector, {})
        self.assertEqual(len(self.bench.tasks), 0)

    def test_the_last_channel_detaches(self) -> None:
        """Of two channels of one process either carries streams; with the last one the connector is gone."""
        first, second = self.attached(), self.attached()
        self.assertEqual(len(self.bench.attachments.by_connector["c-1"].channels), 2)
        first.relay.carrier_closed(1006, "cut")
        self.assertIs(self.bench.attachments.pick("hq"), second.relay)
        with recorded(Arrival) as events:
            second.relay.carrier_closed(1001, "bye")
        self.assertIsNone(self.bench.attachments.pick("hq"))
        self.assertEqual([event["event"] for event in events], ["connector.detached"])


class FenceTests(ChannelsTestCase):
    def test_a_newer_boot_replaces_the_older(self) -> None:
        """C25: the process with the higher epoch wins: the older one's channels are closed, with an alarm."""
        old, older = self.attached(), self.attached()
        with recorded(Channels) as events:
            new = self.attached(boot="boot-2", epoch=2)
        for visit in (old, older):
            assert visit.relay_carrier.closed is not None
            self.assertEqual(visit.relay_carrier.closed[0], CloseCode.POLICY)
        self.assertEqual([event["event"] for event in events], ["connector.replaced", "connector.attached"])
        self.assertIs(self.bench.attachments.pick("hq"), new.relay)
        self.assertEqual(self.bench.attachments.by_connector["c-1"].boot, "boot-2")
        self.assertEqual(len(self.bench.channels.arrivals), 1)

    def test_an_older_boot_is_fenced(self) -> None:
        """C25: a process that was replaced cannot come back; the one that is here stays."""
        new = self.attached(boot="boot-2", epoch=2)
        with recorded(Channels) as events:
            old = self.attached(boot="boot-1", epoch=1)
        self.assertEqual(old.relay_carrier.closed, (CloseCode.POLICY, "a newer process speaks for this connector"))
        self.assertEqual([event["event"] for event in events], ["connector.fenced"])
        self.assertIs(self.bench.attachments.pick("hq"), new.relay)
        self.assertEqual(old.documents("assignments"), [])


@pytest.mark.feature("CON-8")
class AssignmentTests(ChannelsTestCase):
    def test_changes_are_pushed(self) -> None:
        """Every connector is told at once what it serves now, each its own group's."""
        hq, lab = self.attached(), self.attached("c-2")
        self.bench.channels.publish(Catalog([application("hr"), application("rig", "lab")]), 9)
        self.bench.run()
        for visit, expected in ((hq, ["hr"]), (lab, ["rig"])):
            latest = visit.documents("assignments")[-1]
            self.assertEqual(latest["version"], 9)
            self.assertEqual([each["id"] for each in latest["applications"]], expected)

    def test_disabled_applications_are_not_assigned(self) -> None:
        """What is switched off is no connector's business."""
        self.bench.channels.publish(Catalog([application("hr"), application("old", enabled=False)]), 1)
        (assignments,) = self.attached().documents("assignments")
        self.assertEqual([each["id"] for each in assignments["applications"]], ["hr"])

    def test_refused_assignments_are_logged(self) -> None:
        """What a connector does not serve is said in the log, with its reason."""
        visit = self.attached()
        with recorded(Arrival) as events:
            visit.connector.control({"type": "refused", "version": 1, "reasons": {"hr": "not in the allow-list"}})
            self.bench.run()
        (event,) = events
        self.assertEqual(
            (event["event"], event["application"], event["reason"]),
            ("connector.refused-assignment", "hr", "not in the allow-list"),
        )

    def test_too_many_applications_for_one_document(self) -> None:
        """A group beyond what a document holds is an error in the log; other groups are told all the same."""
        self.attached()
        lab = self.attached("c-2")
        many = [application(f"a{n}", name="n" * 4000) for n in range(MAX_DOCUMENT // 4000 + 1)]
        with recorded(Channels) as events:
            self.bench.channels.publish(Catalog([*many, application("rig", "lab")]), 3)
            self.bench.run()
        self.assertEqual([event["event"] for event in events], ["connector.assignments-too-large"])
        self.assertEqual(lab.documents("assignments")[-1]["version"], 3)


@pytest.mark.feature("CON-5")
class MovingTests(ChannelsTestCase):
    """R14: a connector is put into another group while it serves."""

    def move(self, group: str = "lab") -> bool:
        """What the relay does when the feed tells of the connector."""
        self.bench.store.write(connectors.move, "c-1", group)
        return self.bench.channels.changed(self.successResultOf(self.bench.store.read(connectors.find, "c-1")))

    def test_streams_stay_and_new_ones_are_the_new_groups(self) -> None:
        """On all its channels; it is told what it serves now, and what was under way ends as it began."""
        catalog = Catalog([application("hr"), application("rig", "lab")])
        self.bench.channels.publish(catalog, 5)
        visit, second = self.attached(), self.attached()
        stream = visit.open()
        with recorded(Channels) as events:
            self.assertTrue(self.move())
        self.bench.channels.publish(catalog, 6)
        self.bench.run()
        self.assertEqual([event["event"] for event in events], ["connector.moved"])
        self.assertIsNone(self.bench.attachments.pick("hq"))
        self.assertIs(self.bench.attachments.pick("lab"), visit.relay)
        for each in (visit, second):
            latest = each.documents("assignments")[-1]
            self.assertEqual((latest["version"], [a["id"] for a in latest["applications"]]), (6, ["rig"]))
        receiver = visit.relay.streams[stream.id].receiver
        stream.answer(ResponseHead(200, b"OK", []))
        stream.end(b"done")
        self.bench.run()
        self.assertEqual((receiver.data, receiver.ended, receiver.resets), (b"done", True, []))

    def test_moved_between_arrival_and_hello(self) -> None:
        """Whoever is moved before it is welcomed is welcomed into the new group."""
        visit = self.visit()
        self.assertFalse(self.move())
        visit.hello()
        self.assertEqual(self.bench.attachments.by_connector["c-1"].group, "lab")

    def test_other_changes_move_nobody(self) -> None:
        """A renewed certificate is a change too; so is one of a connector that is not here."""
        self.attached()
        self.assertFalse(self.move("hq"))
        other = self.successResultOf(self.bench.store.read(connectors.find, "c-2"))
        self.assertFalse(self.bench.channels.changed(other))


class CertificateTests(ChannelsTestCase):
    @pytest.mark.feature("CON-2")
    def test_renewal(self) -> None:
        """R07: a connector sends a signing request and gets its next certificate on the channel."""
        visit = self.attached()
        visit.connector.control({"type": "renew", "csr": "request"})
        self.bench.run()
        self.assertEqual(visit.documents("renew")[0]["certificate"], "certificate for request")
        self.assertEqual(self.bench.renewed, ["c-1"])

    def test_refused_renewal(self) -> None:
        """R04: a request that is refused is logged; the channel goes on with the certificate that it has."""
        visit = self.attached()
        with recorded(Channels) as events:
            visit.connector.control({"type": "renew", "csr": "weak"})
            self.bench.run()
        self.assertEqual([event["event"] for event in events], ["connector.not-renewed"])
        self.assertEqual(visit.documents("renew"), [])
        self.assertTrue(visit.relay.usable)

    @pytest.mark.feature("CON-2")
    def test_revoked(self) -> None:
        """C26: revocation closes all channels of that connector at once, and no stream is opened on them any more."""
        visits = [self.attached(), self.attached(), self.visit()]
        other = self.attached("c-2")
        self.bench.channels.revoked("c-1")
        self.assertIsNone(self.bench.attachments.pick("hq"))
        self.bench.run()
        for visit in visits:
            self.assertEqual(visit.relay_carrier.closed, (CloseCode.POLICY, "revoked"))
            self.assertEqual(len(visit.documents("revoked")), 1)
        self.assertTrue(other.relay.usable)
        self.assertEqual(len(self.bench.channels.arrivals), 1)


@pytest.mark.feature("CON-7")
class LeavingTests(ChannelsTestCase):
    def test_a_draining_connector(self) -> None:
        """A connector that asks for it gets no new streams; when the last has ended the channel is closed."""
        visit = self.attached()
        stream = visit.open()
        visit.connector.control({"type": "drain", "reason": "update"})
        self.bench.run()
        self.assertIsNone(self.bench.attachments.pick("hq"))
        self.assertIsNone(visit.relay_carrier.closed)
        stream.answer(ResponseHead(204, b"No Content", []), end=True)
        self.bench.run()
        self.assertEqual(visit.relay_carrier.closed, (CloseCode.GOING_AWAY, "drained"))

    def test_a_connector_that_goes_away(self) -> None:
        """A GOAWAY of the connector keeps what is in flight and takes nothing new."""
        visit = self.attached()
        stream = visit.open()
        visit.connector.go_away(0, "elsewhere")  # type: ignore[arg-type]
        self.bench.run()
        self.assertIsNone(self.bench.attachments.pick("hq"))
        stream.answer(ResponseHead(204, b"No Content", []), end=True)
        self.bench.run()
        self.assertEqual(visit.relay.streams, {})

    def stopping(self) -> Deferred[None]:
        """Begin to stop."""
        stopped = Deferred.fromCoroutine(self.bench.channels.stop())
        self.bench.run()
        return stopped

    def test_stop_without_streams(self) -> None:
        """Idle channels are told to come again soon, and closed as a restart; nobody else comes in."""
        visit = self.attached()
        stopped = self.stopping()
        self.successResultOf(stopped)
        self.assertEqual(visit.relay_carrier.closed, (CloseCode.RESTART, "the relay is stopping"))
        self.assertEqual(visit.told.goaways[0].retry_after_ms, 500)
        self.failureResultOf(self.bench.channels.admit(b"c-1", "p"), Refused)  # type: ignore[arg-type]

    def test_stop_without_channels(self) -> None:
        """With nobody here there is nothing to wait for."""
        self.successResultOf(self.stopping())
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_stop_waits_for_streams(self) -> None:
        """O07: what is in flight on any channel is finished first."""
        first, second = self.attached(), self.attached("c-2")
        streams = [first.open(), second.open()]
        stopped = self.stopping()
        for stream in streams:
            self.assertNoResult(stopped)
            stream.answer(ResponseHead(204, b"No Content", []), end=True)
            self.bench.run()
        self.successResultOf(stopped)
        self.assertEqual(first.relay_carrier.closed, (CloseCode.RESTART, "the relay is stopping"))

    def test_stop_waits_no_longer_than_thirty_seconds(self) -> None:
        """A stream that does not end is cut by the stop."""
        visit = self.attached()
        visit.open()
        stopped = self.stopping()
        self.bench.wait(DRAIN_SECONDS - 1)
        self.assertNoResult(stopped)
        self.bench.wait(1.5)
        self.successResultOf(stopped)
        self.assertEqual(visit.relay.streams, {})

    def test_stop_does_not_wait_for_a_lost_channel(self) -> None:
        """A channel that is cut while it drains has nothing left to wait for."""
        visit = self.attached()
        visit.open()
        stopped = self.stopping()
        self.assertNoResult(stopped)
        visit.relay.carrier_closed(1006, "cut")
        self.bench.run()
        self.successResultOf(stopped)
