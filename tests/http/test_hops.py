"""What belongs to one connection."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.hops import (
    FORWARDING,
    IDENTITY,
    REQUEST_DROP,
    clean_request,
    clean_response,
    drop_aliases,
    fold,
    passes,
)
from appproxy.http.messages import Field, RequestHead


def cleaned(*fields: Field, drop: frozenset[bytes] = REQUEST_DROP) -> list[Field]:
    """What of a request with *fields* goes on, besides its Host."""
    kept = clean_request(RequestHead.of(b"GET", b"/", [(b"Host", b"a"), *fields]), drop)
    assert kept[0] == (b"Host", b"a")
    return kept[1:]


class RequestTests(SynchronousTestCase):
    """Towards the origin."""

    @pytest.mark.feature("HTTP-3")
    def test_hop_by_hop_fields_go(self) -> None:
        """All of them, in every spelling that a server may confuse; the others stay in order and case."""
        self.assertEqual(
            cleaned(
                (b"aCCept", b"x"),
                (b"Connection", b"keep-alive"),
                (b"Keep-Alive", b"5"),
                (b"Proxy_Connection", b"x"),
                (b"Transfer_Encoding", b"chunked"),
                (b"content.length", b"5"),
                (b"Proxy-Authorization", b"x"),
                (b"HTTP2-Settings", b"x"),
                (b"Expect", b"100-continue"),
                (b"accept", b"y"),
            ),
            [(b"aCCept", b"x"), (b"Expect", b"100-continue"), (b"accept", b"y")],
        )

    def test_nominated_fields_go(self) -> None:
        """Every line and token of Connection counts."""
        self.assertEqual(
            cleaned(
                (b"Connection", b"close, X-A"), (b"x_a", b"1"), (b"connection", b"x-b"), (b"X-B", b"2"), (b"c", b"3")
            ),
            [(b"c", b"3")],
        )

    def test_host_cannot_be_nominated_away(self) -> None:
        """H02: a request stays one request with one Host."""
        self.assertEqual(cleaned((b"Connection", b"Host, close, H_ost")), [])

    @pytest.mark.feature("HTTP-3")
    def test_forwarding_fields_go(self) -> None:
        """N12: a client cannot speak for a gateway."""
        names = b"Forwarded X-Forwarded-For X-FORWARDED-HOST X_Forwarded_Proto x.forwarded.prefix X-Original-URL"
        self.assertEqual(cleaned(*[(name, b"x") for name in [*names.split(), b"X-Rewrite-Url", b"X_Real_IP"]]), [])

    @pytest.mark.feature("HTTP-3")
    def test_no_client_says_who_it_is(self) -> None:
        """H09: what origins take for a gateway's word on the user goes, in every spelling, unless it is let through."""
        spoofed = [(name.upper(), b"root") for name in sorted(IDENTITY)] + [(b"x_remote.user", b"root")]
        self.assertEqual(cleaned(*spoofed), [])
        allowed = REQUEST_DROP - {b"x-remote-user"}
        self.assertEqual(cleaned(*spoofed, drop=allowed), [(b"X-REMOTE-USER", b"root"), (b"x_remote.user", b"root")])

    def test_sets_are_folded(self) -> None:
        """Names are compared as :func:`fold` writes them, and no set repeats another."""
        self.assertEqual({fold(name) for name in REQUEST_DROP}, REQUEST_DROP)
        self.assertFalse(IDENTITY & FORWARDING)

    @pytest.mark.feature("HTTP-3")
    def test_the_way_cannot_be_nominated_away(self) -> None:
        """H02: what tells where a request has been, and what it waits for, stays whatever Connection names."""
        fields = [(b"Via", b"1.1 a"), (b"CDN-Loop", b"cdn"), (b"Expect", b"100-continue")]
        for options in (b"via, cdn-loop, expect", b"cdn_loop", b"CDN.Loop"):
            self.assertEqual(cleaned((b"Connection", options), *fields), fields)

    def test_nominating_what_goes_anyway(self) -> None:
        """H02: naming framing, forwarding or identity fields brings none of them back."""
        for name in (b"Content-Length", b"Transfer-Encoding", b"X-Forwarded-For", b"X-Remote-User"):
            self.assertEqual(cleaned((b"Connection", name), (name, b"x"), (b"Connection", name)), [])

    def test_trailers_stay_announced(self) -> None:
        """TE goes but for ``trailers``."""
        self.assertEqual(cleaned((b"TE", b"gzip, Trailers;q=0.5"), (b"Connection", b"TE")), [(b"TE", b"trailers")])
        self.assertEqual(cleaned((b"TE", b"gzip")), [])

    @pytest.mark.feature("HTTP-4")
    def test_proper_upgrade_stays(self) -> None:
        """A proper offer goes on as written, without versions of HTTP; another does not go on."""
        connection = (b"Connection", b"Upgrade")
        self.assertEqual(cleaned(connection, (b"upgrade", b"WebSocket")), [(b"Upgrade", b"WebSocket")])
        self.assertEqual(
            cleaned(connection, (b"Upgrade", b"h2c, Foo/2"), (b"Upgrade", b"IRC")), [(b"Upgrade", b"Foo/2, IRC")]
        )
        self.assertEqual(cleaned(connection, (b"Upgrade", b"h2c")), [])
        self.assertEqual(cleaned((b"Upgrade", b"websocket")), [])


class PassesTests(SynchronousTestCase):
    """Where a message has been."""

    @pytest.mark.feature("HTTP-3")
    def test_relays_are_counted(self) -> None:
        """Lines and members of Via by which a relay names itself."""
        via = [
            b"1.1 appproxy, 1.0 fred (comment)",
            b"HTTP/1.1 AppProxy (x)",
            b"1.1 appproxy:8080",
            b"appproxy",
            b",",
            b"",
        ]
        self.assertEqual(passes(via), 2)


class ResponseTests(SynchronousTestCase):
    """Towards the client."""

    def test_hop_by_hop_fields_go(self) -> None:
        """As in requests; nothing nominated, the fields pass as they are."""
        fields = [(b"Server", b"x"), (b"Set-Cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"Trailer", b"Digest")]
        hop = [
            (b"Content-Length", b"5"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Proxy-Authenticate", b"x"),
            (b"Upgrade", b"h2"),
        ]
        self.assertEqual(clean_response([*hop, *fields]), fields)
        self.assertEqual(clean_response([(b"Connection", b"close, x-a"), (b"X-A", b"1"), *fields]), fields)

    def test_upgrade_stays_in_a_101(self) -> None:
        """The client must hear what it switches to."""
        fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        self.assertEqual(clean_response(fields, upgrade=True), [(b"Upgrade", b"websocket")])


class AliasTests(SynchronousTestCase):
    """Spoofed copies."""

    @pytest.mark.feature("SSO-6")
    def test_every_spelling_goes(self) -> None:
        """H01: case, ``-``, ``_`` and ``.`` make no difference."""
        spoofed = [(name, b"evil") for name in (b"X-Remote-User", b"x_remote_user", b"X.Remote-USER", b"X_Remote.User")]
        self.assertEqual(
            drop_aliases([*spoofed, (b"X-Remote", b"ok")], frozenset({b"x-remote-user"})), [(b"X-Remote", b"ok")]
        )
        self.assertEqual(fold(b"X_Remote.User"), b"x-remote-user")
