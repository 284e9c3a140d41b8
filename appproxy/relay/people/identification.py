"""Everything about people, assembled: providers, sessions, sign-in and sign-out, the portal."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred

from appproxy.applications import Application
from appproxy.config.relay import RelayConfig
from appproxy.relay.people.keeping import Keeping
from appproxy.relay.people.notices import BACK_CHANNEL, FRONT_CHANNEL, Notices
from appproxy.relay.people.own_sessions import OWN_SESSIONS, OwnSessions
from appproxy.relay.people.portal import Portal
from appproxy.relay.people.refreshing import Refreshing, RefreshTimes
from appproxy.relay.people.sealing import Sealer
from appproxy.relay.people.security_events import SECURITY_EVENTS, SecurityEvents
from appproxy.relay.people.sessions import Sessions
from appproxy.relay.people.signin import Journey, SignIn
from appproxy.relay.preauth.events import Transmitter
from appproxy.relay.preauth.fetching import TreqFetch
from appproxy.relay.preauth.oidc import OpenIDConnect
from appproxy.relay.preauth.provider import Provider
from appproxy.relay.rendering import Rendering
from appproxy.store.interface import Store


class Identification:
    """Who people are, and what they see of it.

    :param applications: gives the current ones, by id.
    :param epoch: epoch seconds.
    :param spawn: runs a coroutine that nobody waits for.
    :param more: further addresses of the relay's host, with their methods.
    """

    def __init__(
        self,
        config: RelayConfig,
        *,
        reactor: Any,
        store: Store,
        sealer: Sealer,
        rendering: Rendering,
        applications: Callable[[], Mapping[str, Application]],
        epoch: Callable[[], int],
        spawn: Callable[[str, Coroutine[Deferred[Any], Any, None]], Any],
        more: Mapping[bytes, tuple[Sequence[bytes], Journey]],
    ) -> None:
        random = secrets.token_bytes
        self.host = urlsplit(config.relay.public_url).hostname or ""
        self.sessions = Sessions(store, reactor.seconds, epoch, random, float(config.session.revocation_grace))
        providers = [
            Provider(each, TreqFetch(reactor, str(each.ca_file or "")), reactor.seconds, epoch)
            for each in config.provider
        ]
        self.preauth = OpenIDConnect(
            relay_origin=config.relay.public_url,
            providers=providers,
            applications=applications,
            sessions=self.sessions,
            sealer=sealer,
            rendering=rendering,
            epoch=epoch,
            random=random,
            sign_in_seconds=int(config.session.sign_in),
            keeping=Keeping(store, sealer, epoch, random, int(config.session.sign_in)),
        )
        times = RefreshTimes(float(config.session.refresh), float(config.session.provider_grace))
        self._refreshing = Refreshing(
            store=store,
            sessions=self.sessions,
            providers=self.preauth.providers,
            sealer=sealer,
            times=times,
            epoch=epoch,
            clock=reactor,
            spawn=spawn,
        )
        self.sessions.refresh = self._refreshing.refresh
        notices = Notices(self.preauth, store)
        transmitters = [
            Transmitter(each, TreqFetch(reactor, str(each.ca_file or "")), reactor.seconds, epoch)
            for each in config.event_transmitter
        ]
        events = SecurityEvents(self.preauth, store, transmitters)
        self.signin = SignIn(
            self.preauth,
            store,
            idle_seconds=float(config.session.idle),
            absolute_seconds=float(config.session.absolute),
            times=times,
            more={
                BACK_CHANNEL: ((b"POST",), notices.back_channel),
                FRONT_CHANNEL: ((b"GET",), notices.front_channel),
                SECURITY_EVENTS: ((b"POST",), events.receive),
                OWN_SESSIONS: ((b"GET", b"HEAD", b"POST"), OwnSessions(self.preauth, store).serve),
                **more,
            },
        )
        self.portal = Portal(self.preauth)
