"""Requests per second and CPU of the whole tunnel beside nginx as an https reverse proxy on the same origin.

``python -m tests.bench.bench_speed [--rounds 3] [--seconds 3] [--interpreted]``: 1 kB answers, 64 keep-alive
connections, TLS front, TLS channel, signed-in session, header single sign-on, access records at both ends.  What is
measured is what is deployed where it matters, the compiled package; it is built first unless it is there and current.
References are measured in turn in the same run; figures are medians; quote ratios only.  Needs nginx and wrk (Debian:
nginx-light, wrk).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import secrets
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

from appproxy.identity import Identity
from appproxy.store import sessions
from appproxy.store.interface import Database
from appproxy.store.records import SessionRecord
from tests import compiled
from tests.live.programs import Deployment, Program, free_ports, listens

CONNECTIONS = 64
APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "bench"
external_url = "https://bench.localhost:{port}/"
internal_url = "http://127.0.0.1:{origin}/"
connector_group = "hq"
assigned = {{ groups = ["staff"] }}
[application.sso]
mode = "header"
[[application.sso.header]]
name = "X-Remote-User"
value = "user"
[[application.sso.header]]
name = "X-Remote-Groups"
value = "groups"
"""
#: Sessions are checked on every request, but nobody signs in here: the provider is never asked.
PROVIDER = """
[[provider]]
id = "none"
issuer = "http://localhost:9"
client_id = "bench"
client_secret = "unused"
allow_http = true
"""
NGINX_ORIGIN = """
worker_processes 1; daemon off; pid {folder}/origin.pid; error_log {folder}/origin-error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{origin} backlog=4096; root {folder}/www; }} }}
"""
NGINX_PROXY = """
worker_processes 2; daemon off; pid {folder}/proxy.pid; error_log {folder}/proxy-error.log;
events {{ worker_connections 8192; }}
http {{ access_log {folder}/proxy-access.log; keepalive_requests 1000000000; client_body_temp_path {folder}/p1;
  proxy_temp_path {folder}/p2; fastcgi_temp_path {folder}/p3; uwsgi_temp_path {folder}/p4; scgi_temp_path {folder}/p5;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{proxy} ssl backlog=4096; ssl_certificate {folder}/proxy.pem;
    ssl_certificate_key {folder}/proxy.pem; client_max_body_size 0; proxy_buffering off; proxy_request_buffering off;
    location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; }} }} }}
"""
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/130.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Cache-Control": "max-age=0",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
    "Upgrade-Insecure-Requests": "1",
    "Priority": "u=0, i",
}


