"""Tell the service supervisor how we are, as systemd's ``sd_notify`` does: a datagram to ``$NOTIFY_SOCKET``."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send *state*: ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1``, ``STATUS=...``; several are separated by line feeds.

    Whoever does not listen is not told: this never raises and never waits.

    :return: whether it was sent.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    name = address.encode() if address.startswith("/") else b"\0" + address[1:].encode()  # abstract
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as told:
        try:
            told.sendto(state.encode("utf-8"), name)
        except OSError:
            return False
    return True


def watchdog_seconds(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float:
    """How often ``WATCHDOG=1`` is due: half of what the supervisor waits for; 0 when it does not watch this process."""
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
        watched = int(environ.get("WATCHDOG_PID", "") or 0)
    except ValueError:
        return 0.0
    if watched and watched != (os.getpid() if pid is None else pid):
        return 0.0
    return microseconds / 2e6 if microseconds > 0 else 0.0
