"""Keeps one channel to one relay up: a state machine that dials, opens, waits and never gives up."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from automat import TypeMachineBuilder, pep614
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from appproxy.channel.carrier import CloseCode
from appproxy.channel.protocol import Channel
from appproxy.connector.backoff import Backoff
from appproxy.errors import Phase, ProtocolViolation
from appproxy.net.failures import DialFailed
from appproxy.wire import control, events

#: The WebSocket handshake and the welcome together.
WELCOME_SECONDS: Final = 10.0
#: A channel that stayed up so long was a good one: the next failure is the first again.
STEADY_SECONDS: Final = 30.0
#: What is in flight when the relay or we go away has so long; upgraded streams have the relay's longer limit.
DRAIN_SECONDS: Final = 30.0
LEAVE_SECONDS: Final = 600.0
#: A stopping connector with nothing in flight waits so long for the relay to close the channel.
FAREWELL_SECONDS: Final = 1.0

#: What to do about it, by phase.
REMEDIES: Final = {
    Phase.DNS: "check the name in connector.relays and this machine's name service",
    Phase.CONNECT: "check that the relay runs and that no firewall stops this machine from reaching it",
    Phase.TLS: "check connector.relays and relay_ca_file; nothing is sent over an unverified connection",
    Phase.CHANNEL: "see the relay's log",
}
_CLOCKS = "check the clock of this machine and of the relay"


@dataclass(frozen=True)
class Problem:
    """Why there is no channel.

    :ivar hopeless: the relay refused; trying again soon will not help.
    :ivar retry_after: seconds that the relay asked us to stay away.
    """

    phase: Phase
    text: str
    hopeless: bool = False
    retry_after: float = 0.0

    @property
    def remedy(self) -> str:
        """What an administrator can do."""
        if self.phase is Phase.TLS and ("not valid yet" in self.text or "expired" in self.text):
            return _CLOCKS
        return REMEDIES.get(self.phase, REMEDIES[Phase.CHANNEL])


class Inputs(Protocol):
    """What may happen to one channel's life."""

    def start(self) -> None:
        """Begin."""

    def due(self) -> None:
        """The wait is over."""

    def failed(self, problem: Problem) -> None:
        """No connection came of the attempt."""

    def connected(self) -> None:
        """There is a connection; the WebSocket is being opened."""

    def welcomed(self) -> None:
        """The relay said welcome."""

    def lost(self, problem: Problem) -> None:
        """The channel is gone."""

    def late(self) -> None:
        """The welcome did not come in time."""

    def leave(self, problem: Problem) -> None:
        """The relay takes no new streams on this channel."""

    def drained(self) -> None:
        """Nothing is in flight any more, or its time is up."""

    def stop(self) -> None:
        """End."""


class Core(Protocol):
    """What a life makes happen."""

    def dial(self) -> None:
        """Begin an attempt."""

    def wait(self, problem: Problem) -> None:
        """Rest before the next attempt."""

    def expect_welcome(self) -> None:
        """Give the relay its time."""

    def rise(self) -> None:
        """The channel carries streams."""

    def give_up_on(self) -> Problem:
        """Cut a channel that never became one."""

    def replace(self, problem: Problem) -> None:
        """Let the old channel finish by itself; make a new one."""

    def drain(self) -> None:
        """Tell the relay, and finish what is in flight."""

    def rest(self) -> None:
        """Cancel and close whatever there is."""


_builder = TypeMachineBuilder(Inputs, Core)  # type: ignore[type-abstract]
resting = _builder.state("resting")
dialling = _builder.state("dialling")
waiting = _builder.state("waiting")
opening = _builder.state("opening")
up = _builder.state("up")
draining = _builder.state("draining")


@pep614(waiting.upon(Inputs.due).to(dialling))
@pep614(resting.upon(Inputs.start).to(dialling))
def _dial(_: Inputs, core: Core) -> None:
    core.dial()


@pep614(up.upon(Inputs.lost).to(waiting))
@pep614(opening.upon(Inputs.lost).to(waiting))
@pep614(dialling.upon(Inputs.failed).to(waiting))
def _wait(_: Inputs, core: Core, problem: Problem) -> None:
    core.wait(problem)


@pep614(dialling.upon(Inputs.connected).to(opening))
def _expect_welcome(_: Inputs, core: Core) -> None:
    core.expect_welcome()


@pep614(opening.upon(Inputs.welcomed).to(up))
def _rise(_: Inputs, core: Core) -> None:
    core.rise()


@pep614(opening.upon(Inputs.late).to(waiting))
def _late(_: Inputs, core: Core) -> None:
    core.wait(core.give_up_on())


