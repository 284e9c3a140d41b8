"""What only a real browser can show of a sign-in: fragments, forms that wait, frames of other sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.live.chromium import opened, photograph, sign_in
from tests.live.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Route

pytestmark = pytest.mark.live

SESSION = "__Host-appproxy-session"
APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "app"
external_url = "https://app.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["staff"] }
sign_in = { cross_site_posts = ["/saml/acs"] }
[[application]]
id = "strict"
external_url = "https://strict.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["staff"] }
cookies = { same_site = "strict" }
[[application]]
id = "tab"
name = "The tab"
external_url = "https://tab.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["staff"] }
cookies = { same_site = "none", partitioned = true }
sign_in = { frame_ancestors = ["https://teams.localhost:PORT"] }
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("signin-browser"), signs_in=True) as stack:
        stack.start(APPLICATIONS)
        yield stack


def serve(context: BrowserContext, address: str, html: str) -> None:
    """Have the browser see *html* at an address that nobody else serves."""

    def answer(route: Route) -> None:
        route.fulfill(status=200, content_type="text/html", body=html)

    context.route(address, answer)


def form(action: str, **values: str) -> str:
    """A page with a form that is sent by its button."""
    fields = "".join(f'<input name="{name}" value="{value}">' for name, value in values.items())
    return f'<!DOCTYPE html><form method="post" action="{action}">{fields}<button>Send</button></form>'


@pytest.mark.feature("AUTH-9")
def test_fragment(stack: Stack, visit: Callable[..., None]) -> None:
    """A deep link into a page with routes after the # leads there, for visitors new and known, strict cookies too."""

    def play(context: BrowserContext) -> None:
        page = opened(context)
        wanted = stack.address("app", "/x?y=z#/orders/5?a=b%20c&ä")
        page.goto(wanted)
        assert "#" not in page.url
        assert "orders" not in page.url
        sign_in(page, "alice", "wonderland")
        page.wait_for_url("**/x?y=z#**")
        assert page.url == stack.address("app", "/x?y=z#/orders/5?a=b%20c&%C3%A4")
        assert [each for each in page.complaints if "404" not in each] == []  # type: ignore[attr-defined]
        page.goto(stack.address("strict", "/s#here"))
        page.wait_for_url("**/s#here")
        assert "target" in page.content()

    visit(play)


@pytest.mark.feature("AUTH-9")
def test_form(stack: Stack, visit: Callable[..., None]) -> None:
    """A form sent after the session has ended arrives once the person has signed in again, and once only."""

    def play(context: BrowserContext) -> None:
        page = opened(context)
        serve(context, stack.address("app", "/form"), form("/leave", days="5", why="sun & sea"))
        page.goto(stack.address("app", "/form"))
        stack.origin.requests()
        page.click("text=Send")
        sign_in(page, "alice", "wonderland")
        page.wait_for_url(stack.address("app", "/leave"))
        [request] = [each for each in stack.origin.requests() if each["target"] == "/leave"]
        assert request["method"] == "POST"
        told = {name.lower(): value for name, value in request["fields"]}
        assert told["content-type"] == "application/x-www-form-urlencoded"
        assert told["content-length"] == str(len("days=5&why=sun+%26+sea"))
        assert told["origin"] == f"http://127.0.0.1:{stack.origin_port}"  # translated: its own
        page.goto(stack.address("app", "/leave"))
        assert [each["method"] for each in stack.origin.requests() if each["target"] == "/leave"] == ["GET"]

    visit(play)