def signed_in(deployment: Deployment, host: str, application: str) -> str:
    """Put a session into the relay's store, as a sign-in would; returns its cookie."""
    handle = secrets.token_urlsafe(32)
    now = int(time.time())
    record = SessionRecord(
        handle_hash=hashlib.sha256(handle.encode()).digest(),
        host=host,
        application=application,
        provider="none",
        identity=Identity("https://idp.example", "s", "alice@example.com", ("staff", "proxy-users"), {"email": "a@x"}),
        created=now,
        last_seen=now,
        idle_seconds=3600,
        until=now + 3600,
    )
    db = sqlite3.connect(deployment.folder / "relay" / "relay.db", isolation_level=None, timeout=10)
    db.execute("BEGIN IMMEDIATE")
    sessions.create(cast(Database, db), record)
    db.execute("COMMIT")
    db.close()
    return f"__Host-appproxy-session={handle}"


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes and their children, from /proc."""
    total = 0
    for pid in pids:
        for each in [pid, *_children(pid)]:
            try:
                fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def wrk(url: str, host: str, cookie: str, seconds: float, connections: int = CONNECTIONS) -> tuple[float, float]:
    """Requests per second and p99 in ms; :raises AssertionError: there were errors."""
    headers = [
        part
        for name, value in {**BROWSER, "Cookie": cookie, "Host": host}.items()
        for part in ("-H", f"{name}: {value}")
    ]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", *headers, url]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    if "Non-2xx" in printed or "Socket errors" in printed:
        raise AssertionError(printed)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", printed)[1])  # type: ignore[index]
    amount, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", printed).groups()  # type: ignore[union-attr]
    return rate, float(amount) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


class SpeedBench:
    """nginx origin, nginx proxy, relay and connector, side by side."""

    def __init__(self, folder: Path) -> None:
        self.deployment = Deployment(folder, relay_more=PROVIDER)
        self.folder = folder
        self.origin_port, self.proxy_port = free_ports(2)
        self.host = f"bench.localhost:{self.deployment.clients_port}"
        self.cookie = ""

    def start(self) -> None:
        """Start everything and sign in."""
        folder, deployment = self.folder, self.deployment
        (folder / "www").mkdir()
        (folder / "www" / "1k").write_bytes(b"x" * 1024)
        (folder / "www" / "100m").write_bytes(os.urandom(1 << 20) * 100)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-keyout", "k.pem", "-out", "c.pem"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        (folder / "proxy.pem").write_bytes((folder / "k.pem").read_bytes() + (folder / "c.pem").read_bytes())
        values = {"folder": folder, "origin": self.origin_port, "proxy": self.proxy_port}
        self.nginx = []
        for name, text in (("origin", NGINX_ORIGIN), ("proxy", NGINX_PROXY)):
            config = deployment.write(f"{name}.conf", "user root;\n" * (os.getuid() == 0) + text.format(**values))
            program = deployment.add(Program(f"nginx-{name}", ["nginx", "-c", config], folder))
            program.wait_for(lambda port=values[name]: listens(port), "nginx listens")  # type: ignore[misc]
            self.nginx.append(program)
        relay = deployment.start_relay()
        deployment.apply(APPLICATIONS.format(port=deployment.clients_port, origin=self.origin_port))
        connector = deployment.start_connector()
        self.cookie = signed_in(deployment, "bench.localhost", "bench")
        self.tunnel = [relay.pid, connector.pid]

    def subjects(self) -> dict[str, tuple[str, str, list[int]]]:
        """What is measured: URL, host, processes."""
        return {
            "nginx": (f"https://127.0.0.1:{self.proxy_port}/1k", "localhost", [self.nginx[1].pid]),
            "appproxy": (f"https://127.0.0.1:{self.deployment.clients_port}/1k", self.host, self.tunnel),
        }

    def requests(
        self, rounds: int, seconds: float, connections: int = CONNECTIONS
    ) -> dict[str, tuple[float, float, float]]:
        """Per subject: medians of requests per second, CPU µs per request, p99 ms."""
        found: dict[str, list[tuple[float, float, float]]] = {}
        for turn in range(rounds + 1):
            for name, (url, host, pids) in self.subjects().items():
                before = cpu_seconds(pids)
                rate, p99 = wrk(url, host, self.cookie, seconds if turn else 1, connections)
                used = cpu_seconds(pids) - before
                if turn:  # the first is a warm-up
                    found.setdefault(name, []).append((rate, used / (rate * seconds) * 1e6, p99))
        return {
            name: cast(
                "tuple[float, float, float]", tuple(statistics.median(column) for column in zip(*rows, strict=True))
            )
            for name, rows in found.items()
        }

    def download(self, rounds: int) -> dict[str, float]:
        """Per subject: median CPU seconds of a 100 MB download."""
        found: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            for name, (url, host, pids) in self.subjects().items():
                before = cpu_seconds(pids)
                done = subprocess.run(
                    ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-H", f"Host: {host}",
                     "-H", f"Cookie: {self.cookie}", url.replace("/1k", "/100m")],
                    capture_output=True, text=True, timeout=120, check=True,
                )  # fmt: skip
                assert done.stdout == f"200 {100 << 20}", done.stdout
                if turn:
                    found.setdefault(name, []).append(cpu_seconds(pids) - before)
        return {name: statistics.median(each) for name, each in found.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--interpreted", action="store_true", help="measure what is not compiled")
    arguments = parser.parse_args()
    if missing := [name for name in ("nginx", "wrk", "curl", "openssl") if shutil.which(name) is None]:
        print(f"not measured: {', '.join(missing)} missing", file=sys.stderr)
        return 1
    print(f"relay and connector: {compiled.choose(arguments.interpreted)}")
    with tempfile.TemporaryDirectory(prefix="appproxy-bench-") as name:
        bench = SpeedBench(Path(name))
        with bench.deployment:
            bench.start()
            print(f"load average {os.getloadavg()[0]:.2f}")
            rows = bench.requests(arguments.rounds, arguments.seconds)
            for subject, (rate, cpu, p99) in rows.items():
                share = rate / rows["nginx"][0]
                print(f"{subject:10} {rate:8.0f} requests/s  {cpu:6.1f} µs CPU  p99 {p99:6.1f} ms  x nginx {share:.3f}")
            loads = bench.download(arguments.rounds)
            for subject, used in loads.items():
                print(f"{subject:10} 100 MB down {used * 1000:6.0f} ms CPU  x nginx {used / loads['nginx']:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
