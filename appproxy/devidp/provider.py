"""An honest small OpenID provider: authorization code with PKCE, RS256, refresh, user information, sign-out.

It keeps everything but its key in memory; a restart signs everybody out.  Requests and answers are values, so that no
test needs a socket.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import unquote_plus, urlencode, urlsplit

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm

from appproxy.devidp.pages import render
from appproxy.devidp.users import Client, User, UsersFile

COOKIE = "appproxy-development-idp"
CODE_SECONDS, TOKEN_SECONDS, PENDING_SECONDS = 60, 300, 600
REFRESH_SECONDS = 86400
#: Nobody develops with more sign-ins at a time; the oldest go.
_MAX_KEPT = 1000
Parameters = Mapping[str, str]


class Request(NamedTuple):
    """One request: *query* and *form* without repeated names."""

    method: str
    path: str
    query: Parameters = {}
    form: Parameters = {}
    authorization: str = ""
    cookie: str = ""


class Answer(NamedTuple):
    """One answer."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


class Grant(NamedTuple):
    """What somebody agreed to by signing in."""

    client: Client
    user: User
    sid: str
    authenticated_at: int
    nonce: str
    redirect_uri: str
    challenge: str
    scope: str
    until: int


class SignedIn(NamedTuple):
    """A browser's session here."""

    user: User
    sid: str
    authenticated_at: int


class Pending(NamedTuple):
    """A sign-in page that was shown."""

    parameters: Parameters
    until: int


def with_query(address: str, parameters: Parameters) -> str:
    """Add *parameters* to an address that may have a query already."""
    return f"{address}{'&' if '?' in address else '?'}{urlencode(parameters)}" if parameters else address


def _page(status: int, template: str, fields: tuple[tuple[str, str], ...] = (), **values: Any) -> Answer:
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    own = (("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", policy))
    return Answer(status, (*own, *fields), render(template, **values))


def _json(document: Any, status: int = 200, *fields: tuple[str, str]) -> Answer:
    return Answer(status, (("Content-Type", "application/json"), *fields), msgspec.json.encode(document))


