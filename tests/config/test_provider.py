"""``[[provider]]`` and ``[[event_transmitter]]``: keys, tenants, transmitters, and what is wrong with them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from appproxy.config import RelayConfig, read_relay
from tests.config.files import Written
from tests.fakes.certificates import Authority
from tests.fakes.idp import rsa_key

PROVIDER = '[[provider]]\nid = "corp"\nissuer = "https://login.example.com/corp"\nclient_id = "relay"\n'
TRANSMITTER = (
    '[[event_transmitter]]\nid = "risc"\nissuer = "https://events.example.com"\naudience = ["https://p.example.com"]\n'
)
MANY = PROVIDER.replace("/corp", "/{tenantid}/v2.0")
#: The lines after the provider, and what is said about them.
MISTAKES = {
    'tenants = ["a"]': "provider[0].tenants: has an effect with {tenantid} in the issuer only; remove it",
    'key_id = "k"': "provider[0].key_id: has an effect with private_key_file only; remove it",
    'client_authentication = "private_key_jwt"': (
        "provider[0].client_authentication: private_key_jwt needs private_key_file"
    ),
    'client_authentication = "client_secret_post"': (
        "provider[0].client_authentication: client_secret_post needs client_secret_file"
    ),
    'client_authentication = "tls_client_auth"': (
        'provider[0].client_authentication: \'tls_client_auth\' is not one of "", "client_secret_basic", '
        '"client_secret_post", "private_key_jwt"'
    ),
    'private_key_file = "secret"': "provider[0].private_key_file: is not a PEM private key without a password",
    'private_key_file = "locked"': "provider[0].private_key_file: is not a PEM private key without a password",
    'private_key_file = "short"': "provider[0].private_key_file: has 1024 bits; an RSA key needs 2048",
    'private_key_file = "odd"': (
        "provider[0].private_key_file: is of a kind that signs no tokens; use RSA, EC or Ed25519"
    ),
    'private_key_file = "rsa"\nclient_secret = "s"': (
        "provider[0].private_key_file: is given beside a client secret; keep one of them"
    ),
    'private_key_file = "rsa"\ncertificate_file = "none"': (
        "provider[0].certificate_file: there is no file none; create it or correct the path"
    ),
    'private_key_file = "rsa"\ncertificate_file = "secret"': (
        "provider[0].certificate_file: secret is not a PEM certificate"
    ),
    'authorization_parameters = ["prompt"]': (
        "provider[0].authorization_parameters[0]: 'prompt' is no parameter; write for instance \"prompt=consent\""
    ),
    'authorization_parameters = ["a=b", "state=x"]': (
        "provider[0].authorization_parameters[1]: state is set by the relay itself; remove it"
    ),
    'metadata_url = "http://login.example.com/x"': (
        "provider[0].metadata_url: must be https; http is for a provider on this machine, with allow_http = true"
    ),
    'groups_url = "http://graph.example.com/x"': (
        "provider[0].groups_url: must be https; http is for a provider on this machine, with allow_http = true"
    ),
    TRANSMITTER + TRANSMITTER: 'event_transmitter[1].id: there are two event transmitters "risc"; ids are unique',
    TRANSMITTER.replace("https://events", "http://events"): (
        "event_transmitter[0].issuer: must be https; http is for a provider on this machine, with allow_http = true"
    ),
    TRANSMITTER.replace('"https://p.example.com"', ""): "event_transmitter[0].audience: is empty",
    TRANSMITTER + 'provider = "other"': 'event_transmitter[0].provider: there is no provider "other"',
    TRANSMITTER + 'ca_file = "none"': (
        "event_transmitter[0].ca_file: there is no file none; create it or correct the path"
    ),
    TRANSMITTER + PROVIDER.replace("corp", "other"): (
        "event_transmitter[0].provider: is needed; say whose people it speaks of"
    ),
}


class TestProvider(Written):
    """Reading providers."""

    def setUp(self) -> None:
        """Write keys of all kinds."""
        super().setUp()
        keys = {
            "rsa": rsa_key("client"),
            "short": rsa.generate_private_key(65537, 1024),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
            "odd": x25519.X25519PrivateKey.generate(),
        }
        for name, key in keys.items():
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            self.write(name, pem.decode())
        locked = keys["ec"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        self.write("locked", locked.decode())
        self.write("secret", "s3cret\n")

    def read(self, text: str) -> RelayConfig:
        """Read settings that are *text*."""
        return read_relay(self.write("relay.toml", text), {"STATE_DIRECTORY": "/var/lib/relay"})

    def test_every_mistake_is_one_line(self) -> None:
        """Each mistake is told with the key and what to do."""
        for text, said in MISTAKES.items():
            self.assertEqual(self.problem(lambda text=text: self.read(PROVIDER + text)), "relay.toml: " + said, text)  # type: ignore[misc]

    @pytest.mark.feature("AUTH-2")
    def test_many_tenants(self) -> None:
        """An issuer for many tenants needs a list of them and says where its metadata are."""
        said = "is missing; with {tenantid} in the issuer, say whose people may sign in"
        self.assertEqual(self.problem(lambda: self.read(MANY)), f"relay.toml: provider[0].tenants: {said}")
        said = "is missing; with {tenantid} in the issuer it cannot be derived"
        text = MANY + 'tenants = ["t-1"]\n'
        self.assertEqual(self.problem(lambda: self.read(text)), f"relay.toml: provider[0].metadata_url: {said}")
        provider = self.read(text + 'metadata_url = "https://login.example.com/common/m?p=b2c"').provider[0]
        self.assertEqual((provider.tenants, provider.metadata_url[-8:]), (("t-1",), "/m?p=b2c"))

    def test_keys(self) -> None:
        """The relay's key may be RSA, EC or Ed25519, with or without a certificate; it is in no ``repr``."""
        certificate, _ = Authority().issue("relay")
        self.write("certificate", certificate)
        for name in ("rsa", "ec", "ed"):
            text = PROVIDER + f'private_key_file = "{name}"\nkey_id = "k-1"\ncertificate_file = "certificate"'
            provider = self.read(text).provider[0]
            self.assertIn("PRIVATE KEY", provider.private_key)
            self.assertNotIn("PRIVATE KEY", repr(provider))

    def test_transmitter(self) -> None:
        """A transmitter speaks of the one provider there is, and its secret is in no ``repr``."""
        transmitter = self.read(PROVIDER + TRANSMITTER + 'authorization_file = "secret"').event_transmitter[0]
        self.assertEqual((transmitter.provider, transmitter.authorization), ("corp", "s3cret"))
        self.assertNotIn("s3cret", repr(transmitter))
