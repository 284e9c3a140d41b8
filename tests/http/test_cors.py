"""Cross-origin resource sharing by rule."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import CrossOrigin
from appproxy.http.cors import CrossOriginRules, is_preflight
from appproxy.http.messages import Field
from appproxy.units import Duration

WWW = b"https://www.example.com"


def rules(*origins: str, **more: Any) -> CrossOriginRules:
    """Rules for *origins*."""
    return CrossOriginRules(CrossOrigin(allowed_origins=origins or (WWW.decode(),), **more))


def asks(origin: bytes = WWW, method: bytes = b"PUT", headers: bytes = b"") -> dict[bytes, list[bytes]]:
    """The fields of a preflight request."""
    fields = {b"origin": [origin], b"access-control-request-method": [method]}
    return fields | {b"access-control-request-headers": [headers]} if headers else fields


@pytest.mark.feature("PUB-5")
class OriginTests(SynchronousTestCase):
    """Whose scripts may."""

    def test_only_the_same_origin(self) -> None:
        """Scheme, host and port are compared exactly: nothing that begins or ends alike, and no odd spelling."""
        named = rules("https://www.example.com", "https://app.example.com:8443")
        self.assertTrue(named.allows(WWW))
        self.assertTrue(named.allows(b"https://app.example.com:8443"))
        for other in (
            b"http://www.example.com",
            b"https://www.example.com:8443",
            b"https://www.example.com.evil.test",
            b"https://evilwww.example.com",
            b"https://www.example.com/",
            b"https://WWW.example.com",
            b"https://app.example.com",
            b"null",
            b"",
        ):
            self.assertFalse(named.allows(other), other)

    def test_wildcards(self) -> None:
        """A star stands for one label or more, with the same scheme and port."""
        wild = rules("https://*.example.com")
        for origin, allowed in (
            (b"https://a.example.com", True),
            (b"https://a.b.example.com", True),
            (b"https://example.com", False),
            (b"https://evilexample.com", False),
            (b"https://a.example.com:8443", False),
            (b"http://a.example.com", False),
            (b"https://a.example.com:443", False),
            (b"https://a.example.com@evil.test", False),
            (b"https://a.example.com/x", False),
            (b"null", False),
            (b"\xff", False),
        ):
            self.assertIs(wild.allows(origin), allowed, origin)

    def test_all(self) -> None:
        """A star alone is everybody."""
        self.assertTrue(rules("*").allows(b"null"))


@pytest.mark.feature("PUB-5")
class PreflightTests(SynchronousTestCase):
    """Questions before a request."""

    def test_what_is_one(self) -> None:
        """A06: an OPTIONS with both fields, and nothing else."""
        self.assertTrue(is_preflight(b"OPTIONS", asks()))
        self.assertFalse(is_preflight(b"GET", asks()))
        self.assertFalse(is_preflight(b"options", asks()))
        for name in asks():
            self.assertFalse(
                is_preflight(b"OPTIONS", {other: value for other, value in asks().items() if other != name})
            )

    def test_answer(self) -> None:
        """Origin, methods, headers and how long it may be remembered; caches keep origins apart."""
        named = rules(allowed_methods=("GET", "PUT"), allowed_headers=("X-Token",), max_age=Duration(60))
        self.assertEqual(
            named.preflight(asks(headers=b"x-other")),
            [
                (b"Access-Control-Allow-Origin", WWW),
                (b"Access-Control-Allow-Methods", b"GET, PUT"),
                (b"Access-Control-Max-Age", b"60"),
                (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
                (b"Access-Control-Allow-Headers", b"X-Token"),
            ],
        )

    def test_strangers_get_none(self) -> None:
        """An origin without a rule, or two origins at once, may nothing."""
        self.assertIsNone(rules().preflight(asks(b"https://evil.test")))
        self.assertIsNone(rules().preflight(asks() | {b"origin": [WWW, WWW]}))

    def test_all_methods_and_headers(self) -> None:
        """With credentials browsers take no star, so what is asked for is named; what is no name is left out."""
        everything = rules(allowed_methods=("*",), allowed_headers=("*",), allow_credentials=True)
        fields = dict(everything.preflight(asks(headers=b"x-a,x-b, x c,\r\nEvil: 1")) or ())
        self.assertEqual(fields[b"Access-Control-Allow-Methods"], b"PUT")
        self.assertEqual(fields[b"Access-Control-Allow-Headers"], b"x-a, x-b")
        self.assertEqual(fields[b"Access-Control-Allow-Credentials"], b"true")

    def test_no_methods(self) -> None:
        """An empty list of methods allows none."""
        fields = dict(rules(allowed_methods=()).preflight(asks(headers=b"x-a")) or ())
        self.assertEqual(fields[b"Access-Control-Allow-Methods"], b"")
        self.assertNotIn(b"Access-Control-Allow-Headers", fields)


@pytest.mark.feature("PUB-5")
class AnswerTests(SynchronousTestCase):
    """What is said on the answers themselves."""

    def answered(self, named: CrossOriginRules, origin: bytes | None, *fields: Field) -> list[Field]:
        """The fields of an answer to a script of *origin*."""
        return named.answered(fields, {} if origin is None else {b"origin": [origin]})

    def test_the_origins_word_is_replaced(self) -> None:
        """Whatever it says about sharing, and only that; the order of all else stays."""
        named = rules(exposed_headers=("X-Total", "ETag"), allow_credentials=True)
        said = [
            (b"X-A", b"1"),
            (b"access-control-allow-origin", b"*"),
            (b"Access-Control-Expose-Headers", b"X-Secret"),
            (b"Vary", b"Accept"),
        ]
        self.assertEqual(
            self.answered(named, WWW, *said),
            [
                (b"X-A", b"1"),
                (b"Vary", b"Accept"),
                (b"Vary", b"Origin"),
                (b"Access-Control-Allow-Origin", WWW),
                (b"Access-Control-Allow-Credentials", b"true"),
                (b"Access-Control-Expose-Headers", b"X-Total, ETag"),
            ],
        )

    def test_strangers_and_plain_requests(self) -> None:
        """Nobody else is told that they may, and caches keep the answers apart."""
        for origin in (b"https://evil.test", None):
            self.assertEqual(
                self.answered(rules(), origin, (b"Access-Control-Allow-Origin", b"*")), [(b"Vary", b"Origin")]
            )

    def test_everybody(self) -> None:
        """Where all may, the answer is the same for all."""
        self.assertEqual(self.answered(rules("*"), WWW), [(b"Access-Control-Allow-Origin", b"*")])
