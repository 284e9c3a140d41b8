"""A real browser signs in and uses the demo's intranet.

Screenshots of everything that people see are left in ``.test-results/``.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.live.chromium import opened, photograph, sign_in
from tests.live.programs import BIN, Program, free_ports, listens, until
from tests.live.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.live

APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "intranet"
name = "Intranet"
external_url = "https://intranet.localhost:PORT/"
internal_url = "http://127.0.0.1:INTRANET/"
connector_group = "hq"
assigned = { groups = ["staff"] }
[application.sso]
mode = "header"
[[application.sso.header]]
name = "X-Remote-User"
value = "user"
[[application]]
id = "reports"
name = "Quarterly reports"
external_url = "https://reports.localhost:PORT/"
internal_url = "http://127.0.0.1:INTRANET/reports/"
connector_group = "hq"
assigned = { groups = ["finance"] }
[[application]]
id = "gone"
name = "Server that is switched off"
external_url = "https://gone.localhost:PORT/"
internal_url = "http://127.0.0.1:9/"
connector_group = "hq"
assigned = { groups = ["staff"] }
"""
#: How many boxes stick out of the column that they are in.
PROTRUDING = """() => {
    const right = document.querySelector("main").getBoundingClientRect().right + 1;
    const boxes = [...document.querySelectorAll("main section, main .card, main li")];
    return boxes.filter(box => box.getBoundingClientRect().right > right).length;
}"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Relay, connector, certified provider and the demo's intranet, started once for this module."""
    with Stack(tmp_path_factory.mktemp("browser"), signs_in=True) as stack:
        [port] = free_ports(1)
        intranet = Program(
            "intranet", [BIN / "python", "-m", "appproxy.demo.intranet", "--port", str(port)], stack.folder
        )
        stack.add(intranet).wait_for(lambda: listens(port), "the intranet listens")
        stack.start(APPLICATIONS.replace("INTRANET", str(port)))
        yield stack


def use_intranet(page: Page, folder: Path) -> None:
    """Everything that the intranet's page offers."""
    page.wait_for_selector("#ws-status.open")
    page.fill("#ws-text", "grüß dich")
    page.click("#ws-form button")
    page.wait_for_selector("#ws-echo:has-text('echo: grüß dich')")
    clock = page.text_content("#clock")
    page.wait_for_function("before => document.getElementById('clock').textContent !== before", arg=clock)
    content = os.urandom(3_000_000)
    page.set_input_files("#upload-file", {"name": "a file.bin", "mimeType": "application/x-test", "buffer": content})
    page.click("#upload button")
    page.wait_for_selector(f"#upload-result:has-text('{hashlib.sha256(content).hexdigest()}')")
    with page.expect_download() as begun:
        page.click("#download")
    begun.value.save_as(folder / "download.bin")
    assert (folder / "download.bin").stat().st_size == 10_000_000


@pytest.mark.feature("AUTH-2", "AUTH-3", "AUTH-6", "HTTP-4", "SSO-6", "SCN-3", "SCN-12")
def test_a_visit(stack: Stack, visit: Callable[..., None], tmp_path: Path) -> None:
    """Sign in, WebSocket, events, upload, download, portal, sign out; then the sign-in form is all there is."""

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(stack.address("intranet"))
        photograph(page, "provider-sign-in")
        sign_in(page, "alice", "wonderland")
        page.wait_for_selector("#user:has-text('alice')")
        assert page.url == stack.address("intranet")
        assert "x-remote-user" in (page.text_content("#headers") or "").lower()
        use_intranet(page, tmp_path)
        photograph(page, "intranet")
        portal = opened(context)
        portal.goto(stack.public_url)
        assert portal.locator("ul.applications li").count() == 3
        photograph(portal, "portal")
        portal.click("text=Quarterly reports")
        portal.wait_for_selector("text=Quarterly figures")
        photograph(portal, "reports")
        portal.click("#sign-out")
        photograph(portal, "sign-out")
        portal.click("text=Sign out everywhere")
        portal.click("button:has-text('Sign out')")
        portal.wait_for_selector("text=You are signed out")
        photograph(portal, "signed-out")
        # What was open elsewhere for the session closes by itself.
        page.wait_for_selector("#ws-status:has-text('closed')")
        assert portal.complaints == []  # type: ignore[attr-defined]
        page.goto(stack.address("intranet"))
        page.wait_for_selector("#password")
        assert page.url.startswith(f"http://localhost:{stack.provider_port}/")

    visit(play)


