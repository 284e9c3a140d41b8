"""Addresses in settings: read by :mod:`appproxy.http.addresses`, after a look for what was mistyped."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from appproxy.errors import ConfigError
from appproxy.http.addresses import ExternalURL

#: What URL readers drop, or take for something else, without a word.
_ODD = re.compile(r"[\x00-\x20\x7f\\]")


def read_url(text: str, where: str, *, wildcard: bool = False) -> ExternalURL:
    """Read an absolute ``http`` or ``https`` URL without query.

    :param wildcard: whether ``https://*.example.com`` will do.
    :raises ConfigError: naming *where* and what is wrong.
    """
    if _ODD.search(text):
        raise ConfigError(where, f"{text!r} has a space, control character or backslash")
    url = ExternalURL.parse(text, where)
    if urlsplit(text).port == 0 or urlsplit(text).netloc.endswith(":"):
        raise ConfigError(where, f"{text!r} has no usable port")
    if url.wildcard and not wildcard:
        raise ConfigError(where, f"{text!r} is a wildcard; name one host")
    if url.wildcard and is_address(url.host):
        raise ConfigError(where, f"{text!r} has a wildcard before an address")
    return url


def read_origin(text: str, where: str, *, wildcard: bool = False) -> ExternalURL:
    """Read ``https://host[:port]``; :raises ConfigError: for anything more or less."""
    url = read_url(text, where, wildcard=wildcard)
    if url.path != b"/":
        raise ConfigError(where, f"{text!r} has a path; write only scheme, host and port")
    return url


def is_loopback(host: str) -> bool:
    """Whether *host* names this machine and nothing else."""
    if is_address(host):
        return ip_address(host.strip("[]")).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def is_address(host: str) -> bool:
    """Whether *host* is an address, IPv6 with or without brackets."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
