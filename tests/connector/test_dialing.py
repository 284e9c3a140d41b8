"""One channel to one relay, kept up."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.channel.protocol import Channel
from appproxy.connector.dialing import Dialling
from appproxy.errors import Phase, Side
from appproxy.net.failures import ConnectFailed, DnsFailed, TlsFailed
from appproxy.wire import control, events
from appproxy.wire.connection import Connection
from appproxy.wire.frames import Code
from appproxy.wire.heads import RequestHead, Standing
from tests.fakes.channels import FakeCarrier, RecordingOpener, RecordingOwner
from tests.fakes.recorded_log import recorded

WELCOME = {"type": "welcome", "node": "relay-1", "nodes": [], "settings": {}, "limits": {}}


class Attempt:
    """One dial, from the relay's side."""

    def __init__(self, channel: Channel, clock: Clock) -> None:
        self.channel = channel
        self.clock = clock
        self.result: Deferred[Any] = Deferred(lambda _: setattr(self, "cancelled", True))
        self.cancelled = False
        self.carrier = FakeCarrier()
        self.relay = Channel(clock, Connection(Side.RELAY, clock=clock.seconds), RecordingOwner())
        self.relay_carrier = FakeCarrier()

    def accept(self) -> None:
        """TCP, TLS and WebSocket succeed."""
        self.result.callback(self.carrier)
        self.relay.carrier_opened(self.relay_carrier)  # type: ignore[arg-type]
        self.channel.carrier_opened(self.carrier)  # type: ignore[arg-type]
        self.run()

    def run(self) -> None:
        """Let both ends talk."""
        for _ in range(5):
            self.clock.advance(0)
            while self.carrier.sent:
                self.relay.message_received(self.carrier.sent.popleft())
            while self.relay_carrier.sent:
                self.channel.message_received(self.relay_carrier.sent.popleft())

    def welcome(self) -> None:
        self.accept()
        self.relay.control(WELCOME)
        self.run()

    def lose(self, code: int = 1006, reason: str = "") -> None:
        self.channel.carrier_closed(code, reason)

    @property
    def heard(self) -> list[dict[str, Any]]:
        """Documents that reached the relay."""
        return self.relay._owner.documents  # type: ignore[attr-defined, no-any-return]


