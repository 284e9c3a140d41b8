"""Clients with a connection to the origin for themselves: who gets one, through which connector, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, OriginTLS
from appproxy.relay.connectors.attachments import Attachment
from appproxy.relay.connectors.pins import TELL_SECONDS
from appproxy.wire.frames import Code
from appproxy.wire.heads import ResponseHead
from tests.fakes.channels import Pair
from tests.fakes.fronts import APPLICATIONS, Bench, FakeSocket

PINNED = Application(
    id="web",
    external_url="https://web.example.com/",
    internal_url="http://web.corp.local/",
    connector_group="hq",
    preauthentication="passthrough",
    origin=OriginTLS(pinned=True),
)
NTLM = b"Authorization: NTLM TlRMTVNTUAABAAAA\r\n"


class PinTestCase(SynchronousTestCase):
    """A relay with several connectors."""

    connectors = 3

    def setUp(self) -> None:
        self.bench = Bench((*APPLICATIONS, PINNED))
        self.pairs = [self.bench.pair]
        for number in range(2, self.connectors + 1):
            pair = Pair()
            attachment = Attachment(f"c-{number}", "x", "hq", boot="b", epoch=1, peer="p", since=0)
            attachment.channels.append(pair.relay)
            self.bench.attachments.add(attachment)
            self.pairs.append(pair)
        for number, pair in enumerate(self.pairs, 1):
            pair.relay.connector = f"c-{number}"

    def run_(self) -> None:
        for _ in range(3):
            for pair in self.pairs:
                pair.run(300)

    def ask(
        self, client: FakeSocket, host: bytes = b"web", more: bytes = b"", method: bytes = b"GET", path: bytes = b"/"
    ) -> tuple[int, Any, str]:
        """Send a request; returns the connector it came to, its stream there, and its affinity."""
        before = [len(pair.opener.streams) for pair in self.pairs]
        request = method + b" " + path + b" HTTP/1.1\r\nHost: " + host + b".example.com\r\n" + more + b"\r\n"
        client.protocol.dataReceived(request)
        self.run_()
        (number,) = [n for n, pair in enumerate(self.pairs) if len(pair.opener.streams) > before[n]]
        opener = self.pairs[number].opener
        return number, opener.streams[-1], opener.heads[-1][0].affinity

    def answer(self, stream: Any, status: int = 200, *fields: tuple[bytes, bytes]) -> None:
        stream.answer(ResponseHead(status, b"", list(fields)), end=True)
        self.run_()

    def told(self, number: int = 0) -> list[str]:
        """Whom a connector was told to have gone."""
        for pair in self.pairs:
            pair.clock.advance(TELL_SECONDS)
        self.run_()
        documents = self.pairs[number].connector_owner.documents
        return [name for document in documents if document["type"] == "unpin" for name in document["affinities"]]


@pytest.mark.feature("HTTP-7")
class WhoTests(PinTestCase):
    def test_applications_that_say_so(self) -> None:
        """Every request of one client connection has one name, of another client another; no other application's."""
        first, second = self.bench.client(), self.bench.client()
        names = []
        for client in (first, second, first, second):
            _, stream, affinity = self.ask(client)
            self.answer(stream)
            names.append(affinity)
        self.assertEqual((names[0], names[1]), (names[2], names[3]))
        self.assertEqual(len({*names, ""}), 3)
        self.assertGreater(len(names[0]), 20)
        self.assertEqual(self.ask(self.bench.client(), b"open")[2], "")

    def test_tunnels(self) -> None:
        """RD Gateway's methods and RPC over HTTP's are so anywhere."""
        for method in (b"RDG_IN_DATA", b"RDG_OUT_DATA", b"RPC_IN_DATA", b"RPC_OUT_DATA"):
            self.assertTrue(self.ask(self.bench.client(), b"open", method=method)[2], method)

    def test_whoever_signs_in_on_a_connection(self) -> None:
        """W08, H07: from the first word of NTLM or Negotiate on, the whole connection is the client's alone."""
        for scheme in (b"NTLM", b"Negotiate", b"ntlm", b"NEGOTIATE"):
            client = self.bench.client()
            _, stream, before = self.ask(client, b"open")
            self.answer(stream, 401, (b"WWW-Authenticate", b"NTLM"), (b"Content-Length", b"0"))
            _, stream, during = self.ask(client, b"open", b"Authorization: " + scheme + b" TlRMTVNTUAABAAAA\r\n")
            self.answer(stream)
            _, _, after = self.ask(client, b"open")
            self.assertEqual((before, bool(during), after), ("", True, during), scheme)

    def test_other_ways_to_sign_in(self) -> None:
        """Basic, Digest and Bearer stand in every request by themselves."""
        for scheme in (b"Basic", b"Digest", b"Bearer"):
            self.assertEqual(
                self.ask(self.bench.client(), b"open", b"Authorization: " + scheme + b" abc\r\n")[2], "", scheme
            )

    def test_nothing_that_a_client_can_say(self) -> None:
        """W09: a client cannot name another one's connection."""
        more = b"X-Affinity: a\r\nAppproxy-Affinity: a\r\n"
        self.assertNotEqual(self.ask(self.bench.client(), more=more)[2], "a")


