"""Two worlds for the same conversation: the client at the origin itself, and with relay and connector in between.

All in one process and in memory, on a virtual clock; octets are moved by :meth:`play` until nothing moves any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

from appproxy.applications import Application, to_document
from tests.connector.rig import OriginSocket, Rig
from tests.fakes.fronts import Bench, FakeSocket
from tests.joined.exchanges import Await, Close, Conversation, Say, Step
from tests.joined.reading import Message, MessageReader

#: Host outside and inside are the same here, so that nothing needs translation.
APPLICATION = Application(
    id="app",
    external_url="https://app.example.com/",
    internal_url="http://app.example.com/",
    connector_group="hq",
    preauthentication="passthrough",
)


class Seen:
    """What became of a conversation.

    :ivar asked: the requests as the origin read them; *answered*: the answers as the client did.
    :ivar closed: the client's connection was closed; *cut*: by breaking it off.
    """

    def __init__(self, asked: MessageReader | list[Message], answered: MessageReader) -> None:
        self.asked = asked if isinstance(asked, list) else asked.messages
        self.answered = answered.messages
        self.interim = answered.interim
        self.closed = False
        self.cut = False


def sliced(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """*data* in the given sizes, over and over."""
    if not sizes:
        yield data
        return
    for size in cycle(sizes):
        if not data:
            return
        yield data[:size]
        data = data[size:]


class Player:
    """Plays one side: says what its script says as soon as what it awaits has come."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        #: Octets that are said and not yet delivered.
        self.saying: deque[bytes] = deque()
        self.closing = self.cutting = False

    def step(self, steps: deque[Step]) -> bool:
        """Do the next steps; whether any could be done."""
        done = False
        while steps and self.reached(steps[0]):
            step = steps.popleft()
            done = True
            if isinstance(step, Say):
                self.saying.extend(sliced(step.octets, self.sizes))
            elif isinstance(step, Close):
                self.closing, self.cutting = True, step.cut
        return done

    def reached(self, step: Step) -> bool:
        """Whether what *step* awaits has come."""
        raise NotImplementedError


class ClientPlayer(Player):
    """The client."""

    def __init__(self, talk: Conversation) -> None:
        super().__init__(talk.up)
        self.reader = MessageReader(deque(talk.methods))
        self._steps = deque(talk.client)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do or to await."""
        return not self._steps

    def advance(self) -> bool:
        """Go on."""
        return self.step(self._steps)

    def reached(self, step: Step) -> bool:
        """What of the answers has come."""
        if not isinstance(step, Await):
            return True
        answers = self.reader.messages
        match step.what:
            case "interim":
                return sum(len(each.interim) for each in answers) + len(self.reader.interim) >= step.count
            case "head":
                return len(answers) >= step.count
            case "body":
                return sum(len(each.body) for each in answers) >= step.count
        return sum(each.complete for each in answers) >= step.count


class OriginPlayer(Player):
    """One connection of the origin, which takes the script of each request from those that are left."""

    def __init__(self, scripts: deque[Sequence[Step]], asked: list[Message], sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self._scripts = scripts
        self._asked = asked
        self._reader = MessageReader()
        self._steps: deque[Step] = deque()
        self._request: Message | None = None
        self._served = 0

    def begin(self, asked: list[Message], sizes: Sequence[int]) -> None:
        """Another conversation on a kept connection."""
        self._asked, self.sizes = asked, sizes

    def received(self, data: bytes) -> None:
        """The client, or a connector, sent something."""
        self._reader.feed(data)

    def advance(self) -> bool:
        """Go on with this request, or begin with the next."""
        done = False
        while True:
            done = self.step(self._steps) or done
            messages = self._reader.messages
            over = not self._steps and (self._request is None or self._request.complete)
            if not over or len(messages) == self._served or not self._scripts:
                return done
            self._request = messages[self._served]
            self._asked.append(self._request)
            self._served += 1
            self._steps = deque(self._scripts.popleft())
            done = True

    def reached(self, step: Step) -> bool:
        """What of the request has come."""
        request = self._request
        if request is None:
            return False
        if isinstance(step, Await):
            match step.what:
                case "body":
                    return len(request.body) >= step.count
                case "end":
                    return request.complete
        return True


def direct(talk: Conversation) -> Seen:
    """The client speaks with the origin itself."""
    asked: list[Message] = []
    client, origin = ClientPlayer(talk), OriginPlayer(deque(talk.origin), asked, talk.down)
    seen = Seen(asked, client.reader)
    moved = True
    while moved and not client.closing:
        moved = client.advance()
        while client.saying:
            origin.received(client.saying.popleft())
            moved = True
        moved = origin.advance() or moved
        while origin.saying:
            client.reader.feed(origin.saying.popleft())
            moved = True
        if origin.closing and not seen.closed:
            client.reader.close()
            seen.closed, seen.cut = True, origin.cutting
    return seen


class PlayedSocket(OriginSocket):
    """A connection between connector and origin, with the origin's player at its end."""

    def __init__(self, address: tuple[str, int], protocol: Any, player: OriginPlayer) -> None:
        super().__init__(address, protocol)
        self.player = player

    def move(self) -> bool:
        """Deliver both ways what can be delivered; whether there was anything."""
        if not self.open:
            if self.closing and not self.lost and not self.aborted:
                self.lose()
            return False
        heard = self.take()
        if heard:
            self.player.received(heard)
        moved = self.player.advance() or bool(heard)
        while self.player.saying and not self.paused and self.open:
            self.say(self.player.saying.popleft())
            moved = True
        if self.player.closing and not self.player.saying and not self.paused and self.open:
            if not self.player.cutting:
                self.end()
            self.lose(clean=not self.player.cutting)
            moved = True
        return moved


