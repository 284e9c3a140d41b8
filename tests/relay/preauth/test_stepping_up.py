"""Stepping up: a rule wants a stronger or fresher sign-in than somebody has."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Rule
from appproxy.identity import Identity
from appproxy.relay.access.policy import StepUp
from appproxy.relay.access.rules import Request
from appproxy.relay.catalog import Published
from appproxy.relay.preauth.failures import SignInTooWeak
from appproxy.relay.preauth.stepping_up import asked_for, check_stepped_up, is_stepped_up
from appproxy.units import Duration
from tests.fakes.browser import HR, Browser, Rig
from tests.fakes.exchange import FETCHES, FakeExchange

APP = "https://hr.example.test"
ENTRA = "https://login.microsoftonline.com/contoso/v2.0"
NOW = 1_800_000_000


def someone(**claims: Any) -> Identity:
    """A person with these claims."""
    return Identity("iss", "sub", "alice", (), claims, claims.get("auth_time", NOW))


@pytest.mark.feature("AUTH-1", "POL-2")
class AskingTest(SynchronousTestCase):
    """What a provider is asked for, and what counts as an answer."""

    def test_parameters(self) -> None:
        """By OpenID Connect; a method can only be had by asking for any new sign-in."""
        self.assertEqual(asked_for(None, "https://idp"), {})
        self.assertEqual(asked_for(StepUp(300, ("a", "b")), "https://idp"), {"max_age": "300", "acr_values": "a b"})
        self.assertEqual(asked_for(StepUp(0, (), ("otp",)), "https://idp"), {"prompt": "login"})

    def test_microsoft_entra(self) -> None:
        """Authentication contexts are claims there, and a new sign-in a prompt."""
        asked = asked_for(StepUp(300, ("c1",)), ENTRA)
        self.assertEqual(
            msgspec.json.decode(asked["claims"]), {"id_token": {"acrs": {"essential": True, "value": "c1"}}}
        )
        self.assertEqual(asked["prompt"], "login")

    def test_what_counts(self) -> None:
        """Only what the provider says."""
        for step_up, good, bad in (
            (StepUp(300, ()), {"auth_time": NOW - 300}, {"auth_time": NOW - 301}),
            (StepUp(300, ()), {"auth_time": NOW}, {}),
            (StepUp(0, ("a", "b")), {"acr": "b"}, {"acr": "c"}),
            (StepUp(0, ("c1",)), {"acrs": ["c1", "c2"]}, {"acrs": ["c2"]}),
            (StepUp(0, (), ("otp",)), {"amr": ["pwd", "otp"]}, {"amr": ["pwd"]}),
        ):
            self.assertTrue(is_stepped_up(someone(**good), step_up, NOW), step_up)
            self.assertFalse(is_stepped_up(someone(**bad), step_up, NOW), step_up)
            self.assertRaises(SignInTooWeak, check_stepped_up, someone(**bad), step_up, NOW)


class Gate(Rig):
    """The rig with the application's rules."""

    async def _respond(self, exchange: FakeExchange) -> None:
        application = self.applications["hr"]
        if exchange.host == "hr.example.test" and not exchange.path.startswith(b"/.appproxy"):
            published = Published(application)
            session = self.oidc.peek(exchange, application) or await self.oidc.identify(exchange, application)
            if session is not None and published.rules is not None:
                request = Request(exchange.path, exchange.head.method, "192.0.2.1", self.epoch())
                decision = published.rules.look(request).decide(session.identity, self.epoch())
                if decision.step_up is not None:
                    return await self.oidc.step_up(exchange, published, decision.step_up)
        return await super()._respond(exchange)


def with_rule(**rule: Any) -> Application:
    """The application with a rule for one part of it."""
    return msgspec.structs.replace(HR, rule=(Rule(paths=("/pay/",), **rule),))


