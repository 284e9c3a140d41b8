"""The relay's own certificate authority: certificates for connectors, and for development servers.

A connector sends a signing request; only its public key is used.  Subject, names, purpose and lifetime of what is
issued are chosen here, whatever the request asks for (R04).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appproxy.errors import AppproxyError

DAY = 86400
AUTHORITY_DAYS = 3650
CONNECTOR_DAYS = 30
SERVER_DAYS = 90
#: Certificates begin this much in the past, so that a clock which is a little slow accepts them.
BACKDATED_SECONDS = 3600
#: A signing request with the largest key that we take is shorter.
MAX_REQUEST_CHARACTERS = 16 * 1024
#: The URI in a connector's certificate is this and the connector's id.
CONNECTOR_URI = "appproxy:connector:"
_CONNECTOR_ID = re.compile(r"c-[0-9a-z]{1,60}")
#: Larger keys only cost time.
_RSA_BITS = range(2048, 8193)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
#: What a name in a signing request may hold; everything else is a trick (R05), and no name of it is used anyway.
_PLAIN = re.compile(r"[ -~]{0,255}")

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class UnacceptableRequest(AppproxyError):
    """The certificate signing request cannot be granted; the text says why."""

    code, status = "bad-signing-request", 400


class Issued(NamedTuple):
    """A new certificate: PEM with its issuer's behind it, serial number in hexadecimal, end in epoch seconds."""

    pem: bytes
    serial: str
    not_after: int


class Authority:
    """One certification authority: its key and its certificate.

    :ivar pem: the certificate alone.
    :ivar fingerprint: SHA-256 of the certificate's DER; connectors pin it.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate
        self.pem = certificate.public_bytes(Encoding.PEM)
        self.fingerprint = certificate.fingerprint(hashes.SHA256())

    @classmethod
    def load(cls, pem: bytes) -> Self:
        """Read what :func:`make_authority` wrote.

        :raises ValueError: it is something else.
        """
        key = load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the key of the authority is not an elliptic curve key")
        return cls(key, x509.load_pem_x509_certificate(pem))

    def whole(self) -> bytes:
        """Key and certificate, for :meth:`load`."""
        return private_pem(self._key) + self.pem

    def certify_connector(self, request: str, connector: str, now: int) -> Issued:
        """Issue the certificate of *connector* for the key in a PEM signing request.

        :raises UnacceptableRequest: the request is malformed, not signed by its key, or the key is weak.
        """
        if not _CONNECTOR_ID.fullmatch(connector):
            raise ValueError(f"{connector!r} is not a connector id")
        key = read_request(request)
        names = [x509.UniformResourceIdentifier(CONNECTOR_URI + connector)]
        return self._issue(key, connector, names, ExtendedKeyUsageOID.CLIENT_AUTH, now, CONNECTOR_DAYS)

    def certify_server(self, key: PublicKey, hosts: Sequence[str], now: int) -> Issued:
        """Issue a development server certificate for host names and addresses."""
        return self._issue(
            key, hosts[0][:64], [_host_name(host) for host in hosts], ExtendedKeyUsageOID.SERVER_AUTH, now, SERVER_DAYS
        )

    def _issue(
        self,
        key: PublicKey,
        common_name: str,
        names: Iterable[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
        now: int,
        days: int,
    ) -> Issued:
        serial, not_after = x509.random_serial_number(), now + days * DAY
        issuer_key = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = _builder(common_name, self.certificate.subject, key, serial, now, not_after)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(certificate.public_bytes(Encoding.PEM) + self.pem, f"{serial:x}", not_after)


def make_authority(now: int) -> bytes:
    """A new authority, as the PEM of its key and certificate: what the store keeps."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"appproxy relay authority {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, subject, key.public_key(), x509.random_serial_number(), now, now + AUTHORITY_DAYS * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return private_pem(key) + certificate.public_bytes(Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as unencrypted PEM; whoever keeps it keeps it from others."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


#: What the library raises for requests that are none.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def read_request(pem: str) -> PublicKey:
    """The public key that a PEM signing request is for.

    :raises UnacceptableRequest: malformed, not signed by its key, odd names in it, or a weak key.
    """
    if len(pem) > MAX_REQUEST_CHARACTERS or not pem.isascii():
        raise UnacceptableRequest("the signing request is not PEM")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        key = _strong(request.public_key())
        _check_names(request)
        if not isinstance(key, ed25519.Ed25519PublicKey) and not isinstance(request.signature_hash_algorithm, _HASHES):
            raise UnacceptableRequest("the signing request is signed with an outdated hash; use SHA-256")
        if not request.is_signature_valid:
            raise UnacceptableRequest("the signing request is not signed by its own key")
    except _UNREADABLE:
        raise UnacceptableRequest("the signing request is malformed or uses an algorithm that is not taken") from None
    return key


def _strong(key: object) -> PublicKey:
    match key:
        case rsa.RSAPublicKey() if key.key_size in _RSA_BITS:
            return key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, _CURVES):
            return key
        case ed25519.Ed25519PublicKey():
            return key
    raise UnacceptableRequest("the key is weak or of another kind; use EC P-256, Ed25519 or RSA of 2048 bits or more")


def _check_names(request: x509.CertificateSigningRequest) -> None:
    """Refuse names with NUL and the like; names themselves do not matter."""
    texts = [attribute.value for attribute in request.subject]
    for extension in request.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            texts += [str(name.value) for name in extension.value if not isinstance(name, x509.DirectoryName)]
    if not all(isinstance(text, str) and _PLAIN.fullmatch(text) for text in texts):
        raise UnacceptableRequest("the signing request has a name with characters that names do not have")


def _builder(
    common_name: str, issuer: x509.Name, key: PublicKey, serial: int, now: int, not_after: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(now - BACKDATED_SECONDS, UTC))
        .not_valid_after(datetime.fromtimestamp(not_after, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
