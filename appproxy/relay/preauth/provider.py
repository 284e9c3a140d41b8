"""One OpenID provider as a relying party uses it: where to send people, and what came back with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from twisted.logger import Logger

from appproxy.config.provider import TENANT
from appproxy.identity import Identity
from appproxy.relay.preauth.authentication import ClientAuthentication
from appproxy.relay.preauth.failures import (
    Flaw,
    GrantRefused,
    ProviderUnreachable,
    SignInDeclined,
    SignInEnded,
    TokenRefused,
)
from appproxy.relay.preauth.fetching import Fetch
from appproxy.relay.preauth.keys import ALGORITHMS, KeySet
from appproxy.relay.preauth.metadata import (
    DOCUMENT_TIMEOUT_SECONDS,
    MAX_DOCUMENT_BYTES,
    Metadata,
    fetch_metadata,
)
from appproxy.relay.preauth.people import ask_for_groups, groups_left_out, name_person
from appproxy.relay.preauth.remembered import Remembered
from appproxy.relay.preauth.signed import unverified_claims
from appproxy.relay.preauth.tokens import Expected, check_id_token, check_refreshed

if TYPE_CHECKING:
    from appproxy.config import ProviderConfig

#: Discovery is read again this often, and after a failure no sooner than the second number.
METADATA_SECONDS, METADATA_RETRY_SECONDS = 3600.0, 2.0
#: A person is waiting for each of these.
TOKEN_TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 1 << 20
#: What an access token is worth when the provider does not say.
DEFAULT_ACCESS_SECONDS = 3600
#: Refusals that say something about the client, or the moment, and nothing about the person.  For a person who may not
#: come any more most providers say ``invalid_grant``, some ``invalid_request`` or that somebody has to be asked.
_NOT_THE_GRANT = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target"}
    | {"server_error", "slow_down", "temporarily_unavailable"}
)
#: A longer refresh token than any provider makes.
_MAX_REFRESH_CHARACTERS = 64 * 1024


class TokenAnswer(msgspec.Struct):
    """The token endpoint's answer (RFC 6749 section 5.1)."""

    access_token: str
    token_type: str
    id_token: str = ""
    refresh_token: str = ""
    expires_in: int | float | str | None = None

    @property
    def access_seconds(self) -> int:
        """For how long the access token is good; some write the number as text."""
        try:
            seconds = int(float(self.expires_in)) if self.expires_in is not None else DEFAULT_ACCESS_SECONDS
        except (ValueError, OverflowError):
            return DEFAULT_ACCESS_SECONDS
        return min(max(seconds, 1), 86400 * 365)


