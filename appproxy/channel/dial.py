"""The connector's end of channels: ask a relay for a WebSocket over a connection that is already mutual TLS."""

from __future__ import annotations

from typing import cast

from autobahn.twisted.websocket import WebSocketClientFactory

from appproxy.channel.carrier import COMMON_OPTIONS, PATH, SUBPROTOCOL, Cargo, ClientCarrier


class ChannelDialler(WebSocketClientFactory):
    """Makes the client carrier for one connection to ``https://host:port``."""

    protocol = ClientCarrier

    def __init__(self, host: str, port: int, cargo: Cargo) -> None:
        name = f"[{host}]" if ":" in host else host
        super().__init__(f"wss://{name}:{port}{PATH}", protocols=[SUBPROTOCOL], useragent="appproxy-connector")
        self.host = name  # Autobahn's URL parser drops the brackets, which the Host field needs
        self.setProtocolOptions(**COMMON_OPTIONS, serverConnectionDropTimeout=0)
        self._cargo = cargo

    def carrier(self) -> ClientCarrier:
        """The carrier of this connection, not yet connected."""
        carrier = cast(ClientCarrier, self.buildProtocol(None))
        carrier.cargo = self._cargo
        return carrier
