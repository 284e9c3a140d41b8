"""How often an application may be asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import RateLimits
from appproxy.relay.access import rates
from appproxy.relay.access.rates import Buckets, Rates, TooManyRequests
from appproxy.relay.catalog import Catalog
from appproxy.units import Duration
from tests.fakes.fronts import APPLICATIONS, Bench, get, make_session

HR = APPLICATIONS[0]


@pytest.mark.feature("POL-4")
class BucketsTest(SynchronousTestCase):
    """One limit."""

    def setUp(self) -> None:
        self.clock = Clock()

    def buckets(self, limit: int = 6, burst: int = 0) -> Buckets:
        return Buckets(limit, 60.0, burst, self.clock.seconds)

    def test_an_interval_at_once(self) -> None:
        """As many as in an interval; then one each time a share of it is over."""
        buckets = self.buckets()
        self.assertEqual([buckets.take("a") for _ in range(7)], [0.0] * 6 + [10.0])
        self.clock.advance(9.9)
        self.assertAlmostEqual(buckets.take("a"), 0.1)
        self.clock.advance(0.2)
        self.assertEqual((buckets.take("a"), buckets.take("a") > 9), (0.0, True))

    def test_burst(self) -> None:
        """So many at once, and the limit over time."""
        buckets = self.buckets(burst=2)
        self.assertEqual([buckets.take("a") for _ in range(3)], [0.0, 0.0, 10.0])
        taken = 0
        for _ in range(600):
            self.clock.advance(1)
            taken += buckets.take("a") == 0.0
        self.assertEqual(taken, 60)

    def test_refusals_cost_nothing(self) -> None:
        """Who keeps asking is let through as soon as who waits."""
        buckets = self.buckets(limit=1)
        buckets.take("a")
        for _ in range(59):
            self.clock.advance(1)
            self.assertGreater(buckets.take("a"), 0)
        self.clock.advance(1)
        self.assertEqual(buckets.take("a"), 0.0)

    def test_each_for_itself(self) -> None:
        """One's requests are not another's; a flood of others is bounded."""
        self.patch(rates, "MAX_BUCKETS", 100)
        buckets = self.buckets(limit=1)
        for number in range(1000):
            self.assertEqual(buckets.take(number), 0.0)
        self.assertEqual(len(buckets._full), 100)


@pytest.mark.feature("POL-4")
class RatesTest(SynchronousTestCase):
    """The limits of an application."""

    def test_addresses(self) -> None:
        """An IPv6 network of one person counts as one."""
        limits = Rates(Clock().seconds).of("hr", RateLimits(address=1))
        limits.arrived("2001:db8::1")
        self.assertRaises(TooManyRequests, limits.arrived, "2001:db8::2")
        limits.arrived("2001:db8:0:1::1")
        limits.identified(("iss", "sub"))

    def test_other_changes(self) -> None:
        """What was counted stays while other settings change, and begins anew with other limits."""
        all_rates = Rates(Clock().seconds)
        all_rates.of("hr", RateLimits(address=1)).arrived("192.0.2.1")
        again = all_rates.of("hr", RateLimits(address=1))
        self.assertRaises(TooManyRequests, again.arrived, "192.0.2.1")
        all_rates.of("wiki", RateLimits(address=1)).arrived("192.0.2.1")
        all_rates.of("hr", RateLimits(address=2)).arrived("192.0.2.1")


@pytest.mark.feature("POL-4")
class GatewayTest(SynchronousTestCase):
    """Through front and gateway."""

    def publish(self, **limits: Any) -> None:
        application = msgspec.structs.replace(HR, rate=RateLimits(**limits))
        self.bench.gateway.catalog = Catalog([application])

    def setUp(self) -> None:
        self.bench = Bench()
        self.bench.gateway._rates = Rates(self.bench.clock.seconds)

    def asked(self, more: bytes | None = None) -> bytes:
        client = self.bench.client()
        self.bench.sends(client, get() if more is None else get(more=more))
        return client.take()

    def test_user(self) -> None:
        """429 with the time to wait; others go on; it is over when the time is."""
        self.publish(user=2, interval=Duration(60))
        self.asked()
        self.asked()
        answer = self.asked()
        self.assertIn(b"HTTP/1.1 429 ", answer)
        self.assertRegex(answer, rb"\r\nRetry-After: (29|30)\r\n")
        self.assertEqual(len(self.bench.pair.opener.heads), 2)
        self.assertEqual(self.bench.records[-1][2:5:2], ("alice", "rate-limited"))
        assert self.bench.preauth.session is not None
        bob = msgspec.structs.replace(self.bench.preauth.session.identity, subject="bob", user="alice")
        self.bench.preauth.session = make_session(bob)
        self.assertEqual(self.asked(), b"")

    def test_address_before_sign_in(self) -> None:
        """Strangers count, too, before anybody is asked who they are."""
        self.publish(address=2)
        self.assertIn(b" 401 ", self.asked(b""))
        self.assertIn(b" 401 ", self.asked(b""))
        self.assertIn(b" 429 ", self.asked(b""))
        self.assertIn(b" 429 ", self.asked())

    def test_application(self) -> None:
        """All together."""
        self.publish(application=1)
        self.asked()
        self.assertIn(b" 429 ", self.asked())
