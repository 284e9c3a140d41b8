"""What a connector is known by: its key and certificate, and the authority it trusts, in files of the state folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from appproxy.config import check_private
from appproxy.errors import ConfigError
from appproxy.net.tls import ClientTLS, client_tls

#: Key and certificate chain in one file, so that they always belong together.
CERTIFICATE_FILE = "connector.pem"
#: The relay's authorities: the one pinned at enrolment, then those that the relay tells of.
AUTHORITY_FILE = "relay-ca.pem"
#: The number of the last boot.
EPOCH_FILE = "epoch"


@dataclass(frozen=True)
class Credentials:
    """An enrolled connector.

    :ivar connector: its id, the common name of its certificate.
    :ivar authority: whom relays' certificates have to come from, in PEM.
    :ivar authorities: who may issue connectors' certificates, in PEM: pinned at enrolment, then as the relay tells.
    :ivar issuer: SHA-256 of the authority that this certificate is from, in hexadecimal.
    :ivar not_before: when the certificate becomes valid, *not_after* when it expires, epoch seconds.
    """

    connector: str
    certificate_file: Path
    authority: str
    authorities: str
    issuer: str
    not_before: float
    not_after: float

    @classmethod
    def load(cls, state_dir: Path, authority_file: Path | None = None) -> Self | None:
        """Read them; None when the connector has not been enrolled.

        :param authority_file: trusted instead of what was pinned.
        :raises ConfigError: a file is damaged, or open to others.
        """
        path = state_dir / CERTIFICATE_FILE
        if not path.exists():
            return None
        check_private(path, str(path))
        try:
            certificate, *chain = x509.load_pem_x509_certificates(path.read_bytes())
            authorities = (state_dir / AUTHORITY_FILE).read_text("ascii")
            authority = authority_file.read_text("ascii") if authority_file else authorities
        except (OSError, ValueError) as problem:
            raise ConfigError(str(path), f"cannot be used ({problem}); remove it and enrol again") from None
        return cls(
            str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value),
            path,
            authority,
            authorities,
            chain[0].fingerprint(hashes.SHA256()).hex() if chain else "",
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )

    @property
    def renewal(self) -> float:
        """When two thirds of its life are over."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3

    def tls(self) -> ClientTLS:
        """How to be a client of the relay: mutual, and with no other authority than the pinned one."""
        return client_tls(ca_pem=self.authority, certificate=self.certificate_file)


class PendingKey:
    """A new key that has no certificate yet."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def signing_request(self, name: str) -> str:
        """Ask for a certificate; the relay chooses everything but the key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key, hashes.SHA256())
        return request.public_bytes(Encoding.PEM).decode("ascii")

    def keep(self, chain: str, authorities: str, state_dir: Path) -> None:
        """Store the key with its certificate, and the authorities; the old ones are replaced at once or not at all.

        :raises ValueError: the certificate is for another key or from another authority.
        """
        certificate = x509.load_pem_x509_certificates(chain.encode("ascii"))[0]
        if _octets(certificate.public_key()) != _octets(self._key.public_key()):
            raise ValueError("the certificate is for another key")
        if not any(_issued(certificate, each) for each in x509.load_pem_x509_certificates(authorities.encode("ascii"))):
            raise ValueError("the certificate comes from another authority")
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(state_dir / AUTHORITY_FILE, authorities.encode("ascii"))
        write_whole(state_dir / CERTIFICATE_FILE, key + chain.encode("ascii"))


def keep_authorities(authorities: str, state_dir: Path) -> None:
    """Trust these from now on, instead of those before.

    :raises ValueError: they are no certificates.
    """
    x509.load_pem_x509_certificates(authorities.encode("ascii"))
    write_whole(state_dir / AUTHORITY_FILE, authorities.encode("ascii"))


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _octets(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def next_epoch(state_dir: Path, now: float) -> int:
    """The number of this boot: greater than that of every earlier one, also when the clock was set back."""
    path = state_dir / EPOCH_FILE
    try:
        last = int(path.read_text("ascii"))
    except (OSError, ValueError):
        last = 0
    epoch = max(last + 1, int(now))
    write_whole(path, b"%d" % epoch)
    return epoch


def write_whole(path: Path, octets: bytes) -> None:
    """Replace *path*, readable by its owner only, whole or not at all, also when the power fails."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
