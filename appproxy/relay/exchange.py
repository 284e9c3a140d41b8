"""One request of a client as the relay's rooms see it, whatever carried it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from appproxy.errors import AppproxyError, Side

if TYPE_CHECKING:
    from appproxy.http.messages import Field, RequestHead

#: Destinations of a navigation that show a document to a person; an ``<object>`` or ``<embed>`` cannot sign anybody in.
_DOCUMENTS: Final = frozenset({b"document", b"iframe", b"frame", b"fencedframe", b""})


class PayloadTooLarge(AppproxyError):
    """The request body is longer than this address takes."""

    code = "payload-too-large"
    status = 413
    side = Side.CLIENT


class ClientGone(AppproxyError):
    """The client went away before its request was done with; nobody hears the answer."""

    code = "client-gone"
    status = 400
    side = Side.CLIENT


def is_navigation(method: bytes, known: Mapping[bytes, Sequence[bytes]]) -> bool:
    """Whether a person is looking at the answer, as opposed to a script or a program.

    Browsers say it themselves (Fetch Metadata); for all others it is a GET or HEAD that accepts HTML and was not made
    by ``XMLHttpRequest``.

    :param known: fields by lower-case name.
    """
    if b"upgrade" in known:
        return False
    mode = known.get(b"sec-fetch-mode")
    if mode:
        return mode[0] == b"navigate" and known.get(b"sec-fetch-dest", (b"",))[0] in _DOCUMENTS
    if method not in (b"GET", b"HEAD") or b"x-requested-with" in known:
        return False
    return any(b"text/html" in value.lower() for value in known.get(b"accept", ()))


def is_same_origin_post(head: RequestHead, origin: str) -> bool:
    """Whether this is a POST made by one of our own pages at *origin*; no page makes a browser lie here."""
    if head.method != b"POST":
        return False
    origins, sites = head.known.get(b"origin"), head.known.get(b"sec-fetch-site")
    ours = [origin.encode("ascii")]
    if sites:
        # A page with Referrer-Policy: no-referrer, as ours are, posts with "Origin: null".
        return sites == [b"same-origin"] and origins in (None, ours, [b"null"])
    return origins == ours


class Exchange(ABC):
    """A request that is being answered.  Whoever answers it calls :meth:`answer` once; nobody answers twice."""

    __slots__ = ()

    #: The request head as it came; its target is the client's, octet for octet.
    head: RequestHead
    #: ``https`` or ``http``, as the client used it.
    scheme: str
    #: The external host: canonical, lower-case, without port.
    host: str
    #: ``host`` or ``host:port`` as the client addresses it.
    authority: str
    #: The one canonical reading of the path, for routing and policy only.
    path: bytes
    #: The query as it came, without its question mark; None when there is none.
    query: bytes | None
    #: The client's address.
    client: str
    request_id: str
    #: The relay's own cookies by name, in the order they came; origins never see them.
    reserved: dict[bytes, list[bytes]]

    @property
    def navigation(self) -> bool:
        """Whether a person is looking at the answer: HTML and redirects suit; else JSON and status codes do."""
        return is_navigation(self.head.method, self.head.known)

    @property
    def origin(self) -> str:
        """What a browser calls the origin of this page: ``https://host[:port]``."""
        return f"{self.scheme}://{self.authority}"

    @property
    def same_origin_post(self) -> bool:
        """Whether this is a POST made by one of our own pages on this very host."""
        return is_same_origin_post(self.head, self.origin)

    @abstractmethod
    async def read_body(self, limit: int) -> bytes:
        """Read the whole request body.

        :raises PayloadTooLarge: it is longer than *limit* bytes.
        """

    @abstractmethod
    def answer(self, status: int, fields: Sequence[Field] = (), body: bytes = b"") -> None:
        """Answer with a whole message; length, ``Cache-Control: no-store`` (if absent) and HSTS are added."""
