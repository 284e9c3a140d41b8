"""Programs with access tokens, through front and gateway."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import AccessTokens as Api
from appproxy.applications import Application, Assigned, CrossOrigin, Rule, Segment, Who
from appproxy.config.provider import ProviderConfig
from appproxy.relay.catalog import Catalog
from appproxy.relay.preauth.failures import ProviderUnreachable
from appproxy.relay.preauth.provider import Provider
from appproxy.relay.programs import access_tokens
from appproxy.relay.programs.access_tokens import REMEMBERED_SECONDS, AccessTokens
from appproxy.relay.programs.credentials import Credentials
from appproxy.relay.programs.service_tokens import ServiceTokens
from appproxy.units import Duration
from tests.fakes.fronts import COOKIE, Bench, get
from tests.fakes.idp import ISSUER, FakeProvider
from tests.fakes.memory_store import MemoryStore
from tests.fakes.watching import Watcher
from tests.relay.preauth.test_access_tokens import HONEST, NOW

HR = Application(
    id="hr",
    name="HR portal",
    external_url="https://hr.example.com/",
    internal_url="http://hr.corp.local/",
    connector_group="hq",
    assigned=Assigned(users=("alice",), groups=("staff",)),
    api=Api(audiences=("https://hr.example.test/", "api://hr"), scopes=("read",), roles=("Jobs.Run",)),
)


class BearerTestCase(SynchronousTestCase):
    """A relay with one provider and one application that takes its tokens."""

    def setUp(self) -> None:
        self.now = NOW
        self.idp = FakeProvider(lambda: self.now)
        config = ProviderConfig(id="main", issuer=ISSUER, client_id="relay")
        provider = Provider(config, self.idp.fetch, Clock().seconds, lambda: self.now)
        store: Any = MemoryStore()
        self.tokens = AccessTokens({"main": provider}, lambda application: "main", lambda: self.now)
        self.bench = Bench([HR])
        self.bench.gateway._programs = Credentials(ServiceTokens(store, Clock().seconds, lambda: self.now), self.tokens)
        self.bench.gateway._epoch = lambda: self.now

    def publish(self, **changes: Any) -> None:
        self.bench.gateway.catalog = Catalog([msgspec.structs.replace(HR, **changes)])

    def token(self, **claims: Any) -> str:
        headers = claims.pop("headers", {})
        return self.idp.sign_as({**HONEST, **claims}, headers)

    def asked(self, token: str = "", more: bytes = b"", path: bytes = b"/x", field: bytes = b"Authorization") -> bytes:
        """What the relay itself answers, empty for what has gone on to the origin."""
        client = self.bench.client()
        credential = field + b": Bearer " + token.encode() + b"\r\n" if token else b""
        self.bench.sends(client, get(path=path, more=credential + more))
        return client.take()

    @property
    def passed(self) -> Any:
        """The last head that the connector got."""
        return self.bench.pair.opener.heads[-1][0]

    def reached(self) -> int:
        return len(self.bench.pair.opener.heads)

    def challenged(self, answer: bytes, status: int) -> str:
        """The challenge in an answer of this status, which nobody behind the relay has seen."""
        self.assertIn(b"HTTP/1.1 %d " % status, answer)
        self.assertEqual(self.reached(), 0)
        [line] = [line for line in answer.split(b"\r\n") if line.startswith(b"WWW-Authenticate: ")]
        return line.decode().partition(": ")[2]


@pytest.mark.feature("AUTH-10", "SCN-4")
class BearerTest(BearerTestCase):
    """Good tokens and others."""

    def test_good(self) -> None:
        """The origin gets the user and never the token."""
        self.assertEqual(self.asked(self.token()), b"")
        standing = self.passed.standing
        self.assertEqual(standing.identity, {"user": "alice@example.test"})
        self.assertNotIn(b"authorization", {name.lower() for name, _ in standing.fields})

    def test_bad(self) -> None:
        """A38: 401 with the error and where to get a token; nothing reaches a connector, no redirect for a browser."""
        wrong = (
            self.token(aud="https://other.example.test"),
            self.token(exp=NOW - 61),
            self.token()[:-6] + "AAAAAA",
            "nonsense",
        )
        for token in wrong:
            told = self.challenged(self.asked(token, b"Sec-Fetch-Mode: navigate\r\nAccept: text/html\r\n"), 401)
            self.assertEqual(
                told,
                'Bearer realm="hr", error="invalid_token", '
                'resource_metadata="https://hr.example.com/.well-known/oauth-protected-resource"',
            )
        self.assertEqual(self.bench.records[-1][4], "invalid-token")

    def test_twice(self) -> None:
        """Two credentials are none."""
        self.challenged(self.asked(self.token(), b"Authorization: Bearer x\r\n"), 401)

    def test_elsewhere_in_the_request(self) -> None:
        """In the query a token is nothing; it would be in logs."""
        self.challenged(self.asked(path=b"/x?access_token=" + self.token().encode()), 401)

    def test_scope(self) -> None:
        """Without the scope it is 403, and says which."""
        told = self.challenged(self.asked(self.token(scope="write")), 403)
        self.assertIn('error="insufficient_scope", scope="read"', told)

    def test_assignment(self) -> None:
        """Users of programs are assigned as they are in browsers; rules hold for them."""
        told = self.challenged(self.asked(self.token(groups=["others"])), 403)
        self.assertIn('error="insufficient_scope"', told)
        self.publish(rule=(Rule(deny=Who(users=("alice@example.test",))),))
        self.challenged(self.asked(self.token()), 403)

    def test_cookie_and_token(self) -> None:
        """A39: where both come, and differ, the token counts; the record says so."""
        self.assertEqual(self.asked(self.token(), COOKIE), b"")
        self.assertEqual(self.passed.standing.identity, {"user": "alice@example.test"})
        self.assertIn((b"Cookie", b"theme=dark"), self.passed.standing.fields)
        self.bench.pair.opener.heads.clear()
        self.challenged(self.asked(self.token(exp=NOW - 100), COOKIE), 401)

    def test_programs_of_their_own(self) -> None:
        """By a role, or by name; never as one of everybody."""
        itself = {"sub": "desktop", "preferred_username": None, "groups": None}
        self.publish(assigned=Assigned(everyone=True))
        told = self.challenged(self.asked(self.token(**itself)), 403)
        self.assertIn('scope="Jobs.Run"', told)
        self.assertEqual(self.asked(self.token(**itself, roles=["Jobs.Run"])), b"")
        self.assertEqual(self.passed.standing.identity, {"user": "app:desktop"})
        self.publish(assigned=Assigned(users=("app:desktop",)))
        self.assertEqual(self.asked(self.token(**itself)), b"")

    def test_rules_for_programs_of_their_own(self) -> None:
        """Those that deny or allow hold; what asks for a certain sign-in, no program meets."""
        itself = {"sub": "desktop", "roles": ["Jobs.Run"]}
        self.publish(rule=(Rule(name="step", paths=("/step/",), acr=("mfa",)), Rule(deny=Who(users=("eve",)))))
        self.assertIn("insufficient_scope", self.challenged(self.asked(self.token(**itself), path=b"/step/"), 403))
        self.assertEqual(self.asked(self.token(**itself)), b"")
        self.bench.pair.opener.heads.clear()
        self.publish(rule=(Rule(allow=Who(groups=("staff",))),))
        self.challenged(self.asked(self.token(**itself)), 403)

    def test_second_header(self) -> None:
        """The API's own credential passes where the token has a field of its own, with or without its scheme."""
        self.publish(api=msgspec.structs.replace(HR.api, token_header="X-Token"))
        own = b"Authorization: Bearer of-the-api\r\n"
        self.assertEqual(self.asked(self.token(), own, field=b"x-token"), b"")
        names = {name.lower(): value for name, value in self.passed.standing.fields}
        self.assertEqual((names.get(b"x-token"), names[b"authorization"]), (None, b"Bearer of-the-api"))
        client = self.bench.client()
        self.bench.sends(client, get(more=b"X-Token: " + self.token().encode() + b"\r\n"))
        self.assertEqual((client.take(), self.reached()), (b"", 2))
        self.asked(more=COOKIE + b"x_token: leaks\r\n")
        self.assertNotIn(b"leaks", [value for _, value in self.passed.standing.fields])

    def test_provider_is_away(self) -> None:
        """Nobody is told that their token is bad when it cannot be told."""
        self.idp.overrides["/jwks"] = ProviderUnreachable("down")
        self.assertIn(b"HTTP/1.1 502 ", self.asked(self.token()))

    def test_other_schemes(self) -> None:
        """What is no bearer token is the origin's own."""
        self.asked(more=COOKIE + b"Authorization: Basic eDp5\r\n")
        self.assertIn((b"Authorization", b"Basic eDp5"), self.passed.standing.fields)


