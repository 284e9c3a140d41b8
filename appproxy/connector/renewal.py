"""The connector's certificate in the course of time: renewed in good time, and when another authority issues.

All channels to all relays show the same certificate; whichever channel is up carries the request for the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from appproxy.channel.protocol import Channel
from appproxy.config.connector import Connector
from appproxy.connector.credentials import Credentials, PendingKey, keep_authorities
from appproxy.errors import ConfigError
from appproxy.net.tls import ClientTLS
from appproxy.wire import control

#: How often it is looked whether the certificate is due for renewal.
LOOK_SECONDS: Final = 3600.0
#: When another authority issues, all connectors renew within so many seconds: not before every relay has heard of it,
#: and not all at once.
SOONEST_SECONDS, LATEST_SECONDS = 5.0, 65.0
#: An answer that has not come by then will not; until then no second certificate is asked for.
ANSWER_SECONDS: Final = 60.0


class Renewal:
    """Keeps one connector's credentials good.

    :param up: the channels that are up now.
    :param later: calls something in so many seconds.
    :param now: epoch seconds.
    :ivar credentials: those in use; *tls*: how to dial relays with them.
    """

    log = Logger()

    def __init__(
        self,
        credentials: Credentials,
        settings: Connector,
        *,
        up: Callable[[], Iterator[Channel]],
        later: Callable[[float, Callable[[], None]], Any],
        random: Callable[[], float],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.credentials = credentials
        self.tls: ClientTLS = credentials.tls()
        self._settings = settings
        self._up = up
        self._later = later
        self._random = random
        self._now = now
        self._pending: PendingKey | None = None
        self._asked = 0.0
        self._issuer = credentials.issuer

    @property
    def state_dir(self) -> Path:
        """Where key, certificate and authorities are kept."""
        return self._settings.state_dir

    def look(self) -> None:
        """Ask for a new certificate when two thirds of the old one's life are over, or another authority issues."""
        credentials, now = self.credentials, self._now()
        if now < credentials.renewal and self._issuer == credentials.issuer:
            return
        if self._pending is not None and now - self._asked < ANSWER_SECONDS:
            return
        for channel in self._up():
            self._pending, self._asked = PendingKey(), now
            request = self._pending.signing_request(credentials.connector)
            channel.control({"type": "renew", "csr": request, "certificate": ""})
            return
        if credentials.renewal <= now < credentials.not_after:  # after that, every attempt to dial says so
            self.log.error(
                "the certificate expires on {when} and no relay can be asked for a new one",
                event="connector.renewal-late",
                when=_date(credentials.not_after),
            )

    def renewed(self, certificate: str) -> None:
        """The relay has signed: use it for every channel from now on."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.keep(certificate, self.credentials.authorities, self.state_dir)
            self._reload()
        except (ValueError, ConfigError, OSError) as problem:
            self.log.error(
                "the renewed certificate is of no use: {problem}",
                event="connector.renewal-failed",
                problem=str(problem),
            )
            return
        self.log.info(
            "certificate renewed until {when}",
            event="connector.renewed",
            when=_date(self.credentials.not_after),
        )

    def trust(self, told: control.Trust) -> None:
        """The relay's authorities, new ones or those of another channel again."""
        if told.authorities != self.credentials.authorities:
            try:
                keep_authorities(told.authorities, self.state_dir)
                self._reload()
            except (ValueError, ConfigError, OSError) as problem:
                self.log.error(
                    "the relay's authorities are of no use: {problem}",
                    event="connector.authorities-refused",
                    problem=str(problem),
                )
                return
            self.log.info(
                "the relay's authorities have changed; {count} are trusted from now on",
                event="connector.authorities-changed",
                count=told.authorities.count("BEGIN CERTIFICATE"),
            )
        if told.issuer != self._issuer:
            self._issuer = told.issuer
            if told.issuer != self.credentials.issuer:
                self._later(SOONEST_SECONDS + self._random() * (LATEST_SECONDS - SOONEST_SECONDS), self.look)

    def _reload(self) -> None:
        loaded = Credentials.load(self.state_dir, self._settings.relay_ca_file)
        assert loaded is not None
        self.credentials, self.tls = loaded, loaded.tls()


def _date(epoch: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(epoch))