@pytest.mark.feature("AUTH-1", "POL-2")
class JourneyTest(SynchronousTestCase):
    """A browser, a relay and a provider."""

    def begin(self, application: Application, **claims: Any) -> None:
        self.rig = Gate(application)
        self.browser = Browser(self.rig)
        self.rig.idp.claims |= {"auth_time": self.rig.epoch(), **claims}
        self.assertEqual(self.browser.walk(APP + "/").status, 200)

    def asked(self) -> dict[str, list[str]]:
        """What the provider was last asked."""
        address = [each for each in self.browser.trail if urlsplit(each).path == "/authorize"][-1]
        return parse_qs(urlsplit(address).query)

    def later(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    def test_fresher(self) -> None:
        """Whoever signed in too long ago does so again, and comes back to what they wanted, with the same session."""
        self.begin(with_rule(max_authentication_age=Duration(600)))
        cookies = dict(self.browser.jars["hr.example.test"])
        self.later(601)
        self.rig.idp.claims["auth_time"] = self.rig.epoch()
        answer = self.browser.walk(APP + "/pay/now?x=1")
        self.assertEqual((answer.status, self.browser.trail[-1]), (200, APP + "/pay/now?x=1"))
        self.assertEqual(self.asked()["max_age"], ["600"])
        session = "__Host-appproxy-session"
        self.assertEqual(self.browser.jars["hr.example.test"][session], cookies[session])
        self.assertEqual(self.browser.walk(APP + "/pay/again").status, 200)
        self.assertEqual(len(self.browser.trail), 1)

    def test_stronger(self) -> None:
        """The same by the kind of sign-in."""
        self.begin(with_rule(acr=("mfa",)))
        self.rig.idp.claims["acr"] = "mfa"
        self.assertEqual(self.browser.walk(APP + "/pay/").status, 200)
        self.assertEqual(self.asked()["acr_values"], ["mfa"])

    def test_first_sign_in(self) -> None:
        """Whoever comes without a session is asked for the usual sign-in first; if that does, for no other."""
        self.rig = Gate(with_rule(acr=("mfa",)))
        self.browser = Browser(self.rig)
        self.rig.idp.claims |= {"acr": "mfa"}
        self.assertEqual(self.browser.walk(APP + "/pay/").status, 200)
        self.assertEqual(self.rig.idp.count("/token"), 1)

    def test_provider_that_takes_no_notice(self) -> None:
        """A clear 403 and no loop; what the user had before stays, and other parts of the application open."""
        for rule in ({"acr": ("mfa",)}, {"max_authentication_age": Duration(600)}):
            self.begin(with_rule(**rule))
            self.later(601)
            answer = self.browser.walk(APP + "/pay/")
            self.assertEqual(answer.status, 403)
            self.assertIn(b"sign-in-too-weak", answer.body)
            self.assertEqual(self.browser.walk(APP + "/").status, 200)

    def test_age_that_is_not_told(self) -> None:
        """A provider that does not say when the sign-in was is not believed that it was now."""
        self.begin(with_rule(max_authentication_age=Duration(600)))
        self.later(601)
        del self.rig.idp.claims["auth_time"]
        self.assertEqual(self.browser.walk(APP + "/pay/").status, 403)

    def test_scripts(self) -> None:
        """They are told by RFC 9470, and redirected nowhere."""
        self.begin(with_rule(acr=("mfa",), max_authentication_age=Duration(600)))
        answer = self.browser.ask(APP + "/pay/", fields=FETCHES)
        self.assertEqual(answer.status, 401)
        told = answer.value("WWW-Authenticate")
        self.assertIn('error="insufficient_user_authentication"', told)
        self.assertIn('acr_values="mfa"', told)
        self.assertIn(b'"step-up"', answer.body)

    def test_somebody_else(self) -> None:
        """Another person who signs in then gets a session of their own, and the first one's ends."""
        self.begin(with_rule(acr=("mfa",)))
        self.rig.idp.claims |= {"acr": "mfa", "sub": "u-2", "preferred_username": "bob@example.test"}
        self.rig.idp.userinfo = {"sub": "u-2"}
        answer = self.browser.walk(APP + "/pay/")
        self.assertEqual((answer.status, answer.body), (200, b"bob@example.test"))

    def test_sign_in_known_elsewhere(self) -> None:
        """What was stepped up for one application holds for all: nobody is asked twice."""
        self.begin(with_rule(acr=("mfa",)))
        self.rig.idp.claims["acr"] = "mfa"
        self.browser.walk(APP + "/pay/")
        asked = self.rig.idp.count("/token")
        del self.browser.jars["hr.example.test"]
        self.assertEqual(self.browser.walk(APP + "/pay/").status, 200)
        self.assertEqual(self.rig.idp.count("/token"), asked)
