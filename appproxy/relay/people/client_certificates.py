"""Certificates of users: whose they are, and what they are good for.

TLS has verified them against the authorities of the host that the client asked for by SNI (:meth:`appproxy.relay.
certificates.ServerCertificates.asking`).  They count for requests to that host only: a connection that was made for
another one, with other authorities or none, is told so (421, RFC 9110 section 15.5.20), and the client makes a new one.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from appproxy.applications import ClientCertificates
from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.messages import Field
from appproxy.identity import Identity
from appproxy.relay.access.policy import Decision
from appproxy.relay.preauth.people import MAX_USER_CHARACTERS, PROGRAMS

if TYPE_CHECKING:
    from appproxy.relay.access.rules import Applying
    from appproxy.relay.catalog import Published
    from appproxy.relay.front.client_exchange import ClientExchange
    from appproxy.relay.people.sessions import Watcher

#: Who vouches for the owners of certificates: an application's authorities.
ISSUER = "urn:appproxy:certificate:"
#: The user principal name in a certificate of Active Directory: an ASN.1 UTF8String in another name.
_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8_STRING = 0x0C
#: Certificates whose owners are remembered.
MAX_REMEMBERED = 4096


class Misdirected(AppproxyError):
    """The client's connection was made for another host; it has to make one for this."""

    code, status, side, phase = "misdirected", 421, Side.CLIENT, Phase.REQUEST


class CertificateMissing(AppproxyError):
    """The client has shown no certificate, or it has expired since, or names nobody."""

    code, status, side, phase = "certificate-missing", 403, Side.CLIENT, Phase.SIGN_IN


class CertificateRefused(AppproxyError):
    """The certificate's owner may not use this."""

    code, status, side, phase = "refused", 403, Side.CLIENT, Phase.POLICY


class _Owner(NamedTuple):
    """What a certificate says; *ends* in epoch seconds."""

    ends: int
    names: dict[str, str]
    claims: dict[str, str]


class Certificate:
    """A certificate in use: an identity if it names a user, and the field for the origin if it gets one."""

    __slots__ = ("field", "identity")

    def __init__(self, identity: Identity | None, field: Field | None) -> None:
        self.identity = identity
        self.field = field


class Owner:
    """A user by their certificate, for the gateway."""

    __slots__ = ("identity",)

    def __init__(self, identity: Identity) -> None:
        self.identity = identity

    def decide(self, published: Published, applying: Applying | None, now: int) -> Decision:
        """Say whether they may: assigned, and by rules, as in a browser."""
        if applying is None:
            return published.assignment.decide(self.identity)
        return applying.decide(self.identity, now)

    def refusal(self, published: Published, decision: Decision, now: int) -> AppproxyError:
        """There is no better certificate to be had."""
        return CertificateRefused(", ".join(decision.reasons))

    def watch(self, watcher: Watcher) -> None:
        """A certificate lasts as long as its connection."""

    def unwatch(self, watcher: Watcher) -> None:
        """Nothing was watched."""


class Certified:
    """What the certificates of one application's users are for."""

    __slots__ = ("_issuer", "_settings", "trusted")

    def __init__(self, application: str, settings: ClientCertificates) -> None:
        self._settings = settings
        self._issuer = ISSUER + application
        self.trusted = settings.ca

    def look(self, exchange: ClientExchange, now: int) -> Certificate:
        """What the client's connection has shown for this request; *now* in epoch seconds.

        :raises Misdirected: the connection was made for something else.
        :raises CertificateMissing: it needs a certificate and has none that will do.
        """
        secured = exchange.secured
        if getattr(secured, "trusted", "") != self.trusted or secured.sni != exchange.host:
            raise Misdirected
        der = secured.getPeerCertificateDER()
        owner = _read(der) if der is not None else None
        if der is None or owner is None or owner.ends <= now:
            if self._settings.required:
                raise CertificateMissing("none" if der is None else "expired or malformed")
            return Certificate(None, None)
        field = (b"Client-Cert", b":%b:" % b64encode(der)) if self._settings.forward else None
        return Certificate(self._identity(owner), field)

    def _identity(self, owner: _Owner) -> Identity | None:
        kind = self._settings.user
        name = owner.names.get(kind, "") if kind else ""
        if not name:
            if kind and self._settings.required:
                raise CertificateMissing(f"it has no {kind}")
            return None
        return Identity(issuer=self._issuer, subject=name, user=name, claims=owner.claims)


@lru_cache(maxsize=MAX_REMEMBERED)
def _read(der: bytes) -> _Owner | None:
    """What a certificate says; None where that cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = {"cn": _common_name(certificate), **_alternative_names(certificate)}
        claims = {
            "certificate_subject": certificate.subject.rfc4514_string(),
            "certificate_issuer": certificate.issuer.rfc4514_string(),
            "certificate_serial": f"{certificate.serial_number:x}",
            "certificate_sha256": certificate.fingerprint(SHA256()).hex(),
        }
    except (ValueError, x509.DuplicateExtension):
        return None
    usable = {kind: name for kind, name in names.items() if _is_name(name)}
    return _Owner(int(certificate.not_valid_after_utc.timestamp()), usable, claims)


def _is_name(name: str) -> bool:
    sound = 0 < len(name) <= MAX_USER_CHARACTERS and name.isprintable() and name == name.strip()
    return sound and not name.startswith(PROGRAMS)


def _common_name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def _alternative_names(certificate: x509.Certificate) -> dict[str, str]:
    """The names by kind, where there is one of the kind: of two, neither says who it is."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {}
    emails = names.get_values_for_type(x509.RFC822Name)
    principals = [_text(each.value) for each in names.get_values_for_type(x509.OtherName) if each.type_id == _UPN]
    found = {}
    if len(emails) == 1:
        found["email"] = emails[0]
    if len(principals) == 1:
        found["upn"] = principals[0]
    return found


def _text(encoded: bytes) -> str:
    """An ASN.1 UTF8String of less than 128 octets, or of up to 255; empty for anything else."""
    if len(encoded) < 2 or encoded[0] != _UTF8_STRING:
        return ""
    start, length = (3, encoded[2]) if encoded[1] == 0x81 and len(encoded) > 2 else (2, encoded[1])
    body = encoded[start:]
    try:
        return body.decode("utf-8") if len(body) == length else ""
    except UnicodeDecodeError:
        return ""
