"""``make demo-kerberos``: a Kerberos realm and an intranet that lets nobody in without its tickets, beside the demo."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from appproxy.demo import apache, kdc
from appproxy.demo.children import Children
from appproxy.demo.kdc import Account, Missing

REALM: Final = "CORP.EXAMPLE"
SPN: Final = "HTTP/windows.corp.example"
CONNECTOR: Final = "svc-connector"
ACCOUNTS: Final = (
    Account("alice"),
    Account("bob"),
    Account(CONNECTOR, "+ok_to_auth_as_delegate", (SPN,), keytab="connector.keytab"),
    Account(SPN, keytab="origin.keytab"),
)
#: For connector.toml, behind what the demo has without Kerberos.
CONNECTOR_SETTINGS: Final = """
[kerberos]
principal = "{connector}@{realm}"
keytab_file = "{folder}/connector.keytab"
krb5_config_file = "{folder}/krb5.conf"
"""
APPLICATION: Final = """
[[application]]
id = "windows"
name = "Windows intranet"
external_url = "https://windows.localhost:{clients}/"
internal_url = "http://localhost:{origin}/"
connector_group = "demo"
assigned = {{ groups = ["staff"] }}
[application.sso]
mode = "kerberos"
spn = "{spn}"
identity = "userPrincipalUsername"
"""


class Domain:
    """The realm and its origin; nothing of the machine's own settings is read or changed.

    In a folder below the system's temporary one, which the servers' user can reach; it is removed at the end.

    :raises Missing: packages or the extra are not installed.
    """

    def __init__(self, kdc_port: int, origin_port: int) -> None:
        absent = kdc.missing() + apache.missing()
        if absent:
            raise Missing(f"Debian packages are not installed; as root: apt-get install {' '.join(absent)}")
        try:
            import gssapi
            import krb5
        except ImportError:
            raise Missing("the extra kerberos is not installed: pip install 'appproxy[kerberos]'") from None
        del gssapi, krb5
        self.origin_port = origin_port
        self._kdc_port = kdc_port
        self._folder = Path(tempfile.mkdtemp(prefix="appproxy-demo-"))
        self._folder.chmod(0o755)

    def settings(self) -> str:
        """The connector's table."""
        return CONNECTOR_SETTINGS.format(connector=CONNECTOR, realm=REALM, folder=self._folder / "kdc")

    def application(self, clients: int) -> str:
        """For the apply file."""
        return APPLICATION.format(clients=clients, origin=self.origin_port, spn=SPN)

    def start(self, children: Children) -> None:
        """Start everything; :raises appproxy.demo.children.ChildDied: something does not."""

        def start(name: str, arguments: Sequence[str], environ: Mapping[str, str], ready: Callable[[], bool]) -> object:
            assignments = [f"{key}={value}" for key, value in environ.items()]
            return children.start(name, ["/usr/bin/env", *assignments, *arguments], ready)

        realm = kdc.Realm(self._folder / "kdc", self._kdc_port, start, REALM)
        realm.folder.mkdir()
        realm.start(ACCOUNTS)
        origin = self._folder / "origin"
        origin.mkdir()
        apache.Apache(origin, self.origin_port, realm.folder / "origin.keytab", realm.config, start).start()

    def remove(self) -> None:
        """Nothing is left."""
        shutil.rmtree(self._folder, ignore_errors=True)