class SignedIn(NamedTuple):
    """Somebody, as the provider vouches for them, and what is needed to go on with it and to end it there."""

    identity: Identity
    id_token: str
    #: The provider's own session id, empty if it tells none.
    provider_session: str
    #: Empty if the provider gives none.
    refresh_token: str = ""
    #: For how long the access token is good.
    access_seconds: int = DEFAULT_ACCESS_SECONDS
    #: The claims that user information has told.
    told: tuple[str, ...] = ()


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
    :param random: gives that many unpredictable bytes.
    """

    log = Logger()

    def __init__(
        self,
        config: ProviderConfig,
        fetch: Fetch,
        seconds: Callable[[], float],
        epoch: Callable[[], int],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.id = config.id
        self.response_mode = config.response_mode
        self._config = config
        self._fetch = fetch
        self._epoch = epoch
        self._client = ClientAuthentication(config, epoch, random)
        self._metadata = Remembered(self._read_metadata, seconds, METADATA_SECONDS, METADATA_RETRY_SECONDS)
        self.keys = KeySet(self._read_keys, seconds)
        self.algorithms = tuple(a for a in config.algorithms if a in ALGORITHMS)
        pairs = (each.partition("=") for each in config.authorization_parameters)
        self._more = {name: value for name, _, value in pairs}

    @property
    def config(self) -> ProviderConfig:
        """Its settings."""
        return self._config

    @property
    def issuer(self) -> str:
        """The configured issuer; it may stand for many tenants."""
        return self._config.issuer

    @property
    def issuers(self) -> list[str]:
        """Everybody who may be meant by *issuer*."""
        issuer = self._config.issuer
        return [issuer.replace(TENANT, each) for each in self.tenants] if TENANT in issuer else [issuer]

    @property
    def tenants(self) -> tuple[str, ...]:
        """Whose people may sign in, where the issuer stands for many."""
        return self._config.tenants

    @property
    def client_id(self) -> str:
        """Who we are to it."""
        return self._config.client_id

    @property
    def known(self) -> Metadata | None:
        """The metadata, if they have been read."""
        return self._metadata.value

    def is_issuer(self, issuer: str) -> bool:
        """Whether *issuer* is this provider, in one of its tenants."""
        return issuer in self.issuers

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
        own = {
            "response_type": "code",
            "client_id": self._config.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._config.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "response_mode": "" if self.response_mode == "query" else self.response_mode,
        }
        return with_query((await self.metadata()).authorization_endpoint, **{**self._more, **more, **own})

    async def end_session_address(self, **parameters: str) -> str:
        """Where to send somebody to sign out; empty when the provider has no such address."""
        endpoint = (await self.metadata()).end_session_endpoint
        return with_query(endpoint, client_id=self._config.client_id, **parameters) if endpoint else ""

    async def redeem(self, code: str, verifier: str, redirect_uri: str, nonce: str) -> SignedIn:
        """Turn an authorization code into a person.

        :raises SignInFailed: one of its kinds, whatever goes wrong.
        """
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        tokens = await self._ask_for_tokens({**form, "code_verifier": verifier})
        if not tokens.id_token:
            raise ProviderUnreachable("the token endpoint's answer has no ID token")
        claims = await self._check(tokens, nonce)
        return await self._signed_in(tokens, claims, tokens.id_token, tokens.refresh_token)

    async def refresh(self, refresh_token: str, id_token: str, told: Collection[str] = ()) -> SignedIn:
        """Ask whether somebody is still who they were, and for what has changed about them.

        :param id_token: the one of the sign-in, or of the refresh before.
        :param told: the claims that user information has told before.
        :raises SignInEnded: the provider says that it is over.
        :raises SignInFailed: anything else; nothing can be said about the person.
        """
        before = unverified_claims(id_token)
        try:
            tokens = await self._ask_for_tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})
        except GrantRefused as refusal:
            raise SignInEnded(refusal.detail) from None
        # Without a new ID token the old one stands, but for what user information knows better: a claim that it tells
        # no more, as of the last group that somebody was in, is gone.
        claims = {name: value for name, value in before.items() if name not in told or name in ("iss", "sub")}
        if tokens.id_token:
            claims = await self._check(tokens, None)
            check_refreshed(claims, before)
            if "auth_time" in before:
                claims.setdefault("auth_time", before["auth_time"])
        signed_in = await self._signed_in(
            tokens, claims, tokens.id_token or id_token, tokens.refresh_token or refresh_token, before
        )
        return signed_in._replace(told=tuple(sorted({*told, *signed_in.told})))

    async def _check(self, tokens: TokenAnswer, nonce: str | None) -> dict[str, Any]:
        expected = Expected(self.issuer, self.client_id, nonce, self.algorithms, tokens.access_token, self.tenants)
        return await check_id_token(tokens.id_token, self.keys, expected, self._epoch())

    async def _signed_in(
        self,
        tokens: TokenAnswer,
        claims: dict[str, Any],
        id_token: str,
        refresh_token: str,
        before: Mapping[str, Any] | None = None,
    ) -> SignedIn:
        told = await self._user_information(tokens.access_token, claims["sub"])
        everything = await self._with_groups({**told, **claims}, tokens.access_token)
        if before is not None and "auth_time" not in everything:
            # Getting a new token proves nothing anew.
            everything["auth_time"] = before.get("iat", 0)
        session = claims.get("sid")
        return SignedIn(
            self.identity(everything),
            id_token,
            session if isinstance(session, str) else "",
            refresh_token if len(refresh_token) <= _MAX_REFRESH_CHARACTERS else "",
            tokens.access_seconds,
            tuple(sorted(told)),
        )

    async def _ask_for_tokens(self, form: dict[str, str]) -> TokenAnswer:
        metadata = await self.metadata()
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        self._client.prove(metadata, form, headers)
        answer = await self._fetch(
            "POST", metadata.token_endpoint, headers, urlencode(form).encode(), MAX_ANSWER_BYTES, TOKEN_TIMEOUT_SECONDS
        )
        if answer.status in (400, 401):
            error = _error_code(answer.body)
            kind = GrantRefused if error and error not in _NOT_THE_GRANT else SignInDeclined
            raise kind(f"the token endpoint answered {answer.status} {error}".rstrip())
        if answer.status != 200:
            raise ProviderUnreachable(f"the token endpoint answered {answer.status}")
        try:
            tokens = msgspec.json.decode(answer.body, type=TokenAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ProviderUnreachable("the token endpoint's answer is not what it should be") from None
        if tokens.token_type.lower() != "bearer":
            raise TokenRefused(Flaw.TOKEN_TYPE, "the access token is not a bearer token")
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
            raise TokenRefused(Flaw.USER_INFORMATION, "user information is about somebody else")
        return told

    async def _with_groups(self, claims: dict[str, Any], access_token: str) -> dict[str, Any]:
        """The claims with the groups that were too many for the token, if somebody is configured to ask for them.

        Who cannot be asked leaves them unknown, and the policy lets nobody in by unknown groups.
        """
        config = self._config
        if not groups_left_out(claims, config.groups_claim):
            return claims
        known = {name: value for name, value in claims.items() if name != config.groups_claim}
        unknown = {"_claim_names": {config.groups_claim: ""}, **known}
        if not config.groups_url:
            return unknown
        try:
            groups = await ask_for_groups(self._fetch, config.groups_url, access_token)
        except ProviderUnreachable as problem:
            self.log.warn(
                "the groups of {user} stay unknown: {detail}",
                event="signin.groups-unknown",
                user=claims.get(config.user_claim),
                provider=self.id,
                detail=problem.detail,
            )
            return unknown
        resolved = {name: value for name, value in known.items() if name not in ("_claim_names", "_claim_sources")}
        return {**resolved, config.groups_claim: groups}

    def identity(self, claims: Mapping[str, Any]) -> Identity:
        """Name the person of checked *claims*; see :func:`~appproxy.relay.preauth.people.name_person`."""
        return name_person(claims, self._config)


def _error_code(body: bytes) -> str:
    """The error code of RFC 6749 section 5.2, for the log; empty if there is none worth showing."""
    try:
        code = msgspec.json.decode(body, type=dict[str, Any]).get("error")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return code if isinstance(code, str) and code.isascii() and code.isprintable() and len(code) < 64 else ""
