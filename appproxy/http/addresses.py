"""Hosts, paths and published addresses, each with one canonical reading.

The canonical path serves routing and policy only; the origin gets the octets that the client sent.  Where origins are
known to read a path in different ways, and the difference could matter, there is no reading: :class:`AmbiguousPath`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address, ip_network
from typing import ClassVar, Final, Self
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from appproxy.errors import AppproxyError, ConfigError, Side

_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z_.-]{1,254})(?::([0-9]{1,5}))?")
#: Characters of a host name.
MAX_HOST: Final = 253
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
#: A last label that a URL reader takes for (a part of) an IPv4 address, in decimal, octal or hexadecimal.
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")

_PATH = re.compile(rb"/[!\"$->@-~]*")  # visible ASCII without '#' and '?'
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
#: Controls, and what some decoder takes for an overlong form of a shorter character; other legacy encodings may pass.
_UNREADABLE = re.compile(
    rb"[\x00-\x1f\x7f\xc0\xc1]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]|\xf8[\x80-\x87]|\xfc[\x80-\x83]|[\xfe\xff][\x80-\xbf]"
)
_SEGMENT = rb"[0-9@-Z_a-z\-~!$&'()*+,:=][0-9@-Z_a-z.\-~!$&'()*+,:=]*+"
#: Read the same way by everybody: no escapes, parameters or empty segments, and none that begins with a dot.
_UNREMARKABLE = re.compile(rb"/(?:%b(?:/%b)*+/?)?" % (_SEGMENT, _SEGMENT))
#: Octets that stand for themselves in a canonical path.
_PLAIN = "/-._~!$&'()*+,:=@"


class AmbiguousPath(AppproxyError):
    """The path of the request can be read in more than one way, or leaves what is published."""

    code, status, side = "ambiguous-path", 400, Side.CLIENT


class MalformedHost(AppproxyError):
    """The Host of the request is no host name or address, with or without a port."""

    code, status, side = "malformed-host", 400, Side.CLIENT


@lru_cache(maxsize=2048)
def canonical_host(value: bytes) -> tuple[str, int | None]:
    """Read a ``Host`` value: lower case, without the trailing dot, addresses in their shortest form, IPv6 in brackets.

    :return: host and port; the port is ``None`` when none was given.
    :raises MalformedHost: for everything that is not one host name, IPv4 or bracketed IPv6 address.
    """
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        raise MalformedHost
    port = None
    if match[2] is not None:
        port = int(match[2])
        if not 0 < port < 65536:
            raise MalformedHost
    return _canonical_name(match[1].decode("ascii").lower()), port


def _canonical_name(name: str) -> str:
    try:
        if name.startswith("["):
            return f"[{IPv6Address(name[1:-1]).compressed}]"
        name = name.removesuffix(".")
        labels = name.split(".")
        if _NUMERIC.fullmatch(labels[-1]):
            return str(IPv4Address(name))
    except AddressValueError:
        raise MalformedHost from None
    if len(name) > MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise MalformedHost
    return name


def canonical_path(path: bytes, *, windows: bool = False) -> bytes:
    """How the strictest origin would read *path* (no query): for routing and policy.

    Escapes are decoded once, ``%2F`` separates, repeated slashes are one, parameters (``;...``) are dropped, plain dot
    segments are resolved; what needs no escape is not escaped and everything else is, in upper case.  The result is
    its own canonical path.  With *windows*, letter case, and dots and spaces at the end of a segment, mean nothing.

    :raises AmbiguousPath: invalid escapes, controls, overlong UTF-8, backslashes, dot segments that climb over the root
        or come together with escapes, parameters or repeated slashes; with *windows* also stream names.
    """
    if not windows and _UNREMARKABLE.fullmatch(path):
        return path
    if not _PATH.fullmatch(path):
        raise AmbiguousPath
    return _canonical_segments(path, windows)


def _canonical_segments(path: bytes, windows: bool) -> bytes:
    if _BAD_ESCAPE.search(path):
        raise AmbiguousPath
    decoded = unquote_to_bytes(path)
    if b"\\" in decoded or _UNREADABLE.search(decoded):
        raise AmbiguousPath
    if windows:
        decoded = decoded.lower()
        if b":" in decoded:
            raise AmbiguousPath
    segments = [segment.partition(b";")[0] for segment in decoded.split(b"/")[1:]]
    if windows:
        segments = [_without_end(segment) for segment in segments]
    directory = segments[-1] in (b"", b".", b"..")
    if b"." in segments or b".." in segments:
        if b"%" in path or b";" in path or b"//" in path:
            raise AmbiguousPath
        segments = _without_dots(segments)
    kept = [segment for segment in segments if segment]
    canonical = b"/" + b"/".join(kept) + (b"/" if directory and kept else b"")
    return quote_from_bytes(canonical, safe=_PLAIN).encode("ascii")


def _without_end(segment: bytes) -> bytes:
    """*segment* as Windows opens it."""
    if segment in (b"", b".", b".."):
        return segment
    opened = segment.rstrip(b". ")
    if not opened:
        raise AmbiguousPath
    return opened


def _without_dots(segments: list[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            if not kept:
                raise AmbiguousPath
            kept.pop()
        elif segment != b".":
            kept.append(segment)
    return kept


def is_under(path: bytes, prefix: bytes) -> bool:
    """Whether canonical *path* is *prefix* (which ends with a slash) or lies below it, by whole segments."""
    return path.startswith(prefix) or path == prefix[:-1]


def is_at(path: bytes, wanted: bytes) -> bool:
    """Whether canonical *path* is *wanted* or, where that ends with a slash, lies below it."""
    return is_under(path, wanted) if wanted.endswith(b"/") else path == wanted


def is_canonical(text: str) -> bool:
    """Whether *text* is a path as :func:`canonical_path` would write it."""
    path = text.encode("utf-8")
    try:
        return path.startswith(b"/") and canonical_path(path) == path
    except AmbiguousPath:
        return False


def swap_prefix(path: bytes, old: bytes, new: bytes) -> bytes:
    """Move *path* from below *old* to below *new* (both with their final slash); all octets after it stay as they are.

    :raises AmbiguousPath: *path* is not below *old*, or not so that everybody would read it.
    """
    remarkable = _UNREMARKABLE.fullmatch(path) is None
    if not remarkable and path.startswith(old):
        return new + path[len(old) :] if old != new else path
    if path == old[:-1]:
        return new[:-1] or b"/"
    # As many segments as the prefix has; they may be spelled with escapes that stand for themselves.
    depth = old.count(b"/")
    start = b"/".join(path.split(b"/", depth)[:depth]) + b"/"
    if start != old and (b";" in start or b"//" in start or canonical_path(start) != old):
        raise AmbiguousPath
    swapped = new + path[len(start) :]
    if remarkable:
        # A dot segment must not climb over the prefix and come back: what was below one is below the other.
        canonical = canonical_path(path)
        if not is_under(canonical, old) or canonical_path(swapped) != new + canonical[len(old) :]:
            raise AmbiguousPath
    return swapped


#: Where clouds tell machines their secrets, besides link-local addresses: AWS, Google, Azure, Alibaba, Oracle.
_METADATA = frozenset(
    map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"))
)
#: IPv6 addresses that stand for the IPv4 address at their end: NAT64, local NAT64, translated, compatible.
_CARRIERS = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")))
_BROADCAST = IPv4Address("255.255.255.255")


def is_never_published(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one that no intranet application has, but cloud metadata services and tricks do (M04).

    Loopback and private addresses are what intranets, and connectors beside their only application, are made of.
    """
    if isinstance(address, IPv6Address):
        if address.is_unspecified or address.is_loopback:
            return address.is_unspecified
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and any(address in carrier for carrier in _CARRIERS):
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    if address in _METADATA or address == _BROADCAST:
        return True
    return address.is_link_local or address.is_unspecified or address.is_multicast