@pytest.mark.feature("AUTH-1", "AUTH-10")
class StepUpTest(BearerTestCase):
    """A rule wants more than the token has."""

    def setUp(self) -> None:
        super().setUp()
        self.publish(rule=(Rule(max_authentication_age=Duration(300), acr=("mfa",)),))

    def test_standard_clients(self) -> None:
        """RFC 9470: which sign-in, and how old it may be; a token that has it is let through."""
        told = self.challenged(self.asked(self.token(auth_time=NOW - 301)), 401)
        self.assertIn('error="insufficient_user_authentication"', told)
        self.assertIn('acr_values="mfa", max_age="300"', told)
        self.assertEqual(self.asked(self.token(auth_time=NOW - 100, acr="mfa")), b"")
        self.assertEqual(self.asked(self.token(auth_time=NOW - 100, acrs=["c1", "mfa"])), b"")

    def test_age_that_is_not_known(self) -> None:
        """A new token proves no new sign-in."""
        self.challenged(self.asked(self.token(acr="mfa")), 401)

    def test_claims_challenge(self) -> None:
        """Clients that take claims challenges get one, with the claims in base64."""
        told = self.challenged(self.asked(self.token(xms_cc=["cp1"])), 401)
        self.assertIn('authorization_uri="https://idp.example.test/authorize", error="insufficient_claims"', told)
        claims = json.loads(b64decode(told.partition('claims="')[2].partition('"')[0]))
        self.assertEqual(
            claims,
            {
                "access_token": {
                    "acrs": {"essential": True, "value": "mfa"},
                    "nbf": {"essential": True, "value": str(NOW)},
                }
            },
        )


