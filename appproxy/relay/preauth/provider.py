"""One OpenID provider as a relying party uses it: where to send people, and what came back with them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote_plus, urlencode

import msgspec

from appproxy.identity import Identity
from appproxy.relay.preauth.failures import IdentityRefused, ProviderUnreachable, SignInDeclined, TokenRefused
from appproxy.relay.preauth.fetching import Fetch
from appproxy.relay.preauth.keys import ALGORITHMS, KeySet
from appproxy.relay.preauth.metadata import (
    DOCUMENT_TIMEOUT_SECONDS,
    MAX_DOCUMENT_BYTES,
    Metadata,
    fetch_metadata,
)
from appproxy.relay.preauth.remembered import Remembered
from appproxy.relay.preauth.tokens import Expected, check_id_token

if TYPE_CHECKING:
    from appproxy.config import ProviderConfig

#: Discovery is read again this often, and after a failure no sooner than the second number.
METADATA_SECONDS, METADATA_RETRY_SECONDS = 3600.0, 2.0
#: A person is waiting for each of these.
TOKEN_TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 1 << 20
MAX_USER_CHARACTERS = 255
#: Claims that say something about the token, not about the person.
_OF_THE_TOKEN = frozenset(
    ["aud", "exp", "nbf", "nonce", "at_hash", "c_hash", "s_hash", "jti", "azp", "rh", "uti", "aio"]
)


class TokenAnswer(msgspec.Struct):
    """The token endpoint's answer (RFC 6749 section 5.1)."""

    access_token: str
    token_type: str
    id_token: str


class SignedIn(NamedTuple):
    """Somebody, as the provider vouches for them, and what is needed to sign them out there."""

    identity: Identity
    id_token: str
    #: The provider's own session id, empty if it tells none.
    provider_session: str


