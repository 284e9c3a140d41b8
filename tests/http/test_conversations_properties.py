"""What holds for any octets and any slicing of them."""

from __future__ import annotations

from itertools import pairwise

import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.messages import RequestHead
from appproxy.http.refusal import BadRequest
from appproxy.http.requesting import BadResponse, ClientConversation, Event, ResponseBegun, ResponseEnded
from appproxy.http.requesting import BodyReceived as AnswerBody
from appproxy.http.serving import BodyReceived, RequestBegun, ServerConversation
from tests.http.smuggling import REQUESTS
from tests.http.splitting import ANSWERS

REQUEST = (
    b"\r\nPOST /a%2Fb?c HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nX:  y \r\n\r\n"
    b"5;x\r\nhello\r\nA\r\n0123456789\r\n0\r\nDigest: x\r\n\r\n"
    b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcGET /last HTTP/1.1\r\nHost: a.test\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX:  y \r\n\r\n"
    b"5;x\r\nhello\r\nA\r\n0123456789\r\n0\r\nDigest: x\r\n\r\n"
)
ANSWER_OF_KNOWN_LENGTH = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nhello0123456789"
cuts = st.lists(st.integers(0, 400), max_size=40).map(sorted)
octets = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([case.octets for case in REQUESTS if len(case.octets) < 500]),
    st.lists(
        st.sampled_from(
            [b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"\r", b"\n", b"Host: a", b"Content-Length: 1", b":",
            b"\t", b"0", b"5",
             b"Transfer-Encoding: chunked", b";", b"x", b"HTTP/1.1 200 OK", b"Connection: close", b"\0", b"\xff"]
        ),
        max_size=25,
    ).map(b"".join),
)  # fmt: skip


def slices(whole: bytes, at: list[int]) -> list[bytes]:
    """*whole*, cut."""
    return [whole[start:end] for start, end in pairwise([0, *at, max([len(whole), *at])])]


def serve(parts: list[bytes]) -> list[object]:
    """Every event of all requests, each answered when complete; adjacent body parts joined, the refusal last."""
    conversation = ServerConversation()
    events: list[object] = []

    def tell(told: list[object]) -> None:
        for event in told:
            if isinstance(event, BodyReceived) and events and isinstance(events[-1], BodyReceived):
                events[-1] = BodyReceived(events[-1].data + event.data)
            else:
                events.append(event)
            if type(event).__name__ == "RequestEnded" or (isinstance(event, RequestBegun) and event.ended):
                conversation.whole(200, b"OK", [])
                tell([*conversation.next_request()])

    try:
        for part in parts:
            tell([*conversation.receive(part)])
    except BadRequest as refused:
        events.append(refused.status)
    return events


def request(parts: list[bytes]) -> list[object]:
    """The same for an origin's answer; one that was told whole as if it had come in parts."""
    conversation = ClientConversation()
    conversation.begin(b"GET", b"/", [(b"Host", b"a.test")])
    events: list[object] = []
    for part in parts:
        for event in conversation.receive(part) if part else []:
            for each in apart(event):
                last = events[-1] if events else None
                if isinstance(each, AnswerBody) and isinstance(last, AnswerBody):
                    events[-1] = AnswerBody(last.data + each.data)
                else:
                    events.append(each)
    return events


def apart(event: Event) -> list[Event]:
    """Head, body and end of an answer, each for itself."""
    if isinstance(event, ResponseBegun) and event.body:
        return [
            ResponseBegun(event.head, False, event.length), AnswerBody(event.body), ResponseEnded(event.trailers)
        ]  # fmt: skip
    return [event]


class SlicingTests(SynchronousTestCase):
    """The network's cuts mean nothing."""

    @given(cuts)
    @example(list(range(400)))
    def test_requests(self, at: list[int]) -> None:
        """Pipelined requests are told the same."""
        events = serve([REQUEST])
        self.assertEqual(len([event for event in events if isinstance(event, RequestBegun)]), 3)
        self.assertEqual(serve(slices(REQUEST, at)), events)

    @given(cuts)
    @example(list(range(400)))
    def test_answers(self, at: list[int]) -> None:
        """An answer is told the same, in whatever way it is framed."""
        for answer in (ANSWER, ANSWER_OF_KNOWN_LENGTH):
            events = request([answer])
            self.assertEqual(len(events), 4)
            self.assertEqual(request(slices(answer, at)), events)

    @given(octets, cuts)
    @settings(max_examples=200)
    def test_refusals(self, data: bytes, at: list[int]) -> None:
        """What is refused at once is refused in slices, with the same status, and after no other events than these."""
        at_once, sliced = serve([data]), serve(slices(data, at))
        if at_once and isinstance(at_once[-1], int):
            self.assertEqual(sliced[-1:], at_once[-1:])
        else:
            self.assertEqual([event for event in sliced if not isinstance(event, int)], at_once)


class AnyOctetsTests(SynchronousTestCase):
    """Hostile octets raise one known exception."""

    @given(octets, cuts)
    def test_serving(self, data: bytes, at: list[int]) -> None:
        """Nothing but BadRequest."""
        serve(slices(data, at))

    @given(st.one_of(octets, st.sampled_from([case.octets for case in ANSWERS if len(case.octets) < 500])), cuts)
    def test_requesting(self, data: bytes, at: list[int]) -> None:
        """Nothing but BadResponse."""
        try:
            request(slices(data, at))
        except BadResponse:
            return


class Heard:
    """What llhttp makes of a request."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        """Some of the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        self.fields.append((name, value.rstrip(b" \t")))


class DifferentialTests(SynchronousTestCase):
    """A second reader, widely deployed, agrees with what we accept."""

    @given(
        st.sampled_from([b"GET", b"PROPFIND", b"DELETE"]),
        st.from_regex(rb"/[!\"$->@-~]{0,10}", fullmatch=True),
        st.lists(
            st.tuples(
                st.from_regex(rb"[A-Za-z!~_-]{1,6}", fullmatch=True),
                st.from_regex(rb"[ \t]{0,2}[\x20-\x7e\xa0-\xff]{0,9}[ \t]{0,2}", fullmatch=True),
            ),
            max_size=5,
        ),
    )
    def test_llhttp_reads_the_same(self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """Method, target and fields of a head that we accept are the same for llhttp."""
        lines = b"".join(b"%b:%b\r\n" % (b"X" + name, value) for name, value in fields)
        data = b"%b %b HTTP/1.1\r\nHost: a.test\r\n%b\r\n" % (method, target, lines)
        (begun,) = ServerConversation().receive(data)
        assert isinstance(begun, RequestBegun)
        head: RequestHead = begun.head
        heard = Heard()
        parser = httptools.HttpRequestParser(heard)
        parser.feed_data(data)
        self.assertEqual((parser.get_method(), heard.target, heard.fields), (head.method, head.target, head.fields))
