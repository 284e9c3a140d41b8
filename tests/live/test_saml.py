"""Claims-aware applications with sign-ins of their own, SAML 2.0 and WS-Federation, behind the relay's sign-in.

python3-saml at the application, SimpleSAMLphp as its identity provider, Chromium with default cookies between them.
The provider is another site than the application, so its forms come without the relay's cookie.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.live.chromium import opened, photograph
from tests.live.chromium import sign_in as sign_in_at_relay
from tests.live.programs import BIN, Program, free_ports, listens
from tests.live.simplesaml import SimpleSAML, self_signed
from tests.live.stack import IMPORTABLE, Stack

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Request

try:
    import onelogin.saml2.auth  # noqa: F401
except Exception as error:  # xmlsec has one of its own where it and lxml were not built alike
    pytest.skip(f"no working python3-saml ({error}): pip install python3-saml", allow_module_level=True)
pytestmark = pytest.mark.live

SESSION = "__Host-appproxy-session"
#: ``identical`` sees the address that its users see; ``translated`` sees its internal one and was told the other;
#: ``unlisted`` is ``identical`` as somebody publishes it who has not read of its forms.
APPLICATIONS = """
[[connector_group]]
name = "hq"

[[application]]
id = "identical"
external_url = "https://identical.localhost:PORT/"
internal_url = "http://127.0.0.1:IDENTICAL/"
connector_group = "hq"
assigned = { groups = ["staff"] }
translate = { host_header = false }
sign_in = { cross_site_posts = ["/saml/acs"] }
[[application.rule]]
paths = ["/saml/metadata"]
sign_in = "public"

[[application]]
id = "unlisted"
external_url = "https://unlisted.localhost:PORT/"
internal_url = "http://127.0.0.1:IDENTICAL/"
connector_group = "hq"
assigned = { groups = ["staff"] }
translate = { host_header = false }
[[application.rule]]
paths = ["/saml/metadata"]
sign_in = "public"

[[application]]
id = "translated"
external_url = "https://translated.localhost:PORT/claims/"
internal_url = "http://127.0.0.1:TRANSLATED/crm/"
connector_group = "hq"
assigned = { groups = ["staff"] }
translate = { bodies = true }
sign_in = { cross_site_posts = ["/claims/saml/acs", "/claims/federation"] }
[[application.rule]]
paths = ["/claims/saml/metadata"]
sign_in = "public"
"""
#: Signed by nobody.
FORGED = b"""<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_1" Version="2.0">
<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status></samlp:Response>"""
#: Sends a form from whatever page is open.
SEND = """([action, values]) => {
    const form = document.createElement("form");
    form.method = "post";
    form.action = action;
    for (const [name, value] of Object.entries(values)) {
        const input = document.createElement("input");
        [input.type, input.name, input.value] = ["hidden", name, value];
        form.append(input);
    }
    document.body.append(form);
    form.submit();
}"""


class Claims(Stack):
    """Everything, with the application twice and its provider."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, signs_in=True)
        port, *ports = free_ports(3)
        self.idp = SimpleSAML(port, folder / "idp")
        self.ports = dict(zip(("identical", "translated"), ports, strict=True))
        self.bases = {
            "identical": self.address("identical", ""),
            "unlisted": self.address("unlisted", ""),
            "translated": self.address("translated", "/claims"),
        }

    def start(self, applications: str = APPLICATIONS) -> None:
        """Start everything; the provider knows the applications by what they publish of themselves."""
        for name, mount, address in (("identical", "", ""), ("translated", "/crm", self.bases["translated"])):
            self._start_application(name, mount, address)
            applications = applications.replace(name.upper(), str(self.ports[name]))
        super().start(applications)
        for name, base in self.bases.items():
            answer = self.browser().open(f"{base}/saml/metadata")
            assert answer.status == 200
            assert f'entityID="{base}/saml/metadata"' in answer.text
            assert "127.0.0.1" not in answer.text
            self.idp.trust(name, answer.body)
        self.add(self.idp.start(self.folder, f"{self.bases['translated']}/federation"))

    def _start_application(self, name: str, mount: str, address: str) -> None:
        port = self.ports[name]
        certificate, key = self_signed(name)
        settings = {
            "port": port,
            "mount": mount,
            "address": address,
            "provider": self.idp.address,
            "key": key,
            "certificate": certificate,
            "provider_certificate": str(self.idp.certificate),
        }
        path = self.write(f"{name}.json", json.dumps(settings))
        program = Program(name, [BIN / "python", "-m", "tests.live.claims", path], self.folder, IMPORTABLE)
        self.add(program).wait_for(lambda: listens(port), f"{name} listens")

    def came(self, name: str) -> list[str]:
        """What came to an application since the last time: methods and paths."""
        with urlopen(f"http://127.0.0.1:{self.ports[name]}/control/requests", timeout=10) as answer:
            return [f"{each['method']} {each['path']}" for each in json.load(answer)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Claims]:
    """Everything, started once for this module."""
    with Claims(tmp_path_factory.mktemp("saml")) as stack:
        stack.start()
        yield stack


