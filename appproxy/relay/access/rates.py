"""How often an application may be asked: by one address, by one user, by all together (token buckets)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import ceil

from appproxy.applications import RateLimits
from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.messages import Field
from appproxy.relay.people.throttle import source_of

#: Buckets remembered at most for each kind of limit; whoever's is forgotten begins with a full one.
MAX_BUCKETS = 50_000


class TooManyRequests(AppproxyError):
    """The client, user or application has had more requests than its limit allows.

    :ivar fields: say when to come again.
    """

    code, status, side, phase = "rate-limited", 429, Side.CLIENT, Phase.POLICY

    def __init__(self, detail: str, seconds: float) -> None:
        super().__init__(detail)
        self.fields: list[Field] = [(b"Retry-After", b"%d" % max(1, ceil(seconds)))]


class Buckets:
    """Limits of one kind.  A bucket is the moment at which it would be full again (GCRA).

    :param limit: requests in *interval* seconds, of which *burst* may come at once.
    :param seconds: a monotonic clock.
    """

    __slots__ = ("_each", "_full", "_room", "_seconds")

    def __init__(self, limit: int, interval: float, burst: int, seconds: Callable[[], float]) -> None:
        self._each = interval / limit
        self._room = self._each * ((burst or limit) - 1)
        self._seconds = seconds
        self._full: dict[Hashable, float] = {}

    def take(self, key: Hashable) -> float:
        """Count one request; returns 0 if it may, else the seconds until it may, and nothing is counted."""
        now = self._seconds()
        # The youngest last: those that were used longest ago are forgotten first.
        full = max(self._full.pop(key, now), now)
        late = full - self._room - now
        self._full[key] = full if late > 0 else full + self._each
        if len(self._full) > MAX_BUCKETS:
            del self._full[next(iter(self._full))]
        return max(late, 0.0)


class ApplicationRates:
    """The limits of one application."""

    __slots__ = ("_address", "_all", "_user", "limits")

    def __init__(self, limits: RateLimits, seconds: Callable[[], float]) -> None:
        self.limits = limits

        def buckets(limit: int) -> Buckets | None:
            return Buckets(limit, float(limits.interval), limits.burst, seconds) if limit else None

        self._address = buckets(limits.address)
        self._user = buckets(limits.user)
        self._all = buckets(limits.application)

    def arrived(self, client: str) -> None:
        """A request from *client*, whoever it may be.

        :raises TooManyRequests: it has had its share.
        """
        if self._address is not None and (late := self._address.take(source_of(client))):
            raise TooManyRequests("address", late)
        if self._all is not None and (late := self._all.take("")):
            raise TooManyRequests("application", late)

    def identified(self, user: tuple[str, str]) -> None:
        """It is a certain user's.

        :raises TooManyRequests: they have had their share.
        """
        if self._user is not None and (late := self._user.take(user)):
            raise TooManyRequests("user", late)


class Rates:
    """The limits of all applications; what was counted stays while other settings change.

    :param seconds: a monotonic clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._of: dict[str, ApplicationRates] = {}

    def of(self, id: str, limits: RateLimits) -> ApplicationRates:
        """The limits of the application *id*; new ones begin with nothing counted."""
        known = self._of.get(id)
        if known is None or known.limits != limits:
            known = self._of[id] = ApplicationRates(limits, self._seconds)
        return known
