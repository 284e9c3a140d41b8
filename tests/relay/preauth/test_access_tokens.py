"""Every check on an access token, with those of providers that follow RFC 9068 and of Microsoft Entra."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned
from appproxy.config.provider import ProviderConfig
from appproxy.relay.access.policy import GROUPS_UNKNOWN, Assignment
from appproxy.relay.preauth.access_tokens import AccessToken, check_access_token
from appproxy.relay.preauth.failures import Flaw, IdentityRefused, TokenRefused
from appproxy.relay.preauth.provider import Provider
from tests.fakes.idp import ISSUER, FakeProvider, public_jwk, rsa_key

NOW = 1_800_000_000
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
HONEST: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "https://hr.example.test",
    "sub": "u-1",
    "client_id": "desktop",
    "scope": "read write",
    "iat": NOW,
    "exp": NOW + 300,
    "preferred_username": "alice@example.test",
    "groups": ["staff"],
}
TENANT = "11111111-2222-3333-4444-555555555555"
ENTRA_V2 = f"https://login.microsoftonline.com/{TENANT}/v2.0"
ENTRA_V1 = f"https://sts.windows.net/{TENANT}/"
#: As the documentation of the Microsoft identity platform has them.
V2: dict[str, Any] = {
    "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "iss": ENTRA_V2, "iat": NOW, "nbf": NOW, "exp": NOW + 4500,
    "azp": "c0ffee00-0000-0000-0000-000000000001", "azpacr": "0", "name": "Alice", "oid": "o-1", "rh": "I",
    "preferred_username": "alice@contoso.com", "scp": "user_impersonation",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV", "tid": TENANT, "uti": "fqiBqXLPj0eQa82S-IYFAA", "ver": "2.0",
}  # fmt: skip
V1: dict[str, Any] = {
    "aud": "https://hr-contoso.msappproxy.net/", "iss": ENTRA_V1, "iat": NOW, "nbf": NOW, "exp": NOW + 3599, "acr": "1",
    "appid": "c0ffee00-0000-0000-0000-000000000001", "appidacr": "0", "oid": "o-1", "scp": "user_impersonation",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV", "tid": TENANT, "unique_name": "alice@contoso.com",
    "upn": "alice@contoso.com", "ver": "1.0",
}  # fmt: skip


@pytest.mark.feature("AUTH-10")
class AccessTokenTest(SynchronousTestCase):
    """One honest token, and one lie in each of the others."""

    def setUp(self) -> None:
        self.idp = FakeProvider(lambda: NOW)
        self.configure()

    def configure(self, **changes: Any) -> None:
        settings = {"id": "main", "issuer": ISSUER, "client_id": "relay", **changes}
        self.provider = Provider(ProviderConfig(**settings), self.idp.fetch, Clock().seconds, lambda: NOW)

    def sign(self, headers: dict[str, Any] | None = None, key: str = "", **claims: Any) -> str:
        return self.idp.sign_as({**HONEST, **claims}, headers or {}, key)

    def check(self, token: str) -> AccessToken:
        return self.successResultOf(check_access_token(token, self.provider, NOW))

    def flaw(self, token: str) -> Flaw:
        return self.failureResultOf(check_access_token(token, self.provider, NOW), TokenRefused).value.flaw

    def test_for_a_user(self) -> None:
        """The user by the same name as at sign-in, with groups and scopes; how old the sign-in is is not known."""
        token = self.check(self.sign({"typ": "at+jwt"}))
        self.assertEqual((token.identity.user, token.identity.groups), ("alice@example.test", ("staff",)))
        self.assertEqual((token.scopes, token.itself, token.until), ({"read", "write"}, False, NOW + 300))
        self.assertEqual((token.audiences, token.identity.authenticated_at), ({"https://hr.example.test"}, 0))
        self.assertEqual(self.check(self.sign(auth_time=NOW - 5)).identity.authenticated_at, NOW - 5)

    def test_for_itself(self) -> None:
        """Programs have names that no person has: by RFC 9068, and as Entra's tokens are without a user."""
        for claims in (
            {"sub": "desktop"},
            {"idtyp": "app"},
            {"oid": "u-1"},
            {"scope": None, "roles": ["Jobs.Run"]},
        ):
            token = self.check(self.sign(preferred_username="root", **claims))
            self.assertEqual((token.itself, token.identity.user, token.identity.groups), (True, "app:desktop", ()))
        for name in ("app:desktop", "service:backup"):
            failure = self.failureResultOf(
                check_access_token(self.sign(preferred_username=name), self.provider, NOW), IdentityRefused
            )
            self.assertIn("only programs", failure.value.detail)

    def test_flaws(self) -> None:
        """A38: unsigned, forged, expired, early, foreign: each is refused for its own reason."""
        unsigned = jwt.PyJWS().encode(json.dumps(HONEST).encode(), None, "none")
        secret = jwt.PyJWS().encode(json.dumps(HONEST).encode(), b"k" * 32, "HS256", headers={"kid": "key-1"})
        for flaw, token in (
            (Flaw.FORMAT, "x.y"),
            (Flaw.FORMAT, "ey\xe9.a.b"),
            (Flaw.ALGORITHM, unsigned),
            (Flaw.ALGORITHM, secret),
            (Flaw.SIGNATURE, self.sign(key="key-2")),
            (Flaw.KEY, self.sign({"kid": "other"})),
            (Flaw.CRITICAL, self.sign({"crit": ["x"], "x": 1})),
            (Flaw.ISSUER, self.sign(iss=ISSUER + "/")),
            (Flaw.EXPIRED, self.sign(exp=NOW - 60)),
            (Flaw.TIME, self.sign(exp=None)),
            (Flaw.TIME, self.sign(exp=str(NOW + 300))),
            (Flaw.FUTURE, self.sign(iat=NOW + 61)),
            (Flaw.NOT_YET, self.sign(nbf=NOW + 61)),
            (Flaw.SUBJECT, self.sign(sub="")),
            (Flaw.BOUND, self.sign(cnf={"jkt": "x"})),
        ):
            self.assertEqual(self.flaw(token), flaw)
        for claims in ({"exp": NOW - 59}, {"iat": NOW + 60}, {"nbf": NOW + 60}):
            self.check(self.sign(**claims))

    def test_tokens_of_other_kinds(self) -> None:
        """ID tokens, logout tokens and refresh tokens of the same issuer are none, whatever their audience."""
        for token in (
            self.sign({"typ": "logout+jwt"}),
            self.sign({"typ": "secevent+jwt"}),
            self.sign(nonce="n"),
            self.sign(at_hash="x"),
            self.sign(events={}),
            self.sign(typ="ID"),
            self.sign(typ="Refresh"),
        ):
            self.assertEqual(self.flaw(token), Flaw.TYPE)
        self.assertEqual(self.flaw(self.sign(client_id=None)), Flaw.PARTY)
        self.assertEqual(self.flaw(self.sign(client_id="a\nb")), Flaw.PARTY)
        self.check(self.sign(typ="Bearer"))

    def test_microsoft_entra(self) -> None:
        """Both versions of tokens of one tenant, one user by one name; not those of another tenant."""
        self.configure(issuer=ENTRA_V2)
        self.idp.metadata["issuer"] = ENTRA_V2
        self.idp.overrides[f"/{TENANT}/v2.0/.well-known/openid-configuration"] = self.idp._answer(
            "/.well-known/openid-configuration", {}, {}
        )
        for claims in (V1, V2):
            token = self.check(self.idp.sign_as(claims, {"typ": "JWT"}))
            self.assertEqual((token.identity.user, token.identity.issuer), ("alice@contoso.com", ENTRA_V2))
            self.assertEqual((token.itself, token.scopes), (False, {"user_impersonation"}))
        self.assertEqual(self.check(self.idp.sign_as(V1, {})).audiences, {"https://hr-contoso.msappproxy.net"})
        other = TENANT.replace("1", "9")
        for claims in ({**V1, "iss": ENTRA_V1.replace(TENANT, other)}, {**V1, "tid": other}, {**V1, "tid": None}):
            self.assertEqual(self.flaw(self.idp.sign_as(claims, {})), Flaw.ISSUER)
        app = {name: value for name, value in V2.items() if name not in ("scp", "preferred_username")}
        token = self.check(self.idp.sign_as({**app, "roles": ["Jobs.Run"], "sub": "o-1"}, {}))
        self.assertEqual(token.identity.user, "app:c0ffee00-0000-0000-0000-000000000001")

    def test_issuer_of_the_first_version_is_entras(self) -> None:
        """Another provider's token does not become good by naming Microsoft's issuer."""
        self.assertEqual(self.flaw(self.idp.sign_as(V1, {})), Flaw.ISSUER)

    def test_too_many_groups(self) -> None:
        """A33: groups that did not fit are unknown, not none."""
        application = Application(id="hr", connector_group="hq", assigned=Assigned(groups=("staff",)))
        for claims in (
            {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph"}}},
            {"hasgroups": True},
        ):
            token = self.check(self.sign(groups=None, **claims))
            self.assertEqual(Assignment(application).decide(token.identity), GROUPS_UNKNOWN)

    def test_what_the_program_understands(self) -> None:
        """Claims challenges go only to those who say they take them."""
        self.assertTrue(self.check(self.sign(xms_cc=["cp1"])).takes_claims)
        self.assertFalse(self.check(self.sign()).takes_claims)

    def test_rotated_key(self) -> None:
        """A26: a token signed with a key that is new is good at once."""
        self.check(self.sign())
        rsa_key("key-9")
        self.idp.keys = ["key-9"]
        self.assertEqual(public_jwk("key-9")["kid"], "key-9")
        self.check(self.sign({"kid": "key-9"}, "key-9"))


class AnyTokenTest(SynchronousTestCase):
    """What nobody would send."""

    def setUp(self) -> None:
        idp = FakeProvider(lambda: NOW)
        config = ProviderConfig(id="main", issuer=ISSUER, client_id="relay")
        self.provider = Provider(config, idp.fetch, Clock().seconds, lambda: NOW)
        self.idp = idp

    @given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
    def test_any_text(self, text: str) -> None:
        """A38: is refused, by name."""
        self.failureResultOf(check_access_token(text, self.provider, NOW), TokenRefused)

    @given(st.dictionaries(st.sampled_from([*HONEST, "typ", "cnf", "xms_cc", "roles", "_claim_names", "azp"]), _JSON))
    def test_any_claims(self, changed: dict[str, Any]) -> None:
        """A38: a signed token with claims of any type is good, or refused by name."""
        token = jwt.PyJWS().encode(
            json.dumps({**HONEST, **changed}).encode(), rsa_key("key-1"), "RS256", {"kid": "key-1"}
        )
        checked = Deferred.fromCoroutine(check_access_token(token, self.provider, NOW))
        results: list[Any] = []
        checked.addBoth(results.append)
        if isinstance(results[0], Failure):
            self.assertIsNotNone(results[0].check(TokenRefused, IdentityRefused), results[0])
