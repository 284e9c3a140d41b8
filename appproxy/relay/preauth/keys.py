"""A provider's published signing keys (RFC 7517), kept so that neither a flood nor an outage does harm."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from twisted.internet.defer import Deferred

from appproxy.relay.preauth.failures import ProviderUnreachable
from appproxy.relay.preauth.remembered import Remembered

#: Nothing symmetric and never ``none``: a key that is published must not be able to sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
MIN_RSA_BITS = 2048
#: Rotated keys are seen after this long even when nobody presents one.
REFRESH_SECONDS = 3600.0
#: An issuer is asked again for an unknown key this often at most: three at once, then one every 20 seconds.
FORCED_READS = 3
FORCED_READ_SECONDS = 20.0
#: For how long a key id that the issuer did not know is not asked for again, and how many such ids are remembered.
UNKNOWN_SECONDS = 60.0
MAX_UNKNOWN = 1000
#: After a failed read the next one waits this long; the last good keys serve.
RETRY_SECONDS = 5.0
#: A set longer than this is not what any provider publishes.
MAX_KEYS = 100


class Key(NamedTuple):
    """One usable verification key and the algorithms that it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    public: Any
    #: Whose key it is, where the set says so; it may stand for many tenants.
    issuer: str | None = None


def _fitting(public: object) -> frozenset[str]:
    """The algorithms that a key of this type and strength may be used with; empty for a key that is not acceptable."""
    if isinstance(public, RSAPublicKey):
        return frozenset(a for a in ALGORITHMS if a[:2] in ("RS", "PS") and public.key_size >= MIN_RSA_BITS)
    if isinstance(public, EllipticCurvePublicKey):
        return frozenset(a for a, curve in _CURVES.items() if curve == public.curve.name)
    if isinstance(public, Ed25519PublicKey | Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()


def parse_key(jwk: object) -> Key | None:
    """Read one member of a key set; None for one that must not verify signatures, whatever the reason."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP") or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        return None
    kid, named = jwk.get("kid"), jwk.get("alg")
    if kid is not None and not isinstance(kid, str):
        return None
    try:
        public = PyJWK({name: value for name, value in jwk.items() if name != "alg" and name != "d"}).key
    except (PyJWTError, ValueError, TypeError):
        return None
    fitting = _fitting(public)
    if named is not None:
        fitting &= {named} if isinstance(named, str) else set()
    issuer = jwk.get("issuer")
    return Key(kid, fitting, public, issuer if isinstance(issuer, str) else None) if fitting else None


def parse_keys(document: bytes) -> tuple[Key, ...]:
    """Read a key set.

    :raises ProviderUnreachable: it is none, or holds no key that may be used.
    """
    try:
        members = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ProviderUnreachable("the key set is not JSON") from None
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise ProviderUnreachable("the key set has no list of keys")
    keys = tuple(key for key in map(parse_key, members) if key is not None)
    if not keys:
        raise ProviderUnreachable("the key set has no usable key")
    return keys


def _matching(keys: tuple[Key, ...], kid: str | None, algorithm: str) -> list[Key]:
    """The keys of this id; without an id each is worth a try, and so is a single key without one."""
    able = [key for key in keys if algorithm in key.algorithms]
    if kid is None:
        return able
    return [key for key in able if key.kid == kid or (key.kid is None and len(keys) == 1)]


class KeySet:
    """The keys of one issuer.

    :param read: fetches the published document; raises :exc:`ProviderUnreachable`.
    :param seconds: a monotonic clock.
    """

    def __init__(self, read: Callable[[], Coroutine[Deferred[Any], Any, bytes]], seconds: Callable[[], float]) -> None:
        async def read_keys() -> tuple[Key, ...]:
            return parse_keys(await read())

        self._keys = Remembered(read_keys, seconds, REFRESH_SECONDS, RETRY_SECONDS)
        self._seconds = seconds
        self._allowance, self._counted = float(FORCED_READS), seconds()
        self._unknown: dict[str, float] = {}

    async def find(self, kid: str | None, algorithm: str) -> list[Key]:
        """Give the keys that may have signed a token with this header; empty if there are none.

        :raises ProviderUnreachable: there are no keys yet and none could be read.
        """
        found = _matching(await self._keys.get(), kid, algorithm)
        if found or kid is None or not self._may_ask_again(kid):
            return found
        found = _matching(await self._keys.refresh(), kid, algorithm)
        if not found:
            if len(self._unknown) >= MAX_UNKNOWN:
                self._unknown.clear()
            self._unknown[kid] = self._seconds() + UNKNOWN_SECONDS
        return found

    def _may_ask_again(self, kid: str) -> bool:
        now = self._seconds()
        if self._unknown.get(kid, now) > now:
            return False
        if self._keys.reading:
            return True
        self._allowance = min(float(FORCED_READS), self._allowance + (now - self._counted) / FORCED_READ_SECONDS)
        self._counted = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
