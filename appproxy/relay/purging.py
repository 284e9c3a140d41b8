"""What has run out is removed from the store."""

from __future__ import annotations

from twisted.logger import Logger

from appproxy.store import feed, kept, once, sessions, tokens
from appproxy.store.interface import Store, StoreUnavailable

#: How often.
PURGE_SECONDS = 600
#: Used and expired tokens are shown for a month.
TOKEN_MEMORY_SECONDS = 30 * 86400

log = Logger()


async def purge(store: Store, now: int) -> None:
    """Forget sessions, one-time ids, requests that waited, tokens nobody used, old entries of the feed.

    :param now: epoch seconds.
    """
    try:
        await store.write(sessions.purge, now)
        await store.write(once.purge, now)
        await store.write(kept.purge, now)
        await store.write(tokens.purge, now - TOKEN_MEMORY_SECONDS)
        await store.write(feed.purge)
    except StoreUnavailable:
        log.warn("nothing was purged from the store", event="relay.purge-late")
