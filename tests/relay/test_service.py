"""The relay, assembled: on real sockets in this process, with a state folder of its own."""

from __future__ import annotations

import gc
import http.client
import json
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from appproxy import tuning
from appproxy.config import read_relay
from appproxy.identity import Identity
from appproxy.relay.connectors.attachments import Attachment
from appproxy.relay.service import RelayService, epoch, new_request_id
from appproxy.store import applications, connectors, feed
from appproxy.store.feed import FeedCutOff
from appproxy.store.interface import StoreUnavailable
from appproxy.store.records import ConnectorRecord, SessionRecord
from tests.logged_failures import LoggedFailures

pytestmark = pytest.mark.live

OPEN = {
    "id": "open",
    "external_url": "https://open.example.com/",
    "internal_url": "http://inside/",
    "connector_group": "hq",
    "preauthentication": "passthrough",
}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def secure_connection(port: int) -> http.client.HTTPSConnection:
    """HTTPS to a port of this machine; the development certificate is not what is shown here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **fields: str
) -> tuple[int, dict[str, str], bytes]:
    """One request, blocking; to be called in a thread."""
    sent = None if body is None else json.dumps(body)
    more = {"Content-Type": "application/json"} if sent else {}
    try:
        connection.request(method, path, sent, {**more, **fields})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


class Place:
    """A folder to run relays in.

    :ivar problems: what relays said that gave up.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []

    def service(self, clients: int = 0, state: str = "state") -> RelayService:
        """A relay that has not started."""
        config = self.folder / f"{state}-{clients}.toml"
        config.write_text(
            f'[relay]\npublic_url = "https://proxy.example.com"\nstate_dir = "{self.folder / state}"\nnode = "n-1"\n'
            f'[listen]\nclients = ["tls:{clients}:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"]\n'
            'connectors = "tls:0:interface=127.0.0.1"\nconnect_url = "https://connect.example.com"\n'
            f'[logging]\nfile = "{self.folder}/events.log"\naccess_log = "{self.folder}/access.log"\n'
        )
        service = RelayService(reactor, read_relay(config, {}))
        service.setServiceParent(Application("relay"))
        return service

    async def started(self, **settings: Any) -> RelayService:
        """A relay that has started, or has given up."""
        service = self.service(**settings)
        service.startService()
        await self.until(lambda: len(service._tasks) == 0)
        return service

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the reactor turn until it is so."""
        for _ in range(1000):
            if condition():
                return
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        raise AssertionError("it did not come to that within 10 s")

    def fetch(self, connection: http.client.HTTPConnection, *what: Any, **fields: str) -> Deferred[Any]:
        """A request from another thread."""
        return deferToThread(ask, connection, *what, **fields)

    def admin(self, service: RelayService) -> UnixConnection:
        assert service.config.listen.admin is not None
        return UnixConnection(Path(service.config.listen.admin.path))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder of its own; what ends or tunes a whole process is kept from this one."""
    made = Place(tmp_path)
    monkeypatch.setattr(tuning, "give_up", lambda _, program, problem: made.problems.append(f"{program}: {problem}"))
    monkeypatch.setattr(tuning, "settle", gc.collect)
    before = signal.getsignal(signal.SIGHUP)
    yield made
    signal.signal(signal.SIGHUP, before)


@pytest_twisted.ensureDeferred
async def test_starts_serves_and_stops(place: Place) -> None:
    """From an empty folder: clients, connectors and the administrator are answered; then all is closed."""
    service = await place.started()
    assert place.problems == []
    clients, plain, connectors, _ = service._listening
    status, fields, _ = await place.fetch(secure_connection(clients.port), "GET", "/", Host="nowhere.example.com")
    assert status == 404
    assert "strict-transport-security" in fields
    status, _, _ = await place.fetch(secure_connection(clients.port), "GET", "/", Host="proxy.example.com")
    assert status in (200, 302, 401, 404, 503)
    reserved = "/.appproxy/nothing"
    status, _, _ = await place.fetch(secure_connection(clients.port), "GET", reserved, Host="proxy.example.com")
    assert status == 404
    status, _, _ = await place.fetch(secure_connection(clients.port), "GET", "/%00", Host="proxy.example.com")
    assert status == 400
    status, _, _ = await place.fetch(secure_connection(connectors.port), "GET", "/", Host="connect.example.com")
    assert status == 404
    status, _, body = await place.fetch(place.admin(service), "GET", "/v1/status")
    assert status == 200, body
    await service.stopService()
    for listening in (clients, plain, connectors):
        with pytest.raises(OSError):  # noqa: PT011
            socket.create_connection(("127.0.0.1", listening.port), 1).close()
    assert "nowhere.example.com" in (place.folder / "access.log").read_text()