class Proxied(Rig):
    """Relay and connector, joined.

    :ivar asked: the requests as the origin read them.
    """

    def __init__(self, *applications: Application) -> None:
        published = applications or (APPLICATION,)
        self._talk: Conversation | None = None
        self._scripts: deque[Sequence[Step]] = deque()
        self.asked: list[Message] = []
        super().__init__(*map(to_document, published))
        assert not self.refused, self.refused
        self.bench = Bench(published, pair=self.pair)

    async def dial(self, host: str, port: int, factory: Any, tls: Any, seconds: float) -> Any:
        """Connect to the origin."""
        assert self._talk is not None
        protocol = factory(None)
        player = OriginPlayer(self._scripts, self.asked, self._talk.down)
        socket = PlayedSocket((host, port), protocol, player)
        self.sockets.append(socket)
        protocol.makeConnection(socket)
        return protocol

    def play(self, talk: Conversation) -> Seen:
        """One client, one conversation."""
        self._talk, self.asked = talk, []
        self._scripts.clear()
        self._scripts.extend(talk.origin)
        for kept in self.sockets:
            kept.player.begin(self.asked, talk.down)  # type: ignore[attr-defined]
        client, socket = ClientPlayer(talk), self.bench.client()
        moved = True
        while moved:
            moved = client.advance()
            while client.saying and socket.reading and not _is_over(socket):
                socket.protocol.dataReceived(client.saying.popleft())
                moved = True
            self.pair.run(20_000)
            for each in self.sockets:
                moved = each.move() or moved  # type: ignore[attr-defined]
            self.sockets = [each for each in self.sockets if each.open]
            moved = moved or bool(client.saying and socket.reading and not _is_over(socket))
            if written := socket.take():
                client.reader.feed(written)
                moved = True
            if client.closing:
                break
        seen = Seen(self.asked, client.reader)
        seen.closed, seen.cut = _is_over(socket), socket.aborted
        if seen.closed:
            client.reader.close()
        if not seen.cut:
            socket.lose()
        self.pair.run(20_000)
        return seen


def _is_over(socket: FakeSocket) -> bool:
    return socket.aborted or socket.disconnecting
