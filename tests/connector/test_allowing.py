"""The local allow-list."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector.allowing import AllowList
from appproxy.errors import ConfigError
from appproxy.http.addresses import InternalURL


class AllowListTests(SynchronousTestCase):
    """CON-8: which origins may be dialled."""

    @pytest.mark.feature("CON-8")
    def test_scheme_host_and_port_have_to_match(self) -> None:
        """All three, the port by its scheme's default."""
        allow = AllowList(["http://hr.corp.local:8080", "https://wiki.corp.local"])
        self.assertTrue(allow.allows("http", "hr.corp.local", 8080))
        self.assertTrue(allow.allows("https", "wiki.corp.local", 443))
        for other in (
            ("https", "hr.corp.local", 8080), ("http", "hr.corp.local", 80), ("http", "wiki.corp.local", 443),
            ("http", "xhr.corp.local", 8080), ("http", "hr.corp.local.evil.test", 8080),
        ):  # fmt: skip
            self.assertFalse(allow.allows(*other), other)

    def test_a_star_stands_for_labels(self) -> None:
        """One or more, never none, never part of one."""
        allow = AllowList(["https://*.corp.local"])
        self.assertTrue(allow.allows("https", "a.corp.local", 443))
        self.assertTrue(allow.allows("https", "a.b.corp.local", 443))
        for host in ("corp.local", "xcorp.local", "a.corp.local.evil.test"):
            self.assertFalse(allow.allows("https", host, 443), host)

    def test_no_list_allows_and_an_empty_list_refuses(self) -> None:
        """Absent means whatever the relay assigns; empty means nothing."""
        self.assertTrue(AllowList(None).allows("http", "a", 80))
        self.assertFalse(AllowList([]).allows("http", "a", 80))

    def test_addresses_of_version_six(self) -> None:
        """In brackets, in any spelling."""
        self.assertTrue(AllowList(["http://[fd00:0::1]:80"]).allows("http", "[fd00::1]", 80))

    def test_a_wildcard_application_needs_some_host_in_common(self) -> None:
        """Otherwise it is refused as a whole, and the relay is told why."""
        wild = InternalURL.parse("https://*.corp.local/")
        for entry, expected in (
            ("https://wiki.corp.local", True),
            ("https://*.corp.local", True),
            ("https://*.local", True),
            ("https://*.a.corp.local", True),
            ("http://*.corp.local", False),
            ("https://*.corp.local:8443", False),
            ("https://*.other.local", False),
            ("https://corp.local", False),
        ):
            self.assertEqual(AllowList([entry]).allows_any_of(wild), expected, entry)
        self.assertTrue(AllowList().allows_any_of(wild))

    def test_what_is_no_origin_is_refused(self) -> None:
        """With the setting's name."""
        self.assertRaises(ConfigError, AllowList, ["ftp://x"])
