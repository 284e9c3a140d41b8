"""Sign-ins refreshed before their access tokens end, so that what a provider changes or ends is seen within minutes.

A refresh token may work once only, so one refresh of a sign-in is under way at a time: here by a place to wait at, in a
cluster by a claim in the store.  Tokens are kept encrypted; nobody but the provider ever gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.logger import Logger

from appproxy.identity import Identity
from appproxy.relay.people.sealing import Sealer, Unsealable
from appproxy.relay.people.sessions import Session, Sessions
from appproxy.relay.preauth.failures import (
    IdentityRefused,
    ProviderMisconfigured,
    SignInEnded,
    SignInFailed,
    TokenRefused,
)
from appproxy.relay.preauth.provider import Provider, SignedIn
from appproxy.store import sessions
from appproxy.store.interface import Clock, Store, StoreUnavailable
from appproxy.store.records import SessionRecord

#: A refresh takes no longer: two requests to the provider and one to its directory.
CLAIM_SECONDS = 50
#: So many are under way at a time: however many are due together, a provider is not overrun.
MAX_AT_ONCE = 20
WAIT_SECONDS = 20.0
#: After an outage it is tried again so soon.
RETRY_SECONDS = 30
#: An access token is replaced so long before its end, or earlier in its life where that is short.
MARGIN_SECONDS, MARGIN_SHARE = 60, 5
#: So often, and for so many times, it is looked whether another relay has done it.
_LOOK_SECONDS, _LOOKS = 0.25, 40


#: Claims on how somebody signed in, which some providers tell but once.
_OF_THE_SIGN_IN = ("acr", "acrs", "amr", "auth_time")


class Tokens(msgspec.Struct, array_like=True, frozen=True):
    """What a provider gave for a sign-in, as it is kept with the session: sealed."""

    id_token: str
    refresh_token: str = ""
    #: The claims that user information has told.
    told: tuple[str, ...] = ()


def seal_tokens(sealer: Sealer, signed_in: SignedIn) -> bytes:
    """Encrypt what a provider gave."""
    return sealer.seal_bytes("tokens", Tokens(signed_in.id_token, signed_in.refresh_token, signed_in.told))


def open_tokens(sealer: Sealer, sealed: bytes) -> Tokens:
    """Give back what :func:`seal_tokens` was given; empty tokens for what cannot be read (any more)."""
    try:
        return sealer.open_bytes("tokens", sealed, Tokens)
    except Unsealable:
        return Tokens("")


class RefreshTimes:
    """When sign-ins are refreshed.

    :param every_seconds: at the latest so long after the last time, however long access tokens last.
    :param grace_seconds: how long after its access token's end a sign-in goes on while the provider is away.
    """

    def __init__(self, every_seconds: float = 600.0, grace_seconds: float = 3600.0) -> None:
        self._every = int(every_seconds)
        self._grace = int(grace_seconds)

    def of(self, signed_in: SignedIn, now: int) -> tuple[int, int, int]:
        """When it is due, from when requests wait for it, until when it may go on without; none without a token."""
        if not signed_in.refresh_token:
            return 0, 0, 0
        lasts = signed_in.access_seconds
        due = max(1, min(lasts - min(MARGIN_SECONDS, lasts // MARGIN_SHARE), self._every))
        return now + due, now + max(due, lasts), now + lasts + self._grace


class Refreshing:
    """Refreshes sign-ins that are due.

    :param spawn: runs a coroutine that nobody waits for.
    """

    log = Logger()

    def __init__(
        self,
        *,
        store: Store,
        sessions: Sessions,
        providers: Mapping[str, Provider],
        sealer: Sealer,
        times: RefreshTimes,
        epoch: Callable[[], int],
        clock: Clock,
        spawn: Callable[[str, Coroutine[Deferred[Any], Any, None]], Any],
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._providers = providers
        self._sealer = sealer
        self._times = times
        self._epoch = epoch
        self._clock = clock
        self._spawn = spawn
        self._waiting: dict[bytes, list[Deferred[None]]] = {}
        self._turns = DeferredSemaphore(MAX_AT_ONCE)

    async def refresh(self, session: Session, wait: bool) -> None:
        """See that the sign-in of *session*, which is due, is refreshed.

        :param wait: wait for that where the access token has ended; before, what is known still holds.
        """
        root = session.root
        if root not in self._waiting:
            self._waiting[root] = []
            # It belongs to everybody who waits: one of them going away does not stop it.
            self._spawn("refresh a sign-in", self._refresh(root))
        if wait and root in self._waiting and 0 < session.refresh_wait <= self._epoch():
            turn: Deferred[None] = Deferred()
            self._waiting[root].append(turn)
            # Of a provider that hangs no request waits for longer; it goes on with what was known.
            turn.addTimeout(WAIT_SECONDS, self._clock, onTimeoutCancel=lambda _result, _seconds: None)  # type: ignore[arg-type]
            await turn

    async def _refresh(self, root: bytes) -> None:
        try:
            await self._turns.run(lambda: Deferred.fromCoroutine(self._refresh_once(root)))
        except StoreUnavailable:
            pass  # due still, and tried again with the next request
        finally:
            for turn in self._waiting.pop(root, []):
                if not turn.called:
                    turn.callback(None)

    async def _refresh_once(self, root: bytes) -> None:
        now = self._epoch()
        record = await self._store.write(sessions.claim_refresh, root, now, now + CLAIM_SECONDS)
        if record is None:
            return await self._wait_for_others(root)
        try:
            signed_in = await self._ask(record)
        except (SignInEnded, IdentityRefused, TokenRefused) as over:
            return await self._end(record, over)
        except SignInFailed as problem:
            return await self._postpone(record, problem)
        signed_in = signed_in._replace(identity=_continued(record.identity, signed_in.identity))
        times = self._times.of(signed_in, now)
        sealed = seal_tokens(self._sealer, signed_in)
        changed = await self._store.write(
            sessions.refreshed, root, signed_in.identity, sealed, signed_in.provider_session, times
        )
        self._sessions.renewed(changed, signed_in.identity, times[0], times[1])
        return None

    async def _ask(self, record: SessionRecord) -> SignedIn:
        """:raises SignInFailed: one of its kinds."""
        tokens = open_tokens(self._sealer, record.sealed)
        provider = self._providers.get(record.provider)
        if provider is None or not tokens.refresh_token:
            raise ProviderMisconfigured(f"nobody can refresh a sign-in of {record.provider}")
        return await provider.refresh(tokens.refresh_token, tokens.id_token, tokens.told)

    async def _end(self, record: SessionRecord, why: SignInFailed) -> None:
        await self._store.write(sessions.end, record.handle_hash, self._epoch())
        self._sessions.forget_family(record.handle_hash)
        self.log.info(
            "the sign-in of {user} has ended: {code} ({detail})",
            event="session.not-refreshed",
            user=record.identity.user,
            provider=record.provider,
            code=why.code,
            detail=why.detail,
        )

    async def _postpone(self, record: SessionRecord, problem: SignInFailed) -> None:
        now = self._epoch()
        if now >= record.refresh_deadline:
            return await self._end(record, problem)
        due = now + RETRY_SECONDS
        await self._store.write(sessions.postpone_refresh, record.handle_hash, due)
        self._sessions.postponed(record.handle_hash, due)
        self.log.warn(
            "the sign-in of {user} was not refreshed: {code} ({detail})",
            event="session.refresh-postponed",
            user=record.identity.user,
            provider=record.provider,
            code=problem.code,
            detail=problem.detail,
        )
        return None

    async def _wait_for_others(self, root: bytes) -> None:
        """Another relay is at it: wait until it is done, and take over what it found."""
        for _ in range(_LOOKS):
            record = await self._store.read(sessions.find, root)
            if record is None:
                return self._sessions.forget_family(root)
            if record.refresh_due > self._epoch() or not record.refresh_due:
                return self._sessions.renewed(
                    self._sessions.family(root), record.identity, record.refresh_due, record.refresh_wait
                )
            await deferLater(self._clock, _LOOK_SECONDS)  # type: ignore[arg-type]
        return None


def _continued(before: Identity, now: Identity) -> Identity:
    """What a refresh says of somebody, with what only a sign-in can say as it was then (OpenID Connect Core 12.2)."""
    kept = {name: before.claims[name] for name in _OF_THE_SIGN_IN if name in before.claims and name not in now.claims}
    claims = {**now.claims, **kept}
    return msgspec.structs.replace(now, claims=claims, authenticated_at=before.authenticated_at)
