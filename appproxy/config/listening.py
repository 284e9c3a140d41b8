"""Where a program listens: ``"tls:443"``, ``"tcp:127.0.0.1:9464"``, ``"unix:/run/admin.sock"``."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal, Self

from appproxy.applications import Value

_HOW = (
    'write "tls:443", "tls:8443:interface=127.0.0.1", "tcp:80", "tcp:127.0.0.1:9464", "unix:/path" or "systemd:name=…"'
)
_ADDRESS = re.compile(r"(tls|tcp):(?:(\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?([0-9]+)(?::interface=(.+))?")


class ListenAddress(Value, frozen=True):
    """One listening socket.  *host* is an address, empty for all; *path* is for ``unix``, *name* for ``systemd``."""

    kind: Literal["tls", "tcp", "unix", "systemd"]
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read one; :raises ValueError: with a sentence saying how one is written."""
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is not a listening address; {_HOW}")
        if text.startswith("unix:/"):
            return cls(kind="unix", path=text.removeprefix("unix:"))
        if re.fullmatch(r"systemd:name=[\w.@-]+", text):
            return cls(kind="systemd", name=text.removeprefix("systemd:name="))
        match = _ADDRESS.fullmatch(text)
        if match is None or (match[2] and match[4]):
            raise ValueError(f"{text!r} is not a listening address; {_HOW}")
        kind: Literal["tls", "tcp"] = "tls" if match[1] == "tls" else "tcp"
        return cls(kind=kind, host=_interface(match[2] or match[4] or ""), port=_port(match[3]))

    def __str__(self) -> str:
        """As it is written in files."""
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "systemd":
            return f"systemd:name={self.name}"
        return f"{self.kind}:{self.port}" + (f":interface={self.host}" if self.host else "")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.kind == "unix" or (bool(self.host) and ip_address(self.host).is_loopback)


def _interface(text: str) -> str:
    try:
        return str(ip_address(text.strip("[]"))) if text else ""
    except ValueError:
        raise ValueError(f"{text!r} is not the address of an interface") from None


def _port(text: str) -> int:
    port = int(text)
    if port > 65535:
        raise ValueError(f"port {text} is out of range; ports go up to 65535")
    return port
