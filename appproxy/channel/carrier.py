"""The WebSocket under a channel: Autobahn, with a short way for whole binary messages.

Autobahn does the handshake, the closing, fragments, control frames and every check of RFC 6455.  Nearly all that a
channel carries, though, is unfragmented binary messages, and those are read and written here directly: 2 µs instead of
15 or more for each.  Anything else falls through to Autobahn.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from autobahn.util import encode_truncate
from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.xormasker import create_xor_masker  # type: ignore[attr-defined]

from appproxy.wire.frames import MAX_MESSAGE

#: Where a channel is asked for, and the subprotocol both ends must name.
PATH = "/.appproxy/channel"
SUBPROTOCOL = "appproxy.channel.v1"
#: No message is larger than the largest frame.
MAX_MESSAGE_BYTES = MAX_MESSAGE
#: What a close frame has room for beside its code.
MAX_REASON_BYTES = 123
#: Frames between two messages that carry none (pings, pongs, fragments): a peer of ours sends hardly any, and each
#: costs memory or an answer.
MAX_STRAY_FRAMES = 4096
#: Pieces of one message that are kept as they came: below this many octets each, keeping them apart costs more.
_MAX_PIECES = 1024

#: FIN and the binary opcode, no reserved bit: the only first octet of the short way.
_WHOLE_BINARY = 0x82
_MASKED = 0x80
_ZERO_KEY = b"\0\0\0\0"
_LENGTH_16, _LENGTH_64 = struct.Struct("!H"), struct.Struct("!Q")
_HEAD_16, _HEAD_64 = struct.Struct("!BBH"), struct.Struct("!BBQ")

_OPEN = WebSocketProtocol.STATE_OPEN


class CloseCode:
    """The WebSocket close codes of the channel protocol."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL = 1002
    UNSUPPORTED = 1003
    POLICY = 1008
    RESTART = 1012
    TRY_LATER = 1013


class Cargo(Protocol):
    """What rides on a carrier."""

    def carrier_opened(self, carrier: Carrier) -> None:
        """The handshake is done; messages may be sent."""

    def message_received(self, payload: bytes) -> None:
        """One binary message."""

    def carrier_closed(self, code: int, reason: str) -> None:
        """The WebSocket is gone; *code* is 1006 when nobody said good-bye."""


