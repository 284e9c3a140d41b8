"""Tokens that administrators give to programs.

A token is ``aps1.SECRET``, sent as ``Authorization: Bearer``; it goes no further than the relay.  It opens the
applications and paths that it was made for; rules that deny hold for it as for people.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable

from twisted.logger import Logger

from appproxy.http.addresses import is_at
from appproxy.identity import Identity
from appproxy.relay.access.policy import Decision
from appproxy.relay.access.rules import Applying
from appproxy.relay.catalog import Published
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.relay.programs.refusing import OutOfScope, Unauthorised
from appproxy.relay.programs.watching import Watched
from appproxy.store import service_tokens
from appproxy.store.interface import Store, StoreUnavailable
from appproxy.store.records import ServiceTokenRecord

PREFIX = b"aps1."
SECRET_BYTES = 32
#: Who vouches for programs that have a token.
ISSUER = "urn:appproxy:service"
#: Tokens that are remembered at most, unknown ones included, and for how long.
MAX_REMEMBERED, REMEMBERED_SECONDS = 10_000, 60.0
MADE_FOR_IT = Decision(True, ("service-token",))
_TOKEN = re.compile(rb"aps1\.[A-Za-z0-9_-]{43}")


def make_token(random: Callable[[int], bytes]) -> str:
    """The text of a new token."""
    return (PREFIX + urlsafe_b64encode(random(SECRET_BYTES)).rstrip(b"=")).decode("ascii")


def hash_token(text: bytes) -> bytes:
    """What the store knows of a token.  Tokens are random, so a plain hash tells nothing."""
    return hashlib.sha256(text).digest()


class Granted(Watched):
    """A token in use: an identity, and what is open for it."""

    __slots__ = ("fresh_until", "identity", "record")

    def __init__(self, record: ServiceTokenRecord, fresh_until: float) -> None:
        super().__init__()
        self.record = record
        self.identity = Identity(ISSUER, record.id, f"service:{record.name}", (), {"owner": record.owner})
        self.fresh_until = fresh_until

    def __repr__(self) -> str:
        return f"<Granted {self.identity.user}>"

    def covers(self, application: str, path: bytes) -> bool:
        """Whether the token was made for this (canonical) path of this application."""
        record = self.record
        if record.applications and application not in record.applications:
            return False
        return not record.paths or any(is_at(path, wanted.encode("ascii")) for wanted in record.paths)

    def decide(self, published: Published, applying: Applying | None, now: int) -> Decision:
        """What the token was made for is open, unless a rule denies it."""
        denied = applying.denial(self.identity) if applying is not None else None
        return denied or MADE_FOR_IT

    def refusal(self, published: Published, decision: Decision, now: int) -> OutOfScope:
        """There is no better token to be had."""
        return OutOfScope(", ".join(decision.reasons))


class ServiceTokens:
    """Knows programs by their tokens; one that was used within the last minute costs no look-up.

    :param seconds: a monotonic clock; *epoch*: epoch seconds.
    """

    log = Logger()

    def __init__(self, store: Store, seconds: Callable[[], float], epoch: Callable[[], int]) -> None:
        self._store = store
        self._seconds = seconds
        self._epoch = epoch
        self._known: dict[bytes, Granted] = {}
        self._used: dict[str, int] = {}

    async def identify(self, exchange: ClientExchange, published: Published) -> Granted | None:
        """The program whose token stands in the exchange's credential; None where that is something else.

        :raises Unauthorised: the token is not good, or was not made for this.
        """
        values = exchange.head.known[published.credential]
        scheme, _, credentials = values[0].partition(b" ")
        if len(values) != 1 or scheme.lower() != b"bearer" or not credentials.startswith(PREFIX):
            return None
        granted = await self.find(credentials.strip(b" "))
        if not granted.covers(published.id, exchange.path):
            raise OutOfScope(f"token {granted.record.id} was not made for this")
        return granted

    async def find(self, credentials: bytes) -> Granted:
        """The program that holds a token.

        :param credentials: what stands after ``Bearer``.
        :raises Unauthorised: the token is unknown, expired or revoked.
        :raises StoreUnavailable: it cannot be told.
        """
        if not _TOKEN.fullmatch(credentials):
            raise Unauthorised("malformed")
        token_hash = hash_token(credentials)
        granted = self._known.get(token_hash)
        if granted is None or granted.fresh_until <= self._seconds():
            granted = await self._look_up(token_hash, granted)
        now = self._epoch()
        if now >= granted.record.expires:
            granted.cut()
            raise Unauthorised(f"token {granted.record.id} has expired")
        self._used[granted.record.id] = now
        return granted

    async def _look_up(self, token_hash: bytes, before: Granted | None) -> Granted:
        record = await self._store.read(service_tokens.find, token_hash)
        if record is None or record.revoked is not None:
            self._known.pop(token_hash, None)
            if before is not None:
                before.cut()
            raise Unauthorised("unknown" if record is None else f"token {record.id} has been revoked")
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        fresh_until = self._seconds() + REMEMBERED_SECONDS
        if before is not None:
            before.fresh_until = fresh_until
            return before
        granted = self._known[token_hash] = Granted(record, fresh_until)
        return granted

    def revoked(self, ids: Iterable[str]) -> None:
        """These are out of force: what is open for them ends."""
        gone = set(ids)
        for token_hash, granted in list(self._known.items()):
            if granted.record.id in gone:
                del self._known[token_hash]
                granted.cut()

    def missed(self) -> None:
        """Something may have been revoked unheard: look everything up again."""
        for granted in self._known.values():
            granted.fresh_until = 0.0

    async def tick(self) -> None:
        """Once a minute: note in the store which tokens were used, and end what is open for those that ran out."""
        used, self._used = self._used, {}
        for granted in self._known.values():
            if self._epoch() >= granted.record.expires:
                granted.cut()
        if used:
            try:
                await self._store.write(service_tokens.touch, list(used.items()))
            except StoreUnavailable:
                self._used = used | self._used
