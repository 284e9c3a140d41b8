"""``connector.toml``."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appproxy.applications import Value
from appproxy.config.converting import Place, convert
from appproxy.config.kerberos import Kerberos, check_settings
from appproxy.config.listening import ListenAddress
from appproxy.config.places import NODE_NAME, UNSET, state_folder
from appproxy.config.reading import Logging, overlay, place_logs, read_toml
from appproxy.config.secrets import read_secret
from appproxy.config.urls import read_origin
from appproxy.errors import ConfigError

#: Keys of later releases, and the values of them that ask for nothing.
LATER: dict[str, tuple[object, ...]] = {
    "egress": ({}, {"proxy": ""}),
    "egress.proxy": ("",),
    "listen.metrics": ("",),
}

#: More channels to one relay spread the work too thin to batch it.
MAX_CHANNELS = 4


class Connector(Value, frozen=True):
    """``[connector]``: who this connector is and which relays it dials."""

    relays: tuple[str, ...]
    name: str = ""
    state_dir: Path = UNSET
    enrolment_token: str = ""
    #: Not read here: it may be gone once the connector is enrolled.
    enrolment_token_file: Path | None = None
    #: Absent: pinned at enrolment.
    relay_ca_file: Path | None = None
    channels: int = 2
    #: Origins it may reach, ``http://host[:port]`` with ``*.`` for any label; None: whatever the relay assigns.
    allow: tuple[str, ...] | None = None

    def read_enrolment_token(self) -> str:
        """The token, from the file if there is one; empty when none is configured.

        :raises ConfigError: the file is missing, empty or open to others.
        """
        if self.enrolment_token_file is None:
            return self.enrolment_token
        return read_secret(self.enrolment_token_file, "connector.enrolment_token_file")

    def __repr__(self) -> str:
        """Without the token."""
        return f"Connector({self.name!r}, {self.relays!r})"


class OriginSettings(Value, frozen=True):
    """``[origin]``: authorities trusted for ``https`` origins, beside the system's."""

    ca_file: Path | None = None


class ConnectorListen(Value, frozen=True):
    """``[listen]``: what the connector itself serves, to this machine."""

    metrics: ListenAddress | None = None


class ConnectorConfig(Value, frozen=True):
    """All of ``connector.toml``, checked."""

    connector: Connector
    origin: OriginSettings = OriginSettings()
    kerberos: Kerberos = Kerberos()
    listen: ConnectorListen = ConnectorListen()
    logging: Logging = Logging()


def read_connector(path: str | Path, environ: Mapping[str, str]) -> ConnectorConfig:
    """Read the connector's settings: environment over file over default.

    :raises ConfigError: one line naming the setting and the remedy.
    """
    document = read_toml(Path(path), str(path))
    place = Place(str(path), overlay(document, environ, ConnectorConfig, LATER))
    document.setdefault("connector", {})
    folder = Path(path).absolute().parent
    config = convert(document, ConnectorConfig, place, LATER, folder)
    _check_file(config.origin.ca_file, "origin.ca_file", place)
    _check_file(config.connector.relay_ca_file, "connector.relay_ca_file", place)
    check_settings(config.kerberos, place)
    connector = _check_connector(config.connector, place)
    if connector.state_dir is UNSET:
        connector = msgspec.structs.replace(connector, state_dir=state_folder(environ, "appproxy-connector"))
    return msgspec.structs.replace(config, connector=connector, logging=place_logs(config.logging, folder, place))


def _check_connector(connector: Connector, place: Place) -> Connector:
    name = connector.name or socket.gethostname()
    if not NODE_NAME.fullmatch(name):
        raise place.error("connector.name", f"{name!r} is not a name; use letters, digits, dots and hyphens")
    if not connector.relays:
        raise place.error("connector.relays", 'is empty; write for instance ["https://connect.proxy.example.com:8443"]')
    relays = tuple(_relay(text, place.of(f"connector.relays[{each}]")) for each, text in enumerate(connector.relays))
    if not 1 <= connector.channels <= MAX_CHANNELS:
        raise place.error("connector.channels", f"{connector.channels} is not between 1 and {MAX_CHANNELS}")
    if connector.enrolment_token and connector.enrolment_token_file is not None:
        raise place.error("connector.enrolment_token", "is given twice; keep enrolment_token_file only")
    allow = connector.allow
    if allow is not None:
        urls = (
            read_origin(text, place.of(f"connector.allow[{each}]"), wildcard=True) for each, text in enumerate(allow)
        )
        allow = tuple(str(url).removesuffix("/") for url in urls)
    return msgspec.structs.replace(connector, name=name, relays=relays, allow=allow)


def _relay(text: str, where: str) -> str:
    url = read_origin(text, where)
    if url.scheme != "https":
        raise ConfigError(where, "must be https; the channel to a relay is always TLS")
    return url.origin


def _check_file(path: Path | None, key: str, place: Place) -> None:
    if path is not None and not path.is_file():
        raise place.error(key, f"there is no file {path}; create it or correct the path")