@pytest.mark.feature("HTTP-7")
class WhereTests(PinTestCase):
    def test_always_the_same_connector(self) -> None:
        """However busy it is; the others go where there is least to do."""
        client = self.bench.client()
        number, stream, _ = self.ask(client)
        for _ in range(9):
            self.ask(self.bench.client(), b"open")
        self.answer(stream)
        self.assertEqual(self.ask(client)[0], number)

    def test_not_another_one(self) -> None:
        """W08: a connector that takes no more is not replaced by one where nobody has signed in."""
        client = self.bench.client()
        number, stream, _ = self.ask(client)
        self.answer(stream)
        _, stream, _ = self.ask(client)
        stream.reset(Code.REFUSED)
        self.run_()
        self.assertIn(b"connector-busy", client.take())
        self.assertEqual(sum(len(pair.opener.streams) for pair in self.pairs), 2)
        self.assertEqual(len(self.pairs[number].opener.streams), 2)

    @pytest.mark.feature("HTTP-9")
    def test_not_repeated(self) -> None:
        """W08: what was under way when the connector died is not sent again, idempotent or not."""
        client = self.bench.client()
        number, _, _ = self.ask(client, more=NTLM)
        self.pairs[number].relay.carrier_closed(1006, "cut")
        self.run_()
        self.assertIn(b"connector-lost", client.take())
        self.assertEqual(sum(len(pair.opener.streams) for pair in self.pairs), 1)

    def test_anew_after_its_connector_has_gone(self) -> None:
        """The client's next request goes to another one, where it has to sign in again."""
        client = self.bench.client()
        number, stream, _ = self.ask(client)
        self.answer(stream)
        self.pairs[number].relay.carrier_closed(1006, "cut")
        del self.bench.attachments.by_connector[f"c-{number + 1}"]
        self.assertNotEqual(self.ask(client)[0], number)

    def test_as_the_origin_does(self) -> None:
        """When the origin breaks off on a connection that was used before, so does the relay: clients try again."""
        client = self.bench.client()
        _, stream, _ = self.ask(client)
        stream.reset(Code.ORIGIN_BROKE_OFF)
        self.run_()
        self.assertIn(b"502", client.take())
        _, stream, _ = self.ask(client)
        self.answer(stream)
        client.take()
        _, stream, _ = self.ask(client)
        stream.reset(Code.ORIGIN_BROKE_OFF)
        self.run_()
        self.assertEqual((client.take(), client.aborted), (b"", True))
        self.assertEqual(self.bench.records[-1][4], "origin-broke-off")


