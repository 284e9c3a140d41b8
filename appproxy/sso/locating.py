"""Where a realm's KDCs are, as far as ``krb5.conf`` says, and whether one of them accepts connections."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from twisted.internet.protocol import Protocol

from appproxy.net.dial import dial
from appproxy.net.failures import DialFailed

KDC_PORT: Final = 88
PROBE_SECONDS: Final = 2.0
_SECTION = re.compile(r"\s*\[(\w+)\]\s*")
_REALM = re.compile(r"\s*([^\s={}]+)\s*=\s*\{\s*")
_KDC = re.compile(r"\s*kdc\s*=\s*(?:tcp/|udp/)?(\[[0-9A-Fa-f:.]+\]|[^\s:/]+)(?::(\d{1,5}))?\s*")


def kdcs_of(realm: str, files: Iterable[Path]) -> list[tuple[str, int]]:
    """Host and port of each KDC that a file names for *realm*; empty when they are found by DNS, or not at all."""
    found: list[tuple[str, int]] = []
    for file in files:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        section = current = ""
        for line in lines:
            if match := _SECTION.fullmatch(line):
                section = match[1]
            elif section != "realms":
                continue
            elif match := _REALM.fullmatch(line):
                current = match[1]
            elif line.strip() == "}":
                current = ""
            elif current == realm and (match := _KDC.fullmatch(line)):
                found.append((match[1].strip("[]"), int(match[2] or KDC_PORT)))
    return found


async def reachable(reactor: Any, places: Iterable[tuple[str, int]]) -> bool:
    """Whether one of them accepts a connection; costs no thread."""
    for host, port in places:
        try:
            connected = await dial(reactor, host, port, lambda _: Protocol(), None, PROBE_SECONDS)
        except DialFailed:
            continue
        connected.transport.abortConnection()  # type: ignore[union-attr]
        return True
    return False
