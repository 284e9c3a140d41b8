"""A relying party's dealings with its provider."""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config.provider import ProviderConfig
from appproxy.identity import Identity
from appproxy.relay.preauth.attempts import Attempt
from appproxy.relay.preauth.failures import (
    IdentityRefused,
    ProviderMisconfigured,
    ProviderUnreachable,
    SignInDeclined,
    SignInEnded,
    SignInFailed,
    TokenRefused,
)
from appproxy.relay.preauth.fetching import FetchedAnswer
from appproxy.relay.preauth.provider import Provider, SignedIn, TokenAnswer, with_query
from tests.fakes.idp import ISSUER, FakeProvider, as_json

EPOCH = 1_800_000_000
ATTEMPT = Attempt(b"", "n-1", "v" * 43, "main", 0)
REDIRECT = "https://proxy.example.test/.appproxy/callback"


class ProviderTest(SynchronousTestCase):
    """One provider in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.idp = FakeProvider(lambda: EPOCH)
        self.provider = self.configure()

    def configure(self, **changes: Any) -> Provider:
        """The provider, configured."""
        settings = {"id": "main", "issuer": ISSUER, "client_id": "relay", "client_secret": "s3cret/+", **changes}
        return Provider(ProviderConfig(**settings), self.idp.fetch, self.clock.seconds, lambda: EPOCH)

    def code(self) -> str:
        """Somebody signs in; the code that they bring."""
        address = self.successResultOf(
            self.provider.authorization_address(
                redirect_uri=REDIRECT, state="s-1", nonce="n-1", challenge=ATTEMPT.challenge
            )
        )
        return self.idp.authorize(address)["code"]

    def redeem(self) -> SignedIn:
        """A sign-in that goes well."""
        return self.successResultOf(self.provider.redeem(self.code(), ATTEMPT.verifier, REDIRECT, "n-1"))

    def assertRefused(self, kind: type[SignInFailed], why: str = "") -> None:
        """A sign-in that fails in this way."""
        failure = self.failureResultOf(self.provider.redeem(self.code(), ATTEMPT.verifier, REDIRECT, "n-1"), kind)
        self.assertIn(why, failure.value.detail)

    @pytest.mark.feature("AUTH-2")
    def test_sign_in(self) -> None:
        """Who signed in is known with the claims of both sources, and what sign-out needs is kept."""
        signed_in = self.redeem()
        self.assertEqual(
            signed_in.identity,
            Identity(
                issuer=ISSUER,
                subject="u-1",
                user="alice@example.test",
                groups=("staff",),
                claims=signed_in.identity.claims,
                authenticated_at=EPOCH,
            ),
        )
        self.assertEqual(signed_in.provider_session, "sid-1")
        self.assertEqual(signed_in.id_token.count("."), 2)

    def test_authentication_time(self) -> None:
        """The time of the real authentication counts; providers write it as a fraction, too."""
        self.idp.claims["auth_time"] = EPOCH - 100.5
        self.assertEqual(self.redeem().identity.authenticated_at, EPOCH - 101)

    def test_client_authentication(self) -> None:
        """The secret goes the way the provider supports, encoded as the standard says; a public client has none."""
        self.redeem()
        headers = next(h for _, url, h, _ in self.idp.requests if url.endswith("/token"))
        self.assertEqual(b64decode(headers["Authorization"].split()[1]), b"relay:s3cret%2F%2B")
        self.idp.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
        for provider, secret in ((self.configure(), ["s3cret/+"]), (self.configure(client_secret=""), None)):
            self.idp.requests.clear()
            self.failureResultOf(provider.redeem("c", "v", REDIRECT, "n"), SignInDeclined)
            [(headers, body)] = [(h, b) for _, url, h, b in self.idp.requests if url.endswith("/token")]
            self.assertNotIn("Authorization", headers)
            form = parse_qs(body.decode())
            self.assertEqual((form["client_id"], form.get("client_secret")), (["relay"], secret))

    @pytest.mark.feature("AUTH-2")
    def test_wrong_issuer_stops_before_any_redirect(self) -> None:
        """A28: with metadata of another issuer nobody is sent anywhere."""
        self.idp.metadata["issuer"] = ISSUER + ".evil"
        asked = self.provider.authorization_address(redirect_uri=REDIRECT, state="s", nonce="n", challenge="c")
        self.failureResultOf(asked, ProviderMisconfigured)

    def test_metadata_are_kept(self) -> None:
        """The document is read once an hour; in an outage the last good one serves."""
        self.redeem()
        self.redeem()
        self.assertEqual(self.idp.count("/.well-known/openid-configuration"), 1)
        self.clock.advance(3600)
        self.idp.overrides["/.well-known/openid-configuration"] = FetchedAnswer(500, {}, b"")
        self.redeem()
        self.assertEqual(self.idp.count("/.well-known/openid-configuration"), 2)

    def test_token_answers(self) -> None:
        """A30: HTML, 30 MB, errors and other token types instead of tokens are failures with a name."""
        honest = {"access_token": "a", "token_type": "Bearer", "id_token": "x"}
        for answer, kind in (
            (FetchedAnswer(200, {}, b"<html>"), ProviderUnreachable),
            (FetchedAnswer(200, {}, b"\xff"), ProviderUnreachable),
            (FetchedAnswer(200, {}, bytes(30_000_000)), ProviderUnreachable),
            (FetchedAnswer(302, {"location": "https://evil.test"}, b""), ProviderUnreachable),
            (as_json({**honest, "id_token": None}), ProviderUnreachable),
            (as_json({**honest, "token_type": "mac"}), TokenRefused),
            (as_json({**honest}), TokenRefused),
            (as_json({"error": "invalid_grant"}, 400), SignInDeclined),
            (as_json({"error": "<script>"}, 401), SignInDeclined),
            (FetchedAnswer(400, {}, b"no JSON"), SignInDeclined),
        ):
            self.idp.overrides["/token"] = answer
            self.assertRefused(kind)

    @pytest.mark.feature("AUTH-2")
    def test_user_information(self) -> None:
        """A31: user information about somebody else ends the sign-in; a provider may have none."""
        for subject in ("u-2", None, "", 1):
            self.idp.userinfo = {"sub": subject}
            self.assertRefused(TokenRefused, "somebody else")
        for answer in (FetchedAnswer(500, {}, b""), FetchedAnswer(200, {}, b"<html>"), as_json([1])):
            self.idp.overrides["/userinfo"] = answer
            self.assertRefused(ProviderUnreachable)
        del self.idp.metadata["userinfo_endpoint"]
        self.provider = self.configure()
        self.assertEqual(self.redeem().identity.user, "alice@example.test")

    def test_token_wins_over_user_information(self) -> None:
        """What is signed is not overruled by what is not."""
        self.idp.userinfo |= {"preferred_username": "admin", "iss": "https://evil.test", "groups": ["admins"]}
        identity = self.redeem().identity
        self.assertEqual((identity.user, identity.issuer, identity.groups), ("alice@example.test", ISSUER, ("staff",)))

    def test_names(self) -> None:
        """H03, A32: a name is text without control characters; an e-mail address counts when it is verified."""
        for user in (None, "", " x", "x\r\nX-Admin: 1", "x\0", 7, ["x"], "x" * 256):
            self.idp.claims["preferred_username"] = user
            self.assertRefused(IdentityRefused, "preferred_username")
        self.provider = self.configure(user_claim="email")
        for verified in (None, False, "false", 1.5):
            self.idp.userinfo["email_verified"] = verified
            self.assertRefused(IdentityRefused, "not verified")
        for verified in (True, "true"):
            self.idp.userinfo["email_verified"] = verified
            self.assertEqual(self.redeem().identity.user, "alice@example.test")

    def test_groups(self) -> None:
        """Groups are a list of texts, or one; what else is in the list is passed over."""
        for told, groups in ((["a", 7, "", None, "b"], ("a", "b")), ("a", ("a",)), ({"a": 1}, ()), (None, ())):
            self.idp.claims["groups"] = told
            self.assertEqual(self.redeem().identity.groups, groups)

    @pytest.mark.feature("POL-1")
    def test_group_overage(self) -> None:
        """A33: that there are too many groups to list stays known."""
        self.idp.claims |= {"groups": None, "_claim_names": {"groups": "src1"}}
        identity = self.redeem().identity
        self.assertEqual((identity.groups, identity.claims["_claim_names"]), ((), {"groups": "src1"}))

    @pytest.mark.feature("AUTH-2", "POL-1")
    def test_groups_from_the_directory(self) -> None:
        """A33: too many groups for a token are asked for at the configured address, and nowhere that a token names."""
        url = "https://graph.example.test/me/getMemberObjects"
        self.provider = self.configure(groups_url=url)
        sources = {"_claim_names": {"groups": "s"}, "_claim_sources": {"s": {"endpoint": "https://evil.test"}}}
        for overage in (sources, {"hasgroups": True}):
            self.idp.claims = {"sub": "u-1", "preferred_username": "a", **overage}
            self.idp.overrides["/me/getMemberObjects"] = as_json({"value": ["g-1", "g-2"]})
            identity = self.redeem().identity
            self.assertEqual(identity.groups, ("g-1", "g-2"))
            self.assertNotIn("_claim_names", identity.claims)
        method, asked, headers, body = self.idp.requests[-1]
        self.assertEqual((method, asked, headers["Authorization"]), ("POST", url, "Bearer at-1"))
        self.assertIn(b"securityEnabledOnly", body)
        self.assertFalse([url for _, url, _, _ in self.idp.requests if "evil" in url])

    def test_directory_in_trouble(self) -> None:
        """A33: what the directory does not say stays unknown; nobody is taken to be in no group."""
        self.provider = self.configure(groups_url="https://graph.example.test/me")
        self.idp.claims |= {"groups": None, "_claim_names": {"groups": "s"}}
        self.idp.userinfo["groups"] = ["staff"]
        for answer in (FetchedAnswer(403, {}, b""), FetchedAnswer(200, {}, b"<html>"), as_json({"value": [1]})):
            self.idp.overrides["/me"] = answer
            identity = self.redeem().identity
            self.assertEqual((identity.groups, identity.claims["_claim_names"]), ((), {"groups": "s"}))

    @pytest.mark.feature("AUTH-5")
    def test_refresh(self) -> None:
        """A refresh brings what has changed about the person; when they signed in has not."""
        self.idp.refreshes = True
        first = self.redeem()
        self.assertTrue(first.refresh_token)
        self.assertEqual(first.access_seconds, 300)
        self.idp.claims["groups"] = ["admins"]
        second = self.successResultOf(self.provider.refresh(first.refresh_token, first.id_token))
        self.assertEqual((second.identity.groups, second.identity.authenticated_at), (("admins",), EPOCH))
        self.assertNotEqual(second.refresh_token, first.refresh_token)
        self.assertNotEqual(second.id_token, first.id_token)

    @pytest.mark.feature("AUTH-5")
    def test_refresh_without_id_token(self) -> None:
        """Without a new ID token the old one's claims stand, and user information is asked for anew."""
        self.idp.refreshes = True
        first = self.redeem()
        self.idp.overrides["/token"] = as_json({"access_token": "at-2", "token_type": "Bearer"})
        self.idp.userinfo["email"] = "new@example.test"
        second = self.successResultOf(self.provider.refresh(first.refresh_token, first.id_token))
        self.assertEqual((second.identity.groups, second.identity.claims["email"]), (("staff",), "new@example.test"))
        self.assertEqual((second.id_token, second.refresh_token), (first.id_token, first.refresh_token))

    @pytest.mark.feature("AUTH-5")
    def test_last_group(self) -> None:
        """Who has left their last group is in none, also where only user information is told anew and leaves it out."""
        self.idp.refreshes = True
        self.idp.userinfo["groups"] = ["staff"]
        first = self.redeem()
        self.assertIn("groups", first.told)
        self.idp.overrides["/token"] = as_json({"access_token": "at-2", "token_type": "Bearer"})
        del self.idp.userinfo["groups"]
        second = self.successResultOf(self.provider.refresh(first.refresh_token, first.id_token, first.told))
        self.assertEqual((second.identity.groups, second.identity.user), ((), "alice@example.test"))
        third = self.successResultOf(self.provider.refresh(second.refresh_token, second.id_token, second.told))
        self.assertEqual(third.identity.groups, ())

    @pytest.mark.feature("AUTH-5")
    def test_refresh_refused(self) -> None:
        """A35: a refused grant says that it is over; an outage and a client at fault say nothing about the person."""
        self.idp.refreshes = True
        first = self.redeem()
        for answer, kind in (
            (as_json({"error": "invalid_grant"}, 400), SignInEnded),
            (as_json({"error": "invalid_request"}, 400), SignInEnded),
            (as_json({"error": "interaction_required"}, 400), SignInEnded),
            (as_json({"error": "invalid_client"}, 401), SignInDeclined),
            (as_json({"error": "temporarily_unavailable"}, 400), SignInDeclined),
            (FetchedAnswer(400, {}, b"<html>"), SignInDeclined),
            (FetchedAnswer(503, {}, b""), ProviderUnreachable),
        ):
            self.idp.overrides["/token"] = answer
            failure = self.failureResultOf(self.provider.refresh(first.refresh_token, first.id_token), SignInFailed)
            self.assertIs(type(failure.value), kind)

    def test_refreshed_token_of_somebody_else(self) -> None:
        """A refresh that brings another subject or issuer is refused, whatever else is right about it."""
        self.idp.refreshes = True
        self.idp.claims["auth_time"] = EPOCH - 9
        first = self.redeem()
        for lie in ({"sub": "u-2"}, {"iss": "https://other.test"}, {"auth_time": 5}):
            self.idp.lie = lie
            again = self.provider.refresh(self.idp.issue_refresh(), first.id_token)
            self.failureResultOf(again, TokenRefused)

    def test_lifetimes(self) -> None:
        """How long the access token is good may be written as a number, a fraction or text, or not at all."""
        for told, seconds in ((60, 60), (60.9, 60), ("60", 60), ("soon", 3600), (None, 3600), (-5, 1), ("1e400", 3600)):
            answer = TokenAnswer("at", "Bearer", expires_in=told)
            self.assertEqual(answer.access_seconds, seconds)

    def test_more_parameters(self) -> None:
        """What is configured goes with the authorization request, and the mode that the answer comes in."""
        provider = self.configure(authorization_parameters=("prompt=consent", "hd=a=b"), response_mode="form_post")
        address = self.successResultOf(
            provider.authorization_address(redirect_uri=REDIRECT, state="s", nonce="n", challenge="c")
        )
        asked = parse_qs(urlsplit(address).query)
        found = [asked[name] for name in ("prompt", "hd", "response_mode", "state")]
        self.assertEqual(found, [["consent"], ["a=b"], ["form_post"], ["s"]])

    def test_issuers(self) -> None:
        """An answer may name the issuer, or that of a listed tenant."""
        self.assertEqual([self.provider.is_issuer(each) for each in (ISSUER, ISSUER + "/")], [True, False])
        many = self.configure(issuer="https://x.test/{tenantid}/", tenants=("a", "b"))
        asked = ("https://x.test/a/", "https://x.test/c/", "https://x.test/{tenantid}/")
        self.assertEqual([many.is_issuer(each) for each in asked], [True, False, False])

    def test_sign_out_address(self) -> None:
        """The provider's sign-out gets what it needs; a provider without one has no address."""
        address = self.successResultOf(self.provider.end_session_address(id_token_hint="t", state=""))
        self.assertEqual(parse_qs(urlsplit(address).query), {"client_id": ["relay"], "id_token_hint": ["t"]})

    def test_addresses_with_a_query(self) -> None:
        """An endpoint may have a query of its own."""
        self.assertEqual(with_query("https://x.test/a?p=b2c", a="1 &", b=""), "https://x.test/a?p=b2c&a=1+%26")
        self.assertEqual(with_query("https://x.test/a", b=""), "https://x.test/a")
