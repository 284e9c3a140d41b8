"""Asking a provider something over HTTP: bounded in time and bytes, never following anything it says."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple, Protocol, cast

from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from appproxy.errors import ConfigError
from appproxy.relay.preauth.failures import ProviderUnreachable


class FetchedAnswer(NamedTuple):
    """A whole answer; *headers* by lower-case name, the last of equal names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetch(Protocol):
    """Sends one request and gives its answer, redirects included, as it is."""

    async def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit_bytes: int, timeout_seconds: float
    ) -> FetchedAnswer:
        """:raises ProviderUnreachable: no answer in time, too long a one, or none at all."""


class _Reader(TwistedProtocol):
    """Keeps a body up to a limit, then hangs up."""

    def __init__(self, limit: int) -> None:
        self.body: Deferred[bytes] = Deferred()
        self._limit = limit
        self._parts: list[bytes] = []
        self._length = 0

    def dataReceived(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= self._limit:
            self._parts.append(data)
        else:
            self._fail("the answer is too long")
            if self.transport is not None:
                cast(Any, self.transport).loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Only a body whose end is known is whole; a connection cut short is not an answer.
        if not self.body.called:
            if reason.check(ResponseDone):
                self.body.callback(b"".join(self._parts))
            else:
                self._fail("the answer was cut short")

    def _fail(self, why: str) -> None:
        self._parts.clear()
        if not self.body.called:
            self.body.errback(ProviderUnreachable(why))


@implementer(IPolicyForHTTPS)
class _Trust:
    """Checks the provider's certificate against the system's authorities or the one private one that is configured."""

    def __init__(self, ca_file: str) -> None:
        self._roots: Any = platformTrust()
        if ca_file:
            try:
                with open(ca_file, "rb") as file:
                    blocks = file.read().split(b"-----END CERTIFICATE-----")[:-1]
                pems = [block + b"-----END CERTIFICATE-----\n" for block in blocks]
                self._roots = trustRootFromCertificates([Certificate(load_certificate(FILETYPE_PEM, p)) for p in pems])
            except Exception as problem:
                raise ConfigError("provider.ca_file", f"{ca_file} has no readable PEM certificates") from problem
            if not pems:
                raise ConfigError("provider.ca_file", f"{ca_file} has no PEM certificates")

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLContextFactory:
        return cast(IOpenSSLContextFactory, optionsForClientTLS(hostname.decode("ascii"), trustRoot=self._roots))


@implementer(IBodyProducer)
class _Body:
    """A form, written at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def stopProducing(self) -> None:
        """Nothing is left to stop."""

    def pauseProducing(self) -> None:
        """Nothing is left to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to resume."""


@implementer(IAgent)
class _PlainAgent:
    """Asks for no compression and takes none: treq would decode it all, whatever it expands to."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Any, body: Any = None) -> Deferred[IResponse]:
        plain = headers.copy()
        plain.setRawHeaders(b"accept-encoding", [b"identity"])
        return self._agent.request(method, uri, plain, body).addCallback(self._check)

    @staticmethod
    def _check(response: Any) -> IResponse:
        if response.headers.getRawHeaders(b"content-encoding", [b"identity"]) != [b"identity"]:
            unread = _Reader(0)
            unread.body.addErrback(lambda _: None)
            response.deliverBody(unread)
            raise ProviderUnreachable("the answer is compressed although that was not asked for")
        return cast(IResponse, response)


class TreqFetch:
    """Fetches with treq over an agent of our own: no redirects, no cookies, no decompression, nothing kept open.

    :param reactor: provides TCP and time.
    :param ca_file: PEM file of a private authority; empty for the system's.
    """

    def __init__(self, reactor: Any, ca_file: str = "") -> None:
        self._reactor = reactor
        pool = HTTPConnectionPool(reactor, persistent=False)
        agent = Agent(reactor, contextFactory=_Trust(ca_file), connectTimeout=10, pool=pool)
        no_cookies = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
        self._client = HTTPClient(cast(IAgent, _PlainAgent(agent)), cookiejar=no_cookies)

    async def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit_bytes: int, timeout_seconds: float
    ) -> FetchedAnswer:
        """See :class:`Fetch`."""
        whole = Deferred.fromCoroutine(self._fetch(method, url, headers, body, limit_bytes))
        whole.addTimeout(timeout_seconds, self._reactor)
        try:
            return await whole
        except ProviderUnreachable:
            raise
        except Exception as problem:
            raise ProviderUnreachable(f"{method} {url.partition('?')[0]}: {type(problem).__name__}") from problem

    async def _fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit_bytes: int
    ) -> FetchedAnswer:
        response = await self._client.request(
            method,
            url,
            headers=Headers({name: [value] for name, value in headers.items()}),
            data=cast(IBodyProducer, _Body(body)) if body else None,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        reader = _Reader(limit_bytes)
        response.deliverBody(reader)
        content = await reader.body
        fields = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return FetchedAnswer(response.code, fields, content)
