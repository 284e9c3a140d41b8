"""What relays must remember together: sessions, revocations, connectors, applications, keys.

Domain functions are plain functions over a :class:`Database` (``sessions``, ``tokens``, ``once``, ``applications``,
``connectors``, ``secrets``, ``nodes``, ``feed``); a :class:`Store` runs them: ``await store.write(sessions.end, hash,
now)``.  What ``write`` has acknowledged survives a power cut.
"""

from appproxy.store.interface import (
    Database,
    Store,
    StoreBusy,
    StoreDamaged,
    StoreFull,
    StoreStopped,
    StoreUnavailable,
)
from appproxy.store.opening import open_store
from appproxy.store.records import Change, ConnectorRecord, SessionRecord, TokenRecord

__all__ = [
    "Change",
    "ConnectorRecord",
    "Database",
    "SessionRecord",
    "Store",
    "StoreBusy",
    "StoreDamaged",
    "StoreFull",
    "StoreStopped",
    "StoreUnavailable",
    "TokenRecord",
    "open_store",
]
