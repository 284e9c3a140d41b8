"""What administrators and other relays change, followed by the numbered feed: here everybody concerned hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from appproxy.errors import ConfigError
from appproxy.relay.catalog import Catalog
from appproxy.relay.certificates import publish_authorities
from appproxy.relay.connectors.authorities import AUTHORITY_SECRET, Authorities
from appproxy.relay.connectors.channels import Channels
from appproxy.relay.gateway import Gateway
from appproxy.relay.people.sessions import Sessions
from appproxy.relay.programs.service_tokens import ServiceTokens
from appproxy.store import applications, connectors, feed, secrets
from appproxy.store.interface import Store, StoreUnavailable
from appproxy.store.records import Change


class Following:
    """One relay's place in the feed.

    :param state_dir: where the authorities' certificates are published.
    """

    log = Logger()

    def __init__(
        self,
        store: Store,
        *,
        gateway: Gateway,
        channels: Channels,
        sessions: Sessions,
        service_tokens: ServiceTokens,
        authorities: Authorities,
        state_dir: Path,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._channels = channels
        self._sessions = sessions
        self._service_tokens = service_tokens
        self._authorities = authorities
        self._state_dir = state_dir
        self._seq = 0
        self._turn = DeferredLock()

    async def begin(self) -> None:
        """Put in force what there is, and go on from here."""
        self._seq = await self._store.read(feed.latest)
        await self._load_catalog(self._seq)

    async def _load_catalog(self, version: int) -> None:
        """Put in force what is published; it has every change up to number *version*, perhaps later ones too."""
        stored = await self._store.read(applications.list_)
        catalog = Catalog(each.application for each in stored)
        self._gateway.catalog = catalog
        self._channels.publish(catalog, version)

    async def follow(self) -> None:
        """Take note of what changed, here or in another process."""
        await self._turn.acquire()
        try:
            while changes := await self._store.read(feed.since, self._seq):
                await self._heed(changes)
                self._seq = changes[-1].seq
        except feed.FeedCutOff as cut_off:
            await self._read_anew(cut_off.latest)
        except StoreUnavailable:
            return  # told again when it is back
        finally:
            self._turn.release()

    async def _heed(self, changes: Sequence[Change]) -> None:
        self._sessions.heard(changes)
        self._service_tokens.revoked(change.key for change in changes if change.kind == feed.SERVICE_TOKEN)
        moved = False
        if any(change.kind == feed.AUTHORITY for change in changes):
            await self._trust()
        for kind, key in {(change.kind, change.key): None for change in changes}:
            if kind == feed.CONNECTOR_REVOKED:
                self._channels.revoked(key)
            elif kind == feed.CONNECTOR:
                record = await self._store.read(connectors.find, key)
                moved = (record is not None and self._channels.changed(record)) or moved
        if moved or any(change.kind == feed.APPLICATION for change in changes):
            await self._load_catalog(changes[-1].seq)

    async def _trust(self) -> None:
        """Authorities were added, changed places or went: new handshakes and connectors follow."""
        octets = await self._store.read(secrets.find, AUTHORITY_SECRET)
        try:
            changed = octets is not None and self._authorities.replace(octets)
            if changed:
                publish_authorities(self._authorities, self._state_dir)
                self._channels.tell_whom_to_trust()
        except (ValueError, ConfigError) as problem:
            self.log.error(
                "the change of authorities is not in force here: {problem}",
                event="authority.not-changed",
                problem=str(problem),
            )

    async def _read_anew(self, latest: int) -> None:
        """Part of the feed is lost: look at everything again, then go on from number *latest*."""
        self._sessions.missed()
        self._service_tokens.missed()
        await self._trust()
        for record in await self._store.read(connectors.list_):
            if record.revoked is not None:
                self._channels.revoked(record.id)
            else:
                self._channels.changed(record)
        self._seq = latest
        await self._load_catalog(latest)
