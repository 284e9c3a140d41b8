"""Every check on an ID token."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.preauth.failures import Flaw, TokenRefused
from appproxy.relay.preauth.keys import ALGORITHMS, KeySet
from appproxy.relay.preauth.tokens import Expected, check_id_token, check_refreshed
from tests.fakes.idp import ISSUER, public_jwk, rsa_key

NOW = 1_800_000_000
HONEST: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "relay",
    "sub": "u-1",
    "exp": NOW + 300,
    "iat": NOW,
    "nonce": "n-1",
}


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token as no library would make it."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.feature("AUTH-2")
class IDTokenTest(SynchronousTestCase):
    """One honest token, and one lie in each of the others."""

    def setUp(self) -> None:
        self.published: list[dict[str, Any]] = [public_jwk("key-1")]
        self.fetched = 0

        async def read() -> bytes:
            self.fetched += 1
            return json.dumps({"keys": self.published}).encode()

        self.keys = KeySet(read, Clock().seconds)

    def test_flaws_have_names(self) -> None:
        """Each check has a name of its own for the log."""
        refused = {
            Flaw.FORMAT: "x.y",
            Flaw.TYPE: self.sign({"typ": "logout+jwt"}),
            Flaw.CRITICAL: self.sign({"crit": ["x"], "x": 1}),
            Flaw.ALGORITHM: unsigned({"alg": "none"}, HONEST),
            Flaw.KEY: self.sign({"kid": "other"}),
            Flaw.SIGNATURE: self.sign()[:-8] + "AAAAAAAA",
            Flaw.ISSUER: self.sign(iss="https://other.test"),
            Flaw.AUDIENCE: self.sign(aud="other"),
            Flaw.PARTY: self.sign(aud=["relay", "other"]),
            Flaw.TIME: self.sign(exp="1900000000"),
            Flaw.EXPIRED: self.sign(exp=NOW - 61),
            Flaw.FUTURE: self.sign(iat=NOW + 61),
            Flaw.NOT_YET: self.sign(nbf=NOW + 61),
            Flaw.NONCE: self.sign(nonce="n-2"),
            Flaw.SUBJECT: self.sign(sub=""),
            Flaw.EVENTS: self.sign(events={}),
            Flaw.ACCESS_TOKEN: self.sign(at_hash="x"),
        }
        for flaw, token in refused.items():
            expected = Expected(ISSUER, "relay", "n-1", ("RS256",), "at-1")
            failure = self.failureResultOf(check_id_token(token, self.keys, expected, NOW), TokenRefused)
            self.assertEqual(failure.value.flaw, flaw)

    def check(
        self, token: str, algorithms: tuple[str, ...] = ("RS256",), access_token: str | None = None
    ) -> dict[str, Any]:
        """Check it as the relay would."""
        expected = Expected(ISSUER, "relay", "n-1", algorithms, access_token)
        return self.successResultOf(check_id_token(token, self.keys, expected, NOW))

    def sign(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """An honest signature on changed claims; None takes one away."""
        changed = {name: value for name, value in {**HONEST, **claims}.items() if value is not None}
        # At this level PyJWT signs any claims.
        octets = json.dumps(changed).encode()
        return jwt.PyJWS().encode(octets, rsa_key("key-1"), "RS256", headers={"kid": "key-1", **(headers or {})})

    def assertRefused(
        self, token: str, why: str = "", algorithms: tuple[str, ...] = ("RS256",), access_token: str | None = None
    ) -> None:
        """The token is refused for the right reason."""
        expected = Expected(ISSUER, "relay", "n-1", algorithms, access_token)
        failure = self.failureResultOf(check_id_token(token, self.keys, expected, NOW), TokenRefused)
        self.assertIn(why, failure.value.detail)

    def test_honest(self) -> None:
        """An honest token gives its claims."""
        self.assertEqual(self.check(self.sign()), HONEST)

    def test_no_signature(self) -> None:
        """A16: alg none is refused, in any spelling, and so is an empty signature."""
        for alg in ("none", "None", "NONE", "nOnE", "", None):
            self.assertRefused(unsigned({"alg": alg}, HONEST), "algorithm")
        self.assertRefused(unsigned({"alg": "RS256", "kid": "key-1"}, HONEST), "no key")
        self.assertRefused(unsigned({"alg": "none"}, HONEST), "no key", ("none", "RS256"))

    def test_public_key_as_secret(self) -> None:
        """A17, A18: HMAC with the published key in any form is refused, even by a careless list of algorithms."""
        public = rsa_key("key-1").public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for secret in (pem, pem.strip(), json.dumps(public_jwk("key-1")).encode()):
            head = unsigned({"alg": "HS256", "kid": "key-1", "typ": "JWT"}, HONEST).rpartition(".")[0]
            mac = hmac.new(secret, head.encode(), sha256).digest()
            token = head + "." + urlsafe_b64encode(mac).rstrip(b"=").decode()
            self.assertRefused(token, "algorithm")
            self.assertRefused(token, "no key", ("HS256", "RS256"))
        self.assertFalse([algorithm for algorithm in ALGORITHMS if algorithm.startswith("HS") or algorithm == "none"])

    def test_issuer(self) -> None:
        """A19: the issuer is ours, letter by letter."""
        for issuer in (ISSUER + ".evil", ISSUER + "/", ISSUER[:-1], ISSUER.upper(), None, "", 1, [ISSUER]):
            self.assertRefused(self.sign(iss=issuer), "issuer")

    def test_audience(self) -> None:
        """A20: the audience is us; among several the authorized party is."""
        for claims in (
            {"aud": "other"},
            {"aud": []},
            {"aud": None},
            {"aud": ["relay", "other"]},
            {"aud": ["relay", "other"], "azp": "other"},
            {"aud": "relay", "azp": "other"},
            {"aud": {"relay": 1}},
        ):
            self.assertRefused(self.sign(**claims), "ID token")
        self.check(self.sign(aud=["relay"]))
        self.check(self.sign(aud=["other", "relay"], azp="relay"))

    def test_nonce(self) -> None:
        """A21: the nonce is this sign-in's."""
        for nonce in (None, "", "n-2", "n-1 ", 1):
            self.assertRefused(self.sign(nonce=nonce), "nonce")

    def test_times(self) -> None:
        """A22: clocks may differ by a minute; times must be numbers."""
        for claims in (
            {"exp": NOW - 61},
            {"exp": NOW - 60},
            {"exp": None},
            {"exp": str(NOW + 300)},
            {"exp": True},
            {"exp": 1e300},
            {"iat": NOW + 61},
            {"iat": None},
            {"iat": str(NOW)},
            {"nbf": NOW + 61},
            {"nbf": "x"},
            {"auth_time": "x"},
        ):
            self.assertRefused(self.sign(**claims), "ID token")
        self.check(self.sign(exp=NOW - 59, nbf=NOW + 60, iat=NOW + 60, auth_time=NOW - 0.5))

    def test_critical_headers(self) -> None:
        """A23: a token with critical extensions is for a reader who knows them."""
        for headers in ({"crit": ["x"], "x": 1}, {"crit": ["b64"], "b64": False}, {"b64": True}, {"crit": []}):
            token = unsigned({"alg": "RS256", "kid": "key-1", **headers}, HONEST, b"x")
            self.assertRefused(token)

    def test_keys_in_the_token(self) -> None:
        """A24: keys that a token brings along are ignored, and nothing is fetched for them."""
        mallory = public_jwk("mallory")
        headers = {"jwk": mallory, "jku": "https://evil.test/jwks", "x5u": "https://evil.test/x", "kid": "key-1"}
        self.assertRefused(jwt.encode(HONEST, rsa_key("mallory"), "RS256", headers=headers), "no key")
        self.assertEqual(self.check(self.sign(headers))["sub"], "u-1")
        self.assertEqual(self.fetched, 1)

    def test_type(self) -> None:
        """Access and logout tokens do not pass as ID tokens, not even signed ones."""
        for typ in ("at+jwt", "logout+jwt", "application/at+jwt", "dpop+jwt"):
            self.assertRefused(self.sign({"typ": typ}), "type")
        self.check(self.sign({"typ": "jwt"}))
        self.assertRefused(self.sign(events={"http://schemas.openid.net/event/backchannel-logout": {}}), "event")

    def test_subject(self) -> None:
        """There is a subject, and it is text."""
        for subject in (None, "", 7, "x" * 256):
            self.assertRefused(self.sign(sub=subject), "subject")

    def test_access_token_hash(self) -> None:
        """A hash of the access token is compared when there is one."""
        half = urlsafe_b64encode(sha256(b"at-1").digest()[:16]).rstrip(b"=").decode()
        self.check(self.sign(at_hash=half), access_token="at-1")
        self.assertRefused(self.sign(at_hash=half), "access token", access_token="at-2")
        self.assertRefused(self.sign(at_hash=7), "access token", access_token="at-1")

    def test_malformed(self) -> None:
        """What is no token at all is refused, whatever its shape or length."""
        for token in ("", "a.b", "a.b.c", "....", "ä.b.c", "x" * 300_000, self.sign() + ".x", "e30.e30.e30"):
            self.assertRefused(token)

    def test_no_text(self) -> None:
        """Half a surrogate pair in any claim is refused, not an exception."""
        for claims in ({"nonce": "\ud800"}, {"name": "\ud800"}, {"at_hash": "\ud800"}, {"groups": ["\udfff"]}):
            self.assertRefused(self.sign(**claims), "ID token", access_token="at-1")

    def test_signed_by_another(self) -> None:
        """A signature of another key under our key's id is none."""
        self.assertRefused(jwt.encode(HONEST, rsa_key("mallory"), "RS256", headers={"kid": "key-1"}), "no key")

    def test_elliptic_curves(self) -> None:
        """ES256 and EdDSA work where they are allowed, each with its own kind of key only."""
        p256, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
        self.published = [
            {**ECAlgorithm.to_jwk(p256.public_key(), as_dict=True), "kid": "ec"},
            {**OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True), "kid": "ed"},
        ]
        for key, kid, algorithm in ((p256, "ec", "ES256"), (edwards, "ed", "EdDSA")):
            token = jwt.encode(HONEST, key, algorithm, headers={"kid": kid})
            self.assertEqual(self.check(token, ("ES256", "EdDSA"))["sub"], "u-1")
            self.assertRefused(token, "algorithm")


