"""One record a request, written in batches: a record costs the request about one and a half microseconds."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Final, Protocol

import msgspec
from twisted.logger import Logger

from appproxy.errors import ConfigError
from appproxy.logs.escaping import escape, escape_json, word

#: A record waits no longer than this.
FLUSH_SECONDS: Final = 0.5
#: A batch of this size is written at once.
FLUSH_BYTES: Final = 64 * 1024
#: What waits for a slow reader of standard output; beyond it records are dropped and counted.
MAX_WAITING_BYTES: Final = 4 * 1024 * 1024

_STDOUT: Final = 1


class AccessSettings(Protocol):
    """The part of ``[logging]`` that is about requests."""

    @property
    def format(self) -> str:
        """``text`` or ``json``."""

    @property
    def access_log(self) -> str:
        """A path, ``-`` for standard output, empty for none."""


class Clock(Protocol):
    """The part of a reactor that calls later."""

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
        """Call after *delay* seconds."""


class _Record(msgspec.Struct):
    """A record as JSON has it."""

    time: str
    id: str
    client: str
    host: str
    method: str
    path: str
    status: int
    up: int
    down: int
    ms: float
    application: str
    user: str
    connector: str
    cause: str
    side: str
    protocol: str


_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Writes access records to a file or to standard output.

    A full disk never stops the service: what cannot be written is dropped and counted in *dropped*.

    :param path: a file, ``-`` for standard output, empty for none.
    :param epoch: epoch seconds.
    :raises ConfigError: the file cannot be opened.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, path: str, clock: Clock, *, json: bool = False, epoch: Callable[[], float] = time.time) -> None:
        self.dropped = 0
        self._path = path
        self._clock = clock
        self._as_json = json
        self._epoch = epoch
        self._lines: list[bytes] = []
        self._bytes = 0
        self._flush_at = FLUSH_BYTES
        self._flush_call: Any = None
        #: The time as records say it, and from when until when that holds.
        self._moment, self._since, self._until = "", 0.0, 0.0
        self._second, self._to_the_second = -1, ""
        self._torn = False
        self._failing = False
        self._descriptor: int | None = None
        self.reopen()

    @classmethod
    def open(cls, settings: AccessSettings, clock: Clock) -> AccessLog:
        """The access log that ``[logging]`` asks for."""
        return cls(settings.access_log, clock, json=settings.format == "json")

    def record(
        self,
        request_id: str,
        client: str,
        host: str,
        method: bytes,
        target: bytes,
        status: int,
        up: int,
        down: int,
        seconds: float,
        application: str = "",
        user: str = "",
        connector: str = "",
        cause: str = "",
        side: str = "",
        protocol: str = "",
    ) -> None:
        """Write down one request.

        :param target: the request target; its query is left out, people put secrets there.
        :param up: bytes of the request body.
        :param down: bytes of the answer's body.
        :param seconds: from the request's head to the end of the answer.
        :param cause: code of what went wrong, empty when nothing did; *side* is who failed.
        :param protocol: what the client spoke.
        """
        if self._descriptor is None:
            return
        now = self._epoch()
        if not self._since <= now < self._until:
            self._tell_the_time(now)
        path = target.partition(b"?")[0].partition(b"#")[0].decode("latin-1")
        if self._as_json:
            line = _json(_Record(
                self._moment, request_id, client, host, method.decode("latin-1"), path, status, up, down,
                round(seconds * 1000, 1), application, user, connector, cause, side, protocol,
            ))  # fmt: skip
        else:
            asked = f"{request_id} {_asker(client, host, method)} {path}"
            if not (asked.isascii() and asked.isprintable()):
                asked = escape(asked)  # which leaves alone what has been escaped
            named = _named(application, user, connector, cause, side, protocol)
            line = f"{self._moment} {asked} {status} up={up} down={down} ms={seconds * 1000:.1f} {named}\n".encode()
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= self._flush_at:
            self.flush()
        elif self._flush_call is None:
            self._flush_call = self._clock.callLater(FLUSH_SECONDS, self._flush_later)

    def flush(self) -> None:
        """Write what waits."""
        if self._lines and self._descriptor is not None:
            batch = b"".join(self._lines)
            self._lines.clear()
            self._write(self._descriptor, batch)

    def reopen(self) -> None:
        """Write what waits, then open the file anew, after it was moved away.

        :raises ConfigError: it cannot be opened; records go on to the old one.
        """
        self.flush()
        if self._path in ("", "-"):
            self._descriptor = _STDOUT if self._path else None
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            problem = f"{self._path} cannot be opened: {(error.strerror or str(error)).lower()}"
            raise ConfigError("logging.access_log", problem) from None
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        """Write what waits and take no more."""
        self.flush()
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        if self._descriptor not in (None, _STDOUT):
            os.close(self._descriptor)
        self._descriptor = None

    def _tell_the_time(self, now: float) -> None:
        millisecond = int(now * 1000)
        second, rest = divmod(millisecond, 1000)
        if second != self._second:
            self._second = second
            self._to_the_second = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        self._moment = f"{self._to_the_second}{rest:03}Z"
        self._since, self._until = now, (millisecond + 1) / 1000

    def _flush_later(self) -> None:
        self._flush_call = None
        self.flush()
        if self._lines:
            self._flush_call = self._clock.callLater(FLUSH_SECONDS, self._flush_later)

    def _write(self, descriptor: int, batch: bytes) -> None:
        """Write a batch without ever waiting; keep for later what a slow reader has no room for."""
        if self._torn:
            batch = b"\n" + batch
        written, problem = _write_some(descriptor, batch)
        rest = batch[written:]
        if not problem and len(rest) > MAX_WAITING_BYTES:
            problem = "its reader is too slow"
        self._bytes = 0
        self._flush_at = FLUSH_BYTES
        if problem:
            self._lose(batch, written, problem)
            return
        self._torn = False
        if rest:
            self._lines.append(rest)
            self._bytes = len(rest)
            self._flush_at += len(rest)
        elif self._failing:
            self._failing = False
            self.log.info(
                "access records are written again, {dropped} are lost", event="log.resumed", dropped=self.dropped
            )

    def _lose(self, batch: bytes, written: int, problem: str) -> None:
        """Count what is not written, and say so once."""
        self.dropped += batch.count(b"\n", written) - (self._torn and not written)
        if written:
            self._torn = not batch.endswith(b"\n", 0, written)
        if not self._failing:
            self._failing = True
            self.log.error("access records are lost: {problem}", event="log.failing", problem=problem)


@lru_cache(maxsize=8192)
def _asker(client: str, host: str, method: bytes) -> str:
    """The columns that many requests of one client share."""
    return f"{word(client)} {word(host)} {word(method.decode('latin-1'))}"


@lru_cache(maxsize=8192)
def _named(application: str, user: str, connector: str, cause: str, side: str, protocol: str) -> str:
    """The columns that many requests of one user share."""
    return (
        f"application={word(application)} user={word(user)} connector={word(connector)}"
        f" cause={word(cause)} side={word(side)} protocol={word(protocol)}"
    )


def _json(record: _Record) -> bytes:
    """One JSON object on one line."""
    line = _encode(record)
    if not line.isascii() or b"\x7f" in line:
        return escape_json(line.decode()).encode() + b"\n"
    return line + b"\n"


def _write_some(descriptor: int, batch: bytes) -> tuple[int, str]:
    """Write as much as goes without waiting; returns how much that was, and what went wrong."""
    written = 0
    try:
        waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        while written < len(batch):
            if waits and not _has_room(descriptor):
                break
            piece = batch[written : written + select.PIPE_BUF] if waits else batch[written:]
            written += os.write(descriptor, piece)
    except OSError as error:
        return written, (error.strerror or str(error)).lower()
    return written, ""


def _has_room(descriptor: int) -> bool:
    """Whether a pipe takes ``PIPE_BUF`` bytes at once; a pipe whose reader has gone takes them, and says so."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))
