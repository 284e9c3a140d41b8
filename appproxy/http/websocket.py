"""WebSocket over HTTP/2 (RFC 8441) for an origin that speaks HTTP/1.1: the handshake that the client did not make.

Over HTTP/2 a WebSocket is opened by an extended CONNECT, without key and answer to it; over HTTP/1.1 the origin wants
a key and proves that it has understood it (RFC 6455, 4).  The relay makes up the one and checks the other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from appproxy.errors import AppproxyError, Side
from appproxy.http.messages import Field, tokens

#: The ``:protocol`` that may be asked for.
PROTOCOL = b"websocket"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: What a client may not bring along; its key would be as good as none.
_OURS = frozenset({b"sec-websocket-key", b"sec-websocket-accept"})
#: Of the handshake itself: nothing for a client that made none.
_ANSWERED = frozenset({b"connection", b"upgrade", b"sec-websocket-accept"})


class NotSwitched(AppproxyError):
    """The origin did not open the WebSocket that it was asked for."""

    code, status, side = "not-switched", 502, Side.ORIGIN


class Handshake:
    """One handshake on behalf of a client.

    :param random: 16 octets that nobody can guess.
    """

    __slots__ = ("_key",)

    def __init__(self, random: bytes) -> None:
        self._key = base64.b64encode(random)

    def ask(self, fields: Sequence[Field]) -> list[Field]:
        """The fields of the request that opens it over HTTP/1.1."""
        return [
            *(field for field in fields if field[0].lower() not in _OURS),
            (b"Upgrade", PROTOCOL),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Key", self._key),
        ]

    def opened(self, fields: Sequence[Field]) -> list[Field]:
        """What the client gets of the origin's 101.

        :raises NotSwitched: it is no answer to our key.
        """
        wanted = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest())
        said = [value for name, value in fields if name.lower() == b"sec-websocket-accept"]
        if said != [wanted] or tokens([v for name, v in fields if name.lower() == b"upgrade"]) != [PROTOCOL]:
            raise NotSwitched("the handshake was answered wrongly")
        return [field for field in fields if field[0].lower() not in _ANSWERED]
