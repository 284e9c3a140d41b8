"""``relay.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest

from appproxy.config import ListenAddress, RelayConfig, read_relay
from appproxy.config import relay as relay_settings
from appproxy.config.relay import LATER
from tests.config.files import Written

PROVIDER = '[[provider]]\nid = "corp"\nissuer = "https://login.example.com/corp"\nclient_id = "relay"\n'

#: What is written, and what is said.
MISTAKES = {
    '[relay]\nlisten = ""': 'relay.toml: relay.listen: unknown key; known: node, public_url, state_dir, workers',
    '[relay]\npublic_uri = ""': 'relay.toml: relay.public_uri: unknown key; did you mean "public_url"?',
    '[listen]\nclient = ["tls:443"]': 'relay.toml: listen.client: unknown key; did you mean "clients"?',
    "[lisen]": 'relay.toml: lisen: unknown key; did you mean "listen"?',
    "relay = 1": "relay.toml: relay: 1 is not a table",
    "provider = {}": "relay.toml: provider: a table is not a list",
    '[relay]\nnode = "a"\n[relay]': "relay.toml: line 3, column 7: is not TOML: Cannot declare ('relay',) twice",
    '[relay]\nnode = "a': "relay.toml: is not TOML: Unterminated string at the end of the file",
    "[relay]\nnode = ": "relay.toml: is not TOML: Invalid value at the end of the file",
    '[relay]\nnode = "a b"': "relay.toml: relay.node: 'a b' is not a node name; use letters, digits, dots and hyphens",
    '[relay]\npublic_url = "proxy.example.com"': (
        "relay.toml: relay.public_url: 'proxy.example.com' is not an http or https address; write https://host/path/"
    ),
    '[relay]\npublic_url = "http://proxy.example.com"': (
        "relay.toml: relay.public_url: must be https; http is for development on this machine only"
    ),
    '[relay]\npublic_url = "https://proxy.example.com/portal"': (
        "relay.toml: relay.public_url: 'https://proxy.example.com/portal' has a path; write only scheme, host and port"
    ),
    '[relay]\npublic_url = "https://proxy.example.com:0"': (
        "relay.toml: relay.public_url: 'https://proxy.example.com:0' has no usable port"
    ),
    '[relay]\npublic_url = "https://*.example.com"': (
        "relay.toml: relay.public_url: 'https://*.example.com' is a wildcard; name one host"
    ),
    '[relay]\npublic_url = "https://proxy.example.com\\n"': (
        "relay.toml: relay.public_url: 'https://proxy.example.com\\n' has a space, control character or backslash"
    ),
    "[relay]\nworkers = 2": "relay.toml: relay.workers: not available in this release; remove it",
    "[relay]\nworkers = true": "relay.toml: relay.workers: not available in this release; remove it",
    "[listen]\nproxy_protocol = true": (
        "relay.toml: listen.proxy_protocol: needs listen.trusted_proxies: the networks of those who speak it"
    ),
    '[listen]\ntrusted_fields = "x-real-ip"': (
        'relay.toml: listen.trusted_fields: \'x-real-ip\' is not one of "x-forwarded", "forwarded"'
    ),
    "[tls.acme]\nagree = true": "relay.toml: tls.acme: not available in this release; remove it",
    '[admin]\ngroups = ["a"]': "relay.toml: admin: not available in this release; remove it",
    "[listen]\nclients = []": 'relay.toml: listen.clients: is empty; write for instance ["tls:443"]',
    '[listen]\nclients = ["tls:443", "tls:443"]': "relay.toml: listen.clients[1]: tls:443 is listed twice",
    '[listen]\nclients = ["unix:/x"]': (
        "relay.toml: listen.clients[0]: clients cannot come by a Unix socket; write tls or tcp"
    ),
    '[listen]\nclients = "tls:443"': "relay.toml: listen.clients: 'tls:443' is not a list",
    '[listen]\nclients = ["tls:66000"]': (
        "relay.toml: listen.clients[0]: port 66000 is out of range; ports go up to 65535"
    ),
    '[listen]\nconnectors = "tcp:8443"': (
        'relay.toml: listen.connectors: connectors come by TLS only; write for instance "tls:8443"'
    ),
    '[listen]\nclients = ["tls:443"]\nconnectors = "tls:443"': (
        "relay.toml: listen.connectors: tls:443 is taken by listen.clients; use another port"
    ),
    '[listen]\nconnect_url = "http://connect.example.com"': (
        "relay.toml: listen.connect_url: must be https; connectors come by TLS only"
    ),
    '[listen]\nadmin = "tls:9443"': (
        'relay.toml: listen.admin: only a Unix socket is available in this release; write "unix:/path"'
    ),
    '[store]\nurl = "postgresql://db/appproxy"': (
        'relay.toml: store.url: PostgreSQL is not available in this release; write "sqlite:relay.db"'
    ),
    '[store]\nurl = "relay.db"': "relay.toml: store.url: 'relay.db' is not a store; write \"sqlite:relay.db\"",
    '[session]\nidle = "2d"': "relay.toml: session.idle: 2d is longer than session.absolute, 1d",
    '[session]\nidle = "0s"': "relay.toml: session.idle: must be longer than nothing",
    "[session]\nidle = 30": 'relay.toml: session.idle: 30 is not a duration; write "30s", "5m", "12h" or "30d"',
    '[limits]\nhead = "64kB"': (
        "relay.toml: limits.head: '64kB' is not a size; write \"512B\", \"64KiB\", \"1MiB\" or \"2GiB\""
    ),
    "[limits]\nfields = 0": "relay.toml: limits.fields: must be more than 0",
    "[limits]\nfields = true": "relay.toml: limits.fields: true is not a whole number",
    '[limits]\ntarget = "1MiB"': "relay.toml: limits.target: 1MiB is more than limits.head, 64KiB",
    '[logging]\nformat = "xml"': "relay.toml: logging.format: 'xml' is not one of \"text\", \"json\"",
    '[logging]\nfile = ""': 'relay.toml: logging.file: is empty; write a path, or "-" for standard output',
    '[[provider]]\nid = "corp"': "relay.toml: provider[0].issuer: is missing",
    PROVIDER + "id2 = 1": "relay.toml: provider[0].id2: unknown key; did you mean \"id\"?",
    PROVIDER + PROVIDER: 'relay.toml: provider[1].id: there are two providers "corp"; ids are unique',
    PROVIDER.replace("https", "http"): (
        "relay.toml: provider[0].issuer: must be https; http is for a provider on this machine, with allow_http = true"
    ),
    PROVIDER.replace("https", "http") + "allow_http = true": (
        "relay.toml: provider[0].issuer: must be https; http is for a provider on this machine, with allow_http = true"
    ),
    PROVIDER.replace("/corp", "/corp?x=1"): (
        "relay.toml: provider[0].issuer: 'https://login.example.com/corp?x=1' has a query; an issuer has none"
    ),
    PROVIDER + 'algorithms = ["none"]': (
        "relay.toml: provider[0].algorithms[0]: 'none' is not one of \"RS256\", \"RS384\", \"RS512\", \"PS256\", "
        '"PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"'
    ),
    PROVIDER + 'scopes = ["profile"]': (
        'relay.toml: provider[0].scopes: needs "openid"; without it the provider signs nobody in'
    ),
    PROVIDER + 'ca_file = "ca.pem"': (
        "relay.toml: provider[0].ca_file: there is no file ca.pem; create it or correct the path"
    ),
    PROVIDER + 'client_secret_file = "secret"': (
        "relay.toml: provider[0].client_secret_file: there is no file secret; create it or correct the path"
    ),
    PROVIDER + 'private_key_file = "key.pem"': (
        "relay.toml: provider[0].private_key_file: there is no file key.pem; create it or correct the path"
    ),
}  # fmt: skip

VARIABLES = {
    "APPPROXY_LISTEN_CLIENT=x": 'APPPROXY_LISTEN_CLIENT: unknown setting; did you mean "APPPROXY_LISTEN_CLIENTS"?',
    "APPPROXY_LISTN_CLIENTS=x": 'APPPROXY_LISTN_CLIENTS: unknown setting; did you mean "APPPROXY_LISTEN_CLIENTS"?',
    "APPPROXY_PROVIDER_ISSUER=x": "APPPROXY_PROVIDER_ISSUER: providers are set in the file only",
    "APPPROXY_RELAY_WORKERS=4": "APPPROXY_RELAY_WORKERS: not available in this release; remove it",
    "APPPROXY_LIMITS_FIELDS=4 x": "APPPROXY_LIMITS_FIELDS: '4 x' cannot be read; write it as in the file",
    "APPPROXY_LOGGING_LEVEL=loud": (
        'APPPROXY_LOGGING_LEVEL: \'loud\' is not one of "debug", "info", "warn", "error", "critical"'
    ),
    'APPPROXY_LISTEN_CLIENTS=["tls:x"]': (
        "APPPROXY_LISTEN_CLIENTS: 'tls:x' is not a listening address; write \"tls:443\", "
        '"tls:8443:interface=127.0.0.1", "tcp:80", "tcp:127.0.0.1:9464", "unix:/path" or "systemd:name=…"'
    ),
}


@pytest.mark.feature("OPS-1")
class TestRelay(Written):
    """Reading ``relay.toml``."""

    def read(self, text: str, environ: Mapping[str, str] = {}) -> RelayConfig:
        """Read settings that are *text*."""
        return read_relay(self.write("relay.toml", text), {"STATE_DIRECTORY": "/var/lib/relay", **environ})

    def test_nothing_at_all(self) -> None:
        """Without a file and variables a relay runs on loopback with an embedded store and its own authority."""
        config = read_relay(None, {"HOME": "/home/alice"})
        self.assertEqual(config.relay.public_url, "https://proxy.localhost:4443")
        self.assertEqual(config.relay.state_dir, Path("/home/alice/.local/state/appproxy"))
        self.assertTrue(config.relay.node)
        listening = (*config.listen.clients, config.listen.connectors)
        self.assertEqual(
            [str(each) for each in listening], ["tls:4443:interface=127.0.0.1", "tls:8443:interface=127.0.0.1"]
        )
        self.assertTrue(all(each.is_local for each in listening))
        self.assertEqual(config.listen.connect_url, "https://localhost:8443")
        self.assertEqual(config.listen.admin, ListenAddress(kind="unix", path=f"{config.relay.state_dir}/admin.sock"))
        self.assertEqual((config.store.url, config.tls.certificates, config.provider), ("sqlite:relay.db", None, ()))

    def test_every_mistake_is_one_line(self) -> None:
        """Each mistake is told with the file, the key and what to do."""
        for text, said in MISTAKES.items():
            self.assertEqual(self.problem(lambda text=text: self.read(text)), said, text)  # type: ignore[misc]

    def test_a_mistake_in_a_variable_names_the_variable(self) -> None:
        """What the environment has wrong is not blamed on the file."""
        for setting, said in VARIABLES.items():
            name, _, value = setting.partition("=")
            environ = {name: value}
            self.assertEqual(self.problem(lambda given=environ: self.read("", given)), said)  # type: ignore[misc]

    def test_environment_over_file_over_default(self) -> None:
        """A variable wins over the file, the file over the default."""
        text = '[relay]\npublic_url = "https://file.example.com"\nnode = "file"\n[limits]\nfields = 7\n'
        config = self.read(
            text,
            {
                "APPPROXY_RELAY_PUBLIC_URL": "https://Environment.example.com:443/",
                "APPPROXY_LISTEN_CLIENTS": "tls:443, tcp:80",
                "APPPROXY_LIMITS_CONNECTIONS": "9",
                "APPPROXY_SESSION_IDLE": "5m",
                "APPPROXY_CONNECTOR_NAME": "of another program",
                "APPPROXY_URL": "of another program",
            },
        )
        self.assertEqual(config.relay.public_url, "https://environment.example.com")
        self.assertEqual((config.relay.node, config.limits.fields, config.limits.connections), ("file", 7, 9))
        self.assertEqual(config.session.idle, 300.0)
        self.assertEqual([str(each) for each in config.listen.clients], ["tls:443", "tcp:80"])

    def test_state_folder_is_the_supervisors_first(self) -> None:
        """Settings, then ``$STATE_DIRECTORY``, then ``$XDG_STATE_HOME``; relative to the file's folder."""
        self.assertEqual(self.read('[relay]\nstate_dir = "state"').relay.state_dir, self.folder / "state")
        self.assertEqual(self.read("").relay.state_dir, Path("/var/lib/relay"))
        self.assertEqual(read_relay(None, {"XDG_STATE_HOME": "/s"}).relay.state_dir, Path("/s/appproxy"))

    def test_connect_url_follows_the_public_url(self) -> None:
        """Without ``connect_url`` connectors dial the public host at the port they are listened for at."""
        config = self.read('[relay]\npublic_url = "https://p.example.com"\n[listen]\nconnectors = "tls:9000"')
        self.assertEqual(config.listen.connect_url, "https://p.example.com:9000")

    def test_client_secret_comes_from_a_file(self) -> None:
        """The secret is the file's text without its line end, and is in no ``repr``."""
        self.write("secret", "s3cret\n")
        provider = self.read(PROVIDER + 'client_secret_file = "secret"').provider[0]
        self.assertEqual(provider.client_secret, "s3cret")
        self.assertNotIn("s3cret", repr(provider))

    def test_secret_given_twice(self) -> None:
        """Nobody has to guess which of two secrets is used."""
        self.write("secret", "s3cret\n")
        text = PROVIDER + 'client_secret = "a"\nclient_secret_file = "secret"'
        said = "relay.toml: provider[0].client_secret: is given twice; keep client_secret_file only"
        self.assertEqual(self.problem(lambda: self.read(text)), said)

    def test_http_provider_on_this_machine(self) -> None:
        """A29: plain http is for a development provider on loopback that says so."""
        text = PROVIDER.replace("https://login.example.com", "http://127.0.0.1:8400") + "allow_http = true"
        self.assertEqual(self.read(text).provider[0].issuer, "http://127.0.0.1:8400/corp")

    @pytest.mark.feature("HTTP-1")
    def test_http2_needs_its_library(self) -> None:
        """HTTP/2 is off unless asked for; where what it needs is missing, the extra to install is named."""
        self.assertFalse(self.read("").listen.http2)
        self.assertTrue(self.read("[listen]\nhttp2 = true\n").listen.http2)
        self.patch(relay_settings, "find_spec", lambda name: None)
        self.assertEqual(
            self.problem(lambda: self.read("[listen]\nhttp2 = true\n")).partition("listen.http2: ")[2],
            "needs the extra http2: pip install 'appproxy[http2]'",
        )

    def test_keys_of_later_releases_may_ask_for_nothing(self) -> None:
        """A value that holds already is accepted: the file of a later release with everything off works."""
        self.read(
            "[relay]\nworkers = 1\n[listen]\nproxy_protocol = false\ntrusted_proxies = []\n[admin]\ngroups = []\n"
        )
        self.assertIn("tls.acme", LATER)

    def test_files_that_cannot_be_read(self) -> None:
        """A missing file, a folder and a binary file are named as such."""
        self.assertEqual(self.problem(lambda: read_relay(self.folder / "no.toml", {})), "no.toml: no such file")
        (self.folder / "d.toml").mkdir()
        self.assertEqual(
            self.problem(lambda: read_relay(self.folder / "d.toml", {})), "d.toml: cannot be read: is a directory"
        )
        (self.folder / "b.toml").write_bytes(b"[relay]\n\xff")
        self.assertEqual(
            self.problem(lambda: read_relay(self.folder / "b.toml", {})), "b.toml: is not UTF-8 text (byte 8)"
        )

    def test_networks(self) -> None:
        """Networks are read as such; a host with bits beside its mask is a mistake."""
        from appproxy.config.converting import Network, Place, convert

        place = Place("f")
        networks = convert(["10.0.0.0/8", "::1"], tuple[Network, ...], place, {}, Path(), "listen.trusted_proxies")
        self.assertEqual(networks, (ip_network("10.0.0.0/8"), ip_network("::1/128")))
        said = 'f: n[0]: \'10.0.0.1/8\' is not a network; write "10.0.0.0/8" or "2001:db8::/32"'
        self.assertEqual(
            self.problem(lambda: convert(["10.0.0.1/8"], tuple[Network, ...], place, {}, Path(), "n")), said
        )

    def test_log_files_do_not_depend_on_where_it_runs(self) -> None:
        """Relative log paths start from the folder of the settings."""
        logging = self.read('[logging]\naccess_log = "access.log"').logging
        self.assertEqual((logging.file, logging.access_log), ("-", str(self.folder / "access.log")))
