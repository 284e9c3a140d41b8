"""Where the names of origins lead."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector.resolving import origin_resolver
from appproxy.net.dial import Target
from appproxy.net.failures import DnsFailed


def target(address: str, port: int = 80) -> Target:
    """What the system's name service says of an address."""
    if ":" in address:
        return socket.AF_INET6, (address, port, 0, 0)
    return socket.AF_INET, (address, port)


class ResolvingTests(SynchronousTestCase):
    """What the system says, with some exceptions."""

    def setUp(self) -> None:
        """A name service that says what the test lets it say."""
        self.asked: list[tuple[str, int]] = []
        self.says: list[Target] = []

    def system(self, host: str, port: int) -> Deferred[Sequence[Target]]:
        """The system's name service."""
        self.asked.append((host, port))
        return succeed(self.says)

    def resolved(self, host: str, *addresses: str) -> list[str]:
        """The addresses that are left of what the system says."""
        self.says = [target(address) for address in addresses]
        found = self.successResultOf(origin_resolver(None, self.system)(host, 80))
        return [name[0] for _, name in found]

    def test_names_are_asked_of_the_system(self) -> None:
        """Private and loopback addresses are what intranets are made of."""
        addresses = ["10.0.0.1", "127.0.0.1", "fd00::1", "192.0.2.1"]
        self.assertEqual(self.resolved("hr.corp.local", *addresses), addresses)
        self.assertEqual(self.asked, [("hr.corp.local", 80)])
        self.assertEqual(self.resolved("gone.corp.local"), [])

    @pytest.mark.feature("CON-8")
    def test_a_name_does_not_lead_to_what_is_never_published(self) -> None:
        """M04: a name that has come to mean a metadata service is not dialled; its other addresses are."""
        for address in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "::", "::ffff:169.254.169.254"):
            self.assertEqual(self.resolved("rebound.corp.local", address, "10.0.0.1"), ["10.0.0.1"])
            self.says = [target(address)]
            failure = self.failureResultOf(origin_resolver(None, self.system)("rebound.corp.local", 80), DnsFailed)
            self.assertIn("rebound.corp.local is", str(failure.value.detail))

    def test_below_localhost(self) -> None:
        """Names below localhost are this machine, and nobody is asked."""
        found = self.successResultOf(origin_resolver(None, self.system)("a.b.localhost", 8080))
        self.assertEqual([name[:2] for _, name in found], [("127.0.0.1", 8080), ("::1", 8080)])
        self.assertEqual(self.asked, [])