class Connector:
    """Owner of a dialling: keeps the attempts and what it is told."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.attempts: list[Attempt] = []
        self.news: list[str] = []
        self.documents: list[control.AnyDocument] = []
        self.opener = RecordingOpener()

    def make_channel(self, owner: Any) -> Channel:
        return Channel(self.clock, Connection(Side.CONNECTOR, clock=self.clock.seconds), owner, self.opener)

    async def dial(self, channel: Channel) -> Any:
        self.attempts.append(Attempt(channel, self.clock))
        return await self.attempts[-1].result

    def hello(self) -> dict[str, Any]:
        return {"type": "hello", "connector": "c-1", "version": "1", "boot": "b", "epoch": 1}

    def risen(self, dialling: Dialling) -> None:
        self.news.append("risen")

    def fallen(self, dialling: Dialling) -> None:
        self.news.append("fallen")

    def told(self, dialling: Dialling, channel: Channel, document: control.AnyDocument) -> None:
        self.documents.append(document)


class DiallingTests(SynchronousTestCase):
    """The states, in the order in which they come."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connector = Connector(self.clock)
        self.attempts = self.connector.attempts
        self.chance = 1.0
        self.dialling = Dialling("https://relay:8443", self.connector, self.clock, lambda: self.chance)

    def rise(self) -> Attempt:
        """The newest attempt succeeds."""
        self.attempts[-1].welcome()
        self.assertTrue(self.dialling.is_up)
        return self.attempts[-1]

    def request(self, attempt: Attempt) -> Any:
        """The relay opens a stream."""
        stream = attempt.relay.open(RequestHead.of(b"GET", b"/", Standing([], "hr")), RecordingOwner(), False)  # type: ignore[arg-type]
        attempt.run()
        return stream

    @pytest.mark.feature("CON-3")
    def test_hello_and_welcome_make_a_channel(self) -> None:
        """Only the welcome counts."""
        self.dialling.start()
        self.attempts[0].accept()
        self.assertEqual(self.attempts[0].heard, [self.connector.hello()])
        self.assertFalse(self.dialling.is_up)
        self.attempts[0].relay.control(WELCOME)
        self.attempts[0].run()
        self.assertTrue(self.dialling.is_up)
        self.assertEqual(self.connector.news, ["risen"])

    @pytest.mark.feature("CON-3")
    def test_failures_are_followed_by_longer_and_longer_waits(self) -> None:
        """It never gives up."""
        self.dialling.start()
        waits = []
        for number in range(300):
            self.attempts[-1].result.errback(ConnectFailed("refused"))
            before = self.clock.seconds()
            while len(self.attempts) == number + 1:
                self.clock.advance(0.5)
            waits.append(self.clock.seconds() - before)
        self.assertEqual(waits[:4], [1, 2, 4, 4])
        self.assertEqual(waits[-1], 60)
        self.rise()

    def test_jitter_is_full(self) -> None:
        """C32: the wait is a random part of the longest one."""
        self.chance = 0.25
        self.dialling.start()
        self.attempts[0].result.errback(ConnectFailed("refused"))
        self.clock.advance(0.24)
        self.assertEqual(len(self.attempts), 1)
        self.clock.advance(0.02)
        self.assertEqual(len(self.attempts), 2)

    def test_back_within_five_seconds_of_the_relays_return(self) -> None:
        """After an outage of a minute, with the worst luck."""
        self.dialling.start()
        attempt = self.rise()
        self.clock.advance(100)
        attempt.lose()
        lost = self.clock.seconds()
        while self.clock.seconds() - lost < 60:
            self.clock.advance(0.5)
            if not self.attempts[-1].result.called:
                self.attempts[-1].result.errback(ConnectFailed("refused"))
        tried = len(self.attempts)
        self.clock.pump([0.5] * 10)
        self.assertGreater(len(self.attempts), tried)
        self.rise()

    @pytest.mark.feature("CON-3")
    def test_only_a_channel_that_stayed_up_makes_the_next_failure_the_first(self) -> None:
        """A relay that drops channels at once is not hammered."""
        self.dialling.start()
        for wait in (1, 2, 4):
            self.rise().lose()
            self.clock.advance(wait - 0.1)
            count = len(self.attempts)
            self.clock.advance(0.2)
            self.assertEqual(len(self.attempts), count + 1)
        attempt = self.rise()
        self.clock.advance(30.1)
        attempt.lose()
        count = len(self.attempts)
        self.clock.advance(1.01)
        self.assertEqual(len(self.attempts), count + 1)
        self.assertEqual(self.connector.news[-2:], ["risen", "fallen"])

    def test_a_welcome_that_does_not_come_is_not_waited_for(self) -> None:
        """Ten seconds, handshake of the WebSocket included."""
        self.dialling.start()
        self.attempts[0].result.callback(self.attempts[0].carrier)
        self.clock.advance(9.9)
        self.assertFalse(self.attempts[0].carrier.aborted)
        self.clock.advance(0.2)
        self.assertTrue(self.attempts[0].carrier.aborted)
        self.attempts[0].lose()
        self.clock.advance(1)
        self.assertEqual(len(self.attempts), 2)

    @pytest.mark.feature("CON-3")
    def test_retry_after_is_obeyed(self) -> None:
        """A relay that says when to come back knows better; the random wait comes on top (C32)."""
        self.chance = 0.5
        self.dialling.start()
        attempt = self.rise()
        attempt.relay.go_away(Code.NONE, "stopping", 7000)
        attempt.run()
        self.clock.advance(7.4)
        self.assertEqual(len(self.attempts), 1)
        self.clock.advance(0.2)
        self.assertEqual(len(self.attempts), 2)

    @pytest.mark.feature("CON-7")
    def test_sent_away_it_opens_a_replacement_and_finishes_what_is_in_flight(self) -> None:
        """The old channel is closed when its last stream has ended, not before."""
        self.dialling.start()
        old = self.rise()
        self.request(old)
        old.relay.go_away(Code.NONE, "stopping")
        old.run()
        self.clock.advance(1)
        self.assertEqual(len(self.attempts), 2)
        self.rise()
        self.assertIsNone(old.carrier.closed)
        (stream,) = self.connector.opener.streams
        stream.reset(Code.INTERNAL)
        self.assertEqual(old.carrier.closed, (1001, "finished"))
        old.lose(1001)
        self.assertTrue(self.dialling.is_up)

    def test_a_channel_sent_away_does_not_live_for_ever(self) -> None:
        """Ten minutes, for upgraded streams."""
        self.dialling.start()
        old = self.rise()
        self.request(old)
        old.relay.go_away(Code.NONE, "stopping")
        old.run()
        for _ in range(590):
            self.clock.advance(1)
            old.relay.control({"type": "drain"})
            old.run()
        self.assertIsNone(old.carrier.closed)
        for _ in range(20):
            self.clock.advance(1)
        self.assertEqual(old.carrier.closed, (1001, "time is up"))

    @pytest.mark.feature("CON-7")
    def test_stopping_drains(self) -> None:
        """The relay is told, what is in flight ends, the channel is closed, then all is done."""
        self.dialling.start()
        attempt = self.rise()
        self.request(attempt)
        done = self.dialling.stop()
        attempt.run()
        self.assertEqual(attempt.heard[-1]["type"], "drain")
        self.clock.advance(5)
        self.assertNoResult(done)
        (stream,) = self.connector.opener.streams
        stream.reset(Code.INTERNAL)
        self.clock.advance(1)
        self.successResultOf(done)
        self.assertEqual(attempt.carrier.closed, (1001, "the connector is stopping"))
        self.clock.advance(100)
        self.assertEqual(len(self.attempts), 1)

    def test_stopping_has_an_end(self) -> None:
        """Thirty seconds for what is in flight."""
        self.dialling.start()
        attempt = self.rise()
        self.request(attempt)
        done = self.dialling.stop()
        for _ in range(29):
            self.clock.advance(1)
            attempt.relay.control({"type": "assignments", "version": 1, "applications": []})
            attempt.run()
        self.assertNoResult(done)
        self.clock.advance(1)
        self.successResultOf(done)

    def test_stopping_works_in_every_state(self) -> None:
        """Before the start, while dialling, waiting and opening, and twice."""
        self.successResultOf(self.dialling.stop())
        self.dialling.start()
        self.successResultOf(self.dialling.stop())
        self.assertTrue(self.attempts[0].cancelled)
        self.dialling.start()
        self.attempts[1].result.errback(ConnectFailed("refused"))
        self.successResultOf(self.dialling.stop())
        self.dialling.start()
        self.attempts[2].accept()
        self.successResultOf(self.dialling.stop())
        self.assertEqual(self.attempts[2].carrier.closed, (1001, "the connector is stopping"))
        self.attempts[2].lose(1001)
        self.dialling.start()
        attempt = self.rise()
        first, second = self.dialling.stop(), self.dialling.stop()
        attempt.lose(1001)
        self.successResultOf(first)
        self.successResultOf(second)
        self.clock.advance(100)
        self.assertEqual(len(self.attempts), 4)

    def test_other_documents_are_passed_on(self) -> None:
        """Those that this version does not know are not."""
        self.dialling.start()
        attempt = self.rise()
        attempt.relay.control({"type": "assignments", "version": 3, "applications": []})
        attempt.relay.control({"type": "news of a later version"})
        attempt.run()
        self.assertEqual(self.connector.documents, [control.Assignments(version=3, applications=())])

    def test_a_malformed_document_closes_the_channel(self) -> None:
        """With the protocol's code."""
        self.dialling.start()
        attempt = self.rise()
        attempt.relay.control({"type": "assignments", "version": "three", "applications": []})
        attempt.run()
        assert attempt.carrier.closed is not None
        self.assertEqual(attempt.carrier.closed[0], 1002)


