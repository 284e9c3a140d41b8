"""The Kerberos library against a real KDC: what it refuses, what it tells apart, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appproxy.sso.asking import OWN_CONFIG, Account, GssFailed, Number, Step, UserName
from appproxy.sso.causes import cause_of
from tests.live.kdc import CONNECTOR, ORIGIN_SPN, Lab, require
from tests.live.programs import ROOT

require()
pytestmark = pytest.mark.live

ALICE = UserName("alice@CORP.EXAMPLE", False)
SPN = f"{ORIGIN_SPN}@CORP.EXAMPLE"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A realm."""
    with Lab() as lab:
        lab.start()
        yield lab


@pytest.fixture
def library(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, in this process, with that realm's settings."""
    from appproxy.sso import _gss

    monkeypatch.setenv("KRB5_CONFIG", f"{OWN_CONFIG}:{lab.realm.config}")
    for name in ("KRB5CCNAME", "KRB5_CLIENT_KTNAME"):
        monkeypatch.setenv(name, "MEMORY:none" if name == "KRB5CCNAME" else "FILE:/nonexistent")
    monkeypatch.setenv("KRB5_KTNAME", str(lab.realm.folder / "origin.keytab"))
    return _gss


@pytest.fixture
def account(lab: Lab, request: pytest.FixtureRequest) -> Account:
    """The connector's, with a cache of the test's own."""
    keytab = str(lab.realm.folder / "connector.keytab")
    return Account(f"{CONNECTOR}@CORP.EXAMPLE", keytab, f"MEMORY:{request.node.name}")


class Service:
    """The other side: takes tokens as an origin does.

    :param binding: what it expects tokens to be bound to.
    """

    def __init__(self, binding: bytes | None = None) -> None:
        import gssapi
        from gssapi.raw import ChannelBindings

        bindings = None if binding is None else ChannelBindings(application_data=binding)
        self.context = gssapi.SecurityContext(usage="accept", channel_bindings=bindings)
        self.context.__DEFER_STEP_ERRORS__ = False

    def take(self, token: bytes) -> bytes:
        """Its reply."""
        reply: bytes = self.context.step(token)
        return reply


@pytest.mark.feature("SSO-2")
def test_proof(library: Any, account: Account) -> None:
    """B-K12: the service's reply proves it, once; one that is changed, or another request's, proves nothing."""
    ticket = library.obtain(account, ALICE, SPN)
    for spnego in (True, False):
        proof, other = (ticket.begin(spnego, True, None) for _ in range(2))
        service = Service()
        reply = service.take(proof.token)
        assert str(service.context.initiator_name) == "alice@CORP.EXAMPLE"
        changed = reply[:-3] + bytes([reply[-3] ^ 1]) + reply[-2:]
        for wrong in (changed, Service().take(other.token), b"", b"junk", reply[:20]):
            with pytest.raises(GssFailed) as caught:
                ticket.begin(spnego, True, None).check(wrong)
            assert caught.value.step is Step.REPLY
        proof.check(reply)


@pytest.mark.feature("SSO-2")
def test_binding(library: Any, account: Account) -> None:
    """A token for one TLS connection is refused on another, which has another certificate."""
    import gssapi

    ticket = library.obtain(account, ALICE, SPN)
    ours, others = b"tls-server-end-point:" + b"o" * 32, b"tls-server-end-point:" + b"x" * 32
    proof = ticket.begin(True, True, ours)
    proof.check(Service(ours).take(proof.token))
    with pytest.raises(gssapi.exceptions.BadChannelBindingsError):
        Service(others).take(ticket.begin(False, True, ours).token)


@pytest.mark.feature("SSO-4")
def test_a_ticket_alone(lab: Lab, library: Any, account: Account) -> None:
    """Tokens cost no question to the KDC: there is nothing in the ticket's cache that one could be asked with."""
    import krb5

    ticket = library.obtain(account, ALICE, SPN)
    context = krb5.init_context()
    servers = [
        krb5.unparse_name_flags(context, creds.server) for creds in krb5.cc_resolve(context, ticket._cache.encode())
    ]
    assert servers == [SPN.encode()]
    assert lab.kdc is not None
    lab.kdc.stop()
    try:
        assert len({ticket.begin(True, True, None).token for _ in range(50)}) == 50
    finally:
        lab.restart_kdc()
    ticket.destroy()
    with pytest.raises(krb5.Krb5Error):
        krb5.cc_get_principal(context, krb5.cc_resolve(context, ticket._cache.encode()))


@pytest.mark.feature("SSO-4")
def test_somebody_elses_cache(library: Any, account: Account, tmp_path: Path) -> None:
    """The connector's own ticket may come from a cache that something else keeps fresh; a stale one is named."""
    kept = Account(account.principal, "", f"FILE:{tmp_path / 'ccache'}")
    with pytest.raises(GssFailed) as caught:
        library.obtain(kept, ALICE, SPN)
    assert cause_of(caught.value).code == "kerberos-ccache-stale"
    library.initial(kept._replace(keytab=account.keytab))
    ticket = library.obtain(kept, ALICE, SPN)
    assert ticket.client == "alice@CORP.EXAMPLE"


def test_nothing_on_disk(library: Any, account: Account) -> None:
    """B-K9: tickets are in memory only."""
    before = {path.name for path in Path(tempfile.gettempdir()).glob("krb5*")}
    library.obtain(account, ALICE, SPN).destroy()
    assert {path.name for path in Path(tempfile.gettempdir()).glob("krb5*")} == before


def test_forwardable(lab: Lab, library: Any, account: Account) -> None:
    """B-K2, B-K3, B-K5: one answer of the KDC's, three causes, told apart by which ticket could be passed on."""
    plain = Account("svc-plain@CORP.EXAMPLE", str(lab.realm.folder / "plain.keytab"), "MEMORY:plain")
    cases = (
        (account, ALICE, "HTTP/other.corp.example@CORP.EXAMPLE", (True, True)),
        (account, UserName("sensitive@CORP.EXAMPLE", False), SPN, (True, False)),
        (plain, ALICE, SPN, (True, False)),
    )
    for own, user, spn, forwardable in cases:
        with pytest.raises(GssFailed) as caught:
            library.obtain(own, user, spn)
        assert (caught.value.step, caught.value.number) == (Step.DELEGATE, Number.BAD_OPTION)
        assert caught.value.forwardable == forwardable


WITHOUT = """
import os, sys
from pathlib import Path
from appproxy.sso.asking import *
weak = Path(sys.argv[3]); weak.write_text("[libdefaults]\\nforwardable = false\\n")
block_default_credentials(os.environ, [weak, Path(sys.argv[1])])
from appproxy.sso import _gss
try:
    _gss.obtain(Account("svc-connector@CORP.EXAMPLE", sys.argv[2], "MEMORY:x"),
                UserName("alice@CORP.EXAMPLE", False), "HTTP/origin.corp.example@CORP.EXAMPLE")
except GssFailed as failure:
    print(failure.step, failure.number, failure.forwardable)
"""


def test_krb5_conf_without_forwardable(lab: Lab, tmp_path: Path) -> None:
    """The connector's own ticket that cannot be passed on is told from the user's."""
    keytab = lab.realm.folder / "connector.keytab"
    command = [sys.executable, "-c", WITHOUT, str(lab.realm.config), str(keytab), str(tmp_path / "weak.conf")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.strip() == "delegate 13 (False, False)", done.stderr
