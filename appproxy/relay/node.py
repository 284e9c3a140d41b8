"""The node's name: one relay process at a time has it."""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO

from twisted.logger import Logger

from appproxy.errors import ConfigError
from appproxy.store import nodes
from appproxy.store.interface import Store, StoreUnavailable

#: A node's name is its own for this long without renewal; renewed at a third of it.
LEASE_SECONDS = 15


class NodeName:
    """One process's hold on a name.

    :param epoch: epoch seconds.
    """

    log = Logger()

    def __init__(self, node: str, state_dir: Path, store: Store, epoch: Callable[[], int]) -> None:
        self._node = node
        self._state_dir = state_dir
        self._store = store
        self._epoch = epoch
        self._boot = secrets.token_hex(8)
        self._lock: IO[str] | None = None

    async def take(self) -> None:
        """Take the name.

        Whoever holds the lock on the node's file is its only process on this machine, so that the lease of a
        predecessor that was killed need not run out first.

        :raises ConfigError: another process has it.
        """
        self._lock = (self._state_dir / f"{self._node}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                "relay.node", f'another relay with the name "{self._node}" uses {self._state_dir}; stop it first'
            ) from None
        beyond = self._epoch() + 2 * LEASE_SECONDS
        if await self._store.write(nodes.lease, self._node, self._boot, beyond, beyond) is None:
            raise ConfigError("relay.node", f'another relay runs under the name "{self._node}"; give each its own')

    async def renew(self) -> None:
        """Keep it for a while longer."""
        now = self._epoch()
        try:
            await self._store.write(nodes.lease, self._node, self._boot, now + LEASE_SECONDS, now)
        except StoreUnavailable:
            self.log.warn("the node's lease could not be renewed", event="relay.lease-late")

    async def leave(self) -> None:
        """Let the name go."""
        await self._store.write(nodes.leave, self._node, self._boot)
        if self._lock is not None:
            self._lock.close()
