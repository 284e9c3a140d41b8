"""Signed statements on users, for origins."""

from __future__ import annotations

import json
from typing import Any

import jwt
import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import IdentityToken
from appproxy.identity import Identity
from appproxy.relay.catalog import Catalog, Published
from appproxy.relay.people import identity_tokens
from appproxy.relay.people.identity_tokens import MAX_TOKEN_BYTES, IdentityTokens, IdentityTokenTooLarge, make_key
from appproxy.units import Duration
from tests.fakes.exchange import FakeExchange
from tests.fakes.fronts import APPLICATIONS, COOKIE, Bench, get, make_session

NOW = 1_800_000_000
KEY = make_key()
ALICE = Identity("https://idp", "u-1", "alice", ("staff",), {"email": "a@x", "roles": ["r"], "iss": "spoof"}, NOW - 60)


def hr(**settings: Any) -> Published:
    """The application with a token in a header."""
    token = IdentityToken(**{"header": "X-Identity-Token", **settings})
    return Published(msgspec.structs.replace(APPLICATIONS[0], identity_token=token))


@pytest.mark.feature("SSO-6")
class IdentityTokensTest(SynchronousTestCase):
    """What they say, for how long, and how origins check them."""

    def setUp(self) -> None:
        self.now = NOW
        self.tokens = IdentityTokens(KEY, "https://proxy.example.com", lambda: self.now)

    def read(self, field: tuple[bytes, bytes], audience: str = "hr") -> dict[str, Any]:
        """As an origin does: with the published key only."""
        exchange = FakeExchange("https://proxy.example.com/.appproxy/jwks")
        self.successResultOf(self.tokens.serve_keys(exchange))
        self.assertEqual(exchange.value("Content-Type"), "application/jwk-set+json")
        keys = jwt.PyJWKSet.from_json(exchange.body.decode())
        token = field[1].decode()
        key = keys[jwt.get_unverified_header(token)["kid"]]
        options: Any = {"verify_exp": False, "verify_iat": False}
        return jwt.decode(token, key, ["ES256"], options, audience=audience, issuer="https://proxy.example.com")

    def test_says_who_it_is(self) -> None:
        """For this application, for minutes, with what was asked for; the token's own claims are its own."""
        name, token = self.tokens.field(hr(claims=("email", "mail", "iss"), groups=True), ALICE)
        self.assertEqual(name, b"X-Identity-Token")
        self.assertEqual(
            self.read((name, token)),
            {
                "iss": "https://proxy.example.com", "aud": "hr", "sub": "u-1", "idp": "https://idp",
                "preferred_username": "alice", "iat": NOW, "exp": NOW + 300, "auth_time": NOW - 60, "email": "a@x",
                "groups": ["staff"],
            },
        )  # fmt: skip
        self.assertNotIn(
            "groups", self.read(self.tokens.field(hr(lifetime=Duration(60)), msgspec.structs.replace(ALICE)))
        )

    def test_only_public_keys_are_shown(self) -> None:
        """The key set has no private member."""
        exchange = FakeExchange("https://proxy.example.com/.appproxy/jwks")
        self.successResultOf(self.tokens.serve_keys(exchange))
        [key] = json.loads(exchange.body)["keys"]
        self.assertEqual(set(key), {"kty", "crv", "x", "y", "kid", "use", "alg"})

    def test_made_once(self) -> None:
        """A token serves for half its time, and for this very user as they are now."""
        first = self.tokens.field(hr(), ALICE)
        self.now += 149
        self.assertIs(self.tokens.field(hr(), ALICE), first)
        self.assertIsNot(self.tokens.field(hr(), msgspec.structs.replace(ALICE, groups=())), first)
        self.now += 1
        self.assertIsNot(self.tokens.field(hr(), ALICE), first)

    def test_bounded(self) -> None:
        """Any number of users."""
        self.patch(identity_tokens, "MAX_REMEMBERED", 3)
        for number in range(10):
            self.tokens.field(hr(), msgspec.structs.replace(ALICE, subject=str(number)))
        self.assertLessEqual(len(self.tokens._made), 3)

    def test_too_much_to_tell(self) -> None:
        """H06: groups that do not fit are an error with a name, never fewer groups."""
        many = msgspec.structs.replace(ALICE, groups=tuple(f"group-{n:030}" for n in range(400)))
        self.assertRaises(IdentityTokenTooLarge, self.tokens.field, hr(groups=True), many)
        self.assertLess(len(self.tokens.field(hr(), many)[1]), MAX_TOKEN_BYTES)

    def test_any_text(self) -> None:
        """H03, H04: what a claim holds, line ends and other scripts too, is within the token and nowhere else."""
        told = {"name": "a\r\nX-Admin: 1", "city": "Zürich 日本 \N{GRINNING FACE}"}
        name, token = self.tokens.field(hr(claims=("name", "city")), msgspec.structs.replace(ALICE, claims=told))
        self.assertRegex(token, rb"\A[A-Za-z0-9_.-]+\Z")
        self.assertEqual({key: self.read((name, token))[key] for key in told}, told)

    def test_missing_claim(self) -> None:
        """H05: what this user does not have is left out."""
        claims = self.read(self.tokens.field(hr(claims=("email",)), msgspec.structs.replace(ALICE, claims={})))
        self.assertNotIn("email", claims)

    def test_other_key(self) -> None:
        """A key that is none is refused at the start."""
        self.assertRaises(ValueError, IdentityTokens, b"x", "https://proxy.example.com", lambda: NOW)


@pytest.mark.feature("SSO-6")
class GatewayTest(SynchronousTestCase):
    """Through front and gateway."""

    def test_copies_of_clients_go(self) -> None:
        """H01: in every spelling, in heads and trailers, also without a user; the relay's own comes once."""
        bench, tokens = Bench(), IdentityTokens(KEY, "https://proxy.example.com", lambda: NOW)
        bench.gateway._vouch = tokens.field
        bench.gateway.catalog = Catalog([hr().application])
        bench.preauth.session = make_session(ALICE)
        spoofed = b"X-Identity-Token: forged\r\nx_identity_token: forged\r\nX-IDENTITY.TOKEN: forged\r\n"
        client = bench.client()
        bench.sends(client, get(more=COOKIE + spoofed))
        [(head, _, _)] = bench.pair.opener.heads
        told = [value for name, value in head.standing.fields if b"identity" in name.lower()]
        self.assertEqual(told, [tokens.field(hr(), ALICE)[1]])

    def test_a_token_that_has_ended_is_made_anew(self) -> None:
        """On one connection that repeats its fields, too."""
        now = [NOW]
        bench, tokens = Bench(), IdentityTokens(KEY, "https://proxy.example.com", lambda: now[0])
        bench.gateway._vouch = tokens.field
        bench.gateway.catalog = Catalog([hr().application])
        told = []
        for _ in range(3):
            bench.sends(bench.client(), get())
            fields = bench.pair.opener.heads[-1][0].standing.fields
            told.append(next(value for name, value in fields if name == b"X-Identity-Token"))
            now[0] += 100
        self.assertEqual((told[0] == told[1], told[1] == told[2]), (True, False))
