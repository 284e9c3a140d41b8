"""Echo round trips over 64 connections: our transports against Twisted's own, in CPU time of the serving process.

Run it as ``python -m tests.bench.bench_net [seconds] [size]``.  The client is a process of its own, one epoll loop
over plain sockets, that always has one message on its way per connection.  What is printed is the server's CPU time
per round trip (user and system), the median of the rounds; the variants take turns, after one warm-up each.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fakes.certificates import Authority

CONNECTIONS = 64
ROUNDS = 3
VARIANTS = ("ours-tcp", "twisted-tcp", "ours-tls", "twisted-tls")


def serve(variant: str, directory: Path) -> None:
    """Echo on a free port, which is printed, until killed."""
    from twisted.internet import epollreactor
    from twisted.internet import ssl as twisted_ssl

    epollreactor.install()
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    from appproxy.config.listening import ListenAddress
    from appproxy.net.certificates import Certificates
    from appproxy.net.listen import listen

    class Echo(Protocol):
        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)

        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

    if variant.startswith("ours"):
        kind = "tls" if variant.endswith("tls") else "tcp"
        certificates = Certificates(directory, reactor)
        port = listen(reactor, ListenAddress(kind=kind, host="127.0.0.1"), lambda _: Echo(), certificates).port
    elif variant.endswith("tls"):
        pem = str(directory / "default.pem")
        context = twisted_ssl.DefaultOpenSSLContextFactory(pem, pem)
        port = reactor.listenSSL(0, Factory.forProtocol(Echo), context, interface="127.0.0.1").getHost().port
    else:
        port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1").getHost().port
    print(port, flush=True)
    reactor.run()


def drive(port: int, secure: bool, seconds: float, message: bytes, cpu: Callable[[], float]) -> float:
    """Return the server's CPU microseconds per round trip over *seconds*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sockets: dict[int, socket.socket] = {}
    poll = select.epoll()
    for _ in range(CONNECTIONS):
        connected = socket.create_connection(("127.0.0.1", port))
        if secure:
            connected = context.wrap_socket(connected)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setblocking(False)
        sockets[connected.fileno()] = connected
        poll.register(connected.fileno(), select.EPOLLIN)
        connected.send(message)
    missing = dict.fromkeys(sockets, len(message))
    trips, began, end = 0, cpu(), time.monotonic() + seconds
    while time.monotonic() < end:
        for descriptor, _ in poll.poll():
            connected = sockets[descriptor]
            try:
                missing[descriptor] -= len(connected.recv(65536))
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            if not missing[descriptor]:
                missing[descriptor] = len(message)
                connected.send(message)
                trips += 1
    used = cpu() - began
    for connected in sockets.values():
        connected.close()
    return used / trips * 1e6


def _cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure all variants in turns."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    message = b"x" * (int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    figures: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        Authority().write(Path(name) / "default.pem", "localhost")
        servers = {}
        for variant in VARIANTS:
            command = [sys.executable, "-m", "tests.bench.bench_net", "--serve", variant, name]
            servers[variant] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            for turn in range(ROUNDS + 1):
                for variant, server in servers.items():
                    if turn == 0:
                        assert server.stdout is not None
                        ports = figures.setdefault("ports", [])
                        ports.append(float(server.stdout.readline()))
                    port = int(figures["ports"][VARIANTS.index(variant)])
                    length = seconds if turn else seconds / 4
                    used = drive(port, variant.endswith("tls"), length, message, lambda pid=server.pid: _cpu_of(pid))
                    if turn:
                        figures[variant].append(used)
        finally:
            for server in servers.values():
                server.send_signal(signal.SIGKILL)
                server.wait()
    print(f"load {os.getloadavg()[0]:.2f}, {CONNECTIONS} connections, {len(message)} bytes, CPU µs of the server")
    for variant in VARIANTS:
        print(f"{variant:12} {statistics.median(figures[variant]):6.1f}   {[round(f, 1) for f in figures[variant]]}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
