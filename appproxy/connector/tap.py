"""``twistd appproxy-connector``: what is typed, and the service it makes."""

from __future__ import annotations

import os
from typing import cast

from twisted.application.service import IService
from twisted.python import usage

from appproxy.config import read_connector
from appproxy.errors import ConfigError


class Options(usage.Options):
    """The connector's command line."""

    synopsis = "--config connector.toml"
    longdesc = "Dials the relays in its settings and carries their requests to the origins beside it."
    optParameters = [["config", "c", None, "The connector's settings, a TOML file."]]

    def postOptions(self) -> None:
        """Refuse to run without settings."""
        if not self["config"]:
            raise usage.UsageError("appproxy-connector needs its settings; write: --config connector.toml")


def makeService(options: Options) -> IService:
    """Twisted: the service for *options*; a mistake in the settings is one line and exit code 1."""
    from twisted.internet import reactor

    from appproxy.connector.service import ConnectorService

    try:
        return cast(IService, ConnectorService(reactor, read_connector(options["config"], os.environ)))
    except ConfigError as problem:
        raise SystemExit(f"appproxy-connector: {problem}") from None
