"""Streams: credit joined to producers, in both directions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire.frames import Code
from appproxy.wire.heads import RequestHead, ResponseHead, Standing
from appproxy.wire.windows import INITIAL_WINDOW
from tests.fakes.channels import Pair, RecordingOpener, RecordingReceiver


class Source:
    """A producer that remembers how it was treated."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


OK = ResponseHead(200, b"OK", [])


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.receiver = RecordingReceiver()

    def opened(self, end: bool = True, upgrade: bool = False):  # type: ignore[no-untyped-def]
        """One stream; returns both of its ends."""
        relay_end = self.pair.request(self.receiver, end, upgrade)
        self.pair.run()
        return relay_end, self.pair.opener.streams[-1]

    def test_request_and_answer(self) -> None:
        """A request without a body and a small answer pass, and both ends forget the stream."""
        relay_end, connector_end = self.opened()
        connector_end.answer(OK)
        connector_end.end(b"hello")
        self.pair.run()
        self.assertEqual(self.receiver.data, b"hello")
        self.assertTrue(self.receiver.ended)
        self.assertTrue(relay_end.closed)
        self.assertEqual((self.pair.relay.streams, self.pair.connector.streams), ({}, {}))

    def test_whole_answers(self) -> None:
        """An answer that is whole passes, whatever its size; beyond the window its end waits for credit."""
        for size in (0, 5, 40_000, INITIAL_WINDOW + 1):
            self.receiver = RecordingReceiver()
            self.receiver.greedy = False
            relay_end, connector_end = self.opened()
            connector_end.answer_whole(OK, b"w" * size)
            self.pair.run()
            self.assertEqual(self.receiver.ended, size <= INITIAL_WINDOW)
            relay_end.consumed(len(self.receiver.data))
            self.pair.run()
            self.assertEqual(self.receiver.data, b"w" * size)
            self.assertTrue(connector_end.closed)
            connector_end.answer_whole(OK, b"after the end")
            self.assertEqual(connector_end.bytes_sent, size)

    def test_writer_is_paused_without_credit_and_resumed(self) -> None:
        """What exceeds the window is held, its producer paused, and all of it arrives once the reader takes it."""
        self.receiver.greedy = False
        relay_end, connector_end = self.opened()
        connector_end.answer(OK)
        source = Source()
        connector_end.registerProducer(source, True)
        body = bytes(range(256)) * (INITIAL_WINDOW // 256) + b"more"
        connector_end.write(body)
        self.pair.run()
        self.assertEqual(len(self.receiver.data), INITIAL_WINDOW)
        self.assertEqual(source.told, ["pause"])
        relay_end.consumed(INITIAL_WINDOW)
        self.pair.run()
        self.assertEqual(self.receiver.data, body)
        self.assertEqual(source.told, ["pause", "resume"])

    def test_paused_reader_gives_no_credit_back(self) -> None:
        """A stream paused by its sink's socket owes the credit until it is resumed."""
        relay_end, connector_end = self.opened()
        connector_end.answer(OK)
        relay_end.pauseProducing()
        connector_end.write(b"x" * (3 * INITIAL_WINDOW))
        self.pair.run()
        self.assertEqual(len(self.receiver.data), INITIAL_WINDOW)
        relay_end.resumeProducing()
        self.pair.run()
        self.assertEqual(len(self.receiver.data), 3 * INITIAL_WINDOW)

    def test_one_stalled_stream_does_not_stop_another(self) -> None:
        """C10: a reader that takes nothing leaves the others their full speed."""
        self.receiver.greedy = False
        _, stalled = self.opened()
        stalled.answer(OK)
        stalled.write(b"x" * (2 * INITIAL_WINDOW))
        other = self.receiver = RecordingReceiver()
        _, lively = self.opened()
        lively.answer(OK)
        lively.end(b"y" * (20 * INITIAL_WINDOW))
        self.pair.run(200)
        self.assertEqual(len(other.data), 20 * INITIAL_WINDOW)
        self.assertTrue(other.ended)

    def test_end_waits_behind_what_is_held(self) -> None:
        """Ending a half that still holds bytes ends it after them, trailers included."""
        self.receiver.greedy = False
        relay_end, connector_end = self.opened()
        connector_end.answer(OK)
        connector_end.write(b"z" * (INITIAL_WINDOW + 5))
        connector_end.finish([(b"Digest", b"d")])
        self.pair.run()
        self.assertIsNone(self.receiver.trailers)
        relay_end.consumed(INITIAL_WINDOW)
        self.pair.run()
        self.assertEqual(self.receiver.trailers, [(b"Digest", b"d")])
        self.assertEqual(len(self.receiver.data), INITIAL_WINDOW + 5)

    def test_reset_reaches_the_peer_and_releases_the_source(self) -> None:
        """C35: a client that goes away resets the stream; the connector's receiver hears the code."""
        relay_end, _connector_end = self.opened(end=False)
        source = Source()
        relay_end.registerProducer(source, True)
        relay_end.write(b"b" * (2 * INITIAL_WINDOW))
        relay_end.reset(Code.CANCELLED, "gone")
        self.pair.run()
        self.assertEqual(self.pair.opener.receivers[-1].resets, [(Code.CANCELLED, "gone")])
        self.assertEqual(source.told, ["pause", "resume"])

    def test_upload_and_early_answer_at_once(self) -> None:
        """The answer may begin and end while the request's body is still coming."""
        relay_end, connector_end = self.opened(end=False)
        relay_end.write(b"part")
        connector_end.answer(OK)
        connector_end.end(b"early")
        self.pair.run()
        self.assertEqual((self.receiver.data, self.receiver.ended), (b"early", True))
        self.assertFalse(relay_end.closed)
        relay_end.end(b"rest")
        self.pair.run()
        self.assertTrue(relay_end.closed)

    def test_pipe_keeps_half_close(self) -> None:
        """After a 101 each half ends alone."""
        relay_end, connector_end = self.opened(end=False, upgrade=True)
        connector_end.answer(ResponseHead(101, b"Switching Protocols", []), upgrade=True)
        self.pair.run()
        relay_end.end(b"last words")
        self.pair.run()
        peer = self.pair.opener.receivers[-1]
        self.assertEqual((peer.data, peer.ended), (b"last words", True))
        connector_end.write(b"still talking")
        self.pair.run()
        self.assertEqual((self.receiver.data, self.receiver.ended), (b"still talking", False))
        connector_end.finish()
        self.pair.run()
        self.assertTrue(self.receiver.ended)

    def test_calls_on_a_closed_stream_do_nothing(self) -> None:
        """Whoever has not yet heard that a stream is over may go on calling it."""
        relay_end, connector_end = self.opened()
        relay_end.reset(Code.CANCELLED)
        self.pair.run()
        connector_end.answer(OK)
        connector_end.write(b"late")
        connector_end.end(b"later")
        connector_end.reset(Code.INTERNAL)
        self.pair.run()
        self.assertEqual(self.receiver.heads, [])

    def test_bytes_of_a_cut_answer_leave_the_budget(self) -> None:
        """What a gone reader never took does not count against the others for ever."""
        budget = self.pair.relay.connection._budget
        relay_end, connector_end = self.opened()
        connector_end.answer(OK)
        relay_end.pauseProducing()
        connector_end.write(b"x" * INITIAL_WINDOW)
        self.pair.run()
        self.assertEqual(budget.waiting, INITIAL_WINDOW)
        relay_end.reset(Code.CANCELLED)
        relay_end.resumeProducing()
        self.assertEqual(budget.waiting, 0)


class OpenerTests(SynchronousTestCase):
    def test_relay_is_asked_nothing(self) -> None:
        """C02: a connector cannot open streams."""
        pair = Pair(RecordingOpener())
        with self.assertRaises(Exception) as raised:
            pair.connector.open(RequestHead.of(b"GET", b"/", Standing([], "app")), RecordingReceiver(), True)
        self.assertIn("opens no streams", str(raised.exception))


class ProducerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.receiver = RecordingReceiver(greedy=False)
        self.relay_end = self.pair.request(self.receiver)
        self.pair.run()
        self.connector_end = self.pair.opener.streams[-1]
        self.connector_end.answer(OK)

    def test_registered_late(self) -> None:
        """A producer that registers while bytes wait for credit is paused at once, and released when it goes."""
        self.connector_end.write(b"x" * (INITIAL_WINDOW + 1))
        source = Source()
        self.connector_end.registerProducer(source, True)
        self.assertEqual(source.told, ["pause"])
        self.connector_end.unregisterProducer()
        self.assertEqual(source.told, ["pause", "resume"])

    def test_writes_behind_what_is_held(self) -> None:
        """What is written while bytes wait keeps its place behind them; nothing written is nothing sent."""
        self.connector_end.write(b"a" * (INITIAL_WINDOW + 3))
        self.connector_end.write(b"")
        self.connector_end.write(b"b")
        self.pair.run()
        self.relay_end.consumed(INITIAL_WINDOW)
        self.pair.run()
        self.assertEqual(self.receiver.data[-4:], b"aaab")

    def test_ends_only_once(self) -> None:
        """An empty end is an end; a stream says in its repr that it is over."""
        self.connector_end.finish()
        self.pair.run()
        self.assertTrue(self.receiver.ended)
        self.assertIn("closed", repr(self.connector_end))

    def test_reader_that_stops(self) -> None:
        """Whoever read a stream and has gone resets it; the writer hears of it."""
        self.relay_end.stopProducing()
        self.pair.run()
        self.assertEqual([code for code, _ in self.pair.opener.receivers[-1].resets], [Code.CANCELLED])
        self.connector_end.finish()
        self.assertTrue(self.connector_end.closed)
