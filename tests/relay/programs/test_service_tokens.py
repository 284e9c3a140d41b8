"""Tokens of programs: what they open, and for how long."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Rule, Who
from appproxy.relay.catalog import Catalog
from appproxy.relay.programs.refusing import Unauthorised
from appproxy.relay.programs.service_tokens import REMEMBERED_SECONDS, ServiceTokens, hash_token, make_token
from appproxy.store import service_tokens
from appproxy.store.records import ServiceTokenRecord
from tests.fakes.fronts import APPLICATIONS, Bench, get
from tests.fakes.memory_store import MemoryStore
from tests.fakes.watching import Watcher

NOW = 1_900_000_000
TOKEN = make_token(bytes).encode()


class TokenTestCase(SynchronousTestCase):
    """A store with one token for application hr below /api/."""

    def setUp(self) -> None:
        self.store: Any = MemoryStore()
        self.clock, self.now = Clock(), NOW
        self.record = ServiceTokenRecord(
            id="s-1", hash=hash_token(TOKEN), name="backup", owner="ops", applications=("hr",), paths=("/api/",),
            created=NOW, expires=NOW + 3600,
        )  # fmt: skip
        self.write(service_tokens.create, self.record)
        self.tokens = ServiceTokens(self.store, self.clock.seconds, lambda: self.now)

    def write(self, function: Any, *arguments: Any) -> Any:
        return self.successResultOf(self.store.write(function, *arguments))

    def find(self, token: bytes = TOKEN) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.tokens.find(token)))

    def refused(self, token: bytes = TOKEN) -> str:
        return str(self.failureResultOf(Deferred.fromCoroutine(self.tokens.find(token)), Unauthorised).value.detail)


@pytest.mark.feature("AUTH-11")
class ServiceTokenTests(TokenTestCase):
    """Found by their hash, remembered for a minute, ended at once."""

    def test_who_it_is(self) -> None:
        """A name that no person has, with the owner as a claim."""
        identity = self.find().identity
        self.assertEqual((identity.user, identity.claims), ("service:backup", {"owner": "ops"}))

    def test_what_it_opens(self) -> None:
        """Its applications and whole path segments; all, where none are named."""
        granted = self.find()
        self.assertTrue(granted.covers("hr", b"/api/x") and granted.covers("hr", b"/api"))
        self.assertFalse(
            granted.covers("hr", b"/apix") or granted.covers("hr", b"/API/") or granted.covers("wiki", b"/api/")
        )

    def test_what_is_none_is_refused(self) -> None:
        """Unknown, malformed, expired; the answer is the same, the log's detail is not."""
        self.assertEqual(self.refused(make_token(lambda count: b"x" * count).encode()), "unknown")
        self.assertEqual(self.refused(TOKEN + b"="), "malformed")
        self.now += 3600
        self.assertIn("expired", self.refused())

    def test_revoked(self) -> None:
        """At once when the relay hears of it, within a minute when it does not; what is open ends."""
        watcher = Watcher()
        self.find().watch(watcher)
        self.write(service_tokens.revoke, "s-1", NOW)
        self.find()
        self.clock.advance(REMEMBERED_SECONDS)
        self.assertIn("revoked", self.refused())
        self.assertEqual(watcher.ended, 1)

    def test_revocation_that_is_heard(self) -> None:
        """The feed's word ends what is open, once."""
        watcher, gone = Watcher(), Watcher()
        granted = self.find()
        granted.watch(watcher)
        granted.watch(gone)
        granted.unwatch(gone)
        self.write(service_tokens.revoke, "s-1", NOW)
        self.tokens.revoked(["s-1"])
        self.tokens.revoked(["s-1"])
        self.assertEqual((watcher.ended, gone.ended), (1, 0))
        self.assertIn("revoked", self.refused())

    def test_changes_that_were_missed(self) -> None:
        """Everything is looked up again; what is good goes on."""
        granted = self.find()
        self.tokens.missed()
        self.assertIs(self.find(), granted)

    def test_use_is_noted(self) -> None:
        """Once a minute; what ran out meanwhile is cut."""
        watcher = Watcher()
        self.find().watch(watcher)
        self.now += 10
        self.find()
        self.successResultOf(Deferred.fromCoroutine(self.tokens.tick()))
        self.assertEqual(self.write(service_tokens.find, hash_token(TOKEN)).last_used, NOW + 10)
        self.now += 3600
        self.successResultOf(Deferred.fromCoroutine(self.tokens.tick()))
        self.assertEqual(watcher.ended, 1)


@pytest.mark.feature("AUTH-11")
class GatewayTests(TokenTestCase):
    """A request with a token, through front and gateway."""

    def setUp(self) -> None:
        super().setUp()
        self.bench = Bench()
        self.bench.gateway._programs = self.tokens
        self.client = self.bench.client()

    def asked(self, path: bytes, token: bytes = TOKEN, more: bytes = b"") -> bytes:
        self.bench.sends(self.client, get(path=path, more=b"Authorization: Bearer " + token + b"\r\n" + more))
        return self.client.take()

    def test_passes_without_its_token(self) -> None:
        """The origin never sees it; a session's cookie beside it changes nothing (A39)."""
        self.asked(b"/api/x", more=b"Cookie: __Host-appproxy-session=handle; theme=dark\r\n")
        [(head, _, _)] = self.bench.pair.opener.heads
        self.assertEqual(head.standing.identity, {"user": "service:backup"})
        self.assertNotIn(b"authorization", {name.lower() for name, _ in head.standing.fields})

    def test_answers_of_programs(self) -> None:
        """401 and 403 with what RFC 6750 says; nothing reaches the origin."""
        answer = self.asked(b"/api/x", b"aps1." + b"B" * 43)
        self.assertIn(b" 401 ", answer)
        self.assertIn(b'WWW-Authenticate: Bearer realm="hr", error="invalid_token"', answer)
        answer = self.asked(b"/other")
        self.assertIn(b" 403 ", answer)
        self.assertIn(b'error="insufficient_scope"', answer)
        self.assertEqual(self.bench.pair.opener.streams, [])

    def test_another_authorization_is_the_origins(self) -> None:
        """A person's request with a field of that name goes on as it is."""
        self.bench.sends(
            self.client, get(more=b"Authorization: Basic eDp5\r\nCookie: __Host-appproxy-session=handle\r\n")
        )
        [(head, _, _)] = self.bench.pair.opener.heads
        self.assertIn((b"Authorization", b"Basic eDp5"), head.standing.fields)

    def test_rules_that_deny_hold(self) -> None:
        """For programs as for people."""
        rule = Rule(name="not backup", deny=Who(users=("service:backup",)))
        self.bench.gateway.catalog = Catalog([msgspec.structs.replace(APPLICATIONS[0], rule=(rule,))])
        self.assertIn(b" 403 ", self.asked(b"/api/x"))
