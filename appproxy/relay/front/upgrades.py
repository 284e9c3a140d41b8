"""Upgrades that a page of another site asks for in the name of somebody who is signed in here."""

from __future__ import annotations

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.relay.catalog import Published
from appproxy.relay.front.client_exchange import ClientExchange


class CrossSiteUpgrade(AppproxyError):
    """A page of another site asked for this upgrade."""

    code, status, side, phase = "cross-site-upgrade", 403, Side.CLIENT, Phase.POLICY


def check_origin(exchange: ClientExchange, published: Published) -> None:
    """Let only the application's own pages, those that its rules allow, and programs open upgraded connections.

    No same-origin policy guards WebSockets: a browser opens them for any page, with the user's cookies, and only says
    in ``Origin`` whose page that is.  Programs that are no browsers say nothing, and have no cookies but their own.

    :raises CrossSiteUpgrade: neither.
    """
    origins = exchange.head.known.get(b"origin")
    if origins is None or origins == [exchange.origin.encode("ascii")]:
        return
    if len(origins) == 1:
        (origin,) = origins
        if origin in published.origins or (published.cors is not None and published.cors.trusts(origin)):
            return
    raise CrossSiteUpgrade
