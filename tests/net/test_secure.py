"""What TLS adds to a transport: the handshake, who the peer is, and ends that cannot be forged."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread

from appproxy.net import transport
from appproxy.net.failures import TlsFailed
from appproxy.net.secure import LONE_RECORDS, RECORD_SIZE, SMALL_RECORD, close_notify
from tests.net.kit import HalfRecorder, Link, Recorder, soon, until
from tests.net.test_transport import LARGE

OPENSSL = shutil.which("openssl")


class Answering(Recorder):
    """Answers every byte with one in upper case."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data.upper())


class TestHandshake:
    """Nobody becomes a connection without one."""

    @ensureDeferred
    async def test_a_silent_client(self, tls_link: Link) -> None:
        """D05: a client that sends nothing is closed after the handshake's seconds; no protocol was made for it."""
        listening = tls_link.listen(handshake_seconds=0.05)
        with tls_link.connect() as client:
            await until(lambda: listening.connections)
            await until(lambda: not listening.connections)
            assert client.recv(100) == b""
        assert not tls_link.accepted

    @ensureDeferred
    async def test_garbage(self, tls_link: Link) -> None:
        """D06: plain HTTP or noise on a TLS port is closed at once."""
        listening = tls_link.listen()

        def send(garbage: bytes) -> None:
            with tls_link.connect() as client, suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(garbage)
                while client.recv(1000):
                    pass  # the alert

        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70000, b"\xff" * 1000):
            await soon(deferToThread(send, garbage))
            assert not listening.connections
        assert not tls_link.accepted

    @ensureDeferred
    async def test_a_client_hello_byte_by_byte(self, tls_link: Link) -> None:
        """D06: a handshake in the smallest of pieces succeeds."""
        tls_link.listen(Answering)
        context = ssl.create_default_context(cadata=tls_link.authority.pem)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def talk(client: socket.socket) -> bytes:
            while True:
                try:
                    secured.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        client.sendall(bytes([byte]))
                    incoming.write(client.recv(65536))
            secured.write(b"hello")
            for byte in outgoing.read():
                client.sendall(bytes([byte]))
            while True:
                try:
                    return secured.read(100)
                except ssl.SSLWantReadError:
                    incoming.write(client.recv(65536))

        def run() -> bytes:
            with tls_link.connect() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return talk(client)

        assert await soon(deferToThread(run)) == b"HELLO"

    @ensureDeferred
    async def test_recorded_octets(self, tls_link: Link) -> None:
        """C29: what a client sent once means nothing on a new connection, nor a second time on the same one."""
        listening = tls_link.listen(Answering)
        context = ssl.create_default_context(cadata=tls_link.authority.pem)
        sent: list[bytes] = []

        def talk(client: socket.socket) -> None:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            secured = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

            def send() -> None:
                sent.append(outgoing.read())
                client.sendall(sent[-1])

            while True:
                try:
                    secured.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    send()
                    incoming.write(client.recv(65536))
            send()
            secured.write(b"hello")
            send()
            replay(client, sent[-1])

        def replay(client: socket.socket, *recorded: bytes) -> None:
            with suppress(ConnectionResetError, BrokenPipeError):
                for octets in recorded:
                    client.sendall(octets)
                while client.recv(65536):
                    pass

        def run(talk: Callable[..., None]) -> None:
            with tls_link.connect() as client:
                talk(client, *sent)

        for each in (talk, replay):
            await soon(deferToThread(run, each))
            await until(lambda: not listening.connections)
        assert [bytes(accepted.received) for accepted in tls_link.accepted] == [b"hello"]

    @ensureDeferred
    async def test_what_was_agreed(self, tls_link: Link) -> None:
        """Both ends know the protocol, and the server the name it was asked for and that no client certificate came."""
        tls_link.listen()

        def talk(client: Any) -> tuple[str, int]:
            return client.version(), len(client.session.id)

        version, _ = await tls_link.blocking(talk)
        assert version == "TLSv1.3"
        assert tls_link.accepted[0].transport.sni == "localhost"
        near, far = await tls_link.pair()
        assert near.transport.alpn == far.transport.alpn == "http/1.1"
        assert far.transport.getPeerCertificateDER() is None
        assert near.transport.getPeerCertificateDER() is not None

    @ensureDeferred
    async def test_a_refused_protocol(self, tls_link: Link) -> None:
        """A factory that makes none closes the connection."""
        tls_link.listen()
        assert tls_link.listening is not None
        tls_link.listening._factory = lambda _: None

        def talk(client: Any) -> bytes:
            return bytes(client.recv(100))

        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            await tls_link.blocking(talk)


