"""What every transport promises, shown for TCP, TLS and Unix sockets over the real reactor."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.protocols.basic import FileSender

from appproxy.net import transport
from appproxy.net.transport import HIGH_WATER, SocketTransport
from tests.net.kit import HalfRecorder, Link, Recorder, soon, turn, until

LARGE = random.Random(5).randbytes(5_000_000)
FAR_TOO_MUCH = 32 * 1024 * 1024


class Echo(HalfRecorder):
    """Sends everything back, and holds its peer back when that does not read."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class SlowReader(Recorder):
    """Pauses after every read for a few turns."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.pauseProducing()
        reactor.callLater(0.0005 * random.random(), self.transport.resumeProducing)


class Pushing:
    """A producer that writes as long as it may."""

    def __init__(self, consumer: Any, chunk: bytes = b"p" * 16_000) -> None:
        self.consumer, self.chunk = consumer, chunk
        self.paused = self.stopped = False
        self.pauses = self.written = self.most = 0

    def push(self, limit: int = FAR_TOO_MUCH) -> None:
        while not self.paused and not self.stopped and self.written < limit:
            self.consumer.write(self.chunk)
            self.written += len(self.chunk)
            self.most = max(self.most, self.consumer.buffered)

    def pauseProducing(self) -> None:
        self.paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True


class TestBytes:
    """Everything arrives, once, in order."""

    @ensureDeferred
    async def test_random_slices_come_back_to_a_slow_reader(self, link: Link) -> None:
        """Five megabytes in slices of any size are echoed while the receiver keeps pausing."""
        near, _far = await link.pair(SlowReader, Echo)
        slices, start = random.Random(7), 0
        while start < len(LARGE):
            size = slices.choice([1, 100, 5_000, 70_000, 300_000])
            near.transport.write(LARGE[start : start + size])
            start += size
            if slices.random() < 0.1:
                await turn()
        assert await near.got(len(LARGE)) == LARGE

    @ensureDeferred
    async def test_both_directions_at_once(self, link: Link) -> None:
        """Both ends write megabytes before either reads."""
        near, far = await link.pair()
        near.transport.write(LARGE)
        far.transport.write(LARGE[::-1])
        assert await near.got(len(LARGE)) == LARGE[::-1]
        assert await far.got(len(LARGE)) == LARGE

    @ensureDeferred
    async def test_a_thousand_tiny_writes_in_one_turn(self, link: Link) -> None:
        """Nothing is lost or swapped between what is sent at once and what waits."""
        near, far = await link.pair()
        expected = b"".join(b"%d," % number for number in range(1000))
        for number in range(1000):
            near.transport.write(b"%d," % number)
        assert await far.got(len(expected)) == expected

    @ensureDeferred
    async def test_tiny_writes_behind_a_large_one(self, link: Link) -> None:
        """What waits is joined, and what was offered to TLS already is offered again unchanged."""
        near, far = await link.pair()
        near.transport.write(LARGE)
        assert near.transport.buffered
        rest = [b"%d," % number for number in range(1000)]
        for piece in rest[:500]:
            near.transport.write(piece)
        near.transport.writeSequence(rest[500:])
        expected = LARGE + b"".join(rest)
        assert await far.got(len(expected)) == expected

    @ensureDeferred
    async def test_a_write_is_sent_at_once(self, link: Link) -> None:
        """The bytes are in the kernel when ``write`` returns."""
        near, _far = await link.pair()
        near.transport.write(b"now")
        assert near.transport.buffered == 0

    @ensureDeferred
    async def test_a_buffer_that_changes_after_the_write(self, link: Link) -> None:
        """A bytearray may be used again by whoever wrote it."""
        near, far = await link.pair()
        mutable = bytearray(LARGE)
        near.transport.write(mutable)
        mutable[:] = b"\0" * len(mutable)
        assert await far.got(len(LARGE)) == LARGE

    @ensureDeferred
    async def test_the_standard_library_understands_us(self, link: Link) -> None:
        """A blocking client gets its megabytes back and a proper end."""
        link.listen(Echo)

        def talk(client: Any) -> bytes:
            received = bytearray()
            for start in range(0, 1_000_000, 50_000):
                client.sendall(LARGE[start : start + 50_000])
                while len(received) < start + 50_000:
                    received += client.recv(65536)
            return bytes(received)

        assert await link.blocking(talk) == LARGE[:1_000_000]


class TestHoldingBack:
    """Nothing grows without bound."""

    @ensureDeferred
    async def test_a_push_producer_is_paused_and_resumed(self, link: Link) -> None:
        """C: what waits stays near the high-water mark while the peer does not read, and goes on when it does."""
        near, far = await link.pair()
        far.transport.pauseProducing()
        producer = Pushing(near.transport)
        near.transport.registerProducer(producer, True)
        producer.push()
        assert producer.paused
        assert producer.most <= HIGH_WATER + len(producer.chunk)
        far.transport.resumeProducing()
        await until(lambda: not producer.paused)
        assert len(await far.got(producer.written - HIGH_WATER)) <= producer.written
        near.transport.unregisterProducer()

    @ensureDeferred
    async def test_a_pull_producer_is_pulled(self, link: Link, tmp_path: Any) -> None:
        """Twisted's FileSender works, and is asked no faster than the peer reads."""
        near, far = await link.pair(far=SlowReader)
        (tmp_path / "large").write_bytes(LARGE)
        with (tmp_path / "large").open("rb") as file:
            await soon(FileSender().beginFileTransfer(file, near.transport))
        assert await far.got(len(LARGE)) == LARGE

    @ensureDeferred
    async def test_closing_waits_for_the_producer(self, link: Link) -> None:
        """``loseConnection`` with a producer registered ends when that is done."""
        near, far = await link.pair()
        producer = Pushing(near.transport)
        near.transport.registerProducer(producer, True)
        near.transport.loseConnection()
        near.transport.write(b"last words")
        near.transport.unregisterProducer()
        assert isinstance(await far.lost(), ConnectionDone)
        assert far.received == b"last words"
        await near.lost()

    @ensureDeferred
    async def test_one_producer_at_a_time(self, tcp_link: Link) -> None:
        """A second one is a mistake; one for a closed transport is stopped."""
        near, _far = await tcp_link.pair()
        near.transport.registerProducer(Pushing(near.transport), True)
        with pytest.raises(RuntimeError):
            near.transport.registerProducer(Pushing(near.transport), True)
        near.transport.abortConnection()
        await near.lost()
        late = Pushing(near.transport)
        near.transport.registerProducer(late, True)
        assert late.stopped

    @ensureDeferred
    async def test_the_producer_of_a_lost_connection_is_stopped(self, link: Link) -> None:
        """Whoever feeds a connection learns of its end."""
        near, far = await link.pair()
        producer = Pushing(near.transport)
        near.transport.registerProducer(producer, True)
        far.transport.abortConnection()
        await near.lost()
        assert producer.stopped

    @ensureDeferred
    async def test_a_paused_reader_gets_nothing(self, link: Link) -> None:
        """Pausing holds at once, even for what has arrived already; resuming delivers it."""
        near, far = await link.pair()
        far.transport.pauseProducing()
        near.transport.write(b"waiting")
        for _ in range(5):
            await turn()
        assert not far.received
        far.transport.resumeProducing()
        assert await far.got(7) == b"waiting"


