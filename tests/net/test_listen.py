"""Accepting within limits, and when descriptors run out."""

from __future__ import annotations

import ipaddress
import os
import resource
import socket
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from appproxy.config.listening import ListenAddress
from appproxy.errors import ConfigError
from appproxy.net.listen import Limits, listen
from tests.net.kit import Link, Recorder, soon, turn, until


class TestLimits:
    """Whoever wants too much is closed; the others are served."""

    @ensureDeferred
    async def test_per_address(self, tcp_link: Link, logged: list[Any]) -> None:
        """D05: one client holds so many connections and no more; another is not concerned; closing makes room."""
        listening = tcp_link.listen(per_address=2)
        clients = [tcp_link.connect() for _ in range(4)]
        await until(lambda: listening.refused == 2)
        assert len(listening.connections) == 2
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.connect(("127.0.0.1", listening.port))
            await until(lambda: len(listening.connections) == 3)
        for client in clients:
            client.close()
        await until(lambda: not listening.connections)
        assert not listening._by_client
        await tcp_link.pair()
        assert [event["event"] for event in logged] == ["net.refused"]
        logged.clear()

    @ensureDeferred
    async def test_in_total(self, tcp_link: Link, logged: list[Any]) -> None:
        """All clients together hold no more than the total; exempt networks count there only."""
        listening = tcp_link.listen(total=3, per_address=1, exempt=(ipaddress.ip_network("127.0.0.0/8"),))
        clients = [tcp_link.connect() for _ in range(5)]
        await until(lambda: listening.refused == 2)
        assert len(listening.connections) == 3
        for client in clients:
            client.close()
        logged.clear()

    def test_ipv6_networks(self, tmp_path: Any) -> None:
        """A client has 64 bits of IPv6 addresses to choose from; they count as one."""
        from twisted.internet.address import IPv6Address

        listening = listen(reactor, ListenAddress(kind="unix", path=str(tmp_path / "s")), lambda _: Recorder())
        clients = {listening._client_of(IPv6Address("TCP", f"2001:db8::{n}", 1)) for n in (1, 2)}
        assert clients == {"2001:db8::/64"}
        listening.stop()


