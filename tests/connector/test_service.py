"""The connector, assembled: its links to relays and what they are told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.channel.protocol import Channel
from appproxy.config.connector import Connector, ConnectorConfig
from appproxy.connector.credentials import Credentials, PendingKey
from appproxy.connector.dialing import Dialling
from appproxy.connector.renewal import Renewal
from appproxy.connector.service import ConnectorService, RelayLink
from appproxy.relay.connectors.authority import Authority, make_authority
from appproxy.wire import control
from tests.connector.rig import HR
from tests.connector.test_dialing import Attempt
from tests.fakes.recorded_log import recorded

NOW = int(time.time())
DAY = 86400
RELAY = Authority.load(make_authority(NOW - 100 * DAY))


class Service(ConnectorService):
    """Dials relays in memory."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.attempts: list[Attempt] = []

    async def dial_relay(self, relay: str, tls: Any, channel: Channel) -> Any:  # type: ignore[override]
        attempt = Attempt(channel, self._reactor)
        self.attempts.append(attempt)
        return await attempt.result


class LinkTests(SynchronousTestCase):
    """One connector, one or two relays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.state = Path(self.mktemp())
        self.build("https://one:8443")

    def build(self, *relays: str, issued: int = NOW, channels: int = 2) -> None:
        key = PendingKey()
        chain = RELAY.certify_connector(key.signing_request("hq-1"), "c-1", issued).pem.decode()
        key.keep(chain, RELAY.pem.decode(), self.state)
        config = ConnectorConfig(connector=Connector(relays=relays, state_dir=self.state, channels=channels))
        self.service = Service(self.clock, config)
        credentials = Credentials.load(self.state)
        assert credentials is not None
        hello = control.Hello(connector="c-1", version="1", boot="b", epoch=1)
        self.service.renewal = Renewal(
            credentials,
            config.connector,
            up=self.service._channels_up,
            later=self.service.later,
            random=lambda: 0.5,
        )
        links = [RelayLink(self.service, relay, hello) for relay in relays]
        self.service._relays = links
        self.attempts = self.service.attempts
        with recorded(ConnectorService):
            for link in links:
                link.start()

    def tell(self, attempt: Attempt, **document: Any) -> list[dict[str, Any]]:
        """The relay says something; returns what it hears in answer."""
        before = len(attempt.heard)
        attempt.relay.control(document)
        attempt.run()
        return attempt.heard[before:]

    def assign(self, attempt: Attempt, version: int, *applications: dict[str, Any]) -> list[dict[str, Any]]:
        return self.tell(attempt, type="assignments", version=version, applications=list(applications))

    @pytest.mark.feature("CON-3")
    def test_the_first_channel_comes_alone_and_then_one_a_second(self) -> None:
        """As many as configured, never more."""
        self.build("https://one:8443", channels=3)
        self.clock.advance(5)
        self.assertEqual(len(self.attempts), 1)
        for number in (2, 3):
            self.attempts[-1].welcome()
            self.clock.advance(0.9)
            self.assertEqual(len(self.attempts), number - 1)
            self.clock.advance(0.2)
            self.assertEqual(len(self.attempts), number)
        self.attempts[-1].welcome()
        self.clock.advance(5)
        self.assertEqual(len(self.attempts), 3)

    @pytest.mark.feature("CON-8")
    def test_assignments_are_acknowledged_or_refused_with_reasons(self) -> None:
        """On each channel that brought them."""
        first = self.attempts[0]
        first.welcome()
        with recorded(ConnectorService) as events:
            self.assertEqual(self.assign(first, 1, HR), [{"type": "applied", "version": 1}])
            bad = {**HR, "id": "bad", "internal_url": "nowhere"}
            (refused,) = self.assign(first, 2, HR, bad)
        self.assertEqual((refused["type"], refused["version"], list(refused["reasons"])), ("refused", 2, ["bad"]))
        self.assertEqual(events[-1]["event"], "connector.refused-assignment")
        self.clock.advance(1.1)
        second = self.attempts[1]
        second.welcome()
        self.assertEqual(self.assign(second, 2, HR, bad), [refused])

    def test_a_relay_that_is_behind_does_not_turn_back_the_clock(self) -> None:
        """O04: an older version is ignored while any channel is up, and taken when all were lost."""
        first = self.attempts[0]
        first.welcome()
        with recorded(ConnectorService):
            self.assign(first, 5, HR)
            self.assertEqual(self.assign(first, 4), [])
            self.assertEqual(len(self.service._assignments), 1)
            first.lose()
            self.clock.advance(1.1)
            self.attempts[-1].welcome()
            self.assertEqual(self.assign(self.attempts[-1], 4), [{"type": "applied", "version": 4}])

    @pytest.mark.feature("CON-2")
    def test_certificates_are_renewed_over_the_channel(self) -> None:
        """R07: with a new key, after two thirds of the old one's life; the next dial uses it."""
        self.build("https://one:8443", issued=NOW - 21 * DAY)
        first = self.attempts[0]
        first.welcome()
        request = first.heard[-1]
        self.assertEqual((request["type"], request["certificate"]), ("renew", ""))
        issued = RELAY.certify_connector(request["csr"], "c-1", NOW)
        before = (self.state / "connector.pem").read_bytes()
        self.tell(first, type="renew", certificate=issued.pem.decode())
        after = Credentials.load(self.state)
        assert after is not None
        self.assertEqual(after.not_after, NOW + 30 * DAY)
        self.assertNotEqual((self.state / "connector.pem").read_bytes()[:200], before[:200])
        self.service.renewal.look()
        first.run()
        self.assertEqual(first.heard[-1], request)

    def test_a_certificate_that_is_not_ours_is_not_taken(self) -> None:
        """What was there stays, and the log says so."""
        self.build("https://one:8443", issued=NOW - 21 * DAY)
        first = self.attempts[0]
        first.welcome()
        before = (self.state / "connector.pem").read_bytes()
        other = RELAY.certify_connector(PendingKey().signing_request("x"), "c-2", NOW)
        with recorded(Renewal) as events:
            self.tell(first, type="renew", certificate=other.pem.decode())
        self.assertEqual(events[0]["event"], "connector.renewal-failed")
        self.assertEqual((self.state / "connector.pem").read_bytes(), before)
        self.assertEqual(self.tell(first, type="renew", certificate="unasked"), [])

    def test_a_renewal_that_nobody_can_be_asked_for_is_loud(self) -> None:
        """R08: long before the end."""
        self.build("https://one:8443", issued=NOW - 21 * DAY)
        with recorded(Renewal) as events:
            self.service.renewal.look()
        self.assertEqual(events[0]["event"], "connector.renewal-late")

    def test_a_certificate_that_ran_out_while_the_relay_was_away(self) -> None:
        """R08: each attempt says what to do and asks nobody; key and certificate stay, and a clock set right helps."""
        self.build("https://one:8443", channels=1)
        now = NOW
        self.patch(time, "time", lambda: now)
        first = self.attempts[0]
        first.welcome()
        now = NOW + 30 * DAY
        kept = (self.state / "connector.pem").read_bytes()
        with recorded(Renewal) as late, recorded(Dialling) as events:
            first.lose()
            self.service.renewal.look()
            self.clock.pump([1.0] * 20)
        self.assertEqual((len(self.attempts), late), (1, []))
        self.assertEqual({event["event"] for event in events}, {"connector.channel-down"})
        self.assertIn("expired", events[-1]["problem"])
        self.assertIn("appproxy token enrol", events[-1]["problem"])
        self.assertIn("clock", events[-1]["remedy"])
        self.assertEqual((self.state / "connector.pem").read_bytes(), kept)
        now = NOW + 29 * DAY
        with recorded(Dialling):
            self.clock.pump([1.0] * 5)
        self.assertEqual(len(self.attempts), 2)

    def test_revocation_is_told_and_the_channel_closed(self) -> None:
        """R10: with what to do."""
        first = self.attempts[0]
        first.welcome()
        with recorded(RelayLink) as events:
            self.tell(first, type="revoked", reason="stolen")
        self.assertEqual(events[0]["event"], "connector.revoked")
        self.assertIsNotNone(first.carrier.closed)

    def test_stopping_ends_every_link(self) -> None:
        """Drain documents go out, channels close, no timer is left."""
        first = self.attempts[0]
        first.welcome()
        stopping = self.service.stopService()
        first.run()
        self.assertEqual(first.heard[-1]["type"], "drain")
        self.clock.advance(1)
        self.successResultOf(stopping)
        self.assertEqual(first.carrier.closed, (1001, "the connector is stopping"))
        first.lose(1001)
        first.relay.carrier_closed(1001, "")
        self.clock.advance(10)
        self.assertEqual((len(self.attempts), self.clock.getDelayedCalls()), (1, []))
