"""What Remote Desktop Gateway and its clients say to each other: MS-TSGU's packets, RPC over HTTP's, NTLM's messages.

Just enough to build and to read them in their real order and form; no checks of who anybody is.
"""

from __future__ import annotations

import base64
import struct
from enum import IntEnum

HEADER = struct.Struct("<HHI")


class Packet(IntEnum):
    """Types of packets (MS-TSGU 2.2.10)."""

    HANDSHAKE_REQUEST = 0x1
    HANDSHAKE_RESPONSE = 0x2
    TUNNEL_CREATE = 0x4
    TUNNEL_RESPONSE = 0x5
    TUNNEL_AUTH = 0x6
    TUNNEL_AUTH_RESPONSE = 0x7
    CHANNEL_CREATE = 0x8
    CHANNEL_RESPONSE = 0x9
    DATA = 0xA
    KEEPALIVE = 0xD
    CLOSE_CHANNEL = 0x10
    CLOSE_CHANNEL_RESPONSE = 0x11


def packet(kind: Packet, payload: bytes = b"") -> bytes:
    """One packet: type, reserved, length of all of it."""
    return HEADER.pack(kind, 0, HEADER.size + len(payload)) + payload


class PacketReader:
    """Packets out of octets, however they are cut."""

    def __init__(self) -> None:
        self._held = b""

    def read(self, data: bytes) -> list[tuple[Packet, bytes]]:
        """The packets that are complete now."""
        self._held += data
        packets: list[tuple[Packet, bytes]] = []
        while len(self._held) >= HEADER.size:
            kind, _, length = HEADER.unpack_from(self._held)
            assert length >= HEADER.size, self._held[:16]
            if len(self._held) < length:
                break
            packets.append((Packet(kind), self._held[HEADER.size : length]))
            self._held = self._held[length:]
        return packets


def text(value: str) -> bytes:
    """A counted string: octets, then UTF-16."""
    octets = value.encode("utf-16-le") + b"\0\0"
    return struct.pack("<H", len(octets)) + octets


def handshake_request() -> bytes:
    """Client: version 1.0, no extended authentication."""
    return packet(Packet.HANDSHAKE_REQUEST, struct.pack("<BBHH", 1, 0, 0, 0))


def tunnel_create() -> bytes:
    """Client: what it can, and nothing besides."""
    return packet(Packet.TUNNEL_CREATE, struct.pack("<IHH", 0x1F, 0, 0))


def tunnel_auth(name: str) -> bytes:
    """Client: its name."""
    return packet(Packet.TUNNEL_AUTH, struct.pack("<H", 0) + text(name))


def channel_create(host: str, port: int = 3389) -> bytes:
    """Client: where to, by one name."""
    return packet(Packet.CHANNEL_CREATE, struct.pack("<BBHH", 1, 0, port, 3) + text(host))


def data(octets: bytes) -> bytes:
    """Either: octets of the channel."""
    return packet(Packet.DATA, struct.pack("<H", len(octets)) + octets)


def channel_of(payload: bytes) -> tuple[str, int]:
    """Host and port that a CHANNEL_CREATE names."""
    _, _, port, _ = struct.unpack_from("<BBHH", payload)
    (length,) = struct.unpack_from("<H", payload, 6)
    return payload[8 : 8 + length].decode("utf-16-le").rstrip("\0"), port


#: What the gateway answers to each of the packets that want an answer.
RESPONSES: dict[Packet, bytes] = {
    Packet.HANDSHAKE_REQUEST: packet(Packet.HANDSHAKE_RESPONSE, struct.pack("<IBBHH", 0, 1, 0, 0, 0)),
    # Version, status, tunnel id and capabilities follow, the id, the capabilities.
    Packet.TUNNEL_CREATE: packet(Packet.TUNNEL_RESPONSE, struct.pack("<HIHHII", 0, 0, 0x3, 0, 1, 0x1F)),
    # Redirection of all devices allowed, no idle timeout.
    Packet.TUNNEL_AUTH: packet(Packet.TUNNEL_AUTH_RESPONSE, struct.pack("<IHHII", 0, 0x3, 0, 0, 0)),
    Packet.CHANNEL_CREATE: packet(Packet.CHANNEL_RESPONSE, struct.pack("<IHHI", 0, 0x1, 0, 1)),
    Packet.KEEPALIVE: packet(Packet.KEEPALIVE),
    Packet.CLOSE_CHANNEL: packet(Packet.CLOSE_CHANNEL_RESPONSE, struct.pack("<I", 0)),
}


