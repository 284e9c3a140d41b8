"""The PROXY protocol, versions 1 and 2: what a balancer says first on a connection that it passes on.

Sans-I/O and strict.  The octets after the preface belong to somebody else (TLS, mostly), so a reader is shown what is
there without taking it and says how much of that is the preface's; see :meth:`PrefaceReader.look`.

Specification: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address

from twisted.internet import address as endpoints

#: A line of version 1 with its CRLF.
MAX_LINE = 107
#: Addresses and additions of version 2.  The specification allows 65,535; certificates of clients, the largest thing
#: that balancers add, stay below this.
MAX_LENGTH = 8 * 1024

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEADER = struct.Struct("!12sBBH")
_ADDITION = struct.Struct("!BH")
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [ -~]*)?|(TCP[46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) ([0-9]+) ([0-9]+))\r\n")
_LOCAL, _PROXY = 0x20, 0x21
#: Address families: unspecified, TCP over IPv4 and IPv6 with the size of their block, a Unix stream socket.
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_BLOCKS = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
#: An addition with the CRC-32C of the whole preface.
_CHECKSUM = 0x03
#: Nothing that is accepted is longer.
MAX_PREFACE = _HEADER.size + MAX_LENGTH

Client = endpoints.IPv4Address | endpoints.IPv6Address


class MalformedPreface(Exception):
    """What came first is not strictly a PROXY protocol preface; the text says why and repeats nothing of it."""


class PrefaceReader:
    """Reads the preface of one connection.

    :ivar done: the whole preface has been seen.
    :ivar client: who connected to the balancer, once done; None when it speaks for itself or does not know.
    """

    __slots__ = ("_held", "client", "done")

    def __init__(self) -> None:
        self._held = b""
        self.done = False
        self.client: Client | None = None

    def look(self, octets: bytes) -> int:
        """Look at what is there and has not been taken yet; say how many octets of it to take: those of the preface.

        :raises MalformedPreface: it is none.
        """
        held = self._held + octets
        if _SIGNATURE.startswith(held[: len(_SIGNATURE)]):
            size = self._size_of_second(held)
        elif b"PROXY ".startswith(held[:6]):
            size = _size_of_line(held)
        else:
            raise MalformedPreface("no PROXY protocol")
        if size:
            preface = held[:size]
            self.client = (_read_line if preface.startswith(b"P") else _read_second)(preface)
            self.done = True
        else:
            preface = held
        taken = len(preface) - len(self._held)
        self._held = preface
        return taken

    @staticmethod
    def _size_of_second(held: bytes) -> int:
        """How long the preface of version 2 is, 0 while it is not all here."""
        if len(held) < _HEADER.size:
            return 0
        _, command, family, length = _HEADER.unpack_from(held)
        if command not in (_LOCAL, _PROXY):
            raise MalformedPreface("unknown version or command")
        if length > MAX_LENGTH:
            raise MalformedPreface("too long")
        if command == _PROXY:
            block = _BLOCKS.get(family)
            if block is None:
                raise MalformedPreface("no family of addresses for a stream")
            if length < block:
                raise MalformedPreface("too short for its addresses")
        size = _HEADER.size + length
        return size if len(held) >= size else 0


def _size_of_line(held: bytes) -> int:
    """How long the preface of version 1 is, 0 while it is not all here."""
    end = held.find(b"\n", 0, MAX_LINE) + 1
    if not end and len(held) >= MAX_LINE:
        raise MalformedPreface("line too long")
    return end


def _read_line(line: bytes) -> Client | None:
    """Read a whole line of version 1."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise MalformedPreface("malformed line")
    family, source, destination, *ports = match.groups()
    if family is None:
        return None
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        client, _ = kind(source.decode("ascii")), kind(destination.decode("ascii"))
    except ValueError:
        raise MalformedPreface("malformed address") from None
    if any(len(port) > 5 or int(port) > 65535 or (port[:1] == b"0" and port != b"0") for port in ports):
        raise MalformedPreface("malformed port")
    return _client(client, int(ports[0]))


def _read_second(preface: bytes) -> Client | None:
    """Read a whole preface of version 2."""
    _, command, family, _ = _HEADER.unpack_from(preface)
    if command == _LOCAL:  # the balancer itself, looking whether we are well: whatever follows is to be ignored
        return None
    start = _HEADER.size
    _check_additions(preface, start + _BLOCKS[family])
    if family == _TCP4:
        source, _, port, _ = struct.unpack_from("!4s4sHH", preface, start)
        return _client(IPv4Address(source), port)
    if family == _TCP6:
        source, _, port, _ = struct.unpack_from("!16s16sHH", preface, start)
        return _client(IPv6Address(source), port)
    return None


def _client(client: IPv4Address | IPv6Address, port: int) -> Client:
    mapped = getattr(client, "ipv4_mapped", None)
    if mapped is not None:
        client = mapped
    kind = endpoints.IPv4Address if client.version == 4 else endpoints.IPv6Address
    return kind("TCP", str(client), port)


def _check_additions(preface: bytes, position: int) -> None:
    """Walk over the type-length-value additions: they must fill the preface, and a checksum must be right."""
    end = len(preface)
    while position < end:
        if position + _ADDITION.size > end:
            raise MalformedPreface("cut short")
        kind, length = _ADDITION.unpack_from(preface, position)
        position += _ADDITION.size
        if position + length > end:
            raise MalformedPreface("cut short")
        if kind == _CHECKSUM:
            if length != 4:
                raise MalformedPreface("malformed checksum")
            blank = preface[:position] + bytes(4) + preface[position + 4 :]
            if crc32c(blank) != int.from_bytes(preface[position : position + 4], "big"):
                raise MalformedPreface("wrong checksum")
        position += length


def _table() -> tuple[int, ...]:
    """For each octet its share in a CRC with Castagnoli's polynomial, reversed."""
    table = []
    for octet in range(256):
        for _ in range(8):
            octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
        table.append(octet)
    return tuple(table)


_CASTAGNOLI = _table()


def crc32c(octets: bytes) -> int:
    """CRC-32C of RFC 3720, appendix B.4."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = crc >> 8 ^ _CASTAGNOLI[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF
