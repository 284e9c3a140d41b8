"""Signing requests as connectors, and attackers, would send them."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

SHA256 = hashes.SHA256()


def make_request(key: Any = None, name: str = "hq-1", *extensions: x509.ExtensionType, algorithm: Any = SHA256) -> str:
    """A signing request in PEM, signed by *key* (a new one of EC P-256 if None)."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    key = key or ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()
