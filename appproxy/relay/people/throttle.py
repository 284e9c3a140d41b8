"""How often one address, and all together, may try something: token buckets."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """At once *burst* times, then once every *seconds*."""

    burst: int
    seconds: float


class _Bucket:
    """Tries that are left, as of a time."""

    __slots__ = ("left", "then")

    def __init__(self, left: float, then: float) -> None:
        self.left = left
        self.then = then


class Throttle:
    """Counts tries.

    :param each: for one source: an IPv4 address, or an IPv6 network of 64 bits, which one person can fill.
    :param together: for all sources.
    :param seconds: a monotonic clock.
    """

    #: Sources remembered at most; more of them at once run into *together* anyway.
    MAX_SOURCES = 10_000

    def __init__(self, each: Rate, together: Rate, seconds: Callable[[], float]) -> None:
        self._each = each
        self._together = together
        self._seconds = seconds
        self._all = _Bucket(together.burst, seconds())
        self._sources: dict[str, _Bucket] = {}

    def wait(self, address: str) -> float:
        """Count a try of *address*; returns 0 if it may, else the seconds until it may, and nothing is counted."""
        now = self._seconds()
        source = source_of(address)
        bucket = self._sources.pop(source, None) or _Bucket(self._each.burst, now)
        # The youngest last: the oldest are forgotten first.
        self._sources[source] = bucket
        if len(self._sources) > self.MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        late = max(_refill(bucket, self._each, now), _refill(self._all, self._together, now))
        if late == 0:
            bucket.left -= 1
            self._all.left -= 1
        return late


def _refill(bucket: _Bucket, rate: Rate, now: float) -> float:
    """Give back what time has brought; returns the seconds until there is one, 0 if there is."""
    bucket.left = min(rate.burst, bucket.left + (now - bucket.then) / rate.seconds)
    bucket.then = now
    return max(0.0, (1 - bucket.left) * rate.seconds)


def source_of(address: str) -> str:
    """Who counts as one: an IPv4 address, or an IPv6 network of 64 bits, which one person can fill."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
