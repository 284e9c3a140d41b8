"""A Kerberos realm on loopback: MIT's KDC with its database in OpenLDAP, since only there it knows delegation.

Everything is in one folder: settings, database, keytabs; nothing of the machine's own Kerberos is read or changed.
Started by root, the servers give root up.  Needs the Debian packages in :data:`PACKAGES`.
"""

from __future__ import annotations

import gzip
import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

#: Each with a program of it.
PACKAGES: Final = {
    "slapd": "slapd",
    "ldapmodify": "ldap-utils",
    "krb5kdc": "krb5-kdc",
    "kadmin.local": "krb5-admin-server",
    "kdb5_ldap_util": "krb5-kdc-ldap",
}
SCHEMA: Final = Path("/usr/share/doc/krb5-kdc-ldap/kerberos.schema.gz")
PATH: Final = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
SUFFIX: Final = "dc=corp"
CONTAINER: Final = f"cn=krb,{SUFFIX}"
COMMAND_SECONDS: Final = 60.0

#: Starts a program and waits until it is ready: name, arguments, environment, whether it is.
Start = Callable[[str, Sequence[str], Mapping[str, str], Callable[[], bool]], Any]


class Missing(Exception):
    """Programs are not installed; the message names their packages."""


class Account(NamedTuple):
    """A principal of the realm.

    :ivar flags: of ``kadmin addprinc``, for instance ``+ok_to_auth_as_delegate``.
    :ivar delegates_to: services that it may ask tickets for in others' names.
    :ivar alias: another name for it, ``user@suffix``, as AD's user principal names are.
    :ivar keytab: file in the realm's folder that its keys are written to.
    """

    name: str
    flags: str = ""
    delegates_to: tuple[str, ...] = ()
    alias: str = ""
    keytab: str = ""


def missing(packages: Mapping[str, str] = PACKAGES) -> list[str]:
    """The packages of which a program is not installed."""
    return [package for program, package in packages.items() if shutil.which(program, path=PATH) is None]


def give_root_up(arguments: Sequence[str]) -> list[str]:
    """The command as a user who can do no harm, when this is root."""
    if os.geteuid():
        return list(arguments)
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *arguments]


def hand_over(*paths: Path) -> None:
    """Let that user have them."""
    if not os.geteuid():
        nobody = pwd.getpwnam("nobody")
        for path in paths:
            os.chown(path, nobody.pw_uid, nobody.pw_gid)


