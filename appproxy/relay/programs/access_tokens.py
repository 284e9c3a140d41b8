"""Access tokens in use: programs that act for a user of the application's provider, or for themselves.

A token that was checked is remembered for a while, so that those who repeat it, as nearly all do, cost a look-up.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.logger import Logger

from appproxy.errors import AppproxyError
from appproxy.relay.access.policy import Decision, StepUp
from appproxy.relay.access.rules import Applying
from appproxy.relay.catalog import Published
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.relay.preauth.access_tokens import AccessToken, check_access_token
from appproxy.relay.preauth.failures import IdentityRefused, ProviderMisconfigured, TokenRefused
from appproxy.relay.preauth.provider import Provider
from appproxy.relay.programs.refusing import OutOfScope, StepUpNeeded, Unauthorised, stronger
from appproxy.relay.programs.watching import Watched

#: Tokens that are remembered at most, and for how long: then their key is looked for again.
MAX_REMEMBERED, REMEMBERED_SECONDS = 10_000, 600
ROLE_ASSIGNED = Decision(True, ("role-assigned",))
PROGRAM_ASSIGNED = Decision(True, ("program-assigned",))
SCOPE_MISSING = Decision(False, ("scope-missing",))
ROLE_MISSING = Decision(False, ("role-missing",))


class Bearer(Watched):
    """A token in use.

    :ivar until: when it ends, epoch seconds; *fresh_until*: when it is checked again.
    """

    __slots__ = ("_authorization_uri", "fresh_until", "identity", "token", "until")

    def __init__(self, token: AccessToken, now: int, authorization_uri: str) -> None:
        super().__init__()
        self.token = token
        self.identity = token.identity
        self.until = token.until
        self.fresh_until = min(token.until, now + REMEMBERED_SECONDS)
        self._authorization_uri = authorization_uri

    def __repr__(self) -> str:
        return f"<Bearer {self.identity.user}>"

    def decide(self, published: Published, applying: Applying | None, now: int) -> Decision:
        """Say whether it may: by scope and assignment for a user, by role or by name for a program itself."""
        api, token = published.application.api, self.token
        if not token.itself:
            if api.scopes and token.scopes.isdisjoint(api.scopes):
                return SCOPE_MISSING
            if applying is None:
                return published.assignment.decide(self.identity)
            return applying.decide(self.identity, now)
        assigned = ROLE_MISSING
        if not token.roles.isdisjoint(api.roles):
            assigned = ROLE_ASSIGNED
        elif self.identity.user in published.application.assigned.users:
            # Never as one of everybody: whoever may register a program at the provider would be in.
            assigned = PROGRAM_ASSIGNED
        if applying is None or not assigned.allowed:
            return assigned
        return applying.decide(self.identity, now, assigned)

    def refusal(self, published: Published, decision: Decision, now: int) -> AppproxyError:
        """A challenge to get a better token, if there is one to be had."""
        step_up, reasons = decision.step_up, ", ".join(decision.reasons)
        if step_up is None or self.token.itself:
            api = published.application.api
            missing = {SCOPE_MISSING: api.scopes, ROLE_MISSING: api.roles}.get(decision, ())
            return OutOfScope(reasons, missing)
        where = {"authorization_uri": self._authorization_uri} if self._authorization_uri else {}
        if self.token.takes_claims:
            return StepUpNeeded(
                reasons, {**where, "error": "insufficient_claims", "claims": claims_wanted(step_up, now)}
            )
        return StepUpNeeded(reasons, {**where, **stronger(step_up)})


def claims_wanted(step_up: StepUp, now: int) -> str:
    """The same as Microsoft's clients take it: a claims request (OpenID Connect Core 5.5), in base64."""
    wanted: dict[str, dict[str, Any]] = {}
    if step_up.acr:
        value = {"value": step_up.acr[0]} if len(step_up.acr) == 1 else {"values": list(step_up.acr)}
        wanted["acrs"] = {"essential": True, **value}
    if step_up.max_age:
        wanted["nbf"] = {"essential": True, "value": str(now)}
    return b64encode(msgspec.json.encode({"access_token": wanted})).decode("ascii")


class AccessTokens:
    """Knows programs by access tokens.

    :param providers: by id.
    :param provider_id: says which of them an application has.
    :param epoch: epoch seconds.
    """

    log = Logger()

    def __init__(
        self,
        providers: Mapping[str, Provider],
        provider_id: Callable[[Any], str],
        epoch: Callable[[], int],
    ) -> None:
        self._providers = providers
        self._provider_id = provider_id
        self._epoch = epoch
        self._known: dict[tuple[str, bytes], Bearer] = {}

    def provider(self, published: Published) -> Provider:
        """Whose tokens an application takes; :raises ProviderMisconfigured: nobody's."""
        id = self._provider_id(published.application)
        if id not in self._providers:
            raise ProviderMisconfigured(f"there is no provider {id!r}")
        return self._providers[id]

    async def identify(self, exchange: ClientExchange, published: Published) -> Bearer | None:
        """The token in the application's field for it; None where something else stands there.

        :raises Unauthorised: it is not good, or not for this application.
        :raises appproxy.relay.preauth.failures.SignInFailed: it cannot be told.
        """
        values = exchange.head.known[published.credential]
        scheme, _, credentials = values[0].strip(b" \t").partition(b" ")
        if scheme.lower() != b"bearer" or not credentials:
            if published.credential == b"authorization":
                return None  # the origin's own
            credentials = scheme
        if len(values) != 1:
            raise Unauthorised("several tokens")
        bearer = await self._find(credentials.strip(b" "), self.provider(published))
        if bearer.token.audiences.isdisjoint(published.audiences):
            raise Unauthorised("the access token is for another audience")
        return bearer

    async def _find(self, credentials: bytes, provider: Provider) -> Bearer:
        key = provider.id, hashlib.sha256(credentials).digest()
        bearer, now = self._known.get(key), self._epoch()
        if bearer is not None and now < bearer.fresh_until:
            return bearer
        try:
            token = await check_access_token(credentials.decode("latin-1"), provider, now)
        except (TokenRefused, IdentityRefused) as refusal:
            if bearer is not None:
                del self._known[key]
                bearer.cut()
            self.log.info(
                "an access token was refused: {detail}",
                event="token.refused",
                provider=provider.id,
                detail=refusal.detail,
                flaw=refusal.flaw if isinstance(refusal, TokenRefused) else "",
            )
            raise Unauthorised(refusal.detail) from None
        if bearer is not None:
            bearer.fresh_until = min(bearer.until, now + REMEMBERED_SECONDS)
            return bearer
        if len(self._known) >= MAX_REMEMBERED:
            self._make_room()
        known = provider.known
        bearer = self._known[key] = Bearer(token, now, known.authorization_endpoint if known is not None else "")
        return bearer

    def _make_room(self) -> None:
        """Forget the oldest, but for those that something is open for."""
        for key, bearer in list(self._known.items())[: max(2, MAX_REMEMBERED // 10)]:
            del self._known[key]
            if bearer.watched:
                self._known[key] = bearer  # as if it were new: there are no more of these than connections

    async def tick(self) -> None:
        """Once a minute: end what is open for tokens that have ended, and forget them."""
        now = self._epoch()
        for key, bearer in list(self._known.items()):
            if now >= bearer.until:
                del self._known[key]
                bearer.cut()
