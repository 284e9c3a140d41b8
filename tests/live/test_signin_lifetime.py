"""How sign-ins go on and end, with the certified provider: refreshed, disabled, signed out here, there and by others.

Whatever ends a session closes its WebSocket within a second; how long it took is printed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fakes.idp import public_jwk, rsa_key
from tests.live.chromium import opened, sign_in
from tests.live.clients import FETCHES, Browser, Raw
from tests.live.programs import until
from tests.live.stack import INTRANET, SECRET, Stack

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.live

SESSION = "__Host-appproxy-session"
OFFLINE = """
scopes = ["openid", "profile", "email", "offline_access"]
authorization_parameters = ["prompt=consent"]
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, with access tokens of three seconds."""
    folder = tmp_path_factory.mktemp("lifetime")
    with Stack(folder, signs_in=True, provider_more=SECRET + OFFLINE, access_seconds=3) as stack:
        stack.start(INTRANET)
        yield stack


@pytest.fixture
def browser(stack: Stack) -> Browser:
    """Somebody who is signed in."""
    browser = stack.browser()
    assert browser.sign_in(stack.address("intranet"), "alice", "wonderland").status == 200
    return browser


def status(stack: Stack, browser: Browser) -> int:
    """How a script's request is answered."""
    return browser.ask(stack.address("intranet"), fields=FETCHES).status


def websocket(stack: Stack, browser: Browser) -> Raw:
    """An upgraded connection of this browser, which echoes."""
    client = Raw(stack.clients_port, stack.tls(), "intranet.localhost")
    host = f"intranet.localhost:{stack.clients_port}"
    client.send(
        f"GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\nOrigin: https://{host}\r\n"
        f"Cookie: {SESSION}={browser.cookie('intranet.localhost', SESSION)}\r\n\r\n".encode()
    )
    assert b" 101 " in client.until(b"\r\n\r\n")
    client.send(b"ping")
    assert client.until(b"ping")
    return client


def closed_within(client: Raw, begun: float, what: str) -> None:
    """The connection ends within a second of *begun*."""
    client.rest(5.0)
    took = time.monotonic() - begun
    print(f"{what}: WebSocket closed after {took * 1000:.0f} ms")
    assert took < 1.0, what


@pytest.mark.feature("AUTH-5")
def test_refreshed(stack: Stack, browser: Browser) -> None:
    """With refresh tokens that work once, the sign-in goes on for as long as it is used."""

    def refreshes() -> int:
        assert status(stack, browser) == 200
        with urlopen(f"http://localhost:{stack.provider_port}/test/refreshes") as answer:
            return int(answer.read())

    before = refreshes()
    until("three refreshes", lambda: refreshes() >= before + 3)


@pytest.mark.feature("AUTH-5", "AUTH-6")
def test_refreshed_and_signed_out_in_a_browser(stack: Stack, visit: Callable[..., None]) -> None:
    """Chromium's sign-in outlives its access token several times, and ends at the provider with it."""

    def refreshes() -> int:
        with urlopen(f"http://localhost:{stack.provider_port}/test/refreshes") as answer:
            return int(answer.read())

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(stack.address("intranet"))
        sign_in(page, "alice", "wonderland")
        page.wait_for_url(stack.address("intranet"))
        before = refreshes()

        def refreshed() -> bool:
            answer = page.goto(stack.address("intranet"))
            assert answer is not None
            assert answer.status == 200
            return refreshes() >= before + 2

        until("two refreshes", refreshed)
        page.goto(stack.address("intranet", "/.appproxy/sign-out"))
        page.click("text=Sign out everywhere")
        page.wait_for_load_state("networkidle")
        if f":{stack.provider_port}/" in page.url:
            page.click("button[value=yes]")
        page.wait_for_selector("text=You are signed out")
        page.goto(stack.address("intranet"))
        page.wait_for_selector("#username")

    visit(play)


