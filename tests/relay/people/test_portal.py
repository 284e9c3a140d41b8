"""The relay's front page."""

from __future__ import annotations

import re

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned, Segment, Translate
from tests.fakes.browser import HR, RELAY, WIKI, Browser, Rig
from tests.fakes.exchange import FETCHES, FakeExchange

EVERYONE = Assigned(everyone=True)


def published(id: str, external_url: str, **more: object) -> Application:
    """An application for everyone."""
    return Application(
        id=id, external_url=external_url, internal_url="http://x.test/", connector_group="hq", assigned=EVERYONE, **more
    )


class PortalTest(SynchronousTestCase):
    """What the portal lists, and for whom."""

    def test_lists_what_the_policy_allows(self) -> None:
        """POL-1: a person sees the applications that are assigned to them, each with its home page."""
        rig = Rig()
        body = Browser(rig).walk(RELAY + "/").body.decode()
        self.assertIn('href="https://hr.example.test/start/"', body)
        self.assertIn("HR portal", body)
        self.assertIn("alice@example.test", body)
        self.assertNotIn("wiki", body)

    test_lists_what_the_policy_allows = pytest.mark.feature("ADM-1", "POL-1")(test_lists_what_the_policy_allows)

    def test_leaves_out(self) -> None:
        """What is disabled, open to all without sign-in, or has no one address is not listed."""
        rig = Rig(
            published("off", "https://off.example.test/", enabled=False),
            published("open", "https://open.example.test/", preauthentication="passthrough"),
            published("wild", "https://*.example.test/"),
            published("other", "https://other.example.test/", provider="elsewhere"),
        )
        self.assertIn(b"Nothing is assigned to you", Browser(rig).walk(RELAY + "/").body)

    @pytest.mark.feature("PUB-5", "PUB-6", "PUB-7")
    def test_addresses(self) -> None:
        """The first address that is one, with the home page below its root; the alternate one where links lead."""
        first = Segment(external_url="https://*.x.example.test/", internal_url="http://x.test/")
        second = Segment(external_url="https://x.example.test/a/", internal_url="http://x.test/")
        more = {"connector_group": "hq", "assigned": EVERYONE, "home_page": "home?x=1"}
        rig = Rig(
            Application(id="several", segment=(first, second), **more),
            Application(id="nothing", segment=(), **{**more, "home_page": ""}),
            published("kept", "https://kept.example.test/", alternate_url="https://one.example.test/"),
            published(
                "shown",
                "https://shown.example.test/",
                alternate_url="https://all.example.test/",
                translate=Translate(alternate_url=True),
            ),
        )
        body = Browser(rig).walk(RELAY + "/").body.decode()
        self.assertEqual(
            re.findall(r'<li><a href="([^"]*)"', body),
            ["https://kept.example.test/", "https://x.example.test/a/home?x=1", "https://all.example.test/"],
        )

    def test_names_are_escaped(self) -> None:
        """An application's name is text, whatever is in it."""
        rig = Rig(published("x", "https://x.example.test/", name='<b onclick="x">&'))
        self.assertIn(b"<b>&lt;b onclick=&#34;x&#34;&gt;&amp;</b>", Browser(rig).walk(RELAY + "/").body)

    def test_several_providers(self) -> None:
        """With several providers a person chooses; each keeps a session of its own at the relay."""
        rig = Rig()
        second = Rig().provider
        second.id = "second"
        rig.oidc.providers = {"main": rig.provider, "second": second}
        body = Browser(rig).ask(RELAY + "/").body
        self.assertIn(b'href="/.appproxy/sign-in?provider=second"', body)
        self.assertEqual(rig.oidc.root_cookie("main"), b"__Host-appproxy-session")
        self.assertEqual(rig.oidc.root_cookie("second"), b"__Host-appproxy-session-second")

    def test_no_provider(self) -> None:
        """A relay without any provider says so."""
        rig = Rig()
        rig.oidc.providers = {}
        self.assertIn(b"No identity provider is set up", Browser(rig).ask(RELAY + "/").body)

    def test_not_for_scripts(self) -> None:
        """A script without session gets 401, other addresses 404, other methods 405."""
        browser = Browser(Rig())
        self.assertEqual(browser.ask(RELAY + "/", fields=FETCHES).status, 401)
        self.assertEqual(browser.ask(RELAY + "/x").status, 404)
        self.assertEqual(browser.ask(RELAY + "/", method=b"POST").status, 405)

    def test_store_away(self) -> None:
        """While the store is away the portal says so."""
        rig = Rig()
        browser = Browser(rig)
        browser.walk(RELAY + "/")
        rig.clock.advance(1000)
        rig.store.away = True
        self.assertEqual(browser.ask(RELAY + "/").status, 503)

    def test_session_of_an_application_is_no_session_of_the_relay(self) -> None:
        """S04: the cookie of an application's host opens nothing at the relay, nor the other way round."""
        rig = Rig()
        browser = Browser(rig)
        browser.walk("https://hr.example.test/")
        hr, relay = (dict(browser.jars[host]) for host in ("hr.example.test", "proxy.example.test"))
        browser.jars = {"hr.example.test": relay, "proxy.example.test": hr, "wiki.example.test": hr}
        for url in (RELAY + "/", "https://hr.example.test/", "https://wiki.example.test/"):
            self.assertEqual(browser.ask(url).status, 302)

    def test_changed_provider(self) -> None:
        """A session from a provider that an application no longer uses is not accepted for it."""
        rig = Rig()
        browser = Browser(rig)
        browser.walk("https://hr.example.test/")
        moved = msgspec.structs.replace(HR, provider="elsewhere")
        cookies = {k.encode(): [v.encode()] for k, v in browser.jars["hr.example.test"].items()}
        exchange = FakeExchange("https://hr.example.test/", cookies=cookies)
        self.assertIsNone(rig.oidc.peek(exchange, moved))
        self.assertIsNotNone(rig.oidc.peek(exchange, HR))
        self.assertIsNotNone(rig.oidc.peek(exchange, WIKI))
