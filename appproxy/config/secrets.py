"""Secrets from files: there, not empty, and nobody else's to read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from appproxy.errors import ConfigError

#: No secret is longer; a bigger file is a slip in the path.
MAX_SECRET_BYTES = 64 * 1024


def read_secret(path: Path, where: str) -> str:
    """The secret in the file *path*, without surrounding white space.

    :param where: the setting that names the file, for errors; the secret itself is never in one.
    :raises ConfigError: missing, unreadable, empty, not text, or readable by others.
    """
    try:
        with path.open("rb") as file:
            check_private(path, where, os.fstat(file.fileno()))
            octets = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, where, error) from None
    if len(octets) > MAX_SECRET_BYTES:
        raise ConfigError(where, f"{path} is too long for a secret; name the file that holds only the secret")
    try:
        secret = octets.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(where, f"{path} is not text; write the secret as one line of text") from None
    if not secret:
        raise ConfigError(where, f"{path} is empty; write the secret into it")
    return secret


def check_private(path: Path, where: str, status: os.stat_result | None = None) -> None:
    """Make sure that only its owner can read a file with a key or a secret (R13).

    A file that somebody else owns may be shared with a group: that is how service supervisors hand credentials over.

    :param status: the file's, when the caller has it open.
    :raises ConfigError: with the command that mends it.
    """
    try:
        status = status or path.stat()
    except OSError as error:
        raise _unreadable(path, where, error) from None
    too_open = 0o077 if status.st_uid == os.geteuid() else 0o007
    if status.st_mode & too_open:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(where, f"{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")


def _unreadable(path: Path, where: str, error: OSError) -> ConfigError:
    if isinstance(error, FileNotFoundError):
        return ConfigError(where, f"there is no file {path}; create it or correct the path")
    if isinstance(error, PermissionError):
        return ConfigError(where, f"{path} may not be read; give it to the user that runs this program")
    return ConfigError(where, f"{path} cannot be read: {(error.strerror or str(error)).lower()}")
