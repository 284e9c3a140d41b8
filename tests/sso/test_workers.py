"""Threads for calls that block."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.sso.workers import AllBusy, Workers


class WorkersTests(SynchronousTestCase):
    """With real threads, and this one as the reactor's."""

    def setUp(self) -> None:
        self.calls: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.workers = Workers(lambda *call: self.calls.put(call), threads=2, waiting=2)
        self.gate = threading.Event()
        self.addCleanup(self.workers.stop)
        self.addCleanup(self.gate.set)

    def deliver(self) -> None:
        """What the reactor would do next."""
        call, *arguments = self.calls.get(timeout=10)
        call(*arguments)

    def test_results_and_failures(self) -> None:
        """Both come back in the reactor's thread."""
        here = threading.get_ident()
        done = self.workers.call(threading.get_ident)
        self.deliver()
        self.assertNotEqual(self.successResultOf(done), here)
        failing = self.workers.call(lambda: 1 // 0)
        self.deliver()
        self.failureResultOf(failing, ZeroDivisionError)
        self.assertEqual(self.workers.pending, 0)

    @pytest.mark.feature("SSO-4")
    def test_bounded(self) -> None:
        """B-K10: as many threads as there may be, as many waiting; beyond that it is said at once."""
        waiting = [self.workers.call(self.gate.wait) for _ in range(4)]
        self.assertFalse(self.workers.idle)
        self.assertRaises(AllBusy, self.workers.call, self.gate.wait)
        self.assertLessEqual(sum(thread.name.startswith("worker-") for thread in threading.enumerate()), 2)
        self.gate.set()
        for _ in waiting:
            self.deliver()
        self.assertTrue(all(self.successResultOf(done) for done in waiting))
        self.assertTrue(self.workers.idle)

    def test_nobody_waits_for_them_at_the_end(self) -> None:
        """A process may end while a call blocks."""
        self.workers.call(self.gate.wait)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]
        self.assertTrue(threads and all(thread.daemon for thread in threads))