@pytest.mark.feature("AUTH-10")
class RememberedTest(BearerTestCase):
    """What repeated tokens cost."""

    def test_once_checked(self) -> None:
        """A token is checked once, then looked up, until it is to be checked again or has ended."""
        checked = []
        real = access_tokens.check_access_token

        async def counted(*arguments: Any) -> Any:
            checked.append(self.now)
            return await real(*arguments)

        self.patch(access_tokens, "check_access_token", counted)
        token = self.token(exp=NOW + 2 * REMEMBERED_SECONDS)
        for _ in range(3):
            self.asked(token)
        self.now += REMEMBERED_SECONDS
        self.asked(token)
        self.assertEqual(checked, [NOW, NOW + REMEMBERED_SECONDS])
        self.now += REMEMBERED_SECONDS + 60
        self.bench.pair.opener.heads.clear()
        self.challenged(self.asked(token), 401)

    def test_key_that_was_withdrawn(self) -> None:
        """A token whose key the provider has withdrawn ends with the next check, and what is open for it."""
        token, watcher = self.token(exp=NOW + 86400), Watcher()
        self.asked(token)
        [bearer] = self.tokens._known.values()
        bearer.watch(watcher)
        self.idp.keys = ["key-2"]
        self.successResultOf(Deferred.fromCoroutine(self.tokens._providers["main"].keys._keys.refresh()))
        self.now += REMEMBERED_SECONDS
        self.bench.pair.opener.heads.clear()
        self.challenged(self.asked(token), 401)
        self.assertEqual((watcher.ended, self.tokens._known), (1, {}))

    def test_what_is_open_ends_with_the_token(self) -> None:
        """Within a minute of its end."""
        self.asked(self.token())
        watcher, gone = Watcher(), Watcher()
        [bearer] = self.tokens._known.values()
        bearer.watch(watcher)
        bearer.watch(gone)
        bearer.unwatch(gone)
        self.now += 299
        self.successResultOf(Deferred.fromCoroutine(self.tokens.tick()))
        self.assertEqual(watcher.ended, 0)
        self.now += 1
        self.successResultOf(Deferred.fromCoroutine(self.tokens.tick()))
        self.assertEqual((watcher.ended, gone.ended, self.tokens._known), (1, 0, {}))

    def test_bounded(self) -> None:
        """The oldest are forgotten, but for those that something is open for."""
        self.patch(access_tokens, "MAX_REMEMBERED", 10)
        self.asked(self.token(jti="0"))
        [first] = self.tokens._known.values()
        first.watch(Watcher())
        for number in range(1, 30):
            self.asked(self.token(jti=str(number)))
            list(self.tokens._known.values())[-1].cut()
        self.assertIn(first, self.tokens._known.values())
        self.assertLessEqual(len(self.tokens._known), 11)


