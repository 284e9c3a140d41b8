"""Settings written to files, and the one line that is said about each mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import ConfigError


class Written(SynchronousTestCase):
    """Tests with a folder of their own."""

    def setUp(self) -> None:
        """Make the folder."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write one file; returns its path."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        path.chmod(mode)
        return path

    def problem(self, read: Callable[[], Any]) -> str:
        """What is said, without the folder."""
        error = self.assertRaises(ConfigError, read)
        self.assertNotIn("\n", str(error))
        return str(error).replace(f"{self.folder}/", "")
