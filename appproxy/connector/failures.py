"""What can go wrong between the channel and the origin, each with the code that the relay is told.

The docstring of a class is the sentence an operator reads.  Hosts and addresses stand in the detail, for the
connector's own log; the relay is told the code and the sentence only.
"""

from __future__ import annotations

from typing import ClassVar

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.wire.frames import Code


class OriginFailed(AppproxyError):
    """The origin could not be made to answer."""

    code, status, side = "origin-failed", 502, Side.ORIGIN
    #: What the stream is reset with.
    reset: ClassVar[Code] = Code.INTERNAL


class OriginUnresolved(OriginFailed):
    """The origin's host name could not be resolved at the connector."""

    code, phase, reset = "origin-unresolved", Phase.DNS, Code.DNS


class OriginRefused(OriginFailed):
    """The origin accepted no connection from the connector."""

    code, phase, reset = "origin-refused", Phase.CONNECT, Code.CONNECT


class OriginConnectTimeout(OriginFailed):
    """The origin accepted no connection from the connector in time."""

    code, status, phase, reset = "origin-connect-timeout", 504, Phase.CONNECT, Code.CONNECT_TIMEOUT


class OriginBusy(OriginFailed):
    """All connections that the connector may open to the origin stayed busy."""

    code, status, phase, reset = "origin-busy", 504, Phase.CONNECT, Code.CONNECT_TIMEOUT


class OriginTLS(OriginFailed):
    """No trusted TLS connection to the origin could be made."""

    code, phase, reset = "origin-tls", Phase.TLS, Code.TLS


class OriginTimeout(OriginFailed):
    """The origin took the request but sent no response head in time."""

    code, status, phase, reset = "origin-timeout", 504, Phase.FIRST_BYTE, Code.FIRST_BYTE


class OriginIdle(OriginFailed):
    """The origin fell silent in the middle of the exchange."""

    code, status, phase, reset = "origin-idle", 504, Phase.BODY, Code.IDLE


class ExchangeTimeout(OriginFailed):
    """The exchange took longer than the application allows from its request to the end of its answer."""

    code, status, phase, reset = "exchange-timeout", 504, Phase.BODY, Code.TOTAL


class OriginBrokeOff(OriginFailed):
    """The origin closed the connection before its answer was complete."""

    code, phase, reset = "origin-broke-off", Phase.BODY, Code.ORIGIN_BROKE_OFF


class OriginNotHTTP(OriginFailed):
    """What the origin answered is not strictly HTTP."""

    code, phase, reset = "origin-not-http", Phase.FIRST_BYTE, Code.NOT_HTTP


class OriginUndecodable(OriginFailed):
    """The origin's answer was to be translated, but breaks off in its content coding or stands for absurdly much."""

    code, phase, reset = "origin-undecodable", Phase.BODY, Code.ORIGIN_BROKE_OFF


class UnknownApplication(AppproxyError):
    """The relay asked for an application that this connector was not assigned."""

    code, status, side, reset = "unknown-application", 502, Side.CONNECTOR, Code.UNKNOWN_APPLICATION


class NotAllowed(AppproxyError):
    """The connector's own allow-list does not have the origin of this application."""

    code, status, side, reset = "not-allowed", 502, Side.CONNECTOR, Code.NOT_ALLOWED


class MalformedRequest(AppproxyError):
    """The relay sent a request head that is no well-formed request for this application."""

    code, status, side, reset = "malformed-request", 502, Side.CONNECTOR, Code.PROTOCOL


def reset_code(failure: AppproxyError) -> Code:
    """What a stream that ends with *failure* is reset with."""
    if failure.phase is Phase.SSO:
        return Code.SSO
    code: Code = getattr(failure, "reset", Code.INTERNAL)
    return code
