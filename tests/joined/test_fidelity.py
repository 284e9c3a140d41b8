"""As if direct: the same conversations with and without relay and connector in between come to the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec
import pytest
from hypothesis import given, settings

from appproxy.http.bodies import FOLD, keep_allowed_trailers
from tests.joined.corpus import FAMILIES
from tests.joined.exchanges import HOST, Await, Close, Conversation, Say, answer, length, request, simple
from tests.joined.mixtures import mixtures
from tests.joined.reading import Field, Message
from tests.joined.worlds import APPLICATION, Proxied, Seen, direct

#: Of one connection only (RFC 9110, 7.6.1), or framing, which the product writes anew.
HOP_BY_HOP = frozenset(
    b"connection content-length keep-alive proxy-authenticate proxy-authentication-info proxy-authorization "
    b"proxy-connection te transfer-encoding upgrade".split()
)
#: What the relay says to origins of its own accord, and to clients.
ADDED_UP = frozenset(
    b"x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port forwarded x-request-id".split()
)
RELAYS_OWN = frozenset({b"strict-transport-security", b"alt-svc", b"via"})
#: By whether the client speaks HTTP/1.0.
VIA = {True: (b"Via", b"1.0 appproxy"), False: (b"Via", b"1.1 appproxy")}


def end_to_end(message: Message, without: frozenset[bytes] = frozenset()) -> list[Field]:
    """The fields that a hop must keep, in order and case; *without* those it adds."""
    nominated = {option.strip().lower() for value in message.values(b"connection") for option in value.split(b",")} - {
        b""
    }
    drop = HOP_BY_HOP | {option.translate(FOLD) for option in nominated} | without
    return [field for field in message.fields if field[0].translate(FOLD) not in drop]


def request_of(message: Message, proxied: bool, old: bool) -> tuple[object, ...]:
    """What of a request must be the same."""
    fields = end_to_end(message, ADDED_UP)
    if proxied:
        fields.remove(VIA[old])
    else:
        fields = [(name, HOST if name == b"Host" else value) for name, value in fields]
    trailers = keep_allowed_trailers(message.trailers)
    return message.start[:2], fields, message.values(b"content-length"), trailers, message.complete


def answer_of(message: Message, method: bytes, old: bool) -> tuple[object, ...]:
    """What of an answer must be the same."""
    start = message.status, message.start[2].strip(b" \t")
    lengths = message.values(b"content-length")[:1] if method == b"HEAD" or message.status == 304 else []
    interim = [] if old else [(each.status, each.start[2], end_to_end(each)) for each in message.interim]
    trailers = [] if old else keep_allowed_trailers(message.trailers)
    return start, end_to_end(message, RELAYS_OWN), lengths, trailers, message.complete, interim


def compare(talk: Conversation, there: Seen, through: Seen) -> None:
    """Fail where, *through* relay and connector, something is not as it is *there*, at the origin itself."""
    assert len(through.answered) == len(there.answered) == len(talk.methods)
    for method, expected, got in zip(talk.methods, there.answered, through.answered, strict=True):
        if not expected.complete:
            # Too early for the client to have heard anything, a refusal says the same more clearly.
            assert got.status == 502 or not got.complete
            assert through.cut or got.complete
            assert got.status == 502 or expected.body.startswith(got.body)
            continue
        assert answer_of(got, method, talk.old) == answer_of(expected, method, talk.old)
        assert got.body == expected.body, (len(got.body), len(expected.body))
        assert got.values(b"via") == [b"1.1 appproxy"]
    assert len(through.asked) == len(there.asked)
    for expected, got in zip(there.asked, through.asked, strict=True):
        if talk.early:
            assert request_of(got, True, talk.old)[:3] == request_of(expected, False, talk.old)[:3]
            assert expected.body.startswith(got.body) or got.body.startswith(expected.body)
        else:
            assert request_of(got, True, talk.old) == request_of(expected, False, talk.old)
            assert got.body == expected.body, (len(got.body), len(expected.body))


def differences(talks: Iterable[Conversation]) -> Iterator[str]:
    """Play each conversation twice, and tell which came to something else."""
    for talk in talks:
        try:
            compare(talk, direct(talk), Proxied().play(talk))
        except Exception as difference:
            yield f"{talk!r}: {type(difference).__name__}: {difference}"


@pytest.mark.feature("HTTP-2", "HTTP-3")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_as_if_direct(family: Callable[[], Iterator[Conversation]]) -> None:
    """C38, N19: each conversation of the corpus comes to the same with relay and connector in between."""
    found = list(differences(family()))
    assert not found, f"{len(found)}: " + "\n".join(found[:5])


@pytest.mark.feature("HTTP-2", "HTTP-3")
@given(mixtures())
@settings(max_examples=250, derandomize=True, deadline=None, database=None)
def test_any_mixture(talk: Conversation) -> None:
    """C36, C40: nor does any mixture of all that change, on a connection that goes on."""
    compare(talk, direct(talk), Proxied().play(talk))


@pytest.mark.feature("HTTP-2")
@pytest.mark.parametrize("stage", ["head", "answer", "request"])
def test_client_leaves(stage: str) -> None:
    """C35: a client that leaves takes its request with it, at once: the origin's connection is closed."""
    fields = [length(1000)]
    client, origin = {
        "head": ([Say(request())], []),
        "answer": ([Say(request()), Await("body", 10)], [Say(answer(fields=fields, body=b"x" * 10))]),
        "request": ([Say(request(b"PUT", b"/", fields, b"x" * 10))], []),
    }[stage]
    world = Proxied()
    seen = world.play(Conversation(stage, [*client, Close()], [b"GET"], [origin]))
    assert len(seen.asked) == 1
    assert [socket.aborted for socket in world.sockets] == [True]
    assert world.serving.journeys == set()


@pytest.mark.feature("HTTP-3")
def test_ports() -> None:
    """Both addresses may have ports of their own: the origin reads its own in Host, the client's beside it."""
    application = msgspec.structs.replace(
        APPLICATION, external_url="https://app.example.com:8443/", internal_url="http://10.0.0.7:8080/"
    )
    asked = request(host=b"app.example.com:8443")
    [got] = Proxied(application).play(simple("ports", asked, answer(fields=[length(0)]))).asked
    assert got.values(b"host") == [b"10.0.0.7:8080"]
    assert got.values(b"x-forwarded-host") == [b"app.example.com:8443"]
    assert got.values(b"x-forwarded-port") == [b"8443"]


def test_size_of_the_corpus() -> None:
    """There are 2,000 exchanges and more to compare, each with a name of its own."""
    talks = [talk for family in FAMILIES for talk in family()]
    assert sum(len(talk.methods) for talk in talks) >= 2000
    assert len({talk.name for talk in talks}) == len(talks)
