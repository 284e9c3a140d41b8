"""Channel bindings: a ticket that goes over TLS holds for the origin's certificate only (RFC 5929, section 4)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

#: These are too weak to bind anything; SHA-256 takes their place.
_WEAK: Final = frozenset({"md5", "sha1"})


@lru_cache(maxsize=1024)
def endpoint_binding(certificate: bytes) -> bytes | None:
    """``tls-server-end-point`` of a certificate (DER); None where it has no hash of its own to go by."""
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, x509.InvalidVersion):
        return None
    if algorithm is None:  # Ed25519 and the like: RFC 5929 has no answer
        return None
    digest = hashes.Hash(hashes.SHA256() if algorithm.name in _WEAK else algorithm)
    digest.update(certificate)
    return b"tls-server-end-point:" + digest.finalize()
