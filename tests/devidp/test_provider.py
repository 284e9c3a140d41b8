"""The development identity provider, asked by the relay's own relying party and by hand."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from itertools import count
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config.provider import ProviderConfig
from appproxy.devidp.provider import COOKIE, Answer, DevelopmentProvider, Request
from appproxy.devidp.users import Client, User, UsersFile
from appproxy.relay.preauth.attempts import Attempt
from appproxy.relay.preauth.failures import SignInDeclined, SignInEnded
from appproxy.relay.preauth.fetching import FetchedAnswer
from appproxy.relay.preauth.provider import Provider, SignedIn
from tests.fakes.idp import rsa_key

ISSUER = "http://localhost:8400"
BACK = "https://proxy.localhost/cb"
AFTER = "https://proxy.localhost/out"
USERS = UsersFile(
    (User("alice", "wonder", ("hr",), {"email": "a@example.com"}),),
    (Client("relay", "s+/", (BACK,), (AFTER,)), Client("other", "o", ("https://other.test/cb",))),
)
ATTEMPT = Attempt(b"", "n-1", "v" * 43, "main", 0)


class DevelopmentProviderTest(SynchronousTestCase):
    """One browser, one relying party."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        numbers = count()
        self.idp = DevelopmentProvider(ISSUER, USERS, rsa_key("key-1"), self.epoch, lambda: f"random-{next(numbers)}")
        config = ProviderConfig(id="dev", issuer=ISSUER, client_id="relay", client_secret="s+/", allow_http=True)
        self.party = Provider(config, self.fetch, self.clock.seconds, self.epoch)
        self.cookie = ""

    def epoch(self) -> int:
        """Now."""
        return int(self.clock.seconds())

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit_bytes: int, timeout_seconds: float
    ) -> FetchedAnswer:
        """The relying party's way."""
        parts = urlsplit(url)
        form = dict(parse_qsl(body.decode()))
        query = dict(parse_qsl(parts.query))
        answer = self.idp.respond(Request(method, parts.path, query, form, headers.get("Authorization", "")))
        return FetchedAnswer(answer.status, dict(answer.fields), answer.body)

    def browse(self, url: str, form: dict[str, str] | None = None) -> Answer:
        """The browser's way: GET, or POST with a form."""
        parts = urlsplit(url)
        method = "GET" if form is None else "POST"
        answer = self.idp.respond(
            Request(method, parts.path, dict(parse_qsl(parts.query)), form or {}, "", self.cookie)
        )
        for name, value in answer.fields:
            if name == "Set-Cookie":
                self.cookie = value.partition(";")[0]
        return answer

    def address(self, **changes: str) -> str:
        """Where the relying party sends people."""
        whole = self.successResultOf(
            self.party.authorization_address(redirect_uri=BACK, state="s-1", nonce="n-1", challenge=ATTEMPT.challenge)
        )
        base, _, query = whole.partition("?")
        return f"{base}?{urlencode({k: v for k, v in {**dict(parse_qsl(query)), **changes}.items() if v})}"

    def sign_in(self, password: str = "wonder", **changes: str) -> Answer:
        """Fill in the page."""
        found = re.search(rb'name="request" value="([^"]+)"', self.browse(self.address(**changes)).body)
        assert found is not None
        form = {"request": found[1].decode(), "username": "alice", "password": password}
        return self.browse(ISSUER + "/sign-in", form)

    def back(self, answer: Answer) -> dict[str, str]:
        """What the browser brings back."""
        self.assertEqual(answer.status, 303)
        address, _, query = dict(answer.fields)["Location"].partition("?")
        self.assertEqual(address, BACK)
        return dict(parse_qsl(query))

    def redeem(self, code: str) -> SignedIn:
        """The relying party's part."""
        return self.successResultOf(self.party.redeem(code, ATTEMPT.verifier, BACK, "n-1"))

    @pytest.mark.feature("AUTH-14", "AUTH-6")
    def test_front_channel_logout(self) -> None:
        """Clients with an address for it hear of a sign-out in a frame, and the person comes back afterwards."""
        told = "https://proxy.localhost/front?x=1"
        client = Client("relay", "s+/", (BACK,), (AFTER,), told)
        numbers = count()
        self.idp = DevelopmentProvider(
            ISSUER, UsersFile(USERS.user, (client,)), rsa_key("key-1"), self.epoch, lambda: f"random-{next(numbers)}"
        )
        signed_in = self.redeem(self.back(self.sign_in())["code"])
        query = {"id_token_hint": signed_in.id_token, "post_logout_redirect_uri": AFTER, "state": "s"}
        answer = self.browse(f"{ISSUER}/logout?{urlencode(query)}")
        page = answer.body.decode().replace("&amp;", "&")
        frame = f"{told}&{urlencode({'iss': ISSUER, 'sid': signed_in.provider_session})}"
        self.assertIn(f'<iframe src="{frame}"', page)
        self.assertIn(f"url={AFTER}?state=s", page)
        self.assertIn("frame-src https://proxy.localhost", dict(answer.fields)["Content-Security-Policy"])

    @pytest.mark.feature("AUTH-14", "AUTH-5")
    def test_refresh(self) -> None:
        """With ``offline_access`` a sign-in is refreshed by tokens that work once, until its browser signs out here."""
        scope = "openid profile email offline_access"
        first = self.redeem(self.back(self.sign_in(scope=scope))["code"])
        self.clock.advance(240)
        second = self.successResultOf(self.party.refresh(first.refresh_token, first.id_token))
        self.assertEqual(second.identity.user, "alice")
        self.failureResultOf(self.party.refresh(first.refresh_token, first.id_token), SignInEnded)
        self.browse(f"{ISSUER}/logout?{urlencode({'id_token_hint': second.id_token})}")
        self.failureResultOf(self.party.refresh(second.refresh_token, second.id_token), SignInEnded)

    def test_no_refresh(self) -> None:
        """Who does not ask for it gets no refresh token, and made-up ones are worth nothing."""
        first = self.redeem(self.back(self.sign_in())["code"])
        self.assertEqual(first.refresh_token, "")
        self.failureResultOf(self.party.refresh("made-up", first.id_token), SignInEnded)

    @pytest.mark.feature("AUTH-14", "AUTH-2")
    def test_sign_in(self) -> None:
        """A relay signs people in with it as with any provider; nothing is relaxed."""
        brought = self.back(self.sign_in())
        self.assertEqual((brought["state"], brought["iss"]), ("s-1", ISSUER))
        identity = self.redeem(brought["code"]).identity
        self.assertEqual((identity.user, identity.groups, identity.subject), ("alice", ("hr",), "alice"))
        self.assertEqual(identity.claims["email"], "a@example.com")

    def test_banner(self) -> None:
        """Every page says loudly that this is for development."""
        for url in (ISSUER + "/", self.address(), ISSUER + "/nowhere", ISSUER + "/logout"):
            self.assertIn(b"DEVELOPMENT identity provider", self.browse(url).body)

    def test_wrong_password(self) -> None:
        """A wrong password shows the page again, and the page works."""
        answer = self.sign_in("wrong")
        self.assertEqual(answer.status, 401)
        self.assertIn(b"do not belong together", answer.body)
        found = re.search(rb'name="request" value="([^"]+)"', answer.body)
        assert found is not None
        form = {"request": found[1].decode(), "username": "alice", "password": "wonder"}
        self.back(self.browse(ISSUER + "/sign-in", form))
        self.assertEqual(self.browse(ISSUER + "/sign-in", form).status, 400)

    def test_names_are_escaped(self) -> None:
        """What the address says is text on the page."""
        self.assertIn(b'value="&#34;&gt;&lt;b&gt;"', self.browse(self.address(login_hint='"><b>')).body)

    def test_unknown_client(self) -> None:
        """An address that is not registered, letter by letter, is never redirected to."""
        for changes in (
            {"redirect_uri": BACK + "/"},
            {"redirect_uri": "https://evil.test/"},
            {"client_id": "other"},
            {"client_id": "nobody"},
            {"redirect_uri": ""},
        ):
            self.assertEqual(self.browse(self.address(**changes)).status, 400, changes)

    def test_bad_requests(self) -> None:
        """PKCE is demanded, and what is not supported is told by its code."""
        for changes, error in (
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"response_mode": "form_post"}, "invalid_request"),
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"scope": "profile"}, "invalid_scope"),
            ({"request": "x"}, "request_not_supported"),
            ({"prompt": "none"}, "login_required"),
        ):
            self.assertEqual(self.back(self.browse(self.address(**changes)))["error"], error)

    def test_signed_in_once(self) -> None:
        """Who has signed in is not asked again, unless the relying party wants it."""
        self.sign_in()
        self.assertTrue(self.cookie.startswith(COOKIE + "="))
        self.assertIn("code", self.back(self.browse(self.address())))
        self.assertIn("code", self.back(self.browse(self.address(prompt="none"))))
        self.clock.advance(100)
        self.assertIn("code", self.back(self.browse(self.address(max_age="100"))))
        for changes in ({"prompt": "login"}, {"max_age": "99"}):
            self.assertEqual(self.browse(self.address(**changes)).status, 200)

    def test_codes(self) -> None:
        """A code works once, for a minute, with its verifier, address and client."""
        code = self.back(self.sign_in())["code"]
        self.redeem(code)
        for verifier, address, used in (
            (ATTEMPT.verifier, BACK, code),
            ("w" * 43, BACK, self.back(self.browse(self.address()))["code"]),
            (ATTEMPT.verifier, AFTER, self.back(self.browse(self.address()))["code"]),
        ):
            self.failureResultOf(self.party.redeem(used, verifier, address, "n-1"), SignInDeclined)
        late = self.back(self.browse(self.address()))["code"]
        self.clock.advance(60)
        self.failureResultOf(self.party.redeem(late, ATTEMPT.verifier, BACK, "n-1"), SignInDeclined)
        form = {"grant_type": "authorization_code", "code": self.back(self.browse(self.address()))["code"]}
        form |= {"redirect_uri": BACK, "code_verifier": ATTEMPT.verifier, "client_id": "other", "client_secret": "o"}
        self.assertEqual(self.idp.respond(Request("POST", "/token", {}, form)).status, 400)

    def test_client_authentication(self) -> None:
        """Both ways to tell the secret work; a wrong or missing one is refused."""
        right = {"client_id": "relay", "client_secret": "s+/"}
        self.assertEqual(self.idp.respond(Request("POST", "/token", {}, right)).status, 400)
        for form in ({}, {"client_id": "relay"}, {**right, "client_secret": "s"}, {**right, "client_id": "x"}):
            self.assertEqual(self.idp.respond(Request("POST", "/token", {}, form)).status, 401)
        for pair, status in ((b"relay:s%2B%2F", 400), (b"relay:s", 401), (b"\xff", 401)):
            basic = "Basic " + b64encode(pair).decode()
            self.assertEqual(self.idp.respond(Request("POST", "/token", {}, {}, basic)).status, status)
        self.assertEqual(self.idp.respond(Request("POST", "/token", {}, {}, "Basic é")).status, 401)

    def test_user_information(self) -> None:
        """User information is for the holder of a live access token."""
        form = {"grant_type": "authorization_code", "code": self.back(self.sign_in())["code"], "redirect_uri": BACK}
        form |= {"code_verifier": ATTEMPT.verifier, "client_id": "relay", "client_secret": "s+/"}
        token = json.loads(self.idp.respond(Request("POST", "/token", {}, form)).body)["access_token"]
        ask = Request("GET", "/userinfo", authorization=f"Bearer {token}")
        self.assertEqual(json.loads(self.idp.respond(ask).body)["sub"], "alice")
        self.clock.advance(300)
        self.assertEqual(self.idp.respond(ask).status, 401)
        self.assertEqual(self.idp.respond(Request("GET", "/userinfo")).status, 401)

    @pytest.mark.feature("AUTH-6")
    def test_sign_out(self) -> None:
        """With the ID token as a hint sign-out is done at once and leads back, to a registered address only."""
        hint = self.redeem(self.back(self.sign_in())["code"]).id_token
        address = self.successResultOf(
            self.party.end_session_address(id_token_hint=hint, post_logout_redirect_uri=AFTER, state="x")
        )
        answer = self.browse(address)
        self.assertEqual(dict(answer.fields)["Location"], AFTER + "?state=x")
        self.assertEqual(self.browse(self.address()).status, 200)
        self.assertEqual(self.browse(address.replace("%2Fout", "%2Felsewhere")).status, 200)

    def test_sign_out_without_hint(self) -> None:
        """Without a hint, or with somebody else's, the person is asked."""
        self.sign_in()
        answer = self.browse(f"{ISSUER}/logout?{urlencode({'client_id': 'relay', 'state': 'x'})}")
        self.assertIn(b"<button>Sign out</button>", answer.body)
        self.assertIn(b'name="client_id" value="relay"', answer.body)
        self.assertEqual(self.browse(self.address()).status, 303)
        self.assertIn(b"Signed out", self.browse(ISSUER + "/logout", {"client_id": "relay"}).body)
        self.assertEqual(self.browse(self.address()).status, 200)
