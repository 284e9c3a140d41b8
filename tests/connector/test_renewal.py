"""The connector's certificate when the relay's authorities change (R12)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config.connector import Connector
from appproxy.connector.credentials import Credentials, PendingKey
from appproxy.connector.renewal import ANSWER_SECONDS, LATEST_SECONDS, SOONEST_SECONDS, Renewal
from appproxy.relay.connectors.authority import Authority, make_authority
from appproxy.wire import control
from tests.fakes.recorded_log import recorded

NOW = int(time.time())
DAY = 86400
OLD = Authority.load(make_authority(NOW - 100 * DAY))
NEW = Authority.load(make_authority(NOW))


def trust(*authorities: Authority) -> control.Trust:
    """What a relay says; the first one issues."""
    pem = "".join(each.pem.decode() for each in authorities)
    return control.Trust(authorities=pem, issuer=authorities[0].fingerprint.hex())


class RenewalTests(SynchronousTestCase):
    """A connector with a fresh certificate of the old authority, and one channel."""

    def setUp(self) -> None:
        self.clock, self.state, self.now = Clock(), Path(self.mktemp()), float(NOW)
        key = PendingKey()
        chain = OLD.certify_connector(key.signing_request("hq-1"), "c-1", NOW).pem.decode()
        key.keep(chain, OLD.pem.decode(), self.state)
        credentials = Credentials.load(self.state)
        assert credentials is not None
        self.sent: list[dict[str, Any]] = []
        self.channels = [Mock(control=self.sent.append)]
        self.renewal = Renewal(
            credentials,
            Connector(relays=("https://relay:8443",), state_dir=self.state),
            up=lambda: iter(self.channels),
            later=lambda seconds, call: self.clock.callLater(seconds, call),
            random=lambda: 0.5,
            now=lambda: self.now,
        )

    def answer(self, authority: Authority) -> None:
        """The relay signs what was asked last."""
        issued = authority.certify_connector(self.sent[-1]["csr"], "c-1", NOW)
        self.renewal.renewed(issued.pem.decode())

    @pytest.mark.feature("CON-2")
    def test_authorities_are_kept_as_the_relay_tells(self) -> None:
        """R12: a second one is trusted from now on, by the next dial too; nothing is renewed for that."""
        self.renewal.trust(trust(OLD, NEW))
        self.renewal.trust(trust(OLD, NEW))
        loaded = Credentials.load(self.state)
        assert loaded is not None
        self.assertEqual(loaded.authorities, (OLD.pem + NEW.pem).decode())
        self.assertEqual(len(self.renewal.tls.context.get_ca_certs()), 2)
        self.clock.advance(LATEST_SECONDS)
        self.assertEqual(self.sent, [])

    @pytest.mark.feature("CON-2")
    def test_another_issuer_makes_it_renew(self) -> None:
        """R12: some seconds later, not all connectors at once; then the certificate is the new authority's."""
        self.renewal.trust(trust(NEW, OLD))
        self.clock.advance(SOONEST_SECONDS)
        self.assertEqual(self.sent, [])
        self.clock.advance(LATEST_SECONDS - SOONEST_SECONDS)
        self.assertEqual([document["type"] for document in self.sent], ["renew"])
        self.answer(NEW)
        self.assertEqual(self.renewal.credentials.issuer, NEW.fingerprint.hex())
        self.renewal.look()
        self.renewal.trust(trust(NEW))
        self.clock.advance(LATEST_SECONDS)
        self.assertEqual(len(self.sent), 1)
        self.assertEqual(self.renewal.credentials.authorities, NEW.pem.decode())

    def test_one_certificate_is_asked_for_at_a_time(self) -> None:
        """Until an answer has come, or can be given up."""
        self.renewal.trust(trust(NEW, OLD))
        self.renewal.look()
        self.renewal.look()
        self.assertEqual(len(self.sent), 1)
        self.now += ANSWER_SECONDS
        self.renewal.look()
        self.assertEqual(len(self.sent), 2)

    def test_a_certificate_of_a_stranger_is_not_taken(self) -> None:
        """Only those whom the relay named may issue."""
        self.now += 21 * DAY
        self.renewal.look()
        with recorded(Renewal) as events:
            self.answer(NEW)
        self.assertEqual(events[0]["event"], "connector.renewal-failed")
        self.assertEqual(self.renewal.credentials.issuer, OLD.fingerprint.hex())

    def test_junk_changes_nothing(self) -> None:
        """What was trusted before still is, and the log says why."""
        with recorded(Renewal) as events:
            self.renewal.trust(control.Trust(authorities="junk", issuer="00"))
        self.assertEqual(events[0]["event"], "connector.authorities-refused")
        loaded = Credentials.load(self.state)
        assert loaded is not None
        self.assertEqual(loaded.authorities, OLD.pem.decode())
