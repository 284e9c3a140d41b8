"""A realm as Active Directory keeps one: Samba's domain controller, of which only the KDC runs, on a port of loopback.

Provisioning needs root (it gives files away), and five seconds; everything is in one folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from appproxy.demo import kdc
from tests.live.kdc import Lab
from tests.live.programs import listens

PASSWORD: Final = "Passw0rd!lab"
NORMAL, EXPIRED_NEVER, SENSITIVE, ANY_PROTOCOL, DISABLED = 0x200, 0x10000, 0x100000, 0x1000000, 0x2
ORIGIN: Final = "HTTP/origin.corp.example"
AES: Final = 24
#: Account, attributes, further flags of userAccountControl.
USERS: Final[list[tuple[str, dict[str, object], int]]] = [
    ("alice", {"userPrincipalName": "alice@corp.example"}, 0),
    ("bob", {}, 0),
    ("carol", {"userPrincipalName": "carol.smith@contoso.example"}, 0),
    ("sensitive", {}, SENSITIVE),
    ("disabled", {}, DISABLED),
    (
        "svc-connector",
        {
            "servicePrincipalName": "HTTP/connector.corp.example",
            "msDS-SupportedEncryptionTypes": str(AES),
            "msDS-AllowedToDelegateTo": [ORIGIN, "HTTP/weak.corp.example"],
        },
        ANY_PROTOCOL,
    ),
    (
        "svc-plain",
        {
            "servicePrincipalName": "HTTP/plain.corp.example",
            "msDS-SupportedEncryptionTypes": str(AES),
            "msDS-AllowedToDelegateTo": [ORIGIN],
        },
        0,
    ),
    ("svc-nameless", {"msDS-SupportedEncryptionTypes": str(AES)}, ANY_PROTOCOL),
    ("svc-origin", {"servicePrincipalName": ORIGIN, "msDS-SupportedEncryptionTypes": str(AES)}, 0),
    ("svc-other", {"servicePrincipalName": "HTTP/other.corp.example", "msDS-SupportedEncryptionTypes": str(AES)}, 0),
    # Nobody set its encryption types: then it has RC4.
    ("svc-weak", {"servicePrincipalName": "HTTP/weak.corp.example"}, 0),
]
KEYTABS: Final = {
    "connector.keytab": "svc-connector",
    "plain.keytab": "svc-plain",
    "nameless.keytab": "svc-nameless",
    "origin.keytab": ORIGIN,
}
#: Run by the system's Python, which has Samba's modules; one process for all accounts, since each costs half a second.
ACCOUNTS_SCRIPT: Final = """
import json, sys
import ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
lp = LoadParm(); lp.load(sys.argv[1])
db = SamDB(url=lp.private_path("sam.ldb"), session_info=system_session(), lp=lp)
db.transaction_start()
for name, attributes, flags, password in json.load(sys.stdin):
    db.newuser(name, password, setpassword=True)
    found = db.search(base=db.domain_dn(), expression="(sAMAccountName=%s)" % name, attrs=[])
    change = ldb.Message(found[0].dn)
    for key, value in {**attributes, "userAccountControl": str(0x200 | 0x10000 | flags)}.items():
        change[key] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, key)
    db.modify(change)
db.transaction_commit()
"""
SMB_CONF: Final = """\
[global]
    netbios name = DC1
    realm = {realm}
    workgroup = CORP
    server role = active directory domain controller
    server services = kdc
    interfaces = 127.0.0.1
    bind interfaces only = yes
    krb5 port = {port}
    kpasswd port = 0
    tls enabled = no
    log level = 1
    private dir = {folder}/ad/private
    state directory = {folder}/ad/state
    lock directory = {folder}/ad/lock
    cache directory = {folder}/ad/cache
    pid directory = {folder}/ad/run
    binddns dir = {folder}/ad/bind-dns
    ncalrpc dir = {folder}/ad/ncalrpc
    winbindd socket directory = {folder}/ad/winbindd
    ntp signd socket directory = {folder}/ad/ntp
"""


class Directory:
    """The domain controller; what :class:`tests.live.kdc.Lab` needs of a realm."""

    name = "CORP.EXAMPLE"

    def __init__(self, folder: Path, port: int, start: kdc.Start) -> None:
        self.folder = folder
        self.port = port
        self.config = folder / "krb5.conf"
        self._start = start
        self._settings = folder / "smb.conf"

    def start(self, accounts: object = None) -> None:
        """Provision, add everybody, serve."""
        folder = self.folder
        (folder / "ad").mkdir()
        provision = ["domain", "provision", f"--realm={self.name}", "--domain=CORP", "--server-role=dc"]
        provision += ["--dns-backend=NONE", "--host-name=dc1", "--host-ip=127.0.0.1", f"--adminpass={PASSWORD}"]
        self._run(["samba-tool", *provision, f"--targetdir={folder / 'ad'}"])
        self._settings.write_text(SMB_CONF.format(realm=self.name, port=self.port, folder=folder))
        self.config.write_text(kdc.KRB5_CONF.format(realm=self.name, domain=self.name.lower(), port=self.port))
        people = [(name, attributes, flags, PASSWORD) for name, attributes, flags in USERS]
        self._run(["/usr/bin/python3", "-c", ACCOUNTS_SCRIPT, str(self._settings)], json.dumps(people))
        for keytab, principal in KEYTABS.items():
            export = ["domain", "exportkeytab", str(folder / keytab), f"--principal={principal}"]
            self._run(["samba-tool", *export, "-s", str(self._settings)])
        self.serve()

    def serve(self) -> Any:
        """Start the KDC."""
        command = ["samba", "-F", "--no-process-group", "-M", "single", "-s", str(self._settings), "--debug-stdout"]
        return self._start("samba", command, {"PATH": kdc.PATH}, lambda: listens(self.port))

    def _run(self, arguments: Sequence[str], given: str = "") -> None:
        done = subprocess.run(
            arguments,
            cwd=self.folder,
            env={**os.environ, "PATH": kdc.PATH, "KRB5_CONFIG": str(self.config)},
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-2000:])


class DirectoryLab(Lab):
    """A lab in such a realm."""

    def __init__(self) -> None:
        super().__init__()
        self.realm: Any = Directory(self.folder / "kdc", self.realm.port, self.start_program)


def require() -> None:
    """Skip the tests where Samba is not installed, or cannot be provisioned, saying why."""
    from tests.live import kdc as plain

    plain.require()
    if not Path("/usr/sbin/samba").exists() or not Path("/usr/share/samba/setup/provision.ldif").exists():
        pytest.skip("not installed: samba-ad-dc samba-ad-provision", allow_module_level=True)
    if shutil.which("samba-tool") is None:
        pytest.skip("not installed: samba-common-bin", allow_module_level=True)
    if os.geteuid():
        pytest.skip("Samba is provisioned by root only", allow_module_level=True)
