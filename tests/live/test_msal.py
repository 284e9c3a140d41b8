"""The Microsoft Authentication Library for Python, unchanged, with an application behind the relay.

The provider is a certified one, but not Microsoft's; relay, connector, origin and provider are processes of their own.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.fakes.certificates import Authority
from tests.live.clients import FETCHES, NAVIGATES, Answer, Browser
from tests.live.programs import Program, free_ports, listens
from tests.live.stack import NODE, Stack

msal = pytest.importorskip("msal", reason="no msal: pip install msal")
pytestmark = [pytest.mark.live, pytest.mark.feature("SCN-4", "AUTH-10")]

RESOURCE = "https://api.localhost/"
SCOPES = ["user_impersonation"]
BACK = "http://localhost/desktop"
PROVIDER = """
[[provider]]
id = "tenant"
issuer = "https://localhost:{port}/tenant"
client_id = "relay"
client_secret = "a secret"
ca_file = "provider-ca.pem"
"""
APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "api"
external_url = "https://api.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["staff"] }
[application.api]
audiences = ["https://api.localhost"]
scopes = ["user_impersonation"]
roles = ["Jobs.Run"]
[application.identity_token]
header = "X-Identity"
[[application.rule]]
name = "payroll"
paths = ["/payroll/"]
acr = ["c1"]
[[application]]
id = "reports"
external_url = "https://reports.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["staff"] }
timeouts = { first_byte = "long" }
translate = { host_header = false }
[application.api]
audiences = ["https://api.localhost"]
scopes = ["user_impersonation"]
[application.sso]
mode = "header"
header = [{ name = "X-User", value = "user" }]
"""


class Programs(Stack):
    """The stack with the provider of programs."""

    def __init__(self, folder: Path) -> None:
        (self.tenant_port,) = free_ports(1)
        super().__init__(folder, relay_more=PROVIDER.format(port=self.tenant_port))
        authority = Authority("Provider CA")
        self.ca = self.write("provider-ca.pem", authority.pem)
        self.certificate = authority.write(folder / "provider.pem", "localhost")
        self.issuer = f"https://localhost:{self.tenant_port}/tenant"

    def start_tenant(self) -> None:
        """Start the provider; skips the tests where there is none."""
        node = shutil.which("node")
        if node is None or not (NODE / "node_modules" / "oidc-provider").is_dir():
            pytest.skip("no node, or no oidc-provider in tests/live/node: npm install --no-package-lock")
        arguments = [node, NODE / "programs.mjs", str(self.tenant_port), self.public_url, RESOURCE, self.certificate]
        program = self.add(Program("tenant", arguments, self.folder))
        program.wait_for(lambda: listens(self.tenant_port), "the provider listens")

    def user_agent(self) -> Browser:
        """A browser that trusts relay and provider."""
        tls = self.tls()
        tls.load_verify_locations(self.ca)
        return Browser(tls)

    def call(self, token: str, path: str = "/x", fields: dict[str, str] = FETCHES) -> Answer:
        """Use the application with an access token."""
        sent = {**fields, "Authorization": f"Bearer {token}"} if token else fields
        return self.user_agent().ask(self.address("api", path), fields=sent)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Everything, started once for this module."""
    with Programs(tmp_path_factory.mktemp("msal")) as stack:
        stack.start_tenant()
        stack.start(APPLICATIONS)
        yield stack


@pytest.fixture(autouse=True)
def _no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """These go before what the library is told to trust."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def desktop(stack: Programs, **more: Any) -> Any:
    """The library in a program on somebody's desk."""
    return msal.PublicClientApplication(
        "desktop", oidc_authority=stack.issuer, verify=str(stack.ca), instance_discovery=False, **more
    )


