"""Signing out, and that nobody else can do it."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.preauth.cookies import SESSION
from appproxy.relay.preauth.failures import ProviderUnreachable
from tests.fakes.browser import RELAY, Browser, Rig
from tests.fakes.exchange import FakeExchange
from tests.fakes.idp import ISSUER

APP = "https://hr.example.test"
WIKI = "https://wiki.example.test"
SAME_ORIGIN = ((b"Sec-Fetch-Site", b"same-origin"), (b"Sec-Fetch-Mode", b"navigate"), (b"Origin", b"null"))
CROSS_SITE = ((b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Mode", b"navigate"), (b"Origin", b"https://evil.test"))


class SignOutTest(SynchronousTestCase):
    """A browser that is signed in to two applications."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.browser = Browser(self.rig)
        self.browser.walk(APP + "/")
        self.browser.walk(WIKI + "/")

    def token(self, origin: str) -> str:
        """The token of the sign-out page."""
        found = re.search(rb'name="token" value="([^"]+)"', self.browser.ask(origin + "/.appproxy/sign-out").body)
        assert found is not None
        return found[1].decode()

    def post(
        self, origin: str, token: str, scope: str, fields: tuple[tuple[bytes, bytes], ...] = SAME_ORIGIN
    ) -> FakeExchange:
        """Send the form."""
        body = urlencode({"token": token, "scope": scope}).encode()
        return self.browser.ask(origin + "/.appproxy/sign-out", method=b"POST", fields=fields, body=body)

    def knows(self, origin: str) -> bool:
        """Whether the origin still gets this browser's requests."""
        return self.browser.ask(origin + "/").status == 200

    @pytest.mark.feature("AUTH-6")
    def test_page_asks(self) -> None:
        """S13: opening the address signs nobody out; the page asks."""
        answer = self.browser.ask(APP + "/.appproxy/sign-out")
        self.assertEqual(answer.status, 200)
        self.assertIn(b"HR portal", answer.body)
        self.assertIn(b"alice@example.test", answer.body)
        self.assertNotIn("form-action", answer.value("Content-Security-Policy"))
        self.assertTrue(self.knows(APP))

    @pytest.mark.feature("AUTH-6")
    def test_one_application(self) -> None:
        """S12: signing out of one application ends its session on the server and leaves the others."""
        jar = dict(self.browser.jars["hr.example.test"])
        answer = self.post(APP, self.token(APP), "application")
        self.assertEqual(answer.status, 200)
        self.assertNotIn(SESSION.decode(), self.browser.jars["hr.example.test"])
        self.browser.jars["hr.example.test"] = jar
        self.assertFalse(self.knows(APP))
        self.assertTrue(self.knows(WIKI))

    @pytest.mark.feature("AUTH-6")
    def test_everything(self) -> None:
        """Signing out of everything ends every session of the sign-in and goes on to the provider with a hint."""
        answer = self.post(APP, self.token(APP), "everything")
        self.assertEqual(answer.status, 303)
        address, _, query = answer.value("Location").partition("?")
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        self.assertEqual(address, ISSUER + "/logout")
        self.assertEqual(asked["post_logout_redirect_uri"], RELAY + "/.appproxy/signed-out")
        self.assertEqual(asked["client_id"], "relay")
        self.assertEqual(asked["id_token_hint"].count("."), 2)
        self.assertFalse(self.knows(APP) or self.knows(WIKI))
        self.assertEqual(self.browser.ask(RELAY + "/").status, 302)

    def test_from_the_relay(self) -> None:
        """The relay's own sign-out ends everything."""
        answer = self.post(RELAY, self.token(RELAY), "application")
        self.assertEqual(urlsplit(answer.value("Location")).path, "/logout")
        self.assertFalse(self.knows(APP) or self.knows(WIKI))

    def test_cross_site_post(self) -> None:
        """S13: a form of another site signs nobody out, with or without a token."""
        token = self.token(APP)
        for fields in (CROSS_SITE, ((b"Origin", b"https://evil.test"),), ()):
            self.assertEqual(self.post(APP, token, "everything", fields).status, 403)
        self.assertEqual(self.post(APP, "", "everything").status, 403)
        self.assertTrue(self.knows(APP))

    def test_token_of_another_session(self) -> None:
        """The form's token is for one session and for an hour."""
        self.assertEqual(self.post(APP, self.token(WIKI), "everything").status, 403)
        token = self.token(APP)
        self.rig.clock.advance(3601)
        self.assertEqual(self.post(APP, token, "everything").status, 403)

    def test_old_browser(self) -> None:
        """A browser without Fetch Metadata proves itself by its Origin."""
        self.assertEqual(
            self.post(
                APP, self.token(APP), "application", ((b"Origin", APP.encode()), (b"Accept", b"text/html"))
            ).status,
            200,
        )

    def test_nobody(self) -> None:
        """Signing out without a session says that one is signed out."""
        other = Browser(self.rig)
        self.assertIn(b"You are signed out", other.ask(APP + "/.appproxy/sign-out").body)
        answer = other.ask(APP + "/.appproxy/sign-out", method=b"POST", fields=SAME_ORIGIN, body=b"scope=everything")
        self.assertIn(b"You are signed out", answer.body)
        self.assertIn(b"You are signed out", other.ask(RELAY + "/.appproxy/signed-out?state=x").body)

    def test_provider_without_sign_out(self) -> None:
        """With a provider that has no sign-out, or is away, everything of ours still ends."""
        rig = Rig()
        del rig.idp.metadata["end_session_endpoint"]
        self.rig, self.browser = rig, Browser(rig)
        self.browser.walk(APP + "/")
        answer = self.post(APP, self.token(APP), "everything")
        self.assertEqual(answer.value("Location"), RELAY + "/.appproxy/signed-out")

    def test_provider_away(self) -> None:
        """A provider that was never reached since the start does not keep anybody signed in."""
        provider = self.rig.oidc.providers["main"]
        provider._metadata.value = None
        self.rig.clock.advance(4000)
        self.rig.idp.overrides["/.well-known/openid-configuration"] = ProviderUnreachable("down")  # type: ignore[assignment]
        answer = self.post(APP, self.token(APP), "everything")
        self.assertEqual(answer.value("Location"), RELAY + "/.appproxy/signed-out")
        self.assertFalse(self.knows(APP))

    def test_store_away(self) -> None:
        """When the store is away nobody is told to be signed out."""
        token = self.token(APP)
        self.rig.store.away = True
        for scope in ("application", "everything"):
            self.assertEqual(self.post(APP, token, scope).status, 503)
        self.rig.store.away = False
        self.assertTrue(self.knows(APP))

    def test_hostile_form(self) -> None:
        """What is no form of ours is 400, and a long one is not read."""
        for body, status in ((b"\xff=1", 400), (b"&".join(b"a=1" for _ in range(30)), 400), (b"a" * 20000, 413)):
            answer = self.browser.ask(APP + "/.appproxy/sign-out", method=b"POST", fields=SAME_ORIGIN, body=body)
            self.assertEqual(answer.status, status)
