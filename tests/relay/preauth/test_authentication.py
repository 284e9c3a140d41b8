"""How the relay tells a provider who it is."""

from __future__ import annotations

import hashlib
from base64 import b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_pem_x509_certificate
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config.provider import ProviderConfig
from appproxy.relay.preauth.authentication import ClientAuthentication
from appproxy.relay.preauth.metadata import Metadata
from tests.fakes.certificates import Authority
from tests.fakes.idp import ISSUER, rsa_key

NOW = 1_800_000_000
TOKEN = ISSUER + "/token"


def metadata(**more: Any) -> Metadata:
    """A provider's."""
    return Metadata(ISSUER, ISSUER + "/authorize", TOKEN, ISSUER + "/jwks", **more)


def pem(key: Any) -> str:
    """A key as a file has it."""
    octets: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return octets.decode()


class AuthenticationTest(SynchronousTestCase):
    """One client."""

    def prove(self, document: Metadata | None = None, **settings: Any) -> tuple[dict[str, str], dict[str, str]]:
        """What a request gets: form and headers."""
        self.made = 0

        def random(count: int) -> bytes:
            self.made += 1
            return self.made.to_bytes(count, "big")

        config = ProviderConfig(id="main", issuer=ISSUER, client_id="re lay", **settings)
        form: dict[str, str] = {}
        headers: dict[str, str] = {}
        self.client = ClientAuthentication(config, lambda: NOW, random)
        self.client.prove(document or metadata(), form, headers)
        return form, headers

    def test_secret(self) -> None:
        """The secret goes the way the provider supports, Basic first, or the way that is configured."""
        form, headers = self.prove(client_secret="a/+")
        self.assertEqual(b64decode(headers["Authorization"].split()[1]), b"re+lay:a%2F%2B")
        self.assertEqual(form, {})
        post = metadata(token_endpoint_auth_methods_supported=("client_secret_post", "private_key_jwt"))
        said = {"client_id": "re lay", "client_secret": "a/+"}
        self.assertEqual(self.prove(post, client_secret="a/+"), (said, {}))
        both = metadata(token_endpoint_auth_methods_supported=("client_secret_post", "client_secret_basic"))
        self.assertEqual(self.prove(both, client_secret="a/+")[0], {})
        chosen = self.prove(both, client_secret="a/+", client_authentication="client_secret_post")
        self.assertEqual(chosen, (said, {}))

    def test_public_client(self) -> None:
        """A client without any proof names itself."""
        self.assertEqual(self.prove(), ({"client_id": "re lay"}, {}))

    @pytest.mark.feature("AUTH-2")
    def test_assertion(self) -> None:
        """A key signs an assertion for this provider, good for minutes and never the same twice (RFC 7523)."""
        form, headers = self.prove(private_key=pem(rsa_key("client")), key_id="k-1")
        self.assertEqual((headers, form["client_id"]), ({}, "re lay"))
        self.assertEqual(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        token = form["client_assertion"]
        self.assertEqual(jwt.get_unverified_header(token), {"alg": "RS256", "kid": "k-1", "typ": "JWT"})
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        claims = jwt.decode(token, rsa_key("client").public_key(), ["RS256"], options=options, audience=TOKEN)
        self.assertEqual((claims["iss"], claims["sub"], claims["exp"] - claims["iat"]), ("re lay", "re lay", 300))
        self.assertNotEqual(self.client.assertion(metadata()), token)

    def test_algorithms(self) -> None:
        """The algorithm fits the key, and the provider where it says what it takes."""
        only = metadata(token_endpoint_auth_signing_alg_values_supported=("PS256", "ES256"))
        for key, document, algorithm in (
            (rsa_key("client"), only, "PS256"),
            (ec.generate_private_key(ec.SECP256R1()), only, "ES256"),
            (ec.generate_private_key(ec.SECP384R1()), metadata(), "ES384"),
            (ed25519.Ed25519PrivateKey.generate(), metadata(), "EdDSA"),
        ):
            form, _ = self.prove(document, private_key=pem(key))
            self.assertEqual(jwt.get_unverified_header(form["client_assertion"])["alg"], algorithm)

    def test_certificate(self) -> None:
        """A provider that knows keys by certificates finds both thumbprints."""
        certificate, key = Authority().issue("relay")
        path = Path(self.mktemp())
        path.write_text(certificate)
        form, _ = self.prove(private_key=key, certificate_file=path)
        der = load_pem_x509_certificate(certificate.encode()).public_bytes(Encoding.DER)
        header = jwt.get_unverified_header(form["client_assertion"])
        for name, digest in (("x5t", hashlib.sha1), ("x5t#S256", hashlib.sha256)):
            self.assertEqual(header[name], urlsafe_b64encode(digest(der).digest()).rstrip(b"=").decode())
