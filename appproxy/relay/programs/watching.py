"""What is held open for a program's credential, and ends with it."""

from __future__ import annotations

from appproxy.relay.people.sessions import Watcher


class Watched:
    """A credential in use that things are open for."""

    __slots__ = ("_watchers",)

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    @property
    def watched(self) -> bool:
        """Whether something is held open for it."""
        return bool(self._watchers)

    def watch(self, watcher: Watcher) -> None:
        """Tell *watcher* when it is out of force."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Undo :meth:`watch`."""
        self._watchers.discard(watcher)

    def cut(self) -> None:
        """End everything that is open."""
        watchers, self._watchers = self._watchers, set()
        for watcher in watchers:
            watcher.session_ended()
