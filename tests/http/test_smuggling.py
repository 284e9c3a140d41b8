"""Every case of :mod:`tests.http.smuggling` and :mod:`tests.http.splitting`, at one conversation."""

from __future__ import annotations

import pytest

from appproxy.http.refusal import BadRequest
from appproxy.http.requesting import BadResponse, ClientConversation
from appproxy.http.serving import BodyReceived, RequestBegun, RequestEnded, ServerConversation
from tests.http.smuggling import FAMILIES, PASSED, REQUESTS, Passed, Request
from tests.http.splitting import ANSWER_FAMILIES, ANSWERS, SERVED, Answer, Served

#: At once; by octets (short cases); cut somewhere in the middle.
STEPS = (1 << 30, 1, 7, 1021)
AFTER = b"GET /after HTTP/1.1\r\nHost: a.test\r\n\r\n"


def feed(conversation: ServerConversation | ClientConversation, octets: bytes, step: int) -> list[object]:
    """Let *octets* arrive *step* at a time."""
    events: list[object] = []
    for start in range(0, len(octets), step):
        events += conversation.receive(octets[start : start + step])
    return events


def names_are_unique(rows: list[str]) -> None:
    """A case that has the name of another is lost in reports."""
    assert len(rows) == len(set(rows)), sorted({row for row in rows if rows.count(row) > 1})


def test_names() -> None:
    """Each case can be told from the others."""
    names_are_unique([case.name for case in (*REQUESTS, *FAMILIES)])
    names_are_unique([case.name for case in PASSED])
    names_are_unique([case.name for case in (*ANSWERS, *ANSWER_FAMILIES)])
    names_are_unique([case.name for case in SERVED])


@pytest.mark.feature("HTTP-6")
@pytest.mark.parametrize("case", [*REQUESTS, *FAMILIES], ids=lambda case: case.name)
def test_request_is_refused(case: Request) -> None:
    """N13: the client is refused with the status of the case, and nothing more is heard from it."""
    for step in STEPS:
        conversation = ServerConversation()
        with pytest.raises(BadRequest) as refused:
            feed(conversation, case.octets, step)
        assert refused.value.status == case.status, step
        assert conversation.receive(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n") == []
        assert b"Connection: close" in conversation.whole(refused.value.status, b"No", [])
        assert not conversation.keep_alive


@pytest.mark.parametrize("case", PASSED, ids=lambda case: case.name)
def test_request_is_one(case: Passed) -> None:
    """What is right is one request, and the next one is the next one."""
    for step in STEPS:
        conversation = ServerConversation()
        events = feed(conversation, case.octets, step)
        first = events[0]
        assert isinstance(first, RequestBegun)
        assert (first.head.method, first.head.target) == (case.method, case.target)
        assert b"".join(event.data for event in events if isinstance(event, BodyReceived)) == case.body
        assert first.ended or isinstance(events[-1], RequestEnded)
        assert sum(isinstance(event, RequestBegun) for event in events) == 1
        conversation.whole(200, b"OK", [])
        if first.head.version == (1, 1):
            second = feed(conversation, AFTER, step)
            second += conversation.next_request()
            assert [event.head.target for event in second if isinstance(event, RequestBegun)] == [b"/after"]


@pytest.mark.parametrize("case", [*ANSWERS, *ANSWER_FAMILIES], ids=lambda case: case.name)
def test_answer_is_refused(case: Answer) -> None:
    """The origin's answer is refused, and its connection not used again."""
    for step in STEPS:
        conversation = ClientConversation()
        conversation.begin(b"GET", b"/", [(b"Host", b"a.test")])
        with pytest.raises(BadResponse):
            feed(conversation, case.octets, step)
        assert not conversation.reusable
        assert conversation.closed() == []


@pytest.mark.parametrize("case", SERVED, ids=lambda case: case.name)
def test_answer_is_one(case: Served) -> None:
    """What is right is one answer; a connection with more on it, now or later, is not used again."""
    conversation = ClientConversation()
    conversation.begin(case.method, b"/", [(b"Host", b"a.test")])
    conversation.receive(case.octets)
    assert conversation.reusable is case.kept
    for step in STEPS[1:]:
        conversation = ClientConversation()
        conversation.begin(case.method, b"/", [(b"Host", b"a.test")])
        if case.kept:
            feed(conversation, case.octets, step)
            assert conversation.reusable
            continue
        try:
            feed(conversation, case.octets, step)
        except BadResponse:
            assert not conversation.reusable
        else:
            conversation.closed()
            assert not conversation.reusable
