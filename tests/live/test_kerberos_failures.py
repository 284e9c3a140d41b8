"""Kerberos when the KDC, a clock or a key breaks: what is not broken goes on, and all of it mends by itself."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from tests.live.clients import FETCHES, Browser
from tests.live.domain import Domain
from tests.live.kdc import CONNECTOR, FAKETIME, ORIGIN_SPN, Lab, require
from tests.live.programs import Program, until

require()
pytestmark = pytest.mark.live

#: Short, so that what a silent KDC costs can be waited for.
SETTINGS = 'timeout = "2s"\n'
OPEN = """
[[application]]
id = "open"
external_url = "https://open.localhost:{port}/"
internal_url = "http://localhost:{origin}/public/"
connector_group = "hq"
preauthentication = "passthrough"
"""
PUBLIC = """</Location>
Alias /public {folder}
<Location "/public">
    Require all granted
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A realm of the test's own, whose origin has a folder for everybody too."""
    with Lab() as lab:
        lab.start()
        yield lab


@pytest.fixture
def domain(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    """A deployment with that origin behind Kerberos."""
    with Domain(tmp_path_factory.mktemp("domain"), lab, connector_more=SETTINGS) as domain:
        yield domain


def code(domain: Domain, browser: Browser) -> str:
    """What the application says: the user at the origin, or the cause."""
    answer = domain.fetch(browser)
    return answer.text.strip() if answer.status == 200 else str(answer.json()["code"])


@pytest.mark.feature("SSO-4", "SSO-5")
@pytest.mark.time_limit(120)
def test_kdc_down_and_frozen(lab: Lab, domain: Domain) -> None:
    """B-K10: without a KDC who has a ticket goes on, others hear why at once, and all of it mends by itself."""
    lab.start_origin()
    domain.start(domain.application())
    kdc = lab.kdc
    assert kdc is not None
    alice, _ = domain.signed_in("alice")
    bob, _ = domain.signed_in("disabled")
    assert code(domain, alice) == "alice@CORP.EXAMPLE"

    os.kill(kdc.pid, signal.SIGSTOP)
    try:
        bob, page = domain.signed_in("bob")
        assert page.status == 503
        began = time.monotonic()
        assert code(domain, bob) == "kerberos-kdc-silent"
        assert time.monotonic() - began < 1.5, "it was known to be silent"
        assert code(domain, alice) == "alice@CORP.EXAMPLE"
    finally:
        os.kill(kdc.pid, signal.SIGCONT)
    until("the KDC is asked again", lambda: code(domain, bob) == "bob@CORP.EXAMPLE", 40)

    kdc.stop()
    carol, page = domain.signed_in("carol.smith@contoso.example")
    assert page.status in (403, 503)
    until("it is known to be down", lambda: code(domain, carol) == "kerberos-kdc-unreachable", 20)
    assert code(domain, alice) == "alice@CORP.EXAMPLE"
    lab.restart_kdc()
    until("the KDC is found again", lambda: code(domain, carol) == "kerberos-user-unknown", 40)


@pytest.mark.feature("SSO-4")
@pytest.mark.time_limit(120)
def test_a_frozen_kdc_stops_nobody_else(lab: Lab, domain: Domain) -> None:
    """B-K10: while many wait for a KDC that never answers, another application's 99th percentile stays under twice."""
    public = lab.folder / "public"
    public.mkdir()
    (public / "index.html").write_text("for everybody\n")
    lab.start_origin(PUBLIC.format(folder=public))
    domain.start(domain.application() + OPEN.format(port=domain.clients_port, origin=lab.origin_port))
    kdc = lab.kdc
    assert kdc is not None
    waiting = [domain.signed_in(name)[0] for name in ("sensitive", "expired")]
    browser = domain.browser()

    def measure(count: int = 150) -> float:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            assert browser.ask(domain.address("open", "/index.html"), fields=FETCHES).status == 200
            taken.append(time.perf_counter() - began)
        return statistics.quantiles(taken, n=100)[98]

    measure(20)
    normal = measure()
    os.kill(kdc.pid, signal.SIGSTOP)
    stop = threading.Event()

    def press(who: Browser) -> None:
        while not stop.wait(0.05):
            domain.fetch(who)

    threads = [threading.Thread(target=press, args=(who,)) for who in waiting]
    try:
        for thread in threads:
            thread.start()
        frozen = measure()
    finally:
        stop.set()
        os.kill(kdc.pid, signal.SIGCONT)
        for thread in threads:
            thread.join()
    # The pressing clients share two cores with everything else; a stall would be seconds.
    assert frozen < max(2 * normal, normal + 0.03), (normal, frozen)


@pytest.mark.feature("SSO-2", "SSO-5")
@pytest.mark.time_limit(120)
def test_what_the_origin_refuses(lab: Lab, domain: Domain) -> None:
    """B-K11, B-K17: the origin's own reason is told; a key that it changed costs one fresh ticket and no error."""
    origin = lab.start_origin()
    domain.start(domain.application() + domain.application("raw", mechanism='"kerberos"'))
    alice, _ = domain.signed_in("alice")
    assert code(domain, alice) == "alice@CORP.EXAMPLE"

    origin.stop()
    shutil.copy(lab.realm.folder / "origin.keytab", lab.realm.folder / "stale.keytab")
    lab.realm.kadmin(f"cpw -randkey {ORIGIN_SPN}", f"ktadd -norandkey -k {lab.realm.folder}/fresh.keytab {ORIGIN_SPN}")
    origin = lab.start_origin(keytab="fresh.keytab")
    assert code(domain, alice) == "alice@CORP.EXAMPLE", "one fresh ticket"
    origin.stop()
    origin = lab.start_origin(keytab="stale.keytab")
    assert code(domain, alice) == "kerberos-origin-key"
    origin.stop()
    origin = lab.start_origin(keytab="other.keytab")
    assert code(domain, alice) == "kerberos-origin-name"
    assert domain.fetch(alice).values("WWW-Authenticate") == []
    if FAKETIME:
        origin.stop()
        origin = lab.start_origin(clock="+2h", keytab="fresh.keytab")
        assert code(domain, alice) == "kerberos-origin-clock"
    origin.stop()
    lab.start_origin(require="user bob@CORP.EXAMPLE", keytab="fresh.keytab")
    assert code(domain, alice) == "kerberos-origin-forbids"


@pytest.mark.feature("SSO-4", "SSO-5")
@pytest.mark.time_limit(120)
def test_the_connectors_own_account(lab: Lab, domain: Domain) -> None:
    """B-K17: a wrong keytab is named; the right one is taken without a restart, and a rotated key with it."""
    lab.start_origin()
    domain.start(domain.application())
    keytab = lab.realm.folder / "connector.keytab"

    def restart() -> Program:
        assert domain.connector is not None
        domain.connector.stop()
        return domain.start_connector()

    good = keytab.read_bytes()
    lab.realm.kadmin(f"cpw -randkey {CONNECTOR}")
    restart()
    alice, _ = domain.signed_in("alice")
    assert code(domain, alice) == "kerberos-connector-key"
    lab.realm.kadmin(f"ktadd -norandkey -k {keytab} {CONNECTOR}")
    until("the new key is taken", lambda: code(domain, alice) == "alice@CORP.EXAMPLE")
    lab.realm.kadmin(f"cpw -randkey {CONNECTOR}")
    bob, _ = domain.signed_in("bob")
    assert code(domain, bob) == "bob@CORP.EXAMPLE", "the ticket of the old key is good until it expires"
    for contents, cause in ((b"", "kerberos-keytab-broken"), (b"\x05\x02", "kerberos-keytab-other")):
        keytab.write_bytes(contents)
        restart()
        alice, _ = domain.signed_in("alice")
        assert code(domain, alice) == cause
    keytab.write_bytes(good)
    log = (domain.folder / "connector.log").read_text()
    assert "klist -kte" in log
