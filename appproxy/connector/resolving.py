"""Where the names of origins lead: what the system says, but never to addresses that nothing is published at (M04).

A name may be looked up anew for each connection and lead elsewhere each time, so it is its addresses that are checked.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, succeed

from appproxy.http.addresses import is_never_published
from appproxy.net.dial import Resolve, Target, system_resolver
from appproxy.net.failures import DnsFailed


def origin_resolver(reactor: Any, system: Resolve | None = None) -> Resolve:
    """The name service for origins.

    :param system: asked for everything but names below ``localhost``, which are this machine (RFC 6761, 6.3).
    """
    look_up = system or system_resolver(reactor)

    def resolve(host: str, port: int) -> Deferred[Sequence[Target]]:
        if host.endswith(".localhost"):
            return succeed([(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))])
        return look_up(host, port).addCallback(_published_only, host)

    return resolve


def _published_only(targets: Sequence[Target], host: str) -> list[Target]:
    """:raises DnsFailed: there is no other address."""
    kept = [target for target in targets if not is_never_published(ip_address(target[1][0].partition("%")[0]))]
    if targets and not kept:
        address = targets[0][1][0]
        raise DnsFailed(f"{host} is {address}, which is for metadata, link-local, unspecified or multicast")
    return kept
