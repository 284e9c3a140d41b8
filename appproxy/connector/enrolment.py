"""Enrolment: a one-time token and a key made here become a certificate; from then on it is mutual TLS only."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from appproxy.applications import Timeouts
from appproxy.config.connector import Connector
from appproxy.connector.backoff import Backoff
from appproxy.connector.connection import OriginConnection
from appproxy.connector.credentials import Credentials, PendingKey
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.exchange import Asked
from appproxy.connector.failures import OriginFailed
from appproxy.connector.origin import Origins
from appproxy.connector.pinning import fetch_chain, find_authority, fingerprint_in
from appproxy.connector.pool import Pool
from appproxy.errors import AppproxyError, ConfigError
from appproxy.http.messages import Field, FieldLines
from appproxy.net.dial import dial
from appproxy.net.failures import DialFailed
from appproxy.net.tls import ClientTLS, client_tls

PATH: Final = "/.appproxy/enrol"
#: A chain and a CA; more is no answer.
MAX_ANSWER_BYTES: Final = 256 * 1024
#: These answers mean: later.  Every other refusal needs an administrator.
TRY_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

#: How to go on when the certificate has expired.
ENROL_AGAIN: Final = (
    "issue a new token with: appproxy token enrol --group GROUP, put it into enrolment_token_file and start again"
)

#: Sends the enrolment to host and port under the given trust; returns status and body.
Post = Callable[[str, int, ClientTLS, bytes], Coroutine["Deferred[Any]", Any, tuple[int, bytes]]]


class Granted(msgspec.Struct, frozen=True):
    """What the relay answers."""

    connector_id: str
    certificate: str
    ca: str
    group: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """Why it does not."""

    error: str = ""
    remedy: str = ""


class NotNow(Exception):
    """The relay cannot be asked, or cannot answer, at the moment."""


class Enrolment:
    """Gets the connector its credentials.

    :param post: see :data:`Post`; :param chain: see :func:`~appproxy.connector.pinning.fetch_chain`, as a coroutine.
    :param now: epoch seconds.
    """

    log = Logger()

    def __init__(
        self,
        settings: Connector,
        reactor: Any,
        random: Callable[[], float],
        *,
        post: Post | None = None,
        chain: Callable[[str, int], Any] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._random = random
        self._post = post or Poster(reactor).post
        self._chain = chain or self._fetch_chain
        self._now = now
        self._backoff = Backoff()

    async def credentials(self) -> Credentials:
        """The stored ones, or new ones for the token; waits for the relay as long as it takes.

        :raises ConfigError: only an administrator can help.
        """
        settings = self._settings
        credentials = Credentials.load(settings.state_dir, settings.relay_ca_file)
        if credentials is None:
            await self._enrol(settings.read_enrolment_token())
        else:
            self._check_begun(credentials)
            if credentials.not_after > self._now():
                return credentials
            await self._enrol_again(credentials)
        credentials = Credentials.load(settings.state_dir, settings.relay_ca_file)
        assert credentials is not None
        self._check_begun(credentials)
        return credentials

    def _check_begun(self, credentials: Credentials) -> None:
        """A certificate from the future means that a clock is wrong."""
        if credentials.not_before > self._now():
            raise ConfigError(
                str(credentials.certificate_file),
                f"the certificate is not valid before {_date(credentials.not_before)}, and the clock of this machine "
                f"says {_date(self._now())}; set the clock",
            )

    async def _enrol_again(self, expired: Credentials) -> None:
        """The certificate has run out; perhaps there is a new token."""
        try:
            await self._enrol(self._settings.read_enrolment_token())
        except ConfigError as problem:
            raise ConfigError(
                str(expired.certificate_file),
                f"the certificate expired on {_date(expired.not_after)} (the clock of this machine says "
                f"{_date(self._now())}); {ENROL_AGAIN} ({problem})",
            ) from None

    async def _enrol(self, token: str) -> None:
        """Go from relay to relay until one answers."""
        where = "connector.enrolment_token_file"
        if not token:
            raise ConfigError(
                where,
                "is not set and the connector is not enrolled; issue a token with: appproxy token enrol --group GROUP",
            )
        fingerprint = fingerprint_in(token, where)
        key, began, failures = PendingKey(), self._reactor.seconds(), 0
        while True:
            for relay in self._settings.relays:
                try:
                    granted, authority = await self._ask(relay, token, fingerprint, key)
                except NotNow as problem:
                    self.log.warn(
                        "enrolment at {relay}: {problem}", event="enrolment.failed", relay=relay, problem=str(problem)
                    )
                    continue
                key.keep(granted.certificate, authority, self._settings.state_dir)
                self.log.info(
                    "enrolled at {relay} as connector {connector} of group {group}",
                    event="enrolment.done",
                    relay=relay,
                    connector=granted.connector_id,
                    group=granted.group,
                )
                return
            delay = self._backoff.delay(failures, self._reactor.seconds() - began, self._random)
            failures += 1
            self.log.info("enrolment is tried again in {delay} s", event="enrolment.later", delay=round(delay, 1))
            await pause(self._reactor, delay)

    async def _ask(self, relay: str, token: str, fingerprint: bytes, key: PendingKey) -> tuple[Granted, str]:
        """Ask one relay; :raises NotNow: ask later; :raises ConfigError: it refuses."""
        parts = urlsplit(relay)
        host, port = parts.hostname or "", parts.port or 443
        asked = {"token": token, "csr": key.signing_request(self._settings.name), "name": self._settings.name}
        try:
            if self._settings.relay_ca_file is not None:
                tls, authority = client_tls(ca_file=self._settings.relay_ca_file), ""
            else:
                authority = find_authority(await self._chain(host, port), fingerprint)
                tls = client_tls(ca_pem=authority)
            status, body = await self._post(host, port, tls, msgspec.json.encode(asked))
        except (DialFailed, OriginFailed) as problem:
            raise NotNow(f"{problem.phase}: {problem.detail or problem}") from None
        if status == 200:
            try:
                granted = msgspec.json.decode(body, type=Granted)
            except msgspec.MsgspecError:
                raise NotNow("the relay's answer is no enrolment") from None
            return granted, authority or granted.ca
        try:
            refusal = msgspec.json.decode(body, type=Refusal)
        except msgspec.MsgspecError:
            refusal = Refusal(f"status {status}", "see the relay's log")
        if status in TRY_LATER:
            raise NotNow(f"{refusal.error} (status {status})")
        raise ConfigError("connector.enrolment_token_file", f"{relay} refuses: {refusal.error}; {refusal.remedy}")

    def _fetch_chain(self, host: str, port: int) -> Deferred[list[bytes]]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), fetch_chain, host, port)


class Poster:
    """Sends one enrolment: the origins' client, with a connection of its own."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._deadlines = Deadlines(reactor)

    async def post(self, host: str, port: int, tls: ClientTLS, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; :raises AppproxyError: there is none."""
        name = f"[{host}]" if ":" in host else host
        authority = name if port == 443 else f"{name}:{port}"
        pool = Pool(
            f"https://{authority}",
            lambda factory: dial(self._reactor, host, port, factory, tls),
            self._deadlines,
            Timeouts(),
        )
        fields = [(b"Host", authority.encode("idna")), (b"Content-Type", b"application/json")]
        asked = Asked(pool, b"POST", PATH.encode(), FieldLines(fields), lambda interim: None, len(body))
        try:
            response = await Origins(self._reactor).ask(asked, WholeBody(body)).deferred()
            answer = response.body if response.ended else await Collecting().collect(response)
            return response.head.status, answer
        finally:
            pool.close()
            self._deadlines.stop()


class WholeBody:
    """A request's body that is there already."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def start(self, connection: OriginConnection) -> None:
        """Write it."""
        connection.registerProducer(self, True)
        connection.write(self._octets)
        connection.finish()

    def pauseProducing(self) -> None:
        """It is small."""

    resumeProducing = stopProducing = cut_off = pauseProducing


class Collecting:
    """Takes an answer's body, up to a limit."""

    def __init__(self, limit: int = MAX_ANSWER_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._done: Deferred[bytes] = Deferred()

    def collect(self, response: Any) -> Deferred[bytes]:
        """Fires with all of it."""
        response.deliver(self)
        return self._done

    def body_received(self, data: bytes) -> None:
        """Some of it; what is over the limit is dropped and makes the answer useless."""
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)

    def body_ended(self, data: bytes, trailers: Sequence[Field]) -> None:
        """The last of it."""
        self.body_received(data)
        self._done.callback(b"".join(self._parts))

    def body_failed(self, failure: AppproxyError) -> None:
        """It is cut short."""
        self._done.errback(failure)


def pause(clock: Any, seconds: float) -> Deferred[None]:
    """Wait."""
    call: Any = None
    done: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, done.callback, None)
    return done


def _date(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(epoch))