class TestExhaustion:
    """No descriptors left."""

    @ensureDeferred
    async def test_it_pauses_and_recovers(self, tcp_link: Link, logged: list[Any]) -> None:
        """D12: one line is logged, the processor rests, and waiting clients are served when there is room again."""
        listening = tcp_link.listen()
        clients = [tcp_link.connect() for _ in range(3)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            await until(lambda: logged)
            pauses = listening._pauses
            for _ in range(100):
                await turn()
            assert listening._pauses <= pauses + 1
            assert not listening.connections
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(lambda: len(listening.connections) == 3)
        assert listening._pauses == 0
        assert [event["event"] for event in logged] == ["net.exhausted"]
        logged.clear()
        for client in clients:
            client.close()

    @ensureDeferred
    async def test_stopping_while_paused(self, tcp_link: Link, logged: list[Any], monkeypatch: Any) -> None:
        """A listener that waits for descriptors can be stopped."""
        listening = tcp_link.listen()
        listening._exhausted(OSError(24, "Too many open files"))
        listening.stop()
        listening.stop()
        assert listening.stopped
        logged.clear()


class TestStopping:
    """Connections outlive the listener."""

    @ensureDeferred
    async def test_established_connections_go_on(self, link: Link) -> None:
        """After ``stop`` nobody new gets in, and who is in stays until aborted."""
        near, far = await link.pair()
        assert link.listening is not None
        link.listening.stop()
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            link.connect()
        near.transport.write(b"still here")
        assert await far.got(10) == b"still here"
        assert len(link.listening.connections) == 1
        link.listening.abort()
        await far.lost()
        assert not link.listening.connections

    @ensureDeferred
    async def test_many_at_once(self, tcp_link: Link) -> None:
        """More clients than one turn accepts all get in."""
        listening = tcp_link.listen(per_address=1000)
        clients = [tcp_link.connect() for _ in range(200)]
        await until(lambda: len(listening.connections) == 200)
        for client in clients:
            client.close()
        await until(lambda: not listening.connections)

    @ensureDeferred
    async def test_a_protocol_that_cannot_be_made(self, tcp_link: Link, logged: list[Any]) -> None:
        """A factory that fails costs one connection."""

        def fail() -> Any:
            raise ZeroDivisionError

        listening = tcp_link.listen(fail)
        with tcp_link.connect():
            await until(lambda: logged)
        await until(lambda: not listening.connections)
        assert logged[0]["log_failure"].type is ZeroDivisionError
        logged.clear()


def test_tls_without_certificates() -> None:
    """A ``tls:`` address is never served in the clear."""
    with pytest.raises(ConfigError, match=r"tls\.certificates"):
        listen(reactor, ListenAddress(kind="tls", host="127.0.0.1"), lambda _: Recorder(), limits=Limits())


@ensureDeferred
async def test_repr(tcp_link: Link) -> None:
    """States are visible."""
    near, _ = await tcp_link.pair()
    assert "OPEN" in repr(near.transport)
    assert "1 connections" in repr(tcp_link.listening)
    assert tcp_link.listening is not None
    await soon(turn())


ANYWHERE_HERE = (ipaddress.ip_network("127.0.0.0/8"),)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n"


class TestIntroductions:
    """The PROXY protocol in front of TLS and plain connections."""

    async def refusals(self, link: Link, count: int, logged: list[Any]) -> list[str]:
        """Wait for so many refusals; what the log said of them."""
        await until(lambda: link.listening is not None and link.listening.refused == count)
        said = [event["why"] for event in logged if event["event"] == "net.refused"]
        logged.clear()
        return said

    @pytest.mark.feature("HTTP-3")
    @ensureDeferred
    async def test_the_clients_address(self, tcp_link: Link) -> None:
        """The client that the balancer names is the peer; what follows the preface is delivered, and nothing of it."""
        tcp_link.listen(introduced_by=ANYWHERE_HERE)
        with tcp_link.connect() as client:
            for octet in LINE:
                client.send(bytes([octet]))
                await turn()
            client.send(b"hello")
            await until(lambda: tcp_link.accepted and tcp_link.accepted[0].received)
            [accepted] = tcp_link.accepted
            assert accepted.transport.getPeer().host == "192.0.2.7"
            assert accepted.received == b"hello"

    @pytest.mark.feature("HTTP-3")
    @ensureDeferred
    async def test_before_the_handshake(self, tls_link: Link) -> None:
        """The preface comes in the clear, then TLS begins."""
        tls_link.listen(introduced_by=ANYWHERE_HERE)
        await tls_link.blocking(lambda client: client.send(b"hello"), first=LINE)
        await until(lambda: tls_link.accepted and tls_link.accepted[0].received)
        assert tls_link.accepted[0].transport.getPeer().host == "192.0.2.7"

    @ensureDeferred
    async def test_the_limit_counts_clients(self, tcp_link: Link, logged: list[Any]) -> None:
        """The limit per address is for those behind the balancer, not for the balancer."""
        listening = tcp_link.listen(introduced_by=ANYWHERE_HERE, per_address=1, exempt=ANYWHERE_HERE)
        clients = [tcp_link.connect() for _ in range(4)]
        for client in clients[:2]:
            client.send(LINE)
        clients[2].send(LINE.replace(b".7 ", b".8 "))
        clients[3].send(b"PROXY UNKNOWN\r\n")
        await until(lambda: len(listening.connections) == 3)
        assert await self.refusals(tcp_link, 1, logged) == ["too many connections from 192.0.2.7"]
        for client in clients:
            client.close()
        await until(lambda: not listening.connections)
        assert not listening._by_client

    @ensureDeferred
    async def test_strangers(self, tcp_link: Link, logged: list[Any]) -> None:
        """N12: whoever is no trusted proxy is closed, whatever it says."""
        tcp_link.listen(introduced_by=(ipaddress.ip_network("192.0.2.0/24"),))
        with tcp_link.connect() as client:
            client.send(LINE)
            assert await self.refusals(tcp_link, 1, logged) == ["no trusted proxy at 127.0.0.1"]
        assert not tcp_link.accepted

    @ensureDeferred
    async def test_no_preface(self, tcp_link: Link, logged: list[Any]) -> None:
        """A trusted proxy that does not speak it is closed, and the log says so."""
        listening = tcp_link.listen(introduced_by=ANYWHERE_HERE)
        with tcp_link.connect() as client:
            client.send(b"GET / HTTP/1.1\r\n")
            assert await self.refusals(tcp_link, 1, logged) == ["PROXY protocol of 127.0.0.1: no PROXY protocol"]
        assert not listening.introductions
        assert not tcp_link.accepted

    @ensureDeferred
    async def test_slow_and_gone(self, tcp_link: Link, logged: list[Any]) -> None:
        """D05: a preface has a time limit; a balancer that merely goes away is not worth a line."""
        listening = tcp_link.listen(introduced_by=ANYWHERE_HERE, handshake_seconds=0.2)
        gone, slow = tcp_link.connect(), tcp_link.connect()
        await until(lambda: len(listening.introductions) == 2)
        gone.close()
        slow.send(LINE[:10])
        [said] = await self.refusals(tcp_link, 1, logged)
        assert said == "PROXY protocol of 127.0.0.1: did not end within 0.2 s"
        assert not listening.introductions
        slow.close()

    @ensureDeferred
    async def test_stopping(self, tcp_link: Link) -> None:
        """A connection that was not introduced ends with the listener, and counts in the total before."""
        listening = tcp_link.listen(introduced_by=ANYWHERE_HERE, total=1)
        with tcp_link.connect() as client:
            await until(lambda: listening.introductions)
            listening.stop()
            assert not listening.introductions
            assert await soon(deferToThread(client.recv, 10)) == b""
