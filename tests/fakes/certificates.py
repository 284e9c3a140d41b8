"""Certificates for tests: an authority and what it issues, valid for minutes, made in a millisecond."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NOW = datetime.datetime.now(datetime.UTC)
_DAY = datetime.timedelta(days=1)
#: A user principal name of Active Directory.
_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    kind, _, rest = name.partition(":")
    if kind == "upn" and rest:
        octets = rest.encode()
        return x509.OtherName(_UPN, b"\x0c" + bytes([len(octets)]) + octets)
    if kind == "email" and rest:
        return x509.RFC822Name(rest)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)


class Authority:
    """A certificate authority of its own.

    :ivar pem: its certificate.
    """

    def __init__(self, name: str = "Test CA") -> None:
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(self._name, self._name, self._key.public_key(), _NOW - _DAY, _NOW + _DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self,
        *names: str,
        not_before: datetime.datetime = _NOW - _DAY,
        not_after: datetime.datetime = _NOW + _DAY,
        client: bool = False,
    ) -> tuple[str, str]:
        """Return a certificate for *names* (hosts, addresses, URIs, ``upn:``, ``email:``) and its key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            _builder(_name(names[0] if names else "nobody"), self._name, key.public_key(), not_before, not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return (
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        )

    def write(self, path: Path, *names: str, expired: bool = False, client: bool = False) -> Path:
        """Issue for *names* into one file with chain and key, mode 0600."""
        not_after = _NOW - _DAY / 2 if expired else _NOW + _DAY
        certificate, key = self.issue(*names, not_after=not_after, client=client)
        path.touch(mode=0o600)
        path.write_text(certificate + key)
        return path


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    not_before: datetime.datetime,
    not_after: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
