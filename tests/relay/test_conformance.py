"""The OpenID Foundation's tests for relying parties, module by module, with a provider bent as each module says.

The table in ``docs/reference/conformance.rst`` has them all; a test below keeps it complete.  Each test walks from an
application's address through the provider and back, as a browser does.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.browser import RELAY, Browser, Rig
from tests.fakes.exchange import FETCHES, FakeExchange
from tests.fakes.idp import ISSUER, as_json, public_jwk, rsa_key

APP = "https://hr.example.test"
CALLBACK = RELAY + "/.appproxy/callback"
SAME_ORIGIN = ((b"Sec-Fetch-Site", b"same-origin"), (b"Sec-Fetch-Mode", b"navigate"), (b"Origin", b"null"))
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.rst"


class Plan(SynchronousTestCase):
    """A relay and its provider; what every plan needs."""

    __test__ = False
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.rig = Rig(**self.settings)
        self.idp = self.rig.idp
        self.browser = Browser(self.rig)

    def come_back(self, address: str) -> FakeExchange:
        """The provider's answer to an authorization request arrives, in the mode that was asked for."""
        asked = parse_qs(urlsplit(address).query)
        brought = self.idp.authorize(address)
        if asked.get("response_mode") != ["form_post"]:
            return self.browser.ask(f"{CALLBACK}?{urlencode(brought)}")
        posts = ((b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Site", b"cross-site"), (b"Origin", ISSUER.encode()))
        held = self.browser.jars.pop("proxy.example.test")
        answer = self.browser.ask(CALLBACK, method=b"POST", fields=posts, body=urlencode(brought).encode())
        self.browser.jars["proxy.example.test"] = held
        return self.browser.ask(answer.value("Location"))

    def sign_in(self) -> FakeExchange:
        """Somebody signs in; what they see in the end."""
        answer = self.come_back(self.browser.up_to(APP + "/leave", ISSUER + "/authorize"))
        return self.browser.walk(answer.value("Location")) if answer.value("Location") else answer

    def assertAccepted(self) -> None:
        """Signing in leads to the application."""
        answer = self.sign_in()
        self.assertEqual((answer.status, answer.body), (200, b"alice@example.test"))

    def assertRefused(self) -> None:
        """Signing in leads to an error page and no session."""
        answer = self.sign_in()
        self.assertEqual(answer.status, 502, answer.body)
        self.assertIn(b"token-refused", answer.body)
        self.assertEqual(self.browser.ask(APP + "/leave", fields=FETCHES).status, 401)

    def signs(self, make: Callable[[dict[str, Any]], str]) -> None:
        """ID tokens are made in this way."""
        self.idp.make_token = make


@pytest.mark.feature("AUTH-2")
class BasicPlan(Plan):
    """``oidcc-client-basic-certification-test-plan``."""

    __test__ = True

    def test_sign_in(self) -> None:
        """``oidcc-client-test``: an honest provider signs people in."""
        self.assertAccepted()

    def test_invalid_iss(self) -> None:
        """``oidcc-client-test-invalid-iss``: an ID token of another issuer."""
        self.idp.lie = {"iss": ISSUER + "/other"}
        self.assertRefused()

    def test_missing_sub(self) -> None:
        """``oidcc-client-test-missing-sub``: an ID token about nobody."""
        self.idp.lie = {"sub": None}
        self.assertRefused()

    def test_invalid_aud(self) -> None:
        """``oidcc-client-test-invalid-aud``: an ID token for somebody else."""
        self.idp.lie = {"aud": "relay-2"}
        self.assertRefused()

    def test_missing_iat(self) -> None:
        """``oidcc-client-test-missing-iat``: an ID token of no time."""
        self.idp.lie = {"iat": None}
        self.assertRefused()

    def test_kid_absent_single_jwks(self) -> None:
        """``oidcc-client-test-kid-absent-single-jwks``: no key id, and one key."""
        key = public_jwk("key-1")
        del key["kid"]
        self.idp.overrides["/jwks"] = as_json({"keys": [key]})
        self.signs(lambda claims: jwt.encode(claims, rsa_key("key-1"), "RS256"))
        self.assertAccepted()

    def test_kid_absent_multiple_jwks(self) -> None:
        """``oidcc-client-test-kid-absent-multiple-jwks``: no key id, and several keys, each of which is tried."""
        keys = [public_jwk(name) for name in ("key-2", "key-1")]
        for key in keys:
            del key["kid"]
        self.idp.overrides["/jwks"] = as_json({"keys": keys})
        self.signs(lambda claims: jwt.encode(claims, rsa_key("key-1"), "RS256"))
        self.assertAccepted()

    def test_idtoken_sig_rs256(self) -> None:
        """``oidcc-client-test-idtoken-sig-rs256``: RS256, which is taken unless others are configured."""
        self.signs(lambda claims: jwt.encode(claims, rsa_key("key-1"), "RS256", headers={"kid": "key-1"}))
        self.assertAccepted()

    def test_idtoken_sig_none(self) -> None:
        """``oidcc-client-test-idtoken-sig-none``: no signature."""

        def unsigned(claims: dict[str, Any]) -> str:
            parts = (b'{"alg":"none"}', json.dumps(claims).encode(), b"")
            return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)

        self.signs(unsigned)
        self.assertRefused()

    def test_invalid_sig_rs256(self) -> None:
        """``oidcc-client-test-invalid-sig-rs256``: a signature that the published key did not make."""
        self.signs(lambda claims: jwt.encode(claims, rsa_key("key-2"), "RS256", headers={"kid": "key-1"}))
        self.assertRefused()

    def test_userinfo_invalid_sub(self) -> None:
        """``oidcc-client-test-userinfo-invalid-sub``: user information about somebody else."""
        self.idp.userinfo["sub"] = "u-2"
        self.assertRefused()

    def test_nonce_invalid(self) -> None:
        """``oidcc-client-test-nonce-invalid``: an ID token for another request."""
        self.idp.lie = {"nonce": "other"}
        self.assertRefused()

    def test_scope_userinfo_claims(self) -> None:
        """``oidcc-client-test-scope-userinfo-claims``: claims are asked for by scopes, and user information counts."""
        address = self.browser.up_to(APP + "/leave", ISSUER + "/authorize")
        self.assertEqual(parse_qs(urlsplit(address).query)["scope"], ["openid profile email"])
        self.idp.userinfo |= {"preferred_username": "alice@example.test", "email": "a@example.test"}
        del self.idp.claims["preferred_username"]
        self.assertAccepted()

    def test_client_secret_basic(self) -> None:
        """``oidcc-client-test-client-secret-basic``: the secret goes with the code in the Authorization field."""
        self.assertAccepted()
        [headers] = [headers for _, url, headers, _ in self.idp.requests if url.endswith("/token")]
        self.assertEqual(b64decode(headers["Authorization"].removeprefix("Basic ")), b"relay:s3cret%2F%2B")


class FormPostPlan(BasicPlan):
    """``oidcc-client-formpost-basic-certification-test-plan``: the same modules, answered in a form."""

    settings = {"response_mode": "form_post"}


@pytest.mark.feature("AUTH-2")
class ConfigPlan(Plan):
    """``oidcc-client-config-certification-test-plan``."""

    __test__ = True

    def test_discovery_openid_config(self) -> None:
        """``oidcc-client-test-discovery-openid-config``: endpoints are those of the metadata."""
        moved = {
            name: url.replace("/authorize", "/a").replace("/token", "/t") for name, url in _urls(self.idp.metadata)
        }
        self.idp.metadata |= moved
        self.assertTrue(self.browser.up_to(APP + "/", ISSUER).startswith(ISSUER + "/a?"))
        self.assertEqual(self.idp.count("/.well-known/openid-configuration"), 1)

    def test_discovery_jwks_uri_keys(self) -> None:
        """``oidcc-client-test-discovery-jwks-uri-keys``: keys are read from where the metadata say."""
        self.assertAccepted()
        self.assertEqual(self.idp.count("/jwks"), 1)

    def test_discovery_issuer_mismatch(self) -> None:
        """``oidcc-client-test-discovery-issuer-mismatch``: with metadata of another issuer nobody is sent anywhere."""
        self.idp.metadata["issuer"] = ISSUER + "/other"
        url = self.browser.ask(APP + "/").value("Location")
        answer = self.browser.ask(url)
        self.assertEqual((answer.status, answer.value("Location")), (502, ""))
        self.assertIn(b"provider-misconfigured", answer.body)

    def test_idtoken_sig_none(self) -> None:
        """``oidcc-client-test-idtoken-sig-none``: no signature, whatever the metadata offer."""
        self.idp.metadata["id_token_signing_alg_values_supported"] = ["none"]
        BasicPlan.test_idtoken_sig_none(self)  # type: ignore[arg-type]

    def test_signing_key_rotation_just_before_signing(self) -> None:
        """``oidcc-client-test-signing-key-rotation-just-before-signing``: a new key signs the very first token."""
        address = self.browser.up_to(APP + "/", ISSUER + "/authorize")
        self.idp.keys, self.idp.signs_with = ["key-2"], "key-2"
        self.assertEqual(self.come_back(address).status, 302)

    def test_signing_key_rotation(self) -> None:
        """``oidcc-client-test-signing-key-rotation``: a new key signs the second token, after one more look."""
        self.assertAccepted()
        self.idp.keys, self.idp.signs_with = ["key-2"], "key-2"
        self.browser = Browser(self.rig)
        self.assertAccepted()
        self.assertEqual(self.idp.count("/jwks"), 2)


@pytest.mark.feature("AUTH-5")
class RefreshPlan(Plan):
    """``oidcc-client-refreshtoken-test-plan``."""

    __test__ = True

    def setUp(self) -> None:
        super().setUp()
        self.idp.refreshes = True
        self.assertAccepted()
        self.rig.clock.advance(300)

    def knows(self) -> bool:
        """Whether the person is still signed in."""
        return self.browser.ask(APP + "/leave").status == 200

    def test_refresh_token(self) -> None:
        """``oidcc-client-test-refresh-token``: the refresh token is used, and what it brings."""
        self.assertTrue(self.knows())
        self.assertEqual(self.idp.count("/token"), 2)

    def test_refresh_token_invalid_issuer(self) -> None:
        """``oidcc-client-test-refresh-token-invalid-issuer``: the refreshed ID token is another issuer's."""
        self.idp.lie = {"iss": ISSUER + "/other"}
        self.assertFalse(self.knows())

    def test_refresh_token_invalid_sub(self) -> None:
        """``oidcc-client-test-refresh-token-invalid-sub``: the refreshed ID token is about somebody else."""
        self.idp.lie = {"sub": "u-2"}
        self.idp.userinfo["sub"] = "u-2"
        self.assertFalse(self.knows())


class LogoutPlan(Plan):
    """Signing out, as all logout plans begin."""

    def sign_out(self) -> dict[str, str]:
        """Sign in, then sign out of everything; what the provider is told."""
        self.assertAccepted()
        page = self.browser.ask(APP + "/.appproxy/sign-out").body
        token = re.findall(rb'name="token" value="([^"]+)"', page)[0].decode()
        body = urlencode({"token": token, "scope": "everything"}).encode()
        answer = self.browser.ask(APP + "/.appproxy/sign-out", method=b"POST", fields=SAME_ORIGIN, body=body)
        address, _, query = answer.value("Location").partition("?")
        self.assertEqual((answer.status, address), (303, ISSUER + "/logout"))
        self.assertEqual(self.browser.ask(APP + "/leave", fields=FETCHES).status, 401)
        return {name: values[0] for name, values in parse_qs(query).items()}

    def assertSignedOut(self, **parameters: str) -> None:
        """The provider sends the browser back, and it is told that it is signed out."""
        address = RELAY + "/.appproxy/signed-out"
        answer = self.browser.ask(f"{address}?{urlencode(parameters)}" if parameters else address)
        self.assertEqual(answer.status, 200)
        self.assertIn(b"signed out", answer.body)
        self.assertEqual(self.browser.ask(APP + "/leave", fields=FETCHES).status, 401)


@pytest.mark.feature("AUTH-6")
class RPInitiatedLogoutPlan(LogoutPlan):
    """``oidcc-client-rp-initiated-logout-rp-basic``."""

    __test__ = True

    def test_rp_init_logout(self) -> None:
        """``oidcc-client-test-rp-init-logout``: the provider gets hint, return address and state."""
        asked = self.sign_out()
        self.assertEqual(asked["post_logout_redirect_uri"], RELAY + "/.appproxy/signed-out")
        self.assertEqual(asked["id_token_hint"].count("."), 2)
        self.assertSignedOut(state=asked["state"])

    def test_rp_init_logout_other_state(self) -> None:
        """``oidcc-client-test-rp-init-logout-other-state``: nothing depends on what comes back."""
        self.sign_out()
        self.assertSignedOut(state="other")

    def test_rp_init_logout_no_state(self) -> None:
        """``oidcc-client-test-rp-init-logout-no-state``: nor on that anything does."""
        self.sign_out()
        self.assertSignedOut()


@pytest.mark.feature("AUTH-6")
class BackChannelLogoutPlan(LogoutPlan):
    """``oidcc-client-back-channel-logout-rp-basic``: the provider's notice comes while the browser is on its way."""

    __test__ = True

    def notice(self, headers: dict[str, Any] | None = None, **claims: Any) -> int:
        """How the notice is answered."""
        self.sign_out()
        body = urlencode({"logout_token": self.idp.logout_token(headers, **claims)}).encode()
        fields = ((b"Content-Type", b"application/x-www-form-urlencoded"),)
        answer = Browser(self.rig).ask(
            RELAY + "/.appproxy/back-channel-logout", method=b"POST", fields=fields, body=body
        )
        self.assertEqual(answer.value("Cache-Control"), "no-store")
        self.assertSignedOut()
        return answer.status

    def test_rp_backchannel_rpinitlogout(self) -> None:
        """``oidcc-client-test-rp-backchannel-rpinitlogout``: an honest notice, though the session has ended already."""
        self.assertEqual(self.notice(sub="u-1"), 200)

    def test_rp_backchannel_rpinitlogout_alg_none(self) -> None:
        """``…-alg-none``: no signature."""
        self.assertEqual(self.notice({"alg": "none"}), 400)

    def test_rp_backchannel_rpinitlogout_no_event(self) -> None:
        """``…-no-event``: about no logout."""
        self.assertEqual(self.notice(events=None), 400)

    def test_rp_backchannel_rpinitlogout_with_nonce(self) -> None:
        """``…-with-nonce``: an ID token in disguise."""
        self.assertEqual(self.notice(nonce="n"), 400)

    def test_rp_backchannel_rpinitlogout_wrong_alg(self) -> None:
        """``…-wrong-alg``: an algorithm that is not configured."""
        self.assertEqual(self.notice({"alg": "PS256"}), 400)

    def test_rp_backchannel_rpinitlogout_wrong_aud(self) -> None:
        """``…-wrong-aud``: for somebody else."""
        self.assertEqual(self.notice(aud="relay-2"), 400)

    def test_rp_backchannel_rpinitlogout_wrong_event(self) -> None:
        """``…-wrong-event``: about something else."""
        self.assertEqual(self.notice(events={"http://schemas.openid.net/event/other": {}}), 400)

    def test_rp_backchannel_rpinitlogout_wrong_iss(self) -> None:
        """``…-wrong-iss``: of another issuer."""
        self.assertEqual(self.notice(iss=ISSUER + "/other"), 400)


@pytest.mark.feature("AUTH-6")
class FrontChannelLogoutPlan(LogoutPlan):
    """``oidcc-client-front-channel-logout-rp-basic``."""

    __test__ = True

    def test_rp_frontchannel_rpinitlogout(self) -> None:
        """``oidcc-client-test-rp-frontchannel-rpinitlogout``: a frame names issuer and session."""
        self.sign_out()
        query = urlencode({"iss": ISSUER, "sid": "sid-1"})
        self.assertEqual(self.browser.ask(f"{RELAY}/.appproxy/front-channel-logout?{query}").status, 200)
        self.assertSignedOut()


def _urls(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in metadata.items() if name.endswith("_endpoint")]


PLANS = {
    "oidcc-client-basic-certification-test-plan": BasicPlan,
    "oidcc-client-formpost-basic-certification-test-plan": FormPostPlan,
    "oidcc-client-config-certification-test-plan": ConfigPlan,
    "oidcc-client-refreshtoken-test-plan": RefreshPlan,
    "oidcc-client-rp-initiated-logout-rp-basic": RPInitiatedLogoutPlan,
    "oidcc-client-back-channel-logout-rp-basic": BackChannelLogoutPlan,
    "oidcc-client-front-channel-logout-rp-basic": FrontChannelLogoutPlan,
}


class PageTest(SynchronousTestCase):
    """``docs/reference/conformance.rst``."""

    def test_every_module_has_its_test(self) -> None:
        """The page has a table for each plan, and in it each module with the test that is here, and no other."""
        parts = re.split(r"^(oidcc-client-\S+)\n-+\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
        documented = {
            plan: dict(re.findall(r"\* - ``(oidcc-client-test\S*)``\n     - [^\n]+\n     - ``(test_\w+)``", text))
            for plan, text in zip(parts[::2], parts[1::2], strict=True)
        }
        self.assertEqual(sorted(documented), sorted(PLANS))
        for plan, kind in PLANS.items():
            here = sorted(name for name in dir(kind) if name.startswith("test_"))
            self.assertEqual(sorted(documented[plan].values()), here, plan)
            for module, name in documented[plan].items():
                shown = name.removeprefix("test_").replace("_", "-")
                self.assertIn(module, ("oidcc-client-test-" + shown, "oidcc-client-test"))
