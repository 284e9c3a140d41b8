"""Both ends of a channel under any load: nothing is lost, order is kept, all credit comes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.channel.stream import Stream
from appproxy.wire.heads import ResponseHead
from tests.fakes.channels import Pair, RecordingReceiver

OK = ResponseHead(200, b"OK", [])
#: One frame, several frames, more than a stream's first window.
SIZES = st.one_of(st.integers(0, 200), st.sampled_from([32 * 1024, 100_000, 400_000]))
#: What may happen next: to which stream, from which end, what, how much.
STEPS = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from(["up", "down"]),
        st.sampled_from(["write", "write", "write", "end", "trailers", "pause", "resume", "reset", "run", "open"]),
        SIZES,
    ),
    max_size=60,
)


class Source:
    """A producer that remembers whether it may produce."""

    def __init__(self) -> None:
        self.paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        """Nothing to stop."""


class Flow:
    """One direction of one stream: what was written, and the receiver that should have heard just that."""

    def __init__(self, writer: Stream, reader: Stream, receiver: RecordingReceiver) -> None:
        self.writer, self.reader, self.receiver = writer, reader, receiver
        self.source = Source()
        self.written = b""
        self.ended = False
        writer.registerProducer(self.source, True)

    def write(self, size: int, number: int) -> None:
        if not self.ended and not self.source.paused and not self.writer.closed:
            data = bytes([len(self.written) % 251]) + bytes([number]) * size
            self.written += data
            self.writer.write(data)

    def end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        if not self.ended and not self.writer.closed:
            self.ended = True
            self.writer.finish(trailers)


class Load:
    """A pair, the flows of its streams, and what every step does to them."""

    def __init__(self) -> None:
        self.pair = Pair()
        self.flows: list[dict[str, Flow]] = []
        self.reset: set[int] = set()

    def open(self) -> None:
        receiver = RecordingReceiver()
        relay_end = self.pair.request(receiver, end=False)
        self.pair.run(500)
        connector_end = self.pair.opener.streams[-1]
        connector_end.answer(OK)
        self.flows.append(
            {
                "up": Flow(relay_end, connector_end, self.pair.opener.receivers[-1]),
                "down": Flow(connector_end, relay_end, receiver),
            }
        )

    def step(self, number: int, direction: str, what: str, size: int) -> None:
        if what == "open":
            self.open()
            return
        number %= len(self.flows)
        flow: Any = self.flows[number][direction]
        if what == "write":
            flow.write(size, number)
        elif what == "end":
            flow.end([])
        elif what == "trailers":
            flow.end([(b"Digest", b"%d" % number)])
        elif what == "pause":
            flow.reader.pauseProducing()
        elif what == "resume":
            flow.reader.resumeProducing()
        elif what == "reset":
            self.reset.add(number)
            flow.writer.reset(4, "enough")
        else:
            self.pair.run(2000)

    def settle(self) -> None:
        """Everybody reads again, every half ends, everything moves until it rests."""
        for flows in self.flows:
            for flow in flows.values():
                flow.reader.resumeProducing()
        self.pair.run(5000)
        for flows in self.flows:
            for flow in flows.values():
                flow.end([])
        self.pair.run(5000)


@pytest.mark.feature("CON-4")
class ChannelLoadTests(SynchronousTestCase):
    @given(st.integers(1, 4), STEPS)
    @settings(max_examples=80, deadline=None)
    def test_nothing_is_lost(self, streams: int, steps: list[tuple[int, str, str, int]]) -> None:
        """C40: with any interleaving of writes, ends, pauses and resets each reader hears what was written to it."""
        load = Load()
        for _ in range(streams):
            load.open()
        for step in steps:
            load.step(*step)
        load.settle()
        for number, flows in enumerate(load.flows):
            for flow in flows.values():
                heard = flow.receiver.data
                if number in load.reset:
                    self.assertTrue(flow.written.startswith(heard), number)
                else:
                    self.assertTrue(heard == flow.written, number)
                    self.assertTrue(flow.receiver.ended)
                    self.assertEqual(flow.receiver.resets, [])
                self.assertFalse(flow.source.paused)
        pair = load.pair
        self.assertEqual((pair.relay.streams, pair.connector.streams), ({}, {}))
        for channel in (pair.relay, pair.connector):
            self.assertEqual(channel.connection.streams, 0)
            self.assertEqual(channel.connection._budget.waiting, 0)

    def test_loss_in_the_middle_returns_everything(self) -> None:
        """A channel cut under load leaves no stream, no paused source and nothing in the budget."""
        load = Load()
        for number in range(5):
            load.open()
            load.flows[number]["down"].reader.pauseProducing()
            load.step(number, "down", "write", 400_000)
            load.step(number, "up", "write", 400_000)
        load.pair.run(2000)
        budget = load.pair.relay.connection._budget
        self.assertGreater(budget.waiting, 0)
        load.pair.relay.carrier_closed(1006, "cut")
        load.pair.connector.carrier_closed(1006, "cut")
        self.assertEqual(budget.waiting, 0)
        for flows in load.flows:
            for flow in flows.values():
                self.assertFalse(flow.source.paused)
                self.assertEqual(len(flow.receiver.resets), 1)
        self.assertEqual((load.pair.relay.streams, load.pair.connector.streams), ({}, {}))
