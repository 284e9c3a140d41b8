from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.people.throttle import Rate, Throttle


class ThrottleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.throttle = Throttle(Rate(3, 10.0), Rate(5, 1.0), self.clock.seconds)

    def tries(self, address: str, count: int) -> int:
        return sum(self.throttle.wait(address) == 0 for _ in range(count))

    def test_a_burst_then_one_at_a_time(self) -> None:
        """After the burst one source gets one try each ten seconds, and is told how long to wait."""
        self.assertEqual(self.tries("192.0.2.1", 10), 3)
        self.assertAlmostEqual(self.throttle.wait("192.0.2.1"), 10.0)
        self.clock.advance(9)
        self.assertAlmostEqual(self.throttle.wait("192.0.2.1"), 1.0)
        self.clock.advance(1)
        self.assertEqual(self.tries("192.0.2.1", 2), 1)

    def test_waiting_saves_up_no_more_than_the_burst(self) -> None:
        """A source that was quiet for a day may try three times at once, not thousands."""
        self.tries("192.0.2.1", 3)
        self.clock.advance(86400)
        self.assertEqual(self.tries("192.0.2.1", 10), 3)

    def test_sources_do_not_pay_for_each_other(self) -> None:
        """One flooding source leaves another its tries: what is refused counts for nobody."""
        self.assertEqual(self.tries("192.0.2.1", 1000), 3)
        self.assertEqual(self.tries("192.0.2.2", 2), 2)

    def test_many_sources_are_limited_together(self) -> None:
        """R03: a flood from a thousand addresses is held to the rate for all."""
        self.assertEqual(sum(self.tries(f"192.0.{n >> 8}.{n & 255}", 1) for n in range(1000)), 5)
        self.clock.advance(1)
        self.assertEqual(self.tries("198.51.100.1", 3), 1)

    def test_one_ipv6_network_is_one_source(self) -> None:
        """Somebody with a network of 64 bits has as many tries as somebody with one address."""
        self.assertEqual(sum(self.tries(f"2001:db8::{n:x}", 1) for n in range(1, 6)), 3)
        self.assertEqual(self.tries("2001:db8:0:1::1", 1), 1)

    def test_mapped_addresses_are_the_ones_they_map(self) -> None:
        """An IPv4 client on an IPv6 socket is the same source."""
        self.assertEqual(self.tries("::ffff:192.0.2.1", 2) + self.tries("192.0.2.1", 2), 3)

    def test_memory_is_bounded(self) -> None:
        """Sources beyond the limit push out the oldest."""
        self.patch(Throttle, "MAX_SOURCES", 10)
        for number in range(100):
            self.throttle.wait(f"192.0.2.{number}")
        self.assertEqual(len(self.throttle._sources), 10)

    def test_what_is_no_address_is_a_source_too(self) -> None:
        """Clients of a Unix socket have no address; they share one bucket."""
        self.assertEqual(self.tries("", 10), 3)
