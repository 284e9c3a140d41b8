"""Connectors as the relay sees them: who may come in, what their channels tell, what they are told of changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from appproxy.channel.carrier import CloseCode
from appproxy.channel.listen import Refused
from appproxy.channel.protocol import Channel, Clock
from appproxy.errors import AppproxyError, ProtocolViolation, Side
from appproxy.relay.catalog import Catalog
from appproxy.relay.connectors.attachments import Attachment, Attachments
from appproxy.store import connectors
from appproxy.store.interface import Store
from appproxy.store.records import ConnectorRecord
from appproxy.tasks import Tasks
from appproxy.wire import control, events
from appproxy.wire.connection import Connection
from appproxy.wire.frames import Code
from appproxy.wire.windows import Budget

#: A connector that has not said who it is by then is sent away.
HELLO_SECONDS = 10.0
#: After a graceful stop, streams in flight get this long.
DRAIN_SECONDS = 30.0


class Arrival:
    """One channel of one enrolled connector, from the WebSocket's opening to its end."""

    log = Logger()

    def __init__(self, channels: Channels, record: ConnectorRecord, peer: str) -> None:
        self.record = record
        self.peer = peer
        self.attachment: Attachment | None = None
        self.channel: Channel | None = None
        self._channels = channels
        self._hello: Any = None

    # channel.protocol.Owner

    def channel_opened(self, channel: Channel) -> None:
        """The WebSocket is open; the connector has ten seconds to say hello."""
        self.channel = channel
        channel.peer = f"{self.record.id} at {self.peer}"
        channel.connector = self.record.id
        self._channels.arrivals.add(self)
        self._hello = self._channels.clock.callLater(
            HELLO_SECONDS, channel.close, CloseCode.PROTOCOL, "no hello within 10 s"
        )

    def document_received(self, channel: Channel, document: dict[str, Any]) -> None:
        """The connector told something about itself."""
        try:
            said = control.parse(document)
        except ProtocolViolation as violation:
            channel.close(CloseCode.PROTOCOL, violation.text)
            return
        if isinstance(said, control.Hello):
            if self._hello is not None and self._hello.active():
                self._hello.cancel()
                self._channels.tasks.spawn("hello", self._channels.greet(self, channel, said))
        elif isinstance(said, control.Refused):
            for application, reason in said.reasons.items():
                self.log.warn(
                    "connector {connector} does not serve {application}: {reason}",
                    event="connector.refused-assignment",
                    connector=self.record.id,
                    application=application,
                    reason=reason,
                )
        elif isinstance(said, control.Drain):
            channel.going_away = True
            channel.when_idle(lambda: channel.close(CloseCode.GOING_AWAY, "drained"))
        elif isinstance(said, control.Renew):
            self._channels.tasks.spawn("renew", self._channels.renew(self, channel, said.csr))

    def going_away(self, channel: Channel, event: events.GoingAway) -> None:
        """The connector takes no new streams here."""

    def channel_lost(self, channel: Channel, code: int, reason: str) -> None:
        """The channel is gone."""
        self._channels.left(self)
        if self._hello is not None and self._hello.active():
            self._hello.cancel()
        attachment = self.attachment
        if attachment is not None and channel in attachment.channels:
            attachment.channels.remove(channel)
            if not attachment.channels:
                self._channels.attachments.remove(attachment)
                self.log.info(
                    "connector {connector} detached: {code} {reason}",
                    event="connector.detached",
                    connector=self.record.id,
                    code=code,
                    reason=reason,
                )


