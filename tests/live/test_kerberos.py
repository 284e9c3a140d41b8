"""Kerberos against a real KDC (MIT with LDAP) and Apache with mod_auth_gssapi, every program a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live.clients import FETCHES
from tests.live.domain import Domain
from tests.live.kdc import MANY, Lab, require
from tests.live.programs import until

require()
pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A realm and an origin in it."""
    with Lab() as lab:
        lab.start()
        lab.start_origin()
        yield lab


@pytest.fixture(scope="module")
def domain(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    """A deployment with an application for each way to name a user."""
    with Domain(tmp_path_factory.mktemp("domain"), lab) as domain:
        domain.start(
            domain.application()
            + domain.application("upn", identity='"userPrincipalName"')
            + domain.application("sam", identity='"onPremisesSAMAccountName"')
            + domain.application("directory", identity='"onPremisesUserPrincipalUsername"')
            + domain.application("claim", identity='"lower(claim:upn)"')
            + domain.application("raw", mechanism='"kerberos"', mutual='"required"')
            + domain.application("asked", preemptive="false")
            + domain.application("elsewhere", spn='"HTTP/other.corp.example"')
            + domain.application("nowhere", spn='"HTTP/no-such-service.corp.example"')
        )
        yield domain


@pytest.mark.feature("SSO-1", "SSO-2", "SCN-1")
def test_first_request(domain: Domain) -> None:
    """The very page that a sign-in ends with is the user's own at the origin; nobody sees a 401 or a challenge."""
    for name in ("alice", "bob"):
        browser, page = domain.signed_in(name)
        assert (page.status, page.text.strip()) == (200, f"{name}@CORP.EXAMPLE")
        assert page.values("WWW-Authenticate") == []
        assert [each.status for each in browser.trail if each.status == 401] == []


@pytest.mark.feature("SSO-3")
def test_identities(domain: Domain) -> None:
    """Each way to name a user leads to the account: looked up with any suffix, by part, by SAM name, by expression."""
    browser, page = domain.signed_in("carol.smith@contoso.example", "upn")
    assert page.text.strip() == "carol.smith\\@contoso.example@CORP.EXAMPLE"
    assert domain.fetch(browser, "sam").text.strip() == "carol@CORP.EXAMPLE"
    browser, page = domain.signed_in("bob", "directory")
    assert page.text.strip() == "bob@CORP.EXAMPLE"
    assert domain.fetch(browser, "sam").text.strip() == "bob@CORP.EXAMPLE"
    refused = domain.fetch(browser, "claim")
    assert (refused.status, refused.json()["code"]) == (403, "kerberos-name-empty")


@pytest.mark.feature("SSO-2")
def test_mechanisms(domain: Domain) -> None:
    """Raw Kerberos with proof required, and a ticket only once the origin asks for one: the client sees none of it."""
    browser, _ = domain.signed_in("alice")
    for application in ("raw", "asked"):
        page = domain.fetch(browser, application)
        assert (page.status, page.text.strip()) == (200, "alice@CORP.EXAMPLE"), application
        assert page.values("WWW-Authenticate") == []


@pytest.mark.feature("SSO-5")
def test_named_causes(domain: Domain) -> None:
    """B-K1, B-K2, B-K3: each refusal has its own name, on the page and in the record, and a remedy in the log.

    Nobody ever gets in as somebody else instead.
    """
    causes = {
        "sensitive": "kerberos-no-transition",
        "disabled": "kerberos-user-disabled",
        "expired": "kerberos-user-expired",
        "nobody-knows": "kerberos-user-unknown",
        "svc-connector": "kerberos-user-is-connector",
        "a/b": "kerberos-name-refused",
    }
    for user, cause in causes.items():
        browser, page = domain.signed_in(user)
        assert page.status == 403, (user, page.status)
        assert domain.fetch(browser).json()["code"] == cause, user
        assert "corp.example" not in page.text.lower()
    browser, _ = domain.signed_in("alice")
    for application, cause in (("elsewhere", "kerberos-not-delegated"), ("nowhere", "kerberos-spn-unknown")):
        told = domain.fetch(browser, application)
        assert (told.status, told.json()["code"], told.json()["phase"]) == (502, cause, "sso")
    log = domain.folder.joinpath("connector.log").read_text()
    assert "msDS-AllowedToDelegateTo" in log
    assert "setspn -S" in log
    until("the access record", lambda: "kerberos-not-delegated" in domain.access_log.read_text())


@pytest.mark.feature("SSO-4")
def test_never_mixed_up(domain: Domain) -> None:
    """B-K8: eight users, fifty requests each, all at once: every answer is that of its own user."""
    browsers = [domain.signed_in(name)[0] for name in MANY]

    def ask(position: int) -> set[str]:
        return {domain.fetch(browsers[position]).text.strip() for _ in range(50)}

    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(ask, range(8)))
    assert heard == [{f"{name}@CORP.EXAMPLE"} for name in MANY]


def test_clients_authorization_stays_here(domain: Domain) -> None:
    """B-K14: whatever a client sends as Authorization, in any spelling, the origin sees our ticket and no other."""
    browser, _ = domain.signed_in("bob")
    for name in ("Authorization", "AUTHORIZATION"):
        page = browser.ask(domain.address(), fields={**FETCHES, name: "Negotiate YWJj"})
        assert (page.status, page.text.strip()) == (200, "bob@CORP.EXAMPLE")


def test_bodies_go_along(domain: Domain) -> None:
    """A request with a body carries its ticket at once, also where the origin would be waited for otherwise."""
    browser, _ = domain.signed_in("bob")
    for application in ("intranet", "asked"):
        domain.fetch(browser, application)
        page = browser.ask(domain.address(application), method="POST", fields=FETCHES, body=b"x" * 200_000)
        assert (page.status, page.text.strip()) == (200, "bob@CORP.EXAMPLE"), application
