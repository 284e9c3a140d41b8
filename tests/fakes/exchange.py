"""An exchange without a client: given parts of a request, it keeps what it was answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appproxy.http.addresses import canonical_path
from appproxy.http.messages import Field, RequestHead
from appproxy.relay.exchange import PayloadTooLarge, is_navigation, is_same_origin_post

#: What a browser sends when somebody follows a link or types an address.
NAVIGATES = ((b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"document"), (b"Accept", b"text/html"))
#: What a browser sends for ``fetch()``.
FETCHES = ((b"Sec-Fetch-Mode", b"cors"), (b"Sec-Fetch-Dest", b"empty"), (b"Accept", b"*/*"))


class FakeExchange:
    """A request of a client: what :class:`appproxy.relay.exchange.Exchange` tells and does.

    :param url: the absolute address that the client uses; whatever follows the authority is the target, as it is.
    :param cookies: the relay's own cookies, by name.
    """

    def __init__(
        self,
        url: str | bytes,
        *,
        method: bytes = b"GET",
        fields: Iterable[Field] = NAVIGATES,
        cookies: dict[bytes, list[bytes]] | None = None,
        body: bytes = b"",
        client: str = "203.0.113.7",
    ) -> None:
        octets = url.encode() if isinstance(url, str) else url
        scheme, _, rest = octets.partition(b"://")
        authority, slash, target = rest.partition(b"/")
        self.scheme = scheme.decode()
        self.authority = authority.decode()
        self.host = self.authority.partition(":")[0]
        self.head = RequestHead.of(method, slash + target, [(b"Host", authority), *fields])
        path, mark, query = (slash + target).partition(b"?")
        self.path = canonical_path(path)
        self.query = query if mark else None
        self.client = client
        self.request_id = "req-1"
        self.reserved = {name: list(values) for name, values in (cookies or {}).items()}
        self._body = body
        self.upgrade = False
        self.status = 0
        self.fields: list[Field] = []
        self.body = b""

    @property
    def navigation(self) -> bool:
        """Whether a person is looking at the answer."""
        return is_navigation(self.head.method, self.head.known)

    @property
    def origin(self) -> str:
        """Scheme and authority."""
        return f"{self.scheme}://{self.authority}"

    @property
    def same_origin_post(self) -> bool:
        """Whether one of our own pages made it."""
        return is_same_origin_post(self.head, self.origin)

    def substitute(self, head: RequestHead, body: bytes) -> None:
        """Stand for another request."""
        self.head, self._body = head, body

    async def read_body(self, limit: int) -> bytes:
        """The body it was made with."""
        if len(self._body) > limit:
            raise PayloadTooLarge
        return self._body

    def answer(self, status: int, fields: Sequence[Field] = (), body: bytes = b"") -> None:
        """Keep the answer; a second one is a mistake."""
        if self.status:
            raise AssertionError("answered twice")
        self.status, self.fields, self.body = status, list(fields), body

    def values(self, name: str) -> list[str]:
        """All values of an answered field."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for field, value in self.fields if field.lower() == wanted]

    def value(self, name: str) -> str:
        """The one value of an answered field, empty if there is none."""
        values = self.values(name)
        if len(values) > 1:
            raise AssertionError(f"{name} {len(values)} times")
        return values[0] if values else ""
