"""The live channels, by connector group: which one carries the next stream."""

from __future__ import annotations

from typing import Final

from appproxy.channel.protocol import Channel

#: A second channel of one connector is used only beyond this many streams: one busy channel batches best.
SPREAD_STREAMS: Final = 400


class Attachment:
    """One connector and its channels here."""

    __slots__ = ("boot", "channels", "connector", "epoch", "group", "name", "peer", "since")

    def __init__(self, connector: str, name: str, group: str, *, boot: str, epoch: int, peer: str, since: int) -> None:
        self.connector = connector
        self.name = name
        self.group = group
        self.boot = boot
        self.epoch = epoch
        self.peer = peer
        self.since = since
        self.channels: list[Channel] = []

    def __repr__(self) -> str:
        return f"<Attachment {self.connector} of {self.group}, {len(self.channels)} channels>"

    @property
    def outstanding(self) -> int:
        """Streams under way on all its channels."""
        return sum(len(channel.streams) for channel in self.channels)

    def channel(self, avoid: frozenset[Channel] = frozenset()) -> Channel | None:
        """The channel for the next stream: the first usable one that is not crowded, else the least crowded."""
        best: Channel | None = None
        for channel in self.channels:
            if channel.usable and channel not in avoid:
                streams = len(channel.streams)
                if streams < SPREAD_STREAMS:
                    return channel
                if best is None or streams < len(best.streams):
                    best = channel
        return best


class Attachments:
    """All attachments of this relay node."""

    def __init__(self) -> None:
        self.by_connector: dict[str, Attachment] = {}
        self._by_group: dict[str, list[Attachment]] = {}

    def add(self, attachment: Attachment) -> None:
        """A connector has come."""
        self.by_connector[attachment.connector] = attachment
        self._by_group.setdefault(attachment.group, []).append(attachment)

    def remove(self, attachment: Attachment) -> None:
        """A connector has gone: its last channel is lost."""
        if self.by_connector.get(attachment.connector) is attachment:
            del self.by_connector[attachment.connector]
        group = self._by_group.get(attachment.group, [])
        if attachment in group:
            group.remove(attachment)

    def move(self, attachment: Attachment, group: str) -> None:
        """A connector serves another group from now on; its streams stay where they are."""
        self._by_group[attachment.group].remove(attachment)
        attachment.group = group
        self._by_group.setdefault(group, []).append(attachment)

    def of_group(self, group: str) -> list[Attachment]:
        """The connectors of *group* that are here."""
        return list(self._by_group.get(group, ()))

    def pick(self, group: str, avoid: frozenset[Channel] = frozenset()) -> Channel | None:
        """The channel to carry the next stream for *group*: of the connector with the least outstanding.

        :param avoid: what was tried already; another connector is preferred to another channel of the same.
        """
        attachments = self._by_group.get(group)
        if not attachments:
            return None
        if len(attachments) > 1:
            attachments = sorted(
                attachments, key=lambda attachment: (not avoid.isdisjoint(attachment.channels), attachment.outstanding)
            )
        for attachment in attachments:
            channel = attachment.channel(avoid)
            if channel is not None:
                return channel
        return None