class Channels:
    """All arrivals of this node.

    :param trusted: the document that tells a connector which authorities to trust.
    :param examine: given the DER of a peer's certificate and its address, the enrolled connector; raises ``Refused``.
    :param reissue: given an enrolled connector and a CSR in PEM, its next certificate in PEM.
    """

    log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        tasks: Tasks,
        attachments: Attachments,
        budget: Budget,
        node: str,
        now: Callable[[], int],
        trusted: Callable[[], dict[str, str]],
        examine: Callable[[bytes | None, str], Awaitable[ConnectorRecord]],
        reissue: Callable[[ConnectorRecord, str], Awaitable[str]],
    ) -> None:
        self.clock = clock
        self.tasks = tasks
        self.attachments = attachments
        self.arrivals: set[Arrival] = set()
        self.catalog = Catalog()
        self.version = 0
        self._store = store
        self._budget = budget
        self._node = node
        self._now = now
        self._trusted = trusted
        self._examine = examine
        self._reissue = reissue
        self._stopping = False
        self._look: Callable[[], None] | None = None  # while stopping: whether all is done

    async def admit(self, certificate: bytes | None, peer: str) -> Channel:
        """Make the cargo for a connector's WebSocket.

        :raises Refused: it may not come in.
        """
        if self._stopping:
            raise Refused("the relay is stopping; try another one")
        record = await self._examine(certificate, peer)
        connection = Connection(Side.RELAY, budget=self._budget, clock=self.clock.seconds)
        return Channel(self.clock, connection, Arrival(self, record, peer))

    async def greet(self, arrival: Arrival, channel: Channel, hello: control.Hello) -> None:
        """A connector said who it is: fence older processes of it, welcome it, tell it what it serves."""
        record = arrival.record
        if hello.connector != record.id:
            channel.close(CloseCode.POLICY, "the certificate is another connector's")
            return
        if not await self._store.write(connectors.fence, record.id, hello.boot, hello.epoch):
            self.log.warn(
                "connector {connector} at {peer} is fenced: a newer process speaks for it",
                event="connector.fenced",
                connector=record.id,
                peer=arrival.peer,
            )
            channel.close(CloseCode.POLICY, "a newer process speaks for this connector")
            return
        if arrival not in self.arrivals or not channel.usable:
            return  # gone, or sent away, while the store was asked
        record = arrival.record  # moved meanwhile, perhaps
        attachment = self.attachments.by_connector.get(record.id)
        if attachment is not None and attachment.boot != hello.boot:
            self.log.warn(
                "connector {connector} came from {peer} while it is here from {old}",
                event="connector.replaced",
                connector=record.id,
                peer=arrival.peer,
                old=attachment.peer,
            )
            for old in list(attachment.channels):
                old.close(CloseCode.POLICY, "a newer process speaks for this connector")
            self.attachments.remove(attachment)
            attachment = None
        channel.control({"type": "welcome", "node": self._node, "nodes": [], "settings": {}, "limits": {}})
        channel.control(self._trusted())
        self._assign(channel, record.group)
        if attachment is None:
            attachment = Attachment(
                record.id,
                record.name,
                record.group,
                boot=hello.boot,
                epoch=hello.epoch,
                peer=arrival.peer,
                since=self._now(),
            )
            self.attachments.add(attachment)
            self.log.info(
                "connector {connector} ({name}) attached to group {group} from {peer}",
                event="connector.attached",
                connector=record.id,
                name=record.name,
                group=record.group,
                peer=arrival.peer,
            )
        attachment.channels.append(channel)
        arrival.attachment = attachment

    async def renew(self, arrival: Arrival, channel: Channel, csr: str) -> None:
        """A connector wants its next certificate."""
        try:
            certificate = await self._reissue(arrival.record, csr)
        except (Refused, AppproxyError) as refusal:
            self.log.warn(
                "connector {connector} got no new certificate: {reason}",
                event="connector.not-renewed",
                connector=arrival.record.id,
                reason=str(refusal),
            )
            return
        channel.control({"type": "renew", "csr": "", "certificate": certificate})

    def left(self, arrival: Arrival) -> None:
        """A channel is gone."""
        self.arrivals.discard(arrival)
        if self._look is not None:
            self._look()

    # Changes

    def publish(self, catalog: Catalog, version: int) -> None:
        """A new snapshot is in force: tell every connector what it serves now."""
        self.catalog, self.version = catalog, version
        for attachment in self.attachments.by_connector.values():
            for channel in attachment.channels:
                self._assign(channel, attachment.group)

    def _assign(self, channel: Channel, group: str) -> None:
        applications = self.catalog.of_group(group)
        try:
            channel.control({"type": "assignments", "version": self.version, "applications": applications})
        except control.DocumentTooLarge as problem:
            self.log.error(
                "group {group} has more applications than one connector can be told of: {problem}",
                event="connector.assignments-too-large",
                group=group,
                problem=str(problem),
            )

    def tell_whom_to_trust(self) -> None:
        """The authorities changed."""
        for attachment in self.attachments.by_connector.values():
            for channel in attachment.channels:
                channel.control(self._trusted())

    def note_store_age(self, seconds: float) -> None:
        """What answers to connectors' PINGs say of how long ago the store last did something."""
        age = int(max(0.0, seconds) * 1000)
        for arrival in self.arrivals:
            if arrival.channel is not None:
                arrival.channel.connection.store_age_ms = age

    def changed(self, record: ConnectorRecord) -> bool:
        """A connector's record is another now.

        Whoever was moved to another group gets no new streams of the old one; those under way end as they began.

        :return: it was moved, so that it has to be told what it serves now: :meth:`publish` with a new version.
        """
        for arrival in self.arrivals:
            if arrival.record.id == record.id:
                arrival.record = record
        attachment = self.attachments.by_connector.get(record.id)
        if attachment is None or attachment.group == record.group:
            return False
        self.log.info(
            "connector {connector} ({name}) moved from group {old} to group {group}",
            event="connector.moved",
            connector=record.id,
            name=record.name,
            old=attachment.group,
            group=record.group,
        )
        self.attachments.move(attachment, record.group)
        return True

    def revoked(self, connector: str) -> None:
        """A connector is no longer trusted: its channels end now."""
        for arrival in [arrival for arrival in self.arrivals if arrival.record.id == connector]:
            if arrival.channel is not None:
                arrival.channel.control({"type": "revoked", "reason": "revoked by an administrator"})
                arrival.channel.close(CloseCode.POLICY, "revoked")

    # Stopping

    async def stop(self) -> None:
        """Send every connector elsewhere, give what is in flight its time, close."""
        self._stopping = True
        waiting = list(self.arrivals)
        done: Deferred[None] = Deferred()

        def look() -> None:
            if done.called:
                return
            if all(arrival.channel is None or not arrival.channel.streams for arrival in waiting):
                done.callback(None)

        self._look = look
        for arrival in waiting:
            if arrival.channel is not None:
                arrival.channel.go_away(Code.NONE, "the relay is stopping", retry_after_ms=500)
                arrival.channel.when_idle(look)
        if not waiting:
            return
        limit = self.clock.callLater(DRAIN_SECONDS, lambda: None if done.called else done.callback(None))
        look()
        await done
        if limit.active():
            limit.cancel()
        for arrival in waiting:
            if arrival.channel is not None:
                arrival.channel.close(CloseCode.RESTART, "the relay is stopping")