@pytest.mark.feature("AUTH-7")
def test_ended_by_administrator(stack: Stack, browser: Browser) -> None:
    """W03: ending a user's sessions closes their WebSocket within a second, and the next request is refused."""
    with websocket(stack, browser) as client:
        asked = time.monotonic()
        stack.command("session", "end", "--user", "alice")
        done = time.monotonic()
        # The command itself takes most of the time: it starts a Python.
        closed_within(client, done, f"session end (the command took {done - asked:.2f} s)")
    assert status(stack, browser) == 401


@pytest.mark.feature("AUTH-6")
def test_signed_out_elsewhere(stack: Stack, browser: Browser) -> None:
    """A40, W03: signing out at the provider itself ends the sessions here, by its back-channel notice."""
    provider = f"http://localhost:{stack.provider_port}"
    with websocket(stack, browser) as client:
        question = browser.open(f"{provider}/session/end")
        asked = time.monotonic()
        browser.submit(question, until="nowhere", logout="yes")
        closed_within(client, asked, "back-channel logout")
    assert status(stack, browser) == 401
    assert stack.relay is not None
    assert "logout.back-channel" in stack.relay.text()


@pytest.mark.feature("AUTH-6")
def test_signed_out_here(stack: Stack, browser: Browser) -> None:
    """Signing out of everything ends it at the provider too, which sends people back here."""
    other = stack.browser()
    other.sign_in(stack.address("intranet"), "bob", "builder")
    question = browser.open(stack.address("intranet", "/.appproxy/sign-out"))
    with websocket(stack, browser) as client:
        asked = time.monotonic()
        at_provider = browser.submit(question, scope="everything")
        closed_within(client, asked, "sign-out")
    done = browser.submit(at_provider, logout="yes")
    assert urlsplit(done.url).path == "/.appproxy/signed-out"
    assert (status(stack, browser), status(stack, other)) == (401, 200)


@pytest.mark.feature("AUTH-5", "AUTH-7")
def test_disabled_account(stack: Stack) -> None:
    """A35: an account that is disabled loses its sessions when its access token ends."""
    browser = stack.browser()
    browser.sign_in(stack.address("intranet"), "carol", "carousel")
    disable = Request(f"http://localhost:{stack.provider_port}/test/disable/carol", method="POST")
    with websocket(stack, browser) as client:
        urlopen(disable).close()
        until("the account's sessions have ended", lambda: status(stack, browser) == 401)
        client.rest(5.0)
    assert stack.relay is not None
    assert "session.not-refreshed" in stack.relay.text()


@pytest.mark.feature("AUTH-7")
def test_no_tokens_in_sight(stack: Stack, browser: Browser) -> None:
    """O02: no token of the provider is in the store or a log in the clear."""
    assert status(stack, browser) == 200
    for path in [*stack.folder.glob("*.log"), *(stack.folder / "relay").glob("relay.db*")]:
        if path.name not in ("provider.log", "origin.log"):
            assert b"eyJ" not in path.read_bytes(), path


@pytest.mark.feature("AUTH-2")
def test_key_and_form(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A relay that proves itself by a key, and whose provider answers in a form, signs people in and refreshes."""
    folder = tmp_path_factory.mktemp("key")
    settings = 'private_key_file = "client.key"\nkey_id = "client"\nresponse_mode = "form_post"\n' + OFFLINE
    client_key = json.dumps({**public_jwk("client"), "alg": "RS256"})
    with Stack(folder, signs_in=True, provider_more=settings, access_seconds=2, client_key=client_key) as stack:
        pem = rsa_key("client").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        stack.write("client.key", pem.decode())
        stack.start(INTRANET)
        browser = stack.browser()
        answer = browser.sign_in(stack.address("intranet", "/x?y=z"), "alice", "wonderland")
        assert "response_mode=form_post" in " ".join(each.url for each in browser.trail) or "<form" in answer.text
        page = browser.submit(answer)
        assert (page.status, page.json()["target"]) == (200, "/x?y=z")

        def refreshed() -> bool:
            assert status(stack, browser) == 200
            with urlopen(f"http://localhost:{stack.provider_port}/test/refreshes") as counted:
                return int(counted.read()) > 0

        until("a refresh", refreshed)