class Realm:
    """One realm.

    :param folder: which the servers' user has to be able to reach.
    :param start: see :data:`Start`.
    :raises Missing: packages are not installed.
    """

    def __init__(self, folder: Path, port: int, start: Start, name: str = "CORP.EXAMPLE") -> None:
        if absent := missing():
            raise Missing("a KDC needs Debian packages that are not installed: " + " ".join(absent))
        self.name = name
        self.port = port
        self.folder = folder
        self._start = start
        self._socket = "ldapi://" + quote(str(folder / "ldapi"), safe="")
        self.config = folder / "krb5.conf"
        #: For programs of the realm: servers, and ``kadmin``.
        self.environ = {
            "KRB5_CONFIG": str(self.config),
            "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
            "PATH": PATH,
            "LC_ALL": "C",
            "LDAPNOINIT": "1",
        }

    def start(self, accounts: Iterable[Account]) -> None:
        """Make the realm anew, with these accounts, and serve it."""
        folder = self.folder
        database = folder / "ldap"
        shutil.rmtree(database, ignore_errors=True)
        database.mkdir(parents=True, mode=0o700)
        self._write_settings()
        hand_over(folder, database)
        self._ldap_begins()
        self._start(
            "slapd",
            give_root_up(["slapd", "-d", "0", "-f", str(folder / "slapd.conf"), "-h", self._socket]),
            self.environ,
            self._answers,
        )
        master = secrets.token_urlsafe(18)
        create = ["create", "-subtrees", SUFFIX, "-s", "-P", master, "-r", self.name]
        self._run(["kdb5_ldap_util", *create])
        self.add(accounts)
        self.serve()

    def serve(self) -> Any:
        """Start the KDC; again after it was stopped."""
        kdc = ["krb5kdc", "-n", "-P", str(self.folder / "krb5kdc.pid")]
        return self._start("krb5kdc", give_root_up(kdc), self.environ, self.listens)

    def listens(self) -> bool:
        """Whether the KDC accepts connections."""
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def add(self, accounts: Iterable[Account]) -> None:
        """Add accounts, with random keys."""
        commands, changes = [], []
        for account in accounts:
            commands.append(f"addprinc -randkey {account.flags} {account.name}")
            if account.keytab:
                commands.append(f"ktadd -norandkey -k {self.folder / account.keytab} {account.name}")
            entry = f"dn: krbPrincipalName={account.name}@{self.name},cn={self.name},{CONTAINER}\nchangetype: modify\n"
            if account.delegates_to:
                services = "".join(f"krbAllowedToDelegateTo: {spn}@{self.name}\n" for spn in account.delegates_to)
                changes.append(f"{entry}add: krbAllowedToDelegateTo\n{services}")
            if account.alias:
                alias = f"add: krbPrincipalName\nkrbPrincipalName: {account.alias}@{self.name}\n-\n"
                canonical = f"add: krbCanonicalName\nkrbCanonicalName: {account.name}@{self.name}\n"
                changes.append(entry + alias + canonical)
        self.kadmin(*commands)
        if changes:
            self._run(["ldapmodify", "-Q", "-Y", "EXTERNAL", "-H", self._socket], "\n".join(changes))

    def kadmin(self, *commands: str) -> str:
        """Run commands of ``kadmin.local``."""
        return self._run(["kadmin.local", "-r", self.name], "\n".join(commands) + "\n")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.folder / "ldapi")) == 0

    def _run(self, arguments: Sequence[str], given: str = "") -> str:
        """The output of a command; :raises RuntimeError: it failed."""
        done = subprocess.run(
            give_root_up(arguments),
            cwd=self.folder,
            env=self.environ,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def _ldap_begins(self) -> None:
        """The entry that everything hangs on."""
        top = f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n"
        self._run(["slapadd", "-f", str(self.folder / "slapd.conf")], top)

    def _write_settings(self) -> None:
        folder = self.folder
        with gzip.open(SCHEMA) as schema:
            (folder / "kerberos.schema").write_bytes(schema.read())
        owner = pwd.getpwnam("nobody") if not os.geteuid() else pwd.getpwuid(os.geteuid())
        settings = {
            "slapd.conf": SLAPD_CONF.format(
                folder=folder, suffix=SUFFIX, rootdn=f"gidNumber={owner.pw_gid}+uidNumber={owner.pw_uid}"
            ),
            "kdc.conf": KDC_CONF.format(
                folder=folder, realm=self.name, port=self.port, container=CONTAINER, socket=self._socket
            ),
            "krb5.conf": KRB5_CONF.format(realm=self.name, domain=self.name.lower(), port=self.port),
        }
        for name, text in settings.items():
            (folder / name).write_text(text)


SLAPD_CONF = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include {folder}/kerberos.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
database mdb
dbnosync
maxsize 1073741824
suffix "{suffix}"
directory {folder}/ldap
rootdn "{rootdn},cn=peercred,cn=external,cn=auth"
index objectClass eq
index krbPrincipalName eq
"""

KDC_CONF = """\
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_module = ldap
        key_stash_file = {folder}/stash
        acl_file = {folder}/kadm5.acl
        max_life = 10h
        supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
    }}
[dbmodules]
    ldap = {{
        db_library = kldap
        ldap_kerberos_container_dn = {container}
        ldap_kdc_sasl_mech = EXTERNAL
        ldap_kadmind_sasl_mech = EXTERNAL
        ldap_servers = {socket}
        ldap_conns_per_server = 2
        disable_last_success = true
        disable_lockout = true
    }}
[logging]
    kdc = FILE:{folder}/kdc.log
    admin_server = FILE:{folder}/kadmin.log
    default = FILE:{folder}/kerberos.log
"""

KRB5_CONF = """\
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
[domain_realm]
    .{domain} = {realm}
"""
