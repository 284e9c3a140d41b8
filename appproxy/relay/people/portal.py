"""The relay's front page: the applications of whoever is signed in."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from appproxy.applications import Application
from appproxy.errors import Phase, Side
from appproxy.relay.access.policy import Assignment
from appproxy.relay.exchange import Exchange
from appproxy.relay.people.sessions import Session
from appproxy.relay.preauth.failures import SignInUnavailable
from appproxy.relay.preauth.oidc import OpenIDConnect
from appproxy.relay.preauth.provider import with_query
from appproxy.store.interface import StoreUnavailable

_SIGN_IN = "/.appproxy/sign-in"


class Entry(NamedTuple):
    """One application as the portal shows it."""

    name: str
    address: str
    host: str

    @property
    def letter(self) -> str:
        """Stands where a logo would."""
        return self.name[0].upper()


def entry_for(application: Application) -> Entry | None:
    """The name and the home page of *application*; None where it has no one address, as a wildcard has none."""
    urls = [url for url in application.external_urls if "*" not in url]
    if not urls:
        return None
    url = application.alternate_url if application.translate.alternate_url else urls[0]
    return Entry(application.name or application.id, url + application.home_page, urlsplit(url).netloc)


class Portal:
    """Answers the relay's own host, but for ``/.appproxy/``."""

    def __init__(self, oidc: OpenIDConnect) -> None:
        self._oidc = oidc

    async def serve(self, exchange: Exchange) -> None:
        """Show the applications, or send the person to sign in."""
        rendering = self._oidc.rendering
        if exchange.path != b"/":
            return rendering.explain(exchange, 404, "not-found", Side.CLIENT, Phase.REQUEST)
        if exchange.head.method not in (b"GET", b"HEAD"):
            allow = [(b"Allow", b"GET, HEAD")]
            return rendering.explain(exchange, 405, "method-not-allowed", Side.CLIENT, Phase.REQUEST, allow)
        try:
            roots = {name: root for name in self._oidc.providers if (root := await self._oidc.root(exchange, name))}
        except StoreUnavailable:
            return rendering.fail(exchange, SignInUnavailable())
        if roots:
            users = sorted({root.identity.user for root in roots.values()})
            return rendering.page(exchange, 200, "portal", users=users, applications=self._entries(roots))
        return self._invite(exchange)

    def _invite(self, exchange: Exchange) -> None:
        providers = list(self._oidc.providers)
        if not exchange.navigation:
            return self._oidc.rendering.explain(exchange, 401, "sign-in-required", Side.CLIENT, Phase.SIGN_IN)
        if len(providers) == 1:
            return self._oidc.rendering.redirect(exchange, _SIGN_IN.encode())
        choices = [(name, with_query(_SIGN_IN, provider=name)) for name in providers]
        return self._oidc.rendering.page(exchange, 200, "choose", providers=choices)

    def _entries(self, roots: dict[str, Session]) -> list[Entry]:
        """What the same evaluator that guards the applications would let in."""
        entries = []
        for application in self._oidc.applications().values():
            root = roots.get(self._oidc.provider_id(application))
            if (
                root is not None
                and application.enabled
                and application.preauthentication == "oidc"
                and Assignment(application).decide(root.identity).allowed
                and (entry := entry_for(application)) is not None
            ):
                entries.append(entry)
        return sorted(entries, key=lambda entry: entry.name.casefold())
