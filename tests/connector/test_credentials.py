"""Key, certificate and authority in the state folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector.credentials import Credentials, PendingKey, next_epoch, write_whole
from appproxy.errors import ConfigError
from appproxy.relay.connectors.authority import Authority, make_authority

NOW = int(time.time())
RELAY = Authority.load(make_authority(NOW))
OTHER = Authority.load(make_authority(NOW))


def certify(key: PendingKey, authority: Authority = RELAY, now: int = NOW) -> str:
    return authority.certify_connector(key.signing_request("hq-1"), "c-1", now).pem.decode()


class CredentialsTests(SynchronousTestCase):
    """What is kept, and how."""

    def setUp(self) -> None:
        self.state = Path(self.mktemp())
        self.state.mkdir()

    @pytest.mark.feature("CON-2")
    def test_what_is_kept_is_loaded_again(self) -> None:
        """Id, certificate, authority and times; usable for mutual TLS."""
        key = PendingKey()
        key.keep(certify(key), RELAY.pem.decode(), self.state)
        credentials = Credentials.load(self.state)
        assert credentials is not None
        self.assertEqual((credentials.connector, credentials.authority), ("c-1", RELAY.pem.decode()))
        self.assertEqual(credentials.not_after, NOW + 30 * 86400)
        tls = credentials.tls()
        self.assertEqual([ca["serialNumber"] for ca in tls.context.get_ca_certs()],
                         [f"{x509.load_pem_x509_certificate(RELAY.pem).serial_number:X}".zfill(40)])  # fmt: skip

    def test_nothing_but_the_owner_reads_the_key(self) -> None:
        """R13: mode 0600 from the start; a key that others can read is refused."""
        key = PendingKey()
        key.keep(certify(key), RELAY.pem.decode(), self.state)
        path = self.state / "connector.pem"
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        path.chmod(0o644)
        self.assertIn("chmod 600", str(self.assertRaises(ConfigError, Credentials.load, self.state)))

    def test_a_certificate_for_another_key_or_of_another_authority_is_not_kept(self) -> None:
        """What was there stays as it was."""
        key, other = PendingKey(), PendingKey()
        self.assertRaises(ValueError, key.keep, certify(other), RELAY.pem.decode(), self.state)
        self.assertRaises(ValueError, key.keep, certify(key, OTHER), RELAY.pem.decode(), self.state)
        self.assertIsNone(Credentials.load(self.state))

    def test_a_damaged_file_is_named(self) -> None:
        """With what to do."""
        write_whole(self.state / "connector.pem", b"nonsense")
        problem = str(self.assertRaises(ConfigError, Credentials.load, self.state))
        self.assertIn("connector.pem", problem)
        self.assertIn("enrol again", problem)

    def test_a_configured_authority_is_trusted_instead_of_the_pinned_one(self) -> None:
        """The pinned one still issues."""
        key = PendingKey()
        key.keep(certify(key), RELAY.pem.decode(), self.state)
        (self.state / "public.pem").write_bytes(OTHER.pem)
        credentials = Credentials.load(self.state, self.state / "public.pem")
        assert credentials is not None
        self.assertEqual((credentials.authority, credentials.authorities), (OTHER.pem.decode(), RELAY.pem.decode()))

    def test_renewal_is_due_after_two_thirds(self) -> None:
        """R07: twenty of thirty days."""
        key = PendingKey()
        key.keep(certify(key), RELAY.pem.decode(), self.state)
        credentials = Credentials.load(self.state)
        assert credentials is not None
        self.assertEqual(round((credentials.renewal - NOW) / 86400), 20)

    def test_epochs_only_grow(self) -> None:
        """A clock that was set back does not make a new boot older than the last."""
        self.assertEqual(next_epoch(self.state, 1000.5), 1000)
        self.assertEqual(next_epoch(self.state, 2000), 2000)
        self.assertEqual(next_epoch(self.state, 500), 2001)
        (self.state / "epoch").write_text("nonsense")
        self.assertEqual(next_epoch(self.state, 3000), 3000)
