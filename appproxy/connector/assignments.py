"""The applications that the relay assigned to this connector, with all about them that can be worked out once."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from appproxy.applications import Application, from_document
from appproxy.connector.allowing import AllowList
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.failures import MalformedRequest, NotAllowed, UnknownApplication
from appproxy.connector.pool import OriginKey, Pool
from appproxy.errors import ConfigError
from appproxy.http.addresses import (
    ExternalURL,
    InternalURL,
    MalformedHost,
    canonical_host,
)
from appproxy.http.translate import Atlas, Translation
from appproxy.net.tls import ClientTLS, client_tls
from appproxy.sso.headers import HeaderSignOn
from appproxy.sso.method import Method
from appproxy.sso.none import NoSignOn

#: Hosts of one wildcard application with open connections at once.
MAX_PLACES: Final = 1000

#: ``appproxy.net.dial.dial`` with its reactor: host, port, factory, TLS, seconds.
DialOrigin = Callable[[str, int, Callable[[Any], Any], ClientTLS | None, float], Coroutine["Deferred[Any]", Any, Any]]


class Place:
    """One origin of one application.

    :ivar origin: scheme and authority of the origin, as text.
    :ivar pool: its connections.
    :ivar translation: from and to the external host that was asked for.
    """

    __slots__ = ("origin", "pool", "translation")

    def __init__(self, translation: Translation, pool: Pool) -> None:
        self.translation = translation
        self.pool = pool
        self.origin = translation.internal.origin

    def target_up(self, target: bytes) -> bytes:
        """The target as the origin is to read it: the published path swapped, every other octet kept.

        :raises AmbiguousPath: the path is not, or not for everybody, below the published one.
        """
        if target == b"*":
            return target
        path, mark, query = target.partition(b"?")
        return self.translation.path_up(path) + mark + query


class Assigned:
    """One application, compiled.

    :ivar sso: its single sign-on method.
    """

    __slots__ = ("_external", "_internal", "_make_place", "_place", "_places", "_refusal", "application", "sso")

    def __init__(
        self,
        application: Application,
        translation: Translation,
        sso: Method,
        make_place: Callable[[Assigned, Translation], Place],
        refusal: NotAllowed | None,
    ) -> None:
        self.application = application
        self.sso = sso
        self._external = translation
        self._internal = translation.internal
        self._make_place = make_place
        self._refusal = refusal
        self._places: dict[str, Place] = {}
        self._place = None if refusal or self._internal.wildcard else make_place(self, translation)

    def __repr__(self) -> str:
        return f"<Assigned {self.application.id} to {self._internal}>"

    def place(self, authority: str) -> Place:
        """Where a request for the external *authority* goes.

        :raises NotAllowed: not from here.
        :raises MalformedRequest: the application is not published at that host.
        """
        if self._place is not None:
            return self._place
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.detail)
        try:
            host = canonical_host(authority.encode("ascii"))[0]
        except (MalformedHost, UnicodeEncodeError):
            raise MalformedRequest("no host that the application is published at") from None
        place = self._places.get(host)
        if place is None:
            if not self._external.external.matches(host):
                raise MalformedRequest("the application is not published at that host")
            if len(self._places) >= MAX_PLACES:
                raise NotAllowed(f"more than {MAX_PLACES} hosts of {self._internal} are in use")
            place = self._places[host] = self._make_place(self, self._external.at(host))
        return place

    def forget(self, pool: Pool) -> None:
        """A pool has become empty; only those of wildcards are made anew when needed."""
        for host, place in list(self._places.items()):
            if place.pool is pool:
                del self._places[host]


class Assignments:
    """The snapshot in force.

    :param dial: connects to an origin.
    :param ca_file: authorities for ``https`` origins beside the system's.
    """

    def __init__(
        self, dial: DialOrigin, deadlines: Deadlines, allow: AllowList | None = None, ca_file: Path | None = None
    ) -> None:
        self.version = 0
        self._dial = dial
        self._deadlines = deadlines
        self._allow = allow or AllowList()
        self._ca_file = ca_file
        self._assigned: dict[str, Assigned] = {}
        self._pools: dict[OriginKey, tuple[Application, Pool]] = {}

    def __len__(self) -> int:
        return len(self._assigned)

    def get(self, application: str) -> Assigned:
        """The application of that id; :raises UnknownApplication: none was assigned."""
        assigned = self._assigned.get(application)
        if assigned is None:
            raise UnknownApplication(application)
        return assigned

    def replace(self, version: int, documents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Put a new snapshot in force, whole.  Requests in flight end as they began.

        :return: for each application that is not served, a sentence why.
        """
        refused: dict[str, str] = {}
        read: dict[str, tuple[Application, ExternalURL, InternalURL]] = {}
        for document in documents:
            name = str(document.get("id", ""))
            try:
                application = from_document(document, Application)
                external = ExternalURL.parse(application.external_url)
                read[application.id] = application, external, InternalURL.parse(application.internal_url)
            except (msgspec.ValidationError, ValueError, ConfigError) as problem:
                refused[name] = str(problem)
        atlas = Atlas((external, internal) for _, external, internal in read.values())
        before, self._pools = self._pools, {}
        assigned: dict[str, Assigned] = {}
        for application, external, internal in read.values():
            try:
                made = self._compile(
                    application, Translation(external, internal, application.translate.host_header, atlas), before
                )
            except ConfigError as problem:
                refused[application.id] = str(problem)
                continue
            assigned[application.id] = made
            if made._refusal is not None:
                refused[application.id] = made._refusal.detail
        self._assigned, self.version = assigned, version
        for key, (_, pool) in before.items():
            if key not in self._pools or self._pools[key][1] is not pool:
                pool.retire()
        return refused

    def close(self) -> None:
        """Close every connection."""
        for _, pool in self._pools.values():
            pool.close()

    def _compile(
        self, application: Application, translation: Translation, before: dict[OriginKey, tuple[Application, Pool]]
    ) -> Assigned:
        internal = translation.internal
        sso = HeaderSignOn(application.sso.header) if application.sso.mode == "header" else NoSignOn()
        tls = self._tls(application) if internal.scheme == "https" else None
        refusal = None
        if internal.wildcard:
            allowed = self._allow.allows_any_of(internal)
        else:
            allowed = self._allow.allows(internal.scheme, internal.host, internal.port)
        if not allowed:
            refusal = NotAllowed(f"{internal.origin} is not in this connector's allow-list")
        return Assigned(application, translation, sso, partial(self._make_place, tls, before), refusal)

    def _make_place(
        self,
        tls: ClientTLS | None,
        before: dict[OriginKey, tuple[Application, Pool]],
        assigned: Assigned,
        translation: Translation,
    ) -> Place:
        internal, application = translation.internal, assigned.application
        if not self._allow.allows(internal.scheme, internal.host, internal.port):
            raise NotAllowed(f"{internal.origin} is not in this connector's allow-list")
        key = OriginKey(application.id, internal.scheme, internal.host, internal.port)
        known = self._pools.get(key) or before.get(key)
        if known is not None and known[0].origin == application.origin and known[0].timeouts == application.timeouts:
            pool = known[1]
        else:
            dial = partial(self._connect, internal, tls, float(application.timeouts.connect))
            pool = Pool(str(key), dial, self._deadlines, application.timeouts, partial(self._emptied, key, assigned))
        self._pools[key] = application, pool
        return Place(translation, pool)

    def _connect(
        self, internal: InternalURL, tls: ClientTLS | None, seconds: float, factory: Callable[[Any], Any]
    ) -> Coroutine[Deferred[Any], Any, Any]:
        return self._dial(internal.host.strip("[]"), internal.port, factory, tls, seconds)

    def _emptied(self, key: OriginKey, assigned: Assigned, pool: Pool) -> None:
        if self._assigned.get(key.application) is assigned and assigned._internal.wildcard:
            assigned.forget(pool)
            self._pools.pop(key, None)

    def _tls(self, application: Application) -> ClientTLS:
        """How the application's origin is checked."""
        origin = application.origin
        try:
            if origin.ca_file:
                return client_tls(
                    ca_file=Path(origin.ca_file), system=True, verify=origin.verify, server_name=origin.server_name
                )
            return client_tls(ca_file=self._ca_file, system=True, verify=origin.verify, server_name=origin.server_name)
        except ssl.SSLError as problem:
            raise ConfigError("origin", f"no TLS context can be made: {problem.reason}") from None
