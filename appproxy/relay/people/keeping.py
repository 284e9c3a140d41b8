"""A form that somebody sends after their session has ended is not lost: it waits for the sign-in and is sent then.

The store keeps it encrypted with a key that only the browser has, in the sealed wish and, at the end, in a cookie bound
to its new session.  It is sent once, as the request that comes back to the same address: the body octet by octet.  Only
requests that browsers make with a Lax cookie, too, are kept, and those for addresses that the application lists:
otherwise a page elsewhere could have a form sent by waiting for the sign-in (RFC 6265bis section 5.6.7.1).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appproxy.applications import Application
from appproxy.http.messages import Field, RequestHead
from appproxy.relay.exchange import Exchange
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.relay.people.sealing import Sealer, Unsealable
from appproxy.relay.people.sessions import Session
from appproxy.relay.preauth.cookies import REPLAY, SameSite, set_cookie
from appproxy.store import kept
from appproxy.store.interface import Store

MAX_BODY_BYTES = 1 << 20
#: From the ticket to the address that was wanted, one redirect.
REPLAY_SECONDS = 60
_ID_BYTES, _KEY_BYTES, _NONCE = 16, 32, bytes(12)
#: What the request said of its body and of where it came from; all else is said by the request that comes back.
_KEPT_FIELDS = (b"content-type", b"content-encoding", b"content-language", b"origin", b"referer")


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """A request that waits."""

    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes


class Replay(msgspec.Struct, array_like=True, frozen=True):
    """What the cookie says: the session with the hashed handle may have it sent, until then (epoch seconds)."""

    reference: bytes
    handle_hash: bytes
    until: int


class Keeping:
    """Keeps requests and gives them back.

    :param epoch: epoch seconds.
    :param random: gives that many unpredictable bytes.
    :param seconds: how long a sign-in may take.
    """

    def __init__(
        self, store: Store, sealer: Sealer, epoch: Callable[[], int], random: Callable[[int], bytes], seconds: int
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._epoch = epoch
        self._random = random
        self._seconds = seconds

    async def keep(self, exchange: Exchange, application: Application) -> bytes:
        """Keep a POST of a person who has to sign in; gives what it is found by again, empty when it is not kept.

        :raises PayloadTooLarge: it is too long to be kept.
        :raises StoreUnavailable: nothing can be kept.
        """
        head = exchange.head
        if head.method != b"POST" or not is_trusted_post(exchange, application):
            return b""
        body = await exchange.read_body(MAX_BODY_BYTES)
        fields: list[Field] = [(name, value) for name in _KEPT_FIELDS for value in head.known.get(name, ())]
        document = msgspec.msgpack.encode(Kept(head.method, head.target, fields, body))
        id, key = self._random(_ID_BYTES), self._random(_KEY_BYTES)
        # The key is used for this alone, so that one nonce does.
        sealed = AESGCM(key).encrypt(_NONCE, document, id)
        now = self._epoch()
        done = await self._store.write(kept.put, id, exchange.client, sealed, now + self._seconds, now)
        return id + key if done else b""

    def cookie(self, reference: bytes, handle_hash: bytes, site: SameSite, partitioned: bool) -> Field:
        """The field that lets the session with that handle's hash have the request sent."""
        replay = Replay(reference, handle_hash, self._epoch() + REPLAY_SECONDS)
        value = self._sealer.seal("replay", replay).encode("ascii")
        return set_cookie(REPLAY, value, max_age=REPLAY_SECONDS, same_site=site, partitioned=partitioned)

    async def replay(self, exchange: ClientExchange, session: Session) -> bool:
        """Let a request that comes back to where a kept one was going stand for that one; True if it does now.

        :raises StoreUnavailable: it cannot be told.
        """
        head = exchange.head
        if head.method != b"GET" or not exchange.navigation or exchange.upgrade:
            return False
        reference = self._reference(exchange, session)
        if reference is None:
            return False
        id, key = reference[:_ID_BYTES], reference[_ID_BYTES:]
        sealed = await self._store.write(kept.take, id, self._epoch())
        if sealed is None:
            return False
        try:
            found = msgspec.msgpack.decode(AESGCM(key).decrypt(_NONCE, sealed, id), type=Kept)
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            return False
        if found.target != head.target:
            return False
        own = {name for name, _ in found.fields} | {b"content-length", b"transfer-encoding"}
        fields = [field for field in head.fields if field[0].lower() not in own]
        fields += [*found.fields, (b"Content-Length", b"%d" % len(found.body))]
        exchange.substitute(RequestHead.of(found.method, found.target, fields, head.version), found.body)
        return True

    def _reference(self, exchange: Exchange, session: Session) -> bytes | None:
        for value in exchange.reserved.get(REPLAY, ())[:2]:
            try:
                replay = self._sealer.open("replay", value, Replay)
            except Unsealable:
                continue
            if replay.handle_hash == session.handle_hash and replay.until > self._epoch():
                return replay.reference
        return None


def is_trusted_post(exchange: Exchange, application: Application) -> bool:
    """Whether a POST came from where a Lax cookie would have come along, or goes to a listed entry point."""
    path = exchange.path.decode("latin-1")
    if path in application.sign_in.cross_site_posts:
        return True
    known = exchange.head.known
    sites = known.get(b"sec-fetch-site")
    if sites:
        return sites in ([b"same-origin"], [b"same-site"])
    return known.get(b"origin") == [exchange.origin.encode("ascii")]
