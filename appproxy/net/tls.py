"""TLS contexts: what we show as a server, whom we trust as a client.

TLS 1.2 and 1.3, forward-secret authenticated ciphers only, no compression, no renegotiation, no early data, ALPN
``http/1.1``, with ``h2`` before it where a listener offers that.  The names in a peer's certificate are checked by
*service-identity*, never by OpenSSL.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

from appproxy.errors import ConfigError
from appproxy.net.failures import TlsFailed, explain

#: The ciphers of TLS 1.2; those of 1.3 are all good.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
ALPN = ("http/1.1",)
#: The same of a listener that speaks HTTP/2, too, and would rather.
ALPN_WITH_HTTP2 = ("h2", *ALPN)


class SecureSocket(ssl.SSLSocket):
    """A TLS socket that remembers the server name asked for; set by the contexts made here."""

    sni: str = ""


def _harden(context: ssl.SSLContext, protocols: Sequence[str] = ALPN) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(protocols))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # An end of file without close_notify must be told from a proper end.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.sslsocket_class = SecureSocket
    return context


def server_context(
    certificate: Path, key: Path | None = None, *, client_ca_pem: str = "", protocols: Sequence[str] = ALPN
) -> ssl.SSLContext:
    """Make the context of a server that shows *certificate* (the chain, and the key unless *key* names its file).

    :param client_ca_pem: ask for a client certificate and verify it against these authorities.  A client may still
        come without; look at ``transport.getPeerCertificateDER()``.
    :param protocols: for ALPN, the preferred one first.
    :raises ConfigError: a file cannot be used, with the reason.
    """
    context = _harden(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), protocols)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_chain(context, certificate, key)
    if client_ca_pem:
        _trust_pem(context, client_ca_pem, "connector CA")
        context.verify_mode = ssl.CERT_OPTIONAL
        # Whoever was revoked must not come back with a ticket.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


@dataclass(frozen=True)
class ClientTLS:
    """How to be a TLS client.

    :ivar context: trust, versions and our own certificate.
    :ivar server_name: checked, and sent as SNI, instead of the host that is dialled.
    :ivar verify: false accepts any certificate of any name.
    """

    context: ssl.SSLContext
    server_name: str = ""
    verify: bool = True

    def check_for(self, host: str) -> Callable[[bytes | None], None] | None:
        """Return what checks the certificate of *host*, None if nothing does."""
        return partial(check_name, self.server_name or host) if self.verify else None


def client_tls(
    *,
    ca_file: Path | None = None,
    ca_pem: str = "",
    system: bool | None = None,
    verify: bool = True,
    server_name: str = "",
    certificate: Path | None = None,
    key: Path | None = None,
) -> ClientTLS:
    """Make the client side.

    :param ca_file: trust these authorities (PEM); ``ca_pem``: the same as text.
    :param system: trust the system's authorities too; by default only if no others are given.
    :param certificate: our own chain for mutual TLS, with its *key* unless that is in the same file.
    :raises ConfigError: a file cannot be used, with the reason.
    """
    context = _harden(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = False  # done by service-identity, see check_name
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    if ca_file is not None:
        try:
            _trust_pem(context, ca_file.read_text("ascii"), str(ca_file))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(str(ca_file), f"cannot be read: {error}") from None
    if ca_pem:
        _trust_pem(context, ca_pem, "CA")
    if system if system is not None else not (ca_file or ca_pem):
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certificate is not None:
        _load_chain(context, certificate, key)
    return ClientTLS(context, server_name, verify)


def check_name(name: str, der: bytes | None) -> None:
    """Refuse a certificate that was not issued for *name*, a host name or an IP address.

    :raises TlsFailed: says whose certificate it is.
    """
    if der is None:
        raise TlsFailed(f"{name} showed no certificate")
    certificate = x509.load_der_x509_certificate(der)
    try:
        if is_address(name):
            verify_certificate_ip_address(certificate, name)
        else:
            verify_certificate_hostname(certificate, name)
    except (VerificationError, CertificateError):
        names = ", ".join(names_of(certificate)) or "nobody"
        raise TlsFailed(f"the certificate is for {names}, not for {name}") from None


def is_address(host: str) -> bool:
    """Return whether *host* is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses that *certificate* is valid for, in lower case."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    names = extension.get_values_for_type(x509.DNSName)
    return [name.lower() for name in names] + [str(a) for a in extension.get_values_for_type(x509.IPAddress)]


def _trust_pem(context: ssl.SSLContext, pem: str, where: str) -> None:
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(where, f"holds no usable CA certificate in PEM form ({explain(error)})") from None


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    key_file = key or certificate
    try:
        mode = key_file.stat().st_mode & 0o777
        if mode & 0o007:
            raise ConfigError(
                str(key_file), f"this private key can be read by everybody (mode {mode:04o}); do: chmod 600 {key_file}"
            )
        # A password is refused rather than asked for on a terminal.
        context.load_cert_chain(certificate, key, password=b"")
    except ssl.SSLError as error:
        reason = error.reason or ""
        if reason == "KEY_VALUES_MISMATCH":
            problem = f"the key in {key_file} does not belong to the certificate"
        elif "ENCRYPTED" in key_file.read_text("ascii", "replace"):
            problem = f"the key in {key_file} is encrypted; store it without a password"
        else:
            problem = f"no certificate chain followed by its key in PEM form ({explain(error)})"
        raise ConfigError(str(certificate), problem) from None
    except OSError as error:
        raise ConfigError(str(error.filename or certificate), f"cannot be read: {error.strerror}") from None
