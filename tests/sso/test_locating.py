"""KDCs in krb5.conf."""

from __future__ import annotations

from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from appproxy.sso.asking import OWN_CONFIG
from appproxy.sso.locating import kdcs_of, reachable

CONFIG = """
[libdefaults]
    kdc = not.this.one
[realms]
    OTHER.EXAMPLE = {
        kdc = other
    }
    CORP.EXAMPLE = {
        # kdc = dc0.corp.example
        kdc = dc1.corp.example
        kdc = tcp/dc2.corp.example:8888
        kdc = [2001:db8::1]:88
        admin_server = dc3
    }
[domain_realm]
    kdc = nor.this.one
"""


class LocatingTests(SynchronousTestCase):
    """Reading."""

    def test_of_one_realm(self) -> None:
        """Those of the realm, in order, with their ports; files that are not there are no matter."""
        path = Path(self.mktemp())
        path.write_text(CONFIG)
        found = [("dc1.corp.example", 88), ("dc2.corp.example", 8888), ("2001:db8::1", 88)]
        self.assertEqual(kdcs_of("CORP.EXAMPLE", [OWN_CONFIG, Path("/nonexistent"), path]), found)
        self.assertEqual(kdcs_of("NO.EXAMPLE", [path]), [])


@ensureDeferred
async def test_reachable() -> None:
    """B-K10: one that accepts connections is enough."""
    factory = Factory.forProtocol(lambda: None)  # type: ignore[arg-type, return-value]
    factory.buildProtocol = lambda address: None  # type: ignore[method-assign]
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    open_port = port.getHost().port
    other = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    closed_port = other.getHost().port
    await other.stopListening()
    assert await reachable(reactor, [("127.0.0.1", closed_port), ("127.0.0.1", open_port)])
    assert not await reachable(reactor, [("127.0.0.1", closed_port)])
    await port.stopListening()
