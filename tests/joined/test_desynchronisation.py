"""Client and origin try to make relay, connector and each other disagree about where a message ends, in vain.

The cases are data: :mod:`tests.http.smuggling` for clients, :mod:`tests.http.splitting` for origins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from appproxy.applications import Application
from appproxy.http.bodies import FORBIDDEN_TRAILERS
from appproxy.http.hops import fold
from tests.http.smuggling import FAMILIES, HIDDEN, PASSED, REQUESTS, Passed, Request, get, post
from tests.http.splitting import ANSWER_FAMILIES, ANSWERS, NEXT, SERVED, Answer, Served
from tests.joined.exchanges import Await, Close, Conversation, Say, Step
from tests.joined.reading import Message
from tests.joined.worlds import Proxied, Seen

APPLICATION = Application(
    id="a",
    external_url="https://a.test/",
    internal_url="http://a.test/",
    connector_group="hq",
    preauthentication="passthrough",
)
FRAMING = {b"content-length", b"transfer-encoding"}
AFTER = get(target=b"/after")


def answer(body: bytes) -> bytes:
    """A plain answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class World(Proxied):
    """One client's relay and connector, and an origin.

    :ivar connections: how many to the origin were made.
    """

    def __init__(self) -> None:
        self.connections = 0
        super().__init__(APPLICATION)

    async def dial(self, *where: Any) -> Any:
        """Connect to the origin."""
        self.connections += 1
        return await super().dial(*where)

    def run(
        self,
        client: Sequence[Step],
        *origin: Sequence[Step],
        methods: Sequence[bytes] = (b"GET",) * 3,
        early: bool = False,
    ) -> Seen:
        """One client connection; the origin does *origin* for its requests, one after the other."""
        return self.play(Conversation("", client, methods, origin, early=early))


#: Answers a whole request.
SERVE: tuple[Step, ...] = (Await("end"), Say(answer(b"fine")))


def check_one(message: Message) -> None:
    """One Host, one framing, no trailer that belongs into a head."""
    names = [fold(name) for name, _ in message.fields]
    assert names.count(b"host") == (0 if message.start[0].startswith(b"HTTP/") else 1)
    assert sum(name in FRAMING for name in names) <= 1, names
    assert not {fold(name) for name, _ in message.trailers} & FORBIDDEN_TRAILERS


@pytest.mark.feature("HTTP-2", "HTTP-6", "HTTP-8")
@pytest.mark.parametrize("case", [*REQUESTS, *FAMILIES], ids=lambda case: case.name)
def test_refused_request(case: Request) -> None:
    """One refusal, then the end; no request of it is ever whole at the origin, and none is hidden in it."""
    hidden = b"" if case.name.startswith("endless") else HIDDEN
    seen = World().run([Say(case.octets + hidden)], *[SERVE] * 3)
    assert [each.status for each in seen.answered] == [case.status]
    assert seen.closed
    assert len(seen.asked) <= 1
    for each in seen.asked:
        assert not each.complete
        check_one(each)


@pytest.mark.feature("HTTP-2", "HTTP-3")
@pytest.mark.parametrize("case", PASSED, ids=lambda case: case.name)
def test_passed_request(case: Passed) -> None:
    """H02: the origin is asked exactly that, in a form that all read alike; the next request is the next one."""
    old = b"HTTP/1.0\r\n" in case.octets
    say = [Say(case.octets)] if old else [Say(case.octets + AFTER)]
    seen = World().run(say, SERVE, SERVE, SERVE, methods=[case.method, b"GET", b"GET"])
    assert [(each.start[1], each.complete) for each in seen.asked] == [(case.target, True), (b"/after", True)][
        : 2 - old
    ]
    assert [each.status for each in seen.answered] == [200, 200][: 2 - old]
    asked = seen.asked[0]
    assert (asked.start[0], bytes(asked.body)) == (case.method, case.body)
    check_one(asked)
    names = [fold(name) for name, _ in (*asked.fields, *asked.trailers)]
    assert not set(case.gone) & set(names) - ({b"transfer-encoding"} & {name.lower() for name, _ in asked.fields})
    for field in case.kept:
        assert field in asked.fields


