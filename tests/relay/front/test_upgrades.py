"""Upgrades in somebody's name: asked for by the application's own pages and by programs, by nobody else's page."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned, CrossOrigin, Segment
from tests.fakes.fronts import APPLICATIONS, COOKIE, Bench, get

UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
SHARED = Application(
    id="shared",
    connector_group="hq",
    assigned=Assigned(everyone=True),
    segment=(
        Segment(
            external_url="https://shared.example.com/",
            internal_url="http://shared.corp.local/",
            cors=CrossOrigin(allowed_origins=("https://friend.example.com",), allow_credentials=True),
        ),
        Segment(external_url="https://*.wild.example.com/", internal_url="http://wild.corp.local/"),
        Segment(
            external_url="https://public.example.com/",
            internal_url="http://public.corp.local/",
            cors=CrossOrigin(allowed_origins=("https://friend.example.com",)),
        ),
    ),
)


@pytest.mark.feature("HTTP-4")
class CrossSiteTests(SynchronousTestCase):
    def passes(self, origin: bytes, host: bytes = b"hr.example.com", more: bytes = COOKIE + UPGRADE) -> bool:
        """Whether a handshake with that ``Origin`` reaches a connector; if not, it is 403."""
        bench = Bench((*APPLICATIONS, SHARED))
        client = bench.client()
        lines = b"".join(b"Origin: %b\r\n" % value for value in origin.split(b" and ")) if origin else b""
        bench.sends(client, get(host=host, more=more + lines))
        answer = client.take()
        if bench.pair.opener.streams:
            assert not answer
            return True
        assert answer.startswith(b"HTTP/1.1 403 "), answer
        assert b"cross-site-upgrade client policy" in answer, answer
        assert bench.records[0][4] == "cross-site-upgrade"
        return False

    def test_pages_of_other_sites(self) -> None:
        """W01: a WebSocket that another site's page opens with the user's cookie is refused before any connector."""
        for origin in (
            b"https://evil.example",
            b"https://hr.example.com.evil.example",
            b"https://other.example.com",
            b"https://example.com",
            b"http://hr.example.com",
            b"https://hr.example.com:8443",
            b"https://hr.example.com/",
            b"HTTPS://hr.example.com",
            b"hr.example.com",
            b"null",
            b"file://",
            b"chrome-extension://abcdef",
            b"https://hr.example.com and https://evil.example",
            b"https://hr.example.com https://evil.example",
        ):
            self.assertFalse(self.passes(origin), origin)

    def test_own_pages_and_programs(self) -> None:
        """W01: the application's own pages may, and so may programs, which say nothing."""
        self.assertTrue(self.passes(b"https://hr.example.com"))
        self.assertTrue(self.passes(b""))

    def test_with_another_port(self) -> None:
        """The page is the application's when scheme, host and port are those that the client used."""
        self.assertTrue(self.passes(b"https://hr.example.com:8443", b"hr.example.com:8443"))
        self.assertFalse(self.passes(b"https://hr.example.com", b"hr.example.com:8443"))

    @pytest.mark.feature("PUB-5", "SCN-9")
    def test_pages_at_other_addresses(self) -> None:
        """W01: a page at one address of an application may use the others, and no address of a wildcard another one."""
        self.assertTrue(self.passes(b"https://shared.example.com", b"public.example.com"))
        self.assertTrue(self.passes(b"https://public.example.com", b"shared.example.com"))
        self.assertFalse(self.passes(b"https://hr.example.com", b"shared.example.com"))
        self.assertTrue(self.passes(b"https://a.wild.example.com", b"a.wild.example.com"))
        self.assertFalse(self.passes(b"https://b.wild.example.com", b"a.wild.example.com"))

    def test_pages_that_are_allowed(self) -> None:
        """Who may send the user's cookies by the application's rules may open its WebSockets too; others may not."""
        self.assertTrue(self.passes(b"https://friend.example.com", b"shared.example.com"))
        self.assertFalse(self.passes(b"https://friend.example.com", b"public.example.com"))
        self.assertFalse(self.passes(b"https://evil.example", b"shared.example.com"))

    def test_where_nobody_signs_in(self) -> None:
        """The relay has no cookie in a pass-through application: its origin judges, and is told whose page it was."""
        self.assertTrue(self.passes(b"https://evil.example", b"open.example.com", UPGRADE))

    def test_other_requests(self) -> None:
        """Only upgrades: for all else browsers have a same-origin policy, and applications their own rules."""
        bench = Bench()
        bench.sends(bench.client(), get(more=COOKIE + b"Origin: https://evil.example\r\n"))
        self.assertEqual(len(bench.pair.opener.streams), 1)
