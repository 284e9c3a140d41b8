"""The applications that the relay assigned to this connector, with all about them that can be worked out once."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from twisted.internet.defer import Deferred

from appproxy.applications import Application, from_document
from appproxy.connector.allowing import AllowList
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.failures import MalformedRequest, NotAllowed, UnknownApplication
from appproxy.connector.places import Address, Place
from appproxy.connector.pool import Pool
from appproxy.errors import ConfigError
from appproxy.http.addresses import ExternalURL, InternalURL
from appproxy.http.translate import Atlas, Translation
from appproxy.net.tls import ClientTLS, client_tls
from appproxy.sso.delegation import Delegation
from appproxy.sso.headers import HeaderSignOn
from appproxy.sso.kerberos import KerberosSignOn
from appproxy.sso.method import Method
from appproxy.sso.none import NoSignOn

#: ``appproxy.net.dial.dial`` with its reactor: host, port, factory, TLS, seconds.
DialOrigin = Callable[[str, int, Callable[[Any], Any], ClientTLS | None, float], Coroutine["Deferred[Any]", Any, Any]]


class OriginKey(msgspec.Struct, frozen=True):
    """What connections must have in common to be used for each other's requests."""

    application: str
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


#: With the application that they were made for.
_Pools = dict[OriginKey, tuple[Application, Pool]]


class Assigned:
    """One application, compiled.

    :param addresses: by external URL, the first segment's first.
    :ivar sso: its single sign-on method.
    """

    __slots__ = ("_first", "addresses", "application", "sso")

    def __init__(self, application: Application, sso: Method, addresses: Mapping[str, Address]) -> None:
        self.application = application
        self.sso = sso
        self.addresses = addresses
        self._first = next(iter(addresses.values()), None)

    def __repr__(self) -> str:
        return f"<Assigned {self.application.id} at {', '.join(self.addresses)}>"

    def place(self, authority: str, segment: str = "") -> Place:
        """Where a request for the external *authority* goes.

        :param segment: the external URL that it was published at; the first when empty.
        :raises NotAllowed: not from here.
        :raises MalformedRequest: the address has no such host.
        :raises UnknownApplication: it is not published at that address.
        """
        address = self.addresses.get(segment) if segment else self._first
        if address is None:
            raise UnknownApplication(f"{self.application.id} at {segment}")
        return address.at(authority)


class _Read:
    """An application as it was assigned: what it publishes, to be compiled when all are read."""

    __slots__ = ("application", "routes")

    def __init__(self, application: Application) -> None:
        """:raises ConfigError: an address is none."""
        self.application = application
        #: Where links to an internal address lead stands before other external addresses of it.
        self.routes: list[_Route] = []
        for segment in application.segments:
            external, internal = ExternalURL.parse(segment.external_url), InternalURL.parse(segment.internal_url)
            alternate = application.alternate_url if not self.routes else ""
            if not alternate:
                self.routes.append(_Route(external, internal))
                continue
            other = ExternalURL.parse(alternate)
            shown, hidden = (other, external) if application.translate.alternate_url else (external, other)
            self.routes += [_Route(shown, internal), _Route(hidden, internal, shown)]


class _Route(NamedTuple):
    """An external address, where it leads, and the address that links lead to."""

    external: ExternalURL
    internal: InternalURL
    shown: ExternalURL | None = None


