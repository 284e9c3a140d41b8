"""What goes up with a request: the client's fields cleaned, the relay's own word on where it came from."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.address import IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.forwarded import TrustedProxies
from appproxy.http.hops import REQUEST_DROP
from appproxy.http.messages import Field
from appproxy.relay.front.http1 import Front
from appproxy.relay.upward import MAX_PASSES, LoopDetected, upward_fields
from tests.fakes.fronts import Bench, FakeSocket


class SixthVersion(FakeSocket):
    """A client with an IPv6 address."""

    def getPeer(self) -> Any:
        return IPv6Address("TCP", "2001:db8::7", 50000)


class UpwardTests(SynchronousTestCase):
    def fields(
        self,
        more: bytes = b"",
        host: bytes = b"hr.example.com",
        secure: bool = True,
        proxies: TrustedProxies | None = None,
        version: bytes = b"HTTP/1.1",
    ) -> list[Field]:
        """What goes up for a POST of one octet."""
        bench, told = Bench(), []
        bench.settings.secure = secure
        bench.settings.proxies = proxies

        async def capture(exchange: Any) -> None:
            told.append(upward_fields(exchange, REQUEST_DROP))

        bench.settings.responder = capture
        socket = self.socket
        socket.protocol = Front(bench.settings)
        socket.protocol.makeConnection(socket)
        bench.sends(
            socket, b"POST /a " + version + b"\r\nHost: " + host + b"\r\n" + more + b"Content-Length: 1\r\n\r\nx"
        )
        (fields,) = told
        return list(fields)

    def setUp(self) -> None:
        self.socket = FakeSocket()

    def values(self, fields: list[Field], name: bytes) -> list[bytes]:
        """All values of a field, in order."""
        return [value for each, value in fields if each.lower() == name]

    @pytest.mark.feature("HTTP-3")
    def test_the_relays_word(self) -> None:
        """Client, host, scheme, port and hop are the relay's to say."""
        fields = dict(self.fields())
        self.assertEqual(fields[b"X-Forwarded-For"], b"192.0.2.7")
        self.assertEqual(fields[b"X-Forwarded-Host"], b"hr.example.com")
        self.assertEqual(fields[b"X-Forwarded-Proto"], b"https")
        self.assertEqual(fields[b"X-Forwarded-Port"], b"443")
        self.assertEqual(fields[b"Forwarded"], b'for=192.0.2.7;host="hr.example.com";proto=https')
        self.assertEqual(fields[b"Via"], b"1.1 appproxy")

    @pytest.mark.feature("HTTP-3")
    def test_what_clients_claim_is_dropped(self) -> None:
        """N12: no client says where it comes from or what path was meant, in whatever spelling."""
        claims = (
            b"X-Forwarded-For: 6.6.6.6\r\nx-forwarded-proto: http\r\nX-FORWARDED-Anything: 1\r\n"
            b"Forwarded: for=6.6.6.6\r\n"
            b"X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX_Forwarded_For: 6.6.6.6\r\n"
        )
        fields = self.fields(claims)
        self.assertNotIn(b"6.6.6.6", b" ".join(value for _, value in fields))
        self.assertNotIn(b"/admin", [value for _, value in fields])
        self.assertEqual(len(self.values(fields, b"forwarded")), 1)
        self.assertEqual(self.values(fields, b"x-forwarded-anything"), [])

    @pytest.mark.feature("HTTP-3")
    def test_what_trusted_proxies_say(self) -> None:
        """H10: a proxy that is listed is believed; origins hear what it said, in the relay's own words only."""
        said = (
            b"X-Forwarded-For: 203.0.113.9, 198.51.100.20\r\nX-Forwarded-Proto: https\r\n"
            b"X-Forwarded-Host: ext.example.com\r\nX-Forwarded-Port: 8443\r\nForwarded: for=6.6.6.6\r\n"
        )
        trusted = TrustedProxies([ip_network("192.0.2.0/24")])
        fields = self.fields(said, secure=False, proxies=trusted)
        self.assertEqual(self.values(fields, b"x-forwarded-for"), [b"198.51.100.20"])
        self.assertEqual(self.values(fields, b"x-forwarded-host"), [b"ext.example.com:8443"])
        self.assertEqual(self.values(fields, b"x-forwarded-proto"), [b"https"])
        self.assertEqual(self.values(fields, b"x-forwarded-port"), [b"8443"])
        self.assertEqual(
            self.values(fields, b"forwarded"), [b'for=198.51.100.20;host="ext.example.com:8443";proto=https']
        )
        elsewhere = TrustedProxies([ip_network("198.51.100.0/24")])
        for proxies in (elsewhere, None):
            fields = self.fields(said, secure=False, proxies=proxies)
            self.assertEqual(self.values(fields, b"x-forwarded-for"), [b"192.0.2.7"])
            self.assertEqual(self.values(fields, b"x-forwarded-host"), [b"hr.example.com"])
            self.assertEqual(self.values(fields, b"x-forwarded-proto"), [b"http"])

    @pytest.mark.feature("HTTP-3")
    def test_via(self) -> None:
        """The relay adds its own after the client's, with the version that the client spoke."""
        self.assertEqual(self.values(self.fields(b"Via: 1.0 fred\r\n"), b"via"), [b"1.0 fred", b"1.1 appproxy"])
        self.assertEqual(self.values(self.fields(version=b"HTTP/1.0"), b"via"), [b"1.0 appproxy"])

    @pytest.mark.feature("HTTP-3")
    def test_circles_are_broken(self) -> None:
        """A request that has been here too often goes no further, in one line or several, whatever it nominates."""
        self.assertEqual(len(self.values(self.fields(b"Via: 1.1 appproxy\r\n" * (MAX_PASSES - 1)), b"via")), MAX_PASSES)
        for via in (b"Via: 1.1 appproxy\r\n" * MAX_PASSES, b"Via: 1.1 x" + b", 1.1 appproxy" * MAX_PASSES + b"\r\n"):
            with self.assertRaises(ValueError):
                self.fields(via + b"Connection: Via\r\n")  # nothing was told
            self.assertEqual([failure.type for failure in self.flushLoggedErrors()], [LoopDetected])

    @pytest.mark.feature("SSO-6")
    def test_nothing_of_the_relays_can_be_nominated(self) -> None:
        """H02: Connection names what the client has written; the relay writes its own afterwards."""
        fields = self.fields(b"Connection: X-Forwarded-For, Forwarded, Via, X-Forwarded-Proto, Host\r\n")
        self.assertEqual(
            [len(self.values(fields, name)) for name in (b"x-forwarded-for", b"forwarded", b"via")], [1] * 3
        )
        self.assertEqual(self.values(fields, b"host"), [b"hr.example.com"])

    def test_six_is_quoted(self) -> None:
        """H10: an IPv6 client stands in brackets and quotes where the syntax asks for it, bare where it does not."""
        self.socket = SixthVersion()
        fields = dict(self.fields())
        self.assertEqual(fields[b"X-Forwarded-For"], b"2001:db8::7")
        self.assertEqual(fields[b"Forwarded"], b'for="[2001:db8::7]";host="hr.example.com";proto=https')

    def test_other_ports_and_schemes(self) -> None:
        """A port of its own is told with the host; a plain listener says so."""
        fields = dict(self.fields(host=b"HR.example.com:8443"))
        self.assertEqual(fields[b"X-Forwarded-Host"], b"hr.example.com:8443")
        self.assertEqual(fields[b"X-Forwarded-Port"], b"8443")
        fields = dict(self.fields(secure=False))
        self.assertEqual((fields[b"X-Forwarded-Proto"], fields[b"X-Forwarded-Port"]), (b"http", b"80"))

    @pytest.mark.feature("AUTH-4")
    def test_the_relays_cookies_stay_here(self) -> None:
        """S07: of several Cookie fields only the application's cookies go up, in one field where the first stood."""
        fields = self.fields(
            b"A: 1\r\nCookie: __Host-appproxy-session=h; theme=dark\r\nB: 2\r\ncookie: lang=en; __Host-appproxy-x=y\r\n"
        )
        self.assertEqual(self.values(fields, b"cookie"), [b"theme=dark; lang=en"])
        names = [name for name, _ in fields]
        self.assertLess(names.index(b"A"), names.index(b"Cookie"))
        self.assertLess(names.index(b"Cookie"), names.index(b"B"))
        self.assertNotIn(b"appproxy-", b" ".join(value for name, value in fields if name != b"Via"))

    def test_only_the_relays_cookies(self) -> None:
        """S07: where nothing else is left no Cookie field goes up at all."""
        self.assertEqual(self.values(self.fields(b"Cookie: __Host-appproxy-session=h\r\n"), b"cookie"), [])

    def test_request_ids_are_the_relays(self) -> None:
        """A client cannot choose the id under which its request is found in logs."""
        self.assertEqual(self.values(self.fields(b"X-Request-ID: mine\r\nx_request_id: mine\r\n"), b"x-request-id"), [])

    def test_foreign_cookies_are_left_alone(self) -> None:
        """Without a cookie of the relay's the fields go up as they are, each in its own place."""
        fields = self.fields(b"Cookie: a=b;  c=d\r\nCookie: e\r\n")
        self.assertEqual(self.values(fields, b"cookie"), [b"a=b;  c=d", b"e"])
