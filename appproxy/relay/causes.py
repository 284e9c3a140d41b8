"""How a stream's failure is told to the client: status, side and phase by the code that the connector gave."""

from __future__ import annotations

import re

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.sso.causes import CAUSES as KERBEROS
from appproxy.wire.frames import Code
from appproxy.wire.heads import ResponseHead


class Failed(AppproxyError):
    """A request failed behind the relay; which hop and phase stand beside it."""

    def __init__(self, status: int, code: str, side: Side, phase: Phase, detail: str = "") -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]
        self.code = code  # type: ignore[misc]
        self.side = side  # type: ignore[misc]
        self.phase = phase  # type: ignore[misc]


#: By the channel protocol's codes; what is not here is the connector's own fault.
CAUSES: dict[int, tuple[int, str, Side, Phase]] = {
    Code.REFUSED: (503, "connector-busy", Side.CONNECTOR, Phase.CHANNEL),
    Code.UNKNOWN_APPLICATION: (502, "unknown-application", Side.CONNECTOR, Phase.CHANNEL),
    Code.NOT_ALLOWED: (502, "not-allowed-here", Side.CONNECTOR, Phase.POLICY),
    Code.DNS: (502, "origin-unresolved", Side.ORIGIN, Phase.DNS),
    Code.CONNECT: (502, "origin-unreachable", Side.ORIGIN, Phase.CONNECT),
    Code.CONNECT_TIMEOUT: (504, "origin-connect-timeout", Side.ORIGIN, Phase.CONNECT),
    Code.TLS: (502, "origin-tls", Side.ORIGIN, Phase.TLS),
    Code.SSO: (502, "sso-failed", Side.CONNECTOR, Phase.SSO),
    Code.FIRST_BYTE: (504, "origin-timeout", Side.ORIGIN, Phase.FIRST_BYTE),
    Code.IDLE: (504, "origin-idle", Side.ORIGIN, Phase.BODY),
    Code.TOTAL: (504, "exchange-timeout", Side.ORIGIN, Phase.BODY),
    Code.ORIGIN_BROKE_OFF: (502, "origin-broke-off", Side.ORIGIN, Phase.FIRST_BYTE),
    Code.NOT_HTTP: (502, "origin-not-http", Side.ORIGIN, Phase.FIRST_BYTE),
}
#: What a connector may call a cause.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
CAUSES_OF_KERBEROS = {cause.code: cause for cause in KERBEROS.values()}
OTHERWISE = (502, "connector-failed", Side.CONNECTOR, Phase.CHANNEL)


def failed(code: int, text: str) -> Failed:
    """The failure that *code* stands for; *text* is for the log only."""
    status, name, side, phase = CAUSES.get(code, OTHERWISE)
    return Failed(status, name, side, phase, text)


def told(head: ResponseHead) -> Failed:
    """The failure that the connector itself answers with, by a name of its own."""
    sso = head.code == Code.SSO
    kerberos = CAUSES_OF_KERBEROS.get(head.cause)
    side = kerberos.side if kerberos is not None else Side.CONNECTOR if sso else Side.CLIENT
    status = head.status if 400 <= head.status < 600 else 502
    code = head.cause if _NAME.fullmatch(head.cause) else "connector-failed"
    detail = f"{kerberos.says} {kerberos.remedy}" if kerberos is not None else ""
    return Failed(status, code, side, Phase.SSO if sso else Phase.REQUEST, detail)


def channel_lost() -> Failed:
    """The connector went away in the middle."""
    return Failed(502, "connector-lost", Side.CONNECTOR, Phase.CHANNEL)


def no_connector() -> Failed:
    """No connector of the group is here."""
    return Failed(503, "no-connector", Side.RELAY, Phase.CHANNEL)


def head_too_large(detail: str) -> Failed:
    """The request's head, with the identity in it, is more than a channel carries."""
    return Failed(502, "head-too-large", Side.RELAY, Phase.CHANNEL, detail)
