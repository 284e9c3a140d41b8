"""``twistd appproxy-relay``: what is typed, and the service it makes."""

from __future__ import annotations

import os
from typing import cast

from twisted.application.service import IService
from twisted.python import usage

from appproxy.config import read_relay
from appproxy.errors import ConfigError


class Options(usage.Options):
    """The relay's command line."""

    synopsis = "[--config relay.toml]"
    longdesc = "Without --config: an embedded store, a development CA, loopback addresses."
    optParameters = [["config", "c", None, "The relay's settings, a TOML file."]]


def makeService(options: Options) -> IService:
    """Twisted: the service for *options*; a mistake in the settings is one line and exit code 1."""
    from twisted.internet import reactor

    from appproxy.relay.service import RelayService

    try:
        return cast(IService, RelayService(reactor, read_relay(options["config"], os.environ)))
    except ConfigError as problem:
        raise SystemExit(f"appproxy-relay: {problem}") from None
