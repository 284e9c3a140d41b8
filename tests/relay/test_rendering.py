"""The relay's own pages and errors."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.refusal import BadRequest
from appproxy.relay.gateway import UnderMaintenance
from appproxy.relay.rendering import Rendering, words_for
from tests.fakes.exchange import FETCHES, NAVIGATES, FakeExchange

URL = "https://hr.example.test/x"


class OriginTimeout(AppproxyError):
    """The origin did not answer."""

    code, status, side, phase = "origin-timeout", 504, Side.ORIGIN, Phase.FIRST_BYTE


class RenderingTest(SynchronousTestCase):
    """Answers to people and to programs."""

    def setUp(self) -> None:
        self.rendering = Rendering(lambda: 1_800_000_000)

    @pytest.mark.feature("HTTP-8")
    def test_page(self) -> None:
        """A person reads what happened, where, and the reference to give the administrator, and nothing internal."""
        exchange = FakeExchange(URL)
        self.rendering.fail(exchange, OriginTimeout("http://10.0.0.7:8080 timed out"))
        text = exchange.body.decode()
        for part in ("504", "origin-timeout", "origin, first byte", "req-1", "2027-01-15T08:00:00Z", "takes too long"):
            self.assertIn(part, text)
        self.assertNotIn("10.0.0.7", text)
        self.assertEqual(exchange.value("Content-Type"), "text/html; charset=utf-8")

    @pytest.mark.feature("HTTP-8")
    def test_problem(self) -> None:
        """A program gets the same as a problem document."""
        exchange = FakeExchange(URL, fields=FETCHES)
        self.rendering.fail(exchange, OriginTimeout("secret"), reasons=("slow",))
        self.assertEqual((exchange.status, exchange.value("Content-Type")), (504, "application/problem+json"))
        self.assertEqual(
            msgspec.json.decode(exchange.body),
            {
                "title": "The application takes too long",
                "status": 504,
                "code": "origin-timeout",
                "side": "origin",
                "phase": "first byte",
                "request_id": "req-1",
                "time": "2027-01-15T08:00:00Z",
                "reasons": ["slow"],
            },
        )

    def test_security_fields(self) -> None:
        """S24, S26: pages are not stored, not framed, run nothing, and only the one style sheet applies."""
        exchange = FakeExchange(URL)
        self.rendering.fail(exchange, OriginTimeout())
        policy = exchange.value("Content-Security-Policy")
        style = re.search(rb"<style>(.*)</style>", exchange.body, re.DOTALL)
        assert style is not None
        self.assertIn(f"'sha256-{b64encode(sha256(style[1]).digest()).decode()}'", policy)
        for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
            self.assertIn(part, policy)
        self.assertEqual((exchange.value("Cache-Control"), exchange.value("Vary")), ("no-store", "Cookie"))
        self.assertNotIn(b"<script", exchange.body)

    def test_text_is_escaped(self) -> None:
        """A13: whatever is shown is text."""
        exchange = FakeExchange(URL)
        evil = "<script>alert(1)</script>"
        self.rendering.explain(exchange, 403, evil, Side.RELAY, Phase.POLICY, reasons=[evil], link='"><b>')
        self.assertNotIn(b"<script>", exchange.body)
        self.assertIn(b'href="&#34;&gt;&lt;b&gt;"', exchange.body)

    def test_redirect(self) -> None:
        """A GET is redirected with 302, a form with 303, so that nothing is posted twice."""
        for method, status in ((b"GET", 302), (b"HEAD", 302), (b"POST", 303)):
            exchange = FakeExchange(URL, method=method)
            self.rendering.redirect(exchange, b"https://x.test/", [(b"Set-Cookie", b"a=b")])
            self.assertEqual((exchange.status, exchange.value("Location")), (status, "https://x.test/"))
            self.assertEqual(exchange.value("Set-Cookie"), "a=b")

    @pytest.mark.feature("PUB-7")
    def test_maintenance(self) -> None:
        """A person is told that somebody works on it, a program the code; both, when to come back."""
        wait = [(b"Retry-After", b"600")]
        for fields, kind, said in (
            (NAVIGATES, "text/html; charset=utf-8", b"This application is being worked on"),
            (FETCHES, "application/problem+json", b'"code":"maintenance"'),
        ):
            exchange = FakeExchange(URL, fields=fields)
            self.rendering.fail(exchange, UnderMaintenance(), wait)
            self.assertEqual((exchange.status, exchange.value("Content-Type")), (503, kind))
            self.assertEqual(exchange.value("Retry-After"), "600")
            self.assertIn(said, exchange.body)

    def test_words(self) -> None:
        """There are words for every status, known or not."""
        self.assertEqual(words_for("x", 418).title, "I'm a Teapot")
        self.assertEqual(words_for("x", 599).title, "Something went wrong here")
        self.assertEqual(words_for("sign-in-expired", 400).title, "This sign-in took too long")

    @pytest.mark.feature("HTTP-8")
    def test_refusal(self) -> None:
        """What was no request is told the same things, with a reference of its own."""
        fields, body = self.rendering.refusal(BadRequest(431, "head too large"), "ref-1")
        told = {"title": "head too large", "status": 431, "code": "request-head-too-large", "side": "client"}
        told |= {"phase": "request", "request_id": "ref-1", "time": "2027-01-15T08:00:00Z"}
        self.assertEqual(msgspec.json.decode(body), told)
        self.assertIn((b"Content-Type", b"application/problem+json"), fields)
        self.assertIn((b"Cache-Control", b"no-store"), fields)
