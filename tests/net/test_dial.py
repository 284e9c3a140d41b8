"""Dialling: names, addresses raced, and failures with names."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed

from appproxy.errors import Phase
from appproxy.net.dial import _alternating, dial, dial_path
from appproxy.net.failures import ConnectFailed, ConnectTimedOut, DnsFailed, TlsFailed
from appproxy.net.readiness import readiness_of
from appproxy.net.tls import client_tls
from tests.net.kit import Link, Recorder, soon, turn, until

#: Never answers (RFC 5737); what connects to it waits, or fails at once where there is no route.
NOWHERE = "192.0.2.1"


def closed_port() -> int:
    """Return the number of a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def silent() -> Any:
    """A listener whose queue is full, so that connecting to it hangs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        clients = []
        while True:
            client = socket.socket()
            client.settimeout(0.05)
            clients.append(client)
            try:
                client.connect(listening.getsockname())
            except TimeoutError:
                break
        yield listening.getsockname()[1]
        for client in clients:
            client.close()


class TestNames:
    """The name service is asked each time."""

    @ensureDeferred
    async def test_resolved_each_time(self, tcp_link: Link) -> None:
        """M07: a name that moves is followed; nothing is remembered for others."""
        port = tcp_link.listen().port
        asked: list[str] = []

        def resolve(host: str, asked_port: int) -> Any:
            asked.append(host)
            return succeed([(socket.AF_INET, ("127.0.0.1", asked_port))])

        for _ in range(2):
            made: Any = await soon(dial(reactor, "moving.example", port, lambda _: Recorder(), resolve=resolve))
            made.transport.abortConnection()
        assert asked == ["moving.example"] * 2

    @ensureDeferred
    async def test_the_system_knows_localhost(self, tcp_link: Link) -> None:
        """The system's resolver is the default; the address that does not answer is passed over."""
        made = await soon(dial(reactor, "localhost", tcp_link.listen().port, lambda _: Recorder()))
        assert made.transport.getPeer().host == "127.0.0.1"
        made.transport.abortConnection()

    @ensureDeferred
    @pytest.mark.parametrize("name", ["no-such-host.invalid", "a..b", "x" * 70 + ".example"])
    async def test_unknown(self, name: str) -> None:
        """A name without an address has its own failure and phase."""
        with pytest.raises(DnsFailed) as caught:
            await soon(dial(reactor, name, 80, lambda _: Recorder()))
        assert caught.value.phase is Phase.DNS
        assert name in caught.value.detail

    @ensureDeferred
    async def test_a_silent_name_service(self) -> None:
        """It is given the time that is left."""
        asking: Deferred[Any] = Deferred()
        with pytest.raises(DnsFailed, match="within"):
            await soon(dial(reactor, "a.example", 80, lambda _: Recorder(), timeout=0.02, resolve=lambda *_: asking))

    def test_families_alternate(self) -> None:
        """One family that is broken does not delay the other for long."""
        six, four = [(10, n) for n in "abc"], [(2, n) for n in "xy"]
        assert "".join(n for _, n in _alternating(six + four)) == "axbyc"


class TestRacing:
    """Several addresses."""

    @ensureDeferred
    async def test_a_dead_address_first(self, tcp_link: Link) -> None:
        """An address that refuses is passed over at once."""
        port = tcp_link.listen().port
        targets = [(socket.AF_INET, ("127.0.0.1", closed_port())), (socket.AF_INET, ("127.0.0.1", port))]
        made = await soon(dial(reactor, "x", port, lambda _: Recorder(), resolve=lambda *_: succeed(targets)))
        assert made.transport.getPeer().port == port
        made.transport.abortConnection()

    @ensureDeferred
    async def test_a_silent_address_first(self, tcp_link: Link, silent: int) -> None:
        """One that does not answer is raced by the next, and given up when that wins."""
        port = tcp_link.listen().port
        targets = [(socket.AF_INET, ("127.0.0.1", silent)), (socket.AF_INET, ("127.0.0.1", port))]
        made = await soon(dial(reactor, "x", port, lambda _: Recorder(), resolve=lambda *_: succeed(targets)))
        assert made.transport.getPeer().port == port
        made.transport.abortConnection()

    @ensureDeferred
    async def test_all_refuse(self) -> None:
        """Each address is named with its reason."""
        ports = [closed_port(), closed_port()]
        targets = [(socket.AF_INET, ("127.0.0.1", port)) for port in ports]
        with pytest.raises(ConnectFailed) as caught:
            await soon(dial(reactor, "x.example", 80, lambda _: Recorder(), resolve=lambda *_: succeed(targets)))
        assert caught.value.detail.count("refused") == 2
        assert caught.value.detail.startswith("x.example:80")


class TestGivingUp:
    """Time and cancellation."""

    @ensureDeferred
    async def test_nobody_answers(self, silent: int) -> None:
        """The connection has a deadline, and nothing stays behind."""
        with pytest.raises(ConnectTimedOut, match=r"within 0\.02 s"):
            await soon(dial(reactor, "127.0.0.1", silent, lambda _: Recorder(), timeout=0.02))
        assert not readiness_of(reactor)._watched

    @ensureDeferred
    async def test_nobody_shakes_hands(self, tcp_link: Link) -> None:
        """So has the handshake."""
        port = tcp_link.listen().port
        tls = client_tls()
        with pytest.raises(TlsFailed, match="handshake took longer"):
            await soon(dial(reactor, "127.0.0.1", port, lambda _: Recorder(), tls, timeout=0.02))
        await until(lambda: tcp_link.accepted[0].reason)

    @ensureDeferred
    async def test_no_tls_there(self, tcp_link: Link) -> None:
        """A plain port says so."""

        class Plain(Recorder):
            def connectionMade(self) -> None:
                self.transport.write(b"220 mail.example ready\r\n")

        port = tcp_link.listen(Plain).port
        with pytest.raises(TlsFailed, match="does not speak TLS"):
            await soon(dial(reactor, "127.0.0.1", port, lambda _: Recorder(), client_tls()))

    @ensureDeferred
    async def test_cancelled_while_connecting(self, silent: int) -> None:
        """Cancelling closes the sockets at once."""
        dialling = Deferred.fromCoroutine(dial(reactor, "127.0.0.1", silent, lambda _: Recorder()))
        assert readiness_of(reactor)._watched
        dialling.cancel()
        with pytest.raises(CancelledError):
            await soon(dialling)
        assert not readiness_of(reactor)._watched

    @ensureDeferred
    async def test_cancelled_while_shaking_hands(self, tcp_link: Link) -> None:
        """So it does later."""
        port = tcp_link.listen().port
        dialling = Deferred.fromCoroutine(dial(reactor, "127.0.0.1", port, lambda _: Recorder(), client_tls()))
        await until(lambda: tcp_link.accepted and tcp_link.accepted[0].received)
        dialling.cancel()
        with pytest.raises(CancelledError):
            await soon(dialling)
        await until(lambda: tcp_link.accepted[0].reason)
        await turn()

    @ensureDeferred
    async def test_no_unix_socket(self, tmp_path: Any) -> None:
        """A missing path is named."""
        with pytest.raises(ConnectFailed, match="missing"):
            await soon(dial_path(reactor, str(tmp_path / "missing"), lambda _: Recorder()))
