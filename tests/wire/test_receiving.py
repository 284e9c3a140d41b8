"""What a hostile peer may try: each attempt ends its stream or the channel, is counted, and costs nobody else."""

from __future__ import annotations

import tracemalloc

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import Side
from appproxy.wire import frames
from appproxy.wire.connection import ChannelViolation, Connection
from appproxy.wire.events import Answered, Data, Ping, RequestOpened, Reset, Trailers
from appproxy.wire.frames import MAX_DATA, MAX_PAYLOADS, Code
from appproxy.wire.heads import MAX_FIELDS, ResponseHead, encode_response
from appproxy.wire.windows import CHANNEL_WINDOW, INITIAL_WINDOW, Budget
from tests.wire.pair import (
    ANSWER,
    ASK,
    CONTINUE,
    CONTROL,
    DATA,
    END,
    GOAWAY,
    HEAD,
    HEADERS,
    INFORMATIONAL,
    LAST,
    OK,
    PING,
    RESET,
    SWITCHING,
    TRAILERS,
    UPGRADE,
    WINDOW,
    Clock,
    broken,
    carry,
    drain,
    end,
    frame,
    said,
    window,
)


def relay(streams: int = 1, **limits: int) -> Connection:
    """A relay's end that has opened some streams."""
    connection = end(Side.RELAY, **limits)
    for _ in range(streams):
        connection.open(HEAD)
    drain(connection)
    return connection


def connector(streams: int = 1, **limits: int) -> Connection:
    """A connector's end on which some streams were opened."""
    connection = end(Side.CONNECTOR, **limits)
    for number in range(1, streams + 1):
        connection.receive(frame(HEADERS, number, ASK))
    return connection


def answer(status: int) -> bytes:
    """A response head as payload, whatever its status."""
    return encode_response(ResponseHead(status))


