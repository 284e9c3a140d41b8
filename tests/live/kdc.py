"""A Kerberos realm for the live tests: a KDC, an origin that knows nothing else, a connector's settings."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from appproxy.demo import apache, kdc
from appproxy.demo.kdc import Account
from tests.live.programs import Program, free_ports

#: Not the program of that name, which leaves the server behind when it is stopped.
FAKETIME = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
ORIGIN_SPN = "HTTP/origin.corp.example"
CONNECTOR = "svc-connector"
#: As many as a test wants at once.
MANY = [f"user-{number}" for number in range(8)]
ACCOUNTS = (
    *map(Account, MANY),
    Account("alice"),
    Account("bob"),
    Account("carol", alias="carol.smith@contoso.example"),
    Account("sensitive", flags="-allow_forwardable"),
    Account("disabled", flags="-allow_tix"),
    Account("expired", flags='-expire "2020-01-01"'),
    Account(CONNECTOR, "+ok_to_auth_as_delegate", (ORIGIN_SPN, "HTTP/missing.corp.example"), keytab="connector.keytab"),
    Account("svc-plain", "", (ORIGIN_SPN,), keytab="plain.keytab"),
    Account(ORIGIN_SPN, keytab="origin.keytab"),
    Account("HTTP/other.corp.example", keytab="other.keytab"),
)


class Lab:
    """The realm and its origin; ``with`` stops what was started.

    In a folder of its own, which the servers' user can reach: pytest's are for root alone.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="appproxy-kerberos-"))
        self.folder.chmod(0o755)
        self.programs: list[Program] = []
        kdc_port, self.origin_port = free_ports(2)
        self.realm = kdc.Realm(self.folder / "kdc", kdc_port, self.start_program)
        self.kdc: Program | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for program in reversed(self.programs):
            program.stop(5)
        shutil.rmtree(self.folder)

    def start(self, accounts: Sequence[Account] = ACCOUNTS) -> None:
        """Start the realm."""
        self.realm.folder.mkdir()
        self.realm.start(accounts)
        self.kdc = self.programs[-1]

    def restart_kdc(self) -> None:
        """Start the KDC once more."""
        self.kdc = self.realm.serve()

    def start_origin(
        self,
        more: str = "",
        clock: str = "",
        keytab: str = "origin.keytab",
        require: str = "valid-user",
        server: str = "",
    ) -> Program:
        """Start Apache, or another one at the same port; *clock* sets its own off, ``+2h``."""
        folder = self.folder / f"origin-{len(self.programs)}"
        folder.mkdir()
        self.origin = apache.Apache(
            folder,
            self.origin_port,
            self.realm.folder / keytab,
            self.realm.config,
            self.start_program,
            require,
            more,
            server,
        )
        within = ["env", f"FAKETIME={clock}", f"LD_PRELOAD={FAKETIME[0]}"] if clock else []
        program: Program = self.origin.start(within)
        return program

    def start_program(
        self, name: str, arguments: Sequence[str], environ: Mapping[str, str], ready: Callable[[], bool]
    ) -> Program:
        """For :data:`appproxy.demo.kdc.Start`."""
        program = Program(f"{name}-{len(self.programs)}", list(arguments), self.folder, dict(environ))
        self.programs.append(program)
        program.wait_for(ready, f"{name} is ready")
        return program

    def connector_settings(self, account: str = CONNECTOR, keytab: str = "connector.keytab", more: str = "") -> str:
        """The table for ``connector.toml``."""
        return f"""
[kerberos]
principal = "{account}@{self.realm.name}"
keytab_file = "{self.realm.folder / keytab}"
krb5_config_file = "{self.realm.config}"
{more}
"""


def require() -> None:
    """Skip the test where something is not installed, saying what."""
    absent = kdc.missing() + apache.missing()
    if absent:
        pytest.skip("not installed: " + " ".join(absent), allow_module_level=True)
    pytest.importorskip("gssapi", reason="the extra kerberos is not installed")
    pytest.importorskip("krb5", reason="the extra kerberos is not installed")