@pep614(up.upon(Inputs.leave).to(waiting))
@pep614(opening.upon(Inputs.leave).to(waiting))
def _replace(_: Inputs, core: Core, problem: Problem) -> None:
    core.replace(problem)


@pep614(up.upon(Inputs.stop).to(draining))
def _drain(_: Inputs, core: Core) -> None:
    core.drain()


@pep614(draining.upon(Inputs.drained).to(resting))
@pep614(waiting.upon(Inputs.stop).to(resting))
@pep614(dialling.upon(Inputs.stop).to(resting))
@pep614(opening.upon(Inputs.stop).to(resting))
def _rest(_: Inputs, core: Core) -> None:
    core.rest()


@pep614(draining.upon(Inputs.lost).to(resting))
def _lost_draining(_: Inputs, core: Core, problem: Problem) -> None:
    core.rest()


resting.upon(Inputs.stop).loop().returns(None)
draining.upon(Inputs.stop).loop().returns(None)
draining.upon(Inputs.leave).loop().returns(None)
up.upon(Inputs.welcomed).loop().returns(None)

make_life: Callable[[Core], Inputs] = _builder.build()


class Owner(Protocol):
    """What one dialling needs of the connector."""

    def make_channel(self, owner: Any) -> Channel:
        """A channel that is not connected yet."""

    def dial(self, channel: Channel) -> Coroutine[Deferred[Any], Any, Any]:
        """Connect it to the relay; returns its carrier."""

    def hello(self) -> dict[str, Any]:
        """The document that says who we are."""

    def risen(self, dialling: Dialling) -> None:
        """A channel was welcomed."""

    def fallen(self, dialling: Dialling) -> None:
        """A channel that was up is up no more."""

    def told(self, dialling: Dialling, channel: Channel, document: control.AnyDocument) -> None:
        """The relay told something else."""


