"""The demo's processes, with real and small ones."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from appproxy.demo.children import ChildDied, Children

STAY = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
)


class ChildrenTest(SynchronousTestCase):
    """Started, watched, ended together."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.children = Children(self.folder)

    def start(self, name: str, program: str) -> int:
        """Start a Python program that is ready when it says so."""
        log = self.folder / f"{name}.log"
        return self.children.start(name, [sys.executable, "-c", program], lambda: "here" in log.read_text()).pid

    def test_all_end_at_last(self) -> None:
        """When the story is over, however it ends, no process is left."""
        with self.assertRaises(KeyboardInterrupt), self.children.ended_at_last():
            pids = [self.start("one", STAY), self.start("two", STAY)]
            raise KeyboardInterrupt
        for pid in pids:
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_a_stubborn_one_is_killed(self) -> None:
        """A process that does not listen gets a limited time."""
        self.patch(sys.modules["appproxy.demo.children"], "END_SECONDS", 0.2)
        with self.children.ended_at_last():
            pid = self.start("stubborn", STUBBORN)
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_one_that_ends_at_once(self) -> None:
        """A process that ends instead of becoming ready is named with its code and last words."""
        with self.assertRaises(ChildDied) as caught, self.children.ended_at_last():
            self.start("broken", "raise SystemExit('no such file')")
        told = str(caught.exception)
        self.assertIn("broken ended with code 1; the end of", told)
        self.assertTrue(told.endswith("\n  no such file"), told)

    def test_one_that_is_never_ready(self) -> None:
        """A process that does not become ready in time is named."""
        self.patch(sys.modules["appproxy.demo.children"], "READY_SECONDS", 0.2)
        with self.assertRaisesRegex(ChildDied, "late is not ready after 0.2 s"), self.children.ended_at_last():
            self.start("late", "import time; time.sleep(60)")

    def test_one_that_dies_later(self) -> None:
        """Watching ends when a process does, with its signal."""
        with self.assertRaisesRegex(ChildDied, "two ended by SIGKILL"), self.children.ended_at_last():
            self.start("one", STAY)
            os.kill(self.start("two", STAY), signal.SIGKILL)
            self.children.watch()
