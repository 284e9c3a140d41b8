"""A client of Remote Desktop Gateway, packet by packet: signs in with NTLM on each connection, in every form."""

from __future__ import annotations

import base64
import os
import re
import ssl
import struct
import uuid
from collections.abc import Iterator
from typing import Self

from tests.live import tsgu
from tests.live.clients import Raw
from tests.live.rdgateway import SEED, frame
from tests.live.tsgu import Packet, PacketReader

PATH = "/remoteDesktopGateway/"


class Line:
    """One connection to the gateway, through whatever is in between.

    :ivar head: of the last answer.
    """

    def __init__(self, port: int, tls: ssl.SSLContext, host: str, path: str = PATH) -> None:
        self.raw = Raw(port, tls, host)
        self.host = f"{host}:{port}"
        self.path = path
        self.head = ""

    def request(self, method: str, *fields: str) -> None:
        """Send a head."""
        self.raw.send("\r\n".join([f"{method} {self.path} HTTP/1.1", f"Host: {self.host}", *fields, "", ""]).encode())

    def answer(self) -> int:
        """Wait for a head; returns its status."""
        self.head = self.raw.until(b"\r\n\r\n").decode()
        return int(self.head.split(" ", 2)[1])

    def challenged(self, method: str, *fields: str) -> None:
        """The first leg: our first message, the gateway's challenge."""
        self.request(method, *fields, "Content-Length: 0", f"Authorization: NTLM {tsgu.negotiate().decode()}")
        assert self.answer() == 401, self.head
        found = re.search(r"WWW-Authenticate: NTLM (\S+)", self.head)
        assert found, self.head
        assert base64.b64decode(found[1]).startswith(b"NTLMSSP\0\x02")

    def signed_in(self, method: str, user: str, *fields: str) -> None:
        """The second leg: our last message, on a request that matters."""
        self.request(method, *fields, f"Authorization: NTLM {tsgu.authenticate(user).decode()}")

    def exactly(self, count: int) -> bytes:
        """So many octets."""
        while len(self.raw.received) < count:
            piece = self.raw.socket.recv(65536)
            assert piece, "closed in the middle"
            self.raw.received += piece
        taken, self.raw.received = self.raw.received[:count], self.raw.received[count:]
        return taken

    def chunks(self) -> Iterator[bytes]:
        """The chunks of an answer's body."""
        while size := int(self.raw.until(b"\r\n"), 16):
            yield self.exactly(size)
            assert self.exactly(2) == b"\r\n"


class Tunnel:
    """What all forms have in common: packets out and in."""

    def __init__(self) -> None:
        self.identifier = "{" + str(uuid.uuid4()).upper() + "}"
        self._reader = PacketReader()
        self._read: list[tuple[Packet, bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections."""
        raise NotImplementedError

    def send(self, packet: bytes) -> None:
        """Send one packet."""
        raise NotImplementedError

    def hear(self) -> bytes:
        """Some octets of packets."""
        raise NotImplementedError

    def expect(self, kind: Packet) -> bytes:
        """The next packet, which is of that kind; returns what it holds."""
        while not self._read:
            self._read = self._reader.read(self.hear())
        came, payload = self._read.pop(0)
        assert came is kind, (came, payload)
        return payload

    def open(self, target: str) -> None:
        """Everything up to a channel to *target*."""
        for packet, answer in (
            (tsgu.handshake_request(), Packet.HANDSHAKE_RESPONSE),
            (tsgu.tunnel_create(), Packet.TUNNEL_RESPONSE),
            (tsgu.tunnel_auth("test"), Packet.TUNNEL_AUTH_RESPONSE),
            (tsgu.channel_create(target), Packet.CHANNEL_RESPONSE),
        ):
            self.send(packet)
            self.expect(answer)

    def echo(self, octets: bytes) -> None:
        """Send some, get the same."""
        self.send(tsgu.data(octets))
        payload = self.expect(Packet.DATA)
        assert struct.unpack_from("<H", payload) == (len(octets),)
        assert payload[2:] == octets

    def keep_alive(self) -> None:
        """Ask, and be answered."""
        self.send(tsgu.packet(Packet.KEEPALIVE))
        self.expect(Packet.KEEPALIVE)

    def end(self) -> None:
        """Close the channel in good order."""
        self.send(tsgu.packet(Packet.CLOSE_CHANNEL, struct.pack("<I", 0)))
        self.expect(Packet.CLOSE_CHANNEL_RESPONSE)


class WebSocketTunnel(Tunnel):
    """Over the WebSocket that RDG_OUT_DATA opens."""

    def __init__(self, line: Line, user: str) -> None:
        super().__init__()
        self.line = line
        key = base64.b64encode(os.urandom(16)).decode()
        offer = (
            f"RDG-Connection-Id: {self.identifier}", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
        )  # fmt: skip
        line.challenged("RDG_OUT_DATA", *offer)
        line.signed_in("RDG_OUT_DATA", user, *offer)
        assert line.answer() == 101, line.head

    def close(self) -> None:
        self.line.raw.socket.close()

    def send(self, packet: bytes) -> None:
        self.line.raw.send(frame(0x2, packet, os.urandom(4)))

    def hear(self) -> bytes:
        first, size = self.line.exactly(2)
        assert first == 0x82, hex(first)
        if size == 126:
            (size,) = struct.unpack("!H", self.line.exactly(2))
        return self.line.exactly(size)


class HttpTunnel(Tunnel):
    """Over two halves.

    :ivar legs: signs in, on one half after the other, when it is walked through.
    """

    def __init__(self, out: Line, inwards: Line, user: str) -> None:
        super().__init__()
        self.out, self.inwards, self.user = out, inwards, user
        self._identity = f"RDG-Connection-Id: {self.identifier}"
        self._chunks = out.chunks()
        self.legs = self._legs()

    def _legs(self) -> Iterator[None]:
        """One step of signing in after the other, so that several clients' can be interleaved."""
        for line, method in ((self.out, "RDG_OUT_DATA"), (self.inwards, "RDG_IN_DATA")):
            line.challenged(method, self._identity)
            yield
            line.signed_in(method, self.user, self._identity, "Content-Length: 0")
            assert line.answer() == 200, line.head
            if method == "RDG_IN_DATA":  # whoever signed in on this connection is still known
                line.request(method, self._identity, "Transfer-Encoding: chunked")
                assert line.answer() == 200, line.head
            else:
                seed = b""
                while len(seed) < len(SEED):
                    seed += next(self._chunks)
                assert seed == SEED
            yield

    def close(self) -> None:
        for line in (self.out, self.inwards):
            line.raw.socket.close()

    def send(self, packet: bytes) -> None:
        self.inwards.raw.send(b"%x\r\n%b\r\n" % (len(packet), packet))

    def hear(self) -> bytes:
        return next(self._chunks)
