"""The first contact with a relay: find the authority that the enrolment token names, and trust no other.

A token is ``apt1.SECRET.FINGERPRINT``; the fingerprint is the SHA-256 of the relay authority's certificate.  The relay
shows its chain, the authority included; the one certificate in it with that fingerprint is pinned.  Trust on first use
is never blind: who handed out the token said whom to trust.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import ssl
from base64 import urlsafe_b64decode
from collections.abc import Iterable

from appproxy.errors import ConfigError
from appproxy.net.failures import ConnectFailed, DnsFailed, TlsFailed, explain
from appproxy.net.tls import is_address

_TOKEN = re.compile(r"apt1\.[A-Za-z0-9_-]{16,}\.([A-Za-z0-9_-]{43})")
#: For name, connection and handshake, each.
SECONDS = 10.0


def fingerprint_in(token: str, where: str) -> bytes:
    """Whom the token says to trust.

    :raises ConfigError: it is no token.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ConfigError(where, "is no enrolment token; issue one with: appproxy token enrol --group GROUP")
    return urlsafe_b64decode(match[1] + "=")


def find_authority(chain: Iterable[bytes], fingerprint: bytes) -> str:
    """The certificate of *chain* (DER) that has that fingerprint, as PEM.

    :raises TlsFailed: there is none: another relay, or somebody in between.
    """
    for certificate in chain:
        if hmac.compare_digest(hashlib.sha256(certificate).digest(), fingerprint):
            return ssl.DER_cert_to_PEM_cert(certificate)
    raise TlsFailed(
        "the relay's certificate does not come from the authority that the enrolment token names; "
        "check connector.relays, or set connector.relay_ca_file if the relay's own certificate is from elsewhere"
    )


def fetch_chain(host: str, port: int) -> list[bytes]:
    """The certificates that a relay shows, in DER and unverified.  Blocks; nothing is sent but the handshake.

    :raises DialFailed: why there are none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = None if is_address(host) else host
    try:
        with (
            socket.create_connection((host, port), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            return _chain_of(secured)
    except socket.gaierror as problem:
        raise DnsFailed(f"{host}: {problem.strerror}") from None
    except ssl.SSLError as problem:
        raise TlsFailed(f"{host}:{port}: {explain(problem)}") from None
    except OSError as problem:
        raise ConnectFailed(f"{host}:{port}: {problem.strerror or problem}") from None


def _chain_of(secured: ssl.SSLSocket) -> list[bytes]:
    if hasattr(secured, "get_unverified_chain"):  # Python 3.13
        return list(secured.get_unverified_chain())
    chain = secured._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain or ()]
