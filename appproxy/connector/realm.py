"""The connector's account in a Kerberos realm, from its settings."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from appproxy.config.kerberos import Kerberos
from appproxy.errors import ConfigError
from appproxy.sso.asking import OWN_CONFIG, SYSTEM_CONFIG, Account, block_default_credentials
from appproxy.sso.delegation import Delegation, Library

EXTRA = "needs the extra kerberos: pip install 'appproxy[kerberos]', which needs a C compiler and libkrb5-dev"


def account_of(settings: Kerberos) -> Account:
    """The account that the settings name."""
    keytab = str(settings.keytab_file) if settings.keytab_file is not None else ""
    return Account(settings.principal, keytab, settings.ccache or "MEMORY:connector")


def config_files(settings: Kerberos) -> list[Path]:
    """The ``krb5.conf`` files, the strongest first."""
    return [OWN_CONFIG, settings.krb5_config_file or SYSTEM_CONFIG]


def load_library(settings: Kerberos, environ: MutableMapping[str, str] = os.environ) -> Any:
    """:mod:`appproxy.sso._gss`, with nothing to fall back on; the process's environment is changed for good.

    :raises ConfigError: the extra is not installed.
    """
    block_default_credentials(environ, config_files(settings))
    try:
        from appproxy.sso import _gss
    except ImportError as missing:
        raise ConfigError("kerberos.principal", f"{EXTRA} ({missing})") from None
    return _gss


def make_delegation(settings: Kerberos, reactor: Any) -> Delegation | None:
    """What asks for users' tickets; None for a connector without an account.

    :raises ConfigError: the extra is not installed.
    """
    if not settings.principal:
        return None
    library: Library = load_library(settings)
    return Delegation(account_of(settings), settings, config_files(settings), reactor, library)
