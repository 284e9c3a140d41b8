"""Heads as values."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http import messages
from appproxy.http.messages import (
    FieldLines,
    MalformedMessage,
    RequestHead,
    ResponseHead,
    UnsafeHead,
    body_length,
    index,
    is_token,
    is_value,
    parse_fields,
    serialise_request,
    serialise_response,
    serialise_trailers,
    tokens,
    upgrade_protocols,
)

NAMES = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,12}", fullmatch=True)
VALUES = st.binary(max_size=30).filter(is_value)


class ReadingTests(SynchronousTestCase):
    """Field lines and single values."""

    def parse(self, lines: bytes) -> list[tuple[bytes, bytes]]:
        """Read *lines*, each with its CRLF."""
        return parse_fields(b"\r\n" + lines + b"\r\n", 0)

    @pytest.mark.feature("HTTP-2")
    def test_fields_keep_order_case_and_duplicates(self) -> None:
        """What was sent is what is there."""
        self.assertEqual(self.parse(b"b: 1\r\nA: 2\r\nB: 3\r\n"), [(b"b", b"1"), (b"A", b"2"), (b"B", b"3")])

    def test_white_space_around_values_goes(self) -> None:
        """Spaces and tabs around a value are not of it; those inside are; a value may be empty."""
        self.assertEqual(
            self.parse(b"a: \t x\ty \t\r\nb:\r\nc:   \r\nd:z\r\n"),
            [(b"a", b"x\ty"), (b"b", b""), (b"c", b""), (b"d", b"z")],
        )

    def test_octets_beyond_ascii_pass(self) -> None:
        """Values in any encoding of the past are left as they are."""
        self.assertEqual(self.parse(b"a: \xe4\xff\x80\r\n"), [(b"a", b"\xe4\xff\x80")])

    def test_much_white_space_costs_no_time(self) -> None:
        """A line made to let a naive pattern backtrack is refused like any other."""
        for line in (
            b"X:" + b" " * 60_000 + b"\r\r\n",
            b"X:a" + b" " * 60_000 + b"\r\r\n",
            b"X:" + b"a " * 30_000 + b"\r\r\n",
        ):
            with self.assertRaises(MalformedMessage):
                self.parse(line)

    @given(st.lists(st.tuples(NAMES.filter(lambda name: name.lower() not in (b"connection",)), VALUES), max_size=8))
    def test_what_is_written_reads_the_same(self, fields: list[tuple[bytes, bytes]]) -> None:
        """parse(serialise(x)) is x."""
        try:
            octets = serialise_response(200, b"OK", fields)
        except UnsafeHead:
            self.assertTrue({name.lower() for name, _ in fields} & {b"content-length", b"transfer-encoding"})
            return
        self.assertEqual(parse_fields(octets, octets.index(b"\r\n")), fields)

    def test_index_collects_values(self) -> None:
        """Values are found by lower-cased name, in order."""
        self.assertEqual(index([(b"A", b"1"), (b"b", b"2"), (b"a", b"3")]), {b"a": [b"1", b"3"], b"b": [b"2"]})

    def test_lists_span_lines(self) -> None:
        """A list is read over all its lines, without empty members, in lower case."""
        self.assertEqual(tokens([b"Close, , X-A", b"\tUpgrade "]), [b"close", b"x-a", b"upgrade"])

    def test_tokens_and_values(self) -> None:
        """Names are tokens; values have no controls and no white space around."""
        self.assertTrue(is_token(b"X-1!"))
        self.assertFalse(is_token(b""))
        self.assertFalse(is_token(b"a b"))
        self.assertTrue(is_value(b"a \xff"))
        self.assertFalse(is_value(b"a\n"))
        self.assertFalse(is_value(b" a"))

    def test_lengths(self) -> None:
        """A length is one number of at most 18 digits."""
        self.assertEqual(body_length([b"005"]), 5)
        self.assertEqual(body_length([b"9" * 18]), 10**18 - 1)
        for values in ([b"1", b"1"], [b""], [b"-1"], [b"\xb2"], [b"1" * 19]):
            with self.assertRaises(MalformedMessage):
                body_length(values)


class UpgradeTests(SynchronousTestCase):
    """Which offers of another protocol count."""

    def offer(self, *fields: tuple[bytes, bytes], version: tuple[int, int] = (1, 1)) -> list[bytes]:
        """What a request with *fields* offers."""
        return upgrade_protocols(RequestHead.of(b"GET", b"/", [(b"Host", b"a"), *fields], version))

    @pytest.mark.feature("HTTP-4")
    def test_offer_needs_both_fields(self) -> None:
        """``Upgrade`` counts only if ``Connection`` names it, as a member of a list."""
        self.assertEqual(
            self.offer((b"Connection", b"keep-alive, UPGRADE"), (b"Upgrade", b"WebSocket")), [b"websocket"]
        )
        self.assertEqual(self.offer((b"Upgrade", b"websocket")), [])
        self.assertEqual(self.offer((b"Connection", b"xupgrade"), (b"Upgrade", b"websocket")), [])
        self.assertEqual(self.offer((b"Connection", b"upgrade")), [])

    def test_old_clients_offer_nothing(self) -> None:
        """HTTP/1.0 has no upgrades."""
        self.assertEqual(self.offer((b"Connection", b"upgrade"), (b"Upgrade", b"x"), version=(1, 0)), [])

    def test_versions_of_http_are_no_offer(self) -> None:
        """An HTTP/2 connection through the gateway would be unguarded."""
        self.assertEqual(
            self.offer((b"Connection", b"upgrade"), (b"Upgrade", b"h2c, HTTP/2.0, TLS/1.0, irc")), [b"irc"]
        )

    def test_host_of_trusted_parts(self) -> None:
        """A head made from parts knows its Host, if there is one."""
        self.assertEqual(RequestHead.of(b"GET", b"/", [(b"hOst", b"a")]).host, b"a")
        self.assertEqual(RequestHead.of(b"GET", b"/", []).host, b"")

    def test_answers_take_offers(self) -> None:
        """A 101 is read by the same rule."""
        fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        self.assertEqual(upgrade_protocols(ResponseHead(101, b"", (1, 1), fields, index(fields))), [b"websocket"])


class WritingTests(SynchronousTestCase):
    """What is written is one well-formed head or nothing."""

    def test_request(self) -> None:
        """A request head, octet by octet."""
        self.assertEqual(
            serialise_request(
                b"RDG_IN_DATA", b"/a%2Fb?", FieldLines([(b"Host", b"a")]), [(b"b", b"c")], b"Content-Length: 3\r\n"
            ),
            b"RDG_IN_DATA /a%2Fb? HTTP/1.1\r\nHost: a\r\nb: c\r\nContent-Length: 3\r\n\r\n",
        )

    def test_response_without_fields(self) -> None:
        """An empty reason and no field at all."""
        self.assertEqual(serialise_response(204, b"", []), b"HTTP/1.1 204 \r\n\r\n")

    def test_trailers(self) -> None:
        """A trailer section ends with an empty line, and may be nothing else."""
        self.assertEqual(serialise_trailers([]), b"\r\n")
        self.assertEqual(serialise_trailers([(b"a", b"b"), (b"c", b"d")]), b"a: b\r\nc: d\r\n\r\n")

    def test_injection_is_impossible(self) -> None:
        """H03, S20: nothing that ends a line, or a name, gets into a head."""
        for field in (
            (b"a", b"b\r\nc: d"), (b"a", b"b\n"), (b"a", b"b\r"), (b"a", b"\0"), (b"a\r\nb", b"c"), (b"a: b", b"c"),
            (b"", b"c"), (b"Content-Length", b"5"), (b"transfer-encoding", b"chunked"), (b"Connection", b"close"),
        ):  # fmt: skip
            with self.assertRaises(UnsafeHead):
                serialise_response(200, b"OK", [(b"x", b"y"), field])
            with self.assertRaises(UnsafeHead):
                serialise_trailers([field])
            with self.assertRaises(UnsafeHead):
                FieldLines([(b"Host", b"a"), field])
            with self.assertRaises(UnsafeHead):
                serialise_request(b"GET", b"/", FieldLines([(b"Host", b"a")]), [field], b"")

    def test_many_names_are_not_all_remembered(self) -> None:
        """H03: what is remembered of good names is bounded, and bad ones are refused as often as they come."""
        with mock.patch.object(messages, "_good_names", {}) as good:
            for number in range(3000):
                serialise_trailers([(b"x-%d" % number, b"y")])
                with self.assertRaises(UnsafeHead):
                    serialise_trailers([(b"x %d" % (number % 2), b"y")])
            serialise_trailers([(b"x" * 5000, b"y")])
            self.assertLess(sum(len(name) for names in good for name in names), 1024 * 1024)
            self.assertLessEqual(len(good), 1024)

    def test_first_lines_are_checked(self) -> None:
        """Status, reason, method and target are no way in either."""
        for status, reason in ((99, b"OK"), (600, b"OK"), (200, b"O\r\nK")):
            with self.assertRaises(UnsafeHead):
                serialise_response(status, reason, [])
        for method, target in (
            (b"G T", b"/"),
            (b"", b"/"),
            (b"GET", b""),
            (b"GET", b"/ x"),
            (b"GET", b"/#"),
            (b"GET", b"/\xff"),
        ):
            with self.assertRaises(UnsafeHead):
                serialise_request(method, target, FieldLines([]), (), b"")
