"""The certificates of a server: a directory of PEM files, chosen by the name that the client asks for.

A certificate is one file ``NAME.pem`` with the chain and the key, or ``NAME.pem`` or ``NAME.crt`` beside
``NAME.key``.  It serves the names in it: an exact name first, then a wildcard, then the default, which is
``default.pem`` (or ``.crt``) if there is one and else the first by name.  Of two for the same name the one that is
valid longer is taken.

Files that change are loaded anew within seconds.  What cannot be loaded then is reported and leaves its predecessor
in service.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from appproxy.errors import ConfigError
from appproxy.net.tls import ALPN, names_of, server_context

#: Seconds between looks at the directory.
WATCH_SECONDS = 5.0

#: What tells one state of a file from another.
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Certificate:
    """One loaded certificate.

    :ivar stem: the file name without its suffix.
    :ivar not_after: when it expires, epoch seconds.
    """

    stem: str
    names: tuple[str, ...]
    not_after: int
    context: ssl.SSLContext
    stamp: Stamp
    files: tuple[Path, Path | None]


class Certificates:
    """The certificates in one directory, loaded and watched.

    :ivar problems: what could not be loaded the last time, for status pages.
    """

    log = Logger()

    def __init__(
        self, directory: Path, clock: Any, *, client_ca_pem: str = "", protocols: Sequence[str] = ALPN
    ) -> None:
        """Load *directory*.

        :param clock: the reactor, or a test's clock.
        :param client_ca_pem: see :func:`appproxy.net.tls.server_context`, as for *protocols*.
        :raises ConfigError: a file is unusable, or there is none.
        """
        self._directory = directory
        self._client_ca_pem = client_ca_pem
        self._protocols = protocols
        self._loaded: dict[str, Certificate] = {}
        self._failed: dict[str, Stamp] = {}
        self._context: ssl.SSLContext
        self.problems: list[ConfigError] = []
        self.reload()
        if self.problems:
            raise self.problems[0]
        self._watching = LoopingCall(self._look)
        self._watching.clock = clock

    @property
    def context(self) -> ssl.SSLContext:
        """The context for a new connection; it switches to the certificate of the name that the client sends."""
        return self._context

    @property
    def loaded(self) -> list[Certificate]:
        """The certificates in service, the default first."""
        return _in_order(self._loaded)

    def start(self) -> None:
        """Begin to watch the directory."""
        if not self._watching.running:
            self._watching.start(WATCH_SECONDS, now=False)

    def stop(self) -> None:
        """Watch no more."""
        if self._watching.running:
            self._watching.stop()

    def reload(self) -> list[ConfigError]:
        """Load what changed and replace the whole choice at once; return, and log, what could not be loaded.

        An unusable file leaves its predecessor in service; a file that is gone takes its names with it, unless none
        would remain.
        """
        loaded: dict[str, Certificate] = {}
        problems: list[ConfigError] = []
        failed: dict[str, Stamp] = {}
        try:
            found = _find(self._directory)
        except ConfigError as unreadable:
            found, loaded, problems = {}, dict(self._loaded), [unreadable]
        for stem, (certificate, key) in found.items():
            old = self._loaded.get(stem)
            stamp = _stamp(certificate, key)
            if old is not None and old.stamp == stamp:
                loaded[stem] = old
                continue
            try:
                loaded[stem] = self._load(stem, certificate, key, stamp)
            except ConfigError as problem:
                problems.append(problem)
                failed[stem] = stamp
                if old is not None:
                    loaded[stem] = old
        known = {str(old_problem) for old_problem in self.problems}
        news = [str(found_problem) for found_problem in problems if str(found_problem) not in known]
        self.problems, self._failed = problems, failed
        if loaded:
            self._replace(loaded)
        for text in news if self._loaded else ():
            self.log.error("{problem}", event="tls.certificate-refused", problem=text)
        return problems

    def _load(self, stem: str, path: Path, key: Path | None, stamp: Stamp) -> Certificate:
        context = server_context(path, key, client_ca_pem=self._client_ca_pem, protocols=self._protocols)
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
        names = names_of(leaf)
        if not names:
            raise ConfigError(str(path), "the certificate names no host (no subject alternative name)")
        return Certificate(stem, tuple(names), int(leaf.not_valid_after_utc.timestamp()), context, stamp, (path, key))

    def _replace(self, loaded: dict[str, Certificate]) -> None:
        if self._loaded and loaded != self._loaded:
            self.log.info("certificates in service: {stems}", event="tls.certificates", stems=sorted(loaded))
        if loaded != self._loaded:
            self._loaded = loaded
            self._context = _choosing(_in_order(loaded))

    def _look(self) -> None:
        try:
            now = {stem: _stamp(*files) for stem, files in _find(self._directory).items()}
        except ConfigError:
            now = {}
        known = {stem: certificate.stamp for stem, certificate in self._loaded.items()} | self._failed
        # A failure is tried again each time: the second of two files may have been half written.
        if now != known or self.problems:
            self.reload()


def _in_order(loaded: Mapping[str, Certificate]) -> list[Certificate]:
    return sorted(loaded.values(), key=lambda certificate: (certificate.stem != "default", certificate.stem))


def _find(directory: Path) -> dict[str, tuple[Path, Path | None]]:
    """Return the certificate and key files by stem; the key is None if the certificate's file has it.

    :raises ConfigError: the directory cannot be read or has none.
    """
    try:
        files = {path.name: path for path in sorted(directory.iterdir()) if not path.name.startswith(".")}
    except OSError as error:
        raise ConfigError(str(directory), f"cannot be read: {error.strerror}") from None
    found = {
        path.stem: (path, files.get(f"{path.stem}.key"))
        for path in files.values()
        if path.suffix in (".pem", ".crt") and path.is_file()
    }
    if not found:
        raise ConfigError(str(directory), "no certificate here; put NAME.pem (chain and key) into it")
    return found


def _stamp(*paths: Path | None) -> Stamp:
    stamp = []
    for path in filter(None, paths):
        try:
            status = path.stat()
        except OSError:
            stamp.append((path.name, 0, 0, 0))
        else:
            stamp.append((path.name, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(stamp)


def _choosing(certificates: list[Certificate]) -> ssl.SSLContext:
    """Return the default's context with the choice by name attached; the choice never changes afterwards."""
    by_name: dict[str, Certificate] = {}
    for certificate in certificates:
        for name in certificate.names:
            if name not in by_name or certificate.not_after > by_name[name].not_after:
                by_name[name] = certificate

    def choose(connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        if name:
            connection.sni = name = name.lower()
            chosen = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
            if chosen is not None:
                connection.context = chosen.context

    default = certificates[0].context
    default.sni_callback = choose
    return default
