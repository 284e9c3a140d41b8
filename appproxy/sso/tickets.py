"""How a ticket is encrypted: the one thing in it that can be read without the service's key (RFC 4120, 5.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_TICKET, _SEQUENCE, _INTEGER, _FIRST, _FOURTH = 0x61, 0x30, 0x02, 0xA0, 0xA3
#: Of bytes in a length: more is no ticket.
_MAX_LENGTH_BYTES: Final = 4


def ticket_enctype(ticket: bytes) -> int:
    """The encryption type of a ticket (DER); :raises ValueError: it is none."""
    body = _only(_only(ticket, _TICKET), _SEQUENCE)
    encrypted = _only(_field(body, _FOURTH), _SEQUENCE)
    return int.from_bytes(_only(_field(encrypted, _FIRST), _INTEGER), "big", signed=True)


def _field(body: bytes, tag: int) -> bytes:
    for found, contents in _elements(body):
        if found == tag:
            return contents
    raise ValueError(f"no element {tag:#x} in a ticket")


def _only(octets: bytes, tag: int) -> bytes:
    for found, contents in _elements(octets):
        if found == tag:
            return contents
        break
    raise ValueError(f"no element {tag:#x} at the beginning")


def _elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and contents of each DER element in a row."""
    position = 0
    while position < len(octets):
        if position + 2 > len(octets):
            raise ValueError("cut short")
        tag, length = octets[position], octets[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            if not 0 < count <= _MAX_LENGTH_BYTES or position + count > len(octets):
                raise ValueError("a length that is none")
            length = int.from_bytes(octets[position : position + count], "big")
            position += count
        if position + length > len(octets):
            raise ValueError("cut short")
        yield tag, octets[position : position + length]
        position += length
