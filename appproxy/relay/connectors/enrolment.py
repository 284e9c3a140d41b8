"""Enrolment: a one-time token and a signing request for a certificate and a place in a connector group.

Token, connector and certificate are one transaction: of two who come with one token one wins, and a bad signing request
uses nothing up.  Strangers are told nothing: an unknown, an expired and a used token get the same answer; the log says
which it was.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable

import msgspec
from twisted.logger import Logger

from appproxy.config.places import NODE_NAME
from appproxy.errors import AppproxyError
from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.connectors.authority import Issued
from appproxy.relay.exchange import Exchange
from appproxy.relay.people.throttle import Rate, Throttle
from appproxy.store import applications, connectors, tokens
from appproxy.store.interface import Database, Store
from appproxy.store.records import ConnectorRecord

PATH = b"/.appproxy/enrol"
MAX_BODY_BYTES = 64 * 1024
SECRET_BYTES = 32
#: Version, secret, SHA-256 of the authority's certificate; both parts base64url without padding.
_TOKEN = re.compile(r"apt1\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})")
#: A roll-out of many connectors behind one address passes; guessing 256 bits does not.
EACH, TOGETHER = Rate(20, 3.0), Rate(200, 0.3)

_REMEDIES = {
    "bad-enrolment": "send JSON with token, csr (PEM) and name",
    "bad-signing-request": "let the connector make a new key and try again; the token is still good",
    "enrolment-refused": "issue a new token with: appproxy token enrol --group GROUP",
    "too-many-tries": "wait, then try again",
    "payload-too-large": "send JSON with token, csr (PEM) and name",
    "store-unavailable": "try again later; the relay's log says what is wrong with its store",
}


class BadEnrolment(AppproxyError):
    """The enrolment request is malformed."""

    code, status = "bad-enrolment", 400


class EnrolmentRefused(AppproxyError):
    """The enrolment token is not valid."""

    code, status = "enrolment-refused", 403


class TooManyTries(AppproxyError):
    """There were too many enrolments lately, from this address or from all together."""

    code, status = "too-many-tries", 429


class Asked(msgspec.Struct, frozen=True):
    """What a connector sends."""

    token: str
    csr: str
    name: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"Asked({self.name!r})"


class Enrolled(msgspec.Struct, frozen=True):
    """What it gets: its certificate (PEM, with the issuer's) and the authorities to trust from now on."""

    connector_id: str
    certificate: str
    ca: str
    group: str


class _GroupGone(Exception):
    """The token's group has been deleted; the token stays as it is."""


def make_token(secret: bytes, fingerprint: bytes) -> str:
    """The text of an enrolment token: what only its holder knows, and which relay it is for."""
    return f"apt1.{_text(secret)}.{_text(fingerprint)}"


def hash_token(text: str) -> bytes | None:
    """What the store knows of a token: the SHA-256 of its secret; None for a text that is no token."""
    match = _TOKEN.fullmatch(text.strip())
    return hash_secret(urlsafe_b64decode(match[1] + "=")) if match else None


def hash_secret(secret: bytes) -> bytes:
    """Secrets are random, so a plain hash tells nothing."""
    return hashlib.sha256(secret).digest()


class Enrolment:
    """The connectors' door for those who have no certificate yet.

    :param now: epoch seconds.
    :param seconds: a monotonic clock.
    :param random: gives that many unpredictable bytes.
    """

    log = Logger()

    def __init__(
        self,
        authorities: Authorities,
        store: Store,
        *,
        now: Callable[[], int],
        seconds: Callable[[], float],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._authorities = authorities
        self._store = store
        self._now = now
        self._random = random
        self._throttle = Throttle(EACH, TOGETHER, seconds)

    async def respond(self, exchange: Exchange) -> None:
        """Answer one enrolment; every failure is JSON with ``error`` and ``remedy``."""
        if exchange.head.method != b"POST":
            _answer(exchange, 405, {"error": "enrolment is a POST", "remedy": _REMEDIES["bad-enrolment"]}, "POST")
            return
        late = self._throttle.wait(exchange.client)
        try:
            if late:
                raise TooManyTries
            enrolled = await self._enrol(exchange)
        except AppproxyError as failure:
            remedy = _REMEDIES.get(failure.code) or _REMEDIES["store-unavailable"]
            shown = (str(failure) if failure.status == 400 else str(type(failure)())).removesuffix(".")
            self.log.warn(
                "enrolment from {client} refused: {reason}",
                event="enrolment.refused",
                client=exchange.client,
                code=failure.code,
                reason=str(failure),
            )
            _answer(exchange, failure.status, {"error": shown, "remedy": remedy}, retry_after=math.ceil(late))
        else:
            _answer(exchange, 200, msgspec.to_builtins(enrolled))

    async def _enrol(self, exchange: Exchange) -> Enrolled:
        asked = _read(await exchange.read_body(MAX_BODY_BYTES))
        token_hash = hash_token(asked.token)
        now = self._now()
        connector = f"c-{self._random(10).hex()}"
        issued = self._authorities.issuing.certify_connector(asked.csr, connector, now)
        if token_hash is None:
            raise EnrolmentRefused("the text is no token")
        try:
            group = await self._store.write(_redeem, token_hash, connector, asked.name, issued, now)
        except _GroupGone:
            raise EnrolmentRefused("the token's group has been deleted") from None
        if group is None:
            raise EnrolmentRefused(await self._reason(token_hash))
        self.log.info(
            "connector {connector} ({name}) enrolled into group {group} from {client}",
            event="connector.enrolled",
            connector=connector,
            name=asked.name,
            group=group,
            client=exchange.client,
            serial=issued.serial,
        )
        return Enrolled(connector, issued.pem.decode("ascii"), self._authorities.trusted_pem, group)

    async def _reason(self, token_hash: bytes) -> str:
        """Why a token was not good, for the log."""
        token = await self._store.read(tokens.find, token_hash)
        if token is None:
            return "the token is unknown"
        return "the token has been used before; was it stolen?" if token.used is not None else "the token has expired"


def _read(body: bytes) -> Asked:
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadEnrolment("the body is not JSON with token, csr and name") from None
    if not NODE_NAME.fullmatch(asked.name):
        raise BadEnrolment("the name is not one; use letters, digits, dots and hyphens, at most 63")
    return asked


def _redeem(db: Database, token_hash: bytes, connector: str, name: str, issued: Issued, now: int) -> str | None:
    """Use the token up and keep the connector, or neither; returns the group."""
    group = tokens.redeem(db, token_hash, now)
    if group is None:
        return None
    if applications.find_group(db, group) is None:
        raise _GroupGone
    record = ConnectorRecord(
        id=connector, name=name, group=group, serial=issued.serial, not_after=issued.not_after, enrolled=now
    )
    connectors.enrol(db, record)
    return group


def _answer(
    exchange: Exchange, status: int, document: dict[str, str], allow: str = "", *, retry_after: int = 0
) -> None:
    fields = [(b"Content-Type", b"application/json")]
    if allow:
        fields.append((b"Allow", allow.encode("ascii")))
    if retry_after:
        fields.append((b"Retry-After", b"%d" % retry_after))
    exchange.answer(status, fields, msgspec.json.encode(document))


def _text(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