class Carrier:
    """What both ends have in common; mixed in before Autobahn's protocol class."""

    cargo: Cargo
    transport: Any
    data: bytes
    state: int
    current_frame: Any = None
    inside_message = False
    is_server: bool
    websocket_protocol_in_use: str | None
    failedByMe: bool
    localCloseCode: int | None
    localCloseReason: bytes | None
    _partial: list[bytes] | None = None
    _missing = 0
    _strays = 0

    def send_message(self, payload: bytes) -> None:
        """Write one whole binary message; dropped when the WebSocket is no longer open."""
        if self.state != _OPEN:
            return
        length = len(payload)
        mask, key = (0, b"") if self.is_server else (_MASKED, _ZERO_KEY)
        if length < 126:
            head = bytes((_WHOLE_BINARY, mask | length))
        elif length < 65536:
            head = _HEAD_16.pack(_WHOLE_BINARY, mask | 126, length)
        else:
            head = _HEAD_64.pack(_WHOLE_BINARY, mask | 127, length)
        self.transport.write(b"".join((head, key, payload)))

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake with a code and a reason a person can read."""
        if self.state in (WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSING):
            # Autobahn's sendClose() is for applications and refuses the codes of protocols.
            self.sendCloseFrame(code, encode_truncate(reason, MAX_REASON_BYTES))  # type: ignore[attr-defined]
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abortConnection()

    def _closeConnection(self, abort: bool = False) -> None:
        """Autobahn: close the socket, which would otherwise wait for the channel to unregister itself."""
        self.transport.unregisterProducer()
        super()._closeConnection(abort)  # type: ignore[misc]

    # Bytes

    def dataReceived(self, data: bytes) -> None:
        """Take whole binary messages off *data*; what is anything else goes Autobahn's way."""
        if self._partial is not None:
            data = self._completed(data)
            if not data:
                return
        start, size = 0, len(data)
        masked = _MASKED if self.is_server else 0
        while size - start >= 2 and self._may_be_short():
            if data[start] != _WHOLE_BINARY:
                break
            second = data[start + 1]
            if second & _MASKED != masked:
                break
            length = second ^ masked
            body = start + 2
            if length == 126:
                if size - body < 2:
                    break
                (length,) = _LENGTH_16.unpack_from(data, body)
                body += 2
            elif length == 127:
                if size - body < 8:
                    break
                (length,) = _LENGTH_64.unpack_from(data, body)
                body += 8
            if length > MAX_MESSAGE_BYTES:
                break  # Autobahn refuses it with its own code
            key_at = body
            if masked:
                body += 4
                if body > size:
                    break
            if body + length > size:
                self._partial = [data[start:] if start else data]
                self._missing = body + length - size
                return
            payload = data[body : body + length]
            if masked and (key := data[key_at:body]) != _ZERO_KEY:
                payload = create_xor_masker(key, length).process(payload)
            start = body + length
            if length:
                self._strays = 0
            self.cargo.message_received(payload)
        if start < size:
            self._dataReceived(data[start:] if start else data)  # type: ignore[attr-defined]
            if self.failedByMe:  # the peer has been told; whether it agrees is of no interest
                self.transport.unregisterProducer()
                self.transport.loseConnection()

    def _may_be_short(self) -> bool:
        """Whether the next octet begins a frame that Autobahn need not know of."""
        return self.state == _OPEN and not self.data and self.current_frame is None and not self.inside_message

    def _completed(self, data: bytes) -> bytes:
        """Add to the message that is still incomplete; return all of it once it is whole, else nothing."""
        assert self._partial is not None
        self._partial.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            if len(self._partial) >= _MAX_PIECES:
                self._partial = [b"".join(self._partial)]
            return b""
        whole = b"".join(self._partial)
        self._partial = None
        return whole

    # What Autobahn calls

    def onOpen(self) -> None:
        """Autobahn: the handshake is done."""
        if self.websocket_protocol_in_use != SUBPROTOCOL:
            self._refuse(CloseCode.PROTOCOL, f"the subprotocol {SUBPROTOCOL} is spoken here")
            return
        self.cargo.carrier_opened(self)

    def onFrameBegin(self) -> None:
        """Autobahn: a frame that did not go the short way."""
        self._strays += 1
        if self._strays >= MAX_STRAY_FRAMES:
            self._refuse(CloseCode.POLICY, f"{MAX_STRAY_FRAMES} frames without a message")
        super().onFrameBegin()  # type: ignore[misc]

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Autobahn: a message that came in fragments, or is text (which closes with 1003)."""
        if isBinary:
            if payload:
                self._strays = 0
            self.cargo.message_received(payload)
        else:
            self._refuse(CloseCode.UNSUPPORTED, "the channel carries binary messages only")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Autobahn: the connection is gone."""
        if self.failedByMe and self.localCloseCode is not None:
            code, reason = self.localCloseCode, (self.localCloseReason or b"").decode("utf-8")
        if getattr(self, "cargo", None) is not None:
            self.cargo.carrier_closed(code or 1006, reason or "")

    def _refuse(self, code: int, reason: str) -> None:
        """What Autobahn does about a violation: say why, and hear no more messages."""
        self.close(code, reason)
        self.failedByMe = True


class ServerCarrier(Carrier, WebSocketServerProtocol):  # type: ignore[misc]
    """The relay's end."""

    is_server = True


class ClientCarrier(Carrier, WebSocketClientProtocol):  # type: ignore[misc]
    """The connector's end."""

    is_server = False


#: Options of both ends: no compression, no timers of Autobahn's own (the channel has its own), limits, polite failure.
COMMON_OPTIONS: dict[str, Any] = {
    "maxMessagePayloadSize": MAX_MESSAGE_BYTES,
    "maxFramePayloadSize": MAX_MESSAGE_BYTES,
    "openHandshakeTimeout": 0,
    "closeHandshakeTimeout": 0,
    "failByDrop": False,
    "autoPingInterval": 0,
    "echoCloseCodeReason": True,
}
