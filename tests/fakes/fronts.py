"""A front on an in-memory socket, with a gateway behind it and a connector's end of a channel to answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from appproxy.applications import Application, Assigned
from appproxy.errors import AppproxyError
from appproxy.identity import Identity
from appproxy.relay.catalog import Catalog
from appproxy.relay.connectors.attachments import Attachment, Attachments
from appproxy.relay.front.http1 import Front, FrontSettings
from appproxy.relay.front.patience import Patience
from appproxy.relay.gateway import Gateway
from appproxy.relay.people.sessions import Session
from appproxy.store.records import SessionRecord
from appproxy.tasks import Tasks
from tests.fakes.channels import Pair


class FakeSocket:
    """The transport of one client; keeps what was written and how it was treated."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.half_closed = False
        self.disconnecting = False
        self.aborted = False
        self.producer: Any = None
        self.protocol: Any = None

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 50000)

    def getPeerCertificateDER(self) -> bytes | None:
        return None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written += data

    @property
    def paused(self) -> bool:
        return not self.reading

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def loseConnection(self) -> None:
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True

    def take(self) -> bytes:
        """What was written since the last time."""
        data, self.written = self.written, b""
        return data

    def lose(self, reason: Exception | None = None) -> None:
        """The client goes away."""
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))


def make_session(identity: Identity) -> Session:
    """The session of a signed-in user."""
    record = SessionRecord(
        handle_hash=b"hash", host="hr.example.com", provider="idp", identity=identity, created=0, last_seen=0,
        idle_seconds=3600, until=86400,
    )  # fmt: skip
    return Session(b"handle", record, now=0.0, epoch=0)


class NoPrograms:
    """Knows no program."""

    async def identify(self, exchange: Any, published: Any) -> Any:
        return None

    def describe(self, exchange: Any, published: Any) -> None:
        exchange.answer(200, [], published.id.encode())


class FakePreauth:
    """Knows the users whose name stands in the session cookie."""

    def __init__(self) -> None:
        self.session: Session | None = make_session(Identity("iss", "sub", "alice", ("staff",)))

    def peek(self, exchange: Any, application: Any) -> Any:
        return self.session if b"__Host-appproxy-session" in exchange.reserved else None

    async def identify(self, exchange: Any, application: Any) -> Any:
        return None

    async def step_up(self, exchange: Any, published: Any, step_up: Any) -> None:
        exchange.answer(302, [(b"Location", b"/again")])

    async def challenge(self, exchange: Any, published: Any) -> None:
        exchange.answer(401, [(b"WWW-Authenticate", b"Bearer")], b"who?")


APPLICATIONS = (
    Application(
        id="hr",
        external_url="https://hr.example.com/",
        internal_url="http://hr.corp.local:8080/",
        connector_group="hq",
        assigned=Assigned(users=("alice",)),
    ),
    Application(
        id="open",
        external_url="https://open.example.com/",
        internal_url="http://open.corp.local/",
        connector_group="hq",
        preauthentication="passthrough",
    ),
    Application(
        id="locked",
        external_url="https://locked.example.com/",
        internal_url="http://locked.corp.local/",
        connector_group="hq",
    ),
)


class Bench:
    """A relay without sockets: :meth:`client` connects one more client."""

    def __init__(self, applications: Iterable[Application] = APPLICATIONS, pair: Pair | None = None) -> None:
        self.pair = pair or Pair()
        self.clock = self.pair.clock
        self.records: list[tuple[Any, ...]] = []
        self.attachments = Attachments()
        attachment = Attachment("c-1", "hq-1", "hq", boot="b", epoch=1, peer="p", since=0)
        attachment.channels.append(self.pair.relay)
        self.attachments.add(attachment)
        self.preauth = FakePreauth()
        self.tasks = Tasks()
        self.gateway = Gateway(
            host="proxy.example.com",
            attachments=self.attachments,
            preauth=self.preauth,
            programs=NoPrograms(),
            own=self._own,
            fail=self._fail,
            record=lambda *record: self.records.append(record),
        )
        self.gateway.catalog = Catalog(applications)
        count = iter(range(1, 1_000_000))
        self.settings = FrontSettings(
            responder=self.gateway.respond,
            refused=lambda bad, client: ([], bad.detail.encode()),
            spawn=self.tasks.spawn,
            seconds=self.clock.seconds,
            new_id=lambda: f"id-{next(count)}",
            secure=True,
            patience=Patience(),
            soon=lambda call: self.clock.callLater(0, call),
        )

    async def _own(self, exchange: Any, published: Any) -> None:
        body = await exchange.read_body(1000)
        exchange.answer(200, [], b"own " + body)

    def _fail(self, exchange: Any, failure: AppproxyError, fields: Any = ()) -> None:
        exchange.answer(failure.status, fields, f"{failure.code} {failure.side} {failure.phase}".encode())

    def client(self) -> FakeSocket:
        """Connect a client."""
        socket, front = FakeSocket(), Front(self.settings)
        socket.protocol = front
        front.makeConnection(socket)  # type: ignore[arg-type]
        return socket

    def sends(self, socket: FakeSocket, data: bytes) -> None:
        """The client sends; everything then comes to rest."""
        socket.protocol.dataReceived(data)
        self.pair.run(300)

    def aborted(self, socket: FakeSocket) -> None:
        """What a real transport tells after an abort."""
        socket.lose(ConnectionAborted())


COOKIE = b"Cookie: __Host-appproxy-session=handle; theme=dark\r\n"


def get(host: bytes = b"hr.example.com", path: bytes = b"/", more: bytes = COOKIE) -> bytes:
    """A browser's GET."""
    return b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + more + b"\r\n"
