"""How the relay proves to a provider who it is: a secret, or a signed assertion (OpenID Connect Core section 9)."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from appproxy.relay.preauth.attempts import random_text
from appproxy.relay.preauth.metadata import Metadata

if TYPE_CHECKING:
    from appproxy.config import ProviderConfig

#: An assertion is used at once; so long may it take, clocks included.
ASSERTION_SECONDS = 300
_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_RSA = ("RS256", "PS256", "RS384", "PS384", "RS512", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class ClientAuthentication:
    """The relay as one client of one provider.

    :param epoch: epoch seconds.
    :param random: gives that many unpredictable bytes.
    """

    def __init__(self, config: ProviderConfig, epoch: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._config = config
        self._epoch = epoch
        self._random = random
        self._key: Any = load_pem_private_key(config.private_key.encode(), None) if config.private_key else None
        self._header = _header(config)

    def method(self, metadata: Metadata) -> str:
        """The method of this client: the configured one, else what the provider supports."""
        if self._config.client_authentication:
            return self._config.client_authentication
        if self._key is not None:
            return "private_key_jwt"
        if not self._config.client_secret:
            return "none"
        supported = metadata.token_endpoint_auth_methods_supported
        post = "client_secret_basic" not in supported and "client_secret_post" in supported
        return "client_secret_post" if post else "client_secret_basic"

    def prove(self, metadata: Metadata, form: dict[str, str], headers: dict[str, str]) -> None:
        """Add to a request for the token endpoint what tells who asks."""
        config, method = self._config, self.method(metadata)
        if method == "client_secret_basic":
            # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
            pair = f"{quote_plus(config.client_id)}:{quote_plus(config.client_secret)}"
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
            return
        form["client_id"] = config.client_id
        if method == "client_secret_post":
            form["client_secret"] = config.client_secret
        elif method == "private_key_jwt":
            form["client_assertion_type"] = _BEARER
            form["client_assertion"] = self.assertion(metadata)

    def assertion(self, metadata: Metadata) -> str:
        """A fresh assertion for the token endpoint (RFC 7523)."""
        now = self._epoch()
        claims = {
            "iss": self._config.client_id,
            "sub": self._config.client_id,
            "aud": metadata.token_endpoint,
            "jti": random_text(self._random),
            "iat": now,
            "nbf": now,
            "exp": now + ASSERTION_SECONDS,
        }
        return jwt.encode(claims, self._key, self._algorithm(metadata), headers=self._header)

    def _algorithm(self, metadata: Metadata) -> str:
        key = self._key
        if isinstance(key, EllipticCurvePrivateKey):
            return _CURVES[key.curve.name]
        if not isinstance(key, RSAPrivateKey):
            return "EdDSA"
        supported = metadata.token_endpoint_auth_signing_alg_values_supported
        return next((each for each in _RSA if each in supported), _RSA[0])


def _header(config: ProviderConfig) -> dict[str, str]:
    """How the provider recognises the key: by its id, or by the thumbprints of a certificate (RFC 7515 section 4.1)."""
    header = {"kid": config.key_id} if config.key_id else {}
    if config.certificate_file is not None:
        octets = load_pem_x509_certificate(config.certificate_file.read_bytes()).public_bytes(Encoding.DER)
        # The older one is what some providers look the certificate up by; nothing rests on its strength.
        header["x5t"] = _text(hashlib.sha1(octets, usedforsecurity=False).digest())
        header["x5t#S256"] = _text(hashlib.sha256(octets).digest())
    return header


def _text(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