@pytest.mark.feature("HTTP-7")
class HowLongTests(PinTestCase):
    def test_until_the_client_goes(self) -> None:
        """The connector hears of it within a second; of all that went meanwhile in one document."""
        clients = [self.bench.client() for _ in range(9)]
        names: dict[int, list[str]] = {0: [], 1: [], 2: []}
        for client in clients:
            number, stream, affinity = self.ask(client)
            self.answer(stream)
            names[number].append(affinity)
        self.assertEqual(self.told(), [])
        for client in clients:
            client.lose()
        for number in range(3):
            self.assertEqual(self.told(number), names[number])
            unpins = [each for each in self.pairs[number].connector_owner.documents if each["type"] == "unpin"]
            self.assertLessEqual(len(unpins), 1)

    def test_connectors_that_have_gone_first(self) -> None:
        """There is nobody to tell."""
        client, other = self.bench.client(), self.bench.client()
        number, stream, _ = self.ask(client)
        self.answer(stream)
        client.lose()
        self.pairs[number].relay.carrier_closed(1006, "cut")
        self.assertEqual(self.told(number), [])
        number, _, _ = self.ask(other)
        self.pairs[number].relay.carrier_closed(1006, "cut")
        other.lose()
        self.assertEqual((self.told(number), self.bench.gateway._pins._gone), ([], {}))

    def test_a_channel_that_takes_no_more(self) -> None:
        """A client that moves on to another channel is taken off the first one."""
        client = self.bench.client()
        number, stream, affinity = self.ask(client)
        self.answer(stream)
        self.pairs[number].relay.going_away = True
        self.assertNotEqual(self.ask(client)[0], number)
        self.assertEqual(self.told(number), [affinity])


