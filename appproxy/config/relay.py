"""``relay.toml``."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec

from appproxy.applications import Value
from appproxy.config.converting import Network, Place, convert
from appproxy.config.listening import ListenAddress
from appproxy.config.places import NODE_NAME, UNSET, state_folder
from appproxy.config.provider import ProviderConfig, TransmitterConfig, check_providers, check_transmitters
from appproxy.config.reading import Logging, overlay, place_logs, read_toml
from appproxy.config.urls import is_loopback, read_origin
from appproxy.http.addresses import ExternalURL
from appproxy.units import Duration, Size

#: What a relay without any configuration is called: everything on loopback, on ports that need no privilege.
DEFAULT_PUBLIC_URL = "https://proxy.localhost:4443"

#: Keys of later releases, and the values of them that ask for nothing.
LATER: dict[str, tuple[object, ...]] = {
    "relay.workers": (1,),
    "listen.metrics": ("",),
    "tls.acme": ({},),
    "admin": ({}, {"groups": []}),
    "admin.groups": ([],),
    "audit": ({},),
}


class Relay(Value, frozen=True):
    """``[relay]``: who this relay is.  *public_url* is ``https://host[:port]`` without a path."""

    public_url: str = DEFAULT_PUBLIC_URL
    state_dir: Path = UNSET
    node: str = ""
    workers: int = 1


class Listen(Value, frozen=True):
    """``[listen]``: the sockets, and the address that connectors dial (``https://host[:port]``)."""

    clients: tuple[ListenAddress, ...] = (ListenAddress(kind="tls", host="127.0.0.1", port=4443),)
    connectors: ListenAddress = ListenAddress(kind="tls", host="127.0.0.1", port=8443)
    connect_url: str = ""
    #: Absent: ``admin.sock`` in the state folder.
    admin: ListenAddress | None = None
    metrics: ListenAddress | None = None
    #: Networks of balancers and proxies in front: what they say about clients is believed.
    trusted_proxies: tuple[Network, ...] = ()
    #: Which fields they say it in; clients' copies of the other kind would pass through them unchanged.
    trusted_fields: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    #: They begin every connection with the PROXY protocol, version 1 or 2.
    proxy_protocol: bool = False
    #: Offer HTTP/2 to clients by TLS; it costs several times the processor time of HTTP/1.1.
    http2: bool = False


class StoreSettings(Value, frozen=True):
    """``[store]``: ``sqlite:FILE``, the file in the state folder unless the path is absolute."""

    url: str = "sqlite:relay.db"


class TLSSettings(Value, frozen=True):
    """``[tls]``: the folder of PEM pairs; without it the relay makes its own development CA."""

    certificates: Path | None = None


class Session(Value, frozen=True):
    """``[session]``: how long sign-ins last, where an application does not say."""

    #: The relay's own session, from which applications get theirs.
    idle: Duration = Duration(8 * 3600)
    absolute: Duration = Duration(24 * 3600)
    #: From the redirect to the provider until the way back.
    sign_in: Duration = Duration(600)
    #: At the latest so long after the last time a sign-in with a refresh token is refreshed.
    refresh: Duration = Duration(600)
    #: How long after the end of its access token a sign-in goes on while the provider is away.
    provider_grace: Duration = Duration(3600)
    #: How stale the relay may be before it stops vouching for sessions.
    revocation_grace: Duration = Duration(60)


class Limits(Value, frozen=True):
    """``[limits]``: what one client may ask of the relay."""

    head: Size = Size(64 * 1024)
    fields: int = 200
    target: Size = Size(32 * 1024)
    #: A request head must be complete within this time.
    head_timeout: Duration = Duration(30)
    #: A kept-alive connection without a request is closed after this time.
    keep_alive: Duration = Duration(75)
    #: Nothing of a request body or an answer moved for this long: the client is gone.
    body_idle: Duration = Duration(60)
    #: Octets of a request body that must come per second, on average since its beginning; 0 for no such limit.
    body_rate: Size = Size(240)
    #: A client that takes nothing of the answer that waits for it is gone after this time.
    write_idle: Duration = Duration(120)
    connections: int = 10_000
    connections_per_address: int = 512


class RelayConfig(Value, frozen=True):
    """All of ``relay.toml``, checked."""

    relay: Relay = Relay()
    listen: Listen = Listen()
    store: StoreSettings = StoreSettings()
    tls: TLSSettings = TLSSettings()
    provider: tuple[ProviderConfig, ...] = ()
    event_transmitter: tuple[TransmitterConfig, ...] = ()
    session: Session = Session()
    limits: Limits = Limits()
    logging: Logging = Logging()


