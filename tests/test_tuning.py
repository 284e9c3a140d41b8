"""What a program sets in its own process, seen in processes of its own."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

SETTLE = """
import gc
from appproxy import tuning
tuning.settle()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold() == tuning.GC_THRESHOLDS
"""
GIVE_UP = """
from twisted.internet import reactor
from appproxy import tuning
{when}
reactor.run()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)


class TuningTests(SynchronousTestCase):
    """Once, when everything runs."""

    def test_what_exists_is_frozen(self) -> None:
        """And new objects are looked at less often."""
        self.assertEqual(run(SETTLE).stderr, "")

    def test_giving_up_is_one_line_and_exit_code_1(self) -> None:
        """Before the reactor runs, and while it does."""
        for when in (
            "tuning.give_up(reactor, 'appproxy-x', 'no luck')",
            "reactor.callLater(0, tuning.give_up, reactor, 'appproxy-x', 'no luck')",
        ):
            ended = run(GIVE_UP.format(when=when))
            self.assertEqual((ended.returncode, ended.stderr), (1, "appproxy-x: no luck\n"))
