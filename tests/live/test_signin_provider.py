"""The relay's way to a provider over real sockets: TLS that is checked, and the development provider."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor, ssl
from twisted.web.resource import Resource
from twisted.web.server import Site

from appproxy.config.provider import ProviderConfig
from appproxy.devidp.service import make_service
from appproxy.relay.preauth.attempts import Attempt
from appproxy.relay.preauth.failures import ProviderUnreachable
from appproxy.relay.preauth.fetching import TreqFetch
from appproxy.relay.preauth.provider import Provider
from tests.fakes.certificates import Authority
from tests.live.chromium import opened, sign_in
from tests.live.programs import BIN, Program, free_ports, listens
from tests.live.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

BACK = "https://proxy.localhost/.appproxy/callback"
USERS = f"""
[[user]]
name = "alice"
password = "wonder"
groups = ["hr"]
[[client]]
client_id = "relay"
client_secret = "development"
redirect_uris = ["{BACK}"]
"""


class Hello(Resource):
    """Says hello to everything."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        """Say it."""
        return b"hello"


@pytest.mark.live
@ensureDeferred
async def test_private_authority(tmp_path: Path) -> None:
    """A29: a provider's certificate must come from the configured authority and bear the name that was asked for."""
    ours, theirs = Authority(), Authority()
    certificate, key = ours.issue("localhost")
    pair = ssl.PrivateCertificate.loadPEM(certificate + key)
    listening = reactor.listenSSL(0, Site(Hello()), pair.options(), interface="127.0.0.1")
    port = listening.getHost().port
    (tmp_path / "ours.pem").write_text(ours.pem)
    (tmp_path / "theirs.pem").write_text(theirs.pem)
    try:
        fetch = TreqFetch(reactor, str(tmp_path / "ours.pem"))
        answer = await fetch("GET", f"https://localhost:{port}/", {}, b"", 100, 10)
        assert (answer.status, answer.body) == (200, b"hello")
        for address, ca_file in (("127.0.0.1", "ours.pem"), ("localhost", "theirs.pem"), ("localhost", "")):
            fetch = TreqFetch(reactor, str(tmp_path / ca_file) if ca_file else "")
            with pytest.raises(ProviderUnreachable):
                await fetch("GET", f"https://{address}:{port}/", {}, b"", 100, 10)
    finally:
        await listening.stopListening()


@pytest.mark.live
@pytest.mark.feature("AUTH-14", "AUTH-2")
@ensureDeferred
async def test_development_provider(tmp_path: Path) -> None:
    """A relay configured as the quick start does it signs somebody in at the development provider."""
    users = tmp_path / "users.toml"
    users.write_text(USERS)
    service = make_service(users, 0, tmp_path)
    service.startService()
    fetch = TreqFetch(reactor)
    try:
        config = ProviderConfig(
            id="dev", issuer=service.issuer, client_id="relay", client_secret="development", allow_http=True
        )
        provider = Provider(config, fetch, reactor.seconds, lambda: int(time.time()))
        attempt = Attempt(b"", "n-1", "v" * 43, "dev", 0)
        address = await provider.authorization_address(
            redirect_uri=BACK, state="s-1", nonce="n-1", challenge=attempt.challenge
        )
        page = await fetch("GET", address, {}, b"", 100_000, 10)
        found = re.search(rb'name="request" value="([^"]+)"', page.body)
        assert found is not None
        form = urlencode({"request": found[1].decode(), "username": "alice", "password": "wonder"}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await fetch("POST", service.issuer + "/sign-in", headers, form, 100_000, 10)
        assert answer.status == 303
        assert SimpleCookie(answer.headers["set-cookie"])
        brought = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
        signed_in = await provider.redeem(brought["code"], attempt.verifier, BACK, "n-1")
        assert (signed_in.identity.user, signed_in.identity.groups) == ("alice", ("hr",))
    finally:
        await service.stopService()


USERS_OF_FRAMES = """
[[user]]
name = "alice"
password = "wonder"
[[client]]
client_id = "relay"
client_secret = "development"
redirect_uris = ["{relay}/.appproxy/callback"]
frontchannel_logout_uri = "{relay}/.appproxy/front-channel-logout"
"""
PROVIDER_OF_FRAMES = """
[[provider]]
id = "dev"
issuer = "http://localhost:{port}"
client_id = "relay"
client_secret = "development"
allow_http = true
"""
APPLICATION = """
[[connector_group]]
name = "hq"
[[application]]
id = "app"
external_url = "https://app.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { everyone = true }
"""


@pytest.mark.live
@pytest.mark.feature("AUTH-6")
def test_front_channel_logout(tmp_path: Path, visit: Callable[..., None]) -> None:
    """Signing out at the provider ends the relay's sessions by a frame of its page, in a real browser."""
    with Stack(tmp_path) as stack:
        stack.write("users.toml", USERS_OF_FRAMES.format(relay=stack.public_url))
        [port] = free_ports(1)
        arguments = [
            BIN / "appproxy",
            "idp",
            "serve",
            "--users",
            "users.toml",
            "--port",
            str(port),
            "--state-dir",
            "idp",
        ]
        stack.add(Program("idp", arguments, tmp_path)).wait_for(lambda: listens(port), "the provider listens")
        stack.relay_more = PROVIDER_OF_FRAMES.format(port=port)
        stack.start(APPLICATION)

        def play(context: BrowserContext) -> None:
            page = opened(context)
            page.goto(stack.address("app"))
            sign_in(page, "alice", "wonder")
            page.wait_for_url(stack.address("app"))
            provider = context.new_page()
            provider.goto(f"http://localhost:{port}/logout")
            with provider.expect_response("**/front-channel-logout*") as framed:
                provider.click("button:has-text('Sign out')")
            assert framed.value.status == 200
            page.goto(stack.address("app"))
            page.wait_for_selector("#password")

        visit(play)
        assert stack.relay is not None
        assert "logout.front-channel: dev ended 2 sessions" in stack.relay.text()
