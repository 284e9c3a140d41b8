"""Accepting connections: bounded in total and per client, calm when descriptors run out."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from appproxy.config.listening import ListenAddress
from appproxy.errors import ConfigError
from appproxy.net.binding import open_socket
from appproxy.net.introduction import Introduction
from appproxy.net.readiness import readiness_of
from appproxy.net.secure import HANDSHAKE_SECONDS, Chooser, SecureTransport
from appproxy.net.sockets import Address, address_of, prepare
from appproxy.net.transport import SocketTransport

#: Connections accepted in one turn; the others have their turn too.
ACCEPTS_PER_TURN = 64
#: Seconds without accepting after descriptors or memory ran out: first, and after repeated failures.
PAUSE_SECONDS = (0.1, 1.0)
#: Seconds in which refused connections are told of only once.
REFUSAL_LOG_SECONDS = 60.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class TLSChooser(Interface):
    """What TLS needs from a listener's caller; `appproxy.net.certificates.Certificates` is one."""

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""


@dataclass(frozen=True)
class Limits:
    """How many connections a listener holds.

    :ivar total: of all clients; beyond it a connection is closed at once.
    :ivar per_address: of one client: an IPv4 address, an IPv6 network of 64 bits.  Unix sockets have no such limit.
    :ivar exempt: networks whose connections are counted in total only: load balancers and proxies.
    """

    total: int = 20_000
    per_address: int = 256
    exempt: tuple[Network, ...] = ()
    handshake_seconds: float = HANDSHAKE_SECONDS


@implementer(IReadDescriptor)
class Listening:
    """One listening socket and the connections accepted from it.

    :ivar connections: those that are open, handshakes included; to drain or abort them.
    :ivar introductions: those whose PROXY protocol preface has not come whole yet.
    :ivar refused: how many were closed because of a limit.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        listening: socket.socket,
        protocol_factory: Callable[[Address], Protocol | None],
        tls: TLSChooser | None,
        limits: Limits,
        name: str,
        introduced_by: tuple[Network, ...] = (),
        by_alpn: Mapping[str, Callable[[Address], Protocol | None]] | None = None,
        by_name: Callable[[], Chooser | None] = lambda: None,
    ) -> None:
        """Own *listening*, a non-blocking socket; nothing is accepted before :meth:`start`."""
        self._reactor = reactor
        self._watch = readiness_of(reactor)
        self._socket = listening
        self._factory = protocol_factory
        self._tls = tls
        self._limits = limits
        self._name = name
        self._introduced_by = introduced_by
        self._by_alpn = by_alpn or {}
        self._by_name = by_name
        self._by_client: Counter[str] = Counter()
        self._pause: Any = None
        self._pauses = 0
        self._refusals_told = float("-inf")
        self._path: Path | None = None
        self.address = address_of(listening.family, listening.getsockname())
        self.connections: set[SocketTransport] = set()
        self.introductions: set[Introduction] = set()
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Listening {self._name} on {self.address}, {len(self.connections)} connections>"

    @property
    def port(self) -> int:
        """The port number, also if port 0 was asked for; 0 for a Unix socket."""
        return getattr(self.address, "port", 0)

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._socket.fileno() == -1

    def start(self) -> None:
        """Begin to accept."""
        self._watch.addReader(self)

    def stop(self) -> None:
        """Accept no more; established connections go on.  May be called twice."""
        if self.stopped:
            return
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._watch.removeReader(self)
        self._socket.close()
        for introduction in list(self.introductions):
            introduction.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def unlink_at_stop(self, path: Path) -> None:
        """Remove the file of our Unix socket when we stop."""
        self._path = path

    def abort(self) -> None:
        """Stop, and abort every connection."""
        self.stop()
        for transport in list(self.connections):
            transport.abortConnection()

    # Accepting

    def doRead(self) -> None:
        """Accept what waits, up to ``ACCEPTS_PER_TURN``."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                accepted, name = self._socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._exhausted(error)
                    return
                continue  # the client gave up before its turn, or a firewall said no
            self._accepted(accepted, address_of(accepted.family, name))
            if self.stopped:
                return
        self._pauses = 0

    def _exhausted(self, error: OSError) -> None:
        """Leave the waiting connections in the kernel's queue for a moment, instead of being told of them for ever."""
        if not self._pauses:
            self.log.warn(
                "{name}: no more connections for now, {problem}; {count} are open (raise LimitNOFILE=?)",
                event="net.exhausted",
                name=self._name,
                problem=error.strerror,
                count=len(self.connections),
            )
        first, longest = PAUSE_SECONDS
        seconds = min(first * 2**self._pauses, longest)
        self._pauses += 1
        self._watch.removeReader(self)
        self._pause = self._reactor.callLater(seconds, self._accept_again)

    def _accept_again(self) -> None:
        self._pause = None
        self._watch.addReader(self)

    def _accepted(self, accepted: socket.socket, peer: Address) -> None:
        if len(self.connections) + len(self.introductions) >= self._limits.total:
            self._refuse(accepted, "too many connections in total")
        elif not self._introduced_by:
            self._admit(accepted, peer)
        elif _is_in(peer, self._introduced_by):
            seconds = self._limits.handshake_seconds
            introduction = Introduction(self._reactor, accepted, peer, seconds, self._introduced)
            self.introductions.add(introduction)
            introduction.start()
        else:
            self._refuse(accepted, f"no trusted proxy at {_host_of(peer)}")

    def _introduced(self, introduction: Introduction, accepted: socket.socket | None, problem: str) -> None:
        """A balancer has said for whom a connection is, or has not; then the connection is closed already."""
        self.introductions.discard(introduction)
        if accepted is not None:
            self._admit(accepted, introduction.client)
        elif problem:
            self._tell_refused(f"PROXY protocol of {_host_of(introduction.client)}: {problem}")

    def _admit(self, accepted: socket.socket, peer: Address) -> None:
        """Begin a connection of *peer*, the real client, if it may have another."""
        client = self._client_of(peer)
        if client and self._by_client[client] >= self._limits.per_address:
            self._refuse(accepted, f"too many connections from {client}")
        else:
            try:
                transport = self._transport(accepted, peer)
            except OSError:
                accepted.close()  # the client has gone already
                return
            self.connections.add(transport)
            if client:
                self._by_client[client] += 1
            transport.start()

    def _transport(self, accepted: socket.socket, peer: Address) -> SocketTransport:
        prepare(accepted)
        if self._tls is None:
            return SocketTransport(self._reactor, accepted, self, peer)
        seconds = self._limits.handshake_seconds
        return SecureTransport(
            self._reactor, accepted, self, peer, self._tls.context, handshake_seconds=seconds, choose=self._by_name()
        )

    def _client_of(self, peer: Address) -> str:
        """Return what the limit per client counts, empty if nothing."""
        if isinstance(peer, UNIXAddress):
            return ""
        if self._limits.exempt and _is_in(peer, self._limits.exempt):
            return ""
        address = ipaddress.ip_address(peer.host.partition("%")[0])
        if address.version == 6:
            return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
        return peer.host

    def _refuse(self, accepted: socket.socket, why: str) -> None:
        accepted.close()
        self._tell_refused(why)

    def _tell_refused(self, why: str) -> None:
        self.refused += 1
        now = self._reactor.seconds()
        if now - self._refusals_told >= REFUSAL_LOG_SECONDS:
            self._refusals_told = now
            self.log.warn(
                "{name}: {why}; such connections are closed ({refused} so far)",
                event="net.refused",
                name=self._name,
                why=why,
                refused=self.refused,
            )

    # The owner of the accepted transports

    def build(self, transport: SocketTransport) -> Protocol | None:
        """Make the protocol for a connection that is ready."""
        return self._by_alpn.get(transport.alpn, self._factory)(transport.getPeer())

    def made(self, transport: SocketTransport) -> None:
        """Nothing is left to do."""

    def lost(self, transport: SocketTransport, reason: Failure) -> None:
        """Forget a connection."""
        self.connections.discard(transport)
        client = self._client_of(transport.getPeer())
        if client:
            self._by_client[client] -= 1
            if self._by_client[client] <= 0:
                del self._by_client[client]
        if transport.protocol is None:
            self.log.debug(
                "{name}: {peer} never became a connection: {reason}",
                event="net.not-established",
                name=self._name,
                peer=transport.getPeer(),
                reason=reason.getErrorMessage(),
            )

    # What the reactor asks

    def fileno(self) -> int:
        """Return the descriptor, -1 once stopped."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Name the listener in lines that the reactor logs."""
        return self._name

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is shutting down."""
        self.stop()


def _is_in(peer: Address, networks: tuple[Network, ...]) -> bool:
    """Whether an address belongs to one of *networks*; a Unix socket's belongs to none."""
    if isinstance(peer, UNIXAddress):
        return False
    address = ipaddress.ip_address(peer.host.partition("%")[0])
    return any(address in network for network in networks)