@pytest.mark.feature("AUTH-9", "SCN-11")
def test_forms_of_other_sites(stack: Stack, visit: Callable[..., None]) -> None:
    """Another site's form is refused but at a listed path: there it passes with default cookies, unasked."""

    def play(context: BrowserContext) -> None:
        elsewhere = stack.address("evil", "/")
        for path in ("/leave", "/saml/acs"):
            serve(context, f"{elsewhere}{path[1:]}", form(stack.address("app", path), SAMLResponse="x"))
        page = opened(context)
        page.goto(f"{elsewhere}leave")
        stack.origin.requests()
        page.click("text=Send")
        page.wait_for_selector("text=Your form was not sent on")
        page.click("a:has-text('Open the application')")
        sign_in(page, "alice", "wonderland")
        page.wait_for_url(stack.address("app", "/"))
        assert {each["method"] for each in stack.origin.requests()} == {"GET"}
        page.goto(f"{elsewhere}saml/acs")
        page.click("text=Send")
        page.wait_for_url(stack.address("app", "/saml/acs"))
        assert [each["method"] for each in stack.origin.requests() if each["target"] == "/saml/acs"] == ["POST"]

    visit(play)


@pytest.mark.feature("SCN-7", "AUTH-4")
def test_frame(stack: Stack, visit: Callable[..., None]) -> None:
    """In a frame of another site a button opens a window; it closes by itself, and the frame shows the application."""

    def play(context: BrowserContext) -> None:
        teams = stack.address("teams", "/")
        tab = stack.address("tab", "/tab#part")
        serve(context, teams, f'<!DOCTYPE html><h1>Teams</h1><iframe name="tab" width="800" height="600" src="{tab}">')
        page = opened(context)
        page.goto(teams)
        frame = page.frame_locator("iframe")
        frame.locator("text=Sign in to The tab").wait_for()
        photograph(page, "framed-sign-in")
        with page.expect_popup() as opening:
            frame.locator("#onward").click()
        window = opening.value
        window.wait_for_selector("#password")
        window.fill("#username", "alice")
        window.fill("#password", "wonderland")
        with window.expect_event("close"):
            window.click("button:has-text('Sign in')")
        frame.locator("text=/tab").first.wait_for()
        [shown] = [each for each in page.frames if each.name == "tab"]
        assert shown.url == tab
        [cookie] = [each for each in context.cookies() if each["name"] == SESSION and each["domain"] == "tab.localhost"]
        assert (cookie["sameSite"], cookie["secure"], cookie["httpOnly"]) == ("None", True, True)
        # The application's own window has a jar of its own, and gets a session without a question.
        page.goto(stack.address("tab", "/own"))
        assert page.url == stack.address("tab", "/own")

    visit(play)


@pytest.mark.feature("SCN-7")
def test_frames_of_others(stack: Stack, visit: Callable[..., None]) -> None:
    """S26: what no setting allows is not shown in a frame, sign-in and all."""

    def play(context: BrowserContext) -> None:
        evil = stack.address("evil", "/frames")
        frames = "".join(f'<iframe name="{name}" src="{stack.address(name)}"></iframe>' for name in ("tab", "app"))
        serve(context, evil, f"<!DOCTYPE html>{frames}")
        page = opened(context)
        page.goto(evil)
        page.wait_for_load_state("networkidle")
        for frame in page.frames[1:]:
            assert "Sign in" not in (frame.text_content("html") or ""), frame.url
        assert any("frame-ancestors" in each for each in page.complaints)  # type: ignore[attr-defined]

    visit(play)


@pytest.mark.feature("ADM-1", "AUTH-7")
def test_own_sessions(stack: Stack, visit: Callable[..., None]) -> None:
    """The portal shows where somebody is signed in, and ends it: here."""

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(stack.public_url)
        sign_in(page, "bob", "builder")
        page.click("text=Sessions")
        page.wait_for_selector("text=Where you are signed in")
        assert "Chrome" in (page.text_content("section h2") or "")
        photograph(page, "sessions")
        assert [each for each in page.complaints if "404" not in each] == []  # type: ignore[attr-defined]
        page.click("text=Sign out here")
        page.wait_for_selector("text=Your applications")
        page.goto(stack.address("app"))
        assert page.url == stack.address("app")

    visit(play)