@pytest.mark.feature("SCN-5")
class TunnelTests(PinTestCase):
    """Two half channels, one gateway behind one connector."""

    connectors = 5

    def half(self, method: bytes, identifier: bytes = b"") -> tuple[FakeSocket, int, str]:
        client = self.bench.client()
        more = b"RDG-Connection-Id: " + identifier + b"\r\n" if identifier else b""
        number, _, affinity = self.ask(client, b"open", more, method, b"/remoteDesktopGateway/")
        return client, number, affinity

    def test_both_halves_come_to_one_connector(self) -> None:
        """By RDG-Connection-Id, on connections of their own; tunnels spread over all connectors."""
        used = set()
        for tunnel in range(30):
            identifier = b"{%08X-0000-0000-0000-000000000000}" % tunnel
            _, out, first = self.half(b"RDG_OUT_DATA", identifier)
            _, inwards, second = self.half(b"RDG_IN_DATA", identifier.lower())
            self.assertEqual(out, inwards)
            self.assertNotEqual(first, second)
            used.add(out)
        self.assertGreater(len(used), 2)

    def test_rpc_over_http(self) -> None:
        """Its halves do not say what they belong to: those of one address stay together."""
        numbers = {self.half(method)[1] for method in (b"RPC_IN_DATA", b"RPC_OUT_DATA") * 5}
        self.assertEqual(len(numbers), 1)

    def test_a_connector_that_comes_meanwhile(self) -> None:
        """A tunnel stays where its first half is, whoever would be preferred now; when it is over all are asked."""
        identifier, late = b"{0}", Pair()
        late.relay.connector = "late"
        client, number, _ = self.half(b"RDG_OUT_DATA", identifier)
        for name in range(100, 140):
            attachment = Attachment(f"c-{name}", "x", "hq", boot="b", epoch=1, peer="p", since=0)
            attachment.channels.append(late.relay)
            self.bench.attachments.add(attachment)
        self.assertEqual(self.half(b"RDG_IN_DATA", identifier)[1], number)
        self.assertEqual(len(self.bench.gateway._pins._tunnels), 1)
        for front in list(self.bench.settings.fronts):
            front.transport.lose()  # type: ignore[attr-defined]
        self.assertEqual(self.bench.gateway._pins._tunnels, {})
        self.assertTrue(client.protocol.pin is None)

    def test_its_connector_goes(self) -> None:
        """The next tunnel of that name goes to another one."""
        _, number, _ = self.half(b"RDG_OUT_DATA", b"{0}")
        attachment = self.bench.attachments.by_connector[f"c-{number + 1}"]
        self.pairs[number].relay.carrier_closed(1006, "cut")
        self.bench.attachments.remove(attachment)
        _, other, _ = self.half(b"RDG_IN_DATA", b"{0}")
        self.assertNotEqual(other, number)

    def test_patience(self) -> None:
        """W10: the relay cuts no half off because nothing comes for half an hour."""
        clients = [self.half(b"RDG_OUT_DATA", b"{0}")[0]]
        inwards = self.bench.client()
        self.ask(inwards, b"open", b"Transfer-Encoding: chunked\r\nRDG-Connection-Id: {0}\r\n", b"RDG_IN_DATA")
        for _ in range(30):
            self.bench.clock.advance(60)
            self.bench.settings.sweep()
        for client in (*clients, inwards):
            self.assertEqual((client.aborted, client.disconnecting, client.take()), (False, False, b""))

    IN = b"RDG_IN_DATA /remoteDesktopGateway/ HTTP/1.1\r\nHost: open.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"

    def answered(self) -> tuple[FakeSocket, Any, Any]:
        """A half channel that was answered wholly at once, and lives on: the client, its stream, who hears it."""
        client = self.bench.client()
        client.protocol.dataReceived(self.IN)
        self.run_()
        (pair,) = [pair for pair in self.pairs if pair.opener.streams]
        stream, receiver = pair.opener.streams[0], pair.opener.receivers[0]
        self.answer(stream, 200, (b"Content-Length", b"0"))
        self.assertTrue(client.take().endswith(b"\r\n\r\n"))
        client.protocol.dataReceived(b"4\r\ndata\r\n")
        self.run_()
        return client, stream, receiver

    def test_a_body_after_the_whole_answer(self) -> None:
        """W07: a half whose answer came at once and wholly goes on to its own end; then the connection is free."""
        client, _, receiver = self.answered()
        self.assertEqual((receiver.data, receiver.ended, receiver.resets), (b"data", False, []))
        client.protocol.dataReceived(b"3\r\nbye\r\n0\r\n\r\n")
        self.run_()
        self.assertEqual((receiver.data, receiver.ended, receiver.resets), (b"databye", True, []))
        self.assertEqual((len(self.bench.tasks), self.bench.records[0][4:]), (0, ("", 7, 0)))
        self.assertFalse(client.disconnecting)
        _, stream, _ = self.ask(client, b"open", path=b"/next")
        self.answer(stream)
        self.assertIn(b" 200 ", client.take())

    def test_such_a_body_is_cut_short(self) -> None:
        """By the gateway, the connector or the client: the others hear of it, and nothing stays."""
        for end in ("gateway", "connector", "client"):
            self.setUp()
            client, stream, receiver = self.answered()
            if end == "gateway":
                stream.reset(Code.ORIGIN_BROKE_OFF)
            elif end == "connector":
                for pair in self.pairs:
                    pair.relay.carrier_closed(1006, "cut")
            else:
                client.lose()
            self.run_()
            if end == "client":
                self.assertEqual([code for code, _ in receiver.resets], [Code.CANCELLED])
            else:
                self.assertTrue(client.disconnecting, end)
            self.assertEqual((len(self.bench.tasks), len(self.bench.records)), (0, 1), end)

    def test_a_failure_before_the_answer(self) -> None:
        """The relay's own answer ends a half as it ends every request: the rest is of no interest."""
        client = self.bench.client()
        client.protocol.dataReceived(self.IN)
        self.run_()
        (pair,) = [pair for pair in self.pairs if pair.opener.streams]
        pair.opener.streams[0].reset(Code.CONNECT)
        self.run_()
        self.assertIn(b" 502 ", client.take())
        self.assertEqual((client.disconnecting, len(self.bench.tasks)), (True, 0))
