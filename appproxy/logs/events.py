"""An observer for :mod:`twisted.logger`: one line an event, text or JSON."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from appproxy.errors import ConfigError
from appproxy.logs.escaping import REDACTED, escape, escape_json, is_secret, scrub

_STDOUT = 1
#: Who tells of each of its connections what nobody asked: their information is for debugging.
_CHATTER = ("twisted.web.client.", "twisted.web._newclient.")


class EventSettings(Protocol):
    """The part of ``[logging]`` that is about events."""

    @property
    def level(self) -> str:
        """The least important level that is written."""

    @property
    def format(self) -> str:
        """``text`` or ``json``."""

    @property
    def file(self) -> str:
        """A path, or ``-`` for standard output."""


@implementer(ILogObserver)
class EventLog:
    """Writes each event as one line.

    Fields named like secrets are left out, and what looks like a credential inside a sentence is blotted out: a last
    net below the rule that secrets are not logged.

    :param file: a path, or ``-`` for standard output.
    :raises ConfigError: the file cannot be opened.
    """

    def __init__(self, level: str, format: str, file: str = "-") -> None:
        self._level = LogLevel.levelWithName(level)
        self._line = _json if format == "json" else _text
        self._file = file
        self._descriptor = _STDOUT
        self.reopen()

    def __call__(self, event: LogEvent) -> None:
        """Twisted: write one event."""
        level = event.get("log_level")
        if level is LogLevel.info and event.get("log_namespace", "").startswith(_CHATTER):
            level = LogLevel.debug
        if level is not None and level < self._level:
            return
        line = self._line(_without_secrets(event), level or LogLevel.info)
        try:
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            # A full disk or a reader that has gone must not stop the service; there is nowhere to tell it.
            return

    def reopen(self) -> None:
        """Open the file anew, after it was moved away."""
        if self._file == "-":
            sys.stdout.flush()
            return
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise ConfigError(
                "logging.file", f"{self._file} cannot be opened: {(error.strerror or str(error)).lower()}"
            ) from None
        if self._descriptor != _STDOUT:
            os.close(self._descriptor)
        self._descriptor = descriptor


def attach(application: Any, settings: EventSettings) -> EventLog:
    """Make ``twistd`` log the way *settings* say, unless its own ``--logger`` is given.

    To be called from the service's ``setServiceParent``: ``twistd`` looks at the application right after.
    """
    log = EventLog(settings.level, settings.format, settings.file)
    application.setComponent(ILogObserver, log)
    return log


def _without_secrets(event: LogEvent) -> LogEvent:
    return {name: REDACTED if not name.startswith("log_") and is_secret(name) else event[name] for name in event}


def _text(event: LogEvent, level: Any) -> str:
    """``2026-01-02T03:04:05.678Z info connector.attached: connector hq-1 attached to group hq``."""
    name = str(event.get("event") or event.get("log_namespace") or "-")
    traceback = _traceback(event)
    message = formatEvent(event) + (f"\n{traceback}" if traceback else "")
    return f"{_time(event)} {level.name} {escape(name)}: {escape(scrub(message))}"


def _json(event: LogEvent, level: Any) -> str:
    line = {
        "time": _time(event),
        "level": level.name,
        "event": event.get("event", ""),
        "from": event.get("log_namespace", ""),
        "message": scrub(formatEvent(event)),
    }
    for name, value in event.items():
        if name.startswith("log_") or name in line or name in ("isError", "format", "message", "system", "time"):
            continue
        if isinstance(value, str):
            line[name] = scrub(value)
        elif isinstance(value, int | float):
            line[name] = value
    if traceback := _traceback(event):
        line["traceback"] = scrub(traceback)
    return escape_json(msgspec.json.encode(line, enc_hook=str).decode())


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback().strip() if isinstance(failure, Failure) else ""


def _time(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
