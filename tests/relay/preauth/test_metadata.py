"""The discovery document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.preauth.failures import ProviderMisconfigured, ProviderUnreachable
from appproxy.relay.preauth.fetching import FetchedAnswer
from appproxy.relay.preauth.metadata import (
    check_address,
    discovery_address,
    fetch_metadata,
    parse_metadata,
)
from tests.fakes.idp import ISSUER, FakeProvider


class MetadataTest(SynchronousTestCase):
    """What is accepted of a provider's word about itself."""

    def setUp(self) -> None:
        self.idp = FakeProvider(lambda: 0)

    def parse(self, issuer: str = ISSUER, allow_http: bool = False, **changes: Any) -> None:
        """Read the document with changes; None takes a member away."""
        document = {name: value for name, value in {**self.idp.metadata, **changes}.items() if value is not None}
        parse_metadata(json.dumps(document).encode(), issuer, allow_http)

    @pytest.mark.feature("AUTH-2")
    def test_issuer(self) -> None:
        """A28: the document's issuer is the configured one, letter by letter."""
        self.parse()
        for issuer in (ISSUER + "/", ISSUER + ".evil", ISSUER.upper(), "https://idp.example.test/{tenantid}/v2.0"):
            with self.assertRaises(ProviderMisconfigured):
                self.parse(issuer=issuer)

    @pytest.mark.feature("AUTH-2")
    def test_endpoints(self) -> None:
        """A29: every endpoint is https, unless it is on this machine and that is allowed."""
        for name in (
            "authorization_endpoint",
            "token_endpoint",
            "jwks_uri",
            "userinfo_endpoint",
            "end_session_endpoint",
        ):
            for url in (
                "http://idp.example.test/x",
                "//idp",
                "javascript:x",
                "https://u@idp.test/",
                "https://h:x/",
                "https:",
            ):
                with self.assertRaises(ProviderMisconfigured):
                    self.parse(**{name: url})
                with self.assertRaises(ProviderMisconfigured):
                    self.parse(**{name: url}, allow_http=True)
            with self.assertRaises(ProviderMisconfigured):
                self.parse(**{name: "http://127.0.0.1/"})
            self.parse(**{name: "http://127.0.0.1:8400/?p=b2c"}, allow_http=True)
        for name in ("userinfo_endpoint", "end_session_endpoint"):
            self.parse(**{name: None})
        with self.assertRaises(ProviderUnreachable):
            self.parse(jwks_uri=None)
        with self.assertRaises(ProviderMisconfigured):
            self.parse(token_endpoint="")

    def test_loopback(self) -> None:
        """A29: with http allowed, only what can be nothing but this machine is accepted."""
        for host in ("localhost", "idp.localhost", "127.0.0.1", "127.9.9.9", "[::1]"):
            check_address(f"http://{host}:8400/x", "x", True)
        for host in ("localhost.evil.test", "10.0.0.1", "127.0.0.1.evil.test", "evil-localhost", "0.0.0.0"):
            self.assertRaises(ProviderMisconfigured, check_address, f"http://{host}/", "x", True)

    def test_no_document(self) -> None:
        """A30: anything that is no such document is an outage."""
        for document in (b"", b"<html>", b"[]", b"{}", b"\xff", b'{"issuer": 1}'):
            self.assertRaises(ProviderUnreachable, parse_metadata, document, ISSUER, False)

    def test_fetch(self) -> None:
        """The address is derived from the issuer or configured; redirects and errors are no documents."""
        self.assertEqual(
            discovery_address("https://x.test/a/", ""), "https://x.test/a/.well-known/openid-configuration"
        )
        self.assertEqual(discovery_address("https://x.test", "https://y.test/z"), "https://y.test/z")
        metadata = self.successResultOf(fetch_metadata(self.idp.fetch, ISSUER, "", False))
        self.assertEqual(metadata.token_endpoint, ISSUER + "/token")
        self.idp.overrides["/.well-known/openid-configuration"] = FetchedAnswer(
            302, {"location": "https://evil.test"}, b""
        )
        self.failureResultOf(fetch_metadata(self.idp.fetch, ISSUER, "", False), ProviderUnreachable)
        before = len(self.idp.requests)
        for issuer, url in (("http://idp.test", ""), (ISSUER, "http://idp.test/x")):
            self.failureResultOf(fetch_metadata(self.idp.fetch, issuer, url, False), ProviderMisconfigured)
        self.assertEqual(len(self.idp.requests), before)