def with_query(address: str, **parameters: str) -> str:
    """Add *parameters* to an address that may already have a query; empty ones are left out."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{address}{'&' if '?' in address else '?'}{query}" if query else address


class Provider:
    """A configured provider.

    :param config: its section of ``relay.toml``.
    :param fetch: sends requests to it.
    :param seconds: a monotonic clock.
    :param epoch: epoch seconds.
    """

    def __init__(
        self, config: ProviderConfig, fetch: Fetch, seconds: Callable[[], float], epoch: Callable[[], int]
    ) -> None:
        self.id = config.id
        self._config = config
        self._fetch = fetch
        self._epoch = epoch
        self._metadata = Remembered(self._read_metadata, seconds, METADATA_SECONDS, METADATA_RETRY_SECONDS)
        self._keys = KeySet(self._read_keys, seconds)
        self._algorithms = tuple(a for a in config.algorithms if a in ALGORITHMS)

    @property
    def issuer(self) -> str:
        """The configured issuer."""
        return self._config.issuer

    @property
    def client_id(self) -> str:
        """Who we are to it."""
        return self._config.client_id

    @property
    def known(self) -> Metadata | None:
        """The metadata, if they have been read."""
        return self._metadata.value

    async def metadata(self) -> Metadata:
        """Give the checked metadata.

        :raises ProviderUnreachable: none could be read yet.
        :raises ProviderMisconfigured: they are not to be used.
        """
        return await self._metadata.get()

    async def _read_metadata(self) -> Metadata:
        config = self._config
        return await fetch_metadata(self._fetch, config.issuer, config.metadata_url, config.allow_http)

    async def _read_keys(self) -> bytes:
        address = (await self.metadata()).jwks_uri
        accept = {"Accept": "application/jwk-set+json, application/json"}
        answer = await self._fetch("GET", address, accept, b"", MAX_DOCUMENT_BYTES, DOCUMENT_TIMEOUT_SECONDS)
        if answer.status != 200:
            raise ProviderUnreachable(f"the key set answered {answer.status}")
        return answer.body

    async def authorization_address(
        self, *, redirect_uri: str, state: str, nonce: str, challenge: str, **more: str
    ) -> str:
        """Where to send somebody to sign in; *challenge* is the S256 of the PKCE verifier."""
        return with_query(
            (await self.metadata()).authorization_endpoint,
            response_type="code",
            client_id=self._config.client_id,
            redirect_uri=redirect_uri,
            scope=" ".join(self._config.scopes),
            state=state,
            nonce=nonce,
            code_challenge=challenge,
            code_challenge_method="S256",
            **more,
        )

    async def end_session_address(self, **parameters: str) -> str:
        """Where to send somebody to sign out; empty when the provider has no such address."""
        endpoint = (await self.metadata()).end_session_endpoint
        return with_query(endpoint, client_id=self._config.client_id, **parameters) if endpoint else ""

    async def redeem(self, code: str, verifier: str, redirect_uri: str, nonce: str) -> SignedIn:
        """Turn an authorization code into a person.

        :raises SignInFailed: one of its kinds, whatever goes wrong.
        """
        tokens = await self._exchange_code(code, verifier, redirect_uri)
        expected = Expected(self.issuer, self.client_id, nonce, self._algorithms, tokens.access_token)
        claims = await check_id_token(tokens.id_token, self._keys, expected, self._epoch())
        told = await self._user_information(tokens.access_token, claims["sub"])
        provider_session = claims.get("sid")
        return SignedIn(
            self.identity({**told, **claims}),
            tokens.id_token,
            provider_session if isinstance(provider_session, str) else "",
        )

    async def _exchange_code(self, code: str, verifier: str, redirect_uri: str) -> TokenAnswer:
        metadata, config = await self.metadata(), self._config
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        form["code_verifier"] = verifier
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        methods = metadata.token_endpoint_auth_methods_supported
        if not config.client_secret:
            form["client_id"] = config.client_id
        elif "client_secret_basic" in methods or "client_secret_post" not in methods:
            # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
            pair = f"{quote_plus(config.client_id)}:{quote_plus(config.client_secret)}"
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": config.client_id, "client_secret": config.client_secret}
        answer = await self._fetch(
            "POST", metadata.token_endpoint, headers, urlencode(form).encode(), MAX_ANSWER_BYTES, TOKEN_TIMEOUT_SECONDS
        )
        if answer.status in (400, 401):
            raise SignInDeclined(f"the token endpoint answered {answer.status} {_error_code(answer.body)}".rstrip())
        if answer.status != 200:
            raise ProviderUnreachable(f"the token endpoint answered {answer.status}")
        try:
            tokens = msgspec.json.decode(answer.body, type=TokenAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ProviderUnreachable("the token endpoint's answer is not what it should be") from None
        if tokens.token_type.lower() != "bearer":
            raise TokenRefused("the access token is not a bearer token")
        return tokens

    async def _user_information(self, access_token: str, subject: str) -> dict[str, Any]:
        endpoint = (await self.metadata()).userinfo_endpoint
        if not endpoint:
            return {}
        headers = {"Accept": "application/json", "Authorization": f"Bearer {access_token}"}
        answer = await self._fetch("GET", endpoint, headers, b"", MAX_ANSWER_BYTES, TOKEN_TIMEOUT_SECONDS)
        if answer.status != 200:
            raise ProviderUnreachable(f"user information answered {answer.status}")
        try:
            told = msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ProviderUnreachable("user information is not JSON") from None
        if told.get("sub") != subject:
            raise TokenRefused("user information is about somebody else")
        return told

    def identity(self, claims: Mapping[str, Any]) -> Identity:
        """Name the person of checked *claims*.

        :raises IdentityRefused: the configured claim names nobody.
        """
        config = self._config
        user = claims.get(config.user_claim)
        if not isinstance(user, str) or not 0 < len(user) <= MAX_USER_CHARACTERS:
            raise IdentityRefused(f"there is no claim {config.user_claim}")
        if not user.isprintable() or user != user.strip():
            raise IdentityRefused(f"the claim {config.user_claim} has characters that no name has")
        # Whoever may choose their own address could otherwise be anybody.
        if config.user_claim == "email" and claims.get("email_verified") not in (True, "true"):
            raise IdentityRefused("the provider has not verified the e-mail address")
        groups = claims.get(config.groups_claim) if config.groups_claim else None
        listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        at = claims.get("auth_time", claims.get("iat", 0))
        return Identity(
            issuer=claims["iss"],
            subject=claims["sub"],
            user=user,
            groups=tuple(group for group in listed if isinstance(group, str) and group),
            claims={name: value for name, value in claims.items() if name not in _OF_THE_TOKEN},
            authenticated_at=int(at),
        )


def _error_code(body: bytes) -> str:
    """The error code of RFC 6749 section 5.2, for the log; empty if there is none worth showing."""
    try:
        code = msgspec.json.decode(body, type=dict[str, Any]).get("error")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return code if isinstance(code, str) and code.isascii() and code.isprintable() and len(code) < 64 else ""