@pytest.mark.feature("HTTP-8", "POL-1", "ADM-1")
def test_error_pages(stack: Stack, visit: Callable[..., None]) -> None:
    """Who may not, what is not there, what is down: a page of the relay, and its own policy lets it have its style."""

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(stack.address("intranet"))
        sign_in(page, "bob", "builder")
        page.wait_for_selector("#user:has-text('bob')")
        for name, address, status, words in (
            ("error-403", stack.address("reports"), 403, "You may not open this"),
            ("error-404", f"{stack.public_url}/nothing", 404, "There is nothing here"),
            ("error-502", stack.address("gone"), 502, "The application cannot be reached"),
        ):
            page = opened(context)
            answer = page.goto(address)
            assert answer is not None
            assert answer.status == status
            assert words in (page.text_content("h1") or "")
            assert page.evaluate("getComputedStyle(document.querySelector('.card')).borderTopWidth") == "1px"
            photograph(page, name)
            assert [each for each in page.complaints if str(status) not in each] == []  # type: ignore[attr-defined]
        page.goto(stack.address("reports"))
        page.click("text=Your applications")
        page.wait_for_selector("ul.applications")
        assert page.locator("ul.applications li").count() == 2

    visit(play)


@pytest.mark.feature("ADM-1")
def test_small_and_dark(stack: Stack, visit: Callable[..., None]) -> None:
    """On a telephone in the dark nothing is wider than the screen."""

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(stack.public_url)
        sign_in(page, "alice", "wonderland")
        page.wait_for_selector("ul.applications")
        for name, address in (
            ("small-portal", stack.public_url),
            ("small-sign-out", stack.address("intranet", "/.appproxy/sign-out")),
            ("small-error", stack.address("gone")),
            ("small-intranet", stack.address("intranet")),
        ):
            page.goto(stack.address("intranet"))
            page.goto(address)
            photograph(page, name)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
            assert page.evaluate(PROTRUDING) == 0, name

    visit(play, viewport={"width": 360, "height": 740}, color_scheme="dark")


@pytest.mark.feature("AUTH-14", "OPS-1")
@pytest.mark.time_limit(150)
def test_demo(visit: Callable[..., None], tmp_path: Path) -> None:
    """The quick start is up within a minute, lets alice in, and leaves nothing behind after Ctrl-C."""
    port = demo_port()
    arguments = ["-m", "appproxy.demo", "--port", str(port), "--state-dir", str(tmp_path / "state")]
    demo = Program("demo", [BIN / "python", *arguments], tmp_path)
    try:
        demo.says("Ctrl-C", 60)
        welcome = demo.text()
        user, password = re.findall(r"Sign in\s+(\w+), password (\w+)", welcome)[0]
        [intranet] = re.findall(r"https://intranet\.localhost:\d+/", welcome)
        children = children_of(demo.pid)
        assert len(children) == 4

        def play(context: BrowserContext) -> None:
            page = opened(context)
            page.goto(intranet)
            photograph(page, "demo-sign-in")
            sign_in(page, user, password)
            page.wait_for_selector(f"#user:has-text('{user}')")
            use_intranet(page, tmp_path)
            photograph(page, "demo-intranet")
            # Pages that stay open hold nobody up.
            demo.process.send_signal(signal.SIGINT)
            assert demo.process.wait(10) == 0

        visit(play)
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        assert "Traceback" not in demo.text()
    finally:
        demo.stop()


def demo_port() -> int:
    """A port for the demo's clients, around which its others are free as well."""
    found: list[int] = []

    def free() -> bool:
        [port] = free_ports(1)
        wanted = [port, port + 1, port - 43, port + 37]
        if max(wanted) < 65536 and all(_is_free(each) for each in wanted):
            found.append(port)
        return bool(found)

    until("a free range of ports", free)
    return found[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def children_of(pid: int) -> list[int]:
    """The processes that *pid* started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
