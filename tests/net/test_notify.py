"""Telling the service supervisor."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from appproxy.net.notify import notify, watchdog_seconds


class NotifyTests(SynchronousTestCase):
    """systemd's datagrams."""

    def listen(self, name: str) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listening.close)
        listening.bind(name)
        listening.settimeout(5)
        return listening

    def test_a_state_is_one_datagram(self) -> None:
        """To a path, or to an abstract name."""
        path = Path(self.mktemp())
        for name, shown in ((str(path), str(path)), (f"\0{path}", f"@{path}")):
            listening = self.listen(name)
            self.assertTrue(notify("READY=1\nSTATUS=up", {"NOTIFY_SOCKET": shown}))
            self.assertEqual(listening.recv(100), b"READY=1\nSTATUS=up")

    def test_nobody_who_listens_is_no_trouble(self) -> None:
        """Without a supervisor, or when it is gone."""
        self.assertFalse(notify("READY=1", {}))
        self.assertFalse(notify("READY=1", {"NOTIFY_SOCKET": "relative"}))
        self.assertFalse(notify("READY=1", {"NOTIFY_SOCKET": self.mktemp() + "/gone"}))

    def test_the_watchdog_is_fed_twice_as_often_as_it_needs(self) -> None:
        """Only where it watches this process."""
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "60000000"}), 30.0)
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, pid=7), 30.0)
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, pid=7), 0.0)
        for environ in ({}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "-5"}):
            self.assertEqual(watchdog_seconds(environ), 0.0)
