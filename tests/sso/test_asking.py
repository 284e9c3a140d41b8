"""The environment of the Kerberos library."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from appproxy.sso.asking import OWN_CONFIG, block_default_credentials


class EnvironmentTests(SynchronousTestCase):
    """What it must not find by itself, and must be told."""

    def test_default_credentials_are_blocked(self) -> None:
        """B-K9: neither the user's own tickets nor the machine's keytab are in reach."""
        environ = {"KRB5CCNAME": "FILE:/tmp/krb5cc_0", "KRB5_KTNAME": "/etc/krb5.keytab", "HOME": "/root"}
        block_default_credentials(environ, [OWN_CONFIG, Path("/etc/krb5.conf")])
        self.assertEqual(
            environ,
            {
                "HOME": "/root",
                "KRB5_CONFIG": f"{OWN_CONFIG}:/etc/krb5.conf",
                "KRB5CCNAME": "MEMORY:none",
                "KRB5_CLIENT_KTNAME": "FILE:/nonexistent",
                "KRB5_KTNAME": "FILE:/nonexistent",
            },
        )

    def test_own_settings(self) -> None:
        """B-K6: tickets are forwardable, and types that are broken are not allowed."""
        own = OWN_CONFIG.read_text()
        self.assertIn("forwardable = true", own)
        self.assertIn("allow_weak_crypto = false", own)
