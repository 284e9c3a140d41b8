"""Stepping up with the certified provider: asked again in time, back to what was wanted, and no circles."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.live.clients import FETCHES
from tests.live.programs import until
from tests.live.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.feature("AUTH-1", "POL-2")]

#: Long enough for a sign-in on a busy machine, short enough to wait for.
AGE_SECONDS = 8
APPLICATIONS = f"""
[[connector_group]]
name = "hq"
[[application]]
id = "bank"
external_url = "https://bank.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = {{ groups = ["staff"] }}
[[application.rule]]
paths = ["/transfers/"]
max_authentication_age = "{AGE_SECONDS}s"
[[application.rule]]
paths = ["/vault/"]
amr = ["hwk"]
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("stepping-up"), signs_in=True) as stack:
        stack.start(APPLICATIONS)
        yield stack


def test_fresher(stack: Stack) -> None:
    """The provider, which still knows the browser, asks for the password again; the session stays the same."""
    browser = stack.browser()
    assert browser.sign_in(stack.address("bank"), "alice", "wonderland").status == 200
    session = browser.cookie("bank.localhost", "__Host-appproxy-session")
    wanted = stack.address("bank", "/transfers/new?to=bob")
    until("the sign-in is too old", lambda: browser.ask(wanted).status == 302)
    told = browser.ask(wanted, fields=FETCHES)
    assert told.status == 401
    assert f'max_age="{AGE_SECONDS}"' in told.value("WWW-Authenticate")
    form = browser.open(wanted)
    asked = [each.url for each in browser.trail if urlsplit(each.url).port == stack.provider_port]
    assert parse_qs(urlsplit(asked[0]).query)["max_age"] == [str(AGE_SECONDS)]
    answer = browser.submit(form, username="alice", password="wonderland")
    assert (answer.status, answer.url) == (200, wanted)
    assert browser.cookie("bank.localhost", "__Host-appproxy-session") == session


def test_stronger_than_the_provider_can(stack: Stack) -> None:
    """It asks for the password, says nothing of a key, and the person is told; the rest stays open."""
    browser = stack.browser()
    assert browser.sign_in(stack.address("bank"), "alice", "wonderland").status == 200
    form = browser.open(stack.address("bank", "/vault/"))
    answer = browser.submit(form, username="alice", password="wonderland")
    assert answer.status == 403
    assert "sign-in-too-weak" in answer.text
    assert browser.open(stack.address("bank")).status == 200
