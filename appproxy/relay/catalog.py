"""What is published, as an immutable snapshot: from address to application, replaced whole on every change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from appproxy.applications import Application, RateLimits, Segment, to_document
from appproxy.expressions import parse
from appproxy.http.addresses import ExternalURL
from appproxy.http.cors import CrossOriginRules
from appproxy.http.hops import REQUEST_DROP, fold
from appproxy.identity import Identity
from appproxy.relay.access.policy import Assignment
from appproxy.relay.access.rules import Rules
from appproxy.relay.people.client_certificates import Certified
from appproxy.relay.programs.refusing import METADATA_PATH

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Published:
    """One application at one of its addresses, with all that can be worked out once.

    :ivar segment: what the connector calls the address; empty for the only one of an application.
    :ivar origins: where the application's own pages are, if it has several addresses; wildcards are left out, whose
        hosts need not trust each other.
    :ivar cors: the address's rules for scripts of other sites, if it has any.
    :ivar attended: the relay answers some or all requests by itself: for maintenance, or by *cors*.
    :ivar drop: fields of requests that do not go on, folded; *drop_credential* with a program's credential among them,
        *drop_trailers* of trailers.
    :ivar audiences: of access tokens that let programs in, without slashes at their ends; empty for none.
    :ivar certificate: what the certificates of its users are for, if they are asked for them.
    :ivar credential: the field, in lower case, that has a program's credential.
    :ivar rate: how often it may be asked, if there are limits.
    :ivar pinned: each client connection has one to the origin for itself.
    :ivar tells_by_token: the origin gets a signed statement on who the user is.
    :ivar ping: seconds between pings to clients of idle WebSockets; 0: none.
    """

    __slots__ = (
        "_claims", "_groups", "application", "assignment", "attended", "audiences", "certificate", "cors", "credential",
        "drop", "drop_credential", "drop_trailers", "external", "id", "origins", "ping", "pinned", "rate", "rules",
        "segment", "signs_in", "tells_by_token",
    )  # fmt: skip

    def __init__(self, application: Application, segment: Segment | None = None, external_url: str = "") -> None:
        """:param external_url: another one than the segment's.  Without a segment it is the application's first."""
        segments = application.segments
        segment = segment or segments[0]
        self.application = application
        self.id = application.id
        self.external = ExternalURL.parse(external_url or segment.external_url)
        self.segment = str(self.external) if len(segments) > 1 or application.alternate_url else ""
        everywhere = map(ExternalURL.parse, application.external_urls)
        origins = frozenset(url.origin.encode("ascii") for url in everywhere if not url.wildcard)
        self.origins = origins if self.segment else frozenset()
        self.cors = None if segment.cors is None else CrossOriginRules(segment.cors)
        self.attended = application.maintenance or self.cors is not None
        self.assignment = Assignment(application)
        self.rules = Rules(application, self.assignment) if application.rule else None
        self.signs_in = application.preauthentication == "oidc"
        self.drop = REQUEST_DROP.difference(map(fold, (name.encode("ascii") for name in application.client_fields)))
        api = application.api
        self.audiences = frozenset(audience.removesuffix("/") for audience in api.audiences)
        self.credential = b"authorization"
        if api.token_header:
            self.credential = api.token_header.lower().encode("ascii")
            self.drop |= {fold(self.credential)}
        self.tells_by_token = bool(application.identity_token.header)
        if self.tells_by_token:
            self.drop |= {fold(application.identity_token.header.encode("ascii"))}
        self.drop_credential = self.drop | {fold(self.credential)}
        certificate = application.client_certificate
        self.certificate = Certified(application.id, certificate) if certificate.ca else None
        self.drop_trailers = REQUEST_DROP | self.drop
        self.rate = application.rate if application.rate != RateLimits() else None
        self.pinned = application.origin.pinned
        self.ping = float(application.timeouts.ping)
        told = [parse(text) for text in application.sso.expressions]
        self._claims = tuple(sorted({claim for expression in told for claim in expression.claims}))
        self._groups = any(expression.groups for expression in told)

    def __repr__(self) -> str:
        return f"<Published {self.id} at {self.external}>"

    def origin(self, host: str) -> str:
        """Scheme and authority of this address for the client's *host*, which is one of it."""
        external = self.external
        return (external.with_labels(external.labels_of(host)) if external.wildcard else external).origin

    def metadata_of(self, host: str) -> dict[str, str]:
        """For challenges: where the metadata are of what takes access tokens; nothing for what takes none."""
        if not self.audiences:
            return {}
        path = self.external.path.decode("ascii")
        return {"resource_metadata": f"{self.origin(host)}{METADATA_PATH.decode()}{'' if path == '/' else path}"}

    def outline(self, identity: Identity) -> dict[str, Any]:
        """What the connector is told of *identity*: no more than this application's single sign-on makes use of."""
        outline: dict[str, Any] = {"user": identity.user}
        if self._groups:
            outline["groups"] = list(identity.groups)
        if self._claims:
            outline["claims"] = {name: identity.claims[name] for name in self._claims if name in identity.claims}
        return outline


