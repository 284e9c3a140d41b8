"""Heads between HTTP/2 and what the rest of the relay works with; what is refused is in test_hostile_frames."""

from __future__ import annotations

from hpack import NeverIndexedHeaderTuple
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.limits import Limits
from appproxy.http.messages import Field, UnsafeHead
from appproxy.http.pseudo import HeadReader, check_fields, lowered, response_fields
from appproxy.http.refusal import BadRequest
from appproxy.http.serving import RequestBegun
from appproxy.http.websocket import Handshake
from tests.fakes.http2 import asked


def read(*more: Field, ended: bool = True, **head: bytes) -> RequestBegun:
    """What comes of a request."""
    begun, _ = HeadReader(Limits(), lambda count: b"r" * count).request(asked(*more, **head), ended)
    return begun


class RequestTests(SynchronousTestCase):
    """Requests."""

    def test_a_request(self) -> None:
        """It looks as HTTP/1.1 would have it: a Host, the target octet for octet, fields in their order."""
        begun = read((b"accept", b"*/*"), (b"x-a", b"1"), (b"x-a", b""), path=b"/a%2Fb?q=%26")
        head = begun.head
        self.assertEqual((head.method, head.target, head.version), (b"GET", b"/a%2Fb?q=%26", (2, 0)))
        self.assertEqual(
            head.fields, [(b"Host", b"hr.example.com"), (b"accept", b"*/*"), (b"x-a", b"1"), (b"x-a", b"")]
        )
        self.assertEqual((head.host, head.known[b"x-a"]), (b"hr.example.com", [b"1", b""]))
        self.assertEqual((begun.ended, begun.upgrade, begun.expect_continue), (True, False, False))

    def test_any_method(self) -> None:
        """Methods are anybody's."""
        self.assertEqual(read(method=b"RDG_OUT_DATA").head.method, b"RDG_OUT_DATA")
        self.assertEqual(read(method=b"OPTIONS", path=b"*").head.target, b"*")

    def test_cookie_crumbs(self) -> None:
        """Crumbs of a cookie become one again, where the first one was."""
        begun = read((b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2"), (b"cookie", b"c=3"))
        self.assertEqual(
            begun.head.fields[1:], [(b"cookie", b"a=1; b=2; c=3"), (b"accept", b"*/*")]
        )  # fmt: skip

    def test_host_beside_authority(self) -> None:
        """A Host that says the same is no second one; alone it will do."""
        self.assertEqual(read((b"host", b"hr.example.com")).head.known[b"host"], [b"hr.example.com"])
        alone = [field for field in asked((b"host", b"a.test:8443")) if field[0] != b":authority"]
        begun, _ = HeadReader(Limits(), bytes).request(alone, True)
        self.assertEqual(begun.head.host, b"a.test:8443")

    def test_bodies(self) -> None:
        """Length and expectation are told; neither means anything of a request without a body."""
        begun = read((b"content-length", b"7"), (b"expect", b"100-continue"), method=b"POST", ended=False)
        self.assertEqual((begun.length, begun.expect_continue, begun.ended), (7, True, False))
        self.assertFalse(read((b"expect", b"100-continue")).expect_continue)

    def test_repeated_fields_are_read_once(self) -> None:
        """A client that repeats its fields gets the very same list; one that changes anything does not."""
        reader = HeadReader(Limits(), bytes)
        first, _ = reader.request(asked((b"a", b"1"), path=b"/1"), True)
        second, _ = reader.request(asked((b"a", b"1"), path=b"/2", method=b"HEAD"), True)
        self.assertIs(first.head.fields, second.head.fields)
        for other in (asked((b"a", b"2")), asked((b"a", b"1"), host=b"b.test")):
            third, _ = reader.request(other, True)
            self.assertIsNot(first.head.fields, third.head.fields)

    def test_websocket(self) -> None:
        """An extended CONNECT becomes the upgrade that HTTP/1.1 has for it, with a key of our own."""
        fields = asked((b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"theirs"), method=b"CONNECT")
        begun, handshake = HeadReader(Limits(), lambda count: b"r" * count).request(
            [(b":protocol", b"websocket"), *fields], False
        )
        self.assertIsInstance(handshake, Handshake)
        self.assertEqual((begun.head.method, begun.upgrade, begun.ended), (b"GET", True, True))
        known = begun.head.known
        self.assertEqual((known[b"upgrade"], known[b"connection"]), ([b"websocket"], [b"Upgrade"]))
        self.assertEqual(known[b"sec-websocket-key"], [b"cnJycnJycnJycnJycnJycg=="])

    def test_trailers(self) -> None:
        """Trailers pass but for those that must not come late; malformed ones and too many are refused."""
        reader = HeadReader(Limits(), bytes)
        self.assertEqual(reader.trailers([(b"x-sum", b"1"), (b"host", b"b.test")]), [(b"x-sum", b"1")])
        for bad in ([(b":path", b"/")], [(b"X-Sum", b"1")], [(b"x", b"a\nb")], [(b"transfer-encoding", b"chunked")]):
            self.assertRaises(BadRequest, reader.trailers, bad)
        for many in ([(b"x", b"y")] * 201, [(b"x", b"y" * 20_000)]):
            self.assertEqual(self.assertRaises(BadRequest, reader.trailers, many).status, 431)

    def test_te_of_trailers(self) -> None:
        """The one TE that HTTP/2 knows."""
        check_fields([(b"te", b"trailers")])


class ResponseTests(SynchronousTestCase):
    """Answers."""

    def test_an_answer(self) -> None:
        """Status first, names in lower case, the length last."""
        fields = response_fields(200, [(b"Content-Type", b"text/plain"), (b"X-A", b"\xe9")], 5)
        self.assertEqual(
            fields,
            [(b":status", b"200"), (b"content-type", b"text/plain"), (b"x-a", b"\xe9"), (b"content-length", b"5")],
        )

    def test_cookies_are_not_compressed(self) -> None:
        """Cookies stay out of the compression's memory, where lengths would tell of them."""
        [cookie, other] = lowered([(b"Set-Cookie", b"a=1"), (b"X", b"y")])
        self.assertIsInstance(cookie, NeverIndexedHeaderTuple)
        self.assertNotIsInstance(other, NeverIndexedHeaderTuple)

    def test_unsafe_answers(self) -> None:
        """C20, C22: framing, connection fields, line breaks and nonsense never leave."""
        for bad in (
            [(b"X Y", b"z")], [(b"", b"z")], [(b":status", b"200")], [(b"X", b"a\r\nb")], [(b"X", b"\0")],
            [(b"Connection", b"close")], [(b"Transfer-Encoding", b"chunked")], [(b"Content-Length", b"5")],
            [(b"Upgrade", b"h2c")], [(b"Keep-Alive", b"1")],
        ):  # fmt: skip
            self.assertRaises(UnsafeHead, response_fields, 200, bad)
            self.assertRaises(UnsafeHead, lowered, bad)
        self.assertRaises(UnsafeHead, response_fields, 600, [])
