"""What trusted proxies say about clients: ``X-Forwarded-For`` and its kin, or ``Forwarded`` (RFC 7239).

Every proxy on the way adds, on the right, whom it heard from.  Read from the right, each word is believed as long as
it comes from somebody trusted: the relay's own peer first, then whoever that one names.  The first who is not
trusted is the client, and what stands left of it is the client's invention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal, NamedTuple

#: An entry of ``X-Forwarded-For`` or a node of ``Forwarded``; some proxies add the client's port.
_NODE = re.compile(r"([0-9.]+)(?::[0-9]{1,5})?|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105
_QUOTED = r'"(?:[^"\\]|\\.)*"'
#: One parameter of ``Forwarded`` and what divides it from the next.
_PAIR = re.compile(rf"[ \t]*(?:({_TOKEN})=({_TOKEN}|{_QUOTED}))?[ \t]*([;,]|\Z)")
_SCHEMES = frozenset({"http", "https"})
#: Chains are short; what is longer is nonsense of the client's.
_MAX_HOPS = 32

Known = Mapping[bytes, Sequence[bytes]]


class Told(NamedTuple):
    """Who the client is and what it asked for: its address, scheme, and a ``Host`` value as it came."""

    client: str
    scheme: str
    host: bytes


class TrustedProxies:
    """The proxies in front of a listener.

    :param networks: where they are.
    :param fields: which kind of fields they write; the other kind may be the client's own and is not looked at.
    """

    def __init__(
        self,
        networks: Sequence[IPv4Network | IPv6Network],
        fields: Literal["x-forwarded", "forwarded"] = "x-forwarded",
    ) -> None:
        self._networks = tuple(networks)
        self._hops = _forwarded if fields == "forwarded" else _x_forwarded

    def trusts(self, address: str) -> bool:
        """Whether *address* is a trusted proxy's; what is no address is not."""
        node = _address(address)
        return node is not None and any(node in network for network in self._networks)

    def believe(self, peer: str, scheme: str, host: bytes, known: Known) -> Told:
        """What the fields of a request from *peer*, a trusted proxy, come to.

        :param scheme: how *peer* came itself, and *host* what its ``Host`` says; they hold where nothing else is said.
        :param known: fields by lower-case name.
        """
        client = peer
        port = ""
        for hop in self._hops(known):
            if hop.scheme in _SCHEMES:
                scheme = hop.scheme
            if hop.host:
                host, port = hop.host.encode("ascii"), hop.port
            node = _address(hop.node)
            if node is None:  # hidden, unknown or nonsense: the last one known has to stand for it
                break
            client = str(node)
            if not self.trusts(client):
                break
        if port and b":" not in host.rpartition(b"]")[2]:
            host += b":" + port.encode("ascii")
        return Told(client, scheme, host)


class _Hop(NamedTuple):
    """What one proxy says of whom it heard from."""

    node: str
    scheme: str
    host: str
    port: str


def _address(node: str) -> IPv4Address | IPv6Address | None:
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    try:
        address = ip_address(match[1] or match[2] or match[3])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _members(known: Known, name: bytes) -> list[str]:
    """The last members of a list that may span several lines, the very last first."""
    values = known.get(name)
    if values is None:
        return []
    members = b",".join(values).decode("ascii", "replace").rsplit(",", _MAX_HOPS)
    return [member.strip(" \t") for member in reversed(members[-_MAX_HOPS:])]


def _x_forwarded(known: Known) -> list[_Hop]:
    """The nearest proxy's word first.

    A proxy that sets the scheme, host or port afresh leaves fewer of them than addresses: the left-most that there is
    then holds for all before it.
    """
    nodes = _members(known, b"x-forwarded-for")
    schemes = _members(known, b"x-forwarded-proto")
    hosts, ports = _members(known, b"x-forwarded-host"), _members(known, b"x-forwarded-port")
    count = max(map(len, (nodes, schemes, hosts, ports)))
    nodes += [""] * (count - len(nodes))
    return [
        _Hop(nodes[at], _at(schemes, at).lower(), _printable(_at(hosts, at)), _digits(_at(ports, at)))
        for at in range(count)
    ]


def _at(members: list[str], position: int) -> str:
    return members[position] if position < len(members) else ""


def _printable(text: str) -> str:
    return text if text.isascii() and text.isprintable() else ""


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdigit() else ""


def _forwarded(known: Known) -> list[_Hop]:
    """The elements of ``Forwarded``, the nearest proxy's first; those that are readable, from the right."""
    values = known.get(b"forwarded")
    if values is None:
        return []
    text = ",".join(value.decode("ascii", "replace") for value in values)
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None:  # what stands left of it was the work of others; what is right of it cannot be told
            return []
        name, value, divider = match.groups()
        if name:
            elements[-1][name.lower()] = _unquoted(value)
        if divider == ",":
            elements.append({})
        position = match.end()
    return [
        _Hop(element.get("for", ""), element.get("proto", "").lower(), _printable(element.get("host", "")), "")
        for element in reversed(elements[-_MAX_HOPS:])
        if element
    ]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
