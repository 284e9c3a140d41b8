"""What the demo writes before it starts anything."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from appproxy.config import read_apply, read_connector, read_relay
from appproxy.config.publishing import check_groups, check_publishing
from appproxy.demo.settings import SECRET_FILE, TEMPLATES, Ports, has_ipv6, write_private, write_settings
from appproxy.devidp.users import read_users


class PortsTest(SynchronousTestCase):
    """Where the demo listens."""

    def test_all_are_shifted_together(self) -> None:
        """``PORT=9443`` moves every port by the same distance."""
        self.assertEqual(Ports.beginning(8443), Ports(8443, 8444, 8400, 8480))
        self.assertEqual(Ports.beginning(9443), Ports(9443, 9444, 9400, 9480, 9408, 9420))

    def test_ports_that_do_not_exist(self) -> None:
        """A choice that pushes a port out of range is refused with what can be chosen."""
        for wrong in (0, 43, 65499, 65535, 70000):
            with self.assertRaisesRegex(ValueError, "choose one from 44 to 65498"):
                Ports.beginning(wrong)
        for right in (44, 65498):
            self.assertEqual(Ports.beginning(right).clients, right)

    def test_taken_is_named(self) -> None:
        """The first port that somebody else has is named with its purpose; free ones are fine."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            self.assertEqual(Ports(port, port, port, port).taken(), f"port {port}, wanted for clients")
        self.assertEqual(Ports(port, port, port, port).taken(), "")


class WriteSettingsTest(SynchronousTestCase):
    """The configuration files."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        write_settings(self.folder, Ports())

    def test_programs_accept_them(self) -> None:
        """Relay, connector, ``appproxy apply`` and the identity provider read what is written, and it fits together."""
        relay = read_relay(self.folder / "relay.toml", {})
        connector = read_connector(self.folder / "connector.toml", {})
        published = read_apply(self.folder / "applications.toml")
        users = read_users(self.folder / "users.toml")
        check_publishing(published.applications, [each.id for each in relay.provider], "proxy.localhost")
        check_groups(published.applications, [group.name for group in published.groups])
        self.assertEqual(connector.connector.relays, (relay.listen.connect_url,))
        client = users.find_client(relay.provider[0].client_id)
        assert client is not None
        self.assertEqual(client.client_secret, relay.provider[0].client_secret)
        self.assertEqual(client.redirect_uris, (relay.relay.public_url + "/.appproxy/callback",))
        self.assertEqual([address.port for address in relay.listen.clients], [8443] * (2 if has_ipv6() else 1))

    def test_only_the_owner_can_read_them(self) -> None:
        """Secrets and passwords are for the owner only."""
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        for name in (*TEMPLATES, SECRET_FILE):
            self.assertEqual(stat.S_IMODE((self.folder / name).stat().st_mode), 0o600, name)

    def test_the_secret_stays(self) -> None:
        """Writing again with other ports keeps the provider's secret."""
        before = (self.folder / SECRET_FILE).read_text()
        write_settings(self.folder, Ports.beginning(9443))
        self.assertEqual((self.folder / SECRET_FILE).read_text(), before)
        self.assertIn(":9443", (self.folder / "relay.toml").read_text())

    def test_write_private_replaces(self) -> None:
        """A file that others could read is replaced by one that they cannot."""
        path = self.folder / "token"
        path.write_text("old")
        path.chmod(0o644)
        write_private(path, "new")
        self.assertEqual((path.read_text(), stat.S_IMODE(path.stat().st_mode)), ("new", 0o600))
