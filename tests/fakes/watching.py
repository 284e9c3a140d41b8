"""Something that is open for a session or a credential."""

from __future__ import annotations


class Watcher:
    """Counts how often it was told."""

    progress = 0

    def __init__(self) -> None:
        self.ended = 0

    def session_ended(self) -> None:
        """Told."""
        self.ended += 1