def sign_in_at_provider(page: Page, name: str, password: str) -> None:
    """Fill in SimpleSAMLphp's form."""
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", password)
    page.click("button:has-text('Login')")


def greeted(page: Page, name: str, address: str) -> None:
    """Wait until the application greets somebody at an address."""
    page.wait_for_selector(f"h1:has-text('Hello {name}')")
    assert page.url == address
    # Some pages on the way lack icons.
    assert [each for each in page.complaints if "status of 404" not in each] == []  # type: ignore[attr-defined]


@pytest.mark.feature("SCN-11", "AUTH-9", "TRN-1")
@pytest.mark.parametrize("name", ["identical", "translated"])
def test_sign_in(stack: Claims, visit: Callable[..., None], name: str) -> None:
    """Two sign-ins on the way to a deep link; the assertion comes without the relay's cookie, and passes, once."""
    base = stack.bases[name]
    wanted = f"{base}/reports?year=2026&who=m%C3%BCller%2Fsons"
    assertions: list[Request] = []

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.on("request", lambda each: assertions.append(each) if each.method == "POST" else None)
        stack.came(name)
        page.goto(wanted)
        sign_in_at_relay(page, "alice", "wonderland")
        page.wait_for_selector("input[name=username]")
        assert page.url.startswith(stack.idp.address)
        sign_in_at_provider(page, "alice", "looking-glass")
        greeted(page, "alice", wanted)
        assert page.text_content("#groups") == "2: café & crème"
        assert page.text_content("#here") == wanted
        photograph(page, f"saml-{name}")
        [assertion] = [each for each in assertions if each.url == f"{base}/saml/acs"]
        sent = assertion.all_headers()
        assert sent["sec-fetch-site"] == "cross-site"
        assert SESSION not in sent.get("cookie", "")
        assert stack.came(name).count("POST /saml/acs") == 1
        # Only once: what the browser can ask for again is no form any more.
        page.goto(f"{base}/saml/acs")
        assert stack.came(name) == ["GET /saml/acs"]

    visit(play)


@pytest.mark.feature("SCN-11", "AUTH-9")
@pytest.mark.parametrize("name", ["identical", "translated"])
def test_begun_at_the_provider(stack: Claims, visit: Callable[..., None], name: str) -> None:
    """An assertion of 300 KiB that nobody asked for waits for the relay's sign-in, and for no other one."""
    base = stack.bases[name]
    inside = base if name == "identical" else f"http://127.0.0.1:{stack.ports[name]}/crm"
    wanted = f"{inside}/inbox"

    def play(context: BrowserContext) -> None:
        page = opened(context)
        stack.came(name)
        entity = quote(f"{base}/saml/metadata", safe="")
        page.goto(
            f"{stack.idp.address}/saml2/idp/SSOService.php?spentityid={entity}&RelayState={quote(wanted, safe='')}"
        )
        sign_in_at_provider(page, "bob", "scaffold")
        page.wait_for_selector("#password")
        assert stack.came(name) == []
        sign_in_at_relay(page, "bob", "builder")
        greeted(page, "bob", f"{base}/inbox")
        assert (page.text_content("#groups") or "").startswith("2000: ")
        assert stack.came(name)[:2] == ["POST /saml/acs", "GET /inbox"]

    visit(play)


