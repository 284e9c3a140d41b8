"""The development identity provider on a socket of this machine."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.web.http import Request as WebRequest
from twisted.web.resource import Resource
from twisted.web.server import Site

from appproxy.config.urls import is_loopback
from appproxy.devidp.provider import DevelopmentProvider, Request
from appproxy.devidp.users import read_users
from appproxy.errors import ConfigError

KEY_FILE = "development-idp-key.pem"
_MAX_FORM_BYTES = 64 * 1024
_FIELDS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))
NOTICE = "DEVELOPMENT identity provider at {issuer}: for this machine only, never for real users"


def read_or_make_key(folder: Path) -> RSAPrivateKey:
    """The signing key, made at the first start and readable by its owner only.

    :raises ConfigError: the file is there and is no RSA key.
    """
    path = folder / KEY_FILE
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        key = generate_private_key(65537, 2048)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except (ValueError, TypeError) as problem:
        raise ConfigError(str(path), "is not a private key; delete it and a new one is made") from problem
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(str(path), "is not an RSA key; delete it and a new one is made")
    return key


class WebSide(Resource):
    """Between twisted.web and the provider."""

    isLeaf = True

    def __init__(self, provider: DevelopmentProvider) -> None:
        super().__init__()
        self._provider = provider

    def render(self, request: WebRequest) -> bytes:
        """Answer one request; only browsers that mean this machine, or a page elsewhere could rebind its name to it."""
        host = (request.getHeader("host") or "").rpartition(":")[0] or (request.getHeader("host") or "")
        if not is_loopback(host.strip("[]")):
            request.setResponseCode(421)
            return b""
        body = request.content.read(_MAX_FORM_BYTES + 1) if request.content else b""
        parsed = _parse(request, body)
        if parsed is None:
            request.setResponseCode(400)
            return b""
        answer = self._provider.respond(parsed)
        request.setResponseCode(answer.status)
        for name, value in (*_FIELDS, *answer.fields):
            request.responseHeaders.addRawHeader(name, value)
        return answer.body


def _parse(request: WebRequest, body: bytes) -> Request | None:
    """The request as a value; None if it is too long, is no text or names something twice."""
    path, _, query = request.uri.partition(b"?")
    form = body if (request.getHeader("content-type") or "").startswith("application/x-www-form-urlencoded") else b""
    try:
        pairs = [parse_qsl(part.decode("ascii"), keep_blank_values=True, errors="strict") for part in (query, form)]
        given = [dict(each) for each in pairs]
        if len(body) > _MAX_FORM_BYTES or any(len(a) != len(b) for a, b in zip(pairs, given, strict=True)):
            return None
        return Request(
            request.method.decode("ascii"),
            path.decode("ascii"),
            given[0],
            given[1],
            request.getHeader("authorization") or "",
            request.getHeader("cookie") or "",
        )
    except ValueError:
        return None


class DevelopmentProviderService(Service):
    """Listens on this machine only."""

    log = Logger()

    def __init__(self, users_file: Path, port: int, state_dir: Path, host: str, reactor: Any) -> None:
        if not is_loopback(host):
            raise ConfigError("idp", f"{host} can be reached by others; the development provider is for loopback only")
        self._users = read_users(users_file)
        self._key = read_or_make_key(state_dir)
        self._port = port
        self._host = host
        self._reactor = reactor
        self._listening: list[Any] = []
        #: The address to configure as ``issuer``; known once it listens.
        self.issuer = ""

    def startService(self) -> None:
        """Listen.

        :raises ConfigError: the port is taken.
        """
        address = "127.0.0.1" if self._host == "localhost" else self._host
        provider = DevelopmentProvider("", self._users, self._key, lambda: int(time.time()), secrets.token_urlsafe)
        site = Site(WebSide(provider))
        try:
            listening = self._reactor.listenTCP(self._port, site, interface=address)
        except CannotListenError as problem:
            raise ConfigError("idp", f"port {self._port} is taken; choose another with --port") from problem
        self._listening.append(listening)
        port = listening.getHost().port
        if address == "127.0.0.1":
            # Browsers try ::1 first for localhost; a machine without IPv6 does without.
            with suppress(CannotListenError):
                self._listening.append(self._reactor.listenTCP(port, site, interface="::1"))
        shown = "localhost" if address in ("127.0.0.1", "::1") else self._host
        self.issuer = provider.issuer = f"http://{shown}:{port}"
        super().startService()
        self.log.warn(NOTICE, event="idp.started", issuer=self.issuer)

    def stopService(self) -> Deferred[Any]:
        """Stop listening."""
        super().stopService()
        listening, self._listening = self._listening, []
        return gatherResults([maybeDeferred(each.stopListening) for each in listening])


def make_service(
    users_file: Path, port: int, state_dir: Path, host: str = "127.0.0.1", reactor: Any = None
) -> DevelopmentProviderService:
    """The provider as a service.

    :param port: where it listens; 0 for any free one.
    :param state_dir: keeps its key.
    :raises ConfigError: the users file is wrong, or *host* is not this machine only.
    """
    if reactor is None:
        from twisted.internet import reactor
    return DevelopmentProviderService(users_file, port, state_dir, host, reactor)


async def serve(
    users_file: Path,
    port: int,
    state_dir: Path,
    host: str = "127.0.0.1",
    reactor: Any = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Run the provider until cancelled; *tell* gets the loud notice.

    :raises ConfigError: it cannot start.
    """
    service = make_service(users_file, port, state_dir, host, reactor)
    service.startService()
    tell(NOTICE.format(issuer=service.issuer))
    try:
        await cast("Deferred[None]", Deferred())
    finally:
        await service.stopService()
