"""What is known about, and set on, one connected socket."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

#: Seconds of silence before the kernel asks whether the peer is still there, seconds between questions, and how many.
KEEPALIVE = (60, 15, 4)

Address = IPv4Address | IPv6Address | UNIXAddress


def is_internet(connected: socket.socket) -> bool:
    """Return whether this is TCP rather than a Unix socket."""
    return connected.family in (socket.AF_INET, socket.AF_INET6)


def address_of(family: int, name: Any) -> Address:
    """Turn what the socket module calls an address into Twisted's; an IPv4 client of an IPv6 socket is IPv4."""
    if family == socket.AF_INET:
        return IPv4Address("TCP", name[0], name[1])
    if family == socket.AF_INET6:
        host: str = name[0]
        if host.startswith("::ffff:") and "." in host:
            return IPv4Address("TCP", host[7:], name[1])
        return IPv6Address("TCP", *name)
    return UNIXAddress(name or None)


def prepare(connected: socket.socket) -> None:
    """Make a socket non-blocking, undelayed and watched for a peer that vanished."""
    connected.setblocking(False)
    if is_internet(connected):
        idle, interval, count = KEEPALIVE
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


class ConnectedSocket:
    """The part of a transport that answers questions.

    :ivar sni: the server name a TLS client asked for; ``alpn``: the protocol agreed on.  Empty without TLS.
    """

    __slots__ = ("_host", "_peer", "_socket")

    secure = False
    sni = ""
    alpn = ""

    def __init__(self, connected: socket.socket, peer: Address) -> None:
        """Ask the kernel for our own address; the peer's is known from accepting or dialling."""
        self._socket: Any = connected
        self._peer = peer
        self._host = address_of(connected.family, connected.getsockname())

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return int(self._socket.fileno())

    def getPeer(self) -> Address:
        """Return the address of the other end."""
        return self._peer

    def getHost(self) -> Address:
        """Return the address of our end."""
        return self._host

    def getPeerCertificateDER(self) -> bytes | None:
        """Return the certificate that the peer proved to own; None without one."""
        return None

    def getTcpNoDelay(self) -> bool:
        """Return whether small writes leave at once: yes, from the start."""
        return bool(self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Say whether small writes leave at once; meaningless, and ignored, for a Unix socket or a closed one."""
        self._set_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Return whether the kernel watches a silent peer: yes, from the start."""
        return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Say whether the kernel watches a silent peer; ignored as above."""
        self._set_option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def _set_option(self, level: int, option: int, enabled: bool) -> None:
        if is_internet(self._socket) and self._socket.fileno() != -1:
            self._socket.setsockopt(level, option, int(enabled))
