"""What a provider publishes about itself (OpenID Connect Discovery 1.0), checked before anything of it is used."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from appproxy.config.urls import is_loopback
from appproxy.relay.preauth.failures import ProviderMisconfigured, ProviderUnreachable
from appproxy.relay.preauth.fetching import Fetch

#: A discovery document or key set is a few KiB; this is generous.
MAX_DOCUMENT_BYTES = 1 << 20
DOCUMENT_TIMEOUT_SECONDS = 10.0


class Metadata(msgspec.Struct, frozen=True):
    """The members of the discovery document that a relying party needs."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    token_endpoint_auth_signing_alg_values_supported: tuple[str, ...] = ()
    authorization_response_iss_parameter_supported: bool = False


_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint")


def check_address(url: str, what: str, allow_http: bool) -> None:
    """Accept *url* as a provider's endpoint.

    :param allow_http: accept ``http`` too, on this machine only: for development.
    :raises ProviderMisconfigured: anything but an absolute https address without user and fragment.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ProviderMisconfigured(f"{what} is not an address") from None
    if not host or parts.username is not None or parts.fragment or not url.isascii() or not url.isprintable():
        raise ProviderMisconfigured(f"{what} is not an absolute address")
    if parts.scheme != "https" and not (parts.scheme == "http" and allow_http and is_loopback(host)):
        raise ProviderMisconfigured(f"{what} is not https")


def discovery_address(issuer: str, metadata_url: str) -> str:
    """Where the document is: *metadata_url* if configured, else derived from *issuer*."""
    return metadata_url or issuer.rstrip("/") + "/.well-known/openid-configuration"


def parse_metadata(document: bytes, issuer: str, allow_http: bool) -> Metadata:
    """Read a discovery document.

    :raises ProviderUnreachable: it is not one.
    :raises ProviderMisconfigured: it is another issuer's, or names an address that is not acceptable.
    """
    try:
        metadata = msgspec.json.decode(document, type=Metadata)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise ProviderUnreachable(f"discovery document: {problem}") from None
    if metadata.issuer != issuer:
        raise ProviderMisconfigured("the discovery document is another issuer's")
    for name in _ENDPOINTS:
        address = getattr(metadata, name)
        if address or name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            check_address(address, name, allow_http)
    return metadata


async def fetch_metadata(fetch: Fetch, issuer: str, metadata_url: str, allow_http: bool) -> Metadata:
    """Fetch and check the discovery document.

    :raises ProviderUnreachable: no document came.
    :raises ProviderMisconfigured: not one that may be used.
    """
    check_address(issuer, "issuer", allow_http)
    url = discovery_address(issuer, metadata_url)
    check_address(url, "metadata_url", allow_http)
    accept = {"Accept": "application/json"}
    answer = await fetch("GET", url, accept, b"", MAX_DOCUMENT_BYTES, DOCUMENT_TIMEOUT_SECONDS)
    if answer.status != 200:
        raise ProviderUnreachable(f"discovery answered {answer.status}")
    return parse_metadata(answer.body, issuer, allow_http)