@dataclass(frozen=True, slots=True)
class _Address:
    """Scheme, host, port and path of something published; *wildcard* stands for one or more labels before the host."""

    scheme: str
    host: str
    port: int
    path: bytes
    wildcard: bool = False

    #: Set by the subclasses: what the configuration calls it.
    what: ClassVar[str] = ""

    @classmethod
    def parse(cls, text: str, where: str = "") -> Self:
        """Read an address as an administrator wrote it.

        :raises ConfigError: naming *where* and what is wrong.
        """
        where = where or cls.what
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ConfigError(where, f"{text!r} is not an address; write https://host/path/") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ConfigError(where, f"{text!r} is not an http or https address; write https://host/path/")
        if "?" in text or "#" in text or "@" in parts.netloc:
            raise ConfigError(where, f"{text!r} has a query, fragment or user; leave it out")
        wildcard = parts.hostname.startswith("*.")
        name = parts.hostname.removeprefix("*.")
        try:
            encoded = name.encode("ascii" if ":" in name else "idna")
            host, _ = canonical_host(b"[%b]" % encoded if ":" in name else encoded)
            path = canonical_path(quote_from_bytes(parts.path.encode(), safe=_PLAIN + "%").encode() or b"/")
        except (UnicodeError, MalformedHost):
            raise ConfigError(where, f"{text!r} has no valid host") from None
        except AmbiguousPath:
            raise ConfigError(where, f"the path of {text!r} can be read in several ways; write a plain one") from None
        path = path if path.endswith(b"/") else path + b"/"
        return cls(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], path, wildcard)

    @property
    def authority(self) -> str:
        """Host, and port unless it is the scheme's own; what stands in ``Host``."""
        return self.host if self.port == _DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority; what stands in ``Origin``."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        star = "*." if self.wildcard else ""
        return f"{self.scheme}://{star}{self.authority}{self.path.decode('ascii')}"

    def matches(self, host: str) -> bool:
        """Whether canonical *host* is this one or, for a wildcard, lies below it by at least one label."""
        return host.endswith("." + self.host) if self.wildcard else host == self.host

    def labels_of(self, host: str) -> str:
        """What the wildcard stands for in *host*, which :meth:`matches`."""
        return host[: -len(self.host) - 1]

    def with_labels(self, labels: str) -> Self:
        """This wildcard with *labels* in the star's place; itself when it is none."""
        if not self.wildcard:
            return self
        return type(self)(self.scheme, f"{labels}.{self.host}", self.port, self.path)


class ExternalURL(_Address):
    """Where clients find an application."""

    __slots__ = ()
    what = "external_url"


class InternalURL(_Address):
    """Where its origin is."""

    __slots__ = ()
    what = "internal_url"
