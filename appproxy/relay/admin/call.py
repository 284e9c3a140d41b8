"""One call of the administration: what was asked, what it works on, how it fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qs

import msgspec
from twisted.logger import Logger

from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.exchange import Exchange
from appproxy.store.interface import Store

T = TypeVar("T")
#: Thousands of applications fit.
MAX_BODY_BYTES = 8 * 1024 * 1024


class Live(Protocol):
    """A connector that is here now."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def group(self) -> str:
        """The connector group it serves."""

    @property
    def peer(self) -> str:
        """Its address."""

    @property
    def since(self) -> int:
        """When it came, epoch seconds."""

    @property
    def channels(self) -> Sequence[object]:
        """Its channels to this relay."""


class LiveConnectors(Protocol):
    """The connectors that are here now, by id."""

    @property
    def by_connector(self) -> Mapping[str, Live]:
        """Each with its channels."""


class Relay(NamedTuple):
    """What the administration works on."""

    store: Store
    authorities: Authorities
    live: LiveConnectors
    now: Callable[[], int]
    random: Callable[[int], bytes]
    #: Ids of the providers that applications may name.
    providers: Collection[str]
    #: The host of the relay itself, which is not for applications.
    own_host: str


class Problem(Exception):
    """The call is refused: *where* names the thing, *problem* says what is wrong with it and the remedy."""

    def __init__(self, status: int, where: str, problem: str, fields: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(f"{where}: {problem}")
        self.status = status
        self.where = where
        self.problem = problem
        self.fields = fields


class Call:
    """One call, with the parts of the path that name something in *names*."""

    log = Logger()

    def __init__(self, relay: Relay, exchange: Exchange, names: Sequence[str]) -> None:
        self.relay = relay
        self.exchange = exchange
        self.names = names

    async def body(self, kind: type[T]) -> T:
        """The body as *kind*; :raises Problem: it is not that."""
        octets = await self.exchange.read_body(MAX_BODY_BYTES)
        try:
            return msgspec.json.decode(octets, type=kind)
        except msgspec.ValidationError as error:
            raise Problem(400, "body", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Problem(400, "body", "is not JSON") from None

    def parameter(self, name: str) -> str | None:
        """A parameter of the query, None if it was not given.

        :raises Problem: it was given twice, or others were given.
        """
        query = (self.exchange.query or b"").decode("ascii", "replace")
        given = parse_qs(query, keep_blank_values=True, errors="replace")
        if set(given) - {name} or len(given.get(name, ())) > 1:
            raise Problem(400, "query", f'is not understood; only "{name}" may stand there, once')
        return given[name][0] if name in given else None

    def done(self, event: str, sentence: str, **fields: Any) -> None:
        """Tell the log of an administrative act: one event each."""
        self.log.info("administration: " + sentence, event=f"admin.{event}", request=self.exchange.request_id, **fields)
