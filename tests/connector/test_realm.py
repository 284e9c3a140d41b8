"""The connector's account, from its settings."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config import ConnectorConfig
from appproxy.config.connector import Connector
from appproxy.config.kerberos import Kerberos
from appproxy.connector.doctor import FAIL, SKIP, Doctor
from appproxy.connector.realm import account_of, config_files, load_library, make_delegation
from appproxy.errors import ConfigError
from appproxy.sso.asking import OWN_CONFIG, SYSTEM_CONFIG, Account

SETTINGS = Kerberos(principal="svc@CORP.EXAMPLE", keytab_file=Path("/etc/appproxy/connector.keytab"))


class RealmTests(SynchronousTestCase):
    """Without a library."""

    def setUp(self) -> None:
        self.patch(sys, "modules", {**sys.modules, "appproxy.sso._gss": None})

    def test_account(self) -> None:
        """Tickets of a keytab are in memory; a cache of somebody else's is used where it is."""
        self.assertEqual(
            account_of(SETTINGS), Account("svc@CORP.EXAMPLE", str(SETTINGS.keytab_file), "MEMORY:connector")
        )
        kept = Kerberos(principal="svc@CORP.EXAMPLE", ccache="KCM:")
        self.assertEqual(account_of(kept), Account("svc@CORP.EXAMPLE", "", "KCM:"))

    def test_krb5_conf(self) -> None:
        """Ours goes before the machine's, or before the one that is named."""
        self.assertEqual(config_files(SETTINGS), [OWN_CONFIG, SYSTEM_CONFIG])
        named = Kerberos(principal="svc@CORP.EXAMPLE", ccache="KCM:", krb5_config_file=Path("/etc/other.conf"))
        self.assertEqual(config_files(named), [OWN_CONFIG, Path("/etc/other.conf")])

    def test_without_the_extra(self) -> None:
        """What to install is said at the start; default credentials are out of reach by then."""
        environ: dict[str, str] = {}
        with self.assertRaisesRegex(ConfigError, r"pip install 'appproxy\[kerberos\]'"):
            load_library(SETTINGS, environ)
        self.assertEqual(environ["KRB5CCNAME"], "MEMORY:none")

    def test_without_an_account(self) -> None:
        """A connector in no realm needs no library."""
        self.assertIsNone(make_delegation(Kerberos(), Clock()))

    def test_doctor(self) -> None:
        """Both are findings, the first that matters."""
        connector = Connector(relays=("https://connect.example.com",))
        (finding,) = Doctor(ConnectorConfig(connector=connector), []).examine()
        self.assertEqual(finding.outcome, SKIP)
        *_, finding = Doctor(ConnectorConfig(connector=connector, kerberos=SETTINGS), []).examine()
        self.assertEqual((finding.check, finding.outcome), ("library", FAIL))