class TestHalves:
    """The two directions end separately."""

    @ensureDeferred
    async def test_our_half_first(self, link: Link) -> None:
        """After ``loseWriteConnection`` the peer knows, and can still send, and what it had sent is not lost."""
        near, far = await link.pair(HalfRecorder, HalfRecorder)
        far.transport.write(b"sent before ")
        near.transport.write(b"question")
        near.transport.loseWriteConnection()
        await until(lambda: "read lost" in far.events)
        assert far.received == b"question"
        far.transport.write(b"answer")
        assert await near.got(18) == b"sent before answer"
        far.transport.loseWriteConnection()
        assert isinstance(await near.lost(), ConnectionDone)
        assert isinstance(await far.lost(), ConnectionDone)
        assert near.events == ["made", "write lost", "read lost", "lost"]
        assert far.events == ["made", "read lost", "write lost", "lost"]

    @ensureDeferred
    async def test_megabytes_before_the_end(self, link: Link) -> None:
        """The half ends after what waits, and the other direction carries megabytes afterwards."""
        near, far = await link.pair(HalfRecorder, HalfRecorder)
        near.transport.write(LARGE)
        near.transport.loseWriteConnection()
        near.transport.write(b"too late")
        await until(lambda: "read lost" in far.events)
        assert far.received == LARGE
        far.transport.write(LARGE)
        far.transport.loseConnection()
        assert await near.got(len(LARGE)) == LARGE
        near.transport.loseConnection()
        await near.lost()
        await far.lost()

    @ensureDeferred
    async def test_others_are_closed(self, link: Link) -> None:
        """A protocol that does not know half-closing is told that the connection is done."""
        near, far = await link.pair(HalfRecorder, Recorder)
        near.transport.loseWriteConnection()
        assert isinstance(await far.lost(), ConnectionDone)
        assert isinstance(await near.lost(), ConnectionDone)


