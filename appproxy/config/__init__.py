"""What administrators write: ``relay.toml``, ``connector.toml`` and the apply file, read into checked values.

Past this room nobody asks whether a port is a number or a file is there.  Every mistake is one
:class:`~appproxy.errors.ConfigError`: the file and key (or the environment variable), what is wrong, and the remedy.
"""

from appproxy.config.apply import ApplyFile, parse_apply, read_apply
from appproxy.config.connector import ConnectorConfig, read_connector
from appproxy.config.listening import ListenAddress
from appproxy.config.provider import ProviderConfig, TransmitterConfig
from appproxy.config.publishing import check_publishing
from appproxy.config.reading import Logging
from appproxy.config.relay import RelayConfig, read_relay
from appproxy.config.secrets import check_private, read_secret

__all__ = [
    "ApplyFile",
    "ConnectorConfig",
    "ListenAddress",
    "Logging",
    "ProviderConfig",
    "RelayConfig",
    "TransmitterConfig",
    "check_private",
    "check_publishing",
    "parse_apply",
    "read_apply",
    "read_connector",
    "read_relay",
    "read_secret",
]
