"""A Remote Desktop Gateway to test with: ``python -m tests.live.rdgateway PORT``.

It speaks the order of messages of MS-TSGU over a WebSocket that RDG_OUT_DATA opens, over the two halves RDG_OUT_DATA
and RDG_IN_DATA, and RPC over HTTP's over RPC_OUT_DATA and RPC_IN_DATA.  Whoever comes must sign in on each connection:
with NTLM, whose last message counts only on the connection that its challenge was for, or with Basic; passwords are
not looked at.  Behind it is an echo; to an RDP client's first packet it says that network level authentication is
needed, which ends the matter politely.  ``/control/tunnels`` says as JSON what came.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from tests.live import tsgu
from tests.live.tsgu import Packet, PacketReader, PduReader

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: What every answer to an OUT half begins with (MS-TSGU 3.3.5.1; ten octets by practice).
SEED = b"\xab\xcd" * 5
#: X.224 connection confirm of RDP: failure, HYBRID_REQUIRED_BY_SERVER.
_NEEDS_NLA = bytes.fromhex("030000130ed000001234000300080005000000")


class Tunnel:
    """One tunnel, with what is known of it.

    :ivar connections: the number of the connection that carries each half, and who signed in there.
    """

    def __init__(self, form: str, identifier: str) -> None:
        self.form = form
        self.identifier = identifier
        self.connections: dict[str, tuple[int, str]] = {}
        self.packets: list[str] = []
        self.target = ""
        self.received = 0
        self.open = True
        self.say: Callable[[bytes], None] | None = None  # to the client
        self._reader = PacketReader()

    def hear(self, octets: bytes) -> None:
        """The client says something."""
        assert self.say is not None
        for kind, payload in self._reader.read(octets):
            self.packets.append(kind.name)
            if kind is Packet.CHANNEL_CREATE:
                self.target = "{}:{}".format(*tsgu.channel_of(payload))
            if kind is Packet.DATA:
                self.received += len(payload) - 2
                inner = payload[2:]
                is_rdp = inner.startswith(b"\x03\0") and inner[5:6] == b"\xe0"
                self.say(tsgu.data(_NEEDS_NLA if is_rdp else inner))
            else:
                self.say(tsgu.RESPONSES[kind])

    def told(self) -> dict[str, Any]:
        """All that the tests want to know."""
        return {
            "form": self.form, "id": self.identifier, "connections": self.connections, "packets": self.packets,
            "target": self.target, "received": self.received, "open": self.open,
        }  # fmt: skip


class Connection:
    """One connection of a client: HTTP until a tunnel takes it."""

    def __init__(self, gateway: Gateway, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.gateway = gateway
        self.number = number
        self.reader = reader
        self.writer = writer
        self.user = ""
        self._nonce = b""

    async def serve(self) -> None:
        """Requests until one becomes a tunnel, or the end."""
        while True:
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            method, target, _ = lines[0].split(" ")
            known = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            if target.startswith("/control/"):
                body = json.dumps([tunnel.told() for tunnel in self.gateway.tunnels]).encode()
                self.answer("200 OK", f"Content-Length: {len(body)}", body=body)
                continue
            if not self.signs_in(known.get("authorization", "")):
                if known.get("content-length", "0") == "0":
                    continue
                return  # the rest of the body is of no interest: nor is this connection
            if method == "RDG_IN_DATA" and known.get("content-length") == "0":
                self.answer("200 OK", "Content-Length: 0")  # only to sign in; the half itself is the next request
                continue
            await self.tunnel(method, known)
            return

    def answer(self, status: str, *fields: str, body: bytes = b"") -> None:
        self.writer.write("\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode() + body)

    def signs_in(self, authorization: str) -> bool:
        """Whether somebody is signed in on this connection now; if not, the way to it is answered."""
        if self.user and not authorization:
            return True
        scheme, _, credentials = authorization.partition(" ")
        offers = []
        if scheme == "Basic":
            self.user = base64.b64decode(credentials).decode().partition(":")[0]
            return True
        if scheme == "NTLM":
            number, user = tsgu.ntlm_message(credentials)
            if number == 3 and self._nonce:
                self._nonce = b""
                self.user = user
                return True
            if number == 1:
                self._nonce = os.urandom(8)
                offers = [f"WWW-Authenticate: NTLM {tsgu.challenge(self._nonce).decode()}"]
        self.user = ""
        offers = offers or ["WWW-Authenticate: NTLM", 'WWW-Authenticate: Basic realm="gateway"']
        self.answer("401 Unauthorized", *offers, "Content-Length: 0")
        return False

    async def tunnel(self, method: str, known: dict[str, str]) -> None:
        """Carry a tunnel, or a half of one, to its end."""
        identifier = known.get("rdg-connection-id", "")
        if method == "RDG_OUT_DATA" and "upgrade" in known:
            await self._websocket(self.gateway.tunnel("websocket", identifier), known["sec-websocket-key"])
        elif method == "RDG_OUT_DATA":
            await self._out(self.gateway.tunnel("http", identifier))
        elif method == "RDG_IN_DATA":
            await self._in(self.gateway.tunnel("http", identifier), known)
        elif method in ("RPC_OUT_DATA", "RPC_IN_DATA"):
            await self._rpc(method, int(known["content-length"]))
        else:
            self.answer("404 Not Found", "Content-Length: 0")

    async def _websocket(self, tunnel: Tunnel, key: str) -> None:
        tunnel.connections["both"] = self.number, self.user
        accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept}"]
        self.answer("101 Switching Protocols", *upgrade, "Set-Cookie: gateway=1; Path=/")
        tunnel.say = lambda octets: self.writer.write(frame(0x2, octets))
        try:
            async for opcode, payload in frames(self.reader):
                if opcode == 0x9:
                    self.writer.write(frame(0xA, payload))
                elif opcode == 0x8:
                    self.writer.write(frame(0x8, payload))
                    return
                elif opcode != 0xA:
                    tunnel.hear(payload)
        finally:
            tunnel.open = False

    async def _out(self, tunnel: Tunnel) -> None:
        tunnel.connections["out"] = self.number, self.user
        self.answer("200 OK", "Content-Type: application/octet-stream", body=SEED)  # no length, no end
        tunnel.say = self.writer.write
        try:
            await self.reader.read(1)
        finally:
            tunnel.open = False

    async def _in(self, tunnel: Tunnel, known: dict[str, str]) -> None:
        tunnel.connections["in"] = self.number, self.user
        assert known.get("transfer-encoding") == "chunked", known
        self.answer("200 OK", "Content-Length: 0")  # the whole answer, before the first octet of the body
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            tunnel.hear(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")

    async def _rpc(self, method: str, length: int) -> None:
        pdus = pdus_of(self.reader, length)
        first = await anext(pdus)
        tunnel = self.gateway.tunnel("rpc", first[32:48].hex())  # after header, flags and count, version, and type
        half = "out" if method == "RPC_OUT_DATA" else "in"
        tunnel.connections[half] = self.number, self.user
        if half == "out":
            endless = "Content-Length: 1073741824"
            self.answer("200 Success", "Content-Type: application/rpc", endless, body=tsgu.conn_a3())
            tunnel.say = self.writer.write
            if "in" in tunnel.connections:
                tunnel.say(tsgu.conn_c2())
            with suppress(ConnectionError):
                await self.reader.read(1)
            tunnel.open = False
            return
        if tunnel.say is not None:
            tunnel.say(tsgu.conn_c2())
        async for each in pdus:
            kind = each[2]
            tunnel.packets.append({tsgu.RTS: "RTS", tsgu.REQUEST: "REQUEST", tsgu.BIND: "BIND"}[kind])
            tunnel.received += len(each)
            if kind == tsgu.REQUEST and tunnel.say is not None:
                tunnel.say(each)
            elif kind == tsgu.BIND:
                return  # no RPC server lives here


class Gateway:
    """All tunnels."""

    def __init__(self) -> None:
        self.tunnels: list[Tunnel] = []
        self._count = 0

    def tunnel(self, form: str, identifier: str) -> Tunnel:
        """The one of that name, perhaps a new one."""
        for tunnel in self.tunnels:
            if (tunnel.form, tunnel.identifier) == (form, identifier) and tunnel.open and form != "websocket":
                return tunnel
        self.tunnels.append(Tunnel(form, identifier))
        return self.tunnels[-1]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._count += 1
        try:
            await Connection(self, self._count, reader, writer).serve()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def pdus_of(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    """The PDUs of a body."""
    pdus = PduReader()
    while length and (piece := await reader.read(min(length, 65536))):
        length -= len(piece)
        for each in pdus.read(piece):
            yield each


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """One frame of a WebSocket; masked, if there is a *mask* of 4 octets; 64 KiB at most."""
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, bit | size)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, bit | 126, size)
    return head + mask + (bytes(octet ^ mask[i % 4] for i, octet in enumerate(payload)) if mask else payload)


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """The frames that come, unmasked."""
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        mask = await reader.readexactly(4) if second & 0x80 else b""
        payload = await reader.readexactly(size)
        yield first & 0x0F, bytes(octet ^ mask[i % 4] for i, octet in enumerate(payload)) if mask else payload


async def main() -> None:
    """Serve on loopback until killed."""
    server = await asyncio.start_server(Gateway().connected, "127.0.0.1", int(sys.argv[1]), limit=1 << 18)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
