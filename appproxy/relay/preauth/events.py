"""Security events as signed tokens: who sends them, what they say, whom they are about (RFC 8417, RFC 9493).

CAEP and RISC name what happened to somebody's session, credentials or account; here each means that sessions end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from appproxy.relay.preauth.failures import Flaw, ProviderMisconfigured, ProviderUnreachable, TokenRefused
from appproxy.relay.preauth.fetching import Fetch
from appproxy.relay.preauth.keys import ALGORITHMS, KeySet
from appproxy.relay.preauth.metadata import DOCUMENT_TIMEOUT_SECONDS, MAX_DOCUMENT_BYTES, check_address
from appproxy.relay.preauth.signed import LEEWAY_SECONDS, Purpose, audiences, check_issuer, check_times, verify

if TYPE_CHECKING:
    from appproxy.config import TransmitterConfig

NAME = "security event"
EVENT_TOKEN = Purpose(NAME, ("secevent+jwt",), untyped=False)
_CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC = "https://schemas.openid.net/secevent/risc/event-type/"
CREDENTIAL_CHANGE = _CAEP + "credential-change"
#: Events after which somebody must sign in again.
ENDING = frozenset(
    {_CAEP + "session-revoked", CREDENTIAL_CHANGE, _RISC + "account-disabled", _RISC + "account-purged"}
    | {_RISC + "sessions-revoked"}
)
#: An event has one subject, or a few names of it.
MAX_ALIASES = 10
_MAX_CHARACTERS = 320


class Subject(NamedTuple):
    """One way to find whose sessions are meant: ``sub``, ``email`` or ``sid``, and its value."""

    kind: str
    value: str
    #: The issuer that knows somebody by this subject; empty where none is named.
    issuer: str = ""


class Event(NamedTuple):
    """A checked token: what happened to whom."""

    #: Type of each event, with what it says.
    events: dict[str, dict[str, Any]]
    subjects: tuple[Subject, ...]
    #: When it happened, epoch seconds.
    at: int
    id: str
    #: Hash of what makes the token unlike all others.
    key: bytes

    @property
    def ends_sessions(self) -> bool:
        """Whether anything of it means that sessions end: a credential that was only added does not."""
        return any(
            kind in ENDING and not (kind == CREDENTIAL_CHANGE and said.get("change_type") == "create")
            for kind, said in self.events.items()
        )


class _Metadata(msgspec.Struct):
    """The members of a transmitter's metadata that a receiver needs (OpenID Shared Signals Framework 1.0)."""

    issuer: str
    jwks_uri: str