# RPC over HTTP, version 2 (MS-RPCH 2.2.3): RTS packets join the two halves, then PDUs of DCE RPC follow.

RPC_HEADER = struct.Struct("<BBBB4sHHI")
RTS, REQUEST, BIND = 0x14, 0x00, 0x0B
_VERSION = struct.pack("<II", 6, 1)
PING = 0x1


def pdu(kind: int, body: bytes) -> bytes:
    """One PDU, first and last fragment."""
    return RPC_HEADER.pack(5, 0, kind, 3, b"\x10\0\0\0", RPC_HEADER.size + len(body), 0, 0) + body


def rts(flags: int, *commands: bytes) -> bytes:
    """One RTS packet."""
    return pdu(RTS, struct.pack("<HH", flags, len(commands)) + b"".join(commands))


def cookie(value: bytes) -> bytes:
    """A command with a cookie of 16 octets."""
    return struct.pack("<I", 3) + value


def conn_a1(connection: bytes, channel: bytes) -> bytes:
    """Client, first on the OUT half; it is all of that request's body: 76 octets."""
    return rts(0, _VERSION, cookie(connection), cookie(channel), struct.pack("<II", 0, 65536))


def conn_b1(connection: bytes, channel: bytes) -> bytes:
    """Client, first on the IN half: 104 octets."""
    lifetime, keepalive = struct.pack("<II", 4, 0x40000000), struct.pack("<II", 5, 300_000)
    group = struct.pack("<I", 0xC) + bytes(16)
    return rts(0, _VERSION, cookie(connection), cookie(channel), lifetime, keepalive, group)


def conn_a3() -> bytes:
    """Gateway, first on the OUT half."""
    return rts(0, struct.pack("<II", 2, 120_000))


def conn_c2() -> bytes:
    """Gateway, once both halves are there."""
    return rts(0, _VERSION, struct.pack("<II", 0, 65536), struct.pack("<II", 2, 120_000))


class PduReader:
    """PDUs out of octets, however they are cut."""

    def __init__(self) -> None:
        self._held = b""

    def read(self, octets: bytes) -> list[bytes]:
        """The PDUs that are complete now."""
        self._held += octets
        pdus: list[bytes] = []
        while len(self._held) >= RPC_HEADER.size:
            length = RPC_HEADER.unpack_from(self._held)[5]
            if len(self._held) < length:
                break
            pdus.append(self._held[:length])
            self._held = self._held[length:]
        return pdus


# NTLM (MS-NLMP 2.2.1)

_SIGNATURE = b"NTLMSSP\0"
_FLAGS = 0xE2898215


def negotiate() -> bytes:
    """The client's first message, as it stands in ``Authorization``."""
    return base64.b64encode(
        _SIGNATURE + struct.pack("<II8s8s8s", 1, _FLAGS, bytes(8), bytes(8), b"\x0a\0\xbaG\0\0\0\x0f")
    )


def challenge(nonce: bytes) -> bytes:
    """The server's message."""
    target = "GATEWAY".encode("utf-16-le")
    pairs = b"".join(struct.pack("<HH", kind, len(target)) + target for kind in (2, 1, 4, 3))
    pairs += struct.pack("<HHQ", 7, 8, 133_000_000_000_000_000) + struct.pack("<HH", 0, 0)
    start = 56
    fields = struct.pack("<HHI", len(target), len(target), start)
    info = struct.pack("<HHI", len(pairs), len(pairs), start + len(target))
    head = _SIGNATURE + struct.pack("<I", 2) + fields + struct.pack("<I", _FLAGS) + nonce + bytes(8) + info
    return base64.b64encode(head + b"\x0a\0\xbaG\0\0\0\x0f" + target + pairs)


def authenticate(user: str) -> bytes:
    """The client's last message; what proves who it is is left out."""
    name = user.encode("utf-16-le")
    start = 72
    empty = struct.pack("<HHI", 0, 0, start)
    named = struct.pack("<HHI", len(name), len(name), start)
    head = _SIGNATURE + struct.pack("<I", 3) + empty * 2 + empty + named + empty + empty + struct.pack("<I", _FLAGS)
    return base64.b64encode(head + bytes(8) + name)


def ntlm_message(credentials: str) -> tuple[int, str]:
    """Number and, of the last one, the user of a message that a client sent."""
    octets = base64.b64decode(credentials)
    assert octets.startswith(_SIGNATURE), octets[:16]
    (number,) = struct.unpack_from("<I", octets, 8)
    if number != 3:
        return number, ""
    length, _, start = struct.unpack_from("<HHI", octets, 36)
    return number, octets[start : start + length].decode("utf-16-le")
