"""Connections that belong to one client: whoever signs in on one is nobody else, and goes with it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector import reservations
from appproxy.net.failures import ConnectFailed
from appproxy.wire.frames import Code
from tests.connector.rig import HR, Asking, OriginSocket, Rig

PINNED = {**HR, "sso": {"mode": "none"}, "origin": {"pinned": True}}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHALLENGE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM TlRMTVNTUAACAAAA\r\nContent-Length: 6\r\n\r\nwho is"
GIB = (b"Content-Length", b"1073741824")


class ReservationTestCase(SynchronousTestCase):
    """A connector of one application whose connections are not shared."""

    def setUp(self) -> None:
        self.rig = Rig(PINNED)

    @property
    def sockets(self) -> list[OriginSocket]:
        return self.rig.sockets

    def ask(self, affinity: str, target: bytes = b"/", *fields: tuple[bytes, bytes], **how: Any) -> Asking:
        return self.rig.ask(target, *fields, affinity=affinity, **how)

    def release(self, affinity: str) -> None:
        """The relay says that the client has gone."""
        self.rig.serving.reservations.release(self.rig.pair.connector, affinity)


@pytest.mark.feature("HTTP-7")
class OwnershipTests(ReservationTestCase):
    def test_each_client_connection_has_its_own(self) -> None:
        """W08, H07: requests of two clients that alternate never meet on a connection, idle or not."""
        for number in range(3):
            for affinity, index in (("alice", 0), ("bob", 1)):
                asking = self.ask(affinity, b"/%d" % number)
                socket = self.sockets[index]
                self.assertTrue(socket.take().startswith(b"GET /%d " % number))
                socket.say(OK)
                self.assertEqual(asking.status, 200)
        self.assertEqual(len(self.sockets), 2)

    def test_a_handshake_of_three_legs(self) -> None:
        """W08: challenge and answer to it travel on one connection, with others asking in between."""
        for credentials, answer, status in (
            (b"NTLM type-1", CHALLENGE, 401),
            (b"NTLM type-3", OK, 200),
        ):
            asking = self.ask("alice", b"/", (b"Authorization", credentials))
            self.ask("bob")
            self.assertIn(credentials, self.sockets[0].take())
            self.sockets[0].say(answer)
            self.assertEqual(asking.status, status)
            self.sockets[1].say(OK)
        self.assertNotIn(b"NTLM", self.sockets[1].take())

    def test_upgrade_after_a_handshake(self) -> None:
        """RD Gateway's clients sign in while they offer the upgrade: a 401 does not cost them their connection."""
        offer = (b"Upgrade", b"websocket")
        how: dict[str, Any] = {"method": b"RDG_OUT_DATA", "upgrade": True, "end": False}
        first = self.ask("a", b"/remoteDesktopGateway/", offer, **how)
        self.sockets[0].say(CHALLENGE)
        self.assertEqual(first.status, 401)
        first.send(b"", end=True)
        second = self.ask("a", b"/remoteDesktopGateway/", offer, **how)
        self.assertEqual(len(self.sockets), 1)
        self.sockets[0].say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        self.assertEqual((second.status, second.answer.data), (101, b"hi"))

    def test_never_lent_to_requests_without_affinity(self) -> None:
        """W08: what one client signed in on is not in the pool of the others."""
        self.rig = Rig(HR)
        mine = self.ask("alice")
        self.sockets[0].say(OK)
        others = self.rig.ask(b"/")
        self.assertEqual((mine.status, len(self.sockets)), (200, 2))
        self.sockets[1].say(OK)
        self.assertEqual(others.status, 200)
        self.rig.ask(b"/again")
        self.assertTrue(self.sockets[1].take().endswith(b"\r\n\r\n"))
        self.assertEqual(len(self.sockets), 2)

    def test_a_request_that_must_be_pinned_and_is_not(self) -> None:
        """H07: a relay that forgets to say whose connection it is gets nothing; no connection is shared by accident."""
        refused = self.rig.ask(b"/")
        self.assertEqual((refused.reset, self.sockets), (Code.PROTOCOL, []))
        self.rig = Rig(HR)
        for method in (b"RDG_IN_DATA", b"RDG_OUT_DATA", b"RPC_IN_DATA", b"RPC_OUT_DATA"):
            self.assertEqual(self.rig.ask(b"/", method=method).reset, Code.PROTOCOL)
        self.assertEqual(self.sockets, [])

    def test_requests_of_one_client_take_turns(self) -> None:
        """There is one connection, whatever a client (or a relay) sends at once."""
        first, second = self.ask("a", b"/1"), self.ask("a", b"/2")
        self.assertEqual(len(self.sockets), 1)
        self.sockets[0].say(OK)
        self.sockets[0].say(OK)
        self.assertEqual((first.status, second.status), (200, 200))
        self.assertEqual(self.sockets[0].take().count(b" HTTP/1.1\r\n"), 2)

    def test_half_channels_of_others(self) -> None:
        """W09: whoever names another one's RDG-Connection-Id comes to the gateway on a connection of its own."""
        identifier = (b"RDG-Connection-Id", b"{11111111-2222-3333-4444-555555555555}")
        self.ask("owner", b"/remoteDesktopGateway/", identifier, method=b"RDG_OUT_DATA")
        self.ask("thief", b"/remoteDesktopGateway/", identifier, method=b"RDG_IN_DATA", end=False)
        self.assertEqual(len(self.sockets), 2)

    def test_origins_of_one_client(self) -> None:
        """C36: one client has a connection for each application it uses, not one for all."""
        other = {**PINNED, "id": "pay", "external_url": "https://pay.example.com/"}
        self.rig = Rig(PINNED, other)
        self.ask("a")
        self.ask("a", application="pay", host="pay.example.com")
        self.assertEqual(len(self.sockets), 2)

    def test_two_relays_with_one_name(self) -> None:
        """A name means something on its own channel only."""
        held = self.rig.serving.reservations
        (place,) = (pool for _, pool in self.rig.assignments._pools.values())
        here, there = self.rig.pair.connector, self.rig.pair.relay
        self.assertIsNot(held.pool(here, "a", place), held.pool(there, "a", place))
        self.assertIs(held.pool(here, "a", place), held.pool(here, "a", place))