@pytest.mark.feature("PUB-10")
@pytest_twisted.ensureDeferred
async def test_what_is_applied_is_in_force_at_once(place: Place) -> None:
    """An application put by the administrator is served from then on, and no longer when it is gone."""
    service = await place.started()
    clients, plain = service._listening[:2]
    document = {"connector_group": [{"name": "hq"}], "application": [OPEN]}
    status, _, body = await place.fetch(place.admin(service), "POST", "/v1/apply", document)
    assert status == 200, body
    await place.until(lambda: service._gateway.catalog.knows_host("open.example.com"))
    assert service._publishes("open.example.com")
    status, _, body = await place.fetch(secure_connection(clients.port), "GET", "/x", Host="open.example.com")
    assert status == 503
    assert b"no-connector" in body
    connection = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=10)
    status, fields, _ = await place.fetch(connection, "GET", "/x?y", Host="open.example.com")
    assert (status, fields["location"]) == (308, "https://open.example.com/x?y")
    status, _, _ = await place.fetch(place.admin(service), "DELETE", "/v1/applications/open")
    assert status in (200, 204)
    await place.until(lambda: not service._gateway.catalog.knows_host("open.example.com"))
    await service.stopService()


@pytest.mark.feature("CON-2")
@pytest_twisted.ensureDeferred
async def test_a_channel_without_a_certificate(place: Place) -> None:
    """R10: a WebSocket at the connectors' door without a connector's certificate is denied with a reason."""
    service = await place.started()
    status, _, _ = await place.fetch(
        secure_connection(service._listening[2].port), "GET", "/.appproxy/channel", Host="connect.example.com",
        Upgrade="websocket", Connection="Upgrade",
        **{
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "appproxy.channel.v1",
        },
    )  # fmt: skip
    assert status == 403
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_failure_inside_the_door(
    place: Place, monkeypatch: pytest.MonkeyPatch, logged_failures: LoggedFailures
) -> None:
    """What fails unexpectedly behind the connectors' door is 500, without its text, and is logged."""
    service = await place.started()

    async def broken(_exchange: Any) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(service._enrolment, "respond", broken)
    status, _, body = await place.fetch(
        secure_connection(service._listening[2].port), "POST", "/.appproxy/enrol", {}, Host="connect.example.com"
    )
    assert status == 500
    assert b"secret" not in body
    assert len(logged_failures.flush(RuntimeError)) == 1
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_second_relay_of_the_same_name(place: Place) -> None:
    """A second process with the same state folder says so in one line and gives up; the first goes on."""
    first = await place.started()
    second = await place.started()
    (line,) = place.problems
    assert line.startswith('appproxy-relay: relay.node: another relay with the name "n-1"'), line
    assert "\n" not in line
    await second.stopService()
    status, _, _ = await place.fetch(place.admin(first), "GET", "/v1/status")
    assert status == 200
    await first.stopService()


@pytest_twisted.ensureDeferred
async def test_started_again(place: Place) -> None:
    """After a stop the same folder serves again, under the same name and authority."""
    first = await place.started()
    await first.stopService()
    authority = {path.name: path.read_bytes() for path in (place.folder / "state").glob("*.pem")}
    second = await place.started()
    assert place.problems == []
    assert authority == {path.name: path.read_bytes() for path in (place.folder / "state").glob("*.pem")}
    await second.stopService()


