"""Whose logout token it is, and what it is said to end; what makes one bad is told in ``test_notices``."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config.provider import ProviderConfig
from appproxy.relay.preauth.failures import Flaw, TokenRefused
from appproxy.relay.preauth.logout_tokens import Logout, check_logout_token
from appproxy.relay.preauth.provider import Provider
from tests.fakes.idp import ISSUER, FakeProvider

NOW = 1_800_000_000


class LogoutTokenTest(SynchronousTestCase):
    """Two clients of one provider."""

    def setUp(self) -> None:
        self.idp = FakeProvider(lambda: NOW)
        configs = [ProviderConfig(id=id, issuer=ISSUER, client_id=id) for id in ("relay", "second")]
        self.providers = [Provider(each, self.idp.fetch, Clock().seconds, lambda: NOW) for each in configs]

    def check(self, **claims: Any) -> Logout:
        """Check a token."""
        token = self.idp.logout_token(**claims)
        return self.successResultOf(check_logout_token(token, self.providers, NOW))

    def test_addressed(self) -> None:
        """It is the client's that it is for, where one provider knows the relay as two."""
        self.assertEqual([self.check(aud=each).provider.id for each in ("relay", ["x", "second"])], ["relay", "second"])

    def test_what_ends(self) -> None:
        """A session, or somebody, and a key that no other token has."""
        one, two = self.check(sub="u"), self.check(sub="u", sid=None)
        self.assertEqual([(each.session, each.subject) for each in (one, two)], [("sid-1", "u"), ("", "u")])
        self.assertNotEqual(one.key, two.key)
        self.assertEqual(one.until, NOW + 120 + 61)

    def test_no_provider(self) -> None:
        """A token of nobody we know costs no look at anybody's keys."""
        for token in ("", "a.b.c", self.idp.logout_token(iss="https://other.test")):
            failure = self.failureResultOf(check_logout_token(token, self.providers, NOW), TokenRefused)
            self.assertEqual(failure.value.flaw, Flaw.ISSUER)
        self.assertEqual(self.idp.requests, [])