TENANT_1, TENANT_2 = "11111111-aaaa", "22222222-bbbb"
MANY = "https://login.example.test/{tenantid}/v2.0"


@pytest.mark.feature("AUTH-2")
class TenantsTest(SynchronousTestCase):
    """Tokens of a provider whose metadata stand for many tenants, as Microsoft Entra issues them."""

    def check(self, issuer: str | None, key_issuer: str | None, **claims: Any) -> Any:
        """Check a token of the first tenant, changed; the flaw, or None for a good one."""
        published = public_jwk("key-1", **({"issuer": key_issuer} if key_issuer else {}))

        async def read() -> bytes:
            return json.dumps({"keys": [published]}).encode()

        said = {**HONEST, "iss": MANY.replace("{tenantid}", TENANT_1), "tid": TENANT_1, **claims}
        token = jwt.PyJWS().encode(json.dumps(said).encode(), rsa_key("key-1"), "RS256", headers={"kid": "key-1"})
        tenants = (TENANT_1,) if issuer is None else ()
        expected = Expected(issuer or MANY, "relay", "n-1", ("RS256",), None, tenants)
        outcome: list[Any] = []
        checked = Deferred.fromCoroutine(check_id_token(token, KeySet(read, Clock().seconds), expected, NOW))
        checked.addCallbacks(lambda _: outcome.append(None), lambda failure: outcome.append(failure.value.flaw))
        return outcome[0]

    def test_listed_tenant(self) -> None:
        """A listed tenant's issuer is the template with that tenant in it."""
        self.assertIsNone(self.check(None, None))
        self.assertIsNone(self.check(None, MANY))

    def test_other_tenant(self) -> None:
        """A tenant that is not listed, or none, signs nobody in, and neither does an issuer of another tenant."""
        other = MANY.replace("{tenantid}", TENANT_2)
        for claims in ({"tid": TENANT_2, "iss": other}, {"tid": None}, {"tid": ""}, {"tid": ["x"]}):
            self.assertEqual(self.check(None, None, **claims), Flaw.TENANT)
        self.assertEqual(self.check(None, None, iss=other), Flaw.ISSUER)
        self.assertEqual(self.check(None, None, iss=MANY), Flaw.ISSUER)

    def test_key_of_another_issuer(self) -> None:
        """A key that says whose it is vouches for that issuer only, for one tenant or for many."""
        self.assertEqual(self.check(None, MANY.replace("{tenantid}", TENANT_2)), Flaw.KEY_ISSUER)
        one = MANY.replace("{tenantid}", TENANT_1)
        self.assertIsNone(self.check(one, one))
        self.assertEqual(self.check(one, "https://login.example.test/consumers/v2.0"), Flaw.KEY_ISSUER)

    def test_version_1(self) -> None:
        """Tokens of version 1 have an issuer at another host; metadata and issuer are configured apart."""
        issuer = f"https://sts.example.test/{TENANT_1}/"
        self.assertIsNone(self.check(issuer, None, iss=issuer, ver="1.0"))
        self.assertEqual(self.check(issuer, None, iss=issuer[:-1]), Flaw.ISSUER)


class RefreshedTest(SynchronousTestCase):
    """Tokens that a refresh brings."""

    def test_same_sign_in(self) -> None:
        """A refreshed token is the same issuer's about the same person, signed in at the same time."""
        before = {**HONEST, "auth_time": NOW - 5}
        check_refreshed({**before, "iat": NOW + 9}, before)
        check_refreshed({"iss": ISSUER, "sub": "u-1"}, before)
        for name in ("iss", "sub", "auth_time", "nonce"):
            failure = self.assertRaises(TokenRefused, check_refreshed, {**before, name: "x"}, before)
            self.assertEqual(failure.flaw, Flaw.REFRESHED)
