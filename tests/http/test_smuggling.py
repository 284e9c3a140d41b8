"""Every case of :mod:`tests.http.smuggling` is refused, however its octets arrive."""

from __future__ import annotations

import pytest

from appproxy.http.requesting import BadResponse, ClientConversation
from appproxy.http.serving import BadRequest, ServerConversation
from tests.http.smuggling import ANSWERS, REQUESTS, Answer, Request

#: At once; by octets (short cases); cut somewhere in the middle.
STEPS = (1 << 30, 1, 7, 1021)


def feed(conversation: ServerConversation | ClientConversation, octets: bytes, step: int) -> None:
    """Let *octets* arrive *step* at a time."""
    for start in range(0, len(octets), step):
        conversation.receive(octets[start : start + step])


@pytest.mark.feature("HTTP-6")
@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_request_is_refused(case: Request) -> None:
    """The client is refused with the status of the case, and nothing more is heard from it."""
    for step in STEPS:
        conversation = ServerConversation()
        with pytest.raises(BadRequest) as refused:
            feed(conversation, case.octets, step)
        assert refused.value.status == case.status, step
        assert conversation.receive(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n") == []
        assert b"Connection: close" in conversation.whole(refused.value.status, b"No", [])
        assert not conversation.keep_alive


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case.name)
def test_answer_is_refused(case: Answer) -> None:
    """The origin's answer is refused, and its connection not used again."""
    for step in STEPS:
        conversation = ClientConversation()
        conversation.begin(b"GET", b"/", [(b"Host", b"a.test")])
        with pytest.raises(BadResponse):
            feed(conversation, case.octets, step)
        assert not conversation.reusable
        assert conversation.closed() == []
