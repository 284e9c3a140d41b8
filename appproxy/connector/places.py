"""Where requests go: the origin of each address of an application, and for wildcards of each host in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from appproxy.connector.failures import MalformedRequest, NotAllowed
from appproxy.connector.pool import Pool
from appproxy.http.addresses import MAX_HOST, MalformedHost, canonical_host
from appproxy.http.messages import Field
from appproxy.http.rewriting import Rewriting
from appproxy.http.translate import Translation

#: Hosts of one wildcard with open connections at once.
MAX_PLACES: Final = 1000


class Place:
    """One origin, as it is asked for at one external host.

    :ivar origin: scheme and authority of the origin, as text.
    :ivar pool: its connections.
    :ivar translation: from and to the external host that was asked for.
    :ivar rewriting: the same for bodies, if any are translated.
    """

    __slots__ = ("origin", "pool", "rewriting", "translation")

    def __init__(self, translation: Translation, pool: Pool) -> None:
        self.translation = translation
        self.pool = pool
        self.origin = translation.internal.origin
        self.rewriting = Rewriting(translation) if translation.headers or translation.bodies else None

    def fields_up(self, fields: Sequence[Field]) -> list[Field]:
        """The fields as the origin is to read them; :raises UnpublishedDestination: they name one."""
        moved = self.translation.up(fields)
        return self.rewriting.up(moved) if self.rewriting is not None and self.rewriting.bodies else moved


class Address:
    """One external address of an application and where it leads.

    :param find_pool: makes or finds the pool of a translation's origin.
    :param refusal: why nothing of it is served from here.
    :ivar place: the one place that it leads to, unless it is a wildcard.
    """

    __slots__ = ("_find_pool", "_places", "_refusal", "place", "translation")

    def __init__(
        self, translation: Translation, find_pool: Callable[[Translation], Pool], refusal: NotAllowed | None = None
    ) -> None:
        self.translation = translation
        self._find_pool = find_pool
        self._refusal = refusal
        self._places: dict[str, Place] = {}
        wildcard = translation.external.wildcard
        self.place = None if refusal or wildcard else Place(translation, find_pool(translation))

    def at(self, authority: str) -> Place:
        """Where a request for the external *authority* goes.

        :raises NotAllowed: not from here, or nothing that could be there.
        :raises MalformedRequest: the application is not published at that host.
        """
        if self.place is not None:
            return self.place
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.detail)
        try:
            host = canonical_host(authority.encode("ascii"))[0]
        except (MalformedHost, UnicodeEncodeError):
            raise MalformedRequest("no host that the application is published at") from None
        return self._places.get(host) or self._make(host)

    def _make(self, host: str) -> Place:
        translation = self.translation
        if not translation.external.matches(host):
            raise MalformedRequest("the application is not published at that host")
        if len(self._places) >= MAX_PLACES:
            if translation.internal.wildcard:
                raise NotAllowed(f"more than {MAX_PLACES} hosts of {translation.internal} are in use")
            del self._places[next(iter(self._places))]  # its origin is that of all others
        there = translation.at(host)
        if len(there.internal.host) > MAX_HOST:
            raise NotAllowed(f"a name below {translation.internal.host} that is too long for one")
        place = self._places[host] = Place(there, self._find_pool(there))
        return place

    def hosts(self) -> list[str]:
        """The hosts of a wildcard that are in use."""
        return list(self._places)

    def forget(self, pool: Pool) -> None:
        """A pool has become empty; places of wildcards are made anew when they are needed."""
        for host, place in list(self._places.items()):
            if place.pool is pool:
                del self._places[host]
