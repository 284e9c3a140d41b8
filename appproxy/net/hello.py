"""The first message of a TLS client, as far as a server has to know it before it begins: the name it asks for.

Sans-I/O.  What is no ClientHello has no name; the handshake finds out what is wrong with it.

Specification: RFC 8446, 4.1.2 and 5.1; RFC 6066, 3.
"""

from __future__ import annotations

#: A longer ClientHello is nobody's; TLS would take 16 MiB.
MAX_HELLO = 64 * 1024
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0


class _Cursor:
    """Reads on; :raises IndexError: there is no more."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.octets):
            raise IndexError
        self.at += count
        return self.octets[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def name_asked_for(octets: bytes) -> str | None:
    """The server name in a ClientHello, in lower case; empty when there is none, None while it is not all here."""
    try:
        message = _message(octets)
        if message is None:
            return None if len(octets) < MAX_HELLO else ""
        return _name(message)
    except (IndexError, UnicodeDecodeError):
        return ""


def _message(octets: bytes) -> bytes | None:
    """The body of the first handshake message, which may come in several records; None while it is not all here.

    :raises IndexError: it is no ClientHello.
    """
    records, held = _Cursor(octets), b""
    while len(held) < 4 or len(held) < 4 + int.from_bytes(held[1:4], "big"):
        if records.at < len(octets) and octets[records.at] != _HANDSHAKE:
            raise IndexError
        if held and held[0] != _CLIENT_HELLO:
            raise IndexError
        try:
            records.take(3)
            held += records.vector(2)
        except IndexError:
            return None
    if held[0] != _CLIENT_HELLO:
        raise IndexError
    return held[4 : 4 + int.from_bytes(held[1:4], "big")]


def _name(message: bytes) -> str:
    """:raises IndexError: the message is cut short."""
    hello = _Cursor(message)
    hello.take(2 + 32)  # version, random
    hello.vector(1)  # session
    hello.vector(2)  # ciphers
    hello.vector(1)  # compression
    if hello.at == len(message):
        return ""
    extensions = _Cursor(hello.vector(2))
    while extensions.at < len(extensions.octets):
        kind, body = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            names = _Cursor(_Cursor(body).vector(2))
            if names.number(1) == _HOST_NAME:
                return names.vector(2).decode("ascii").lower().removesuffix(".")
    return ""
