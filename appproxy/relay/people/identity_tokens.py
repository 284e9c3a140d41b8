"""Signed statements on who the user is, for origins that check them (RFC 7519).

They last for minutes and are for one application.  Origins find the key at ``/.appproxy/jwks`` of the relay's host; all
relays of a cluster have the same.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.messages import Field
from appproxy.identity import Identity
from appproxy.relay.catalog import Published
from appproxy.relay.exchange import Exchange

SECRET = "identity-token-key"  # noqa: S105 - a name
#: Common origins refuse longer fields.
MAX_TOKEN_BYTES = 8 * 1024
#: Users that a token is at hand for; it is made anew when half its time is over.
MAX_REMEMBERED = 10_000
#: Claims that are the token's own to say.
_OWN = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "idp", "preferred_username", "groups", "auth_time"})


class IdentityTokenTooLarge(AppproxyError):
    """What the origin is to be told of this user does not fit into a header; name fewer claims, or leave groups out."""

    code, status, side, phase = "identity-token-too-large", 502, Side.RELAY, Phase.SSO


class _Made(NamedTuple):
    """A token at hand, for this very identity, until it is made anew (epoch seconds)."""

    identity: Identity
    field: Field
    until: int


def make_key() -> bytes:
    """A new signing key, as PEM."""
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class IdentityTokens:
    """Signs for all applications.

    :param pem: what :func:`make_key` made.
    :param issuer: the relay's public URL.
    :param epoch: epoch seconds.
    :raises ValueError: the key is none.
    """

    def __init__(self, pem: bytes, issuer: str, epoch: Callable[[], int]) -> None:
        key = load_pem_private_key(pem, None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError("the key for identity tokens is not of an elliptic curve")
        self._key = key
        self._issuer = issuer
        self._epoch = epoch
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self._kid = _thumbprint(public)
        published = {**public, "kid": self._kid, "use": "sig", "alg": "ES256"}
        self._key_set = msgspec.json.encode({"keys": [published]})
        self._made: dict[tuple[str, str, str], _Made] = {}

    def field(self, published: Published, identity: Identity) -> Field:
        """The field that tells the origin of *published* who the user is.

        :raises IdentityTokenTooLarge: that is too much.
        """
        name, now = (published.id, identity.issuer, identity.subject), self._epoch()
        made = self._made.get(name)
        if made is not None and made.identity is identity and now < made.until:
            return made.field
        settings = published.application.identity_token
        lifetime = int(settings.lifetime)
        token = self._sign(published, identity, now, lifetime)
        if len(token) > MAX_TOKEN_BYTES:
            raise IdentityTokenTooLarge(f"{len(token)} bytes for {identity.user}")
        if len(self._made) >= MAX_REMEMBERED:
            self._made.clear()
        field = settings.header.encode("ascii"), token
        self._made[name] = _Made(identity, field, now + max(1, lifetime // 2))
        return field

    def _sign(self, published: Published, identity: Identity, now: int, lifetime: int) -> bytes:
        settings = published.application.identity_token
        said = {name: identity.claims[name] for name in settings.claims if name in identity.claims and name not in _OWN}
        claims: dict[str, Any] = {
            **said,
            "iss": self._issuer,
            "aud": published.id,
            "sub": identity.subject,
            "idp": identity.issuer,
            "preferred_username": identity.user,
            "iat": now,
            "exp": now + lifetime,
        }
        if identity.authenticated_at:
            claims["auth_time"] = identity.authenticated_at
        if settings.groups:
            claims["groups"] = list(identity.groups)
        return jwt.encode(claims, self._key, "ES256", headers={"kid": self._kid}).encode("ascii")

    async def serve_keys(self, exchange: Exchange) -> None:
        """``jwks``: what origins check the tokens with (RFC 7517)."""
        fields = [(b"Content-Type", b"application/jwk-set+json"), (b"Cache-Control", b"public, max-age=300")]
        exchange.answer(200, fields, self._key_set)


def _thumbprint(jwk: dict[str, Any]) -> str:
    """The name of a key (RFC 7638)."""
    needed = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(msgspec.json.encode(needed, order="sorted")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
