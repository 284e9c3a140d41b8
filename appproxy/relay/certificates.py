"""Which certificate a listener of the relay shows: those of the administrator's folder, else of the relay's own CA.

Development certificates are made on demand, for the relay's own host and for hosts that something is published at; a
name that a stranger invents gets the default certificate and costs nothing.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.logger import Logger

from appproxy.errors import ConfigError
from appproxy.net.certificates import Certificates
from appproxy.net.tls import ALPN, server_context
from appproxy.relay.connectors.authorities import AUTHORITY_SECRET, Authorities
from appproxy.relay.connectors.authority import DAY, SERVER_DAYS, Issued, make_authority, private_pem
from appproxy.store import secrets
from appproxy.store.interface import Store

#: The authorities' certificates, for browsers and connectors on a developer's machine.
AUTHORITY_FILE = "development-ca.pem"
#: A development certificate is replaced when less than this is left of it.
SERVER_RENEW_DAYS = SERVER_DAYS // 3
#: A wildcard application has any number of hosts; of those beyond, the first are made anew.
MAX_MADE = 1000


async def open_authorities(store: Store, now: int) -> Authorities:
    """The relays' common authorities; the first relay to ask makes the first.

    :raises ConfigError: what the store holds is not one.
    """
    pem = await store.write(secrets.get_or_create, AUTHORITY_SECRET, lambda: make_authority(now))
    try:
        return Authorities.load(pem)
    except (ValueError, TypeError):
        raise ConfigError("store", f"the secret {AUTHORITY_SECRET} is damaged; restore a backup") from None


def publish_authorities(authorities: Authorities, state_dir: Path) -> Path:
    """Write the authorities' certificates, without their keys, where people and programs on this machine find it.

    :raises ConfigError: the folder cannot be written.
    """
    path = state_dir / AUTHORITY_FILE
    try:
        trusted = authorities.trusted_pem.encode("ascii")
        if not path.exists() or path.read_bytes() != trusted:
            new = path.with_suffix(".new")
            new.write_bytes(trusted)
            new.chmod(0o644)
            new.replace(path)
    except OSError as error:
        problem = f"cannot be written: {(error.strerror or str(error)).lower()}; check the owner of relay.state_dir"
        raise ConfigError(str(path), problem) from None
    return path


class _Made(NamedTuple):
    """A development certificate in use."""

    context: ssl.SSLContext
    not_after: int


class ServerCertificates:
    """What one listener shows, chosen by the name that the client asks for.

    :param host: the listener's own host; its certificate is shown to clients that name none, or an unknown one.
    :param publishes: whether something is published at a host.
    :param directory: the administrator's certificates; they go first.
    :param asks_clients: ask for certificates of our authorities, see :func:`appproxy.net.tls.server_context`; who
        has one of ours has pinned our authority, and a certificate of it is nothing to warn about.
    :param protocols: for ALPN; *directory* has its own.
    :param asks: the authorities (PEM) whose certificates users of a host are asked for; empty for none.
    """

    log = Logger()

    def __init__(
        self,
        authorities: Authorities,
        host: str,
        *,
        now: Callable[[], int],
        publishes: Callable[[str], bool] = lambda host: False,
        directory: Certificates | None = None,
        asks_clients: bool = False,
        protocols: Sequence[str] = ALPN,
        asks: Callable[[str], str] = lambda name: "",
    ) -> None:
        self.host = host
        self.directory = directory
        self._authorities = authorities
        self._version = authorities.version
        self._now = now
        self._publishes = publishes
        self._asks_clients = asks_clients
        self._protocols = protocols
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._asks = asks
        self._asking: dict[tuple[str, str], tuple[ssl.SSLContext, ssl.SSLContext]] = {}
        self._made: dict[str, _Made] = {}
        self._announced: set[str] = set()

    @property
    def context(self) -> ssl.SSLContext:
        """The context for a new connection; it switches to the certificate of the name that the client sends."""
        context = self._development(self.host)
        context.sni_callback = self._choose
        return context

    def find(self, name: str | None) -> ssl.SSLContext:
        """The context that shows the certificate for *name*, or the default for an unknown name or none."""
        if name and (known := self._in_directory(name)) is not None:
            return known
        if self.directory is not None and (not name or (name != self.host and not self._publishes(name))):
            return self._in_directory(self.host) or self.directory.loaded[0].context
        name = name if name and self._publishes(name) else self.host
        if name not in self._announced and not self._asks_clients:
            self._announced.add(name)
            self.log.warn(
                "DEVELOPMENT CERTIFICATE for {host}: browsers will warn until they trust {file} in relay.state_dir; "
                "set tls.certificates for real ones",
                event="tls.development-certificate",
                host=name,
                file=AUTHORITY_FILE,
            )
        return self._development(name)

    def asking(self, name: str) -> tuple[ssl.SSLContext, str] | None:
        """The context for a host whose users are asked for certificates, and the authorities of these; None for others.

        OpenSSL decides whether to ask before it looks at the name, so this is another context from the beginning.
        """
        trusted = self._asks(name)
        if not trusted:
            return None
        usual = self.find(name)
        known = self._asking.get((name, trusted))
        if known is None or known[0] is not usual:
            if len(self._asking) >= MAX_MADE:
                del self._asking[next(iter(self._asking))]
            known = self._asking[name, trusted] = usual, self._with_trust(usual, name, trusted)
        return known[1], trusted

    def _with_trust(self, usual: ssl.SSLContext, name: str, trusted: str) -> ssl.SSLContext:
        for certificate in self.directory.loaded if self.directory is not None else ():
            if certificate.context is usual:
                path, key = certificate.files
                return server_context(path, key, client_ca_pem=trusted, protocols=self._protocols)
        issued = self._authorities.issuing.certify_server(self._key.public_key(), [name], self._now())
        return self._load(issued, trusted)

    def _choose(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        """OpenSSL: the client has said which name it wants."""
        name = (name or "").lower().removesuffix(".")
        connection.sni = name
        connection.context = self.find(name)

    def _in_directory(self, name: str) -> ssl.SSLContext | None:
        if self.directory is None:
            return None
        loaded = self.directory.loaded
        for wanted in (name, f"*.{name.partition('.')[2]}"):
            if matching := [certificate for certificate in loaded if wanted in certificate.names]:
                return max(matching, key=lambda certificate: certificate.not_after).context
        return None

    def _development(self, name: str) -> ssl.SSLContext:
        now, authorities = self._now(), self._authorities
        if self._version != authorities.version:
            self._version = authorities.version
            self._made.clear()
        made = self._made.get(name)
        if made is None or made.not_after - now < SERVER_RENEW_DAYS * DAY:
            if len(self._made) >= MAX_MADE:
                del self._made[next(iter(self._made))]
            issued = authorities.issuing.certify_server(self._key.public_key(), [name], now)
            made = self._made[name] = _Made(self._load(issued), issued.not_after)
        return made.context

    def _load(self, issued: Issued, trusted: str = "") -> ssl.SSLContext:
        """OpenSSL reads keys from files only: one that nobody else can open, gone at once."""
        descriptor, path = tempfile.mkstemp(prefix="appproxy-", suffix=".pem")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(private_pem(self._key) + issued.pem)
            trusted = self._authorities.trusted_pem if self._asks_clients else trusted
            return server_context(Path(path), client_ca_pem=trusted, protocols=self._protocols)
        finally:
            os.unlink(path)
