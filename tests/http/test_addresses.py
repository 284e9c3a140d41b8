"""Hosts, paths and published addresses."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import ConfigError
from appproxy.http.addresses import (
    AmbiguousPath,
    ExternalURL,
    InternalURL,
    MalformedHost,
    canonical_host,
    canonical_path,
    is_at,
    is_canonical,
    is_never_published,
    is_under,
    swap_prefix,
)

#: Threat, path, and its one reading or None.
PATHS: list[tuple[str, bytes, bytes | None]] = [
    ("plain", b"/", b"/"),
    ("plain", b"/a/b.c/", b"/a/b.c/"),
    ("plain", b"/.well-known/x", b"/.well-known/x"),
    ("plain", b"/a/...", b"/a/..."),
    ("plain", b"/!$&'()*+,:=@~-_.", b"/!$&'()*+,:=@~-_."),
    ("plain", b'/[a]{b}|"<c>"^`', b"/%5Ba%5D%7Bb%7D%7C%22%3Cc%3E%22%5E%60"),
    ("N01", b"/public/../admin", b"/admin"),
    ("N01", b"/public/./../admin", b"/admin"),
    ("N01", b"/public/..", b"/"),
    ("N01", b"/a/b/.", b"/a/b/"),
    ("N01", b"/../admin", None),
    ("N01", b"/a/../../admin", None),
    ("N02", b"/%2e%2e/admin", None),
    ("N02", b"/public/%2E%2e%2fadmin", None),
    ("N02", b"/public/.%2e/admin", None),
    ("N02", b"/public/%2e/admin", None),
    ("N02", b"/a%20b/../admin", None),
    ("N03", b"/admin%2fsecret", b"/admin/secret"),
    ("N03", b"/a%2F..%2Fadmin", None),
    ("N03", b"/admin%5csecret", None),
    ("N03", b"/public\\..\\admin", None),
    ("N04", b"/%252e%252e/admin", b"/%252e%252e/admin"),
    ("N05", b"//admin", b"/admin"),
    ("N05", b"/a//b///", b"/a/b/"),
    ("N05", b"/public//../admin", None),
    ("N06", b"/admin;x=1", b"/admin"),
    ("N06", b"/admin;x=1/y;z", b"/admin/y"),
    ("N06", b"/admin%3bx/y", b"/admin/y"),
    ("N06", b"/public/..;/admin", None),
    ("N06", b"/public/..;x=y/admin", None),
    ("N07", b"/ADMIN", b"/ADMIN"),
    ("N09", b"/%c0%ae%c0%ae/admin", None),
    ("N09", b"/%e0%80%ae/admin", None),
    ("N09", b"/%f0%80%80%ae/admin", None),
    ("N09", b"/%zz", None),
    ("N09", b"/%u002e%u002e/admin", None),
    ("N09", b"/%", None),
    ("N09", b"/%2", None),
    ("N10", b"/public#/../admin", None),
    ("N10", b"/public%23", b"/public%23"),
    ("N11", b"/public?/../admin", None),
    ("N19", b"/a%20b%2Fc+%7e", b"/a%20b/c+~"),
    ("N19", b"/%C3%A9%e9", b"/%C3%A9%E9"),
    ("NUL", b"/a%00b", None),
    ("control", b"/a%0d%0ab", None),
    ("control", b"/a\x01", None),
    ("delete", b"/a%7f", None),
    ("space", b"/a b", None),
    ("asterisk", b"*", None),
    ("empty", b"", None),
]

#: The same on an origin that runs Windows.
WINDOWS_PATHS: list[tuple[str, bytes, bytes | None]] = [
    ("N07", b"/ADMIN/X", b"/admin/x"),
    ("N08", b"/admin.", b"/admin"),
    ("N08", b"/admin%20/x", b"/admin/x"),
    ("N08", b"/admin::$DATA", None),
    ("N08", b"/a/.%20/b", None),
    ("N08", b"/a/.../b", None),
    ("N01", b"/a/./../b/", b"/b/"),
]


class PathTests(SynchronousTestCase):
    """One reading or none."""

    def assert_reads(self, cases: list[tuple[str, bytes, bytes | None]], windows: bool) -> None:
        """Each path is read as its case says, and the reading is its own."""
        for threat, path, expected in cases:
            if expected is None:
                with self.assertRaises(AmbiguousPath, msg=f"{threat} {path!r}"):
                    canonical_path(path, windows=windows)
            else:
                self.assertEqual(canonical_path(path, windows=windows), expected, threat)
                self.assertEqual(canonical_path(expected, windows=windows), expected, threat)

    @pytest.mark.feature("PUB-3")
    def test_every_case(self) -> None:
        """N01-N11, N19: routing and policy see what the strictest origin would."""
        self.assert_reads(PATHS, windows=False)

    def test_windows(self) -> None:
        """N07, N08: letter case and the ends of names mean nothing where the origin does not see them."""
        self.assert_reads(WINDOWS_PATHS, windows=True)

    @given(st.text(alphabet="/.%2eEfF5cC;a\\\u00e9", max_size=12).map(lambda text: b"/" + text.encode()), st.booleans())
    def test_reading_is_idempotent(self, path: bytes, windows: bool) -> None:
        """A canonical path is its own canonical path, and holds no dot segment, double slash or parameter."""
        try:
            once = canonical_path(path, windows=windows)
        except AmbiguousPath:
            return
        self.assertEqual(canonical_path(once, windows=windows), once)
        self.assertFalse({b".", b".."} & set(once.split(b"/")))
        self.assertNotIn(b"//", once)
        self.assertNotIn(b";", once)


class PrefixTests(SynchronousTestCase):
    """Published paths."""

    @pytest.mark.feature("PUB-2")
    def test_whole_segments(self) -> None:
        """N18: ``/app1`` and what lies below it, never ``/app10``."""
        for path, under in ((b"/app1", True), (b"/app1/", True), (b"/app1/x", True), (b"/app10", False), (b"/", False)):
            self.assertIs(is_under(path, b"/app1/"), under)
        self.assertTrue(is_under(b"/anything", b"/"))

    @pytest.mark.feature("PUB-3")
    def test_prefix_is_swapped(self) -> None:
        """N19: what follows the prefix keeps its octets."""
        for path, old, new, expected in (
            (b"/hr/a%20b%2Fc+%7e//x;y", b"/hr/", b"/", b"/a%20b%2Fc+%7e//x;y"),
            (b"/x", b"/", b"/app/", b"/app/x"),
            (b"/", b"/", b"/app/", b"/app/"),
            (b"/hr", b"/hr/", b"/app/", b"/app"),
            (b"/hr", b"/hr/", b"/", b"/"),
            (b"/hr/", b"/hr/", b"/a/b/", b"/a/b/"),
            (b"/%68r/x", b"/hr/", b"/app/", b"/app/x"),
            (b"/caf%c3%a9/x", b"/caf%C3%A9/", b"/app/", b"/app/x"),
            (b"/hr/a/../b", b"/hr/", b"/app/", b"/app/a/../b"),
            (b"//hr", b"/", b"/app/", b"/app//hr"),
        ):
            self.assertEqual(swap_prefix(path, old, new), expected)

    @pytest.mark.feature("PUB-3")
    def test_nobody_climbs_out(self) -> None:
        """A path that is below the prefix for one reader and not for another reaches no origin."""
        for path in (
            b"/hr/../hr/x", b"/x/../hr/y", b"//hr/x", b"/hr;a/x", b"/hr%2fx", b"/hrx", b"/", b"/hr/../x",
            b"/hr/..", b"/hr/%2e%2e/x",
            b"/hr/%5c", b"/HR/x",
        ):  # fmt: skip
            with self.assertRaises(AmbiguousPath, msg=repr(path)):
                swap_prefix(path, b"/hr/", b"/app/")

    @given(st.text(alphabet="/.%2eEfFhr;", max_size=14).map(lambda text: b"/" + text.encode()))
    def test_swapped_paths_stay_below(self, path: bytes) -> None:
        """Whatever is swapped lies below the new prefix, by the strictest reading."""
        try:
            swapped = swap_prefix(path, b"/hr/", b"/in/app/")
        except AmbiguousPath:
            return
        self.assertTrue(is_under(canonical_path(swapped), b"/in/app/"))


class HostTests(SynchronousTestCase):
    """Host values."""

    def test_canonical(self) -> None:
        """N15, N16: case, final dot and spelling of addresses make no difference."""
        for value, expected in (
            (b"APP.Example.test.", ("app.example.test", None)),
            (b"app.example.test:443", ("app.example.test", 443)),
            (b"x_y", ("x_y", None)),
            (b"xn--bcher-kva.test", ("xn--bcher-kva.test", None)),
            (b"127.0.0.1:8080", ("127.0.0.1", 8080)),
            (b"[2001:DB8:0:0::1]:80", ("[2001:db8::1]", 80)),
        ):
            self.assertEqual(canonical_host(value), expected)

    def test_malformed(self) -> None:
        """Everything else is no host."""
        for value in (
            b"", b".", b"a..b", b".a", b"-a", b"a-", b"a b", b"a,b", b"a/b", b"u@a", b"a:", b"a:0", b"a:65536",
            b"a:123456", b"a:+1",
            b"::1", b"[::1", b"[::1]x", b"[1]", b"[fe80::1%eth0]", b"2130706433", b"0177.0.0.1", b"0x7f.1",
            b"1.2.3", b"a.1", b"a..",
            b"\xc3\xa4.test", b"a" * 64, b".".join([b"a" * 50] * 6), b"*.a",
        ):  # fmt: skip
            with self.assertRaises(MalformedHost, msg=repr(value)):
                canonical_host(value)


class PublishedTests(SynchronousTestCase):
    """External and internal URLs."""

    @pytest.mark.feature("PUB-2")
    def test_canonical(self) -> None:
        """However it was written, there is one text for it."""
        for text, canonical in (
            ("https://HR.Example.test", "https://hr.example.test/"),
            ("https://hr.example.test:443/leave", "https://hr.example.test/leave/"),
            ("http://hr.example.test:8080/a/", "http://hr.example.test:8080/a/"),
            ("https://[::1]:8443/", "https://[::1]:8443/"),
            ("https://Bücher.test/é", "https://xn--bcher-kva.test/%C3%A9/"),
            ("https://*.apps.test/", "https://*.apps.test/"),
        ):
            url = ExternalURL.parse(text)
            self.assertEqual(str(url), canonical)
            self.assertEqual(ExternalURL.parse(canonical), url)

    def test_parts(self) -> None:
        """Authority and origin leave the scheme's own port out."""
        url = InternalURL.parse("http://intra.corp:8080/app/")
        self.assertEqual((url.scheme, url.host, url.port, url.path), ("http", "intra.corp", 8080, b"/app/"))
        self.assertEqual((url.authority, url.origin), ("intra.corp:8080", "http://intra.corp:8080"))
        self.assertEqual(InternalURL.parse("http://intra").origin, "http://intra")

    def test_mistakes_are_named(self) -> None:
        """The administrator reads which setting is wrong."""
        for text in (
            "", "hr.example.test", "ftp://a/", "https://", "https://a:x/", "https://a:99999/", "https://a b/", "https://a..b/",
            "https://u@a/", "https://a/?q", "https://a/#f", "https://a/../b", "https://a/%zz", "https://[::1/", "https://[x]/",
        ):  # fmt: skip
            with self.assertRaises(ConfigError, msg=text) as wrong:
                ExternalURL.parse(text)
            self.assertEqual(wrong.exception.where, "external_url")
        with self.assertRaises(ConfigError) as wrong:
            InternalURL.parse("x", "application hr: internal_url")
        self.assertEqual(wrong.exception.where, "application hr: internal_url")

    @pytest.mark.feature("PUB-4")
    def test_wildcards(self) -> None:
        """A star stands for one label or more, and for the same ones inside."""
        external, internal = ExternalURL.parse("https://*.apps.test"), InternalURL.parse("http://*.corp:81/x")
        for host, matches in (
            ("a.apps.test", True),
            ("a.b.apps.test", True),
            ("apps.test", False),
            ("xapps.test", False),
        ):
            self.assertIs(external.matches(host), matches)
        self.assertTrue(ExternalURL.parse("https://a.test").matches("a.test"))
        self.assertFalse(ExternalURL.parse("https://a.test").matches("b.a.test"))
        labels = external.labels_of("a.b.apps.test")
        self.assertEqual(str(internal.with_labels(labels)), "http://a.b.corp:81/x/")
        self.assertEqual(internal.with_labels("a").with_labels("b").host, "a.corp")