def addresses(application: Application) -> Iterator[Published]:
    """An application at each of its addresses."""
    segments = application.segments
    for segment in segments:
        yield Published(application, segment)
    if segments and application.alternate_url:
        yield Published(application, segments[0], application.alternate_url)


#: A path with its final slash, the same without, and what is published there.
_Entry = tuple[bytes, bytes, Published]


class _Host:
    """All that is published at one host, or at one wildcard.

    :ivar entries: longest path first, and the scheme's own port before others.
    :ivar servers: the same by scheme and port, where several are in use; with one only, nobody asks for it: requests
        may come through a port that the address does not tell.
    """

    __slots__ = ("_clear", "entries", "servers")

    def __init__(self, everything: Iterable[Published]) -> None:
        ordered = sorted(everything, key=_rank)
        self.entries: list[_Entry] = [_entry(published) for published in ordered]
        by_server: dict[tuple[str, int], list[_Entry]] = {}
        for entry in self.entries:
            external = entry[2].external
            by_server.setdefault((external.scheme, external.port), []).append(entry)
        self.servers = by_server if len(by_server) > 1 else None
        # A request in the clear for what has only TLS finds what it will be redirected to.
        self._clear = [entry for entry in self.entries if entry[2].external.scheme == "https"]
        for (scheme, _), entries in by_server.items():
            if scheme == "http":
                entries += self._clear

    def at(self, scheme: str, authority: str) -> list[_Entry]:
        """What is published at one of several servers."""
        assert self.servers is not None
        port = authority.rpartition(":")[2]
        found = self.servers.get((scheme, int(port) if port.isdecimal() else _DEFAULT_PORTS[scheme]))
        if found is None:
            return self._clear if scheme == "http" else []
        return found


def _rank(published: Published) -> tuple[int, bool]:
    external = published.external
    return -len(external.path), external.port != _DEFAULT_PORTS[external.scheme]


def _entry(published: Published) -> _Entry:
    path = published.external.path
    return path, path[:-1] or b"/", published


class Catalog:
    """The snapshot.  Exact hosts beat wildcards, longer wildcards beat shorter, longer paths beat shorter."""

    def __init__(self, applications: Iterable[Application] = ()) -> None:
        self.applications = {application.id: application for application in applications}
        exact: dict[str, list[Published]] = {}
        wildcards: dict[str, list[Published]] = {}
        for application in self.applications.values():
            for published in addresses(application) if application.enabled else ():
                external = published.external
                if external.wildcard:
                    wildcards.setdefault("." + external.host, []).append(published)
                else:
                    exact.setdefault(external.host, []).append(published)
        self._certified = any(each.enabled and bool(each.client_certificate.ca) for each in self.applications.values())
        self._exact = {host: _Host(everything) for host, everything in exact.items()}
        longest_first = sorted(wildcards, key=len, reverse=True)
        self._wildcards = [(suffix, _Host(wildcards[suffix])) for suffix in longest_first]

    def find(self, host: str, path: bytes, scheme: str = "https", authority: str = "") -> Published | None:
        """What is published at *host* and *path* (both canonical), or None.

        :param scheme: how the client came; it matters where several servers have the host, as does the port.
        :param authority: the host with its port, unless that is the scheme's own.
        """
        at_host = self._exact.get(host)
        if at_host is not None:
            entries = at_host.entries if at_host.servers is None else at_host.at(scheme, authority)
            if (found := _longest(entries, path)) is not None:
                return found
        for suffix, at_host in self._wildcards:
            if host.endswith(suffix):
                entries = at_host.entries if at_host.servers is None else at_host.at(scheme, authority)
                if (found := _longest(entries, path)) is not None:
                    return found
        return None

    def at_host(self, host: str) -> list[Published]:
        """Everything that is published at *host*, longest path first."""
        hosts = [self._exact[host]] if host in self._exact else []
        hosts += [wild for suffix, wild in self._wildcards if host.endswith(suffix)]
        return [published for each in hosts for _, _, published in each.entries]

    def knows_host(self, host: str) -> bool:
        """Whether anything is published at *host*."""
        return host in self._exact or any(host.endswith(suffix) for suffix, _ in self._wildcards)

    def hosts(self) -> list[str]:
        """All exact hosts that something is published at."""
        return sorted(self._exact)

    def trusted_at(self, host: str) -> str:
        """The authorities (PEM) whose certificates users of *host* are asked for; empty for none.

        Exact hosts go before wildcards, longer paths before shorter ones; what has others is told that nobody came.
        """
        if not self._certified:
            return ""
        everything = (published.certificate for published in self.at_host(host))
        return next((certificate.trusted for certificate in everything if certificate is not None), "")

    @property
    def asks_for_certificates(self) -> bool:
        """Whether anything does."""
        return self._certified

    def of_group(self, group: str) -> list[dict[str, Any]]:
        """The applications of a connector group, as builtins for the channel."""
        return [
            to_document(application)
            for application in self.applications.values()
            if application.enabled and application.connector_group == group
        ]


def _longest(entries: list[_Entry], path: bytes) -> Published | None:
    """Whole segments only: ``/hr/`` covers ``/hr`` and ``/hr/x``, never ``/hrx``."""
    for prefix, bare, published in entries:
        if path.startswith(prefix) or path == bare:
            return published
    return None
