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

    @pytest.mark.feature("AUTH-13")
    def test_not_kept(self) -> None:
        """S14 to S18, S20 to S22: nothing that any browser could read as another site or another header."""
        for target in (
            b"",
            b"//evil.test",
            b"///evil.test",
            b"/\\evil.test",
            b"/%5cevil.test",
            b"/a\\b",
            b"\\\\evil",
            b"/%2f/evil.test",
            b"/%2F%2Fevil.test",
            b"/\t/evil.test",
            b"/%09/evil.test",
            b"/%0a/evil.test",
            b"/%0d%0aSet-Cookie:x=1",
            b"/a?b\r\nX: y",
            b"/a b",
            b"/a#b",
            b"/a%7f",
            b"https:evil.test",
            b"https:///evil",
            b"https://app.example.test@evil.test",
            b"javascript:alert(1)",
            b"*",
            b"/" + b"a" * 1536,
        ):
            self.assertFalse(safe(target), target)

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
