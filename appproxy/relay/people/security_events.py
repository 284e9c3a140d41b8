"""Where security events are pushed to (RFC 8935): somebody's account or session has changed, so their sessions end."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import msgspec
from twisted.logger import Logger

from appproxy.errors import AppproxyError
from appproxy.relay.exchange import ClientGone, Exchange
from appproxy.relay.preauth.events import Event, Transmitter, happened_before
from appproxy.relay.preauth.failures import Flaw, ProviderUnreachable, TokenRefused
from appproxy.relay.preauth.oidc import OpenIDConnect
from appproxy.relay.preauth.provider import Provider
from appproxy.relay.preauth.signed import unverified_claims
from appproxy.relay.rendering import OWN_FIELDS
from appproxy.store import once, sessions
from appproxy.store.interface import Database, Store, StoreUnavailable

SECURITY_EVENTS = b"security-events"
_MAX_TOKEN_BYTES = 64 * 1024
#: A token that comes again within this time does nothing; later it could end only what is older still.
_REMEMBERED_SECONDS = 7 * 86400
_ERRORS = {
    Flaw.ISSUER: "invalid_issuer",
    Flaw.AUDIENCE: "invalid_audience",
    Flaw.ALGORITHM: "invalid_key",
    Flaw.KEY: "invalid_key",
    Flaw.SIGNATURE: "invalid_key",
    Flaw.KEY_ISSUER: "invalid_key",
}


class SecurityEvents:
    """Answers ``security-events`` on the relay's host."""

    log = Logger()

    def __init__(self, oidc: OpenIDConnect, store: Store, transmitters: Iterable[Transmitter]) -> None:
        self._oidc = oidc
        self._store = store
        self._transmitters = {each.issuer: each for each in transmitters}

    async def receive(self, exchange: Exchange) -> None:
        """One event: 202 once its effect is stored, 400 or 401 when it is refused, 503 when it should come again."""
        kinds = exchange.head.known.get(b"content-type", (b"",))
        if kinds[0].partition(b";")[0].strip().lower() != b"application/secevent+jwt":
            return self._refuse(exchange, 400, "invalid_request", "the content type is not application/secevent+jwt")
        try:
            token = (await exchange.read_body(_MAX_TOKEN_BYTES)).decode("latin-1").strip()
            transmitter = self._transmitters.get(str(unverified_claims(token).get("iss")))
            if transmitter is None:
                raise TokenRefused(Flaw.ISSUER, "the security event is of no transmitter of ours")
            if not _is_authorized(exchange, transmitter):
                return self._refuse(exchange, 401, "authentication_failed", "the authorization is not what was agreed")
            event = await transmitter.check(token)
            ended = await self._heed(event, transmitter)
        except ClientGone:
            raise
        except TokenRefused as refusal:
            return self._refuse(exchange, 400, _ERRORS.get(refusal.flaw, "invalid_request"), refusal.detail)
        except (StoreUnavailable, ProviderUnreachable) as problem:
            return self._refuse(exchange, 503, "invalid_request", problem.code)
        except AppproxyError as problem:
            return self._refuse(exchange, 400, "invalid_request", problem.code)
        self.log.info(
            "{transmitter} told of {events}: {ended} sessions ended",
            event="security-event.received",
            transmitter=transmitter.id,
            events=[kind.rpartition("/")[2] for kind in event.events],
            id=event.id,
            ended=ended,
        )
        exchange.answer(202, OWN_FIELDS)
        return None

    async def _heed(self, event: Event, transmitter: Transmitter) -> int:
        if not event.ends_sessions:
            return 0
        provider = self._oidc.provider(transmitter.provider)
        return await self._store.write(_end, event, provider, self._oidc.epoch())

    def _refuse(self, exchange: Exchange, status: int, error: str, why: str) -> None:
        self.log.warn(
            "a security event was refused: {error} ({detail})",
            event="security-event.refused",
            error=error,
            detail=why,
            client=exchange.client,
            request_id=exchange.request_id,
        )
        fields = [(b"Content-Type", b"application/json"), *OWN_FIELDS]
        exchange.answer(status, fields, msgspec.json.encode({"err": error, "description": why}))


def _is_authorized(exchange: Exchange, transmitter: Transmitter) -> bool:
    if not transmitter.authorization:
        return True
    given = exchange.head.known.get(b"authorization", ())
    return len(given) == 1 and hmac.compare_digest(given[0], transmitter.authorization)


def _end(db: Database, event: Event, provider: Provider, now: int) -> int:
    """Use the token up and end what it is about, in one transaction; one that comes again does nothing."""
    if not once.use(db, event.key, now + _REMEMBERED_SECONDS):
        return 0
    before, ended = happened_before(event), 0
    for subject in event.subjects:
        if subject.issuer and not provider.is_issuer(subject.issuer):
            continue
        if subject.kind == "sid":
            ended += sessions.end_provider_session(db, provider.id, subject.value, now)
        elif subject.kind == "sub":
            ended += sessions.end_subject(db, provider.id, subject.value, now, before)
        else:
            for _, found in sessions.find_addressed(db, provider.id, subject.value):
                ended += sessions.end_subject(db, provider.id, found, now, before)
    return ended
