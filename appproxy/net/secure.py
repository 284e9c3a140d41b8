"""TLS on a connected socket, by the standard library, as the same kind of transport.

OpenSSL works on the descriptor itself: no memory BIO, so an idle connection costs half the memory and bulk data is
copied once less.  What that asks for:

- A record is read whole (``READ_SIZE`` is larger than any) and OpenSSL reads nothing ahead, so whatever is unread is
  in the kernel, and the reactor tells of it: there is never a reason to ask for ``pending()``.
- A record that the kernel did not take has to be offered again, unchanged and not shorter.  Data is therefore sent a
  record at a time, and what was not sent stays first in the queue; it may grow, never shrink.
- Neither side may renegotiate (our contexts forbid it), hence a write never waits for input.  A read may have to wait
  for room: a TLS 1.3 key update is answered.
- An end of file without ``close_notify`` is a connection *lost*, not *done*: somebody may have cut it.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from appproxy.net.failures import TlsFailed, explain
from appproxy.net.hello import MAX_HELLO, name_asked_for
from appproxy.net.sockets import Address
from appproxy.net.transport import BULK_READ_SIZE, READ_SIZE, WOULD_BLOCK, Owner, SocketTransport, State

#: Seconds that a peer has for the handshake; D05: idle connections do not live longer.
HANDSHAKE_SECONDS: Final = 10.0
#: The most that one TLS record carries.
RECORD_SIZE: Final = 16 * 1024
#: A record with less than this is probably the last one for now: asking for another would cost more than it brings.
SMALL_RECORD: Final = 4 * 1024
#: A larger one that is not full may be the last, or one of many from a sender that never fills them.  After one that
#: came alone, so many are taken for the last without asking.
LONE_RECORDS: Final = 8

_OPEN: Final = State.OPEN


def close_notify(secured: ssl.SSLSocket) -> bytes:
    """Make the record that ends our half of *secured*, without touching the other half.

    ``SSLSocket.unwrap`` sends it and then, in the same call, reads for the peer's; application data that it meets is
    fatal and lost.  So for the length of that call another socket, with nothing to read, takes the place of the real
    one under its descriptor.  The caller sends the record with the plain ``socket.send``.  Everything written before
    must have been sent.

    :raises OSError: out of descriptors.
    """
    descriptor = secured.fileno()
    stand_in, far_end = socket.socketpair()
    with stand_in, far_end:
        stand_in.setblocking(False)
        far_end.setblocking(False)
        saved = os.dup(descriptor)
        try:
            os.dup2(stand_in.fileno(), descriptor, inheritable=False)
            try:
                secured.unwrap()
            except ssl.SSLWantReadError:
                pass
            finally:
                os.dup2(saved, descriptor, inheritable=False)
        finally:
            os.close(saved)
        return far_end.recv(1024)


#: The context for a client that asks for a name, and whose certificates that asks the client for; None: the usual one.
Chooser = Callable[[str], tuple[ssl.SSLContext, str] | None]


class SecureTransport(SocketTransport):
    """One TLS connection; the protocol is made when the handshake is finished."""

    __slots__ = (
        "_certificate", "_check", "_choose", "_farewell", "_handshake_seconds", "_lone", "_peeked", "_read_waits",
        "alpn", "sni", "trusted",
    )  # fmt: skip

    secure = True

    def __init__(
        self,
        reactor: Any,
        connected: socket.socket,
        owner: Owner,
        peer: Address,
        context: ssl.SSLContext,
        *,
        server_name: str | None = None,
        check: Callable[[bytes | None], None] | None = None,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        choose: Chooser | None = None,
    ) -> None:
        """Put TLS on *connected*: as the client of *server_name* if that is given (it may be empty), else as server.

        :param check: called with the peer's certificate (DER) after the handshake; raises `TlsFailed` to refuse it.
        :param choose: a server's other contexts, by the name that the client asks for.
        :raises OSError: the peer has gone already.
        """
        client = server_name is not None
        secured = context.wrap_socket(
            connected,
            server_side=not client,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
            server_hostname=server_name or None,
        )
        try:
            super().__init__(reactor, secured, owner, peer)
        except BaseException:
            secured.close()
            raise
        self._recv = secured.read  # all that its "recv" would do
        self._send = self._encrypt
        self._check = check
        self._choose = choose
        self._peeked = 0
        self._handshake_seconds = handshake_seconds
        self._certificate: bytes | None = None
        self._farewell: bytes | None = None
        self._read_waits = False
        self._lone = 0
        self.sni = server_name or ""
        self.alpn = ""
        #: Whose certificates the client was asked for, where that was chosen by name.
        self.trusted = ""

    # The handshake

    def start(self) -> None:
        """Begin the handshake."""
        self._set_timer(self._handshake_seconds, self._handshake_late)
        self._shake_hands()

    def _has_context(self) -> bool:
        """Look which name the client asks for, and take the context that is for it; False while it has not said."""
        assert self._choose is not None
        try:
            there = socket.socket.recv(self._socket, MAX_HELLO, socket.MSG_PEEK)
        except WOULD_BLOCK:
            self._watch.addReader(self)
            return False
        except OSError:
            return True  # as the handshake will find
        name = name_asked_for(there) if len(there) > self._peeked else ""
        self._peeked = len(there)
        if name is None:
            # What is there stays there: wait for more than that, or for the client's end.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(there) + 1)
            self._watch.addReader(self)
            return False
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        chosen = self._choose(name) if name else None
        self._choose = None
        if chosen is not None:
            context, self.trusted = chosen
            self.sni = name
            plain = socket.socket(fileno=self._socket.detach())
            plain.setblocking(False)
            self._socket = context.wrap_socket(
                plain, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            self._recv = self._socket.read
        return True

    def _shake_hands(self) -> None:
        try:
            if self._choose is not None and not self._has_context():
                return
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._watch.removeWriter(self)
            self._watch.addReader(self)
        except ssl.SSLWantWriteError:
            self._watch.removeReader(self)
            self._watch.addWriter(self)
        except (OSError, ValueError) as error:
            self._end(Failure(TlsFailed(explain(error))))
        else:
            self._handshake_done()

    def _handshake_done(self) -> None:
        self._cancel_timer()
        self._watch.removeWriter(self)
        secured = self._socket
        self.sni = self.sni or getattr(secured, "sni", "")
        self.alpn = secured.selected_alpn_protocol() or ""
        self._certificate = secured.getpeercert(binary_form=True)
        if self._check is not None:
            try:
                self._check(self._certificate)
            except TlsFailed:
                self._end(Failure())
                return
        self._open()

    def _handshake_late(self) -> None:
        self._end(Failure(TlsFailed(f"the handshake took longer than {self._handshake_seconds:g} s")))

    # Reading

    def doRead(self) -> None:
        """Read the records that are there, up to ``BULK_READ_SIZE``, and deliver them as one."""
        if self._state is not _OPEN or self._paused:
            if self._state is State.STARTING:
                self._shake_hands()
            else:
                self._discard()
            return
        pieces: list[bytes] = []
        size = 0
        ended: Failure | None = None
        try:
            while size < BULK_READ_SIZE:
                data = self._recv(READ_SIZE)
                if not data:
                    ended = Failure(ConnectionDone())
                    break
                pieces.append(data)
                if len(data) < SMALL_RECORD:
                    break
                if self._lone and len(data) < RECORD_SIZE:
                    self._lone -= 1
                    break
                size += len(data)
        except ssl.SSLWantWriteError:
            self._read_waits = True
            self._watch.removeReader(self)
            self._watch.addWriter(self)
        except WOULD_BLOCK:
            if len(pieces) == 1:
                self._lone = LONE_RECORDS
        except ssl.SSLZeroReturnError:  # how a proper end is told when our own half has ended already
            ended = Failure(ConnectionDone())
        except OSError as error:
            ended = self._reason_for(error)
        if pieces:
            self._deliver(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended is not None and self._state is _OPEN:
            if ended.check(ConnectionDone):
                self._input_ended()
            else:
                self._end(self._broken or ended)

    def _reason_for(self, error: OSError) -> Failure:
        if isinstance(error, ssl.SSLEOFError):
            return Failure(ConnectionLost("the connection was cut: no close_notify"))
        if isinstance(error, ssl.SSLError):
            return Failure(TlsFailed(explain(error)))
        return Failure(ConnectionLost(str(error)))

    # Writing

    def _encrypt(self, data: bytes | memoryview) -> int:
        """Send *data* record by record; return how much went, 0 if the kernel has no room."""
        if len(data) <= RECORD_SIZE:
            sent: int = self._socket.send(data)
            return sent
        view = memoryview(data)
        sent = 0
        try:
            while sent < len(view):
                sent += self._socket.send(view[sent : sent + RECORD_SIZE])
        except ssl.SSLWantWriteError:
            pass
        return sent

    def doWrite(self) -> None:
        """Send what waits, or go on with what waited for room: the handshake, a read."""
        if self._state is State.STARTING:
            self._shake_hands()
            return
        if self._read_waits:
            self._read_waits = False
            if self._state is State.OPEN and not self._paused:
                self._watch.addReader(self)
        super().doWrite()

    # Ending

    def _end_output(self) -> bool:
        if self._farewell is None:
            self._farewell = close_notify(self._socket)
        try:
            self._farewell = self._farewell[socket.socket.send(self._socket, self._farewell) :]
        except WOULD_BLOCK:
            return False
        return not self._farewell

    def _say_goodbye(self) -> bool:
        if self._farewell is None:
            try:
                self._socket.unwrap()
            except ssl.SSLWantWriteError:
                return False
            except (ssl.SSLError, ValueError):
                pass  # it is sent; the peer's is not here yet, or still behind data that nobody wants
            self._farewell = b""
        elif self._farewell and not self._end_output():
            return False
        return super()._say_goodbye()

    def getPeerCertificateDER(self) -> bytes | None:
        """Return the certificate that the peer proved to own; None without one."""
        return self._certificate