@pytest.mark.feature("HTTP-2", "HTTP-8")
@pytest.mark.parametrize("case", [*ANSWERS, *ANSWER_FAMILIES], ids=lambda case: case.name)
def test_refused_answer(case: Answer) -> None:
    """C38: one 502 or an answer cut off; the next request is answered by its own answer, on another connection."""
    world = World()
    seen = world.run(
        [Say(get(target=b"/x")), Await("end"), Say(AFTER)],
        (Await("head"), Say(case.octets)),
        (Await("end"), Say(answer(b"mine"))),
    )
    if seen.answered[0].status == 502:
        assert seen.answered[0].values(b"x-split") == []
        assert [bytes(each.body) for each in seen.answered[1:]] == [b"mine"]
        assert world.connections == 2
    else:
        assert seen.cut
        assert [each.complete for each in seen.answered] == [False]
    assert not [each for each in seen.answered if each.values(b"set-cookie")]


@pytest.mark.feature("HTTP-2")
@pytest.mark.parametrize("case", SERVED, ids=lambda case: case.name)
def test_served_answer(case: Served) -> None:
    """One answer, and what follows it reaches nobody: not this client and not the next."""
    world = World()
    ending = [Close()] if case.octets.startswith(b"HTTP/1.0") else []
    seen = world.run(
        [Say(get(method=case.method)), Await("end"), Say(AFTER)],
        (Await("head"), Say(case.octets), *ending),
        (Await("end"), Say(answer(b"mine"))),
        methods=[case.method, b"GET"],
    )
    first, second = seen.answered
    assert (first.status, bytes(first.body), first.complete) == (case.status, case.body, True)
    assert (second.status, bytes(second.body)) == (200, b"mine")
    assert world.connections == (1 if case.kept else 2)
    for each in seen.answered:
        check_one(each)
    names = {fold(name) for name, _ in (*first.fields, *first.trailers)}
    assert not set(case.gone) & names - ({b"transfer-encoding"} if first.values(b"transfer-encoding") else set())


@pytest.mark.parametrize("late", [NEXT, b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"x"])
def test_late_answer(late: bytes) -> None:
    """What an origin says on an idle connection answers nobody: the connection is closed."""
    world = World()
    world.run([Say(get())], SERVE)
    [kept] = world.sockets
    kept.say(late)
    seen = world.run([Say(AFTER)], (Await("end"), Say(answer(b"mine"))))
    assert [bytes(each.body) for each in seen.answered] == [b"mine"]
    assert world.connections == 2


HEAD = post(b"Content-Length: %d" % len(HIDDEN))


@pytest.mark.feature("HTTP-2")
def test_early_answer() -> None:
    """0.CL: the rest of a request that was answered early is its body, never a request; nor does the origin get it."""
    world = World()
    seen = world.run(
        [Say(HEAD), Await("end"), Say(HIDDEN + AFTER)], (Await("head"), Say(answer(b"early"))), SERVE, early=True
    )
    assert [bytes(each.body) for each in seen.answered] == [b"early", b"fine"]
    assert [each.start[1] for each in seen.asked] == [b"/", b"/after"]
    assert world.connections == 2
    chunked = post(b"Transfer-Encoding: chunked")
    rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    seen = world.run(
        [Say(chunked), Await("end"), Say(rest + AFTER)], (Await("head"), Say(answer(b"early"))), SERVE, early=True
    )
    assert [bytes(each.body) for each in seen.answered] == [b"early"]
    assert seen.closed


def test_refusals_of_our_own() -> None:
    """Client-side desynchronisation: the body of what the relay answers by itself is not the next request."""
    elsewhere = HEAD.replace(b"a.test", b"b.test")
    seen = World().run([Say(elsewhere + HIDDEN + AFTER)], SERVE, SERVE)
    assert [each.status for each in seen.answered] == [404, 200]
    assert [each.start[1] for each in seen.asked] == [b"/after"]


