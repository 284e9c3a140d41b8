"""Access records."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config import Logging
from appproxy.errors import ConfigError
from appproxy.logs import AccessLog, access
from appproxy.logs.escaping import escape, word

TEXT = st.text() | st.sampled_from(["-", "a b", "a=b", 'a" side=x', "\\", "\x7f", "a\r\nb", "\x1b[2J", "\u202e"])

LINE = (
    "1970-01-02T00:00:00.500Z r-1 192.0.2.7 hr.example.com GET /leave 200 up=0 down=1024 ms=12.3"
    " application=hr user=alice@example.com connector=hq-1 cause=- side=- protocol=HTTP/2\n"
)


@pytest.mark.feature("OBS-1")
class TestAccessLog(SynchronousTestCase):
    """Writing records."""

    def setUp(self) -> None:
        """A file that does not exist yet."""
        self.path = Path(self.mktemp()).absolute()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.clock = Clock()

    def open(self, json: bool = False) -> AccessLog:
        """The log over that file."""
        log = AccessLog(str(self.path), self.clock, json=json, epoch=lambda: 86400.5)
        self.addCleanup(log.close)
        return log

    def record(self, log: AccessLog, target: bytes = b"/leave?ticket=s3cret", user: str = "alice@example.com") -> None:
        """One request of Alice's."""
        log.record(
            "r-1",
            "192.0.2.7",
            "hr.example.com",
            b"GET",
            target,
            200,
            0,
            1024,
            0.0123,
            "hr",
            user,
            "hq-1",
            protocol="HTTP/2",
        )

    def test_one_line_a_request(self) -> None:
        """A record is written within half a second, without the query."""
        self.record(self.open())
        self.assertEqual(self.path.read_text(), "")
        self.clock.advance(access.FLUSH_SECONDS)
        self.assertEqual(self.path.read_text(), LINE)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_json(self) -> None:
        """As JSON every record is one object on one line."""
        log = self.open(json=True)
        log.record(
            "r", "::1", "h", b"GET", b"/\xe9", 502, 1, 2, 1.0, "a", "b\x1b\u2028\x7f", "c", "sso-failed", "connector"
        )
        log.flush()
        text = self.path.read_text("utf-8")
        self.assertTrue(text.removesuffix("\n").isprintable())
        self.assertEqual(
            json.loads(text),
            {
                "time": "1970-01-02T00:00:00.500Z", "id": "r", "client": "::1", "host": "h", "method": "GET",
                "path": "/\xe9", "status": 502, "up": 1, "down": 2, "ms": 1000.0, "application": "a",
                "user": "b\x1b\u2028\x7f", "connector": "c", "cause": "sso-failed", "side": "connector", "protocol": "",
            },
        )  # fmt: skip

    def test_a_full_batch_is_written_at_once(self) -> None:
        """64 KiB of records do not wait."""
        log = self.open()
        for _ in range(access.FLUSH_BYTES // len(LINE) + 1):
            self.record(log)
        self.assertGreaterEqual(self.path.stat().st_size, access.FLUSH_BYTES)

    def test_log_injection(self) -> None:
        """O01: line ends, escapes and direction marks are written as text; a user name cannot add columns."""
        log = self.open()
        self.record(log, b"/\x1b[2J\r\nfake", 'al ice" side=x\n\x1b[0m\u202e')
        log.flush()
        (line,) = self.path.read_text("utf-8").splitlines()
        self.assertIn(" GET /\\x1b[2J\\r\\nfake 200 ", line)
        self.assertIn(' user="al ice\\" side=x\\n\\x1b[0m\\u202e" ', line)

    @given(st.tuples(*[TEXT] * 9), st.binary(), st.binary())
    def test_log_injection_by_any_column(self, texts: tuple[str, ...], method: bytes, target: bytes) -> None:
        """O01: whatever a column holds, the line is one, printable, and every column stands where it should."""
        request_id, client, host, *named = texts
        log = AccessLog("/dev/null", self.clock)
        log.record(request_id, client, host, method, target, 200, 3, 4, 0.5, *named)
        (line,) = (line.decode() for line in log._lines)
        log.close()
        path = escape(target.partition(b"?")[0].partition(b"#")[0].decode("latin-1"))
        names = ("application", "user", "connector", "cause", "side", "protocol")
        asked = [escape(request_id), word(client), word(host), word(method.decode("latin-1")), path]
        columns = [f"{name}={word(text)}" for name, text in zip(names, named, strict=True)]
        self.assertTrue(line.removesuffix("\n").isprintable(), line)
        self.assertEqual(line.partition(" ")[2], " ".join([*asked, "200 up=3 down=4 ms=500.0", *columns]) + "\n")

    def test_time(self) -> None:
        """Records tell the time to the millisecond, also after the clock was set back."""
        now = 0.0
        log = AccessLog(str(self.path), self.clock, epoch=lambda: now)
        for now in (86400.0, 86400.0004, 86400.001, 86400.9996, 86401.0, 86400.5):  # noqa: B007 - the log reads it
            self.record(log)
        log.close()
        times = [line.split("T")[1][:13] for line in self.path.read_text().splitlines()]
        self.assertEqual(
            times,
            ["00:00:00.000Z", "00:00:00.000Z", "00:00:00.001Z", "00:00:00.999Z", "00:00:01.000Z", "00:00:00.500Z"],
        )

    def test_reopening(self) -> None:
        """After the file was moved away, records go to a new one; what waited went to the old."""
        log = self.open()
        self.record(log)
        moved = self.path.with_suffix(".1")
        self.path.rename(moved)
        log.reopen()
        self.record(log)
        log.close()
        self.assertEqual((moved.read_text(), self.path.read_text()), (LINE, LINE))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.record(log)

    def test_reopening_fails(self) -> None:
        """When the new file cannot be opened, the old one is kept."""
        log = self.open()
        log._path = str(self.path.parent / "no" / "access.log")
        error = self.assertRaises(ConfigError, log.reopen)
        self.assertEqual(str(error), f"logging.access_log: {log._path} cannot be opened: no such file or directory")
        self.record(log)
        log.flush()
        self.assertEqual(self.path.read_text(), LINE)

    def test_off(self) -> None:
        """Without a path nothing is kept."""
        log = AccessLog.open(Logging(access_log=""), self.clock)
        self.record(log)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        log.close()

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
    def test_full_disk(self) -> None:
        """D10: what cannot be written is dropped and counted, told once, and the service goes on."""
        log = AccessLog("/dev/full", self.clock)
        self.addCleanup(log.close)
        for _ in range(3):
            self.record(log)
            self.record(log)
            self.clock.advance(1)
        self.assertEqual(log.dropped, 6)

    def test_full_disk_and_room_again(self) -> None:
        """D10: a record that was cut short is counted, and the next one begins on a line of its own."""
        log = self.open()
        room = [len(LINE) + 5, 0, 10_000]
        write = os.write

        def write_less(descriptor: int, data: bytes) -> int:
            if not room[0]:
                room.pop(0)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: room[0]]
            room[0] -= len(data)
            return write(descriptor, data)

        self.patch(os, "write", write_less)
        self.record(log)
        self.record(log)
        log.flush()
        self.record(log)
        log.flush()
        self.record(log)
        log.flush()
        self.assertEqual(self.path.read_text(), LINE + LINE[:5] + "\n" + LINE)
        self.assertEqual(log.dropped, 2)

    def test_slow_reader(self) -> None:
        """A reader that does not read never stops the service; whole lines wait for it, then are dropped."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        log = self.open()
        assert log._descriptor is not None
        os.dup2(writing, log._descriptor)
        os.close(writing)
        log.flush()
        count = access.MAX_WAITING_BYTES // len(LINE) // 2
        for _ in range(count):
            self.record(log)
        read = b""
        while log._bytes:
            read += os.read(reading, 1 << 20)
            log.flush()
        read += os.read(reading, 1 << 20)
        self.assertEqual((read, log.dropped), (LINE.encode() * count, 0))
        for _ in range(count * 4):
            self.record(log)
        log.flush()
        self.assertGreater(log.dropped, count)

    def test_reader_has_gone(self) -> None:
        """A pipe that nobody reads any more loses records, and nothing else."""
        reading, writing = os.pipe()
        log = self.open()
        assert log._descriptor is not None
        os.dup2(writing, log._descriptor)
        os.close(writing)
        os.close(reading)
        self.record(log)
        log.flush()
        self.assertEqual(log.dropped, 1)
