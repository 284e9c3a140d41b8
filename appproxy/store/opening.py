"""A store from the URL in the settings."""

from __future__ import annotations

from pathlib import Path

from appproxy.errors import ConfigError
from appproxy.store.interface import Clock, Store, Threads
from appproxy.store.sqlite import SQLiteStore


def open_store(url: str, state_dir: Path, reactor: Threads, clock: Clock) -> Store:
    """The store that *url* names, not yet started.

    :param url: ``sqlite:FILE``; a relative file lies in *state_dir*.
    :param reactor: on whose thread results arrive.
    :param clock: when to look for changes of other processes.
    :raises ConfigError: no store of that kind.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return SQLiteStore(state_dir / rest, reactor, clock)
    raise ConfigError("store.url", f'{url!r} is not a store; write "sqlite:relay.db"')