def signed_in(stack: Programs, application: Any, name: str = "alice", password: str = "wonderland") -> dict[str, Any]:
    """Tokens by authorization code, with a browser; this provider gives refresh tokens to who consents only."""
    flow = application.initiate_auth_code_flow(SCOPES, redirect_uri=BACK, prompt="consent")
    agent = stack.user_agent()
    agent.open(flow["auth_uri"])
    answer = agent.submit(agent.trail[-1], until=BACK, username=name, password=password)
    brought = dict(parse_qsl(urlsplit(answer.value("Location")).query))
    result: dict[str, Any] = application.acquire_token_by_auth_code_flow(flow, brought)
    assert "access_token" in result, result
    return result


def told(answer: Answer) -> dict[str, str]:
    """What the origin got."""
    assert answer.status == 200, (answer.status, answer.fields, answer.text)
    return {name.lower(): value for name, value in answer.json()["fields"]}


def who(answer: Answer) -> str:
    """Whom the relay has signed for, as the origin reads it."""
    payload = told(answer)["x-identity"].split(".")[1]
    name: str = json.loads(base64.urlsafe_b64decode(payload + "=="))["preferred_username"]
    return name


def test_authorization_code(stack: Programs) -> None:
    """A user signs in with a browser; the program uses the application, whose origin never sees the token."""
    token = signed_in(stack, desktop(stack))["access_token"]
    answer = stack.call(token)
    assert who(answer) == "alice"
    assert "authorization" not in told(answer)
    assert token not in answer.text


def test_silently(stack: Programs) -> None:
    """From the library's cache, and by refresh token, without a browser."""
    application = desktop(stack)
    first = signed_in(stack, application)["access_token"]
    (account,) = application.get_accounts()
    assert application.acquire_token_silent(SCOPES, account)["access_token"] == first
    again = application.acquire_token_silent_with_error(SCOPES, account, force_refresh=True)
    assert again["access_token"] != first
    assert who(stack.call(again["access_token"])) == "alice"


def test_device_code(stack: Programs) -> None:
    """A program without a browser shows a code; its user signs in elsewhere."""
    application = desktop(stack)
    flow = application.initiate_device_flow(SCOPES)
    agent = stack.user_agent()
    page = agent.open(flow["verification_uri"])
    page = agent.submit(page, user_code=flow["user_code"])
    page = agent.submit(page, confirm="yes")
    page = agent.submit(page, username="alice", password="wonderland")
    assert page.text == "signed in"
    result = application.acquire_token_by_device_flow(flow)
    assert who(stack.call(result["access_token"])) == "alice"


def test_client_credentials(stack: Programs) -> None:
    """A program that speaks for itself gets in by its role; one without is told 403."""
    tokens = {}
    for name, secret in (("daemon", "machine"), ("intern", "trainee")):
        application = msal.ConfidentialClientApplication(
            name, secret, oidc_authority=stack.issuer, verify=str(stack.ca), instance_discovery=False
        )
        tokens[name] = application.acquire_token_for_client(["read"])["access_token"]
    assert who(stack.call(tokens["daemon"])) == "app:daemon"
    refused = stack.call(tokens["intern"])
    assert refused.status == 403
    assert 'error="insufficient_scope", scope="Jobs.Run"' in refused.value("WWW-Authenticate")


@pytest.mark.feature("AUTH-1")
def test_claims_challenge(stack: Programs) -> None:
    """A rule wants more: the program takes the challenge to the provider, and what that gives opens the path."""
    application = desktop(stack, client_capabilities=["cp1"])
    token = signed_in(stack, application)["access_token"]
    assert who(stack.call(token)) == "alice"
    refused = stack.call(token, "/payroll/may")
    assert refused.status == 401
    challenge = refused.value("WWW-Authenticate")
    assert 'error="insufficient_claims"' in challenge
    found = re.search(r'claims="([^"]+)"', challenge)
    assert found is not None
    claims = base64.b64decode(found[1]).decode()
    (account,) = application.get_accounts()
    better = application.acquire_token_silent_with_error(SCOPES, account, claims_challenge=claims)
    assert who(stack.call(better["access_token"], "/payroll/may")) == "alice"


