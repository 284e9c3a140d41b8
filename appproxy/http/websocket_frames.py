"""The frames of a WebSocket (RFC 6455, 5.2) as they pass by: where they begin and end, and nothing of what they say.

Whoever knows that may put a frame of its own between two others, and take the answer to it out again.  Both ends
notice nothing else: every other octet passes as it is, also where this turns out to be no WebSocket at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appproxy.http.messages import Field, tokens

#: Octets of a ping's payload: more than anybody guesses, or sends by chance.
PING_OCTETS: Final = 16

_CONTROL, _CLOSE, _PING, _PONG = 0x8, 0x8, 0x9, 0xA
_OPCODES: Final = frozenset({0x0, 0x1, 0x2, _CLOSE, _PING, _PONG})
_MASK_OCTETS: Final = 4
_MAX_CONTROL: Final = 125


def is_websocket(fields: Sequence[Field]) -> bool:
    """Whether the fields of a 101 open a WebSocket whose frames begin and end as RFC 6455 says.

    Extensions may change that; those that only change messages (``permessage-...``) do not.
    """
    known: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        known.setdefault(name.lower(), []).append(value)
    extensions = tokens(known.get(b"sec-websocket-extensions", ()))
    return (
        tokens(known.get(b"upgrade", ())) == [b"websocket"]
        and b"sec-websocket-accept" in known
        and all(extension.startswith(b"permessage-") for extension in extensions)
    )


def ping(payload: bytes) -> bytes:
    """A ping as a server sends it: not masked."""
    return bytes((0x80 | _PING, len(payload))) + payload


class FrameTracker:
    """One direction of a WebSocket.

    :param masked: frames of this direction are masked: a client's are, a server's are not.
    :ivar over: nothing can be put between the frames any more: the last one has begun, or these are no frames.
    """

    __slots__ = ("_header", "_left", "_masked", "over")

    def __init__(self, masked: bool) -> None:
        self._masked = masked
        self._header = bytearray()
        self._left = 0
        self.over = False

    @property
    def at_border(self) -> bool:
        """Whether what came so far ends with the end of a frame, and another frame may follow."""
        return not self._left and not self._header and not self.over

    def follow(self, data: bytes) -> None:
        """Some more octets have passed."""
        position, size = 0, len(data)
        while position < size and not self.over:
            if self._left:
                step = min(self._left, size - position)
                self._left -= step
                position += step
            else:
                self._header.append(data[position])
                position += 1
                self._read_header()

    def _read_header(self) -> bool:
        """Look at the header once more; True when it is complete, and the frame's payload is what is left."""
        header = self._header
        if len(header) < 2:
            return False
        opcode, short = header[0] & 0x0F, header[1] & 0x7F
        if (
            opcode not in _OPCODES
            or bool(header[1] & 0x80) is not self._masked
            or (opcode & _CONTROL and (header[0] & 0xF0 != 0x80 or short > _MAX_CONTROL))
        ):
            self.over = True
            return False
        more = {126: 2, 127: 8}.get(short, 0)
        if len(header) < 2 + more + (_MASK_OCTETS if self._masked else 0):
            return False
        self._left = int.from_bytes(header[2 : 2 + more], "big") if more else short
        if opcode == _CLOSE or self._left >> 63:
            self.over = True
        self._begun(opcode)
        header.clear()
        return True

    def _begun(self, opcode: int) -> None:
        """A header is complete; it is still at hand."""


class PongFilter(FrameTracker):
    """A client's direction of a WebSocket, out of which pongs are taken that answer our pings, and no others."""

    __slots__ = ("_candidate", "_held", "_key")

    def __init__(self) -> None:
        super().__init__(masked=True)
        #: Octets that are not passed on before it is known what they are.
        self._held = bytearray()
        self._candidate = False
        self._key = b""

    def sift(self, data: bytes, awaited: list[bytes]) -> bytes:
        """Some more octets have come; returns what is to be passed on.

        :param awaited: payloads of the pings that are not answered yet; an answered one is removed.
        """
        if not awaited and not self._held:
            self.follow(data)
            self._candidate = False  # it began before there was a ping to answer
            return data
        passed = bytearray()
        position, size = 0, len(data)
        while position < size and not self.over:
            if self._candidate:
                step = min(self._left, size - position)
                self._held += data[position : position + step]
                self._left -= step
                position += step
                if not self._left:
                    passed += self._judge(awaited)
            elif self._left:
                step = min(self._left, size - position)
                passed += data[position : position + step]
                self._left -= step
                position += step
            elif self._header and not self._held:  # so did this one
                passed.append(data[position])
                self._header.append(data[position])
                position += 1
                self._read_header()
                self._candidate = False
            else:
                self._header.append(data[position])
                self._held.append(data[position])
                position += 1
                if (self._read_header() or self.over) and not self._candidate:
                    passed += self.rest()
        return bytes(passed) + (self.rest() if self.over else b"") + data[position:]

    def _begun(self, opcode: int) -> None:
        self._candidate = opcode == _PONG and self._left == PING_OCTETS
        self._key = bytes(self._header[-_MASK_OCTETS:])

    def _judge(self, awaited: list[bytes]) -> bytes:
        """The whole of a pong is held: ours, or to be passed on."""
        self._candidate = False
        held = self.rest()
        masked = held[-PING_OCTETS:]
        payload = bytes(octet ^ self._key[index % _MASK_OCTETS] for index, octet in enumerate(masked))
        if payload not in awaited:
            return held
        awaited.remove(payload)
        return b""

    def rest(self) -> bytes:
        """What is held back; nothing follows that could say what it is."""
        held = bytes(self._held)
        self._held.clear()
        return held
