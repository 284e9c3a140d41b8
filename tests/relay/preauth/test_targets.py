"""Return targets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.preauth.targets import is_safe_target


def safe(target: bytes, canonical: bytes | None = None) -> bool:
    """Whether it is kept; the canonical path is the path itself unless said otherwise."""
    return is_safe_target(target, target.partition(b"?")[0] if canonical is None else canonical)


class TargetTest(SynchronousTestCase):
    """Kept or not."""

    @pytest.mark.feature("AUTH-13")
    def test_kept(self) -> None:
        """S23: ordinary targets are kept, however odd."""
        for target in (
            b"/",
            b"/a%2Fb?q=%26&x=\xc3\xa4",
            b"/a//b",
            b"/?",
            b"/x?u=https://evil.test",
            b"/a?x=%0d%0a",
            b"/.x",
        ):
            self.assertTrue(safe(target), target)

    def assertNotKept(self, *targets: bytes) -> None:
        """None of them is kept."""
        self.assertEqual([target for target in targets if safe(target)], [])

    @pytest.mark.feature("AUTH-13")
    def test_no_two_slashes(self) -> None:
        """S14: what names a host without a scheme, also once somebody has decoded it."""
        self.assertNotKept(b"//evil.test", b"///evil.test", b"/%2f/evil.test", b"/%2F%2Fevil.test", b"")

    @pytest.mark.feature("AUTH-13")
    def test_no_backslashes(self) -> None:
        """S15: browsers read them as slashes; encoded ones too, for the reader that decodes first."""
        self.assertNotKept(b"/\\evil.test", b"/%5cevil.test", b"/%5Cevil.test", b"\\\\evil", b"/a\\b")

    @pytest.mark.feature("AUTH-13")
    def test_no_white_space(self) -> None:
        """S16: browsers drop tabs and line ends, and two slashes are left; raw or encoded."""
        between = (b"\t", b"\n", b"\r", b"\v", b"\f", b" ", b"%09", b"%0a", b"%0B", b"%0d", b"%00", b"%7f")
        self.assertNotKept(*(b"/" + each + b"/evil.test" for each in between), b"/a b")

    @pytest.mark.feature("AUTH-13")
    def test_no_schemes(self) -> None:
        """S17: whole addresses, half addresses, scripts and data."""
        self.assertNotKept(b"https:evil.test", b"https:///evil", b"javascript:alert(1)", b"data:text/html,x", b"*")

    @pytest.mark.feature("AUTH-13")
    def test_no_disguised_hosts(self) -> None:
        """S18: a host before an @, or one that only begins like ours."""
        self.assertNotKept(b"https://app.example.test@evil.test", b"https://app.example.test.evil.test", b"@evil.test")

    @pytest.mark.feature("AUTH-13")
    def test_no_line_ends(self) -> None:
        """S20: nothing can become another header, nor hide behind a fragment."""
        self.assertNotKept(b"/%0d%0aSet-Cookie:x=1", b"/a?b\r\nX: y", b"/a#b", b"/a%7f")

    @pytest.mark.feature("AUTH-13")
    def test_not_too_long(self) -> None:
        """S21: what would not fit into a cookie."""
        self.assertTrue(safe(b"/" + b"a" * 1535))
        self.assertNotKept(b"/" + b"a" * 1536, b"/?" + b"a" * 100_000)

    def test_own_addresses(self) -> None:
        """S22: the sign-in's own addresses are no target, in any spelling."""
        for canonical in (b"/.appproxy", b"/.appproxy/ticket", b"/.APPPROXY/sign-out"):
            self.assertFalse(safe(b"/%2eappproxy/x", canonical))
        self.assertTrue(safe(b"/.appproxyx"))

    @settings(max_examples=200)
    @given(st.binary(max_size=30))
    def test_any_octets(self, rest: bytes) -> None:
        """Whatever is kept begins with one slash, and holds no control character, space or backslash."""
        target = b"/" + rest
        if safe(target):
            self.assertFalse(target.startswith((b"//", b"/\\")))
            self.assertFalse(set(target) & {*range(33), 127, ord("\\")} - ({ord("\\")} if b"?" in target else set()))
