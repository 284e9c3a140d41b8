"""The relay's own cookies: their names, and how they are set.  All are ``__Host-``: no sibling host can plant them."""

from __future__ import annotations

from typing import Literal

from appproxy.http.cookies import set_cookie as build
from appproxy.http.messages import Field

#: The session of this host.
SESSION = b"__Host-appproxy-session"
#: Binds a sign-in to the browser that wanted it, on the application's host.
BINDING = b"__Host-appproxy-binding"
#: Counts sign-ins that follow each other too soon, on the application's host.
ROUNDS = b"__Host-appproxy-rounds"
#: One sign-in under way, on the relay's host; an id follows.
ATTEMPT = b"__Host-appproxy-signin-"
#: What stood after the # of the address that was wanted, on the relay's host; the id of the sign-in follows.
FRAGMENT = b"__Host-appproxy-fragment-"
#: Has a request sent that was kept for a sign-in, on the application's host.
REPLAY = b"__Host-appproxy-replay"

SameSite = Literal["lax", "strict", "none"]


def set_cookie(
    name: bytes,
    value: bytes,
    *,
    max_age: int | None = None,
    same_site: SameSite = "lax",
    partitioned: bool = False,
    http_only: bool = True,
) -> Field:
    """A Set-Cookie field; *max_age* seconds, or until the browser is closed."""
    site = same_site.capitalize().encode()
    return build(name, value, max_age=max_age, same_site=site, partitioned=partitioned, http_only=http_only)


def expire_cookie(name: bytes, *, same_site: SameSite = "lax", partitioned: bool = False) -> Field:
    """A Set-Cookie field that takes the cookie away."""
    return set_cookie(name, b"", max_age=0, same_site=same_site, partitioned=partitioned)
