"""Whether a person is looking, and whether a form is ours."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.exchange import PayloadTooLarge
from tests.fakes.exchange import FETCHES, NAVIGATES, FakeExchange

URL = "https://hr.example.test:8443/x"


class NavigationTest(SynchronousTestCase):
    """Fetch Metadata first, then ``Accept``."""

    @pytest.mark.feature("AUTH-8")
    def test_navigations(self) -> None:
        """Documents and frames are looked at, and so is what an old browser or a text browser asks for."""
        html = (b"Accept", b"text/html,application/xhtml+xml;q=0.9")
        frame = ((b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"iframe"))
        for fields in (NAVIGATES, (html,), frame, ((b"Sec-Fetch-Mode", b"navigate"),)):
            self.assertTrue(FakeExchange(URL, fields=fields).navigation, fields)
        self.assertTrue(FakeExchange(URL, method=b"POST", fields=NAVIGATES).navigation)

    @pytest.mark.feature("AUTH-8")
    def test_not_navigations(self) -> None:
        """Scripts, images, programs, upgrades and other methods are not."""
        image = ((b"Sec-Fetch-Mode", b"no-cors"), (b"Sec-Fetch-Dest", b"image"), (b"Accept", b"text/html"))
        embedded = ((b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"object"))
        upgrade = (*NAVIGATES, (b"Upgrade", b"websocket"))
        for fields in (FETCHES, (), image, embedded, upgrade, ((b"Accept", b"*/*"),)):
            self.assertFalse(FakeExchange(URL, fields=fields).navigation, fields)
        self.assertFalse(FakeExchange(URL, method=b"PROPFIND", fields=((b"Accept", b"text/html"),)).navigation)


class FormTest(SynchronousTestCase):
    """Our own forms."""

    def test_same_origin(self) -> None:
        """A form is ours if the browser says so; the port is part of the origin."""
        ours, same = (b"Origin", b"https://hr.example.test:8443"), (b"Sec-Fetch-Site", b"same-origin")
        for fields in ((ours,), (same,), (ours, same), ((b"Origin", b"null"), same)):
            self.assertTrue(FakeExchange(URL, method=b"POST", fields=fields).same_origin_post, fields)
        for fields in (
            (),
            ((b"Origin", b"https://hr.example.test"),),
            ((b"Origin", b"null"),),
            (ours, ours),
            (ours, (b"Sec-Fetch-Site", b"same-site")),
            ((b"Origin", b"https://evil.test"), same),
            ((b"Sec-Fetch-Site", b"none"),),
        ):
            self.assertFalse(FakeExchange(URL, method=b"POST", fields=fields).same_origin_post, fields)
        self.assertFalse(FakeExchange(URL, fields=(ours, same)).same_origin_post)

    def test_body_limit(self) -> None:
        """A body over the limit is refused with 413."""
        self.failureResultOf(FakeExchange(URL, body=b"abc").read_body(2), PayloadTooLarge)
        self.assertEqual(PayloadTooLarge.status, 413)