def test_programs_that_take_no_challenges(stack: Programs) -> None:
    """They are told by RFC 9470 what is missing."""
    token = signed_in(stack, desktop(stack))["access_token"]
    refused = stack.call(token, "/payroll/may")
    assert refused.status == 401
    assert 'error="insufficient_user_authentication"' in refused.value("WWW-Authenticate")
    assert 'acr_values="c1"' in refused.value("WWW-Authenticate")


def test_not_assigned(stack: Programs) -> None:
    """A token for a user who may not is a good token, and 403."""
    token = signed_in(stack, desktop(stack), "mallory", "malice")["access_token"]
    refused = stack.call(token)
    assert refused.status == 403
    assert 'error="insufficient_scope"' in refused.value("WWW-Authenticate")


def test_tokens_that_are_not_for_it(stack: Programs) -> None:
    """A38: the ID token, a changed token, none: 401 even where a page is opened, and never a redirect."""
    result = signed_in(stack, desktop(stack))
    head, payload, signature = result["access_token"].split(".")
    for token in (result["id_token"], f"{head}.{payload}.{signature[::-1]}", "x"):
        for fields in (FETCHES, NAVIGATES):
            answer = stack.call(token, fields=fields)
            assert answer.status == 401
            assert 'error="invalid_token"' in answer.value("WWW-Authenticate")
    assert "error=" not in stack.call("").value("WWW-Authenticate")


def test_where_tokens_come_from(stack: Programs) -> None:
    """RFC 9728: the challenge leads to metadata, and these to the provider."""
    found = re.search(r'resource_metadata="([^"]+)"', stack.call("").value("WWW-Authenticate"))
    assert found is not None
    metadata = stack.user_agent().ask(found[1], fields=FETCHES).json()
    assert metadata["resource"] == stack.address("api")
    assert metadata["authorization_servers"] == [stack.issuer]


@pytest.mark.feature("SSO-6")
def test_the_origin_checks_who_it_is(stack: Programs) -> None:
    """With the relay's published keys and nothing else."""
    import jwt

    token = told(stack.call(signed_in(stack, desktop(stack))["access_token"]))["x-identity"]
    keys = stack.user_agent().ask(f"{stack.public_url}/.appproxy/jwks", fields=FETCHES).json()["keys"]
    (key,) = [each for each in keys if each["kid"] == jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, jwt.PyJWK(key), ["ES256"], audience="api", issuer=stack.public_url)
    assert (claims["preferred_username"], claims["idp"]) == ("alice", stack.issuer)


def test_nothing_that_could_be_used_again_is_logged(stack: Programs) -> None:
    """Tokens are in no log of ours."""
    token = signed_in(stack, desktop(stack))["access_token"]
    stack.call(token)
    stack.call(token[:-9] + "AAAAAAAAA")
    for name in ("relay.log", "relay-access.log", "connector.log", "connector-access.log"):
        text = (stack.folder / name).read_text()
        assert token[:60] not in text, name
        assert token.rpartition(".")[2] not in text, name


@pytest.mark.feature("SCN-10")
def test_report_server(stack: Programs) -> None:
    """One server root for a mobile program with a token and for a browser, which is sent to sign in; same user, same
    addresses, the server's own name outside."""
    token = signed_in(stack, desktop(stack))["access_token"]
    agent = stack.user_agent()
    for path in ("/reports/api/v2.0/me", "/ReportServer?/Sales&rs:Command=Render", "/powerbi/"):
        url = stack.address("reports", path)
        answer = agent.ask(url, fields={**FETCHES, "Authorization": f"Bearer {token}"})
        assert (told(answer)["x-user"], answer.json()["target"]) == ("alice", path)
        assert told(answer)["host"] == urlsplit(url).netloc
        page = agent.ask(url)
        assert page.status == 302
        assert page.value("Location").startswith(stack.public_url)
