"""Where a program listens, and which addresses it is known by: ``"tls:443"``, ``"unix:/run/admin.sock"``, URLs."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import SplitResult, urlsplit

from appproxy.applications import Value

_HOW = (
    'write "tls:443", "tls:8443:interface=127.0.0.1", "tcp:80", "tcp:127.0.0.1:9464", "unix:/path" or "systemd:name=…"'
)
_ADDRESS = re.compile(r"(tls|tcp):(?:(\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?([0-9]+)(?::interface=(.+))?")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


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


def is_loopback(host: str) -> bool:
    """Whether *host* names this machine and nothing else."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class WebOrigin(Value, frozen=True):
    """Scheme, host and port of a web server, in canonical form."""

    scheme: Literal["http", "https"]
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``https://host[:port]``; :raises ValueError: saying what is wrong with it."""
        parts, host, port = split_url(text)
        if parts.path not in ("", "/") or parts.query:
            raise ValueError(f"{text!r} has a path or a query; write only https://host[:port]")
        return cls(scheme="https" if parts.scheme == "https" else "http", host=host, port=port)

    def __str__(self) -> str:
        """``https://host``, with the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = 443 if self.scheme == "https" else 80
        return f"{self.scheme}://{host}" + ("" if self.port == own else f":{self.port}")


def split_url(text: str) -> tuple[SplitResult, str, int]:
    """Take an absolute http(s) URL apart: its parts, canonical host and port.

    :raises ValueError: not http(s), no or an impossible host, a port out of range, a user, a fragment, odd characters.
    """
    if not text.isascii() or re.search(r"[\x00-\x20\x7f\\]", text):
        raise ValueError(f"{text!r} has characters that an address cannot have")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise ValueError(f"{text!r} is not an http(s) address") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{text!r} is not an http(s) address")
    if parts.username is not None or "#" in text:
        raise ValueError(f"{text!r} has a user or a fragment; an address here has none")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError(f"{text!r} has no usable port")
    return parts, _host(host, text), port or (443 if parts.scheme == "https" else 80)


def _host(host: str, text: str) -> str:
    if ":" in host:
        return str(ip_address(host))
    host = host.lower().removesuffix(".")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{text!r} has no usable host name")
    if re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)", host.rpartition(".")[2]):
        try:
            return str(ip_address(host))
        except ValueError:
            raise ValueError(f"{text!r} has no usable host name") from None
    return host


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
