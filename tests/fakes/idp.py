"""A provider in memory: it answers a relying party's requests, honestly unless a test makes it lie."""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from appproxy.relay.preauth.failures import ProviderUnreachable
from appproxy.relay.preauth.fetching import FetchedAnswer

ISSUER = "https://idp.example.test"
_KEYS: dict[str, RSAPrivateKey] = {}


def rsa_key(name: str) -> RSAPrivateKey:
    """A key, made once for all tests: making one takes long."""
    if name not in _KEYS:
        _KEYS[name] = generate_private_key(65537, 2048)
    return _KEYS[name]


def public_jwk(name: str, **more: Any) -> dict[str, Any]:
    """The published form of :func:`rsa_key`."""
    return {**RSAAlgorithm.to_jwk(rsa_key(name).public_key(), as_dict=True), "kid": name, "use": "sig", **more}


class FakeProvider:
    """An OpenID provider.

    Attributes may be changed at any time; *overrides* replaces whole answers by path, *lie* changes the claims of the
    next ID tokens, *requests* are those received: method, address, headers, body.
    """

    def __init__(self, epoch: Callable[[], int], issuer: str = ISSUER) -> None:
        self.epoch = epoch
        self.issuer = issuer
        self.keys = ["key-1"]
        self.signs_with = "key-1"
        self.claims: dict[str, Any] = {"sub": "u-1", "preferred_username": "alice@example.test", "groups": ["staff"]}
        self.userinfo: dict[str, Any] = {"sub": "u-1", "email": "alice@example.test"}
        self.lie: dict[str, Any] = {}
        self.make_token: Callable[[dict[str, Any]], str] = self.sign
        self.metadata: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": issuer + "/authorize",
            "token_endpoint": issuer + "/token",
            "jwks_uri": issuer + "/jwks",
            "userinfo_endpoint": issuer + "/userinfo",
            "end_session_endpoint": issuer + "/logout",
            "authorization_response_iss_parameter_supported": True,
        }
        self.overrides: dict[str, FetchedAnswer | Exception] = {}
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self._codes: dict[str, dict[str, list[str]]] = {}
        #: Whether refresh tokens are given; each works once, and one that comes back ends what came after it.
        self.refreshes = False
        self.access_seconds = 300
        self._refresh: dict[str, dict[str, list[str]]] = {}
        self._used: set[str] = set()
        self._issued = 0

    def count(self, path: str) -> int:
        """How often that path was asked for."""
        return sum(urlsplit(url).path == path for _, url, _, _ in self.requests)

    def authorize(self, address: str) -> dict[str, str]:
        """What somebody's sign-in at *address* brings back: the parameters of the redirect."""
        asked = parse_qs(urlsplit(address).query)
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        return {"code": code, "state": asked["state"][0], "iss": self.issuer}

    def sign(self, claims: dict[str, Any]) -> str:
        """An honest signature."""
        return jwt.encode(claims, rsa_key(self.signs_with), algorithm="RS256", headers={"kid": self.signs_with})

    def logout_token(self, headers: Mapping[str, Any] | None = None, key: str = "", **claims: Any) -> str:
        """A back-channel logout of the session that everybody here has; None takes a claim or header away."""
        self._issued += 1
        now = self.epoch()
        said = {
            "iss": self.issuer,
            "aud": "relay",
            "iat": now,
            "exp": now + 120,
            "jti": f"logout-{self._issued}",
            "sid": "sid-1",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **claims,
        }
        return self.sign_as(said, {"typ": "logout+jwt", **(headers or {})}, key)

    def event_token(self, kind: str, headers: Mapping[str, Any] | None = None, key: str = "", **claims: Any) -> str:
        """A security event for the relay; None takes a claim or header away."""
        self._issued += 1
        said = {
            "iss": self.issuer,
            "aud": "https://proxy.example.test",
            "iat": self.epoch(),
            "jti": f"event-{self._issued}",
            "events": {f"https://schemas.openid.net/secevent/{kind}": {}},
            **claims,
        }
        return self.sign_as(said, {"typ": "secevent+jwt", **(headers or {})}, key)

    def sign_as(self, claims: Mapping[str, Any], headers: Mapping[str, Any], key: str = "") -> str:
        """Sign any claims, with any headers; *key* is presented as the published one."""
        present = {name: value for name, value in claims.items() if value is not None}
        header = {"kid": self.signs_with, **headers}
        algorithm = header.pop("alg", "RS256")
        secret: Any = {"none": None, "HS256": b"s" * 32}.get(algorithm, rsa_key(key or self.signs_with))
        return jwt.PyJWS().encode(json.dumps(present).encode(), secret, algorithm, headers=header)

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit_bytes: int, timeout_seconds: float
    ) -> FetchedAnswer:
        """The relying party's way here."""
        self.requests.append((method, url, headers, body))
        path = urlsplit(url).path
        answer = self.overrides.get(path)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            answer = self._answer(path, headers, parse_qs(body.decode()))
        if len(answer.body) > limit_bytes:
            raise ProviderUnreachable("the answer is too long")
        return answer

    def _answer(self, path: str, headers: Mapping[str, str], form: dict[str, list[str]]) -> FetchedAnswer:
        if path == "/.well-known/ssf-configuration" + urlsplit(self.issuer).path:
            return as_json({"issuer": self.issuer, "jwks_uri": self.issuer + "/jwks"})
        if path == "/.well-known/openid-configuration":
            return as_json(self.metadata)
        if path == urlsplit(self.issuer).path + "/jwks":
            return as_json({"keys": [public_jwk(name) for name in self.keys]})
        if path == "/userinfo":
            return as_json(self.userinfo)
        if path == "/token":
            return self._token(headers, form)
        return FetchedAnswer(404, {}, b"")

    def issue_refresh(self, asked: dict[str, list[str]] | None = None) -> str:
        """A new refresh token."""
        self._issued += 1
        self._refresh[f"rt-{self._issued}"] = asked or {}
        return f"rt-{self._issued}"

    def disable(self) -> None:
        """The account is disabled: nothing is refreshed any more."""
        self._refresh.clear()

    def _token(self, headers: Mapping[str, str], form: dict[str, list[str]]) -> FetchedAnswer:
        pair = b64decode(headers.get("Authorization", "Basic ").partition(" ")[2]).decode()
        client_id, _, secret = (unquote_plus(part) for part in pair.partition(":"))
        if (client_id, secret) != ("relay", "s3cret/+"):
            return as_json({"error": "invalid_client"}, 401)
        if form["grant_type"] == ["refresh_token"]:
            return self._refreshed(form["refresh_token"][0])
        asked = self._codes.pop(form["code"][0], None)
        verifier = urlsafe_b64encode(sha256(form["code_verifier"][0].encode()).digest()).rstrip(b"=").decode()
        honest = (
            asked is not None
            and asked["code_challenge"] == [verifier]
            and asked["redirect_uri"] == form["redirect_uri"]
        )
        if asked is None or not honest:
            return as_json({"error": "invalid_grant"}, 400)
        return self._tokens(asked, {"nonce": asked["nonce"][0]})

    def _refreshed(self, token: str) -> FetchedAnswer:
        if token in self._used:
            self.disable()  # somebody has stolen it
        asked = self._refresh.pop(token, None)
        if asked is None:
            return as_json({"error": "invalid_grant"}, 400)
        self._used.add(token)
        return self._tokens(asked, {"jti": f"refreshed-{self._issued}"})

    def _tokens(self, asked: dict[str, list[str]], more: dict[str, Any]) -> FetchedAnswer:
        now = self.epoch()
        claims = {
            "iss": self.issuer,
            "aud": "relay",
            "iat": now,
            "exp": now + 300,
            "sid": "sid-1",
            **more,
            **self.claims,
            **self.lie,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        answer = {"access_token": "at-1", "token_type": "Bearer", "id_token": self.make_token(claims)}
        answer["expires_in"] = self.access_seconds  # type: ignore[assignment]
        if self.refreshes:
            answer["refresh_token"] = self.issue_refresh(asked)
        return as_json(answer)


def as_json(document: Any, status: int = 200) -> FetchedAnswer:
    """A JSON answer."""
    return FetchedAnswer(status, {"content-type": "application/json"}, json.dumps(document).encode())
