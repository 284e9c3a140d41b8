"""The relay's end of channels: the WebSocket handshake of a connector whose TLS certificate is already known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.logger import Logger

from appproxy.channel.carrier import COMMON_OPTIONS, MAX_MESSAGE_BYTES, PATH, SUBPROTOCOL, ServerCarrier
from appproxy.errors import AppproxyError


class Refused(Exception):
    """The connector may not come in; *args* is the reason it is told."""


#: Given the DER of the peer's certificate (None without one) and its address, make its cargo or raise :class:`Refused`.
Admit = Callable[[bytes | None, str], Any]


class AdmittingCarrier(ServerCarrier):
    """Checks path, subprotocol and certificate before the WebSocket opens."""

    factory: ChannelListener
    _events = Logger()
    _asked = False

    def processHandshake(self) -> None:
        """Autobahn: a request has come, perhaps not all of it.  Only one is looked at; what follows it waits."""
        if not self._asked:
            super().processHandshake()
        elif len(self.data) > MAX_MESSAGE_BYTES:
            self.abort()

    async def onConnect(self, request: ConnectionRequest) -> str:  # type: ignore[override]
        """Autobahn: accept with our subprotocol, or deny with an HTTP status."""
        self._asked = True
        if request.path != PATH:
            raise ConnectionDeny(404, "no such path")
        if SUBPROTOCOL not in request.protocols:
            raise ConnectionDeny(400, f"the subprotocol {SUBPROTOCOL} is spoken here")
        try:
            cargo = await self.factory.admit(self.transport.getPeerCertificateDER(), request.peer)
        except Refused as refusal:
            raise ConnectionDeny(403, str(refusal)) from None
        except AppproxyError as problem:
            raise ConnectionDeny(503, f"{problem.code}; try again later") from None
        except Exception:
            self._events.failure("{peer} could not be admitted", event="channel.admission-failed", peer=request.peer)
            raise ConnectionDeny(500, "internal error; see the relay's log") from None
        if self.state != ServerCarrier.STATE_CONNECTING:
            raise ConnectionDeny(400, "the connector has gone")
        self.cargo = cargo
        return SUBPROTOCOL


class ChannelListener(WebSocketServerFactory):
    """Makes one carrier for each connection; *admit* (a coroutine function) decides who comes in."""

    protocol = AdmittingCarrier  # type: ignore[assignment]

    def __init__(self, admit: Admit) -> None:
        super().__init__(protocols=[SUBPROTOCOL], server="appproxy")
        self.setProtocolOptions(**COMMON_OPTIONS, webStatus=False)
        self.admit = admit

    def carrier(self) -> AdmittingCarrier:
        """One more carrier, not yet connected."""
        return cast(AdmittingCarrier, self.buildProtocol(None))