@pytest.mark.feature("HTTP-3")
@pytest.mark.parametrize("status", [b"417 Expectation Failed", b"413 Too Large", b"200 OK", b"302 Found"])
def test_expectation_that_is_refused(status: bytes) -> None:
    """0.CL by Expect: a final answer in place of 100 ends the connection; the body, sent or not, is no request."""
    world = World()
    expecting = post(b"Expect: 100-continue", b"Content-Length: %d" % len(HIDDEN))
    refusal = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
    seen = world.run(
        [Say(expecting), Await("end"), Say(HIDDEN + AFTER)], (Await("head"), Say(refusal)), SERVE, early=True
    )
    assert [each.status for each in seen.answered] == [int(status[:3])]
    assert seen.closed
    assert [(each.start[1], each.values(b"expect")) for each in seen.asked] == [(b"/", [b"100-continue"])]
    assert not world.sockets  # nothing is kept whose origin may or may not wait for a body


@pytest.mark.feature("HTTP-3")
def test_expectation_that_is_met() -> None:
    """100-continue is the origin's to say; then the body passes, once."""
    expecting = post(b"Expect: 100-continue", b"Content-Length: %d" % len(HIDDEN))
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    seen = World().run(
        [Say(expecting), Await("interim"), Say(HIDDEN + AFTER)],
        (Await("head"), Say(go_on), Await("end"), Say(answer(b"got it"))),
        SERVE,
    )
    assert [bytes(each.body) for each in seen.answered] == [b"got it", b"fine"]
    assert [each.status for each in seen.answered[0].interim] == [100]
    assert [(each.start[1], bytes(each.body)) for each in seen.asked] == [(b"/", HIDDEN), (b"/after", b"")]


@pytest.mark.feature("HTTP-4")
@pytest.mark.parametrize("status", [b"200 OK", b"426 Upgrade Required", b"403 Forbidden"])
def test_upgrade_that_is_refused(status: bytes) -> None:
    """WebSocket smuggling: without a 101 there is no tunnel, and what was sent for one is no request."""
    upgrade = get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 99", target=b"/ws")
    refusal = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
    seen = World().run([Say(upgrade + HIDDEN)], (Await("head"), Say(refusal)), SERVE)
    assert [each.status for each in seen.answered] == [int(status[:3])]
    assert [each.start[1] for each in seen.asked] == [b"/ws"]
    seen = World().run([Say(upgrade), Await("end"), Say(AFTER)], (Await("head"), Say(refusal)), SERVE)
    assert [each.start[1] for each in seen.asked] == [b"/ws", b"/after"]


@pytest.mark.feature("HTTP-5")
def test_pause() -> None:
    """Pause-based desynchronisation: a body that comes after its time is nothing, to the origin as well."""
    world = World()
    world._talk = Conversation("", [], [], [])
    socket = world.bench.client()
    world.bench.sends(socket, HEAD)
    [origin] = world.sockets
    world.bench.clock.advance(61)
    world.bench.settings.sweep()
    world.pair.run(1000)
    assert socket.take().startswith(b"HTTP/1.1 408 ")
    assert socket.disconnecting
    assert origin.take().count(b"HTTP/1.1\r\n") == 1
    world.bench.sends(socket, HIDDEN)
    assert (socket.take(), origin.take(), len(world.sockets)) == (b"", b"", 1)
    assert not origin.open


def test_request_that_goes_round() -> None:
    """An origin that is the relay itself sees each pass in Via; after four the relay goes no further."""
    via, target = b"", b"/round"
    for passes in range(5):
        seen = World().run([Say(get(target=target)[:-2] + via + b"\r\n")], SERVE)
        if passes == 4:
            assert [each.status for each in seen.answered] == [508]
            assert not seen.asked
        else:
            via = b"".join(b"Via: " + value + b"\r\n" for value in seen.asked[0].values(b"via"))
    assert via.count(b"appproxy") == 4