@pytest_twisted.ensureDeferred
async def test_a_taken_port(place: Place) -> None:
    """A port that somebody else has is named in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = await place.started(clients=port)
    (line,) = place.problems
    assert str(port) in line
    assert "listen.clients" in line
    assert "\n" not in line
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_an_unexpected_failure(
    place: Place, monkeypatch: pytest.MonkeyPatch, logged_failures: LoggedFailures
) -> None:
    """What nobody foresaw is one line too, and a traceback in the log."""
    service = place.service()

    async def broken() -> None:
        raise RuntimeError("what nobody foresaw")

    monkeypatch.setattr(service._name, "take", broken)
    service.startService()
    await place.until(lambda: len(service._tasks) == 0)
    assert place.problems == ["appproxy-relay: could not start; the log has the traceback"]
    assert len(logged_failures.flush(RuntimeError)) == 1
    await service.stopService()


@pytest.mark.feature("OPS-2")
@pytest_twisted.ensureDeferred
async def test_reload(place: Place) -> None:
    """SIGHUP opens the logs anew, so that they can be rotated."""
    service = await place.started()
    access = place.folder / "access.log"
    access.rename(place.folder / "access.log.1")
    os.kill(os.getpid(), signal.SIGHUP)
    await place.until(access.exists)
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_the_store_is_away_for_a_while(place: Place) -> None:
    """A lease or a change that cannot be read now is left for later; the relay goes on."""
    service = await place.started()

    def away(*_: Any) -> Any:
        raise StoreUnavailable

    with_store = service._store.read, service._store.write
    service._store.read = service._store.write = away  # type: ignore[method-assign]
    await service._name.renew()
    await service._following.follow()
    service._store.read, service._store.write = with_store  # type: ignore[method-assign]
    await service._following.follow()
    service._sweep()
    await service.stopService()


@pytest.mark.feature("CON-5")
@pytest_twisted.ensureDeferred
async def test_a_connector_is_moved(place: Place) -> None:
    """R14: what the administrator does to a connector is in force at once, and every connector is told anew."""
    service = await place.started()
    document = {"connector_group": [{"name": "hq"}, {"name": "lab"}], "application": [OPEN]}
    await place.fetch(place.admin(service), "POST", "/v1/apply", document)
    record = ConnectorRecord(id="c-1", name="hq-1", group="hq", serial="1", not_after=2**31, enrolled=1)
    await service._store.write(connectors.enrol, record)
    attachment = Attachment("c-1", "hq-1", "hq", boot="b", epoch=1, peer="p", since=0)
    service._attachments.add(attachment)
    await place.until(lambda: len(service._tasks) == 0)
    before = service._channels.version
    status, _, body = await place.fetch(place.admin(service), "POST", "/v1/connectors/c-1/move", {"group": "lab"})
    assert status == 200, body
    await place.until(lambda: service._channels.version > before)
    assert [each.group for each in service._attachments.of_group("lab")] == ["lab"]
    assert service._attachments.of_group("hq") == []
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_changes_while_changes_are_followed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """C26: a revocation that comes while the relay reads what is published is heard all the same."""
    service = await place.started()
    await service._store.write(
        connectors.enrol,
        ConnectorRecord(id="c-1", name="hq-1", group="hq", serial="1", not_after=2**31, enrolled=1),
    )
    await place.until(lambda: len(service._tasks) == 0)
    revoked: list[str] = []
    monkeypatch.setattr(service._channels, "revoked", revoked.append)
    read = service._store.read

    def read_later(function: Any, *more: Any) -> Any:
        if function in (applications.list_, feed.latest):
            service._store.write(connectors.revoke, "c-1", 1)
        return read(function, *more)

    service._store.read = read_later  # type: ignore[method-assign]
    await place.fetch(place.admin(service), "POST", "/v1/apply", {"connector_group": [{"name": "hq"}]})
    await place.fetch(
        place.admin(service), "POST", "/v1/apply", {"connector_group": [{"name": "hq"}], "application": [OPEN]}
    )
    await place.until(lambda: "c-1" in revoked)
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_changes_that_were_missed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the feed no longer has all that happened, everything is read anew."""
    service = await place.started()
    handle = b"h" * 43
    now = epoch()
    known = SessionRecord(
        handle_hash=b"hash", host="hr.example.com", provider="idp", identity=Identity("i", "s", "bob"), created=now,
        last_seen=now, idle_seconds=3600, until=now + 3600,
    )  # fmt: skip
    heard: list[tuple[str, bool]] = []

    def revoked(connector: str) -> None:
        heard.append((connector, service._sessions.peek(handle) is not None))

    monkeypatch.setattr(service._channels, "revoked", revoked)
    record = ConnectorRecord(id="c-1", name="hq-1", group="hq", serial="1", not_after=2**31, enrolled=1)
    await service._store.write(connectors.enrol, record)
    await service._store.write(connectors.revoke, "c-1", 1)
    await place.until(lambda: bool(heard) and len(service._tasks) == 0)
    heard.clear()
    service._sessions.remember(handle, known)
    assert service._sessions.peek(handle) is not None

    def cut_off(*_: Any) -> Any:
        raise FeedCutOff(1)

    read = service._store.read
    service._store.read = lambda function, *more: (  # type: ignore[method-assign]
        cut_off() if function.__name__ == "since" else read(function, *more)
    )
    await service._following.follow()
    assert heard[0] == ("c-1", False)  # and perhaps once more, as the store has just told of the revocation
    await service.stopService()


def test_request_ids() -> None:
    """No two requests have the same id."""
    assert len({new_request_id() for _ in range(1000)}) == 1000