@pytest.mark.feature("AUTH-8", "AUTH-10")
class ToldTest(BearerTestCase):
    """What programs and scripts are told."""

    def test_metadata(self) -> None:
        """RFC 9728: where tokens for the application come from, at the well-known path before its own."""
        document = json.loads(self.asked(path=b"/.well-known/oauth-protected-resource").partition(b"\r\n\r\n")[2])
        self.assertEqual(
            document,
            {
                "resource": "https://hr.example.com/",
                "authorization_servers": [ISSUER],
                "bearer_methods_supported": ["header"],
                "resource_name": "HR portal",
                "scopes_supported": ["read"],
            },
        )
        self.publish(external_url="https://hr.example.com/api/")
        told = self.challenged(self.asked("bad", path=b"/api/x"), 401)
        self.assertIn('"https://hr.example.com/.well-known/oauth-protected-resource/api/"', told)
        answer = self.asked(path=b"/.well-known/oauth-protected-resource/api/")
        self.assertIn(b'"resource":"https://hr.example.com/api/"', answer)
        self.assertIn(b" 404 ", self.asked(path=b"/.well-known/oauth-protected-resource"))

    def test_no_metadata_without_tokens(self) -> None:
        """Where no tokens are taken the path is the origin's own."""
        self.publish(api=Api())
        self.asked(path=b"/.well-known/oauth-protected-resource", more=COOKIE)
        self.assertEqual(self.passed.target, b"/.well-known/oauth-protected-resource")

    def test_scripts_of_other_sites(self) -> None:
        """They can read what they are told, where the application's rules let them; those of others cannot."""
        cors = CrossOrigin(allowed_origins=("https://spa.example.com",), allow_credentials=True)
        segment = Segment(external_url=HR.external_url, internal_url=HR.internal_url, cors=cors)
        self.publish(external_url="", internal_url="", segment=(segment,))
        answer = self.asked("bad", b"Origin: https://spa.example.com\r\n")
        self.assertIn(b"Access-Control-Allow-Origin: https://spa.example.com\r\n", answer)
        self.assertIn(b"Access-Control-Expose-Headers: WWW-Authenticate", answer)
        self.assertIn(b"Vary: Origin", answer)
        answer = self.asked(self.token(scope="x"), b"Origin: https://spa.example.com\r\n")
        self.assertIn(b" 403 ", answer)
        self.assertIn(b"Access-Control-Allow-Origin", answer)
        self.assertNotIn(b"Access-Control-", self.asked("bad", b"Origin: https://evil.example.com\r\n"))