class TestEnding:
    """Polite and impolite ends."""

    @ensureDeferred
    async def test_losing_flushes(self, link: Link) -> None:
        """Megabytes written before ``loseConnection`` arrive at a slow reader; later writes do not."""
        near, far = await link.pair(far=SlowReader)
        near.transport.write(LARGE)
        near.transport.loseConnection()
        near.transport.write(b"too late")
        assert isinstance(await far.lost(), ConnectionDone)
        assert far.received == LARGE
        assert isinstance(await near.lost(), ConnectionDone)
        near.transport.write(b"much too late")
        near.transport.loseConnection()
        near.transport.abortConnection()
        assert near.events == ["made", "lost"]

    @ensureDeferred
    async def test_an_early_answer_survives_an_upload(self, link: Link) -> None:
        """A peer that is still sending when we close gets our answer, not a reset."""
        link.listen(Recorder)

        def talk(client: Any) -> bytes:
            client.sendall(b"upload begins")
            first = client.recv(100)
            for _ in range(20):
                client.sendall(b"more of it" * 1000)
            return bytes(first + client.recv(100))

        answering = link.blocking(talk)
        await until(lambda: link.accepted and link.accepted[0].received)
        link.accepted[0].transport.write(b"too large")
        link.accepted[0].transport.loseConnection()
        assert await answering == b"too large"

    @ensureDeferred
    async def test_aborting_drops_what_waits(self, link: Link) -> None:
        """``abortConnection`` is immediate, is told in a later turn, and is no proper end for the peer."""
        near, far = await link.pair()
        far.transport.pauseProducing()
        near.transport.write(LARGE)
        near.transport.abortConnection()
        assert near.events == ["made"]
        assert isinstance(await near.lost(), ConnectionAborted)
        far.transport.resumeProducing()
        reason = await far.lost()
        assert isinstance(reason, ConnectionDone if link.kind == "unix" else ConnectionLost)
        assert len(far.received) < len(LARGE)

    @ensureDeferred
    async def test_a_peer_that_never_reads(self, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
        """D03: a closing connection is aborted when its peer takes nothing."""
        near, far = await link.pair()
        monkeypatch.setattr(transport, "FLUSH_SECONDS", 0.02)
        far.transport.pauseProducing()
        near.transport.write(LARGE)
        near.transport.loseConnection()
        assert isinstance(await near.lost(), ConnectionAborted)

    @ensureDeferred
    async def test_a_peer_that_reads_slowly(self, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
        """Flushing may take many times its seconds as long as enough leaves in each."""
        monkeypatch.setattr(transport, "FLUSH_SECONDS", 0.01)
        monkeypatch.setattr(transport, "FLUSH_BYTES", 1)
        near, far = await link.pair(far=SlowReader)
        near.transport.write(LARGE)
        near.transport.loseConnection()
        await far.lost()
        assert far.received == LARGE

    @ensureDeferred
    async def test_a_slow_producer_is_waited_for(self, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
        """The deadline is for the peer, not for whoever still has something to send."""
        monkeypatch.setattr(transport, "FLUSH_SECONDS", 0.005)
        near, far = await link.pair()
        near.transport.registerProducer(Pushing(near.transport), True)
        near.transport.loseConnection()
        first = near.transport._timer
        await until(lambda: near.transport._timer is not first)
        near.transport.write(b"at last")
        near.transport.unregisterProducer()
        await far.lost()
        assert far.received == b"at last"

    @ensureDeferred
    async def test_a_reset_while_reading_is_paused(self, link: Link) -> None:
        """Whoever still writes to a peer that is gone is told, paused or not."""
        near, far = await link.pair()
        near.transport.pauseProducing()
        near.transport.write(LARGE)
        far.transport.abortConnection()
        await near.lost()
        assert near.events == ["made", "lost"]

    @ensureDeferred
    async def test_the_last_words_of_a_peer_that_is_gone(self, link: Link) -> None:
        """A failing send does not throw away what has arrived before."""
        near, far = await link.pair()
        far.transport.write(b"413 Content Too Large")
        far.transport.loseConnection()
        near.transport._send_failed(BrokenPipeError("as if the kernel had said so"))
        near.transport.write(b"ignored")
        reason = await near.lost()
        assert isinstance(reason, ConnectionLost)
        assert near.received == b"413 Content Too Large"

    @ensureDeferred
    async def test_a_failing_send_while_closing(self, link: Link) -> None:
        """Closing a connection that has failed is immediate."""
        near, _far = await link.pair()
        near.transport._send_failed(BrokenPipeError("as if the kernel had said so"))
        near.transport.loseConnection()
        assert isinstance(await near.lost(), ConnectionLost)

    @ensureDeferred
    async def test_a_peer_that_never_closes(self, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lingering has an end, and flushing with progress has not."""
        monkeypatch.setattr(transport, "LINGER_SECONDS", 0.02)
        near, far = await link.pair(far=HalfRecorder)
        near.transport.loseConnection()
        assert isinstance(await near.lost(), ConnectionDone)
        await until(lambda: "read lost" in far.events)

    @ensureDeferred
    async def test_a_peer_that_goes_on_sending(self, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
        """It has longer to read what was said last, but not for ever."""
        monkeypatch.setattr(transport, "LINGER_SECONDS", 0.05)
        monkeypatch.setattr(transport, "LINGER_LONGEST", 0.3)
        near, far = await link.pair(far=HalfRecorder)
        began = near.transport._reactor.seconds()
        near.transport.write(b"413")
        near.transport.loseConnection()

        def lost() -> bool:
            far.transport.write(b"more")
            return "lost" in near.events

        await until(lost)
        assert 0.3 <= near.transport._reactor.seconds() - began < 3
        assert far.received == b"413"

    @ensureDeferred
    async def test_writing_to_a_peer_that_is_gone(self, link: Link) -> None:
        """The end is told once, and what the peer said before it went is still delivered."""
        near, far = await link.pair()
        far.transport.write(b"goodbye")
        far.transport.abortConnection()
        near.transport.write(LARGE)
        await near.lost()
        assert near.events == ["made", "lost"]

    @ensureDeferred
    async def test_a_failing_protocol(self, link: Link, logged: list[Any]) -> None:
        """An exception in a protocol is logged and costs its own connection only."""

        class Failing(Recorder):
            def dataReceived(self, data: bytes) -> None:
                if data == b"fail":
                    raise ZeroDivisionError
                super().dataReceived(data)

        near, far = await link.pair(far=Failing)
        other_near, other_far = await link.pair()
        near.transport.write(b"fail")
        await near.lost()
        assert isinstance(await far.lost(), ConnectionAborted)
        other_near.transport.write(b"fine")
        assert await other_far.got(4) == b"fine"
        assert [event["log_failure"].type for event in logged] == [ZeroDivisionError]
        logged.clear()

    @ensureDeferred
    async def test_a_protocol_that_fails_at_both_ends(self, tcp_link: Link, logged: list[Any]) -> None:
        """So it is in ``connectionMade`` and in ``connectionLost``."""

        class Failing(Recorder):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

            def connectionLost(self, reason: object) -> None:
                raise KeyError

        tcp_link.listen(Failing)
        with tcp_link.connect():
            await until(lambda: len(logged) == 2)
        assert [event["log_failure"].type for event in logged] == [ZeroDivisionError, KeyError]
        assert tcp_link.listening is not None
        assert not tcp_link.listening.connections
        logged.clear()


class TestQuestions:
    """What protocols ask their transport."""

    @ensureDeferred
    async def test_addresses(self, link: Link) -> None:
        """Each end knows both addresses."""
        near, far = await link.pair()
        assert near.transport.getPeer() == far.transport.getHost()
        if link.kind != "unix":
            assert far.transport.getPeer() == near.transport.getHost()
        assert link.kind in ("tcp", "tls") or near.transport.getPeer().name == link.path.encode()
        assert near.transport.secure == (link.kind == "tls")

    @ensureDeferred
    async def test_socket_options(self, link: Link) -> None:
        """Small writes are not delayed and silence is watched, without anybody asking; Unix sockets ignore it."""
        near, _far = await link.pair()
        if link.kind != "unix":
            assert near.transport.getTcpNoDelay()
            assert near.transport.getTcpKeepAlive()
        near.transport.setTcpNoDelay(False)
        near.transport.setTcpKeepAlive(False)
        if link.kind != "unix":
            assert not near.transport.getTcpNoDelay()
            assert not near.transport.getTcpKeepAlive()

    def test_interfaces(self) -> None:
        """It says what it is."""
        for interface in (ITCPTransport, IConsumer, IPushProducer):
            assert interface.implementedBy(SocketTransport)

    @ensureDeferred
    async def test_an_ipv4_client_of_an_ipv6_socket(self) -> None:
        """Lists of allowed networks see the address that the client has."""
        from appproxy.net.sockets import address_of

        assert address_of(socket.AF_INET6, ("::ffff:192.0.2.1", 5, 0, 0)).host == "192.0.2.1"
        assert address_of(socket.AF_INET6, ("2001:db8::1", 5, 0, 0)).host == "2001:db8::1"
