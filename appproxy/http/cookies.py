"""The relay's own cookies: never to an origin, never from one (RFC 6265bis).

Their names begin with ``__Host-appproxy-``, or ``appproxy-`` where a plain-http development relay cannot have the
prefix.  Browsers compare prefixes without regard to case, so we do too, and take every spelling for ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from appproxy.http.messages import Field, UnsafeHead, is_token

#: What the names of the relay's own cookies begin with.
RESERVED: Final = b"__Host-appproxy-"
_MARK: Final = b"appproxy-"
_RESERVED_NAME: Final = re.compile(rb"(?:__(?:host|secure|http|host-http)-)?appproxy-", re.IGNORECASE)
#: Where a name begins for the most lenient reader: after white space, controls and a missing name's equals sign.
_BEFORE_NAME: Final = bytes(range(33)) + b'="'
_COOKIE_VALUE: Final = re.compile(rb"[!#-+\--:<-\[\]-~]*")
_ATTRIBUTE: Final = re.compile(rb"[ -:<-~]+")


def _is_reserved(pair: bytes) -> bool:
    return _RESERVED_NAME.match(pair.lstrip(_BEFORE_NAME)) is not None


def take_reserved(values: Sequence[bytes]) -> tuple[dict[bytes, list[bytes]], bytes | None]:
    """Part the relay's own cookies from the application's.

    :param values: of all ``Cookie`` fields of a request.
    :return: own values in order by name (as sent; several when somebody has tossed one in), and the one ``Cookie``
        value for the origin, its octets unchanged when there was nothing to remove; ``None`` when nothing is left.
    """
    if not values:
        return {}, None
    whole = values[0] if len(values) == 1 else b"; ".join(values)
    if _MARK not in whole and _MARK not in whole.lower():
        return {}, whole
    reserved: dict[bytes, list[bytes]] = {}
    others: list[bytes] = []
    for pair in whole.split(b";"):
        if _is_reserved(pair):
            name, _, value = pair.strip(b" \t").partition(b"=")
            reserved.setdefault(name, []).append(value)
        else:
            others.append(pair)
    cleaned = b";".join(others).strip(b" \t;")
    return reserved, cleaned or None


def is_reserved_set_cookie(value: bytes) -> bool:
    """Whether a ``Set-Cookie`` value would set one of the relay's own cookies in some browser."""
    return _MARK in value.lower() and _is_reserved(value)


def drop_reserved(fields: Sequence[Field]) -> list[Field]:
    """*fields* without those ``Set-Cookie`` that would set one of the relay's own cookies."""
    return [field for field in fields if field[0].lower() != b"set-cookie" or not is_reserved_set_cookie(field[1])]


def set_cookie(
    name: bytes,
    value: bytes,
    *,
    max_age: int | None = None,
    path: bytes = b"/",
    http_only: bool = True,
    secure: bool = True,
    same_site: bytes = b"Lax",
    partitioned: bool = False,
) -> Field:
    """Build a ``Set-Cookie`` field, without ``Domain``: the cookie stays on its host.

    :param max_age: seconds; ``None`` for as long as the browser runs, 0 removes the cookie.
    :raises UnsafeHead: the name or value cannot stand in a cookie, or the name promises more than the attributes keep.
    """
    if not is_token(name) or not _COOKIE_VALUE.fullmatch(value) or not _ATTRIBUTE.fullmatch(path):
        raise UnsafeHead("cookie")
    if name.startswith(b"__Host-") and (not secure or path != b"/"):
        raise UnsafeHead("cookie prefix")
    parts = [b"%b=%b" % (name, value), b"Path=" + path]
    if max_age is not None:
        parts.append(b"Max-Age=%d" % max_age)
    if secure:
        parts.append(b"Secure")
    if http_only:
        parts.append(b"HttpOnly")
    parts.append(b"SameSite=" + same_site)
    if partitioned:
        parts.append(b"Partitioned")
    return b"Set-Cookie", b"; ".join(parts)


def clear_cookie(name: bytes, *, path: bytes = b"/", secure: bool = True, partitioned: bool = False) -> Field:
    """Build the ``Set-Cookie`` field that removes a cookie which :func:`set_cookie` set."""
    same_site = b"None" if partitioned else b"Lax"
    return set_cookie(name, b"", max_age=0, path=path, secure=secure, same_site=same_site, partitioned=partitioned)
