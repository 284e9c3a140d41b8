"""What is published, as an immutable snapshot: from host and path to application, replaced whole on every change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from appproxy.applications import Application, to_document
from appproxy.http.addresses import ExternalURL
from appproxy.identity import Identity
from appproxy.relay.policy import Assignment


class Published:
    """One application with all that can be worked out once.

    :ivar pinned: each client connection has one to the origin for itself.
    :ivar ping: seconds between pings to clients of idle WebSockets; 0: none.
    """

    __slots__ = ("_claims", "_groups", "application", "assignment", "external", "id", "ping", "pinned", "signs_in")

    def __init__(self, application: Application) -> None:
        self.application = application
        self.id = application.id
        self.external = ExternalURL.parse(application.external_url)
        self.assignment = Assignment(application)
        self.signs_in = application.preauthentication == "oidc"
        self.pinned = application.origin.pinned
        self.ping = float(application.timeouts.ping)
        sources = [rule.value for rule in application.sso.header] if application.sso.mode == "header" else []
        self._claims = tuple(source.partition(":")[2] for source in sources if source.startswith("claim:"))
        self._groups = "groups" in sources

    def __repr__(self) -> str:
        return f"<Published {self.id} at {self.application.external_url}>"

    def outline(self, identity: Identity) -> dict[str, Any]:
        """What the connector is told of *identity*: no more than this application's single sign-on makes use of."""
        outline: dict[str, Any] = {"user": identity.user}
        if self._groups:
            outline["groups"] = list(identity.groups)
        if self._claims:
            outline["claims"] = {name: identity.claims[name] for name in self._claims if name in identity.claims}
        return outline


class Catalog:
    """The snapshot.  Exact hosts beat wildcards, longer wildcards beat shorter, longer paths beat shorter."""

    def __init__(self, applications: Iterable[Application] = ()) -> None:
        self.applications = {application.id: application for application in applications}
        self.published = {a.id: Published(a) for a in self.applications.values() if a.enabled}
        self._exact: dict[str, list[tuple[bytes, bytes, Published]]] = {}
        self._wildcards: list[tuple[str, list[tuple[bytes, bytes, Published]]]] = []
        wildcards: dict[str, list[tuple[bytes, bytes, Published]]] = {}
        for published in self.published.values():
            external = published.external
            entry = (external.path, external.path[:-1] or b"/", published)
            if external.wildcard:
                wildcards.setdefault("." + external.host, []).append(entry)
            else:
                self._exact.setdefault(external.host, []).append(entry)
        for entries in (*self._exact.values(), *wildcards.values()):
            entries.sort(key=lambda entry: len(entry[0]), reverse=True)
        self._wildcards = sorted(wildcards.items(), key=lambda item: len(item[0]), reverse=True)

    def find(self, host: str, path: bytes) -> Published | None:
        """The application published at *host* (canonical) and *path* (canonical), or None."""
        entries = self._exact.get(host)
        if entries is not None and (found := _longest(entries, path)) is not None:
            return found
        for suffix, entries in self._wildcards:
            if host.endswith(suffix) and (found := _longest(entries, path)) is not None:
                return found
        return None

    def at_host(self, host: str) -> list[Published]:
        """Every application published at *host*, longest path first."""
        entries = list(self._exact.get(host, ()))
        for suffix, wild in self._wildcards:
            if host.endswith(suffix):
                entries.extend(wild)
        return [published for _, _, published in entries]

    def knows_host(self, host: str) -> bool:
        """Whether anything is published at *host*."""
        return host in self._exact or any(host.endswith(suffix) for suffix, _ in self._wildcards)

    def hosts(self) -> list[str]:
        """All exact hosts that something is published at."""
        return sorted(self._exact)

    def of_group(self, group: str) -> list[dict[str, Any]]:
        """The applications of a connector group, as builtins for the channel."""
        return [
            to_document(published.application)
            for published in self.published.values()
            if published.application.connector_group == group
        ]


def _longest(entries: list[tuple[bytes, bytes, Published]], path: bytes) -> Published | None:
    """Whole segments only: ``/hr/`` covers ``/hr`` and ``/hr/x``, never ``/hrx``."""
    for prefix, bare, published in entries:
        if path.startswith(prefix) or path == bare:
            return published
    return None
