"""The relay's own cookies."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.cookies import RESERVED
from appproxy.relay.preauth import cookies


class CookieTest(SynchronousTestCase):
    """How they are set."""

    @pytest.mark.feature("AUTH-4")
    def test_attributes(self) -> None:
        """S01: this host only, secure, out of reach of scripts; what an application asks for can be added."""
        self.assertEqual(
            cookies.set_cookie(b"a", b"b"), (b"Set-Cookie", b"a=b; Path=/; Secure; HttpOnly; SameSite=Lax")
        )
        self.assertEqual(
            cookies.set_cookie(b"a", b"b", max_age=5, same_site="none", partitioned=True, http_only=False)[1],
            b"a=b; Path=/; Max-Age=5; Secure; SameSite=None; Partitioned",
        )
        self.assertIn(b"a=; ", cookies.expire_cookie(b"a")[1])
        self.assertIn(b"Max-Age=0", cookies.expire_cookie(b"a")[1])

    def test_names_are_reserved(self) -> None:
        """Every name is among those that origins never see and can never set."""
        for name in (cookies.SESSION, cookies.BINDING, cookies.ROUNDS, cookies.ATTEMPT):
            self.assertTrue(name.startswith(RESERVED), name)
