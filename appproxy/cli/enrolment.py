"""``appproxy connector enrol``: what the connector does when it first starts, once and while somebody watches."""

from __future__ import annotations

import argparse
import random
from typing import Any

from appproxy.cli.command import Invocation
from appproxy.cli.failing import Failed
from appproxy.cli.showing import moment, show
from appproxy.cli.waiting import run_until_done
from appproxy.config.connector import Connector
from appproxy.config.places import NODE_NAME
from appproxy.config.urls import read_origin
from appproxy.connector.credentials import Credentials
from appproxy.connector.enrolment import TRY_LATER, Enrolment, Poster
from appproxy.connector.pinning import fetch_chain, find_authority, fingerprint_in
from appproxy.errors import AppproxyError, ConfigError
from appproxy.net.tls import ClientTLS


def enrol(invocation: Invocation) -> int:
    """Make a key, spend the token, keep the certificate; a connector that has one keeps it."""
    from twisted.internet import reactor

    arguments = invocation.arguments
    settings = read_settings(arguments)
    before = Credentials.load(settings.state_dir, settings.relay_ca_file)
    once = Once(reactor, settings)
    enrolment = Enrolment(settings, reactor, random.random, post=once.post, chain=once.chain)
    credentials = run_until_done(reactor, enrolment.credentials())
    if credentials is None:
        return 130
    done = "was enrolled before" if before == credentials else "is enrolled"
    until = int(credentials.not_after)
    document = {"connector_id": credentials.connector, "certificate_until": until, "state_dir": str(settings.state_dir)}
    show(
        arguments,
        document,
        f"connector {credentials.connector} {done}, until {moment(until)}; its credentials are in {settings.state_dir}",
    )
    return 0


def read_settings(arguments: argparse.Namespace) -> Connector:
    """The arguments as connector.toml would have them.

    :raises ConfigError: naming the argument that is wrong.
    """
    relay = read_origin(arguments.relay, "--relay")
    if relay.scheme != "https":
        raise ConfigError("--relay", "must be https; connectors come by TLS only")
    if not NODE_NAME.fullmatch(arguments.name):
        raise ConfigError("--name", f"{arguments.name!r} is not a name; use letters, digits, dots and hyphens")
    return Connector(
        relays=(relay.origin,),
        name=arguments.name,
        state_dir=arguments.state_dir.absolute(),
        enrolment_token_file=arguments.token_file,
        relay_ca_file=arguments.relay_ca_file,
    )


class Once:
    """The connector's way to the relay, except that a relay which cannot answer now is a failure: nobody waits here."""

    def __init__(self, reactor: Any, settings: Connector) -> None:
        self._poster = Poster(reactor)
        self._settings = settings

    async def chain(self, host: str, port: int) -> list[bytes]:
        """The certificates that the relay shows; see :func:`~appproxy.connector.pinning.fetch_chain`."""
        try:
            chain = fetch_chain(host, port)
            find_authority(chain, fingerprint_in(self._settings.read_enrolment_token(), "--token-file"))
        except AppproxyError as failure:
            raise self._failed(failure) from None
        return chain

    async def post(self, host: str, port: int, tls: ClientTLS, body: bytes) -> tuple[int, bytes]:
        """Ask, once."""
        try:
            status, answer = await self._poster.post(host, port, tls, body)
        except AppproxyError as failure:
            raise self._failed(failure) from None
        if status in TRY_LATER:
            raise Failed(f"{self._settings.relays[0]} cannot enrol anybody now (status {status}); try again later")
        return status, answer

    def _failed(self, failure: AppproxyError) -> Failed:
        return Failed(f"cannot enrol at {self._settings.relays[0]}: {failure.phase}: {failure.detail or failure}")
