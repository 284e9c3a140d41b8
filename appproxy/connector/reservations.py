"""Which connection to an origin belongs to which connection of a client, where the two must not come apart.

Some ways to sign in hold for a connection, not for a request (NTLM, some forms of Negotiate): whoever comes next on it
is taken for the same user.  The relay names the client's connection in the heads of such requests; each name has one
connection to each origin, and nobody else's request ever travels on it.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from appproxy.channel.protocol import Channel
from appproxy.connector.failures import OriginBusy
from appproxy.connector.pool import Pool

#: Clients that have connections for themselves at once; each is one socket at least.
MAX_RESERVED: Final = 16_384


class Reservations:
    """The pools of one connection: by channel, so that no relay can use another one's, and by the client's name."""

    def __init__(self) -> None:
        self._pools: dict[Channel, dict[str, dict[Pool, Pool]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def pool(self, channel: Channel, affinity: str, shared: Pool) -> Pool:
        """The client's own pool to the origin of *shared*.

        :raises OriginBusy: there are too many clients with connections for themselves.
        """
        own = self._pools.setdefault(channel, {}).setdefault(affinity, {})
        pool = own.get(shared)
        if pool is None:
            if self._count >= MAX_RESERVED:
                raise OriginBusy(f"{MAX_RESERVED} clients have connections for themselves")
            pool = own[shared] = shared.single(partial(self._emptied, channel, affinity, shared))
            self._count += 1
        return pool

    def release(self, channel: Channel, affinity: str) -> None:
        """The client has gone: its connections are closed, those in use as soon as they are not."""
        own = self._pools.get(channel, {}).pop(affinity, {})
        self._count -= len(own)
        for pool in own.values():
            pool.retire()

    def channel_lost(self, channel: Channel) -> None:
        """Nobody speaks for the clients of *channel* any more."""
        for affinity in list(self._pools.get(channel, ())):
            self.release(channel, affinity)
        self._pools.pop(channel, None)

    def _emptied(self, channel: Channel, affinity: str, shared: Pool) -> None:
        """A pool has no connection any more; it is made anew when the client asks again."""
        own = self._pools.get(channel, {}).get(affinity, {})
        if own.pop(shared, None) is not None:
            self._count -= 1
            if not own:
                del self._pools[channel][affinity]