def _keep(kept: dict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    if len(kept) > _MAX_KEPT:
        del kept[next(iter(kept))]


class DevelopmentProvider:
    """The provider.

    :param issuer: its address, as relying parties are configured.
    :param key: signs tokens.
    :param epoch: epoch seconds.
    :param random_text: gives unguessable text.
    """

    def __init__(
        self,
        issuer: str,
        users: UsersFile,
        key: RSAPrivateKey,
        epoch: Callable[[], int],
        random_text: Callable[[], str],
    ) -> None:
        self.issuer = issuer
        self._users = users
        self._key = key
        self._epoch = epoch
        self._random_text = random_text
        self._pending: dict[str, Pending] = {}
        self._codes: dict[str, Grant] = {}
        self._access: dict[str, Grant] = {}
        #: Each refresh token is good once.
        self._refresh: dict[str, Grant] = {}
        self._sessions: dict[str, SignedIn] = {}
        public: dict[str, Any] = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self._jwk = {name: public[name] for name in ("kty", "n", "e")}
        thumbprint = sha256(msgspec.json.encode({name: public[name] for name in ("e", "kty", "n")})).digest()
        self._kid = urlsafe_b64encode(thumbprint).rstrip(b"=").decode()

    def respond(self, request: Request) -> Answer:
        """Answer one request."""
        route = {
            ("GET", "/"): self._front,
            ("GET", "/.well-known/openid-configuration"): self._discovery,
            ("GET", "/jwks"): self._keys,
            ("GET", "/authorize"): self._authorize,
            ("POST", "/authorize"): self._authorize,
            ("POST", "/sign-in"): self._sign_in,
            ("POST", "/token"): self._token,
            ("GET", "/userinfo"): self._userinfo,
            ("POST", "/userinfo"): self._userinfo,
            ("GET", "/logout"): self._logout,
            ("POST", "/logout"): self._logout,
        }.get((request.method, request.path))
        return route(request) if route else _page(404, "base", title="Nothing here", text="There is no such page.")

    def _front(self, request: Request) -> Answer:
        names = [user.name for user in self._users.user]
        return _page(200, "front", title="Ready", issuer=self.issuer, users=names)

    def _discovery(self, request: Request) -> Answer:
        return _json(
            {
                "issuer": self.issuer,
                "authorization_endpoint": self.issuer + "/authorize",
                "token_endpoint": self.issuer + "/token",
                "userinfo_endpoint": self.issuer + "/userinfo",
                "jwks_uri": self.issuer + "/jwks",
                "end_session_endpoint": self.issuer + "/logout",
                "frontchannel_logout_supported": True,
                "frontchannel_logout_session_supported": True,
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                "claims_supported": ["sub", "preferred_username", "name", "email", "groups", "auth_time", "sid"],
            }
        )

    def _keys(self, request: Request) -> Answer:
        return _json({"keys": [{**self._jwk, "kid": self._kid, "use": "sig", "alg": "RS256"}]})

    # Authorization (OpenID Connect Core section 3.1.2)

    def _authorize(self, request: Request) -> Answer:
        asked = request.form if request.method == "POST" else request.query
        client = self._users.find_client(asked.get("client_id", ""))
        if client is None or asked.get("redirect_uri") not in client.redirect_uris:
            # Never redirect to an address that nobody registered.
            text = "The client or its redirect_uri is not in the users file."
            return _page(400, "base", title="Unknown client", text=text)
        if error := _wrong_with(asked):
            return self._back(asked, error=error)
        session = self._session(request)
        if session is not None and not self._must_ask(asked, session):
            return self._grant(client, asked, session)
        if asked.get("prompt") == "none":
            return self._back(asked, error="login_required")
        return self._ask(asked)

    def _must_ask(self, asked: Parameters, session: SignedIn) -> bool:
        age = asked.get("max_age", "")
        old = age.isdigit() and self._epoch() - session.authenticated_at > int(age)
        return old or asked.get("prompt") in ("login", "select_account")

    def _ask(self, asked: Parameters, name: str = "", failed: bool = False) -> Answer:
        key = self._random_text()
        _keep(self._pending, key, Pending(asked, self._epoch() + PENDING_SECONDS))
        name = name or asked.get("login_hint", "")
        return _page(401 if failed else 200, "sign-in", title="Sign in", request=key, name=name, failed=failed)

    def _sign_in(self, request: Request) -> Answer:
        pending = self._pending.pop(request.form.get("request", ""), None)
        if pending is None or pending.until <= self._epoch():
            return _page(400, "base", title="Too late", text="Go back to the application and begin again.")
        asked, name = pending.parameters, request.form.get("username", "")
        user = self._users.check_password(name, request.form.get("password", ""))
        client = self._users.find_client(asked["client_id"])
        if user is None or client is None:
            return self._ask(asked, name, failed=True)
        session = SignedIn(user, self._random_text(), self._epoch())
        handle = self._random_text()
        _keep(self._sessions, handle, session)
        cookie = ("Set-Cookie", f"{COOKIE}={handle}; Path=/; HttpOnly; SameSite=Lax")
        answer = self._grant(client, asked, session)
        return answer._replace(fields=(*answer.fields, cookie))

    def _grant(self, client: Client, asked: Parameters, session: SignedIn) -> Answer:
        code = self._random_text()
        grant = Grant(
            client,
            session.user,
            session.sid,
            session.authenticated_at,
            asked.get("nonce", ""),
            asked["redirect_uri"],
            asked["code_challenge"],
            asked["scope"],
            self._epoch() + CODE_SECONDS,
        )
        _keep(self._codes, code, grant)
        return self._back(asked, code=code)

    def _back(self, asked: Parameters, **answer: str) -> Answer:
        state = {"state": asked["state"]} if "state" in asked else {}
        address = with_query(asked["redirect_uri"], {**answer, **state, "iss": self.issuer})
        return Answer(303, (("Location", address),), b"")

    def _session(self, request: Request) -> SignedIn | None:
        handle = self._handle(request)
        return self._sessions.get(handle) if handle else None

    @staticmethod
    def _handle(request: Request) -> str:
        try:
            morsel = SimpleCookie(request.cookie).get(COOKIE)
        except CookieError:
            return ""
        return morsel.value if morsel else ""

    # Tokens (section 3.1.3)

    def _token(self, request: Request) -> Answer:
        form = request.form
        client = self._authenticate(request)
        if client is None:
            return _json({"error": "invalid_client"}, 401, ("WWW-Authenticate", 'Basic realm="development"'))
        match form.get("grant_type"):
            case "authorization_code":
                grant = self._redeem(form)
            case "refresh_token":
                grant = self._continue(form)
            case _:
                return _json({"error": "unsupported_grant_type"}, 400)
        if grant is None or grant.until <= self._epoch() or grant.client != client:
            return _json({"error": "invalid_grant"}, 400)
        access = self._random_text()
        _keep(self._access, access, grant._replace(until=self._epoch() + TOKEN_SECONDS))
        told: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "scope": grant.scope,
            "id_token": self._id_token(grant, access),
        }
        if "offline_access" in grant.scope.split():
            told["refresh_token"] = refresh = self._random_text()
            _keep(self._refresh, refresh, grant._replace(nonce="", until=self._epoch() + REFRESH_SECONDS))
        return _json(told)

    def _redeem(self, form: Parameters) -> Grant | None:
        """What a code stands for."""
        # Whatever is wrong with it: a code that was shown once is used up.
        grant = self._codes.pop(form.get("code", ""), None)
        verifier = form.get("code_verifier", "").encode("utf-8", "replace")
        challenge = urlsafe_b64encode(sha256(verifier).digest()).rstrip(b"=").decode()
        if (
            grant is None
            or grant.redirect_uri != form.get("redirect_uri")
            or not hmac.compare_digest(grant.challenge.encode(), challenge.encode())
        ):
            return None
        return grant

    def _continue(self, form: Parameters) -> Grant | None:
        """What a refresh token stands for; nothing any more once its browser has signed out here."""
        grant = self._refresh.pop(form.get("refresh_token", ""), None)
        if grant is None or not any(session.sid == grant.sid for session in self._sessions.values()):
            return None
        return grant

    def _authenticate(self, request: Request) -> Client | None:
        client_id, secret = request.form.get("client_id", ""), request.form.get("client_secret", "")
        scheme, _, pair = request.authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                client_id, _, secret = (unquote_plus(part) for part in b64decode(pair).decode().partition(":"))
            except ValueError:
                return None
        client = self._users.find_client(client_id)
        if client is None or not hmac.compare_digest(client.client_secret.encode(), secret.encode("utf-8", "replace")):
            return None
        return client

    def _id_token(self, grant: Grant, access: str) -> str:
        now, digest = self._epoch(), sha256(access.encode()).digest()
        claims = {
            **grant.user.told(),
            "iss": self.issuer,
            "aud": grant.client.client_id,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "auth_time": grant.authenticated_at,
            "sid": grant.sid,
            "amr": ["pwd"],
            "at_hash": urlsafe_b64encode(digest[:16]).rstrip(b"=").decode(),
        }
        if grant.nonce:
            claims["nonce"] = grant.nonce
        return jwt.encode(claims, self._key, "RS256", headers={"kid": self._kid})

    def _userinfo(self, request: Request) -> Answer:
        scheme, _, token = request.authorization.partition(" ")
        grant = self._access.get(token) if scheme.lower() == "bearer" else None
        if grant is None or grant.until <= self._epoch():
            return _json({"error": "invalid_token"}, 401, ("WWW-Authenticate", 'Bearer error="invalid_token"'))
        return _json(grant.user.told())

    # Sign-out (OpenID Connect RP-Initiated Logout)

    def _logout(self, request: Request) -> Answer:
        asked = request.form if request.method == "POST" else request.query
        session, hint = self._session(request), self._hint(asked.get("id_token_hint", ""))
        hinted = session is not None and hint.get("sid") == session.sid
        if session is not None and not hinted and request.method != "POST":
            # Without a hint anybody could have led the browser here: ask.
            return _page(200, "sign-out", title="Sign out", hidden=list(asked.items()))
        if session is not None:
            self._sessions.pop(self._handle(request), None)
        client = self._users.find_client(hint.get("aud") or asked.get("client_id", ""))
        address = asked.get("post_logout_redirect_uri", "")
        forget = ("Set-Cookie", f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
        back = ""
        if client is not None and address in client.post_logout_redirect_uris:
            back = with_query(address, {"state": asked["state"]} if "state" in asked else {})
        frames = self._frames(session.sid) if session is not None else []
        if frames:
            return self._show_frames(frames, back, forget)
        if back:
            return Answer(303, (("Location", back), forget), b"")
        return _page(200, "base", (forget,), title="Signed out", text="You are signed out here.")

    def _frames(self, sid: str) -> list[str]:
        """Where clients hear of it in the browser (OpenID Connect Front-Channel Logout)."""
        addresses = [each.frontchannel_logout_uri for each in self._users.client if each.frontchannel_logout_uri]
        return [with_query(each, {"iss": self.issuer, "sid": sid}) for each in addresses]

    def _show_frames(self, frames: list[str], back: str, forget: tuple[str, str]) -> Answer:
        answer = _page(200, "signed-out", (forget,), title="Signed out", frames=frames, address=back)
        origins = " ".join(sorted({"{0.scheme}://{0.netloc}".format(urlsplit(each)) for each in frames}))
        fields = [
            (name, f"{value}; frame-src {origins}" if name == "Content-Security-Policy" else value)
            for name, value in answer.fields
        ]
        return answer._replace(fields=tuple(fields))

    def _hint(self, token: str) -> dict[str, Any]:
        """The claims of an ID token of ours, expired or not; empty for anything else."""
        try:
            options: Any = {"verify_exp": False, "verify_aud": False, "verify_iat": False}
            claims: dict[str, Any] = jwt.decode(
                token, self._key.public_key(), ["RS256"], options=options, issuer=self.issuer
            )
        except jwt.PyJWTError:
            return {}
        return claims


def _wrong_with(asked: Parameters) -> str:
    """The error code for an authorization request that is not acceptable; empty for a good one."""
    if "request" in asked or "request_uri" in asked:
        return "request_not_supported"
    if asked.get("response_type") != "code":
        return "unsupported_response_type"
    if "openid" not in asked.get("scope", "").split():
        return "invalid_scope"
    if asked.get("response_mode", "query") != "query":
        return "invalid_request"
    if asked.get("code_challenge_method") != "S256" or len(asked.get("code_challenge", "")) != 43:
        return "invalid_request"
    return ""
