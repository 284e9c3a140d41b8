"""What SharePoint needs, at an Apache that asks for the same: one address inside and out, Kerberos, WebDAV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from appproxy.demo.apache import MODULES
from tests.live.clients import FETCHES, Answer, Browser
from tests.live.domain import Domain
from tests.live.kdc import Lab, require

require()
pytestmark = pytest.mark.live

#: WebDAV for whoever has a ticket; TLS ends at the relay, and the server is told so as behind any that ends it.
SERVER = f"""
LoadModule dav_module {MODULES}/mod_dav.so
LoadModule dav_fs_module {MODULES}/mod_dav_fs.so
DavLockDB locks
RequestHeader edit Destination ^https: http: early
"""
#: The origin knows itself by the external address, and nothing is rewritten.
AS_IT_IS = """
translate = { host_header = false, headers = false }
cookies = { persistent = true }
"""
LOCK = b"""<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>
<D:locktype><D:write/></D:locktype><D:owner>alice</D:owner></D:lockinfo>"""


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    """A realm, such an origin in it, and everything that publishes it."""
    with Lab() as lab:
        lab.start()
        lab.start_origin(more="Dav On", server=SERVER)
        (lab.origin.folder / "pages").chmod(0o777)  # it runs as somebody else where the tests run as root
        with Domain(tmp_path_factory.mktemp("sharepoint"), lab) as domain:
            domain.start(domain.application("sharepoint", more=AS_IT_IS))
            yield domain


@pytest.fixture(scope="module")
def alice(domain: Domain) -> Browser:
    """Somebody who has signed in."""
    browser, page = domain.signed_in("alice", "sharepoint")
    assert (page.status, page.text.strip()) == (200, "alice@CORP.EXAMPLE")
    return browser


def asked(
    domain: Domain, browser: Browser, method: str, path: str, fields: Mapping[str, str] = {}, body: bytes | None = None
) -> Answer:
    """What a desktop program is answered; the origin knows who it is, and nobody sees a challenge."""
    answer = browser.ask(domain.address("sharepoint", path), method=method, fields={**FETCHES, **fields}, body=body)
    assert answer.values("X-Remote-User") == ["alice@CORP.EXAMPLE"], (method, path, answer.status)
    assert answer.values("WWW-Authenticate") == []
    return answer


@pytest.mark.feature("SCN-6", "SSO-2")
def test_documents(domain: Domain, alice: Browser) -> None:
    """A library is made, filled, listed, locked, moved and emptied by WebDAV, each request with its own ticket."""
    library, report, moved = "/library/", "/library/report.txt", "/library/moved%20%26%20kept.txt"
    assert asked(domain, alice, "MKCOL", library).status == 201
    assert asked(domain, alice, "PUT", report, {"Content-Type": "text/plain"}, b"quarter by quarter").status == 201
    listed = asked(domain, alice, "PROPFIND", library, {"Depth": "1"})
    assert listed.status == 207
    assert f"<D:href>{report}</D:href>" in listed.text
    locked = asked(domain, alice, "LOCK", report, {"Timeout": "Second-60", "Content-Type": "text/xml"}, LOCK)
    assert locked.status == 200
    assert asked(domain, alice, "PUT", report, body=b"without the lock").status == 423
    token = locked.value("Lock-Token")
    tagged = {"If": f"<{domain.address('sharepoint', report)}> ({token})"}
    there = {"Destination": domain.address("sharepoint", moved), "Overwrite": "F", **tagged}
    assert asked(domain, alice, "MOVE", report, there).status == 201
    read = asked(domain, alice, "GET", moved)
    assert (read.status, read.text) == (200, "quarter by quarter")
    assert asked(domain, alice, "DELETE", library).status == 204


@pytest.mark.feature("SCN-6", "AUTH-4")
def test_the_sign_in_is_kept(domain: Domain) -> None:
    """Desktop programs share the browser's session by a cookie that outlives the browser."""
    browser, page = domain.signed_in("bob", "sharepoint")
    assert page.text.strip() == "bob@CORP.EXAMPLE"
    cookies = [cookie for each in browser.trail for cookie in each.values("Set-Cookie")]
    [kept] = [each for each in cookies if each.startswith("__Host-appproxy-session=") and "Max-Age=0" not in each][-1:]
    assert "Max-Age=" in kept
