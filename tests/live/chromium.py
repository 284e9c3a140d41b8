"""A real browser for the live tests: headless Chromium, driven from a thread of its own.

Screenshots of everything that people see are left in ``.test-results/``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.live.programs import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

RESULTS = ROOT / ".test-results"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    # Pages that a test makes up come from no address, and would not get at this machine's.
    "--disable-features=LocalNetworkAccessChecks",
)  # fmt: skip
WAIT_MS = 15_000
Visit = Callable[["BrowserContext"], None]


def visits() -> Iterator[Callable[..., None]]:
    """Gives what calls a function with a fresh browser profile, in the thread where Chromium's driver lives."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    RESULTS.mkdir(exist_ok=True)

    def drive(play: Visit, **profile: Any) -> None:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
            context = browser.new_context(ignore_https_errors=True, locale="en-GB", **profile)
            context.set_default_timeout(WAIT_MS)
            try:
                play(context)
            finally:
                browser.close()

    with ThreadPoolExecutor(1) as thread:
        yield lambda play, **profile: thread.submit(drive, play, **profile).result()


def opened(context: BrowserContext) -> Page:
    """A tab that takes note of what the page complains of."""
    page = context.new_page()
    page.complaints = complaints = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    return page


def photograph(page: Page, name: str) -> None:
    """Keep what is seen."""
    page.screenshot(path=RESULTS / f"{name}.png", full_page=True)


def sign_in(page: Page, name: str, password: str) -> None:
    """Fill in the provider's form."""
    page.fill("#username", name)
    page.fill("#password", password)
    page.click("button:has-text('Sign in')")
