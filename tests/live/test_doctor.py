"""``appproxy connector doctor`` in a realm: what it finds, what it says to do, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.kdc import ORIGIN_SPN, Lab, require
from tests.live.programs import BIN, own_environment

require()
pytestmark = [pytest.mark.live, pytest.mark.feature("CON-9")]

APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "{id}"
external_url = "https://{id}.example.com/"
internal_url = "http://localhost:{port}/user.shtml/"
connector_group = "hq"
[application.sso]
mode = "kerberos"
spn = "{spn}"
identity = "userPrincipalUsername"
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A realm and an origin in it."""
    with Lab() as lab:
        lab.start()
        lab.start_origin()
        yield lab


class Patient:
    """The settings of a connector, and what the doctor says of them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder

    def examine(self, kerberos: str, *arguments: str, spn: str = ORIGIN_SPN) -> tuple[int, dict[str, dict[str, Any]]]:
        """Exit code, and findings by what was checked."""
        relay = '[connector]\nrelays = ["https://connect.example.com"]\nstate_dir = "state"\n'
        (self.folder / "connector.toml").write_text(relay + kerberos)
        apply_file = APPLICATIONS.format(id="hr", port=self.lab.origin_port, spn=spn)
        (self.folder / "applications.toml").write_text(apply_file)
        command = [str(BIN / "appproxy"), "connector", "doctor", "--config", "connector.toml", "--output", "json"]
        done = subprocess.run(
            [*command, "--applications", "applications.toml", *arguments],
            cwd=self.folder,
            env=own_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout, done.stderr
        return done.returncode, {each["check"]: each for each in json.loads(done.stdout)}


@pytest.fixture
def patient(lab: Lab, tmp_path: Path) -> Patient:
    """A connector's settings in that realm."""
    return Patient(lab, tmp_path)


def outcomes(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    """By check."""
    return {check: finding["outcome"] for check, finding in findings.items()}


def test_everything_is_well(patient: Patient) -> None:
    """Each step down to the origin's own answer passes."""
    lab = patient.lab
    code, findings = patient.examine(lab.connector_settings(), "--user", "alice", "--application", "hr")
    assert set(outcomes(findings).values()) == {"PASS"}, findings
    assert code == 0
    assert list(findings) == [
        "settings", "library", f"kdc 127.0.0.1:{lab.realm.port}", "keytab", "ticket", "forwardable", "clock",
        "hr: origin", "hr: service", "hr: as the user", "hr: delegated", "hr: accepted",
    ]  # fmt: skip
    assert "proves itself" in findings["hr: accepted"]["found"]


def test_nobody_named(patient: Patient) -> None:
    """Without a user the steps in users' names are skipped, and that is no failure."""
    code, findings = patient.examine(patient.lab.connector_settings())
    assert code == 0
    assert outcomes(findings)["hr: delegated"] == "SKIP"


@pytest.mark.parametrize(
    ("user", "spn", "check", "says"),
    [
        ("nobody-knows", ORIGIN_SPN, "hr: as the user", "does not know the user"),
        ("@", ORIGIN_SPN, "hr: as the user", "cannot be the name of an account"),
        ("sensitive", ORIGIN_SPN, "hr: delegated", "not forwardable"),
        ("alice", "HTTP/other.corp.example", "hr: delegated", "may not delegate"),
        ("alice", "HTTP/no-such.corp.example", "hr: service", "knows no service"),
    ],
)
def test_what_fails(patient: Patient, user: str, spn: str, check: str, says: str) -> None:
    """B-K2, B-K3: what fails is the step that does, with its cause and a remedy."""
    code, findings = patient.examine(patient.lab.connector_settings(), "--user", user, spn=spn)
    assert code == 1
    assert findings[check]["outcome"] == "FAIL"
    assert says in findings[check]["found"]
    assert findings[check]["remedy"]


def test_no_protocol_transition(patient: Patient) -> None:
    """An account that may delegate, but not for users who signed in elsewhere, is told from one that may not."""
    settings = patient.lab.connector_settings("svc-plain", "plain.keytab")
    _, findings = patient.examine(settings, "--user", "alice")
    assert "any authentication protocol" in findings["hr: delegated"]["found"]
    assert "TRUSTED_TO_AUTH_FOR_DELEGATION" in findings["hr: delegated"]["remedy"]


def test_other_peoples_keytab(patient: Patient) -> None:
    """A keytab without the principal is named with what is in it; nothing that depends on it is tried."""
    settings = patient.lab.connector_settings(keytab="other.keytab")
    code, findings = patient.examine(settings, "--user", "alice")
    assert code == 1
    assert "HTTP/other.corp.example@CORP.EXAMPLE" in findings["keytab"]["found"]
    assert outcomes(findings)["hr: service"] == "SKIP"


@pytest.mark.time_limit(90)
def test_a_frozen_kdc(patient: Patient) -> None:
    """B-K10: a KDC that takes connections and says nothing is named, in time."""
    kdc = patient.lab.kdc
    assert kdc is not None
    os.kill(kdc.pid, signal.SIGSTOP)
    try:
        code, findings = patient.examine(patient.lab.connector_settings())
    finally:
        os.kill(kdc.pid, signal.SIGCONT)
    assert code == 1
    assert "did not answer in time" in findings["ticket"]["found"]
