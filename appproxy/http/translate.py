"""Addresses in fields: external towards the client, internal towards the origin.

``Host``, ``Origin``, ``Referer``, ``Destination`` and ``If`` move as one set, because origins compare them; whatever an
answer says about places is moved back.  Only whole addresses of published places move: the authority has to be the
same, not merely begin alike, and the path has to be below the published one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from appproxy.errors import AppproxyError, Side
from appproxy.http.addresses import AmbiguousPath, ExternalURL, InternalURL, MalformedHost, canonical_host, swap_prefix
from appproxy.http.messages import Field

_Published = ExternalURL | InternalURL
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
#: Scheme (or none: the page's), authority, path, query and fragment.  Browsers read ``\\`` as ``/``: left alone.
_ABSOLUTE: Final = re.compile(rb"(?:(https?):)?//([^/?#\\\s]+)([^?#\\\s]*)([^\\\s]*)", re.IGNORECASE)
#: A quoted string, also an unclosed one (which must not be scanned again from each of its octets), or a target.
_LINK_TARGET: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|<([^<>]*)>')
_TAG: Final = re.compile(rb"<([^<>]*)>")
_REFRESH: Final = re.compile(rb"([\s\d.]*[;,]\s*(?:url\s*=\s*)?)([\"']?)([^\"']*)(.*)", re.IGNORECASE)
_SOURCE: Final = re.compile(rb"https?://[^\s;,'\"]+", re.IGNORECASE)


class UnpublishedDestination(AppproxyError):
    """The request names a destination that is not published, or that can be read in more than one way."""

    code = "unpublished-destination"
    status = 403
    side = Side.CLIENT


class _Moves:
    """What to do with the values of which fields; their lengths rule most names out before any is folded."""

    __slots__ = ("by_name", "lengths", "names")

    def __init__(self, by_name: dict[bytes, Callable[[bytes], bytes]]) -> None:
        self.by_name = by_name
        self.lengths = frozenset(map(len, by_name))
        self.names = frozenset(by_name)


class _Place:
    """A parsed absolute reference: where it points, and how to say the same of another place."""

    __slots__ = ("host", "path", "port", "scheme", "tail")

    def __init__(self, scheme: str, host: str, port: int, path: bytes, tail: bytes) -> None:
        self.scheme, self.host, self.port, self.path, self.tail = scheme, host, port, path, tail

    @classmethod
    def parse(cls, reference: bytes, scheme: str) -> _Place | None:
        """The place an absolute reference names; *scheme* is what it means when it names none."""
        match = _ABSOLUTE.fullmatch(reference)
        if match is None:
            return None
        try:
            host, port = canonical_host(match[2])
        except MalformedHost:
            return None
        if match[1] is not None:
            scheme = match[1].decode("ascii").lower()
        return cls(scheme, host, port or _DEFAULT_PORTS[scheme], match[3], match[4])

    def is_at(self, url: _Published) -> bool:
        """Whether this is on the server of *url*."""
        return self.scheme == url.scheme and self.port == url.port and url.matches(self.host)

    def moved(self, old: _Published, new: _Published, strict: bool) -> bytes | None:
        """The same place below *new*; ``None`` when this one is not below *old*."""
        path = _moved_path(self.path or b"/", old.path, new.path, strict)
        return None if path is None else new.origin.encode("ascii") + path + self.tail


def _path_end(reference: bytes) -> int:
    """Where the path of a reference that begins with it ends."""
    return len(reference.partition(b"#")[0].partition(b"?")[0])


def _moved_path(path: bytes, old: bytes, new: bytes, strict: bool) -> bytes | None:
    """*path* from below *old* to below *new*; *strict* where it decides what an origin does."""
    if strict:
        try:
            return swap_prefix(path, old, new)
        except AmbiguousPath:
            return None
    if path.startswith(old):
        return new + path[len(old) :]
    return (new[:-1] or b"/") if path == old[:-1] else None


class Atlas:
    """Everything published, for links from one application to another; made once for each configuration.

    :param pairs: external and internal address of every place, wildcards included; where one internal address has
        several external ones, links lead to the first.
    """

    def __init__(self, pairs: Iterable[tuple[ExternalURL, InternalURL]] = ()) -> None:
        pairs = list(pairs)
        # Longest path first, and exact hosts before wildcards: as requests are routed.
        self._outwards = sorted(
            # Of one origin behind a whole wildcard nobody can say which of its hosts is meant.
            ((internal, external) for external, internal in pairs if internal.wildcard or not external.wildcard),
            key=lambda pair: (pair[0].wildcard, -len(pair[0].host), -len(pair[0].path)),
        )
        self._inwards = sorted(pairs, key=lambda pair: (pair[0].wildcard, -len(pair[0].host), -len(pair[0].path)))

    def publishes(self, place: _Place) -> bool:
        """Whether something is published at the very server of an external place."""
        return any(place.is_at(external) for external, _ in self._inwards)

    def outwards(self, place: _Place) -> bytes | None:
        """The external address of an internal place, if it is published."""
        return self._moved(self._outwards, place, strict=False)

    def inwards(self, place: _Place) -> bytes | None:
        """The internal address of an external place, if it is published."""
        return self._moved(self._inwards, place, strict=True)

    def origin_outwards(self, place: _Place) -> bytes | None:
        """The external origin of an internal one."""
        return self._origin(self._outwards, place)

    def origin_inwards(self, place: _Place) -> bytes | None:
        """The internal origin of an external one."""
        return self._origin(self._inwards, place)

    def internals(self) -> Iterator[_Published]:
        """Every internal address that has an external one."""
        return (internal for internal, _ in self._outwards)

    def leads(self, server: _Place) -> Iterator[tuple[bytes, _Published]]:
        """The paths of an internal server that are published, and where; the most specific first."""
        for internal, external in self._outwards:
            if server.is_at(internal):
                yield internal.path, external.with_labels(internal.labels_of(server.host))

    @staticmethod
    def _moved(pairs: Sequence[tuple[_Published, _Published]], place: _Place, strict: bool) -> bytes | None:
        for old, new in pairs:
            if place.is_at(old):
                there = new.with_labels(old.labels_of(place.host)) if new.wildcard else new
                moved = place.moved(old, there, strict)
                if moved is not None:
                    return moved
        return None

    @staticmethod
    def _origin(pairs: Sequence[tuple[_Published, _Published]], place: _Place) -> bytes | None:
        for old, new in pairs:
            if place.is_at(old):
                there = new.with_labels(old.labels_of(place.host)) if new.wildcard else new
                return there.origin.encode("ascii")
        return None


class Translation:
    """Moves the addresses of one published place; made once and used for every request.

    :param external: where the client asks.
    :param host_header: the origin sees its internal host; else the external one, with the internal path.
    :param shown: where absolute links of answers lead, when that is another address than *external*.
    :param headers: false: only ``Host`` moves, and ``Destination`` and ``If``, which are part of what is asked for.
    :param bodies: whether :mod:`~appproxy.http.rewriting` moves links in bodies, too.
    """

    def __init__(
        self,
        external: ExternalURL,
        internal: InternalURL,
        host_header: bool = True,
        atlas: Atlas | None = None,
        shown: ExternalURL | None = None,
        headers: bool = True,
        bodies: bool = False,
    ) -> None:
        self.external, self.internal = external, internal
        self.shown = shown or external
        self._host_header = host_header
        self.headers, self.bodies = headers, bodies
        self._atlas = atlas or Atlas()
        #: Where the origin believes to be.
        self.view = (
            internal if host_header else InternalURL(external.scheme, external.host, external.port, internal.path)
        )
        self._host = self.view.authority.encode("ascii")
        asked: dict[bytes, Callable[[bytes], bytes]] = {
            b"host": self._host_up,
            b"destination": self._destination_up,
            b"if": self._if_up,
        }
        told: dict[bytes, Callable[[bytes], bytes]] = {b"origin": self._origin_up, b"referer": self._referer_up}
        self._up = _Moves(asked | told if headers else asked)
        answered: dict[bytes, Callable[[bytes], bytes]] = {
            b"location": self.reference_down,
            b"content-location": self.reference_down,
            b"refresh": self._refresh_down,
            b"link": self._link_down,
            b"sourcemap": self.reference_down,
            b"service-worker-allowed": self.reference_down,
            b"set-cookie": self._set_cookie_down,
            b"access-control-allow-origin": self._origin_down,
            b"timing-allow-origin": self._origins_down,
            b"content-security-policy": self._sources_down,
            b"content-security-policy-report-only": self._sources_down,
        }
        self._down = _Moves(answered if headers else {})

    def at(self, host: str) -> Translation:
        """For a wildcard: the translation of the one external *host* (canonical) that was asked for."""
        if not self.external.wildcard:
            return self
        labels = self.external.labels_of(host)
        external, internal = self.external.with_labels(labels), self.internal.with_labels(labels)
        return Translation(external, internal, self._host_header, self._atlas, None, self.headers, self.bodies)

    def up(self, fields: Sequence[Field]) -> list[Field]:
        """The fields of a request, as the origin shall see them.

        :raises UnpublishedDestination: ``Destination`` lies outside of everything published.
        """
        return _translated(fields, self._up)

    def down(self, fields: list[Field], known: Iterable[bytes] | None = None) -> list[Field]:
        """The fields of an answer, as the client shall see them; the very same list where it tells of no place.

        :param known: all names that are among them, lower-cased, if that is known; there may be others.
        """
        if known is not None and self._down.names.isdisjoint(known):
            return fields
        return _translated(fields, self._down)

    def target_up(self, target: bytes) -> bytes:
        """The target as the origin is to read it: the published path swapped, every other octet kept.

        :raises AmbiguousPath: the path is not, or not for everybody, below the published one.
        """
        if target == b"*":
            return target
        path, mark, query = target.partition(b"?")
        return swap_prefix(path, self.external.path, self.internal.path) + mark + query

    # Up

    def _host_up(self, value: bytes) -> bytes:
        return self._host

    def _origin_up(self, value: bytes) -> bytes:
        place = _Place.parse(value, self.external.scheme)
        if place is None or place.path or place.tail:
            return value
        if place.is_at(self.external):
            return self.view.origin.encode("ascii")
        return self._atlas.origin_inwards(place) or value

    def _referer_up(self, value: bytes) -> bytes:
        place = _Place.parse(value, self.external.scheme)
        if place is None:
            return value
        moved = self._place_up(place)
        if moved is None and place.is_at(self.external):
            # Origins compare its host with Host's: these two go together even where the path is not published.
            return self.view.origin.encode("ascii") + place.path + place.tail
        return moved or value

    def _destination_up(self, value: bytes) -> bytes:
        moved = self._reference_up(value)
        if moved is None:
            raise UnpublishedDestination
        return moved

    def _if_up(self, value: bytes) -> bytes:
        return _TAG.sub(lambda tag: b"<%b>" % (self._reference_up(tag[1]) or tag[1]), value)

    def _reference_up(self, value: bytes) -> bytes | None:
        if value.startswith(b"/") and not value.startswith(b"//"):
            end = _path_end(value)
            path = _moved_path(value[:end], self.external.path, self.internal.path, strict=True)
            return None if path is None else path + value[end:]
        place = _Place.parse(value, self.external.scheme)
        return None if place is None else self._place_up(place)

    def _place_up(self, place: _Place) -> bytes | None:
        if place.is_at(self.external):
            moved = place.moved(self.external, self.view, strict=True)
            if moved is not None:
                return moved
        return self._atlas.inwards(place)

    # Down

    def reference_down(self, value: bytes) -> bytes:
        """One reference out of an answer; unchanged when it is relative or names nothing published."""
        internal, external = self.internal, self.external
        if value.startswith(b"/") and not value.startswith(b"//"):
            end = _path_end(value)
            path = _moved_path(value[:end], internal.path, external.path, strict=False)
            if path is not None:
                return path + value[end:]
            place = _Place(internal.scheme, internal.host, internal.port, value[:end], value[end:])
            return self._atlas.outwards(place) or value
        if not (b"//" in value and (found := _Place.parse(value, internal.scheme))):
            return value
        return self._place_down(found) or value

    def _place_down(self, place: _Place) -> bytes | None:
        moved = None
        if place.is_at(self.internal):
            moved = place.moved(self.internal, self.shown, strict=False)
        elif self._is_external(place):
            # The origin knows its external name, though perhaps not that it is reached by TLS or below another path.
            moved = place.moved(self.external, self.shown, strict=False)
            moved = moved or place.moved(self.internal, self.shown, strict=False)
        return moved or self._atlas.outwards(place)

    def _is_external(self, place: _Place) -> bool:
        external = self.external
        if not external.matches(place.host):
            return False
        if place.port == external.port:
            return True
        # Without its port, unless that is the address of something else.
        return place.port == _DEFAULT_PORTS[place.scheme] and not self._atlas.publishes(place)

    def leads(self, scheme: str, host: str, port: int) -> Iterator[tuple[bytes, _Published]]:
        """The paths of a server, as the origin names it, that are published, and where; the most specific first.

        What :meth:`reference_down` does with one address, for those who look for many.
        """
        server = _Place(scheme, host, port, b"", b"")
        if server.is_at(self.internal):
            yield self.internal.path, self.shown
        elif self._is_external(server):
            yield self.external.path, self.shown
            yield self.internal.path, self.shown
        yield from self._atlas.leads(server)

    def linked(self) -> tuple[_Published, ...]:
        """The addresses by which the origin may name something that is published."""
        return self.internal, self.external, *self._atlas.internals()

    def _refresh_down(self, value: bytes) -> bytes:
        match = _REFRESH.fullmatch(value)
        if match is None:
            return value
        return match[1] + match[2] + self.reference_down(match[3].rstrip()) + match[4]

    def _link_down(self, value: bytes) -> bytes:
        def moved(found: re.Match[bytes]) -> bytes:
            return found[0] if found[1] is None else b"<%b>" % self.reference_down(found[1])

        return _LINK_TARGET.sub(moved, value)

    def _origin_down(self, value: bytes) -> bytes:
        """The origin that scripts come from: the very one that :meth:`_origin_up` moved."""
        return self._origin_moved(value, self.external)

    def _origin_moved(self, value: bytes, external: ExternalURL) -> bytes:
        place = _Place.parse(value, self.internal.scheme)
        if place is None or place.path or place.tail:
            return value
        if place.is_at(self.internal) or self._is_external(place):
            return external.origin.encode("ascii")
        return self._atlas.origin_outwards(place) or value

    def _origins_down(self, value: bytes) -> bytes:
        return b", ".join(self._origin_down(each.strip(b" \t")) for each in value.split(b","))

    def _sources_down(self, value: bytes) -> bytes:
        def moved(found: re.Match[bytes]) -> bytes:
            source = found[0]
            return self.reference_down(source) if b"/" in source[8:] else self._origin_moved(source, self.shown)

        return _SOURCE.sub(moved, value)

    def _set_cookie_down(self, value: bytes) -> bytes:
        """Bring ``Domain`` and ``Path`` outside; every other attribute stays as it is.

        A ``Domain`` of the inside goes, which confines the cookie to its external host; none is ever made wider.
        """
        pair, *attributes = value.split(b";")
        confined = pair.lstrip(b" \t")[:7].lower() == b"__host-"
        kept = [pair]
        for attribute in attributes:
            name, equals, setting = attribute.partition(b"=")
            setting = setting.strip(b" \t")
            match name.strip(b" \t").lower():
                case b"domain" if self._is_inside(setting):
                    continue
                case b"path" if not confined:
                    path = _moved_path(setting, self.internal.path, self.external.path, strict=False)
                    attribute = attribute if path is None else name + equals + path
            kept.append(attribute)
        return b";".join(kept)

    def _is_inside(self, domain: bytes) -> bool:
        """Whether a ``Domain`` means the internal host, and the external one has another name."""
        try:
            name, _ = canonical_host(domain.removeprefix(b"."))
        except MalformedHost:
            return False
        inside = self.internal.host
        return inside != self.external.host and (inside == name or inside.endswith("." + name))


def _translated(fields: Sequence[Field], moves: _Moves) -> list[Field]:
    by_name, lengths = moves.by_name, moves.lengths
    moved = list(fields)
    for position, (name, value) in enumerate(fields):
        if len(name) in lengths and (move := by_name.get(name.lower())) is not None:
            moved[position] = name, move(value)
    return moved
