"""Clients whose connection has one to the origin for itself: always the same connector, and a name for the connection.

Some ways to sign in hold for a connection (NTLM, some forms of Negotiate); Remote Desktop Gateway and RPC over HTTP
spread one tunnel over two connections that have to meet at one gateway.  A :class:`Pin` is what one connection of a
client has for this; whatever is asked on it goes to the same channel for as long as both last.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from appproxy.channel.protocol import Channel
from appproxy.http.messages import TUNNEL_METHODS
from appproxy.relay.connectors.attachments import Attachment, Attachments
from appproxy.relay.front.client_exchange import ClientExchange

#: Connectors are told of clients that have gone in one document at a time, however many go at once.
TELL_SECONDS: Final = 0.5
_CONNECTION_ID: Final = b"rdg-connection-id"

#: What the halves of one tunnel have in common.
Tunnel = tuple[str, str, bytes]


def tunnel_of(exchange: ClientExchange, application: str) -> Tunnel | None:
    """The tunnel that a request is a half of, if it is.

    RD Gateway's halves name it.  Those of RPC over HTTP do so in their bodies only; one client address's stay together.
    """
    head = exchange.head
    if head.method not in TUNNEL_METHODS:
        return None
    identifiers = head.known.get(_CONNECTION_ID, ())
    if len(identifiers) == 1 and head.method.startswith(b"RDG_"):
        return application, "", identifiers[0].lower()
    return application, exchange.client, b""


class Pin:
    """One connection of a client, as connectors hear of it.

    :ivar affinity: its name; nobody else can guess it.
    :ivar used: something was answered on it, so that somebody may be signed in.
    """

    __slots__ = ("_channels", "_pins", "_tunnels", "affinity", "used")

    def __init__(self, pins: Pins) -> None:
        self.affinity = secrets.token_urlsafe(16)
        self.used = False
        self._pins = pins
        self._channels: dict[str, Channel] = {}
        self._tunnels: set[tuple[str, Tunnel]] = set()

    def pick(self, group: str, tunnel: Tunnel | None, tried: frozenset[Channel]) -> Channel | None:
        """The channel of *group* that this connection's requests take; another one only where that is no more."""
        channel = self._channels.get(group)
        if channel is not None and channel.usable:
            return None if channel in tried else channel
        chosen = self._pins.choose(group, tunnel, tried)
        if chosen is not None:
            if channel is not None:
                self._pins.tell(channel, self.affinity)
            self._channels[group] = chosen
            if tunnel is not None and (group, tunnel) not in self._tunnels:
                self._tunnels.add((group, tunnel))
                self._pins.enter(group, tunnel, chosen.connector)
        return chosen

    def release(self) -> None:
        """The client's connection is gone."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            self._pins.tell(channel, self.affinity)
        tunnels, self._tunnels = self._tunnels, set()
        for group, tunnel in tunnels:
            self._pins.leave(group, tunnel)


class _Taken:
    """The connector that a tunnel goes through, and how many connections of clients it has."""

    __slots__ = ("connector", "halves")

    def __init__(self) -> None:
        self.connector = ""
        self.halves = 0


class Pins:
    """All of one relay node's."""

    def __init__(self, attachments: Attachments) -> None:
        self._attachments = attachments
        self._tunnels: dict[tuple[str, Tunnel], _Taken] = {}
        #: Who has gone, by channel, until it is told.
        self._gone: dict[Channel, list[str]] = {}

    def pin(self, exchange: ClientExchange) -> Pin | None:
        """The pin of the client's connection; None where requests share it, and the client was told so."""
        pin = exchange.pin
        if pin is None:
            pin = Pin(self)
            if not exchange.hold(pin):
                return None
        return pin

    def choose(self, group: str, tunnel: Tunnel | None, tried: frozenset[Channel]) -> Channel | None:
        """A channel for a connection that has none."""
        if tunnel is None:
            return self._attachments.pick(group, tried)
        taken = self._tunnels.get((group, tunnel))
        here = self._attachments.of_group(group)
        here.sort(key=lambda each: (taken is None or each.connector != taken.connector, _score(tunnel, each)))
        return _first(here, tried)

    def enter(self, group: str, tunnel: Tunnel, connector: str) -> None:
        """A connection carries a half of *tunnel*: further ones go the same way."""
        taken = self._tunnels.setdefault((group, tunnel), _Taken())
        taken.connector = connector
        taken.halves += 1

    def leave(self, group: str, tunnel: Tunnel) -> None:
        """It does no more."""
        taken = self._tunnels[group, tunnel]
        taken.halves -= 1
        if not taken.halves:
            del self._tunnels[group, tunnel]

    def tell(self, channel: Channel, affinity: str) -> None:
        """The connector shall hear, soon, that a client's connection is gone."""
        if channel.lost:
            return
        gone = self._gone.get(channel)
        if gone is not None:
            gone.append(affinity)
            return
        self._gone[channel] = [affinity]
        channel.clock.callLater(TELL_SECONDS, self._flush, channel)

    def _flush(self, channel: Channel) -> None:
        affinities = self._gone.pop(channel)
        if not channel.lost:
            channel.control({"type": "unpin", "affinities": affinities})


def _score(tunnel: Tunnel, attachment: Attachment) -> bytes:
    """Which connector a tunnel prefers: any relay comes to the same result, without a word to the others."""
    application, client, identifier = tunnel
    seed = b"\0".join([application.encode(), client.encode(), identifier, attachment.connector.encode()])
    return hashlib.blake2b(seed, digest_size=8).digest()


def _first(attachments: Sequence[Attachment], tried: frozenset[Channel]) -> Channel | None:
    for attachment in attachments:
        channel = attachment.channel(tried)
        if channel is not None:
            return channel
    return None
