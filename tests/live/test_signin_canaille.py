"""The whole life of a sign-in in a real browser with Canaille as the provider: sign-in, refresh, sign-out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.live.canaille import Canaille
from tests.live.chromium import opened, photograph
from tests.live.programs import until
from tests.live.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = [pytest.mark.live, pytest.mark.time_limit(120)]

APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "app"
external_url = "https://app.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["staff"] }
[application.sso]
mode = "header"
[[application.sso.header]]
name = "X-Remote-User"
value = "user"
[[application.sso.header]]
name = "X-Remote-Name"
value = "claim:name"
"""
#: Its access tokens last for days; the relay asks again sooner.
SESSION = '[session]\nrefresh = "2s"\n'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Relay, connector, origin and Canaille, started once for this module."""
    with Stack(tmp_path_factory.mktemp("canaille")) as stack:
        stack.canaille = canaille = Canaille(stack.folder, stack.public_url)  # type: ignore[attr-defined]
        stack.add(canaille.start())
        stack.relay_more = canaille.settings + SESSION
        stack.start(APPLICATIONS)
        yield stack


def sign_in(page: Page, name: str) -> None:
    """Fill in its forms: first the name, then the password."""
    page.fill("input[name=login]", name)
    page.keyboard.press("Enter")
    page.fill("input[name=password]", f"{name}-secret")
    page.keyboard.press("Enter")


@pytest.mark.feature("AUTH-2", "AUTH-5", "AUTH-6", "SSO-6")
def test_life_of_a_sign_in(stack: Stack, visit: Callable[..., None]) -> None:
    """Signed in, named to the origin, refreshed when groups change, and signed out at the provider as well."""
    canaille: Canaille = stack.canaille  # type: ignore[attr-defined]

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(stack.address("app", "/x?y=z#part"))
        photograph(page, "canaille-sign-in")
        sign_in(page, "alice")
        page.wait_for_url("**/x?y=z#part")
        assert '"alice"' in page.content()
        assert '"Alice"' in page.content()

        def status() -> int:
            answer = page.goto(stack.address("app"))
            assert answer is not None
            return answer.status

        assert status() == 200
        canaille.command("set", "group", "staff", "--members", "bob", "--quiet")
        until("the change of groups is seen", lambda: status() == 403)
        canaille.command("set", "group", "staff", "--members", "alice", "--members", "bob", "--quiet")
        until("the change back is seen", lambda: status() == 200)
        page.goto(stack.address("app", "/.appproxy/sign-out"))
        page.click("text=Sign out everywhere")
        if f":{canaille.port}/" in page.url:
            photograph(page, "canaille-sign-out")
            page.click("button[name=answer][value=logout]")
        page.wait_for_selector("text=You are signed out")
        page.goto(stack.address("app"))
        page.wait_for_selector("input[name=login]")

    visit(play)


@pytest.mark.feature("AUTH-5")
def test_locked_account(stack: Stack, visit: Callable[..., None]) -> None:
    """A35: a locked account is signed out with the next refresh."""
    canaille: Canaille = stack.canaille  # type: ignore[attr-defined]

    def play(context: BrowserContext) -> None:
        page = opened(context)
        page.goto(stack.address("app"))
        sign_in(page, "bob")
        page.wait_for_url(stack.address("app"))
        canaille.command("set", "user", "bob", "--lock-date", "2020-01-01T00:00:00+00:00", "--quiet")

        def signed_out() -> bool:
            page.goto(stack.address("app"))
            return f":{canaille.port}/" in page.url

        until("the account's session has ended", signed_out)

    visit(play)
