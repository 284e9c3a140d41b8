"""Why a connection could not be made: one class per phase, so that nobody has to read texts."""

from __future__ import annotations

from typing import ClassVar

from appproxy.errors import AppproxyError, Phase, Side


class DialFailed(AppproxyError):
    """The other side could not be reached.

    :ivar side: who did not answer; an origin unless the caller of :func:`appproxy.net.dial.dial` says otherwise.
    """

    code: ClassVar[str] = "unreachable"
    status: ClassVar[int] = 502
    side = Side.ORIGIN
    phase = Phase.CONNECT


class DnsFailed(DialFailed):
    """The name of the other side could not be resolved."""

    code = "dns"
    phase = Phase.DNS


class ConnectFailed(DialFailed):
    """The other side accepted no connection."""

    code = "connect"
    phase = Phase.CONNECT


class ConnectTimedOut(ConnectFailed):
    """The other side accepted no connection in time."""

    code = "connect-timeout"
    status = 504


class TlsFailed(DialFailed):
    """The other side was reached, but no trusted TLS connection came of it."""

    code = "tls"
    phase = Phase.TLS