class Transmitter:
    """A configured sender of events.

    :param seconds: a monotonic clock.
    :param epoch: epoch seconds.
    """

    def __init__(
        self, config: TransmitterConfig, fetch: Fetch, seconds: Callable[[], float], epoch: Callable[[], int]
    ) -> None:
        self.id = config.id
        self.issuer = config.issuer
        self.provider = config.provider
        self.authorization = config.authorization.encode()
        self._config = config
        self._fetch = fetch
        self._epoch = epoch
        self._keys = KeySet(self._read_keys, seconds)
        self._algorithms = tuple(a for a in config.algorithms if a in ALGORITHMS)

    async def _get(self, address: str) -> bytes:
        check_address(address, "address", self._config.allow_http)
        accept = {"Accept": "application/json"}
        answer = await self._fetch("GET", address, accept, b"", MAX_DOCUMENT_BYTES, DOCUMENT_TIMEOUT_SECONDS)
        if answer.status != 200:
            raise ProviderUnreachable(f"{urlsplit(address).path} answered {answer.status}")
        return answer.body

    async def _read_keys(self) -> bytes:
        return await self._get(self._config.jwks_url or (await self._read_metadata()).jwks_uri)

    async def _read_metadata(self) -> _Metadata:
        try:
            document = await self._get(self._config.metadata_url or metadata_address(self.issuer))
            metadata = msgspec.json.decode(document, type=_Metadata)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ProviderUnreachable("the transmitter's metadata are not what they should be") from None
        if metadata.issuer != self.issuer:
            raise ProviderMisconfigured("the metadata are another transmitter's")
        return metadata

    async def check(self, token: str) -> Event:
        """Check *token* wholly.

        :raises TokenRefused: it fails any check.
        :raises ProviderUnreachable: there are no keys to check it with.
        """
        verified = await verify(token, self._keys, self._algorithms, EVENT_TOKEN)
        claims = verified.claims
        check_issuer(verified, self.issuer, (), NAME)
        if not set(self._config.audience) & {each for each in audiences(claims) if isinstance(each, str)}:
            raise TokenRefused(Flaw.AUDIENCE, "the security event is for another audience")
        now = self._epoch()
        check_times(claims, now, NAME, expires=False)
        events, id = claims.get("events"), claims.get("jti")
        if not isinstance(events, dict) or not events or not all(isinstance(each, dict) for each in events.values()):
            raise TokenRefused(Flaw.EVENTS, "the security event has no events")
        if not isinstance(id, str) or not 0 < len(id) <= _MAX_CHARACTERS:
            raise TokenRefused(Flaw.REPLAYED, "the security event has no id")
        named = [claims.get("sub_id"), *(said.get("subject") for said in events.values())]
        subjects = tuple(subject for each in named for subject in read_subject(each))
        key = b"event:" + hashlib.sha256(f"{self.id}\0{id}".encode("utf-8", "surrogatepass")).digest()
        return Event(events, subjects, min(_moment(claims, events), now), id, key)


def metadata_address(issuer: str) -> str:
    """Where metadata are: the well-known path goes between host and path."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}/.well-known/ssf-configuration{parts.path.rstrip('/')}"


def _moment(claims: dict[str, Any], events: dict[str, dict[str, Any]]) -> int:
    """When it happened, as exactly as the token says; the latest where it says several."""
    told = [said.get("event_timestamp") for said in events.values()]
    times = [each for each in told if isinstance(each, int | float) and not isinstance(each, bool) and 0 < each < 1e14]
    if not times:
        toe = claims.get("toe")
        return int(toe if isinstance(toe, int | float) and not isinstance(toe, bool) else claims["iat"])
    # Some senders count in milliseconds.
    return max(int(each / 1000 if each > 1e11 else each) for each in times)


def read_subject(value: object, depth: int = 0) -> Iterator[Subject]:
    """Read a subject identifier (RFC 9493), its older form, or a complex one; what is not understood gives nothing.

    A complex subject that names a session means that one, not all of its user.
    """
    if not isinstance(value, dict) or depth > 2:
        return
    form = value.get("format", value.get("subject_type"))
    form = form.replace("-", "_") if isinstance(form, str) else ""
    if form == "aliases":
        aliases = value.get("identifiers")
        for each in aliases[:MAX_ALIASES] if isinstance(aliases, list) else ():
            yield from read_subject(each, depth + 1)
    elif "session" in value:
        for each in read_subject(value["session"], depth + 1):
            yield each._replace(kind="sid") if each.kind == "sub" else each
    elif "user" in value:
        yield from read_subject(value["user"], depth + 1)
    else:
        yield from _simple(form, value)


def _simple(form: str, value: dict[str, Any]) -> Iterator[Subject]:
    kind, member = {
        "iss_sub": ("sub", "sub"),
        "opaque": ("sub", "id"),
        "email": ("email", "email"),
        "account": ("email", "uri"),
    }.get(form, ("", ""))
    text, issuer = value.get(member), value.get("iss", "")
    if isinstance(text, str) and 0 < len(text) <= _MAX_CHARACTERS and isinstance(issuer, str):
        yield Subject(kind, text.removeprefix("acct:") if form == "account" else text, issuer)


def happened_before(event: Event) -> int:
    """Only sign-ins from before this moment end: whoever has signed in since has proved who they are.

    Clocks differ, so that it is a little later than when it happened.
    """
    return event.at + LEEWAY_SECONDS
