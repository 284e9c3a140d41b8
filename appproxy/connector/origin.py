"""Asking origins with treq, without what treq does for browsers and must not do for a proxy.

Every request goes through :class:`treq.client.HTTPClient` over our own agent.  treq would keep cookies (of one user,
for the next), ask for gzip and decode it, follow redirects, buffer bodies, change the letters of methods and field
names and re-write targets; what is handed to it here makes each of these a no-op, so that the origin sees what the
client sent, octet for octet.
"""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any

from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from appproxy.connector.exchange import Asked, RequestBody


class PreparedURL(EncodedURL):
    """The address of an origin, used as it is written and made once.

    The target does not travel in it: hyperlink would make ``%7C`` of ``|`` and lose a bare ``?``, and every agent of
    Twisted's would parse it again.  The request that the headers carry has it.
    """

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def to_uri(self) -> PreparedURL:
        """Itself."""
        return self

    def to_text(self, with_password: bool = False) -> str:
        """The original."""
        return self._text


class PreparedHeaders(Headers):
    """The fields of one request, in order and case; whatever is added to them is ignored.

    :ivar asked: the request itself, which the agent at the other end of treq takes out again.
    """

    __slots__ = ("asked",)

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def copy(self) -> PreparedHeaders:
        """Itself, since nothing can change it."""
        return self

    def hasHeader(self, name: Any) -> bool:
        """True, so that nobody thinks something is missing."""
        return True

    def addRawHeader(self, name: Any, value: Any) -> None:
        """Ignored."""

    def setRawHeaders(self, name: Any, values: Any) -> None:
        """Ignored."""

    def removeHeader(self, name: Any) -> None:
        """Ignored."""

    def getRawHeaders(self, name: Any, default: Any = None) -> Any:
        """The values of one name."""
        folded = name.lower()
        return [value for field, value in self.asked.lines.fields if field.lower() == folded] or default


class NoCookies(IndexableCookieJar):
    """A jar that has nothing: cookies belong to the client."""

    def __init__(self) -> None:
        super().__init__(policy=DefaultCookiePolicy(allowed_domains=[]))

    def add_cookie_header(self, request: Any) -> None:
        """Nothing is added."""

    def __iter__(self) -> Any:
        """Nothing is in it."""
        return iter(())


class Unheard:
    """What treq gets to hear of an answer: nothing.

    treq would have its callbacks store the cookies of every answer, decode it and wrap it.  Whoever asked waits for the
    answer itself.
    """

    __slots__ = ()

    def addCallback(self, *_: Any) -> Unheard:
        """``Deferred``: it never fires."""
        return self


_UNHEARD = Unheard()


@implementer(IAgent)
class OriginAgent:
    """Takes the prepared request out of treq's hands and gives it to its pool."""

    def request(self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: Any = None) -> Any:
        """IAgent: ask, on a connection of the pool that the request names; method and address were only treq's."""
        assert isinstance(headers, PreparedHeaders)
        asked = headers.asked
        asked.body = bodyProducer
        asked.pool.ask(asked)
        return _UNHEARD


def _as_it_is(body: Any) -> Any:
    return body


class Origins:
    """Issues requests to origins.

    :param clock: handed to treq so that it looks for no other.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._cookies = NoCookies()
        agent: Any = OriginAgent()
        self._treq: Any = HTTPClient(agent, self._cookies, _as_it_is)

    def ask(self, asked: Asked, body: RequestBody | None = None) -> Asked:
        """Send *asked*, and return it: awaited, it gives the answer, or raises why there is none."""
        self._treq.request(
            asked.method.decode("ascii"),  # its capitals are of no interest: the agent has the original
            asked.pool.url,
            headers=PreparedHeaders(asked),
            data=body,
            cookies=self._cookies,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,
        )
        return asked