def _host_of(peer: Address) -> str:
    return str(getattr(peer, "host", "a Unix socket"))


def listen(
    reactor: Any,
    address: ListenAddress,
    protocol_factory: Callable[[Address], Protocol | None],
    tls: TLSChooser | None = None,
    *,
    limits: Limits = Limits(),
    where: str = "listen.clients",
    mode: int = 0o660,
    environ: MutableMapping[str, str] | None = None,
    introduced_by: tuple[Network, ...] = (),
    by_alpn: Mapping[str, Callable[[Address], Protocol | None]] | None = None,
    by_name: Callable[[], Chooser | None] = lambda: None,
) -> Listening:
    """Listen on *address* and give each connection a protocol.

    :param protocol_factory: called with the client's address when a connection is ready (after the TLS handshake);
        None refuses it.
    :param tls: the certificates; required for ``tls:``, used for ``systemd:`` if given, and not for the others.
    :param where: the setting to blame.
    :param mode: of a Unix socket's file.
    :param introduced_by: networks of balancers, which begin every connection with the PROXY protocol; others are
        closed.  Empty: nobody speaks it.
    :param by_alpn: other factories for what was agreed on by TLS; *tls* has to offer it.
    :param by_name: gives what chooses other contexts by the name that a client asks for, if there are any at the time.
    :raises ConfigError: the address cannot be had, and what to do about it.
    """
    if address.kind == "tls" and tls is None:
        raise ConfigError(where, "tls: needs certificates; name their directory in tls.certificates")
    if address.kind in ("tcp", "unix"):
        tls = None
    opened = open_socket(address, where, mode=mode, environ=environ)
    listening = Listening(reactor, opened, protocol_factory, tls, limits, where, introduced_by, by_alpn, by_name)
    if address.kind == "unix":
        listening.unlink_at_stop(Path(address.path))
    listening.start()
    return listening