def read_relay(path: str | Path | None, environ: Mapping[str, str]) -> RelayConfig:
    """Read the relay's settings: environment over file over default.

    :param path: the file; None for a relay that has none: loopback, embedded store, development CA.
    :raises ConfigError: one line naming the setting and the remedy.
    """
    shown = str(path) if path is not None else "defaults"
    document: dict[str, Any] = read_toml(Path(path), shown) if path is not None else {}
    place = Place(shown, overlay(document, environ, RelayConfig, LATER))
    folder = Path(path).absolute().parent if path is not None else Path.cwd()
    config = convert(document, RelayConfig, place, LATER, folder)
    relay = _check_relay(config.relay, environ, place)
    providers = check_providers(config.provider, place)
    return msgspec.structs.replace(
        config,
        relay=relay,
        listen=_check_listen(config.listen, relay, place),
        store=_check_store(config.store, place),
        provider=providers,
        event_transmitter=check_transmitters(config.event_transmitter, providers, place),
        session=_check_session(config.session, place),
        limits=_check_limits(config.limits, place),
        logging=place_logs(config.logging, folder, place),
    )


def _check_relay(relay: Relay, environ: Mapping[str, str], place: Place) -> Relay:
    public = read_origin(relay.public_url, place.of("relay.public_url"))
    if public.scheme == "http" and not is_loopback(public.host):
        raise place.error("relay.public_url", "must be https; http is for development on this machine only")
    node = relay.node or socket.gethostname()
    if not NODE_NAME.fullmatch(node):
        raise place.error("relay.node", f"{node!r} is not a node name; use letters, digits, dots and hyphens")
    state = state_folder(environ, "appproxy") if relay.state_dir is UNSET else relay.state_dir
    return Relay(public_url=public.origin, state_dir=state, node=node)


def _check_listen(listen: Listen, relay: Relay, place: Place) -> Listen:
    if not listen.clients:
        raise place.error("listen.clients", 'is empty; write for instance ["tls:443"]')
    for position, address in enumerate(listen.clients):
        if address.kind == "unix":
            raise place.error(f"listen.clients[{position}]", "clients cannot come by a Unix socket; write tls or tcp")
        if listen.clients.index(address) != position and address.port != 0:
            raise place.error(f"listen.clients[{position}]", f"{address} is listed twice")
    if listen.proxy_protocol and not listen.trusted_proxies:
        raise place.error("listen.proxy_protocol", "needs listen.trusted_proxies: the networks of those who speak it")
    if listen.http2 and find_spec("h2") is None:
        raise place.error("listen.http2", "needs the extra http2: pip install 'appproxy[http2]'")
    if listen.connectors.kind not in ("tls", "systemd"):
        raise place.error("listen.connectors", 'connectors come by TLS only; write for instance "tls:8443"')
    if listen.connectors in listen.clients and listen.connectors.port != 0:
        raise place.error("listen.connectors", f"{listen.connectors} is taken by listen.clients; use another port")
    if listen.admin is not None and listen.admin.kind != "unix":
        raise place.error("listen.admin", 'only a Unix socket is available in this release; write "unix:/path"')
    if listen.connect_url:
        connect = read_origin(listen.connect_url, place.of("listen.connect_url"))
        if connect.scheme != "https":
            raise place.error("listen.connect_url", "must be https; connectors come by TLS only")
    else:
        public = read_origin(relay.public_url, "relay.public_url")
        host = "localhost" if is_loopback(public.host) else public.host
        connect = ExternalURL("https", host, listen.connectors.port or public.port, b"/")
    admin = listen.admin or ListenAddress(kind="unix", path=str(relay.state_dir / "admin.sock"))
    return msgspec.structs.replace(listen, connect_url=connect.origin, admin=admin)


def _check_store(store: StoreSettings, place: Place) -> StoreSettings:
    scheme, colon, rest = store.url.partition(":")
    if scheme in ("postgresql", "postgres"):
        raise place.error("store.url", 'PostgreSQL is not available in this release; write "sqlite:relay.db"')
    if scheme != "sqlite" or not colon or not rest or rest.endswith("/"):
        raise place.error("store.url", f'{store.url!r} is not a store; write "sqlite:relay.db"')
    return store


def _check_session(session: Session, place: Place) -> Session:
    for name in session.__struct_fields__:
        if getattr(session, name) <= 0:
            raise place.error(f"session.{name}", "must be longer than nothing")
    if session.idle > session.absolute:
        raise place.error("session.idle", f"{session.idle} is longer than session.absolute, {session.absolute}")
    return session


def _check_limits(limits: Limits, place: Place) -> Limits:
    for name in limits.__struct_fields__:
        if getattr(limits, name) <= 0 and name != "body_rate":
            raise place.error(f"limits.{name}", "must be more than 0")
    if limits.target > limits.head:
        raise place.error("limits.target", f"{limits.target} is more than limits.head, {limits.head}")
    return limits
