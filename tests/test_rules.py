"""The rules of this suite, shown on small suites of their own: ``conftest.py`` and what it uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import compiled

ROOT = Path(__file__).parents[1]
HEAD = """
import time
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

def fail():
    try:
        raise ValueError("once")
    except ValueError:
        Logger().failure("something failed")
"""


class RulesTest(SynchronousTestCase):
    """What pytest does with our conftest."""

    def run_suite(self, text: str, *options: str, code: int) -> str:
        """Run a suite; gives what was printed."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "test_it.py").write_text(HEAD + text)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            ROOT / "setup.cfg",
            "--rootdir",
            folder,
            "-vv",
            "-p",
            "tests.conftest",
        ]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        environ.pop(compiled.VARIABLE, None)  # these suites start nothing
        done = subprocess.run(
            [*command, *options, folder / "test_it.py"],
            capture_output=True,
            text=True,
            env=environ,
            cwd=folder,
            check=False,
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_docstrings_are_demanded(self) -> None:
        """A test that does not say what may be relied on is named, and nothing runs."""
        said = self.run_suite("def test_silent():\n    pass\n", code=4)
        self.assertIn("test_it.py::test_silent", said)

    def test_live_tests_come_last(self) -> None:
        """Tests that start processes run after all others."""
        suite = '@pytest.mark.live\ndef test_a():\n    "Last."\ndef test_b():\n    "First."\n'
        said = self.run_suite(suite, code=0)
        self.assertLess(said.index("::test_b"), said.index("::test_a"))

    def test_logged_failures_fail(self) -> None:
        """A failure that is logged and not flushed fails functions and trial's test cases alike."""
        suite = """
def test_function():
    "Fails."
    fail()
def test_flushed(logged_failures):
    "Passes."
    fail()
    assert logged_failures.flush(ValueError)
class Case(SynchronousTestCase):
    def test_method(self):
        "Fails."
        fail()
    def test_flushed(self):
        "Passes."
        fail()
        self.flushLoggedErrors(ValueError)
"""
        said = self.run_suite(suite, code=1)
        self.assertIn("1 failed, 3 passed, 1 error", said)  # a function's is told after it has passed
        self.assertIn("FAILED test_it.py::Case::test_method", said)
        self.assertIn("ERROR test_it.py::test_function", said)

    def test_hanging_tests_fail(self) -> None:
        """A test that takes too long fails, waiting for the reactor or not, and the others run."""
        suite = """
@pytest.mark.time_limit(0.3)
def test_sleeps():
    "Fails."
    time.sleep(20)
@pytest.mark.time_limit(0.3)
@ensureDeferred
async def test_sleeps_later():
    "Fails."
    await deferLater(reactor, 0.1, time.sleep, 20)
@pytest.mark.time_limit(0.3)
@ensureDeferred
async def test_waits():
    "Fails."
    await Deferred()
@ensureDeferred
async def test_after():
    "Passes."
"""
        said = self.run_suite(suite, code=1)
        self.assertIn("3 failed, 1 passed", said)
        self.assertEqual(said.count("took more than 0.3 s; was at"), 6)

    def test_features_are_kept(self) -> None:
        """What became of a row's tests is written; an unknown row is refused; a skipped test shows nothing."""
        suite = """
@pytest.mark.feature("PUB-1", "PUB-2")
def test_good():
    "Passes."
@pytest.mark.feature("PUB-2")
def test_bad():
    "Fails."
    assert False
@pytest.mark.feature("PUB-3")
def test_skipped():
    "Is skipped."
    pytest.skip("not here")
"""
        file = Path(self.mktemp()).absolute()
        self.run_suite(suite, "--features-file", str(file), code=1)
        good, bad = "test_it.py::test_good", "test_it.py::test_bad"
        self.assertEqual(json.loads(file.read_text()), {"PUB-1": {good: True}, "PUB-2": {bad: False, good: True}})
        suite = '@pytest.mark.feature("XYZ-1")\ndef test_it():\n    "Marked with nothing."\n'
        self.assertIn("no row XYZ-1", self.run_suite(suite, "--features-file", str(file), code=4))

    def test_mktemp_is_elsewhere(self) -> None:
        """Trial's temporary names are not in the checkout, and each is new."""
        names = {self.mktemp(), self.mktemp()}
        self.assertEqual(len(names), 2)
        self.assertFalse(any(Path(name).is_relative_to(ROOT) for name in names))
