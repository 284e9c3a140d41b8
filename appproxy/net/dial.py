"""Making connections: the name is resolved each time, its addresses are raced, every failure has a name.

Addresses are tried in turn, the next one a quarter of a second after the last or as soon as that has failed, IPv6
and IPv4 alternating (RFC 8305); the first that connects is taken and the others are dropped.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from appproxy.net.failures import ConnectFailed, ConnectTimedOut, DialFailed, DnsFailed
from appproxy.net.readiness import readiness_of
from appproxy.net.secure import SecureTransport
from appproxy.net.sockets import Address, address_of, prepare
from appproxy.net.tls import ClientTLS, is_address
from appproxy.net.transport import SocketTransport

#: Seconds for name and connection together, and then again for the handshake.
CONNECT_SECONDS = 10.0
#: Seconds that one address has before the next one is tried beside it.
STAGGER_SECONDS = 0.25

#: A family and what ``connect`` takes for it.
Target = tuple[int, Any]
Resolve = Callable[[str, int], "Deferred[Sequence[Target]]"]


async def dial(
    reactor: Any,
    host: str,
    port: int,
    factory: Callable[[Address], Protocol],
    tls: ClientTLS | None = None,
    timeout: float = CONNECT_SECONDS,  # noqa: ASYNC109
    *,
    resolve: Resolve | None = None,
) -> Protocol:
    """Connect to *host*, a name or an address, and return the protocol that *factory* made, connected.

    Cancelling the Deferred that runs this closes what is open.

    :param factory: called with the address that answered, after the TLS handshake.
    :param timeout: seconds for name and connection, and again for the handshake.
    :param resolve: the name service; the system's in the reactor's threads by default.
    :raises DnsFailed: the name has no address.
    :raises ConnectFailed: no address accepted.
    :raises TlsFailed: no trusted TLS connection came of it.
    """
    deadline = _Deadline(reactor, timeout)
    where = f"{host}:{port}"
    if is_address(host):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        targets: Sequence[Target] = [(family, (host, port))]
    else:
        resolving = (resolve or system_resolver(reactor))(host, port)
        targets = await deadline.limit(resolving, DnsFailed(f"{host}: no answer within {timeout:g} s"))
        if not targets:
            raise DnsFailed(f"{host} has no address")
    race = _Race(reactor, _alternating(targets), where)
    connected = await deadline.limit(race.start(), ConnectTimedOut(f"{where}: no answer within {timeout:g} s"))
    return await _establish(reactor, connected, factory, tls, host, timeout)


async def dial_path(
    reactor: Any,
    path: str,
    factory: Callable[[Address], Protocol],
    timeout: float = CONNECT_SECONDS,  # noqa: ASYNC109
) -> Protocol:
    """Connect to the Unix socket at *path*, as :func:`dial`.

    :raises ConnectFailed: nobody listens there.
    """
    race = _Race(reactor, [(socket.AF_UNIX, path)], path)
    late = ConnectTimedOut(f"{path}: no answer within {timeout:g} s")
    connected = await _Deadline(reactor, timeout).limit(race.start(), late)
    return await _establish(reactor, connected, factory, None, "", timeout)


class _Deadline:
    """Seconds that several steps share."""

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._end = reactor.seconds() + seconds

    def limit(self, step: Deferred[Any], late: DialFailed) -> Deferred[Any]:
        """Cancel *step* at the end, and let it fail with *late* then."""
        fired = False

        def expire() -> None:
            nonlocal fired
            fired = True
            step.cancel()

        def ended(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return Failure(late) if fired and isinstance(result, Failure) else result

        timer = self._reactor.callLater(max(0.0, self._end - self._reactor.seconds()), expire)
        return step.addBoth(ended)


def system_resolver(reactor: Any) -> Resolve:
    """The system's name service, asked in the reactor's threads."""

    def look_up(host: str, port: int) -> list[Target]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise DnsFailed(f"{host}: {getattr(error, 'strerror', None) or error}") from None
        return [(family, name) for family, _type, _protocol, _canonical, name in found]

    return lambda host, port: deferToThreadPool(reactor, reactor.getThreadPool(), look_up, host, port)


def _alternating(targets: Sequence[Target]) -> list[Target]:
    """Alternate families, beginning with that of the first, in the system's order otherwise."""
    first = [t for t in targets if t[0] == targets[0][0]]
    other = [t for t in targets if t[0] != targets[0][0]]
    mixed: list[Target] = []
    while first or other:
        mixed += first[:1] + other[:1]
        first, other = first[1:], other[1:]
    return mixed


