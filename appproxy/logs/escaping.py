"""One line an event, whatever a client put into it (O01), and nothing in it that opens a door (O02)."""

from __future__ import annotations

import json
import re
from functools import lru_cache

_NOT_ASCII_PRINTABLE = re.compile(r"[^ -~]")
_SECRET = re.compile(
    r"(?P<scheme>\b(?:bearer|basic|negotiate|ntlm)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<name>\b(?:access_token|client_assertion|client_secret|code|code_verifier|id_token|password|refresh_token|state"
    r"|ticket)=|__Host-appproxy[\w-]*=)[^&;\s\"']+"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9._-]+",
    re.IGNORECASE,
)
#: Names of event fields that are never written.
_SECRET_FIELD = re.compile(r"secret|password|token|cookie|authorization|credential|private|handle$", re.IGNORECASE)
#: What needs no quotes.
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
REDACTED = "[redacted]"


def escape(text: str) -> str:
    """Text with everything escaped that could end a line, move a cursor or turn the direction: ``\\n``, ``\\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return _NOT_ASCII_PRINTABLE.sub(_as_in_python, text)


def escape_json(text: str) -> str:
    """The same for text that is JSON already."""
    if text.isascii() and text.isprintable():
        return text
    return _NOT_ASCII_PRINTABLE.sub(_as_in_json, text)


def _as_in_python(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _as_in_json(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else json.dumps(character)[1:-1]


def scrub(text: str) -> str:
    """Text without credentials that got into it, by what they look like."""
    return _SECRET.sub(lambda match: f"{match['scheme'] or match['name'] or ''}{REDACTED}", text)


def is_secret(field: str) -> bool:
    """Whether an event's field of that name is never written."""
    return _SECRET_FIELD.search(field) is not None


@lru_cache(maxsize=8192)
def word(text: str) -> str:
    """One column of a line: as it is, ``-`` when empty, quoted when a reader could take it for several."""
    if not text:
        return "-"
    if _PLAIN.fullmatch(text) and text != "-":
        return text
    return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
