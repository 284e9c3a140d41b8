"""Channel bindings."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from appproxy.sso.binding import endpoint_binding


def certificate(key: Any, algorithm: Any) -> bytes:
    """A certificate, DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "origin")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now)
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


class BindingTests(SynchronousTestCase):
    """RFC 5929, section 4.1."""

    @pytest.mark.feature("SSO-2")
    def test_the_hash_is_the_certificates_own(self) -> None:
        """SHA-256 and stronger as the signature has it."""
        key = ec.generate_private_key(ec.SECP256R1())
        for algorithm, digest in ((hashes.SHA256(), hashlib.sha256), (hashes.SHA512(), hashlib.sha512)):
            der = certificate(key, algorithm)
            self.assertEqual(endpoint_binding(der), b"tls-server-end-point:" + digest(der).digest())

    def test_no_hash_no_binding(self) -> None:
        """Keys that sign without one, and what is no certificate, are not guessed about."""
        self.assertIsNone(endpoint_binding(certificate(ed25519.Ed25519PrivateKey.generate(), None)))
        self.assertIsNone(endpoint_binding(b"no certificate"))
