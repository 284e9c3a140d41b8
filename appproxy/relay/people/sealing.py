"""Values that leave in cookies and addresses and come back unread and unchanged: AES-256-GCM under the store's key.

A sealed text names its purpose, so that what was sealed for one cannot be presented for another.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
#: The first byte of every sealed value; a later form takes another.
_VERSION = b"\x01"
#: Cookies hold 4 KiB at most; nothing that we sealed for a browser is longer, and no more than this is ever decrypted.
MAX_SEALED_CHARACTERS = 8192

T = TypeVar("T")


class Unsealable(Exception):
    """This text was not sealed by us, or for another purpose; nothing more is told."""


class Sealer:
    """Seals values with one key.

    :param key: 32 bytes, shared by all relays of a cluster (``store.secrets``).
    :param random: gives that many unpredictable bytes.
    """

    def __init__(self, key: bytes, random: Callable[[int], bytes]) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(key)
        self._random = random

    def seal_bytes(self, purpose: str, value: Any) -> bytes:
        """Encrypt and authenticate *value* (anything msgspec can encode)."""
        nonce = self._random(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, msgspec.msgpack.encode(value), purpose.encode())

    def open_bytes(self, purpose: str, sealed: bytes, kind: type[T]) -> T:
        """Give back what :meth:`seal_bytes` was given.

        :raises Unsealable: for anything else.
        """
        if sealed[:1] != _VERSION or len(sealed) <= 1 + _NONCE_BYTES:
            raise Unsealable
        nonce, text = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return msgspec.msgpack.decode(self._cipher.decrypt(nonce, text, purpose.encode()), type=kind)
        except (InvalidTag, msgspec.MsgspecError):
            raise Unsealable from None

    def seal(self, purpose: str, value: Any) -> str:
        """Seal *value* as text that may stand in a cookie or a query as it is."""
        return base64.urlsafe_b64encode(self.seal_bytes(purpose, value)).rstrip(b"=").decode("ascii")

    def open(self, purpose: str, text: str | bytes, kind: type[T]) -> T:
        """Give back what :meth:`seal` was given.

        :raises Unsealable: for anything else, whatever its length.
        """
        octets = text.encode("ascii", "replace") if isinstance(text, str) else text
        if not 0 < len(octets) <= MAX_SEALED_CHARACTERS:
            raise Unsealable
        try:
            sealed = base64.b64decode(octets + b"=" * (-len(octets) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            raise Unsealable from None
        # One text per value: the unused low bits of the last character must be zero.
        if base64.urlsafe_b64encode(sealed).rstrip(b"=") != octets:
            raise Unsealable
        return self.open_bytes(purpose, sealed, kind)
