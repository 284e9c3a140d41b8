"""Whether a person is looking, and whether a form is ours."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.messages import Field, RequestHead, index
from appproxy.relay.exchange import PayloadTooLarge, is_navigation, is_same_origin_post
from tests.fakes.exchange import FETCHES, NAVIGATES, FakeExchange

ORIGIN = "https://hr.example.test:8443"


def navigates(*fields: Field, method: bytes = b"GET") -> bool:
    """Whether a person looks at the answer to such a request."""
    return is_navigation(method, index(fields))


def is_ours(*fields: Field, method: bytes = b"POST") -> bool:
    """Whether such a request comes from our own page."""
    return is_same_origin_post(RequestHead.of(method, b"/x", fields), ORIGIN)


class NavigationTest(SynchronousTestCase):
    """Fetch Metadata first, then ``Accept``."""

    @pytest.mark.feature("AUTH-8")
    def test_navigations(self) -> None:
        """Documents and frames are looked at, and so is what an old browser or a text browser asks for."""
        html = (b"Accept", b"text/html,application/xhtml+xml;q=0.9")
        frame = ((b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"iframe"))
        for fields in (NAVIGATES, (html,), frame, ((b"Sec-Fetch-Mode", b"navigate"),)):
            self.assertTrue(navigates(*fields), fields)
        self.assertTrue(navigates(*NAVIGATES, method=b"POST"))

    @pytest.mark.feature("AUTH-8")
    def test_not_navigations(self) -> None:
        """Scripts, images, programs, upgrades and other methods are not."""
        image = ((b"Sec-Fetch-Mode", b"no-cors"), (b"Sec-Fetch-Dest", b"image"), (b"Accept", b"text/html"))
        embedded = ((b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"object"))
        upgrade = (*NAVIGATES, (b"Upgrade", b"websocket"))
        for fields in (FETCHES, (), image, embedded, upgrade, ((b"Accept", b"*/*"),)):
            self.assertFalse(navigates(*fields), fields)
        self.assertFalse(navigates((b"Accept", b"text/html"), method=b"PROPFIND"))


class FormTest(SynchronousTestCase):
    """Our own forms."""

    def test_same_origin(self) -> None:
        """A form is ours if the browser says so; the port is part of the origin."""
        ours, same = (b"Origin", b"https://hr.example.test:8443"), (b"Sec-Fetch-Site", b"same-origin")
        for fields in ((ours,), (same,), (ours, same), ((b"Origin", b"null"), same)):
            self.assertTrue(is_ours(*fields), fields)
        for fields in (
            (),
            ((b"Origin", b"https://hr.example.test"),),
            ((b"Origin", b"null"),),
            (ours, ours),
            (ours, (b"Sec-Fetch-Site", b"same-site")),
            ((b"Origin", b"https://evil.test"), same),
            ((b"Sec-Fetch-Site", b"none"),),
        ):
            self.assertFalse(is_ours(*fields), fields)
        self.assertFalse(is_ours(ours, same, method=b"GET"))

    def test_body_limit(self) -> None:
        """A body over the limit is refused with 413."""
        self.failureResultOf(FakeExchange(f"{ORIGIN}/x", body=b"abc").read_body(2), PayloadTooLarge)
        self.assertEqual(PayloadTooLarge.status, 413)