class FailureLogTests(SynchronousTestCase):
    """One clear line for each failure: which relay, which phase, what to do."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connector = Connector(self.clock)
        self.dialling = Dialling("https://relay:8443", self.connector, self.clock, lambda: 0.0)

    def failing(self, problem: Exception) -> dict[str, Any]:
        with recorded(Dialling) as events:
            self.dialling.start()
            self.connector.attempts[-1].result.errback(problem)
            self.dialling.stop()
        (event,) = events
        return event

    def test_each_phase_has_its_remedy(self) -> None:
        """C27: what to look at, by what failed."""
        for problem, phase, remedy in (
            (DnsFailed("relay: unknown"), Phase.DNS, "name service"),
            (ConnectFailed("refused"), Phase.CONNECT, "firewall"),
            (TlsFailed("the certificate comes from an authority that is not trusted"), Phase.TLS, "relay_ca_file"),
            (TlsFailed("the certificate is not valid yet (is a clock wrong?)"), Phase.TLS, "clock"),
            (TlsFailed("the certificate has expired"), Phase.TLS, "clock"),
        ):
            event = self.failing(problem)
            self.assertEqual((event["relay"], event["phase"]), ("https://relay:8443", str(phase)))
            self.assertIn(problem.args[0], event["problem"])
            self.assertIn(remedy, event["remedy"])

    def test_a_fault_of_ours_is_logged_and_tried_again(self) -> None:
        """It never ends the program."""
        with recorded(Dialling) as events:
            self.dialling.start()
            self.connector.attempts[0].result.errback(KeyError("x"))
        self.assertEqual(events[0]["log_failure"].type, KeyError)
        self.clock.advance(0)
        self.assertEqual(len(self.connector.attempts), 2)

    def test_a_relay_that_refuses_is_not_hurried(self) -> None:
        """R10: revoked or unknown connectors come back less and less often."""
        self.dialling = Dialling("https://relay:8443", self.connector, self.clock, lambda: 1.0)
        with recorded(Dialling):
            self.dialling.start()
            for wait in (1, 2, 4, 8, 16):
                self.connector.attempts[-1].result.callback(self.connector.attempts[-1].carrier)
                count = len(self.connector.attempts)
                self.connector.attempts[-1].lose(1006, "upgrade failed (403 - Forbidden)")
                self.clock.advance(wait - 0.1)
                self.assertEqual(len(self.connector.attempts), count)
                self.clock.advance(0.2)
                self.assertEqual(len(self.connector.attempts), count + 1)


class Crowd:
    """Many connectors' diallings and one relay, which is there or not.

    :ivar came: when somebody tried, in seconds; *welcomed* when somebody got in.
    """

    def __init__(self, size: int) -> None:
        self.clock = Clock()
        self.open = True
        self.came: list[float] = []
        self.welcomed: list[float] = []
        chance = Random(1).random
        self.diallings = [Dialling("https://relay:8443", self, self.clock, chance) for _ in range(size)]
        with recorded(Dialling):
            for dialling in self.diallings:
                dialling.start()
                self.clock.advance(0)
        self.came.clear()
        self.welcomed.clear()

    def make_channel(self, owner: Any) -> Channel:
        return Channel(self.clock, Connection(Side.CONNECTOR, clock=self.clock.seconds), owner)

    async def dial(self, channel: Channel) -> Any:
        self.came.append(self.clock.seconds())
        if not self.open:
            raise ConnectFailed("refused")
        self.clock.callLater(0, self.welcome, channel)
        return FakeCarrier()

    def welcome(self, channel: Channel) -> None:
        self.welcomed.append(self.clock.seconds())
        channel._owner.document_received(channel, WELCOME)

    def hello(self) -> dict[str, Any]:
        return {}

    def risen(self, dialling: Dialling) -> None:
        """Nothing hangs on it."""

    fallen = risen

    def wait(self, seconds: float, step: float = 0.05) -> None:
        with recorded(Dialling):
            self.clock.pump([step] * round(seconds / step))

    def busiest(self, seconds: float) -> int:
        """How many tried within the busiest so many seconds."""
        return max(sum(begin <= moment < begin + seconds for moment in self.came) for begin in set(self.came))


@pytest.mark.feature("CON-3")
class StormTests(SynchronousTestCase):
    """C32: five hundred connectors of two channels each, whose relay goes away and comes back."""

    def test_after_an_outage(self) -> None:
        """Five seconds after the relay's return all are back, never more than a fifth of them in a quarter second."""
        crowd = Crowd(1000)
        crowd.open = False
        with recorded(Dialling):
            for dialling in crowd.diallings:
                dialling.channel_lost(dialling.channel, 1006, "cut")  # type: ignore[arg-type]
        crowd.wait(20, 0.2)
        crowd.open = True
        crowd.came.clear()
        crowd.wait(5)
        self.assertTrue(all(dialling.is_up for dialling in crowd.diallings))
        self.assertEqual(len(crowd.came), 1000)
        self.assertLessEqual(crowd.busiest(0.25), 200)

    def test_while_the_relay_is_away(self) -> None:
        """The longer it lasts, the less they try: after half an hour twice a minute each."""
        crowd = Crowd(100)
        crowd.open = False
        with recorded(Dialling):
            for dialling in crowd.diallings:
                dialling.channel_lost(dialling.channel, 1006, "cut")  # type: ignore[arg-type]
        crowd.wait(1800, 2.0)
        crowd.came.clear()
        crowd.wait(300, 2.0)
        self.assertTrue(100 * 5 < len(crowd.came) < 100 * 5 * 3, len(crowd.came))

    def test_after_a_restart(self) -> None:
        """All were asked to stay away for the same half a second; they come back one by one all the same."""
        crowd = Crowd(1000)
        going = events.GoingAway(0, Code.NONE, 500, "the relay is stopping")
        with recorded(Dialling):
            for dialling in crowd.diallings:
                dialling.going_away(dialling.channel, going)  # type: ignore[arg-type]
        crowd.wait(0.4)
        self.assertEqual(crowd.came, [])
        crowd.wait(1.2)
        self.assertTrue(all(dialling.is_up for dialling in crowd.diallings))
        self.assertLessEqual(crowd.busiest(0.1), 200)
