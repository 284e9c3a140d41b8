"""Heads: bytes, order and case are kept; what is no head is refused for no more than its bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire import heads
from appproxy.wire.heads import HeadTooLarge, MalformedHead, RequestHead, ResponseHead, Standing

FIELDS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=20)
CLAIMS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def pack(*values: Any) -> bytes:
    """An array as a hostile peer would write it."""
    return msgspec.msgpack.encode(list(values))


@pytest.mark.feature("CON-4")
class HeadTests(SynchronousTestCase):
    """Encoding and decoding."""

    @given(FIELDS, st.dictionaries(st.text(max_size=5), CLAIMS, max_size=5) | st.none())
    def test_request_round_trip(self, fields: list[tuple[bytes, bytes]], identity: dict[str, Any] | None) -> None:
        """A request arrives as it was, octet for octet."""
        standing = Standing(fields, "app", "::1", identity, "00-1", "http", "h:1")
        for length, affinity in ((None, ""), (0, "k"), (10**18, "")):
            head = RequestHead.of(b"PUT", b"/a%2f?|", standing, "id", length, affinity)
            self.assertEqual(heads.decode_request(heads.encode_request(head)), head)

    def test_what_stands_is_read_once(self) -> None:
        """Requests with the same standing octets share what was read, and any note on it; others do not."""
        first, second = (
            heads.decode_request(heads.encode_request(RequestHead.of(b"GET", target, Standing([(b"a", b"b")], "app"))))
            for target in (b"/1", b"/2")
        )
        other = heads.decode_request(
            heads.encode_request(RequestHead.of(b"GET", b"/1", Standing([(b"a", b"c")], "app")))
        )
        self.assertIs(first.packed, second.packed)
        self.assertIsNot(first.packed, other.packed)
        self.assertEqual((first.target, second.target), (b"/1", b"/2"))

    def test_what_is_remembered_is_bounded(self) -> None:
        """C19: a peer that never repeats itself, or at great length, fills no memory."""
        for number in range(heads.MAX_KNOWN + 10):
            heads.decode_request(heads.encode_request(RequestHead.of(b"GET", b"/", Standing([], f"app-{number}"))))
        long = Standing([(b"a", b"x" * heads.MAX_KNOWN_BYTES)], "app")
        heads.decode_request(heads.encode_request(RequestHead.of(b"GET", b"/", long)))
        self.assertLessEqual(len(heads._known), heads.MAX_KNOWN)
        self.assertLessEqual(max(map(len, heads._known)), heads.MAX_KNOWN_BYTES)

    @given(st.integers(100, 999), st.binary(max_size=30), FIELDS)
    def test_response_round_trip(self, status: int, reason: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """An answer arrives as it was, and so do the connector's own words."""
        head = ResponseHead(status, reason, fields, heads.CONNECTOR, 19, "refused", "connect")
        self.assertEqual(heads.decode_response(heads.encode_response(head)), head)

    @given(FIELDS)
    def test_trailers_round_trip(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Trailers arrive in order."""
        self.assertEqual(heads.decode_trailers(heads.encode_trailers(fields)), fields)

    def test_later_versions_may_append(self) -> None:
        """Values after the last one that we know are ignored, missing ones have defaults."""
        self.assertEqual(heads.decode_response(pack(204, b"", [], 0, 0, "", "", "new")).status, 204)
        self.assertEqual(heads.decode_response(pack(204)).fields, [])

    def test_a_head_that_no_channel_carries(self) -> None:
        """Too many bytes or fields are our side's problem, before anything is sent."""
        for fields in ([(b"a", b"x" * heads.MAX_HEAD)], [(b"a", b"")] * (heads.MAX_FIELDS + 1)):
            with self.assertRaises(HeadTooLarge):
                heads.encode_response(ResponseHead(200, b"", fields))
            with self.assertRaises(HeadTooLarge):
                RequestHead.of(b"GET", b"/", Standing(fields, "app"))
            with self.assertRaises(HeadTooLarge):
                heads.encode_trailers(fields)

    def test_hostile_responses(self) -> None:
        """C19, C21: status out of range, fields that are none or too many, text for bytes, bytes for text."""
        for payload in (
            pack(99),
            pack(1000),
            pack("200"),
            pack(200, "OK"),
            pack(200, b"", [[b"a"]]),
            pack(200, b"", [["a", "b"]]),
            pack(200, b"", [[b"a", b"b"]] * (heads.MAX_FIELDS + 1)),
            pack(200, b"", {}),
            pack(200, b"", [], 2),
            pack(200, b"", [], 0, 65536),
            pack(200, b"", [], 0, 0, "x" * 1025),
            pack(),
            msgspec.msgpack.encode({"status": 200}),
            b"",
            pack(200) + b"\0",
        ):
            with self.assertRaises(MalformedHead):
                heads.decode_response(payload)

    def test_bombs(self) -> None:
        """Counts that are not there and depth cost nothing and are no head."""
        start = pack([], "app", "", None)[:-1]
        for identity in (
            b"\x81\xa1a" + b"\x91" * 200_000 + b"\x90",
            b"\x81\xa1a" + b"\xdd\x7f\xff\xff\xff" * 1000,
            b"\x81\xa1a\xdf\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\x81\xa1a" + b"\x91" * heads.MAX_DEPTH + b"\x90",
            b"\x81\xa1a\xd4\x05a",
            b"\x81\xa1a\x81\x01\x02",
            b"\x81\xa1\xff\xc0",
        ):
            with self.assertRaises(MalformedHead):
                heads.decode_request(pack(b"GET", b"/", "", None, start + identity))
        deep = start + b"\x81\xa1a" + b"\x91" * (heads.MAX_DEPTH - 2) + b"\x90"
        self.assertIsNotNone(heads.decode_request(pack(b"GET", b"/", "", None, deep)).standing.identity)
        for bomb in (b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000):
            with self.assertRaises(MalformedHead):
                heads.decode_trailers(bomb)
            with self.assertRaises(MalformedHead):
                heads.decode_response(bomb)

    @given(st.binary(max_size=200))
    @example(b"\x93\xcc\xc8\xc4\x00\xdd\xff\xff\xff\xff")
    def test_any_bytes(self, payload: bytes) -> None:
        """Whatever comes is a head or raises the one exception."""
        for decode in (heads.decode_request, heads.decode_response, heads.decode_trailers):
            try:
                decode(payload)
            except MalformedHead:
                continue


class PlainTests(SynchronousTestCase):
    """What a map from a peer may hold."""

    def test_plain(self) -> None:
        """Scalars, lists and maps with text keys; nothing else, and not deeper than said."""
        self.assertTrue(heads.is_plain({"a": [1, {"b": None}], "c": b"x"}))
        self.assertTrue(heads.is_plain([[]], depth=2))
        self.assertFalse(heads.is_plain([[1]], depth=1))
        self.assertFalse(heads.is_plain({1: 2}))
        self.assertFalse(heads.is_plain([{"a": object()}]))
        self.assertTrue(heads.is_plain("x", depth=0))