class NeverPublishedTests(SynchronousTestCase):
    """Addresses that no intranet application has."""

    def test_metadata_services(self) -> None:
        """M04: link-local addresses, those of clouds, and whatever stands for one of them in IPv6."""
        for address in (
            "169.254.169.254", "169.254.170.2", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
            "fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::", "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "::ffff:168.63.129.16",
        ):  # fmt: skip
            self.assertTrue(is_never_published(ip_address(address)), address)

    def test_intranets(self) -> None:
        """M04: loopback and private addresses are what intranets are made of, and public ones may be the company's."""
        for address in (
            "127.0.0.1", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "fec0::1",
            "192.0.2.1",
            "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "168.63.129.17",
        ):  # fmt: skip
            self.assertFalse(is_never_published(ip_address(address)), address)


class WrittenPathTests(SynchronousTestCase):
    """Paths that administrators write."""

    def test_at(self) -> None:
        """A slash at the end covers all below, by whole segments; nothing else does."""
        for path in (b"/hr", b"/hr/", b"/hr/x"):
            self.assertTrue(is_at(path, b"/hr/"))
        for path, wanted in ((b"/hrx", b"/hr/"), (b"/hr/x", b"/hr"), (b"/hr/", b"/hr"), (b"/", b"/hr/")):
            self.assertFalse(is_at(path, wanted))
        self.assertTrue(is_at(b"/x", b"/"))

    def test_canonical(self) -> None:
        """What can be read in another way, or is no path, is not."""
        for text in ("/", "/hr/", "/a%20b"):
            self.assertTrue(is_canonical(text), text)
        for text in ("", "hr", "/a/../b", "//a", "/a%2fb", "/%61", "/\u00e4", "/a;b", "/%"):
            self.assertFalse(is_canonical(text), text)
