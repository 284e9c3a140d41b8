"""Kerberos as Active Directory has it (Samba's domain controller): user principal names, sensitive users, RC4."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.live.domain import Domain
from tests.live.programs import BIN, own_environment
from tests.live.samba import DirectoryLab, require

require()
pytestmark = [pytest.mark.live, pytest.mark.time_limit(120)]

USERS: dict[str, dict[str, str]] = {
    "alice@corp.example": {"onpremisessamaccountname": "alice"},
    "bob@corp.example": {"onpremisessamaccountname": "bob"},
    "carol.smith@contoso.example": {"onpremisessamaccountname": "carol"},
    "sensitive@corp.example": {},
    "disabled@corp.example": {},
    "nobody-knows@corp.example": {},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[DirectoryLab]:
    """A realm and an origin in it."""
    with DirectoryLab() as lab:
        lab.start()
        lab.start_origin()
        yield lab


@pytest.fixture(scope="module")
def domain(lab: DirectoryLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    """A deployment with users by their principal names."""
    with Domain(tmp_path_factory.mktemp("domain"), lab, users=USERS) as domain:
        domain.start(
            domain.application(identity='"userPrincipalName"')
            + domain.application("sam", identity='"onPremisesSAMAccountName"')
            + domain.application("part")
            + domain.application("raw", mechanism='"kerberos"', mutual='"required"')
            + domain.application("weak", spn='"HTTP/weak.corp.example"')
            + domain.application("elsewhere", spn='"HTTP/other.corp.example"')
            + domain.application("nowhere", spn='"HTTP/no-such.corp.example"')
        )
        yield domain


@pytest.mark.feature("SSO-2", "SSO-3", "SCN-1")
def test_names(domain: Domain) -> None:
    """Implicit and explicit user principal names, with any suffix, and SAM names reach the origin as the account."""
    for user, shown, sam in (
        ("alice@corp.example", "alice\\@corp.example@CORP.EXAMPLE", "alice@CORP.EXAMPLE"),
        ("bob@corp.example", "bob\\@corp.example@CORP.EXAMPLE", "bob@CORP.EXAMPLE"),
        ("carol.smith@contoso.example", "carol.smith\\@contoso.example@CORP.EXAMPLE", "carol@CORP.EXAMPLE"),
    ):
        browser, page = domain.signed_in(user)
        assert (page.status, page.text.strip()) == (200, shown)
        assert domain.fetch(browser, "sam").text.strip() == sam
    browser, page = domain.signed_in("alice@corp.example", "raw")
    assert (page.status, page.text.strip()) == (200, "alice@CORP.EXAMPLE")


@pytest.mark.feature("SSO-5")
def test_named_causes(domain: Domain) -> None:
    """B-K2, B-K3, B-K7: what the directory refuses, each by its name, and nobody as somebody else."""
    for user, cause in (
        ("sensitive@corp.example", "kerberos-no-transition"),
        ("disabled@corp.example", "kerberos-user-disabled"),
        ("nobody-knows@corp.example", "kerberos-user-unknown"),
    ):
        browser, page = domain.signed_in(user)
        assert page.status == 403
        assert domain.fetch(browser).json()["code"] == cause
    browser, _ = domain.signed_in("alice@corp.example", "part")
    for application, cause in (
        ("elsewhere", "kerberos-not-delegated"),
        ("nowhere", "kerberos-spn-unknown"),
        ("weak", "kerberos-weak-ticket"),
    ):
        told = domain.fetch(browser, application)
        assert (told.status, told.json()["code"]) == (502, cause), application


@pytest.mark.feature("SSO-5")
def test_accounts_that_lack_something(
    lab: DirectoryLab, domain: Domain, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without "any authentication protocol", or without a service principal name, the doctor says which."""
    folder = tmp_path_factory.mktemp("doctor")
    applications = domain.folder / "applications.toml"
    for account, keytab, check, says in (
        ("svc-plain", "plain.keytab", "part: delegated", "any authentication protocol"),
        ("svc-nameless", "nameless.keytab", "part: as the user", "has no service principal name"),
    ):
        relay = '[connector]\nrelays = ["https://connect.example.com"]\nstate_dir = "state"\n'
        (folder / "connector.toml").write_text(relay + lab.connector_settings(account, keytab))
        done = subprocess.run(
            [
                BIN / "appproxy", "connector", "doctor", "--config", "connector.toml", "--output", "json",
                "--applications", applications, "--application", "part", "--user", "alice",
            ],
            cwd=folder,
            env=own_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )  # fmt: skip
        findings = {each["check"]: each for each in json.loads(done.stdout)}
        assert says in findings[check]["found"], findings