@pytest.mark.feature("CON-4")
class StreamOffenceTests(SynchronousTestCase):
    """What is wrong on one stream ends that stream."""

    def resets(self, connection: Connection, octets: bytes, code: Code = Code.PROTOCOL) -> str:
        """*octets* end stream 1: both sides hear it, it is counted, and stream 2 lives."""
        before = connection.streams
        events = connection.receive(octets)
        last = events[-1]
        assert isinstance(last, Reset)
        self.assertEqual((last.stream, last.code), (1, code))
        resets = [(stream, payload) for kind, _, stream, payload in said(connection) if kind == RESET]
        self.assertEqual(
            [(stream, *frames.decode_reset(payload)) for stream, payload in resets], [(1, code, last.text)]
        )
        self.assertEqual(connection.offences, {last.text: 1})
        self.assertTrue(connection.is_closed(1))
        self.assertEqual(connection.streams, before - 1)
        self.assertFalse(connection.is_closed(2))
        return last.text

    def test_data_before_the_answer(self) -> None:
        """C05: an answer has a head before it has a body."""
        self.resets(relay(2), frame(DATA, 1, b"x"))
        self.resets(relay(2), frame(DATA, 1, b"", END))
        self.resets(relay(2), frame(HEADERS, 1, LAST, TRAILERS | END))

    def test_two_heads(self) -> None:
        """C05: one request has one head, one answer has one final head."""
        self.resets(relay(2), frame(HEADERS, 1, ANSWER) * 2)
        self.resets(relay(2), frame(HEADERS, 1, ANSWER) + frame(HEADERS, 1, answer(100), INFORMATIONAL))
        self.resets(connector(2), frame(HEADERS, 1, ASK))

    def test_after_the_end(self) -> None:
        """C06: what follows the end of its half ends the stream, if the other half is still open."""
        for late in (
            frame(DATA, 1, b"x"),
            frame(DATA, 1, b"", END),
            frame(HEADERS, 1, ANSWER),
            frame(HEADERS, 1, LAST, TRAILERS | END),
        ):
            self.resets(relay(2), frame(HEADERS, 1, ANSWER, END) + late)
        self.resets(connector(2), frame(DATA, 1, b"", END) + frame(DATA, 1, b"x"))
        self.resets(connector(2), frame(DATA, 1, b"", END) + frame(HEADERS, 1, LAST, TRAILERS | END))

    def test_flags_that_do_not_go_together(self) -> None:
        """Trailers end, interim answers do not, pipes have neither."""
        for flags in range(16):
            if flags not in (0, END, INFORMATIONAL, UPGRADE):
                self.resets(relay(2), frame(HEADERS, 1, ANSWER, flags))
            if flags != TRAILERS | END:
                self.resets(connector(2), frame(HEADERS, 1, LAST, flags))

    def test_statuses_that_do_not_fit(self) -> None:
        """C21: 101 unasked, 1xx as the final answer, a final status as an interim one."""
        for status, flags in (
            (101, UPGRADE),
            (101, 0),
            (100, END),
            (200, INFORMATIONAL),
            (101, INFORMATIONAL),
            (200, UPGRADE),
        ):
            self.resets(relay(2), frame(HEADERS, 1, answer(status), flags))

    def test_a_status_that_is_none(self) -> None:
        """C21: 99 and 1000 are no statuses."""
        for status in (99, 1000, -1):
            self.resets(relay(2), frame(HEADERS, 1, answer(status)))

    def test_interim_flood(self) -> None:
        """C21: interim answers are counted."""
        octets = frame(HEADERS, 1, encode_response(CONTINUE), INFORMATIONAL)
        connection = relay(2, max_interim=4)
        self.assertEqual(len(connection.receive(octets * 4)), 4)
        self.resets(connection, octets, Code.LIMIT)

    def test_malformed_heads(self) -> None:
        """C19: no head, giant lists of fields, bombs."""
        giant = encode_response(OK)[: -len(b"\x00")]
        many = b"\x93\xcc\xc8\xc4\x00\xdd" + (MAX_FIELDS + 1).to_bytes(4, "big") + b"\x92\xc4\x00\xc4\x00" * 50_000
        for payload in (b"", b"\xc0", giant, many, b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff"):
            self.resets(relay(2), frame(HEADERS, 1, payload))
            self.resets(relay(2), frame(HEADERS, 1, ANSWER) + frame(HEADERS, 1, payload, TRAILERS | END))
            connection = connector(0)
            self.assertEqual(connection.receive(frame(HEADERS, 1, payload)), [])
            self.assertEqual([(kind, stream) for kind, _, stream, _ in said(connection)], [(RESET, 1)])
            self.assertEqual(connection.receive(frame(DATA, 1, b"in flight") + frame(HEADERS, 2, ASK))[0].stream, 2)

    def test_trailers_on_a_pipe(self) -> None:
        """Upgraded streams carry bytes only."""
        connection = end(Side.RELAY)
        connection.open(HEAD, upgrade=True)
        connection.open(HEAD)
        drain(connection)
        octets = frame(HEADERS, 1, encode_response(SWITCHING), UPGRADE) + frame(HEADERS, 1, LAST, TRAILERS | END)
        self.resets(connection, octets)

    def test_an_upgrade_that_has_ended(self) -> None:
        """A request cannot end and become a pipe; nothing is delivered."""
        connection = connector(0)
        self.assertEqual(connection.receive(frame(HEADERS, 1, ASK, UPGRADE | END)), [])
        self.assertEqual([(kind, stream) for kind, _, stream, _ in said(connection)], [(RESET, 1)])

    def test_credit_beyond_its_limit(self) -> None:
        """C08: a stream's credit never passes 2**31 - 1."""
        self.resets(connector(2), window(1, 2**31 - 1), Code.FLOW)
        connection = connector(2)
        self.assertEqual(connection.receive(window(1, 2**31 - 1 - INITIAL_WINDOW)), [])

    def test_frames_in_flight_after_an_offence(self) -> None:
        """What the peer sent before it heard our RESET is dropped, as after any reset."""
        connection = relay(2)
        self.resets(connection, frame(DATA, 1, b"x"))
        self.assertEqual(connection.receive(frame(DATA, 1, b"y", END)), [])

    def test_what_is_delivered_before(self) -> None:
        """What was right before the offence is delivered."""
        events = relay().receive(frame(HEADERS, 1, ANSWER) + frame(DATA, 1, b"x") + frame(HEADERS, 1, ANSWER))
        self.assertEqual(events[:2], [Answered(1, OK, False, False, False), Data(1, b"x", False)])


@pytest.mark.feature("CON-4")
class ChannelOffenceTests(SynchronousTestCase):
    """What is wrong with the channel ends the channel, with a code."""

    def test_length_over_the_limit(self) -> None:
        """C11: refused from the header alone."""
        for kind, most in [*enumerate(MAX_PAYLOADS), (99, frames.MAX_UNKNOWN)]:
            for length in (most + 1, 2**31, 2**32 - 1):
                violation = broken(relay(), frames.HEADER.pack(length, kind, 0, 1))
                self.assertEqual(violation.code, Code.PROTOCOL)
            half = relay()
            self.assertEqual(half.receive(frames.HEADER.pack(most, kind, 0, 1)), [])

    def test_length_under_the_least(self) -> None:
        """A number that is not there is not read."""
        for kind, least in enumerate(frames.MIN_PAYLOADS):
            if least:
                broken(relay(), frame(kind, 0, bytes(least - 1)))
        for payload, flags in ((bytes(9), 0), (bytes(12), 0), (bytes(11), END)):
            broken(relay(), frame(PING, 0, payload, flags))

    def test_unknown_flags(self) -> None:
        """C13: flags change meaning, so an unknown one is an error."""
        for kind, flags in ((CONTROL, 1), (HEADERS, 16), (DATA, 2), (WINDOW, 1), (RESET, 128), (PING, 2), (GOAWAY, 1)):
            broken(relay(), frame(kind, 0, bytes(10), flags) if kind != PING else frame(kind, 0, bytes(8), flags))

    def test_streams_never_opened(self) -> None:
        """C01, C02: ids that we never gave out, and the channel's own where a stream belongs."""
        for make in (relay, connector):
            for number in (0, 2, 2**32 - 1):
                broken(make(), frame(DATA, number, b"x"))
                broken(make(), frame(RESET, number, b"\0\0"))
                broken(make(), frame(HEADERS, number, LAST, TRAILERS | END))
            broken(make(), window(2, 1))
        broken(relay(), frame(HEADERS, 2, ANSWER))
        broken(relay(), frame(HEADERS, 0, ANSWER))
        broken(connector(), frame(HEADERS, 0, ASK))
        broken(connector(), frame(HEADERS, 2, ASK, INFORMATIONAL))

    def test_frames_of_the_channel_on_a_stream(self) -> None:
        """CONTROL, PING and GOAWAY belong to stream 0."""
        for kind, payload in ((CONTROL, b"\x80"), (PING, bytes(8)), (GOAWAY, bytes(10))):
            broken(relay(), frame(kind, 1, payload))

    def test_an_id_that_goes_back(self) -> None:
        """C03: ids grow."""
        connection = end(Side.CONNECTOR)
        connection.receive(frame(HEADERS, 5, ASK, END))
        violation = broken(connection, frame(HEADERS, 3, ASK))
        self.assertEqual(violation.code, Code.PROTOCOL)
        connection = end(Side.CONNECTOR)
        connection.receive(frame(HEADERS, 5, ASK, END))
        connection.reset(5, Code.DNS)
        drain(connection)
        broken(connection, frame(HEADERS, 5, ASK))

    def test_an_answer_after_the_streams_end(self) -> None:
        """C03: a stream that both sides ended, or that the peer reset, is not to be spoken of again."""
        for late in (frame(HEADERS, 1, ANSWER), frame(DATA, 1, b"x"), frame(HEADERS, 1, LAST, TRAILERS | END)):
            for over in (frame(HEADERS, 1, ANSWER, END), frame(RESET, 1, b"\0\0")):
                connection = end(Side.RELAY)
                connection.open(HEAD, end=True)
                drain(connection)
                connection.receive(over)
                broken(connection, late)

    def test_late_credit_and_resets_are_no_error(self) -> None:
        """They may have crossed our end."""
        connection = end(Side.RELAY)
        connection.open(HEAD, end=True)
        connection.receive(frame(HEADERS, 1, ANSWER, END))
        self.assertEqual(connection.receive(window(1, 5) + frame(RESET, 1, b"\0\0")), [])

    def test_remembered_resets_are_bounded(self) -> None:
        """Only so many are remembered; the memory of a channel does not grow with its age."""
        connection = relay(3, max_remembered=2)
        for number in (1, 2, 3):
            connection.reset(number, Code.CANCELLED)
        drain(connection)
        self.assertEqual(connection.receive(frame(DATA, 3, b"x") + frame(DATA, 2, b"x")), [])
        broken(connection, frame(DATA, 1, b"x"))

    def test_data_without_credit_of_the_stream(self) -> None:
        """C07: one byte too many; what came before it is delivered, memory is one window."""
        budget = Budget()
        connection = end(Side.RELAY, budget)
        connection.open(HEAD)
        drain(connection)
        connection.receive(frame(HEADERS, 1, ANSWER) + frame(DATA, 1, bytes(MAX_DATA)) * 8)
        violation = broken(connection, frame(DATA, 1, b"x"))
        self.assertEqual((violation.code, budget.waiting), (Code.FLOW, 0))

    def test_data_without_credit_of_the_channel(self) -> None:
        """Bytes of streams that are over count as well; whoever reads our WINDOWs never gets there."""
        connection = relay()
        connection.reset(1, Code.CANCELLED)
        for _ in range(2 * CHANNEL_WINDOW // MAX_DATA):
            connection.receive(frame(DATA, 1, bytes(MAX_DATA)))
        connection._channel_left = 10
        self.assertEqual(broken(connection, frame(DATA, 1, bytes(11))).code, Code.FLOW)

    def test_credit_of_nothing(self) -> None:
        """C08: a WINDOW of 0 says nothing and costs work."""
        for number in (0, 1):
            self.assertEqual(broken(relay(), window(number, 0)).code, Code.PROTOCOL)

    def test_credit_that_was_never_spent(self) -> None:
        """C08: the channel's credit cannot be pumped up, so what we queue for a peer stays bounded."""
        for credit in (1, 2**31 - 1, 2**31, 2**32 - 1):
            self.assertEqual(broken(relay(), window(0, credit)).code, Code.FLOW)
        connection = relay()
        connection.send(1, b"xyz")
        self.assertEqual(connection.receive(window(0, 3)), [])
        broken(connection, window(0, 1))

    def test_documents_of_the_wrong_side(self) -> None:
        """A connector does not welcome, a relay does not say hello; bombs are no documents."""
        broken(relay(), frame(CONTROL, 0, b"\x81\xa4type\xa7welcome"))
        broken(connector(), frame(CONTROL, 0, b"\x81\xa4type\xa5hello"))
        broken(relay(), frame(CONTROL, 0, b"\x91" * 1_000_000))

    def test_answers_to_pings_never_sent(self) -> None:
        """Each answer belongs to a question, in order."""
        broken(relay(), frame(PING, 0, b"12345678", END))
        broken(relay(), frame(PING, 0, b"\0\0\0\0room", END))
        connection = relay()
        connection.ping(b"12345678")
        drain(connection)
        broken(connection, frame(PING, 0, b"87654321", END))

    def test_goaway_that_takes_back(self) -> None:
        """The last stream never rises again."""
        connection = relay(3)
        connection.receive(frames.encode_goaway(2, 0, 0))
        connection.receive(frames.encode_goaway(1, 0, 0))
        broken(connection, frames.encode_goaway(2, 0, 0))

    def test_what_came_before_is_delivered(self) -> None:
        """The violation carries the events before it; the streams that it cut are told by lost."""
        connection = relay(2)
        with self.assertRaises(ChannelViolation) as caught:
            connection.receive(frame(HEADERS, 1, ANSWER, END) + window(0, 1))
        self.assertEqual(caught.exception.events, [Answered(1, OK, True, False, False)])
        self.assertEqual(connection.lost(), [1, 2])

    def test_nothing_but_the_reason_leaves(self) -> None:
        """Bodies that were queued are not sent into a channel that is broken."""
        connection = relay()
        connection.send(1, b"x" * 1000)
        with self.assertRaises(ChannelViolation):
            connection.receive(window(1, 0))
        self.assertEqual([kind for kind, *_ in said(connection)], [GOAWAY])
        connection.send(1, b"x")
        self.assertFalse(connection.pending)


@pytest.mark.feature("CON-4")
class FloodTests(SynchronousTestCase):
    """C17, C18: much of what one of would be right."""

    def test_too_many_streams_at_once(self) -> None:
        """What is over the limit is refused, nothing of it is delivered, and what is open goes on."""
        connection = connector(0, max_streams=3)
        events = connection.receive(b"".join(frame(HEADERS, number, ASK) for number in range(1, 1001)))
        self.assertEqual([event.stream for event in events], [1, 2, 3])
        refused = [(stream, *frames.decode_reset(payload)) for kind, _, stream, payload in said(connection)]
        self.assertEqual(refused, [(number, Code.REFUSED, "stream refused") for number in range(4, 1001)])
        self.assertEqual(connection.offences, {"stream refused": 997})
        self.assertEqual(connection.receive(frame(DATA, 500, b"late") + frame(DATA, 1, b"x")), [Data(1, b"x", False)])

    def test_opening_rate(self) -> None:
        """More openings than the rate allows are refused until time has passed."""
        clock = Clock()
        connection = end(Side.CONNECTOR, clock=clock, openings=(10, 2))
        octets = b"".join(frame(HEADERS, number, ASK, END) for number in range(1, 5))
        self.assertEqual([event.stream for event in connection.receive(octets)], [1, 2])
        clock.seconds += 0.1
        self.assertEqual([type(event) for event in connection.receive(frame(HEADERS, 5, ASK))], [RequestOpened])

    def test_rapid_reset(self) -> None:
        """CVE-2023-44487: opening and resetting at once ends the channel soon."""
        connection = connector(0, resets=(10, 50))
        octets = b"".join(frame(HEADERS, n, ASK, END) + frame(RESET, n, b"\0\4") for n in range(1, 1000))
        violation = broken(connection, octets)
        self.assertEqual(violation.code, Code.LIMIT)
        self.assertEqual(len([event for event in violation.events if type(event) is Reset]), 50)

    def test_made_you_reset(self) -> None:
        """CVE-2025-8671: resets that we are made to send count as well."""
        for bad in (frame(DATA, 1, b"x"), frame(HEADERS, 1, b"garbage")):
            connection = relay(100, resets=(10, 50))
            octets = b"".join(bad[:6] + n.to_bytes(4, "big") + bad[10:] for n in range(1, 100))
            self.assertEqual(broken(connection, octets).code, Code.LIMIT)
        for payload, flags in ((b"garbage", 0), (ASK, END | UPGRADE)):
            octets = b"".join(frame(HEADERS, n, payload, flags) for n in range(1, 100))
            self.assertEqual(broken(connector(0, resets=(10, 50)), octets).code, Code.LIMIT)

    def test_floods_of_small_frames(self) -> None:
        """PING, empty DATA, unknown kinds, WINDOW, GOAWAY and documents have their measure."""
        for octets in (
            frame(PING, 0, b"12345678"),
            frame(DATA, 1, b""),
            frame(88, 0, b""),
            window(1, 1),
            frames.encode_goaway(1, 0, 0),
            frame(CONTROL, 0, b"\x81\xa4type\xa5later"),
        ):
            violation = broken(connector(), octets * 50_000)
            self.assertEqual(violation.code, Code.LIMIT)

    def test_time_forgives(self) -> None:
        """Who asks now and then may go on for ever."""
        clock = Clock()
        connection = end(Side.RELAY, clock=clock, trifles=(1, 4))
        for _ in range(100):
            clock.seconds += 1
            self.assertEqual(connection.receive(frame(PING, 0, b"12345678")), [Ping(b"12345678")])
            drain(connection)

    def test_who_asks_and_does_not_read(self) -> None:
        """What the peer makes us queue is bounded, however slowly it asks."""
        clock = Clock()
        connection = end(Side.RELAY, clock=clock)
        with self.assertRaises(ChannelViolation) as caught:
            for _ in range(100_000):
                clock.seconds += 10
                connection.receive(frame(PING, 0, b"12345678"))
        self.assertEqual(caught.exception.code, Code.LIMIT)
        self.assertLess(len(drain(connection)), 1000)

    def test_a_flood_costs_no_memory(self) -> None:
        """Streams opened and reset many thousand times leave nothing but the last ones' names."""
        clock = Clock()
        connection = end(Side.CONNECTOR, clock=clock)
        tracemalloc.start()
        try:
            for number in range(1, 8_001):
                clock.seconds += 0.01
                connection.receive(frame(HEADERS, number, ASK) + frame(DATA, number, b"x" * 100))
                if number % 2:
                    connection.receive(frame(RESET, number, b"\0\4"))
                else:
                    connection.reset(number, Code.DNS)
                drain(connection)
            self.assertLess(tracemalloc.get_traced_memory()[0], 1_500_000)
        finally:
            tracemalloc.stop()
        self.assertEqual(connection.streams, 0)

    def test_partial_frames_are_bounded(self) -> None:
        """C12, C16: a frame that never ends holds no more than its kind allows."""
        connection = relay()
        octets = frames.HEADER.pack(frames.MAX_DOCUMENT, CONTROL, 0, 0)
        connection.receive(octets)
        for _ in range(1000):
            connection.receive(bytes(1000))
        self.assertEqual(len(connection._held), 1_000_000 + len(octets))
        with self.assertRaises(ChannelViolation):
            connection.receive(bytes(100_000))
        self.assertEqual(len(connection._held), 0)


class TrailerTests(SynchronousTestCase):
    """Trailers from a connector and from a relay."""

    def test_good_trailers(self) -> None:
        """They end their half."""
        connection = relay()
        events = connection.receive(frame(HEADERS, 1, ANSWER) + frame(HEADERS, 1, LAST, TRAILERS | END))
        self.assertEqual(events[1], Trailers(1, [(b"Digest", b"x")]))
        other = connector()
        self.assertEqual(len(other.receive(frame(HEADERS, 1, LAST, TRAILERS | END))), 1)
        self.assertEqual(carry(other, relay()), [])