class TestEnds:
    """A cut is not an end."""

    @ensureDeferred
    async def test_an_end_without_close_notify(self, tls_link: Link) -> None:
        """Whoever cuts the connection cannot make it look finished; what came before is delivered."""
        tls_link.listen(HalfRecorder)

        def talk(client: Any) -> None:
            client.sendall(b"half a message")
            client.shutdown(socket.SHUT_WR)  # below TLS

        await tls_link.blocking(talk)
        await until(lambda: tls_link.accepted[0].reason)
        assert tls_link.accepted[0].events == ["made", "lost"]
        assert tls_link.accepted[0].received == b"half a message"
        reason = tls_link.accepted[0].reason.value
        assert isinstance(reason, ConnectionLost)
        assert not isinstance(reason, ConnectionDone)

    @ensureDeferred
    async def test_a_forged_record(self, tls_link: Link) -> None:
        """Bytes slipped into the stream end it with the reason."""
        tls_link.listen()

        def talk(client: Any) -> None:
            client.sendall(b"true")
            socket.socket.send(client, b"\x17\x03\x03\x00\x20" + b"\0" * 32)
            socket.socket.recv(client, 1000)

        await tls_link.blocking(talk)
        assert isinstance(await tls_link.accepted[0].lost(), TlsFailed)

    @ensureDeferred
    async def test_we_answer_close_notify(self, tls_link: Link) -> None:
        """A client that closes properly gets a proper answer."""
        tls_link.listen()

        def talk(client: Any) -> str:
            client.unwrap()
            return "unwrapped"

        assert await tls_link.blocking(talk) == "unwrapped"
        assert isinstance(await tls_link.accepted[0].lost(), ConnectionDone)

    @ensureDeferred
    async def test_we_send_close_notify(self, tls_link: Link) -> None:
        """``loseConnection`` is a proper end for a strict client, also after megabytes that fill every buffer."""

        class Page(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(LARGE)
                self.transport.loseConnection()

        tls_link.listen(Page)

        def talk(client: Any) -> bytes:
            received = bytearray()
            while data := client.recv(65536):
                received += data
            return bytes(received)

        assert await tls_link.blocking(talk) == LARGE

    @ensureDeferred
    async def test_half_closing_with_input_waiting(self, tls_link: Link) -> None:
        """Data that waits in the kernel while our half ends is read afterwards."""
        near, far = await tls_link.pair(HalfRecorder, HalfRecorder)
        near.transport.pauseProducing()
        far.transport.write(LARGE)
        near.transport.loseWriteConnection()
        await until(lambda: "read lost" in far.events)
        near.transport.resumeProducing()
        assert await near.got(len(LARGE)) == LARGE

    @ensureDeferred
    async def test_close_notify_needs_room(self, tls_link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the kernel has no room for it, the end is sent later instead of never."""
        near, far = await tls_link.pair(HalfRecorder, HalfRecorder)
        plain = socket.socket.send
        refusals = [True, True]

        def send(self: socket.socket, data: bytes) -> int:
            if refusals and self.fileno() == near.transport.fileno():
                refusals.pop()
                raise BlockingIOError
            return plain(self, data)

        monkeypatch.setattr(transport.socket.socket, "send", send)
        near.transport.loseWriteConnection()
        await until(lambda: "read lost" in far.events)
        assert not refusals
        assert near.events == ["made", "write lost"]

    @ensureDeferred
    async def test_goodbye_needs_room(self, tls_link: Link) -> None:
        """So it is when both halves end."""
        near, far = await tls_link.pair()
        secured = near.transport._socket
        refusals = [True, True]
        plain = secured.unwrap

        def unwrap() -> Any:
            if refusals:
                refusals.pop()
                raise ssl.SSLWantWriteError
            return plain()

        secured.unwrap = unwrap
        near.transport.loseConnection()
        assert isinstance(await far.lost(), ConnectionDone)
        assert not refusals
        await near.lost()

    @ensureDeferred
    async def test_a_read_that_needs_room(self, tls_link: Link) -> None:
        """A read that has to answer first (a key update) goes on when the kernel has room."""
        near, far = await tls_link.pair()
        plain, refusals = near.transport._recv, [True]

        def recv(size: int) -> bytes:
            if refusals:
                refusals.pop()
                raise ssl.SSLWantWriteError
            return bytes(plain(size))

        near.transport._recv = recv
        far.transport.write(b"after the update")
        assert await near.got(16) == b"after the update"
        assert not refusals

    @ensureDeferred
    async def test_lone_records(self, tls_link: Link) -> None:
        """After a record that came alone the next few cost one read each; then it is asked again whether more came."""
        far, near = await tls_link.pair()
        plain, asked = near.transport._recv, []

        def recv(size: int) -> bytes:
            asked.append(size)
            return bytes(plain(size))

        near.transport._recv = recv
        reads = []
        for number in range(1, LONE_RECORDS + 3):
            far.transport.write(bytes(2 * SMALL_RECORD))
            await near.got(number * 2 * SMALL_RECORD)
            reads.append(len(asked))
            asked.clear()
        assert reads == [2, *[1] * LONE_RECORDS, 2]

    @ensureDeferred
    async def test_records_that_came_together(self, tls_link: Link) -> None:
        """Many records of every size, unread for a while, are all delivered."""
        far, near = await tls_link.pair()
        near.transport.pauseProducing()
        sent = b""
        for size in (1, SMALL_RECORD, 2 * SMALL_RECORD, RECORD_SIZE - 1, RECORD_SIZE, 100) * 3:
            far.transport.write(bytes([len(sent) % 251]) * size)
            sent += bytes([len(sent) % 251]) * size
        near.transport.resumeProducing()
        assert await near.got(len(sent)) == sent

    def test_the_record_alone(self) -> None:
        """``close_notify`` neither sends nor reads anything on the real socket."""
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            secured = ssl.create_default_context().wrap_socket(
                near, do_handshake_on_connect=False, server_hostname="localhost"
            )
            far.send(b"untouched")
            descriptor = secured.fileno()
            with pytest.raises((ValueError, ssl.SSLError)):
                close_notify(secured)  # no handshake, no record; but nothing happened to the socket
            assert secured.fileno() == descriptor
            assert socket.socket.recv(secured, 100) == b"untouched"
            secured.close()


@pytest.mark.skipif(OPENSSL is None, reason="no openssl program")
class TestOpenSSLClient:
    """The openssl program as a client."""

    async def _talk(self, link: Link, *words: bytes, options: list[str]) -> bytes:
        assert link.listening is not None
        assert OPENSSL is not None
        ca = link.directory / "ca.pem"
        ca.write_text(link.authority.pem)
        address = f"127.0.0.1:{link.listening.port}"
        command = [OPENSSL, "s_client", "-connect", address, "-CAfile", str(ca), "-servername", "localhost", *options]

        def run() -> bytes:
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as program:
                assert program.stdin is not None
                assert program.stdout is not None
                seen = b""
                for word in words:
                    program.stdin.write(word)
                    program.stdin.flush()
                    # It takes commands only as the first character of what it reads at once.
                    expected = b"KEYUPDATE" if word == b"K\n" else b"ANSWER"
                    while expected not in seen and (piece := program.stdout.read1(65536)):
                        seen += piece
                program.stdin.close()
                return seen + program.stdout.read()

        return await soon(deferToThread(run))

    @ensureDeferred
    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    async def test_versions(self, tls_link: Link, version: str) -> None:
        """TLS 1.2 and 1.3 are spoken, with forward secrecy and our certificate verified."""
        tls_link.listen(Answering)
        output = await self._talk(tls_link, b"answer\n", options=[version])
        assert b"ANSWER" in output
        assert b"Verify return code: 0 (ok)" in output
        assert b"GCM" in output or b"CHACHA20" in output
        assert b"Compression: NONE" in output
        await until(lambda: not tls_link.listening.connections)  # type: ignore[union-attr]

    @ensureDeferred
    async def test_outdated_versions(self, tls_link: Link) -> None:
        """TLS 1.1 is refused."""
        tls_link.listen(Answering)
        output = await self._talk(tls_link, b"answer\n", options=["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])
        assert b"ANSWER" not in output
        assert not tls_link.accepted

    @ensureDeferred
    async def test_renegotiation_is_refused(self, tls_link: Link) -> None:
        """D06: a TLS 1.2 client that wants a new handshake gets none, and no hold on us."""
        tls_link.listen(Answering)
        output = await self._talk(tls_link, b"R\n", options=["-tls1_2"])
        assert b"no renegotiation" in output.lower()
        await until(lambda: not tls_link.listening.connections)  # type: ignore[union-attr]

    @ensureDeferred
    async def test_early_data_is_not_offered(self, tls_link: Link) -> None:
        """C30: no ticket allows it."""
        tls_link.listen(Answering)
        output = await self._talk(tls_link, b"answer\n", options=["-tls1_3"])
        assert b"Max Early Data: 0" in output
        assert b"Early data was not sent" in output

    @ensureDeferred
    async def test_new_keys(self, tls_link: Link) -> None:
        """A key update that asks for one in return is answered, and data goes on."""
        tls_link.listen(Answering)
        output = await self._talk(tls_link, b"K\n", b"answer\n", options=["-tls1_3"])
        assert b"KEYUPDATE" in output
        assert b"ANSWER" in output
