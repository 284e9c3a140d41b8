"""The demo's ports and configuration files."""

from __future__ import annotations

import os
import secrets
import socket
from importlib import resources
from pathlib import Path
from string import Template
from typing import NamedTuple, Self

TEMPLATES = ("relay.toml", "connector.toml", "applications.toml", "users.toml")
SECRET_FILE = "client-secret"  # noqa: S105 - the name of a file


class Ports(NamedTuple):
    """Where everything listens, on loopback only."""

    clients: int = 8443
    connectors: int = 8444
    provider: int = 8400
    intranet: int = 8480
    #: With Kerberos only.
    kdc: int = 8408
    windows: int = 8420

    @classmethod
    def beginning(cls, clients: int) -> Self:
        """All ports, shifted so that clients come in at *clients*; :raises ValueError: some would not exist."""
        shift = clients - cls().clients
        ports = cls(*(port + shift for port in cls()))
        if not all(0 < port < 65536 for port in ports):
            raise ValueError(f"port {clients} leaves no room for the others; choose one from 44 to 65498")
        return ports

    def taken(self, kerberos: bool = False) -> str:
        """What the first port that is not free was wanted for, ``""`` when all are."""
        for name, port in self._asdict().items():
            if name in ("kdc", "windows") and not kerberos:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    return f"port {port}, wanted for {name}"
        return ""


def has_ipv6() -> bool:
    """Whether this machine has ``::1``, which some programs try first for ``*.localhost``."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def write_settings(folder: Path, ports: Ports, connector: str = "", applications: str = "") -> None:
    """Write all configuration files; the provider's secret is made once and kept.

    :param connector: more for connector.toml, *applications*: for the apply file.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    secret_file = folder / SECRET_FILE
    if not secret_file.exists():
        write_private(secret_file, secrets.token_urlsafe(24) + "\n")
    addresses = ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]
    values = {
        **ports._asdict(),
        "client_secret": secret_file.read_text().strip(),
        "more_origins": f', "http://localhost:{ports.windows}"' if connector else "",
        "client_addresses": ", ".join(f'"tls:{ports.clients}:interface={address}"' for address in addresses),
    }
    for name in TEMPLATES:
        template = Template(resources.files("appproxy.demo").joinpath(name).read_text("utf-8"))
        more = {"connector.toml": connector, "applications.toml": applications}.get(name, "")
        write_private(folder / name, template.substitute(values) + more)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
