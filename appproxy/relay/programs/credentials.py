"""Whatever programs prove themselves with, in one place: service tokens and access tokens."""

from __future__ import annotations

import msgspec

from appproxy.relay.catalog import Published
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.relay.programs.access_tokens import AccessTokens
from appproxy.relay.programs.refusing import Program
from appproxy.relay.programs.service_tokens import ServiceTokens

#: Metadata change with the application only.
_FIELDS = (
    (b"Content-Type", b"application/json"),
    (b"Cache-Control", b"max-age=300"),
    (b"Access-Control-Allow-Origin", b"*"),
    (b"X-Content-Type-Options", b"nosniff"),
)


class Credentials:
    """Knows programs by the credential in a request.  Where there is one, it decides, whatever cookies come along."""

    def __init__(self, service_tokens: ServiceTokens, access_tokens: AccessTokens) -> None:
        self._service_tokens = service_tokens
        self._access_tokens = access_tokens

    async def identify(self, exchange: ClientExchange, published: Published) -> Program | None:
        """The program that the request's credential names; None when it is none of ours.

        :raises appproxy.relay.programs.refusing.Unauthorised: it is, and not good for this.
        """
        program = await self._service_tokens.identify(exchange, published)
        if program is not None or not published.audiences:
            return program
        return await self._access_tokens.identify(exchange, published)

    def describe(self, exchange: ClientExchange, published: Published) -> None:
        """Answer with the metadata of an application that takes access tokens (RFC 9728)."""
        application = published.application
        provider = self._access_tokens.provider(published)
        told = {
            "resource": published.origin(exchange.host) + published.external.path.decode("ascii"),
            "authorization_servers": provider.issuers,
            "bearer_methods_supported": ["header"],
            "resource_name": application.name or application.id,
        }
        if application.api.scopes:
            told["scopes_supported"] = list(application.api.scopes)
        exchange.answer(200, _FIELDS, msgspec.json.encode(told))