class _Race:
    """Attempts at several addresses, of which the first to connect wins."""

    def __init__(self, reactor: Any, targets: list[Target], where: str) -> None:
        self._reactor = reactor
        self._waiting = targets
        self._where = where
        self._running: set[_Attempt] = set()
        self._problems: list[str] = []
        self._next: Any = None
        self._result: Deferred[socket.socket] = Deferred(lambda _: self._stop())

    def start(self) -> Deferred[socket.socket]:
        """Begin; fires with a connected, non-blocking socket, or `ConnectFailed`."""
        self._try_next()
        return self._result

    def _try_next(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        while self._waiting and not self._result.called:
            family, name = self._waiting.pop(0)
            try:
                attempt = _Attempt(self._reactor, family, name, self)
            except OSError as error:
                self._problems.append(_problem(name, error))
                continue
            self._running.add(attempt)
            if self._waiting:
                self._next = self._reactor.callLater(STAGGER_SECONDS, self._try_next)
            attempt.start()
            return
        if not self._running and not self._result.called:
            self._result.errback(ConnectFailed(f"{self._where}: {'; '.join(self._problems)}"))

    def won(self, attempt: _Attempt, connected: socket.socket) -> None:
        """One attempt has connected."""
        self._running.discard(attempt)
        self._stop()
        self._result.callback(connected)

    def failed(self, attempt: _Attempt, error: OSError) -> None:
        """One attempt has failed: do not wait to try the next."""
        self._running.discard(attempt)
        self._problems.append(_problem(attempt.name, error))
        self._try_next()

    def _stop(self) -> None:
        self._waiting.clear()
        if self._next is not None and self._next.active():
            self._next.cancel()
        for attempt in list(self._running):
            attempt.close()
        self._running.clear()


def _problem(name: Any, error: OSError) -> str:
    address = name if isinstance(name, str) else name[0]
    return f"{address}: {error.strerror or error}"


@implementer(IReadWriteDescriptor)
class _Attempt:
    """One socket that is being connected."""

    def __init__(self, reactor: Any, family: int, name: Any, race: _Race) -> None:
        self._watch = readiness_of(reactor)
        self._race = race
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self.name = name
        prepare(self._socket)

    def start(self) -> None:
        code = self._socket.connect_ex(self.name)
        if code in (errno.EINPROGRESS, errno.EAGAIN) and self._socket.family != socket.AF_UNIX:
            self._watch.addWriter(self)
        else:
            self._decide(code)

    def doWrite(self) -> None:
        self._decide(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def doRead(self) -> None:
        """Nothing is read here."""

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw a failing socket, or is shutting down."""
        if self._socket.fileno() != -1:
            self._decide(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNABORTED)

    def _decide(self, code: int) -> None:
        self._watch.removeWriter(self)
        if code == 0:
            self._race.won(self, self._socket)
        else:
            self._socket.close()
            self._race.failed(self, OSError(code, os.strerror(code)))

    def close(self) -> None:
        self._watch.removeWriter(self)
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "dial"


class _Dialled:
    """The owner of one dialled transport: its first news, good or bad, is the result."""

    def __init__(self, factory: Callable[[Address], Protocol], where: str) -> None:
        self._factory = factory
        self._where = where
        self._transport: SocketTransport | None = None
        self.result: Deferred[Protocol] = Deferred(self._cancel)

    def own(self, transport: SocketTransport) -> None:
        self._transport = transport
        transport.start()

    def _cancel(self, _: Deferred[Protocol]) -> None:
        if self._transport is not None:
            self._transport.abortConnection()

    def build(self, transport: SocketTransport) -> Protocol | None:
        return self._factory(transport.getPeer())

    def made(self, transport: SocketTransport) -> None:
        if not self.result.called and transport.protocol is not None:
            self.result.callback(transport.protocol)

    def lost(self, transport: SocketTransport, reason: Failure) -> None:
        if not self.result.called:
            failed = reason.value
            if isinstance(failed, DialFailed):
                failed = type(failed)(f"{self._where}: {failed.detail}")
            elif isinstance(failed, ConnectionAborted):
                failed = ConnectFailed(f"{self._where}: no protocol was made for it")
            self.result.errback(failed)


async def _establish(
    reactor: Any,
    connected: socket.socket,
    factory: Callable[[Address], Protocol],
    tls: ClientTLS | None,
    host: str,
    handshake_seconds: float,
) -> Protocol:
    """Make a transport of a connected socket and wait until its protocol has it."""
    try:
        peer = address_of(connected.family, connected.getpeername())
        owner = _Dialled(factory, host)
        transport: SocketTransport
        if tls is None:
            transport = SocketTransport(reactor, connected, owner, peer)
        else:
            transport = SecureTransport(
                reactor,
                connected,
                owner,
                peer,
                tls.context,
                server_name=_sni_for(tls.server_name or host),
                check=tls.check_for(host),
                handshake_seconds=handshake_seconds,
            )
    except (OSError, ValueError) as error:
        connected.close()
        raise ConnectFailed(f"{host}: {error}") from None
    owner.own(transport)
    return await owner.result


def _sni_for(name: str) -> str:
    """Return the name to send: none for an address (RFC 6066)."""
    return "" if is_address(name) else name
