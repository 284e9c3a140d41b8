"""The last assignments, kept for commands on the connector's machine."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector.snapshot import ASSIGNMENTS_FILE, keep_assignments, read_assignments
from tests.connector.rig import HR


class SnapshotTests(SynchronousTestCase):
    """Written and read."""

    def test_written_and_read(self) -> None:
        """What was kept is read again, by its owner only; nothing, or nonsense, is no assignment."""
        folder = Path(self.mktemp())
        folder.mkdir()
        self.assertEqual(read_assignments(folder), [])
        keep_assignments([HR], folder)
        self.assertEqual([each.id for each in read_assignments(folder)], ["hr"])
        self.assertEqual((folder / ASSIGNMENTS_FILE).stat().st_mode & 0o777, 0o600)
        (folder / ASSIGNMENTS_FILE).write_text("{")
        self.assertEqual(read_assignments(folder), [])
