"""Where somebody goes after signing in: exactly where they wanted to go, and nowhere that could be a trap."""

from __future__ import annotations

import re

#: With a target of this length the sealed sign-in still fits into one cookie.
MAX_TARGET_BYTES = 1536
RESERVED_PATH = b"/.appproxy"
_CONTROL = re.compile(rb"[\x00-\x20\x7f]|%(?:[01][0-9a-f]|7f)", re.IGNORECASE)
_BACKSLASH = re.compile(rb"\\|%5c", re.IGNORECASE)
#: What would begin with two slashes to a reader that decodes first.
_LEADING_SLASHES = re.compile(rb"/(?:/|%2f)", re.IGNORECASE)


def is_safe_target(target: bytes, canonical_path: bytes) -> bool:
    """Whether a browser may be sent to this origin-form target of this very host.

    :param target: path and query as they came.
    :param canonical_path: the path as the relay reads it.
    """
    path = target.partition(b"?")[0]
    return (
        target[:1] == b"/"
        and len(target) <= MAX_TARGET_BYTES
        and not _LEADING_SLASHES.match(path)
        and not _CONTROL.search(path)
        and not _BACKSLASH.search(path)
        # In the query an encoded control character is somebody's text; a raw one is not allowed anywhere.
        and not re.search(rb"[\x00-\x20\x7f#]", target)
        and canonical_path.lower() != RESERVED_PATH
        and not canonical_path.lower().startswith(RESERVED_PATH + b"/")
    )