class Assignments:
    """The snapshot in force.

    :param dial: connects to an origin.
    :param ca_file: authorities for ``https`` origins beside the system's.
    :param delegation: the connector's account in a Kerberos realm.
    """

    def __init__(
        self,
        dial: DialOrigin,
        deadlines: Deadlines,
        allow: AllowList | None = None,
        ca_file: Path | None = None,
        delegation: Delegation | None = None,
    ) -> None:
        self.version = 0
        self._delegation = delegation
        self._dial = dial
        self._deadlines = deadlines
        self._allow = allow or AllowList()
        self._ca_file = ca_file
        self._assigned: dict[str, Assigned] = {}
        self._pools: _Pools = {}

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
        read: dict[str, _Read] = {}
        for document in documents:
            name = str(document.get("id", ""))
            try:
                application = from_document(document, Application)
                read[application.id] = _Read(application)
            except (msgspec.ValidationError, ValueError, ConfigError) as problem:
                refused[name] = str(problem)
        atlas = Atlas((route.external, route.internal) for each in read.values() for route in each.routes)
        before, self._pools = self._pools, {}
        assigned: dict[str, Assigned] = {}
        for each in read.values():
            name = each.application.id
            try:
                assigned[name], problems = self._compile(each, atlas, before)
            except ConfigError as problem:
                refused[name] = str(problem)
            else:
                if problems:
                    refused[name] = "; ".join(problems)
        self._keep_hosts(assigned)
        self._assigned, self.version = assigned, version
        for key, (_, pool) in before.items():
            if key not in self._pools or self._pools[key][1] is not pool:
                pool.retire()
        before.clear()
        return refused

    def _keep_hosts(self, assigned: Mapping[str, Assigned]) -> None:
        """Hosts of wildcards that are in use stay so, with their connections."""
        for name, old in self._assigned.items():
            for url, address in old.addresses.items():
                new = assigned[name].addresses.get(url) if name in assigned else None
                if new is None:
                    continue
                for host in address.hosts():
                    with suppress(NotAllowed, MalformedRequest):
                        new.at(host)

    def close(self) -> None:
        """Close every connection."""
        for _, pool in self._pools.values():
            pool.close()

    def _compile(self, read: _Read, atlas: Atlas, before: _Pools) -> tuple[Assigned, list[str]]:
        """An application, and why some of its addresses are not served; :raises ConfigError: it cannot be served."""
        application = read.application
        sso = self._method(application)
        tls = self._tls(application) if any(route.internal.scheme == "https" for route in read.routes) else None
        find_pool = partial(self._find_pool, application, tls, before)
        addresses: dict[str, Address] = {}
        problems: dict[str, None] = {}
        for external, internal, shown in read.routes:
            refusal = None
            if not self._allows(internal):
                refusal = NotAllowed(f"{internal.origin} is not in this connector's allow-list")
                problems[refusal.detail] = None
            translate = application.translate
            translation = Translation(
                external, internal, translate.host_header, atlas, shown, translate.headers, translate.bodies
            )
            addresses[str(external)] = Address(translation, find_pool, refusal)
        return Assigned(application, sso, addresses), list(problems)

    def _method(self, application: Application) -> Method:
        """How the application's origins learn who asks; :raises ConfigError: this connector cannot tell them."""
        match application.sso.mode:
            case "header":
                return HeaderSignOn(application.sso.header)
            case "kerberos":
                if self._delegation is None:
                    raise ConfigError("sso.mode", "this connector has no [kerberos] account in its settings")
                return KerberosSignOn(application, self._delegation)
            case _:
                return NoSignOn()

    def _allows(self, internal: InternalURL) -> bool:
        """Whether that origin, or some host of that wildcard, may be dialled."""
        if internal.wildcard:
            return self._allow.allows_any_of(internal)
        return self._allow.allows(internal.scheme, internal.host, internal.port)

    def _find_pool(
        self, application: Application, tls: ClientTLS | None, before: _Pools, translation: Translation
    ) -> Pool:
        """The pool of one origin, with the connections that it has; :raises NotAllowed: not from here."""
        internal = translation.internal
        if not self._allow.allows(internal.scheme, internal.host, internal.port):
            raise NotAllowed(f"{internal.origin} is not in this connector's allow-list")
        key = OriginKey(application.id, internal.scheme, internal.host, internal.port)
        known = self._pools.get(key) or before.get(key)
        if known is not None and known[0].origin == application.origin and known[0].timeouts == application.timeouts:
            pool = known[1]
        else:
            checked = tls if internal.scheme == "https" else None
            dial = partial(self._connect, internal, checked, float(application.timeouts.connect))
            pool = Pool(str(key), dial, self._deadlines, application.timeouts, partial(self._emptied, key))
        self._pools[key] = application, pool
        return pool

    def _connect(
        self, internal: InternalURL, tls: ClientTLS | None, seconds: float, factory: Callable[[Any], Any]
    ) -> Coroutine[Deferred[Any], Any, Any]:
        return self._dial(internal.host.strip("[]"), internal.port, factory, tls, seconds)

    def _emptied(self, key: OriginKey, pool: Pool) -> None:
        """A pool has no connection left: what it was for is forgotten, if that is some host of a wildcard."""
        assigned = self._assigned.get(key.application)
        if assigned is None or self._pools.get(key, (None, None))[1] is not pool:
            return
        addresses = assigned.addresses.values()
        for address in addresses:
            address.forget(pool)
        if not any(address.place is not None and address.place.pool is pool for address in addresses):
            del self._pools[key]

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
