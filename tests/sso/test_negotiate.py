"""Challenges of integrated authentication."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.sso.negotiate import authorization, challenged, reply, schemes, without_challenges


class NegotiateTests(SynchronousTestCase):
    """What an origin says, and who may hear it."""

    def test_schemes(self) -> None:
        """Several challenges in one field are told from the parameters of one."""
        for value, found in {
            b"Negotiate": {b"negotiate"},
            b"Negotiate oYG3MIG0oAMKAQA=": {b"negotiate"},
            b"NTLM, Negotiate": {b"ntlm", b"negotiate"},
            b'Basic realm="a, Negotiate b", Bearer scope=x': {b"basic", b"bearer"},
            b'Digest realm="x", nonce="y", Negotiate': {b"digest", b"negotiate"},
            b'Bearer realm="open': {b"bearer"},
            b"": set(),
        }.items():
            self.assertEqual(schemes(value), found, value)

    @pytest.mark.feature("SSO-2")
    def test_clients_do_not_hear_them(self) -> None:
        """B-K13: no challenge that a browser would answer with its user's credentials passes; others do."""
        kept = [(b"Content-Type", b"text/html"), (b"WWW-Authenticate", b'Bearer realm="x"')]
        ours = [(b"WWW-Authenticate", value) for value in (b"Negotiate", b"NTLM", b"nEgOtIaTe YWJj", b"x y=z, NTLM")]
        self.assertEqual(without_challenges([*kept, *ours, (b"www-authenticate", b"Kerberos")]), kept)
        plain = [(b"Content-Type", b"text/html")]
        self.assertIs(without_challenges(plain), plain)

    def test_replies(self) -> None:
        """The token of the first Negotiate; nothing where there is none; something unreadable proves nothing."""
        self.assertEqual(reply([(b"www-authenticate", b"Negotiate " + b64encode(b"abc"))]), b"abc")
        self.assertEqual(reply([(b"WWW-Authenticate", b"NTLM x"), (b"WWW-Authenticate", b"negotiate YQ==")]), b"a")
        self.assertIsNone(reply([(b"WWW-Authenticate", b"Negotiate"), (b"X", b"Negotiate YQ==")]))
        self.assertEqual(reply([(b"WWW-Authenticate", b"Negotiate %%%")]), b"")

    def test_challenged(self) -> None:
        """Only Negotiate can be answered with a ticket."""
        self.assertTrue(challenged([(b"WWW-Authenticate", b"NTLM, Negotiate")]))
        self.assertFalse(challenged([(b"WWW-Authenticate", b"NTLM"), (b"X-Y", b"Negotiate")]))
        self.assertEqual(authorization(b"abc"), (b"Authorization", b"Negotiate YWJj"))

    @given(st.binary(max_size=200))
    def test_any_octets(self, value: bytes) -> None:
        """B-K15: nothing that an origin writes is more than refused."""
        fields = [(b"WWW-Authenticate", value)]
        schemes(value)
        reply(fields)
        self.assertIn(without_challenges(fields), ([], fields))
