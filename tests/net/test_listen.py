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
