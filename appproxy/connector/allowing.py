"""The local allow-list: the origins that this connector may reach, whatever a relay says."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from appproxy.config.urls import is_address
from appproxy.http.addresses import InternalURL, is_never_published


class AllowList:
    """Origins by scheme, host (``*.`` for one label or more) and port.

    :param entries: ``http://host[:port]``; None allows whatever the relay assigns, an empty list nothing.
    :raises ConfigError: an entry is no origin.
    """

    def __init__(self, entries: Iterable[str] | None = None) -> None:
        self._origins: tuple[InternalURL, ...] | None = None
        if entries is not None:
            self._origins = tuple(InternalURL.parse(entry, "connector.allow") for entry in entries)

    def allows(self, scheme: str, host: str, port: int) -> bool:
        """Whether that origin may be dialled; *host* is canonical.

        Without a list everything, but for addresses that nobody publishes (M04), whatever the relay assigns.
        """
        if self._origins is None:
            return not (is_address(host) and is_never_published(ip_address(host.strip("[]"))))
        return any(origin.scheme == scheme and origin.port == port and origin.matches(host) for origin in self._origins)

    def allows_any_of(self, wildcard: InternalURL) -> bool:
        """Whether some host of a wildcard may be dialled; which ones is decided request by request."""
        if self._origins is None:
            return True
        return any(
            origin.scheme == wildcard.scheme
            and origin.port == wildcard.port
            and (
                wildcard.matches(origin.host)
                or (origin.wildcard and (wildcard.host == origin.host or wildcard.host.endswith("." + origin.host)))
            )
            for origin in self._origins
        )
