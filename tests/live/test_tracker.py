"""A web application of others, used in a real browser as if it had been made for its external address."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.live.chromium import opened, photograph, sign_in
from tests.live.programs import free_ports
from tests.live.stack import Stack
from tests.live.tracker import Tracker

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytest.importorskip("roundup", reason="roundup is not installed: pip install roundup")
pytestmark = pytest.mark.live

APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "tracker"
name = "Issues"
external_url = "https://tracker.localhost:PORT/desk/issues/"
internal_url = "http://127.0.0.1:TRACKER/"
connector_group = "hq"
assigned = { groups = ["staff"] }
[application.translate]
bodies = true
"""
#: The targets of all elements of a page.
LINKS = """() => ["href", "src", "action", "formaction"].flatMap(
    name => [...document.querySelectorAll(`[${name}]`)].map(element => element.getAttribute(name)))"""


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    """The tracker, made and not yet started."""
    return Tracker(free_ports(1)[0], tmp_path_factory.mktemp("tracker") / "home")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, tracker: Tracker) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("tracked"), signs_in=True) as stack:
        stack.add(tracker.start(stack.folder))
        stack.start(APPLICATIONS.replace("TRACKER", str(tracker.port)))
        yield stack


def log_in(page: Page, name: str, password: str) -> None:
    """Fill in the tracker's own form."""
    page.fill("input[name=__login_name]", name)
    page.fill("input[name=__login_password]", password)
    page.click("input[type=submit][value=Login]")


@pytest.mark.feature("TRN-1", "TRN-2", "SCN-12", "PUB-3")
def test_an_issue(stack: Stack, tracker: Tracker, visit: Callable[..., None], tmp_path: Path) -> None:
    """L13: two sign-ins, forms, files, redirects, cookies: all by the external address, nothing by the internal one."""
    start = stack.address("tracker", "/desk/issues/")
    inside = f"127.0.0.1:{tracker.port}"
    content = os.urandom(1_000_000)
    seen: list[str] = []

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.on("request", lambda request: seen.append(request.url))

        def check(name: str) -> None:
            assert page.url.startswith(start), page.url
            links = page.evaluate(LINKS)
            assert len(links) > 10
            assert [link for link in links if inside in link] == []
            photograph(page, f"tracker-{name}")

        page.goto(start)
        sign_in(page, "alice", "wonderland")
        page.wait_for_selector("text=List of issues")
        check("list")
        log_in(page, "alice", "wrong")
        page.wait_for_selector("text=Invalid login")
        check("refused")
        log_in(page, "alice", "builders")
        page.wait_for_selector("text=Hello, alice")
        check("signed-in")
        page.click("text=Create New")
        page.fill("input[name=title]", "The roof leaks & <drips>")
        page.select_option("select[name=priority]", label="bug")
        page.fill("textarea[name='@note']", f"See http://{inside}/issue1 and https://elsewhere.example/x")
        page.set_input_files("input[name='@file']", {"name": "roof.bin", "mimeType": "image/x-roof", "buffer": content})
        page.click("input[name=submit_button]")
        page.wait_for_selector("text=issue 1 created")
        check("created")
        assert page.input_value("input[name=title]") == "The roof leaks & <drips>"
        with page.expect_download() as begun:
            page.click("a:has-text('roof.bin')")
        begun.value.save_as(tmp_path / "roof.bin")
        assert (tmp_path / "roof.bin").read_bytes() == content
        page.click("text=Show All")
        page.click("a:has-text('The roof leaks')")
        page.wait_for_selector("input[name=title]")
        check("issue")
        page.click("text=Logout")
        page.wait_for_selector("input[type=submit][value=Login]")
        check("signed-out")
        # What it refuses, and what it does not have (an icon), it refuses and lacks without any proxy too.
        others = [each for each in page.complaints if "status of 403" not in each and "status of 404" not in each]  # type: ignore[attr-defined]
        assert others == []

    visit(play)
    assert [url for url in seen if inside in url] == []
