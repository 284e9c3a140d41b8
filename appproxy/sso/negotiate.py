"""``Negotiate`` (RFC 4559): what an origin's challenges say, and which of them concern nobody but us."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Final

from appproxy.http.messages import Field

_CHALLENGE: Final = b"www-authenticate"
#: Schemes that prove a Windows or Kerberos account; a browser that answers one gives its user's credentials away.
_INTEGRATED: Final = frozenset({b"negotiate", b"ntlm", b"kerberos", b"nego2"})
#: A scheme at the beginning of a challenge; parameters have a ``=`` instead.
_SCHEME = re.compile(rb"(?:^|,)[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[ \t]*(?:,|$)|[ \t]+[^ \t=,])")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"?')
#: More than any ticket: Windows accepts 48 kB of token, here with room.
MAX_TOKEN: Final = 64 * 1024


def authorization(token: bytes) -> Field:
    """The field that carries a token."""
    return b"Authorization", b"Negotiate " + b64encode(token)


def challenged(fields: Sequence[Field]) -> bool:
    """Whether an answer asks for a ticket."""
    return any(b"negotiate" in schemes(value) for name, value in fields if name.lower() == _CHALLENGE)


def reply(fields: Sequence[Field]) -> bytes | None:
    """The token that an answer returns; None when there is none that can be read."""
    for name, value in fields:
        if name.lower() != _CHALLENGE:
            continue
        scheme, _, text = value.strip().partition(b" ")
        if scheme.lower() == b"negotiate" and 0 < len(text) <= MAX_TOKEN * 2:
            try:
                return b64decode(text.strip(), validate=True)
            except (binascii.Error, ValueError):
                return b""
    return None


def without_challenges(fields: list[Field]) -> list[Field]:
    """The fields without challenges of integrated authentication: they are ours to answer, never the client's."""
    if not any(len(name) == len(_CHALLENGE) and name.lower() == _CHALLENGE for name, _ in fields):
        return fields
    return [field for field in fields if field[0].lower() != _CHALLENGE or _INTEGRATED.isdisjoint(schemes(field[1]))]


def schemes(value: bytes) -> frozenset[bytes]:
    """The schemes that one field challenges with, in lower case; several may stand in it, with commas between."""
    plain = _QUOTED.sub(b'""', value)
    return frozenset(match.lower() for match in _SCHEME.findall(plain))