class Dialling:
    """One channel to one relay, again and again.

    :param relay: the relay's address, for logs.
    :param owner: makes channels, dials, and hears of them.
    :ivar channel: the present one, connected or not.
    :ivar is_up: whether it carries streams.
    """

    log = Logger()

    def __init__(
        self, relay: str, owner: Owner, clock: Any, random: Callable[[], float], backoff: Backoff | None = None
    ) -> None:
        self.relay = relay
        self.channel: Channel | None = None
        self.is_up = False
        self._owner = owner
        self._clock = clock
        self._random = random
        self._backoff = backoff or Backoff()
        self._timer: Any = None
        self._attempt: Deferred[Any] | None = None
        self._carrier: Any = None
        self._failures = 0
        self._outage_since: float | None = None
        self._up_since = 0.0
        self._stopped: list[Deferred[None]] = []
        self._leaving: dict[Channel, Any] = {}
        self._life = make_life(self)

    def __repr__(self) -> str:
        return f"<Dialling {self.relay} {'up' if self.is_up else 'down'}, {self._failures} failures>"

    def start(self) -> None:
        """Begin to keep a channel up."""
        self._life.start()

    def stop(self) -> Deferred[None]:
        """Drain and close; fires when nothing is left."""
        done: Deferred[None] = Deferred()
        self._stopped.append(done)
        self._life.stop()
        self._settle()
        return done

    # Core

    def dial(self) -> None:
        """Core: begin an attempt."""
        if self._outage_since is None:
            self._outage_since = self._clock.seconds()
        self.channel = self._owner.make_channel(self)
        self._attempt = attempt = Deferred.fromCoroutine(self._owner.dial(self.channel))
        attempt.addCallbacks(self._connected, self._failed)

    def _connected(self, carrier: Any) -> None:
        self._carrier = carrier
        self._life.connected()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if isinstance(failure.value, DialFailed):
            problem = Problem(failure.value.phase, failure.value.detail)
        else:
            self.log.failure("dialling {relay} failed", failure, event="connector.dial-failed", relay=self.relay)
            problem = Problem(Phase.CONNECT, failure.getErrorMessage())
        self._life.failed(problem)

    def wait(self, problem: Problem) -> None:
        """Core: rest before the next attempt, and say why."""
        was_up, now = self.is_up, self._clock.seconds()
        self._fall()
        if was_up and now - self._up_since >= STEADY_SECONDS:
            self._failures = 0
        if was_up or self._outage_since is None:
            self._outage_since = now
        # What the relay asks for comes on top: all connectors were asked for the same, and must not come back as one.
        delay = problem.retry_after + self._backoff.delay(
            self._failures, now - self._outage_since, self._random, hopeless=problem.hopeless
        )
        self._failures += 1
        self._timer = self._clock.callLater(delay, self._life.due)
        self.log.warn(
            "no channel to {relay}: {phase}: {problem}; {remedy}; next attempt in {delay} s",
            event="connector.channel-down",
            relay=self.relay,
            phase=str(problem.phase),
            problem=problem.text,
            remedy=problem.remedy,
            delay=round(delay, 1),
            failures=self._failures,
        )

    def expect_welcome(self) -> None:
        """Core: give the relay its time."""
        self._timer = self._clock.callLater(WELCOME_SECONDS, self._life.late)

    def rise(self) -> None:
        """Core: the channel carries streams."""
        self._cancel_timer()
        self.is_up = True
        self._up_since = self._clock.seconds()
        self._outage_since = None
        self.log.info("channel to {relay} is up", event="connector.channel-up", relay=self.relay)
        self._owner.risen(self)

    def give_up_on(self) -> Problem:
        """Core: cut a channel whose welcome did not come."""
        carrier = self._carrier
        self._fall()
        if carrier is not None:
            carrier.abort()
        return Problem(Phase.CHANNEL, f"no welcome within {WELCOME_SECONDS:g} s")

    def replace(self, problem: Problem) -> None:
        """Core: the relay sends us away: a new channel first, while the old one finishes what is in flight."""
        channel = self.channel
        assert channel is not None
        self._leaving[channel] = self._clock.callLater(LEAVE_SECONDS, channel.close, CloseCode.GOING_AWAY, "time is up")
        channel.when_idle(lambda: channel.close(CloseCode.GOING_AWAY, "finished"))
        self.wait(problem)

    def drain(self) -> None:
        """Core: ask the relay for no more, and finish what is in flight."""
        channel = self.channel
        assert channel is not None
        document = {"type": "drain", "reason": "the connector is stopping", "within_seconds": DRAIN_SECONDS}
        channel.control(document)
        self._timer = self._clock.callLater(DRAIN_SECONDS, self._life.drained)

        def finished() -> None:
            if self.channel is channel:
                self._life.drained()

        # The relay closes when nothing is in flight; only a silent one needs our word.
        channel.when_idle(lambda: self._clock.callLater(FAREWELL_SECONDS, channel.when_idle, finished))

    def rest(self) -> None:
        """Core: cancel and close whatever there is."""
        self._cancel_timer()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
        channel, carrier = self.channel, self._carrier
        self._fall()
        if channel is not None and channel.carrier is not None:
            channel.close(CloseCode.GOING_AWAY, "the connector is stopping")
        elif carrier is not None:
            carrier.abort()
        for leaving in list(self._leaving):
            leaving.close(CloseCode.GOING_AWAY, "the connector is stopping")
        self._settle(force=True)

    def _settle(self, force: bool = False) -> None:
        if force or (self.channel is None and self._timer is None and self._attempt is None):
            stopped, self._stopped = self._stopped, []
            for done in stopped:
                done.callback(None)

    def _fall(self) -> None:
        """There is no channel any more."""
        self._cancel_timer()
        self.channel = self._carrier = self._attempt = None
        if self.is_up:
            self.is_up = False
            self._owner.fallen(self)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # channel.protocol.Owner

    def channel_opened(self, channel: Channel) -> None:
        """The WebSocket is open: say who we are."""
        channel.peer = self.relay
        channel.control(self._owner.hello())

    def document_received(self, channel: Channel, document: dict[str, Any]) -> None:
        """The relay told something."""
        try:
            said = control.parse(document)
        except ProtocolViolation as violation:
            channel.close(CloseCode.PROTOCOL, violation.text)
            return
        if isinstance(said, control.Welcome):
            if channel is self.channel:
                self._life.welcomed()
        elif isinstance(said, control.Drain):
            if channel is self.channel:
                self._life.leave(Problem(Phase.CHANNEL, f"the relay asks us to leave: {said.reason}"))
        elif said is not None:
            self._owner.told(self, channel, said)

    def going_away(self, channel: Channel, event: events.GoingAway) -> None:
        """The relay opens no more streams here."""
        if channel is self.channel:
            text = f"the relay is going away: {event.text or event.code}"
            self._life.leave(Problem(Phase.CHANNEL, text, retry_after=event.retry_after_ms / 1000))

    def channel_lost(self, channel: Channel, code: int, reason: str) -> None:
        """The channel is gone."""
        timer = self._leaving.pop(channel, None)
        if timer is not None and timer.active():
            timer.cancel()
        if channel is self.channel:
            refused = code == CloseCode.POLICY or "(403" in reason
            text = reason or ("closed" if code != 1006 else "the connection was lost")
            self._life.lost(Problem(Phase.CHANNEL, f"{text} ({code})", hopeless=refused))
