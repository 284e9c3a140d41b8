"""What HTTP/2 costs: the same requests through the whole tunnel by HTTP/1.1 and by HTTP/2.

``python -m tests.bench.bench_http2 [--rounds 3] [--requests 20000] [--interpreted]``: 1 kB answers to a browser's
requests with a session, TLS, 64 requests under way, CPU µs of relay and connector per request, medians of rounds in
turn; then 100 MB down and up.  Needs h2load, nginx and curl (Debian: nghttp2-client, nginx-light, curl).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import compiled
from tests.bench.bench_speed import BROWSER, SpeedBench, cpu_seconds

#: Name, options of h2load.
WAYS = {
    "HTTP/1.1, 64 connections": ["--h1", "-c64", "-m1"],
    "HTTP/2, 64 connections": ["-c64", "-m1"],
    "HTTP/2, 8 x 8 streams": ["-c8", "-m8"],
    "HTTP/2, 1 x 64 streams": ["-c1", "-m64"],
}


def load(bench: SpeedBench, options: list[str], requests: int) -> list[float]:
    """CPU µs per request of relay and connector; :raises AssertionError: a request failed."""
    fields = {**BROWSER, "Cookie": bench.cookie}
    headers = [part for name, value in fields.items() for part in ("-H", f"{name}: {value}")]
    before = [cpu_seconds([pid]) for pid in bench.tunnel]
    port = bench.deployment.clients_port
    printed = subprocess.run(
        ["h2load", f"--connect-to=127.0.0.1:{port}", f"-n{requests}", *options, *headers, f"https://{bench.host}/1k"],
        capture_output=True, text=True, timeout=300, check=True,
    ).stdout  # fmt: skip
    assert f"{requests} succeeded, 0 failed" in printed, printed
    assert f"{requests} 2xx" in printed, printed
    after = [cpu_seconds([pid]) for pid in bench.tunnel]
    return [(now - then) / requests * 1e6 for now, then in zip(after, before, strict=True)]


def bulk(bench: SpeedBench, version: str, *options: str) -> float:
    """CPU seconds of the tunnel for one transfer of 100 MB."""
    before = cpu_seconds(bench.tunnel)
    subprocess.run(
        ["curl", "-skf", version, "-o", "/dev/null", "-H", f"Cookie: {bench.cookie}", "--resolve",
         f"{bench.host}:127.0.0.1", *options, f"https://{bench.host}/100m"],
        timeout=120, check=True,
    )  # fmt: skip
    return cpu_seconds(bench.tunnel) - before


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--interpreted", action="store_true", help="measure what is not compiled")
    arguments = parser.parse_args()
    if missing := [name for name in ("nginx", "h2load", "curl", "openssl") if shutil.which(name) is None]:
        print(f"not measured: {', '.join(missing)} missing", file=sys.stderr)
        return 1
    print(f"relay and connector: {compiled.choose(arguments.interpreted)}")
    with tempfile.TemporaryDirectory(prefix="appproxy-bench-") as name:
        bench = SpeedBench(Path(name))
        bench.deployment.listen_more = "http2 = true"
        with bench.deployment:
            bench.start()
            print(f"load average {os.getloadavg()[0]:.2f}")
            found: dict[str, list[list[float]]] = {}
            for turn in range(arguments.rounds + 1):
                for way, options in WAYS.items():
                    measured = load(bench, options, arguments.requests if turn else 2000)
                    if turn:  # the first is a warm-up
                        found.setdefault(way, []).append(measured)
            for way, rows in found.items():
                relay, connector = (statistics.median(column) for column in zip(*rows, strict=True))
                print(f"{way:26} relay {relay:6.1f} µs CPU a request, connector {connector:6.1f}")
            for version in ("--http1.1", "--http2"):
                down = statistics.median(bulk(bench, version) for _ in range(arguments.rounds))
                print(f"{version[2:]:26} 100 MB down {down * 1000:5.0f} ms CPU of both")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
