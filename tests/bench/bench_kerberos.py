"""What Kerberos costs: tickets a second from a real KDC and from memory, and requests beside header single sign-on.

``python -m tests.bench.bench_kerberos [--seconds 4] [--interpreted]``.  Requests go to the same open pages of the same
origin with either method, so that only our own work differs, and then to pages where ``mod_auth_gssapi`` checks each
ticket.  Everything shares the machine: quote ratios.  Needs the packages of ``tests/live/kdc.py`` and wrk.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appproxy.demo import apache, kdc
from appproxy.sso.asking import OWN_CONFIG, Account, UserName, block_default_credentials
from tests import compiled
from tests.live.clients import FETCHES, Raw
from tests.live.domain import SESSION, Domain
from tests.live.kdc import CONNECTOR, ORIGIN_SPN, Lab

CONNECTIONS = 32
PUBLIC = """</Location>
Alias /public {folder}
<Location "/public">
    Require all granted
"""


def tickets(lab: Lab) -> None:
    """Without the proxy."""
    block_default_credentials(os.environ, [OWN_CONFIG, lab.realm.config])
    from appproxy.sso import _gss

    account = Account(f"{CONNECTOR}@CORP.EXAMPLE", str(lab.realm.folder / "connector.keytab"), "MEMORY:bench")
    alice, spn = UserName("alice@CORP.EXAMPLE", False), f"{ORIGIN_SPN}@CORP.EXAMPLE"
    ticket = _gss.obtain(account, alice, spn)

    def obtain(_: int) -> None:
        _gss.obtain(account, alice, spn).destroy()

    for threads in (1, 4):
        with ThreadPoolExecutor(threads) as pool:
            began = time.perf_counter()
            list(pool.map(obtain, range(400)))
            print(f"tickets from the KDC, {threads} threads: {400 / (time.perf_counter() - began):8.0f}/s")
    for spnego in (True, False):
        began = time.perf_counter()
        for _ in range(5000):
            ticket.begin(spnego, True, None)
        rate = 5000 / (time.perf_counter() - began)
        print(f"tokens from memory, {'spnego' if spnego else 'kerberos':8}:   {rate:8.0f}/s, {1e6 / rate:.0f} us each")


def requests(lab: Lab, folder: Path, seconds: float) -> None:
    """Through relay and connector."""
    public = lab.folder / "public"
    public.mkdir()
    (public / "index.html").write_text("x" * 1024)
    lab.start_origin(PUBLIC.format(folder=public))
    with Domain(folder, lab) as domain:
        header = '[[application.sso.header]]\nname = "X-User"\nvalue = "user"\n'
        plain = domain.application("header").partition("[application.sso]")[0]
        domain.start(domain.application("kerberos") + plain + '[application.sso]\nmode = "header"\n' + header)
        targets = [("header", "/public/"), ("kerberos", "/public/"), ("kerberos", "/user.shtml")]
        cookies = {}
        for name in ("header", "kerberos"):
            browser = domain.browser()
            browser.sign_in(domain.address(name, "/public/"), "alice", "wonderland")
            cookies[name] = browser.cookie(f"{name}.localhost", SESSION)
        rates: dict[tuple[str, str], list[float]] = {target: [] for target in targets}
        medians: dict[tuple[str, str], list[float]] = {target: [] for target in targets}
        for _ in range(3):
            for name, path in targets:
                rates[name, path].append(load(domain, name, path, cookies[name], seconds))
                medians[name, path].append(latency(domain, name, path, cookies[name]))
        for target in targets:
            rate, median = statistics.median(rates[target]), statistics.median(medians[target])
            print(f"{target[0]:9} {target[1]:12} {rate:7.0f} requests/s, p50 {median * 1000:6.3f} ms one at a time")
        ratio = statistics.median(rates[targets[1]]) / statistics.median(rates[targets[0]])
        added = statistics.median(medians[targets[1]]) - statistics.median(medians[targets[0]])
        print(f"kerberos beside header: {ratio:.2f} of the requests/s, {added * 1000:+.3f} ms at p50")


def load(domain: Domain, name: str, path: str, cookie: str, seconds: float) -> float:
    """Requests a second with wrk."""
    wrk = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds:g}s",
        "-H",
        f"Cookie: {SESSION}={cookie}",
        "-H",
        "Accept: */*",
    ]
    host = f"{name}.localhost:{domain.clients_port}"
    done = subprocess.run(
        [*wrk, "-H", f"Host: {host}", f"https://localhost:{domain.clients_port}{path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


def latency(domain: Domain, name: str, path: str, cookie: str, count: int = 400) -> float:
    """The median of requests one after the other on one connection."""
    fields = {"Host": f"{name}.localhost:{domain.clients_port}", "Cookie": f"{SESSION}={cookie}", **FETCHES}
    head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in fields.items()) + "\r\n"
    taken = []
    with Raw(domain.clients_port, domain.tls(), f"{name}.localhost") as raw:
        for _ in range(count):
            began = time.perf_counter()
            raw.send(head.encode())
            answer = raw.until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = re.search(rb"(?i)content-length: (\d+)", answer)
            while length and len(raw.received) < int(length[1]):
                raw.received += raw.socket.recv(65536)
            if length:
                raw.received = b""
            else:
                raw.until(b"0\r\n\r\n")
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Measure and print; says what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--interpreted", action="store_true", help="measure what is not compiled")
    arguments = parser.parse_args()
    absent = kdc.missing() + apache.missing() + ([] if shutil.which("wrk") else ["wrk"])
    if absent:
        print("skipped, not installed:", *absent)
        return
    try:
        import gssapi
        import krb5
    except ImportError as missing:
        print(f"skipped, the extra kerberos is not installed: {missing}")
        return
    del gssapi, krb5
    print(f"relay and connector: {compiled.choose(arguments.interpreted)}")
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        lab.start()
        tickets(lab)
        requests(lab, Path(folder), arguments.seconds)


if __name__ == "__main__":
    main()