@pytest.mark.feature("HTTP-7")
class EndingTests(ReservationTestCase):
    def idle(self, affinity: str = "a") -> OriginSocket:
        """A connection that rests."""
        asking = self.ask(affinity)
        socket = self.sockets[-1]
        socket.say(OK)
        self.assertEqual(asking.status, 200)
        self.assertTrue(socket.open)
        return socket

    def assert_nothing_left(self) -> None:
        held = self.rig.serving.reservations
        self.assertEqual((len(held), [own for own in held._pools.values() if own]), (0, []))

    def test_goes_with_the_client(self) -> None:
        """When the relay says that the client has gone its connection is closed; the others stay."""
        mine, other = self.idle("a"), self.idle("b")
        self.release("a")
        self.assertEqual((mine.open, other.open), (False, True))
        self.release("b")
        self.release("never heard of")
        self.assert_nothing_left()

    def test_goes_with_the_client_once_it_is_free(self) -> None:
        """A client that is said to have gone in the middle loses nothing of what is under way."""
        asking = self.ask("a")
        self.release("a")
        self.sockets[0].say(OK)
        self.assertEqual((asking.status, self.sockets[0].open), (200, False))
        self.assert_nothing_left()

    def test_goes_with_the_channel(self) -> None:
        """No relay, no client: everything of a lost channel is closed."""
        self.idle("a")
        self.idle("b")
        self.rig.pair.connector.carrier_closed(1006, "lost")
        self.assertEqual([socket.open for socket in self.sockets], [False, False])
        self.assert_nothing_left()

    def test_idle_ones_are_closed(self) -> None:
        """After the application's idle time, no sooner; whoever comes back begins anew."""
        socket = self.idle()
        self.rig.advance(299)
        self.assertTrue(socket.open)
        self.rig.advance(4)
        self.assertFalse(socket.open)
        self.assert_nothing_left()
        self.idle()
        self.assertEqual(len(self.sockets), 2)

    def test_not_repeated_elsewhere(self) -> None:
        """W08: what dies on a connection that somebody signed in on is not sent again on one where nobody has."""
        self.idle()
        asking = self.ask("a")
        self.sockets[0].lose(clean=False)
        self.assertEqual((asking.reset, len(self.sockets)), (Code.ORIGIN_BROKE_OFF, 1))

    def test_the_origin_closes_in_good_order(self) -> None:
        """The client's next request begins anew, as it would without us."""
        asking = self.ask("a")
        self.sockets[0].say(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertEqual((asking.status, self.sockets[0].open), (200, False))
        self.idle("a")
        self.assertEqual(len(self.sockets), 2)

    def test_a_connection_that_cannot_be_made(self) -> None:
        """The failure is told; nothing is kept of it."""
        self.rig.refusals = [ConnectFailed("refused")]
        self.assertEqual(self.ask("a").reset, Code.CONNECT)
        self.assert_nothing_left()

    def test_an_application_that_is_published_otherwise(self) -> None:
        """R15: with new timers its idle connections go, those in use when they are free."""
        idle, busy = self.idle("a"), self.ask("b")
        self.rig.assignments.replace(2, [{**PINNED, "timeouts": {"idle": "1m"}}])
        self.assertEqual((idle.open, self.sockets[1].open), (False, True))
        self.sockets[1].say(OK)
        self.assertEqual((busy.status, self.sockets[1].open), (200, False))
        self.idle("a")
        self.assertEqual(len(self.rig.serving.reservations), 1)

    def test_wildcards_keep_their_places(self) -> None:
        """A host of a wildcard is not forgotten while a client has a connection to it."""
        wild = {**HR, "external_url": "https://*.example.com/", "internal_url": "http://*.corp.local/"}
        self.rig = Rig({**wild, "sso": {"mode": "none"}})
        for _ in range(2):
            asking = self.ask("a", host="x.example.com")
            self.sockets[0].say(OK)
            self.assertEqual(asking.status, 200)
            shared = self.rig.ask(b"/", host="x.example.com")
            self.sockets[-1].say(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            self.assertEqual(shared.status, 200)
        self.assertEqual([socket.open for socket in self.sockets], [True, False, False])
        self.release("a")
        self.assertEqual(self.rig.assignments._pools, {})

    def test_their_number_is_bounded(self) -> None:
        """A relay that invents clients without end fills neither memory nor the table of sockets."""
        self.patch(reservations, "MAX_RESERVED", 2)
        self.idle("a")
        self.idle("b")
        self.assertEqual(self.ask("c").reset, Code.CONNECT_TIMEOUT)
        self.release("a")
        self.idle("c")

    def test_the_connector_stops(self) -> None:
        """Everything is closed."""
        self.idle()
        self.rig.assignments.close()
        self.assertFalse(self.sockets[0].open)


class TunnelTests(ReservationTestCase):
    """RDG_IN_DATA, RDG_OUT_DATA, RPC_IN_DATA and RPC_OUT_DATA: endless both ways."""

    def setUp(self) -> None:
        self.rig = Rig({**HR, "sso": {"mode": "none"}, "timeouts": {"total": "10s"}})

    @pytest.mark.feature("SCN-5")
    def test_idle_with_keep_alives(self) -> None:
        """W10: half an hour of nothing but keep-alives, in one direction, then in the other; both halves stay up."""
        out = self.ask("out", b"/rpc", method=b"RPC_OUT_DATA")
        inwards = self.ask("in", b"/rpc", GIB, method=b"RPC_IN_DATA", end=False)
        self.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        for minute in range(30):
            self.rig.advance(60)
            if minute % 4 == 0:
                inwards.send(b"keep")
                self.sockets[0].say(b"alive")
        self.assertEqual((out.reset, inwards.reset), (None, None))
        self.assertEqual((out.answer.data, self.sockets[1].take()[-32:]), (b"alive" * 8, b"keep" * 8))

    @pytest.mark.feature("HTTP-5")
    def test_no_total_and_no_hasty_first_byte(self) -> None:
        """A gateway that answers when the other half has come may take as long as it may be silent."""
        out = self.ask("out", b"/rpc", method=b"RPC_OUT_DATA")
        self.rig.advance(290)
        self.assertIsNone(out.reset)
        self.rig.advance(14)
        self.assertEqual(out.reset, Code.FIRST_BYTE)

    @pytest.mark.feature("SCN-5")
    def test_a_gibibyte_is_not_waited_for(self) -> None:
        """W07: each piece of a body of 1 GiB goes on as it comes; what the origin does not take stays at the client."""
        asking = self.ask("in", b"/rpc", GIB, method=b"RPC_IN_DATA", end=False)
        socket = self.sockets[0]
        socket.take()
        for number in range(50):
            asking.send(bytes([number]) * 1000)
            self.assertEqual(socket.take(), bytes([number]) * 1000)
        socket.producer.pauseProducing()
        sent = 0
        while not asking.stream._held:
            asking.send(b"x" * 100_000)
            sent += 100_000
        self.assertLess(sent, 1_000_000)

    @pytest.mark.feature("SCN-5")
    def test_an_answer_before_the_end_of_the_body(self) -> None:
        """W07: the gateway refuses, or answers, while the client is still to send most of its gibibyte."""
        for answer, status in ((b"HTTP/1.1 503 RPC Error: 6ba\r\nContent-Length: 0\r\n\r\n", 503), (OK, 200)):
            asking = self.ask("in", b"/rpc", GIB, method=b"RPC_IN_DATA", end=False)
            asking.send(b"some")
            self.sockets[-1].say(answer)
            self.assertEqual((asking.status, asking.answer.ended), (status, True))
            asking.stream.reset(Code.NONE)
            self.rig.pair.run()
            self.assertFalse(self.sockets[-1].open)

    @pytest.mark.feature("HTTP-3")
    def test_expectation_of_an_endless_body(self) -> None:
        """W11: RPC_IN_DATA that waits for a 100 gets the gateway's, and the body follows; nothing stalls."""
        expects = (b"Expect", b"100-continue")
        asking = self.ask("in", b"/rpc", GIB, expects, method=b"RPC_IN_DATA", end=False)
        self.assertIn(b"Expect: 100-continue\r\n", self.sockets[0].take())
        self.sockets[0].say(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual([head[0].status for head in asking.answer.heads], [100])
        asking.send(b"body")
        self.assertEqual(self.sockets[0].take(), b"body")

    @pytest.mark.feature("SCN-5")
    def test_a_body_after_the_whole_answer(self) -> None:
        """W07: RD Gateway answers RDG_IN_DATA at once and wholly; what the client sends from then on is the tunnel."""
        asking = self.ask("in", b"/remoteDesktopGateway/", method=b"RDG_IN_DATA", end=False)
        self.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((asking.status, asking.answer.ended), (200, True))
        self.sockets[0].take()
        for _ in range(3):
            self.rig.advance(250)
            asking.send(b"data")
            self.assertEqual(self.sockets[0].take(), b"4\r\ndata\r\n")
        asking.send(b"bye", end=True)
        self.assertEqual(self.sockets[0].take(), b"3\r\nbye\r\n0\r\n\r\n")
        self.assertEqual((asking.reset, asking.stream.closed, self.sockets[0].open), (None, True, True))

    @pytest.mark.feature("SCN-5")
    def test_a_gateway_that_hangs_up_on_such_a_body(self) -> None:
        """The client hears of it: what it sends would reach nobody."""
        for end in ("fin", "reset", "unasked", "silence"):
            asking = self.ask(end, b"/remoteDesktopGateway/", method=b"RDG_IN_DATA", end=False)
            socket = self.sockets[-1]
            socket.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            asking.send(b"data")
            self.assertIsNone(asking.reset)
            if end == "fin":
                socket.end()
            elif end == "reset":
                socket.lose(clean=False)
            elif end == "unasked":
                socket.say(b"HTTP/1.1 200 OK\r\n")
            else:
                self.rig.advance(303)
            self.rig.pair.run()
            self.assertEqual((asking.reset, socket.open), (Code.ORIGIN_BROKE_OFF, False), end)