@pytest.mark.feature("SCN-11")
@pytest.mark.parametrize("name", ["identical", "translated"])
def test_logout(stack: Claims, visit: Callable[..., None], name: str) -> None:
    """Single logout with redirects, begun at either end: signed messages pass, and the relay's session stays."""
    base = stack.bases[name]

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(f"{base}/")
        sign_in_at_relay(page, "alice", "wonderland")
        sign_in_at_provider(page, "alice", "looking-glass")
        greeted(page, "alice", f"{base}/")
        page.click("text=Sign out")
        page.wait_for_selector("text=Signed out of Claims")
        assert page.url == f"{base}/signed-out"
        page.goto(f"{base}/again")
        sign_in_at_provider(page, "alice", "looking-glass")
        greeted(page, "alice", f"{base}/again")
        stack.came(name)
        page.goto(
            f"{stack.idp.address}/saml2/idp/SingleLogoutService.php?ReturnTo={quote(stack.idp.address)}/logout.php"
        )
        assert page.url.startswith(stack.idp.address)
        assert stack.came(name) == ["GET /saml/sls"]
        page.goto(f"{base}/third")
        page.wait_for_selector("input[name=username]")
        assert page.url.startswith(stack.idp.address)

    visit(play)


@pytest.mark.feature("SCN-11", "AUTH-9")
def test_no_other_forms(stack: Claims, visit: Callable[..., None]) -> None:
    """The provider's site may send its forms where the application takes them, and nowhere else."""
    base = stack.bases["identical"]

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(f"{base}/")
        sign_in_at_relay(page, "alice", "wonderland")
        sign_in_at_provider(page, "alice", "looking-glass")
        greeted(page, "alice", f"{base}/")
        stack.came("identical")
        others = ("/transfer", "/", "/saml/acs/", "/saml/ACS", "/saml/acs/more", "/saml/acs%2Fmore", "/saml")
        for path in others:
            page.goto(f"{stack.idp.address}/resources/default.css")
            page.evaluate(SEND, [f"{base}{path}", {"amount": "1000"}])
            page.wait_for_selector("text=Your form was not sent on")
            assert [each for each in stack.came("identical") if not each.startswith("GET ")] == [], path
        page.goto(f"{stack.idp.address}/resources/default.css")
        page.evaluate(SEND, [f"{base}/saml/acs?a=b", {"SAMLResponse": b64encode(FORGED).decode()}])
        page.wait_for_selector("text=Refused")
        assert stack.came("identical") == ["POST /saml/acs"]

    visit(play)


@pytest.mark.feature("AUTH-9", "HTTP-8")
def test_not_listed(stack: Claims, visit: Callable[..., None]) -> None:
    """Where nobody has listed the assertion consumer, people are told what happened, and do not go round for ever."""

    def play(context: BrowserContext) -> None:
        page = opened(context)
        stack.came("identical")
        page.goto(stack.address("unlisted"))
        sign_in_at_relay(page, "alice", "wonderland")
        sign_in_at_provider(page, "alice", "looking-glass")
        page.wait_for_selector("text=Your form was not sent on")
        assert page.url == stack.address("unlisted", "/saml/acs")
        photograph(page, "form-not-kept")
        assert [each for each in stack.came("identical") if "favicon" not in each] == ["GET /"]

    visit(play)


@pytest.mark.feature("SCN-11", "AUTH-9")
def test_federation(stack: Claims, visit: Callable[..., None]) -> None:
    """WS-Federation, too: its token is another site's form."""
    base = stack.bases["translated"]

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(f"{base}/federated/desk?x=1")
        sign_in_at_relay(page, "alice", "wonderland")
        sign_in_at_provider(page, "alice", "looking-glass")
        greeted(page, "alice", f"{base}/federated/desk?x=1")
        assert "POST /federation" in stack.came("translated")

    visit(play)
