"""One line an event, whatever a client put into it (O01), and nothing in it that opens a door (O02)."""

from __future__ import annotations

import re
from functools import lru_cache

#: Everything that could end a line, move a cursor or reverse the direction of writing.
_UNSAFE = re.compile(
    r"[^\x20-\x7e\xa1-\xac\xae-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\ud7ff\uf900-\ufdff\ufe10-\ufefe]"
)
_SECRET = re.compile(
    r"(?P<scheme>\b(?:bearer|basic|negotiate|ntlm)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<name>\b(?:access_token|client_assertion|client_secret|code|code_verifier|id_token|password|refresh_token|state"
    r"|ticket)=|__Host-appproxy[\w-]*=)[^&;\s\"']+"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9._-]+",
    re.IGNORECASE,
)
#: Names of event fields that are never written.
_SECRET_FIELD = re.compile(r"secret|password|token|cookie|authorization|credential|private|handle$", re.IGNORECASE)
REDACTED = "[redacted]"


def escape(text: str) -> str:
    """Text without control, direction and private characters: ``\\n``, ``\\x1b``, ``\\u202e`` as they are written."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "backslashreplace").decode("ascii"), text)


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
    text = escape(text)
    if text.isascii() and re.fullmatch(r"[^\s\"=\\]+", text) and text != "-":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
