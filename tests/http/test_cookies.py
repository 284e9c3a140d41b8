"""The relay's own cookies."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.cookies import (
    RESERVED,
    clear_cookie,
    drop_reserved,
    is_reserved_set_cookie,
    set_cookie,
    take_reserved,
)
from appproxy.http.messages import UnsafeHead


class RequestTests(SynchronousTestCase):
    """What an origin is not told."""

    def test_foreign_cookies_pass_octet_by_octet(self) -> None:
        """Whatever syntax they have."""
        for value in (b"a=b", b'a="b; c";;d= e', b"", b"\xff"):
            self.assertEqual(take_reserved([value]), ({}, value))

    def test_no_cookies(self) -> None:
        """Nothing makes nothing."""
        self.assertEqual(take_reserved([]), ({}, None))

    def test_lines_are_joined(self) -> None:
        """Several Cookie fields become one."""
        self.assertEqual(take_reserved([b"a=b", b"c=d"]), ({}, b"a=b; c=d"))

    @pytest.mark.feature("AUTH-4")
    def test_own_cookies_are_taken_out(self) -> None:
        """S07: every value under the name as sent; the others stay as they are."""
        name = RESERVED + b"session"
        reserved, others = take_reserved([b"a=1; %b=x; b=2" % name, b"%b=y;c=3; appproxy-state=z" % name])
        self.assertEqual(reserved, {name: [b"x", b"y"], b"appproxy-state": [b"z"]})
        self.assertEqual(others, b"a=1; b=2;c=3")

    def test_own_cookies_alone_leave_nothing(self) -> None:
        """Then there is no Cookie field for the origin."""
        self.assertEqual(take_reserved([b"__Host-appproxy-s=x"]), ({b"__Host-appproxy-s": [b"x"]}, None))

    def test_variants_do_not_pass(self) -> None:
        """S03: other cases and prefixes are taken out too, though under their own names."""
        for name in (
            b"__HOST-APPPROXY-s",
            b"__Secure-appproxy-s",
            b"__Http-appproxy-s",
            b"__Host-Http-appproxy-s",
            b"AppProxy-s",
        ):
            self.assertEqual(take_reserved([b"a=b; %b=x" % name]), ({name: [b"x"]}, b"a=b"))

    def test_names_that_merely_contain_the_mark_pass(self) -> None:
        """An application may name its cookies so."""
        self.assertEqual(
            take_reserved([b"my-appproxy-x=y; __Host-z=appproxy-"]), ({}, b"my-appproxy-x=y; __Host-z=appproxy-")
        )


class ResponseTests(SynchronousTestCase):
    """What an origin cannot set."""

    @pytest.mark.feature("AUTH-4")
    def test_reserved_names_are_dropped(self) -> None:
        """S09: whatever case, white space or missing name a browser might forgive."""
        for value in (
            b"__Host-appproxy-s=x; Path=/",
            b" \t__host-APPPROXY-s=x",
            b"=__Host-appproxy-s=x",
            b"appproxy-s=x",
        ):
            self.assertTrue(is_reserved_set_cookie(value))
            self.assertEqual(drop_reserved([(b"set-Cookie", value), (b"a", value)]), [(b"a", value)])

    def test_others_stay(self) -> None:
        """The mark elsewhere means nothing."""
        field = (b"Set-Cookie", b"a=__Host-appproxy-s; Path=/appproxy-x")
        self.assertEqual(drop_reserved([field]), [field])


class BuildingTests(SynchronousTestCase):
    """Set-Cookie fields of our own."""

    @pytest.mark.feature("AUTH-4")
    def test_defaults_are_strict(self) -> None:
        """S01: Secure, HttpOnly, SameSite=Lax, for the whole host and only for it."""
        self.assertEqual(
            set_cookie(RESERVED + b"s", b"x"),
            (b"Set-Cookie", b"__Host-appproxy-s=x; Path=/; Secure; HttpOnly; SameSite=Lax"),
        )

    def test_options(self) -> None:
        """Framed applications, plain development relays and persistent cookies."""
        self.assertEqual(
            set_cookie(
                b"a", b"b", max_age=60, path=b"/x", http_only=False, secure=False, same_site=b"None", partitioned=True
            )[1],
            b"a=b; Path=/x; Max-Age=60; SameSite=None; Partitioned",
        )

    def test_removing(self) -> None:
        """A cookie ends by an age of nothing, under the attributes that it had."""
        self.assertEqual(clear_cookie(b"a")[1], b"a=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")
        self.assertEqual(
            clear_cookie(b"a", partitioned=True)[1],
            b"a=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=None; Partitioned",
        )

    def test_nonsense_is_refused(self) -> None:
        """No value ends the cookie early, no prefix promises too much."""
        for name, value, path, secure in (
            (b"a b", b"x", b"/", True), (b"a", b"x;y", b"/", True), (b"a", b"x y", b"/", True), (b"a",
            b"x\r\n", b"/", True),
            (b"a", b"x", b"/;Domain=x", True), (b"__Host-a", b"x", b"/", False), (b"__Host-a", b"x", b"/y", True),
        ):  # fmt: skip
            with self.assertRaises(UnsafeHead):
                set_cookie(name, value, path=path, secure=secure)
