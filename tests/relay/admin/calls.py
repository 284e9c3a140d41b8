"""Calls of the administration, over a store in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.admin.api import Admin
from appproxy.relay.admin.call import Call
from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.connectors.authority import Authority, make_authority
from tests.fakes.exchange import FakeExchange
from tests.fakes.memory_store import MemoryStore
from tests.fakes.recorded_log import recorded

NOW = 1_900_000_000
AUTHORITY = Authority.load(make_authority(NOW))

HR = {
    "id": "hr",
    "external_url": "https://hr.example.com/",
    "internal_url": "http://hr.corp.local:8080/",
    "connector_group": "hq",
}


class AdminTestCase(SynchronousTestCase):
    """A relay with one provider, whose host is proxy.example.com."""

    def setUp(self) -> None:
        self.now = NOW
        self.store: Any = MemoryStore()
        self.live = SimpleNamespace(by_connector={})
        self.acts: list[Any] = []
        self.admin = Admin(
            self.store,
            Authorities([AUTHORITY]),
            self.live,
            now=lambda: self.now,
            random=lambda count: bytes(range(count)),
            providers=["entra"],
            own_host="proxy.example.com",
        )

    def write(self, function: Any, *args: Any) -> Any:
        """Do something with the store."""
        return self.successResultOf(self.store.write(function, *args))

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        base: str = "http://localhost",
    ) -> FakeExchange:
        """One call; administrative acts end in ``acts``."""
        octets = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        exchange = FakeExchange(base + path, method=method.encode(), fields=fields, body=octets)
        with recorded(Call) as events:
            self.successResultOf(self.admin.respond(exchange))
        self.acts += events
        return exchange

    def asked(self, method: str, path: str, body: object = None) -> Any:
        """What a good call is answered."""
        exchange = self.send(method, path, body)
        self.assertEqual(exchange.status, 200, exchange.body)
        return msgspec.json.decode(exchange.body)

    def refused(self, method: str, path: str, status: int, body: object = None) -> Any:
        """The problem that a bad call is answered."""
        exchange = self.send(method, path, body)
        self.assertEqual(exchange.status, status, exchange.body)
        return msgspec.json.decode(exchange.body)

    def publish(self, *applications: dict[str, Any]) -> None:
        """Apply the group hq and some applications."""
        self.asked("POST", "/v1/apply", {"connector_group": [{"name": "hq"}], "application": list(applications)})
        self.acts.clear()
