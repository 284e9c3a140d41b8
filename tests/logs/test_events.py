"""Events as lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config import Logging
from appproxy.errors import ConfigError
from appproxy.logs import EventLog, attach


@pytest.mark.feature("OBS-1")
class TestEventLog(SynchronousTestCase):
    """Writing events."""

    def setUp(self) -> None:
        """A file that does not exist yet."""
        self.path = Path(self.mktemp()).absolute()
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def lines(self, format: str, text: str, level: LogLevel = LogLevel.info, **fields: Any) -> list[str]:
        """What one event looks like."""
        observer = EventLog("info", format, str(self.path))
        logger = Logger("appproxy.test", observer=lambda event: observer({**event, "log_time": 86400.25}))  # type: ignore[arg-type]
        logger.emit(level, text, **fields)
        return self.path.read_text("utf-8").splitlines()

    def test_text(self) -> None:
        """Time, level, name and sentence."""
        (line,) = self.lines("text", "{connector} is here", event="connector.attached", connector="hq-1")
        self.assertEqual(line, "1970-01-02T00:00:00.250Z info connector.attached: hq-1 is here")

    def test_json(self) -> None:
        """The sentence for people, the fields for machines."""
        (line,) = self.lines("json", "{connector} is here", event="connector.attached", connector="hq-1", streams=5)
        self.assertEqual(
            json.loads(line),
            {
                "time": "1970-01-02T00:00:00.250Z", "level": "info", "event": "connector.attached",
                "from": "appproxy.test", "message": "hq-1 is here", "connector": "hq-1", "streams": 5,
            },
        )  # fmt: skip

    def test_level(self) -> None:
        """What is less important than asked for is not written."""
        self.assertEqual(self.lines("text", "detail", LogLevel.debug), [])

    def test_chatter(self) -> None:
        """What libraries tell of each of their connections is for debugging; their warnings are for everybody."""
        for level, written in (("info", ["warn"]), ("debug", ["debug", "warn"])):
            observer = EventLog(level, "text", str(self.path))
            logger = Logger("twisted.web.client._HTTP11ClientFactory", observer=observer)  # type: ignore[arg-type]
            logger.info("Starting factory")
            logger.warn("odd")
            lines = self.path.read_text().splitlines()
            self.path.unlink()
            self.assertEqual([line.split()[1] for line in lines], written)

    def test_one_line_an_event(self) -> None:
        """O01: whatever is in a field, an event is one line without control characters."""
        nasty = "a\r\nb\x1b[31mc\u202ed\u2028e\x00\x85"
        for format in ("text", "json"):
            self.path.unlink(missing_ok=True)
            (line,) = self.lines(format, "said {what}", what=nasty)
            self.assertTrue(line.isprintable(), line)
        self.assertEqual(json.loads(line)["what"], nasty)

    def test_tracebacks_are_one_line(self) -> None:
        """A failure brings its traceback, on the same line."""
        failure = Failure(ValueError("no\nway"))
        (line,) = self.lines("text", "it failed", LogLevel.critical, log_failure=failure)
        self.assertIn("it failed\\nTraceback", line)
        self.path.unlink()
        (line,) = self.lines("json", "it failed", LogLevel.critical, log_failure=failure)
        self.assertIn("no\nway", json.loads(line)["traceback"])

    def test_secrets_are_left_out(self) -> None:
        """O02: fields named like secrets and text that looks like one are not written."""
        token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
        for format in ("text", "json"):
            self.path.unlink(missing_ok=True)
            (line,) = self.lines(
                format,
                "{client_secret} {url} {header} {raw} {cookies}",
                client_secret="hunter2hunter2",
                url="/callback?code=c0decode&state=5tate5tate&x=1",
                header="Authorization: Bearer b3arerb3arer",
                raw=f"got {token}",
                cookies="__Host-appproxy-session=h4ndleh4ndle; theme=dark",
            )
            for secret in ("hunter2", "c0de", "5tate", "b3arer", "eyJ", "h4ndle"):
                self.assertNotIn(secret, line)
            self.assertIn("&x=1", line)

    def test_reopening(self) -> None:
        """After the file was moved away, events go to a new one."""
        observer = EventLog("info", "text", str(self.path))
        moved = self.path.with_suffix(".1")
        self.path.rename(moved)
        observer.reopen()
        Logger("n", observer=observer).info("hello")  # type: ignore[arg-type]
        self.assertEqual(moved.read_text(), "")
        self.assertIn("hello", self.path.read_text())

    def test_file_that_cannot_be_opened(self) -> None:
        """A folder that is not there is told in one line."""
        error = self.assertRaises(ConfigError, EventLog, "info", "text", str(self.path / "x"))
        self.assertEqual(str(error), f"logging.file: {self.path}/x cannot be opened: no such file or directory")

    def test_attached_to_an_application(self) -> None:
        """``twistd`` finds the observer on the application."""
        application = Componentized()
        observer = attach(application, Logging(file=str(self.path), level="warn"))
        self.assertIs(application.getComponent(ILogObserver), observer)
        self.assertTrue(ILogObserver.providedBy(observer))
