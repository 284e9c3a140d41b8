"""Names of header fields that an administrator may choose."""

from __future__ import annotations

import re

from appproxy.errors import ConfigError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Header fields that decide where a message ends or goes, or that the relay itself writes.
RESERVED_FIELDS = frozenset(
    {"connection", "content-encoding", "content-length", "content-range", "cookie", "expect", "forwarded", "host"}
    | {"http2-settings", "keep-alive", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "via"}
    | {"proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "proxy-connection"}
)
_RESERVED_PREFIXES = ("x-forwarded-", "sec-websocket-")


def fold_name(name: str) -> str:
    """A name as origins may read it that take ``-``, ``_`` and ``.`` for the same."""
    return re.sub(r"[_.]", "-", name.lower())


def check_field(name: str, where: str) -> None:
    """See that somebody may give a meaning to the field *name*; :raises ConfigError: they may not."""
    if not _TOKEN.fullmatch(name):
        raise ConfigError(where, f"{name!r} is not the name of a header")
    folded = fold_name(name)
    if folded in RESERVED_FIELDS or folded.startswith(_RESERVED_PREFIXES):
        raise ConfigError(where, f"{name} is written by the relay or connector itself; choose another header")
