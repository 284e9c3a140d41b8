"""Any bytes, any slicing, any interleaving: nothing is lost, order is kept, no credit is negative."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import Side
from appproxy.wire.connection import Budget, CannotOpen, ChannelViolation, Connection, Misuse
from appproxy.wire.events import Answered, Data, Event, RequestOpened, Reset, RoomOpened, Trailers
from appproxy.wire.frames import Code
from appproxy.wire.streams import TABLE, Input, State
from appproxy.wire.windows import CHANNEL_WINDOW, MIN_WINDOW
from tests.wire.pair import (
    ANSWER,
    ASK,
    CONTINUE,
    DATA,
    END,
    HEAD,
    HEADERS,
    INFORMATIONAL,
    LAST,
    OK,
    RESET,
    TRAILERS,
    carry,
    drain,
    end,
    ends,
    frame,
    split,
    window,
)

NUMBERS = st.integers(0, 6) | st.just(2**32 - 1)
FRAMES = st.builds(
    frame,
    st.integers(0, 9),
    NUMBERS,
    st.sampled_from([b"", ASK, ANSWER, LAST, bytes(4), b"\0\0\1\0", bytes(8), bytes(10), b"\x81\xa4type\xa1x"])
    | st.binary(max_size=20),
    st.integers(0, 15) | st.integers(0, 255),
)
CORRUPT = st.lists(FRAMES | st.binary(max_size=30), max_size=25).map(b"".join)


def used(side: Side, budget: Budget | None = None) -> Connection:
    """An end in the middle of its life: streams in several states."""
    relay, connector = ends(budget)
    for ending in (True, False, False, True):
        relay.open(HEAD, end=ending)
    relay.open(HEAD, upgrade=True)
    carry(relay, connector)
    connector.answer(2, OK)
    connector.answer(3, OK, end=True)
    connector.reset(4, Code.CONNECT)
    carry(connector, relay)
    return relay if side is Side.RELAY else connector


def accepts(connection: Connection, octets: bytes) -> list[Event]:
    """Events of *octets*, up to the violation if there is one."""
    try:
        return connection.receive(octets)
    except ChannelViolation as violation:
        return violation.events


def apart(events: list[Event]) -> list[Event]:
    """The same events, answers that were told whole as head and data."""
    told: list[Event] = []
    for event in events:
        if isinstance(event, Answered) and event.data:
            head = Answered(event.stream, event.head, False, event.informational, event.upgrade)
            told += [head, Data(event.stream, event.data, event.end)]
        else:
            told.append(event)
    return told


@pytest.mark.feature("CON-4")
class AnyBytesTests(SynchronousTestCase):
    """Hostile bytes."""

    @given(st.sampled_from([Side.RELAY, Side.CONNECTOR]), CORRUPT)
    def test_any_bytes(self, side: Side, octets: bytes) -> None:
        """Whatever comes is events or the one exception, and afterwards all accounts are in order."""
        budget = Budget()
        connection = used(side, budget)
        accepts(connection, octets)
        drain(connection)
        self.assertGreaterEqual(budget.waiting, 0)
        connection.lost()
        self.assertEqual(budget.waiting, 0)

    @given(st.sampled_from([Side.RELAY, Side.CONNECTOR]), CORRUPT, st.lists(st.integers(1, 40), min_size=1))
    def test_any_slicing(self, side: Side, octets: bytes, sizes: list[int]) -> None:
        """Where the bytes are cut changes neither what is understood nor what is said."""
        whole, sliced = used(side), used(side)
        expected = accepts(whole, octets)
        events: list[Event] = []
        at = turn = 0
        while at < len(octets):
            size = sizes[turn % len(sizes)]
            events += accepts(sliced, octets[at : at + size])
            at += size
            turn += 1
        events, expected = apart(events), apart(expected)
        for number in {getattr(event, "stream", 0) for event in (*events, *expected)}:  # each stream for itself
            self.assertEqual(
                [event for event in events if getattr(event, "stream", 0) == number],
                [event for event in expected if getattr(event, "stream", 0) == number],
            )
        self.assertEqual(drain(sliced), drain(whole))
        self.assertEqual(sliced.offences, whole.offences)


@pytest.mark.feature("CON-4")
class WholeTests(SynchronousTestCase):
    """An answer said at once is the one said in two calls."""

    @given(
        st.lists(st.integers(1, 300) | st.just(32_768), min_size=1, max_size=6),
        st.lists(st.booleans(), min_size=6, max_size=6),
        st.booleans(),
    )
    def test_the_same_bytes(self, sizes: list[int], endings: list[bool], busy: bool) -> None:
        """The same octets leave in the same order, the same credit is used and the same streams stay."""
        seen = []
        for whole in (True, False):
            relay, connector = ends()
            for ending in (True, *endings):
                relay.open(HEAD, end=ending)
            carry(relay, connector)
            if busy:
                connector.answer(1, OK)
                connector.send(1, b"z" * 70_000)
            for number, size in enumerate(sizes, 2):
                if whole:
                    self.assertTrue(connector.answer_whole(number, OK, b"w" * size))
                else:
                    connector.answer(number, OK)
                    connector.send(number, b"w" * size, end=True)
            streams = [(each.id, each.state, each.credit) for each in connector._streams.values()]
            seen.append((connector._out.credit, streams, drain(connector)))
        self.assertEqual(seen[0], seen[1])


#: How a peer brings about each input, from the side that it comes from.
FROM_RELAY = {
    Input.REQUEST: frame(HEADERS, 1, ASK),
    Input.UP: frame(DATA, 1, b"x"),
    Input.UP_END: frame(DATA, 1, b"x", END),
    Input.RESET: frame(RESET, 1, b"\0\4"),
}
FROM_CONNECTOR = {
    Input.INTERIM: frame(HEADERS, 1, ANSWER.replace(b"\xcc\xc8", b"\x64"), INFORMATIONAL),
    Input.ANSWER: frame(HEADERS, 1, ANSWER),
    Input.DOWN: frame(DATA, 1, b"x"),
    Input.DOWN_END: frame(HEADERS, 1, LAST, TRAILERS | END),
    Input.RESET: frame(RESET, 1, b"\0\4"),
}


def do(connection: Connection, happened: Input) -> None:
    """Our own side of each input."""
    match happened:
        case Input.REQUEST:
            connection.open(HEAD)
        case Input.UP | Input.DOWN:
            connection.send(1, b"x")
        case Input.UP_END | Input.DOWN_END:
            connection.send(1, b"x", end=True)
        case Input.INTERIM:
            connection.answer(1, CONTINUE, informational=True)
        case Input.ANSWER:
            connection.answer(1, OK)
        case Input.RESET:
            connection.reset(1, Code.CANCELLED)


#: A way into each state.
PATHS = {
    State.ASKING: [Input.REQUEST],
    State.ASKED: [Input.REQUEST, Input.UP_END],
    State.OPEN: [Input.REQUEST, Input.ANSWER],
    State.ANSWERING: [Input.REQUEST, Input.UP_END, Input.ANSWER],
    State.ANSWERED: [Input.REQUEST, Input.ANSWER, Input.DOWN_END],
    State.CLOSED: [Input.REQUEST, Input.ANSWER, Input.DOWN_END, Input.UP_END],
}


@pytest.mark.feature("CON-4")
class EveryPairTests(SynchronousTestCase):
    """The table of states, seen from outside, on both sides."""

    def test_what_the_peer_does(self) -> None:
        """Every input in every state is either told as an event or ends the stream or the channel."""
        for side, theirs in ((Side.RELAY, FROM_CONNECTOR), (Side.CONNECTOR, FROM_RELAY)):
            for state, path in PATHS.items():
                for happened, octets in theirs.items():
                    connection = end(side)
                    for step in path:
                        if step in theirs:
                            connection.receive(theirs[step])
                        else:
                            do(connection, step)
                    drain(connection)
                    events = accepts(connection, octets)
                    allowed = (state, happened) in TABLE
                    if state is State.CLOSED:
                        self.assertEqual(events, [])
                        self.assertEqual(bool(connection.offences), happened is not Input.RESET)
                    elif allowed:
                        self.assertEqual(len(events), 1, (side, state, happened))
                        self.assertEqual(isinstance(events[0], Reset), happened is Input.RESET)
                        self.assertFalse(connection.offences)
                    else:
                        self.assertEqual([type(event) for event in events], [Reset], (side, state, happened))
                        self.assertTrue(connection.is_closed(1))
                        self.assertEqual(connection.offences.total(), 1)

    def test_what_we_do(self) -> None:
        """Every call in every state either queues frames that the peer accepts, or is refused and queues nothing."""
        for side, theirs in ((Side.RELAY, FROM_CONNECTOR), (Side.CONNECTOR, FROM_RELAY)):
            ours = [happened for happened in Input if happened not in theirs or happened is Input.RESET]
            for state, path in PATHS.items():
                for happened in ours:
                    if happened is Input.REQUEST:
                        continue
                    relay, connector = ends()
                    for step in path:
                        do(connector if step in FROM_CONNECTOR else relay, step)
                        carry(relay, connector)
                        carry(connector, relay)
                    mine, peer = (relay, connector) if side is Side.RELAY else (connector, relay)
                    if state is State.CLOSED:
                        do(mine, happened)
                        self.assertFalse(mine.pending)
                    elif (state, happened) in TABLE:
                        do(mine, happened)
                        self.assertEqual(len(carry(mine, peer)), 1, (side, state, happened))
                        self.assertFalse(peer.offences)
                    else:
                        with self.assertRaises(Misuse):
                            do(mine, happened)
                        self.assertFalse(mine.pending)


@dataclass
class Half:
    """One direction of one stream, as the model knows it."""

    sent: bytearray = field(default_factory=bytearray)
    told: bytearray = field(default_factory=bytearray)
    begun: bool = False
    ended: bool = False
    told_end: bool = False
    untaken: int = 0
    waiting: bool = False


class TwoEnds(RuleBasedStateMachine):
    """Two ends with two wires of bytes between them; every step may come in any order, cut anywhere."""

    streams = Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(400_000)
        self.relay, self.connector = ends(self.budget, max_streams=6)
        self.up: dict[int, Half] = {}
        self.down: dict[int, Half] = {}
        self.cut: set[int] = set()
        self.wires = {Side.RELAY: b"", Side.CONNECTOR: b""}

    def halves(self, side: Side) -> tuple[Connection, dict[int, Half]]:
        """A side and what it sends."""
        return (self.relay, self.up) if side is Side.RELAY else (self.connector, self.down)

    @rule(target=streams, ending=st.booleans())
    def open(self, ending: bool) -> object:
        """The relay begins a request."""
        try:
            number = self.relay.open(HEAD, end=ending)
        except CannotOpen:
            return multiple()
        self.up[number] = Half(begun=True, ended=ending)
        self.down[number] = Half()
        return number

    @rule(number=streams, ending=st.booleans())
    def answer(self, number: int, ending: bool) -> None:
        """The connector answers what it has heard of."""
        half = self.down[number]
        if not half.begun and number not in self.cut and not self.connector.is_closed(number):
            self.connector.answer(number, OK, end=ending)
            half.begun, half.ended = True, ending

    @rule(number=streams, size=st.sampled_from([0, 1, 100, 32_768, 32_769, 300_000]))
    def answer_whole(self, number: int, size: int) -> None:
        """The connector answers with all that there is, if there is room."""
        half = self.down[number]
        if half.begun or number in self.cut or self.connector.is_closed(number):
            return
        octets = b"whole"[: size % 5] + b"w" * (size - size % 5)
        if self.connector.answer_whole(number, OK, octets):
            half.begun = half.ended = True
            half.sent += octets

    @rule(
        side=st.sampled_from([Side.RELAY, Side.CONNECTOR]),
        number=streams,
        wish=st.sampled_from([1, 100, 40_000, 300_000]),
        ending=st.booleans(),
    )
    def send(self, side: Side, number: int, wish: int, ending: bool) -> None:
        """Some bytes, as many as there is room for."""
        connection, mine = self.halves(side)
        half = mine[number]
        if number in self.cut or half.ended or not half.begun:
            return
        room = connection.room(number)
        half.waiting = half.waiting or room == 0
        if room == 0:
            return
        half.waiting = False
        size = min(wish, room)
        octets = len(half.sent).to_bytes(4, "big") * (size // 4) + b"." * (size % 4)
        connection.send(number, octets, end=ending and size == wish)
        half.sent += octets
        half.ended = ending and size == wish

    @rule(side=st.sampled_from([Side.RELAY, Side.CONNECTOR]), number=streams)
    def finish(self, side: Side, number: int) -> None:
        """A half ends with trailers."""
        connection, mine = self.halves(side)
        half = mine[number]
        if number not in self.cut and half.begun and not half.ended:
            connection.finish(number, [(b"Last", b"1")])
            half.ended = True

    @rule(side=st.sampled_from([Side.RELAY, Side.CONNECTOR]), number=consumes(streams))
    def reset(self, side: Side, number: int) -> None:
        """A stream is cut."""
        connection, _ = self.halves(side)
        if not connection.is_closed(number):
            connection.reset(number, Code.CANCELLED)
            self.cut.add(number)

    @rule(side=st.sampled_from([Side.RELAY, Side.CONNECTOR]), limit=st.sampled_from([100, 65536]))
    def write(self, side: Side, limit: int) -> None:
        """One message goes onto the wire."""
        connection, _ = self.halves(side)
        message = connection.output(limit)
        assert len(message) <= max(limit, 33_000)
        self.wires[side] += message

    @rule(side=st.sampled_from([Side.RELAY, Side.CONNECTOR]), share=st.floats(0, 1) | st.just(1.0))
    def arrive(self, side: Side, share: float) -> None:
        """Some of what is on the wire arrives at the other end."""
        wire = self.wires[side]
        count = round(len(wire) * share)
        self.wires[side] = wire[count:]
        _, theirs = self.halves(side)
        other = Side.CONNECTOR if side is Side.RELAY else Side.RELAY
        receiver, mine = self.halves(other)
        for event in receiver.receive(wire[:count]):
            self.told(event, theirs, mine)

    def told(self, event: Event, theirs: dict[int, Half], mine: dict[int, Half]) -> None:
        """Compare an event with what was done at the other end."""
        match event:
            case Data(number, octets, ended):
                half = theirs[number]
                assert not half.told_end
                half.told += octets
                half.untaken += len(octets)
                half.told_end = ended
            case Trailers(number, _):
                assert not theirs[number].told_end
                theirs[number].told_end = True
            case RequestOpened(number, _, ended, _):
                theirs[number].told_end = ended
            case Answered(number, _, ended, _, _, octets):
                half = theirs[number]
                assert not half.told
                assert ended or not octets
                half.told += octets
                half.told_end = ended
            case RoomOpened(number):
                mine[number].waiting = False
            case Reset(number, code, _):
                assert number in self.cut
                assert code == Code.CANCELLED
            case _:
                pass

    @rule(side=st.sampled_from([Side.RELAY, Side.CONNECTOR]), number=streams, share=st.floats(0, 1) | st.just(1.0))
    def consume(self, side: Side, number: int, share: float) -> None:
        """A consumer takes some of what came from *side*."""
        _, theirs = self.halves(side)
        half = theirs[number]
        count = round(half.untaken * share)
        half.untaken -= count
        receiver = self.connector if side is Side.RELAY else self.relay
        receiver.consumed(number, count)

    @invariant()
    def order_is_kept(self) -> None:
        """What was told is a beginning of what was sent."""
        for halves in (self.up, self.down):
            for half in halves.values():
                assert half.sent.startswith(half.told)

    @invariant()
    def accounts_are_in_order(self) -> None:
        """Credit is never negative, never more than there is, and nobody broke a rule."""
        for connection in (self.relay, self.connector):
            assert not connection.offences
            assert 0 <= connection._out.credit <= CHANNEL_WINDOW
            for stream in connection._streams.values():
                assert stream.credit >= 0
                if stream.window is not None:
                    found = stream.window
                    assert found.left + found.held + found.owed == found.size >= MIN_WINDOW
        held = sum(
            half.untaken for halves in (self.up, self.down) for number, half in halves.items() if number not in self.cut
        )
        assert self.budget.waiting >= held

    def teardown(self) -> None:
        """Let everything arrive and be taken: then nothing is missing, and whoever waited was told."""
        for _ in range(200):
            for side in (Side.RELAY, Side.CONNECTOR):
                while self.halves(side)[0].pending:
                    self.write(side, 65536)
                self.arrive(side, 1.0)
                for number in self.up:
                    self.consume(side, number, 1.0)
            if not (self.relay.pending or self.connector.pending):
                break
        for halves in (self.up, self.down):
            for number, half in halves.items():
                if number not in self.cut:
                    assert half.told == half.sent
                    assert half.told_end == half.ended
                    assert not half.waiting or half.ended
        assert self.budget.waiting == 0
        for number in self.up:
            over = number in self.cut or (self.up[number].ended and self.down[number].ended)
            assert self.relay.is_closed(number) == self.connector.is_closed(number) == over
        assert not self.wires[Side.RELAY]
        assert not self.wires[Side.CONNECTOR]


@pytest.mark.feature("CON-4")
class InterleavingTests(SynchronousTestCase):
    """Two ends, any interleaving."""

    def test_any_interleaving(self) -> None:
        """C40: all that was sent arrives, in order, on its own stream, however the steps of two ends follow."""
        run_state_machine_as_test(TwoEnds, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


@pytest.mark.feature("CON-4")
class FairnessTests(SynchronousTestCase):
    """Nobody is delayed by another one's bulk."""

    @given(st.lists(st.integers(1, 256 * 1024), min_size=2, max_size=12))
    def test_turns(self, sizes: list[int]) -> None:
        """A body of n frames has left before any other has sent more than n + 1."""
        relay, _ = ends()
        for size in sizes:
            relay.send(relay.open(HEAD), b"x" * size, end=True)
        order = []
        while message := relay.output(100):
            order += [(stream, flags) for kind, flags, stream, _ in split(message) if kind == DATA]
        for number, size in enumerate(sizes, 1):
            mine = -(-size // 32768)
            last = order.index((number, END))
            for other in range(1, len(sizes) + 1):
                self.assertLessEqual(sum(stream == other for stream, _ in order[:last]), mine)

    def test_a_channel_without_credit_serves_everyone(self) -> None:
        """Writers that take all they get, each time they are told, advance together."""
        relay, connector = ends()
        count = 80
        for number in range(1, count + 1):
            relay.open(HEAD, end=True)
            carry(relay, connector)
            connector.answer(number, OK)
            connector.receive(window(number, 2**30))
        sent = dict.fromkeys(range(1, count + 1), 0)

        def push(number: int) -> None:
            while size := connector.room(number):
                connector.send(number, bytes(size))
                sent[number] += size

        for number in sent:
            push(number)
        drain(connector)
        for _ in range(16 * count):
            for event in connector.receive(window(0, CHANNEL_WINDOW // 16)):
                push(event.stream)
            drain(connector)
        # Who found the channel full at first has had his turns all the same.
        self.assertGreater(min(sent.values()), max(list(sent.values())[1:]) / 4)
