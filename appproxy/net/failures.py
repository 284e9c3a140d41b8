"""Why a connection could not be made: one class per phase, so that nobody has to read texts."""

from __future__ import annotations

import ssl
from typing import ClassVar

from appproxy.errors import AppproxyError, Phase, Side


class DialFailed(AppproxyError):
    """The other side could not be reached.

    :ivar side: who did not answer; an origin unless the caller of :func:`appproxy.net.dial.dial` says otherwise.
    """

    code: ClassVar[str] = "unreachable"
    status: ClassVar[int] = 502
    side = Side.ORIGIN
    phase = Phase.CONNECT


class DnsFailed(DialFailed):
    """The name of the other side could not be resolved."""

    code = "dns"
    phase = Phase.DNS


class ConnectFailed(DialFailed):
    """The other side accepted no connection."""

    code = "connect"
    phase = Phase.CONNECT


class ConnectTimedOut(ConnectFailed):
    """The other side accepted no connection in time."""

    code = "connect-timeout"
    status = 504


class TlsFailed(DialFailed):
    """The other side was reached, but no trusted TLS connection came of it."""

    code = "tls"
    phase = Phase.TLS


#: What OpenSSL says about a certificate (``X509_V_ERR_*``), for operators.
_VERIFY_TEXTS = {
    7: "the certificate was not signed by the authority that it names",
    9: "the certificate is not valid yet (is a clock wrong?)",
    10: "the certificate has expired",
    18: "the certificate is self-signed and not trusted",
    19: "the certificate comes from an authority that is not trusted",
    20: "the certificate comes from an authority that is not trusted",
    21: "the certificate comes from an authority that is not trusted",
    23: "the certificate has been revoked",
    26: "the certificate is not meant for this purpose",
}

#: Alerts and other failures of OpenSSL by its reason, for operators.
_REASON_TEXTS = {
    "WRONG_VERSION_NUMBER": "the other side does not speak TLS on this port",
    "HTTP_REQUEST": "the other side speaks plain HTTP on this port",
    "UNSUPPORTED_PROTOCOL": "the other side only offers outdated versions of TLS",
    "NO_SHARED_CIPHER": "there is no cipher that both sides accept",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the other side refused our version of TLS",
    "TLSV1_ALERT_UNKNOWN_CA": "the other side does not trust the authority of our certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "the other side could not verify our certificate's key",
    "TLSV1_UNRECOGNIZED_NAME": "the other side does not know the name we asked for",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side demands a client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the other side refused our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the other side says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the other side says that our certificate was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the other side refused our certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the other side found no common ground (handshake failure)",
}


def explain(error: Exception) -> str:
    """Say in one phrase why TLS failed; *error* is what the ``ssl`` module raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_TEXTS.get(error.verify_code, f"the certificate was refused: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return "the other side broke off the handshake"
    if isinstance(error, ssl.SSLError) and error.reason:
        return _REASON_TEXTS.get(error.reason, error.reason.replace("_", " ").lower())
    return str(error)
