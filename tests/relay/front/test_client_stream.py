"""One request's share of an HTTP/2 connection: bodies, tunnels, WebSockets."""

from __future__ import annotations

import base64
import hashlib

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.intake import Code
from appproxy.http.messages import OutOfTurn
from appproxy.wire.heads import ResponseHead
from tests.fakes.fronts import Bench
from tests.fakes.http2 import ALICE, Connection, asked


class BodyTests(SynchronousTestCase):
    """The body of a request."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.alice = Connection(self.bench)

    def test_nobody_takes_it(self) -> None:
        """A body that nobody has asked for waits in its window; when somebody reads it all of it comes."""
        number = self.alice.client.ask(host=b"proxy.example.com", method=b"POST", end=False)
        for _ in range(10):
            self.alice.client.send(number, b"x" * 90)
            self.alice.settle()
        self.alice.client.send(number, b"", end=True)
        self.assertEqual(self.alice.heard(number).data, b"own " + b"x" * 900)

    def test_too_large(self) -> None:
        """What is larger than its reader takes is answered before it has come, and called off."""
        number = self.alice.client.ask(host=b"proxy.example.com", method=b"POST", end=False)
        self.alice.settle()
        self.alice.client.send(number, b"x" * 2000)
        heard = self.alice.heard(number)
        self.assertEqual((heard.status, heard.reset), (b"413", Code.NO_ERROR))

    def test_shorter_or_longer_than_said(self) -> None:
        """F06: the request is refused, or what it has begun is reset; the connector's stream ends, too."""
        for begun in (False, True):
            number = self.alice.ask((b"content-length", b"5"), end=False, method=b"POST")
            if begun:
                self.bench.pair.opener.streams[-1].answer(ResponseHead(200, b"OK", []))
                self.alice.settle()
            self.alice.client.h2.send_headers(number, [(b"x-sum", b"1")], end_stream=True)
            self.alice.client.flush()
            heard = self.alice.heard(number)
            if begun:
                self.assertEqual((heard.status, heard.reset), (b"200", Code.PROTOCOL_ERROR))
            else:
                self.assertEqual(heard.status, b"400")
            self.assertEqual(len(self.bench.pair.opener.receivers[-1].resets), 1)

    def test_answered_before_it_went_wrong(self) -> None:
        """A body that turns out to be wrong after all has been answered changes nothing."""
        self.alice.client.takes = False
        number = self.alice.ask((b"content-length", b"5"), end=False, method=b"POST")
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", []))
        stream.end(b"x" * 100_000)
        self.alice.settle()
        self.alice.client.h2.send_headers(number, [(b"x-sum", b"1")], end_stream=True)
        self.alice.client.takes = True
        self.alice.client.h2.acknowledge_received_data(65535, number)
        self.alice.client.flush()
        heard = self.alice.heard(number)
        self.assertEqual((len(heard.data), heard.ended, heard.reset), (100_000, True, None))

    def test_early_answers(self) -> None:
        """HTTP-2: an answer that does not wait for the body ends the exchange; what still comes is dropped."""
        number = self.alice.ask(end=False, method=b"POST")
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(401, b"Unauthorized", [(b"Content-Length", b"0")]), end=True)
        self.alice.client.h2.send_data(number, b"x" * 10_000)
        heard = self.alice.heard(number)
        self.assertEqual((heard.status, heard.ended, heard.reset), (b"401", True, Code.NO_ERROR))
        self.assertEqual(self.alice.front.conversation.streams, {})

    def test_it_cannot_be_handed_over(self) -> None:
        """No exchange gets the whole of a shared connection."""
        self.alice.ask()
        [share] = self.alice.front._streams.values()
        self.assertRaises(OutOfTurn, share.hand_over, None)

    @pytest.mark.feature("SCN-5")
    def test_tunnels_need_a_connection_for_themselves(self) -> None:
        """W07: Remote Desktop Gateway's methods are sent back to HTTP/1.1."""
        number = self.alice.ask(method=b"RDG_OUT_DATA")
        self.assertEqual(self.alice.heard(number).reset, Code.HTTP_1_1_REQUIRED)


@pytest.mark.feature("HTTP-4")
class WebSocketTests(SynchronousTestCase):
    """WebSockets over HTTP/2, to an origin that knows HTTP/1.1."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.alice = Connection(self.bench)

    def opens(self) -> int:
        """A script of the application's own opens one."""
        number = self.alice.client.h2.get_next_available_stream_id()
        fields = asked(*ALICE, (b"sec-websocket-version", b"13"), (b"origin", b"https://hr.example.com"), path=b"/ws")
        head = [(b":protocol", b"websocket"), *((n, b"CONNECT" if n == b":method" else v) for n, v in fields)]
        self.alice.client.h2.send_headers(number, head)
        self.alice.client.flush()
        self.alice.settle()
        return number

    def agrees(self, key: bytes = b"") -> None:
        """The origin opens it."""
        fields = dict(self.bench.pair.opener.heads[-1][0].standing.fields)
        key = key or fields[b"Sec-WebSocket-Key"]
        answer = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        taken = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", answer)]
        self.bench.pair.opener.streams[-1].answer(ResponseHead(101, b"Switching Protocols", taken), upgrade=True)
        self.alice.settle()

    def test_open_and_closed(self) -> None:
        """Octets pass both ways, each half ends by itself, one record is left."""
        number = self.opens()
        head, ended, upgrade = self.bench.pair.opener.heads[-1]
        self.assertEqual((head.method, ended, upgrade), (b"GET", False, True))
        self.assertEqual(dict(head.standing.fields)[b"Upgrade"], b"websocket")
        self.agrees()
        heard = self.alice.heard(number)
        self.assertEqual(heard.fields[0], (b":status", b"200"))
        self.assertNotIn(b"sec-websocket-accept", dict(heard.fields))
        stream, receiver = self.bench.pair.opener.streams[-1], self.bench.pair.opener.receivers[-1]
        self.alice.client.send(number, b"ping")
        stream.write(b"pong")
        self.alice.settle()
        self.assertEqual((receiver.data, heard.data), (b"ping", b"pong"))
        stream.end()
        self.alice.settle()
        self.assertTrue(heard.ended)
        self.alice.client.send(number, b"bye", end=True)
        self.alice.settle()
        self.assertEqual((receiver.data, receiver.ended), (b"pingbye", True))
        self.assertEqual((self.alice.front.conversation.streams, len(self.bench.records)), ({}, 1))

    def test_the_client_closes_first(self) -> None:
        """The client's half may end first; the origin's last words still come."""
        number = self.opens()
        self.agrees()
        self.alice.client.send(number, b"bye", end=True)
        self.alice.settle()
        stream = self.bench.pair.opener.streams[-1]
        stream.end(b"goodbye")
        self.assertEqual((self.alice.heard(number).data, self.alice.heard(number).ended), (b"goodbye", True))
        self.assertEqual(len(self.bench.records), 1)

    def test_words_too_early(self) -> None:
        """C37: what the client sends before the origin agrees waits, and reaches it then, its end too."""
        number = self.opens()
        self.alice.client.send(number, b"early", end=True)
        self.alice.settle()
        receiver = self.bench.pair.opener.receivers[-1]
        self.assertEqual((receiver.data, receiver.ended), (b"", False))
        self.agrees()
        self.assertEqual((receiver.data, receiver.ended), (b"early", True))
        self.bench.pair.opener.streams[-1].end(b"late")
        self.assertEqual((self.alice.heard(number).data, self.alice.heard(number).ended), (b"late", True))
        self.assertEqual(self.alice.front.conversation.streams, {})

    def test_the_client_breaks_off(self) -> None:
        """A reset ends both."""
        number = self.opens()
        self.agrees()
        self.alice.client.h2.reset_stream(number, Code.CANCEL)
        self.alice.client.flush()
        self.alice.settle()
        self.assertEqual(len(self.bench.pair.opener.receivers[-1].resets), 1)

    def test_much_in_both_directions(self) -> None:
        """Large messages wait for credit on both sides, and all of it comes."""
        number = self.opens()
        self.agrees()
        stream, receiver = self.bench.pair.opener.streams[-1], self.bench.pair.opener.receivers[-1]
        left = 3_000_000
        stream.write(b"d" * left)
        while left:
            room = min(left, self.alice.client.h2.local_flow_control_window(number))
            self.assertGreater(room, 0)
            self.alice.client.send(number, b"u" * room)
            left -= room
            self.alice.settle()
        self.assertEqual((len(receiver.data), len(self.alice.heard(number).data)), (3_000_000, 3_000_000))

    def test_answered_wrongly(self) -> None:
        """W04: an origin that did not read the key opens nothing, nor one that says 200."""
        number = self.opens()
        self.agrees(b"another key")
        self.assertEqual(self.alice.heard(number).status, b"502")
        number = self.opens()
        stream = self.bench.pair.opener.streams[-1]
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"5")]))
        stream.end(b"hello")
        self.assertEqual(self.alice.heard(number).status, b"502")
        number = self.opens()
        stream = self.bench.pair.opener.streams[-1]
        stream.answer(ResponseHead(403, b"Forbidden", [(b"Content-Length", b"2")]))
        stream.end(b"no")
        self.assertEqual((self.alice.heard(number).status, self.alice.heard(number).data), (b"403", b"no"))

    def test_not_signed_in(self) -> None:
        """A05, W01: without a session, or for another site's page, no stream is opened."""
        fields = asked((b"sec-websocket-version", b"13"), path=b"/ws")
        head = [(b":protocol", b"websocket"), *((n, b"CONNECT" if n == b":method" else v) for n, v in fields)]
        self.alice.client.h2.send_headers(1, head)
        self.alice.client.flush()
        self.assertEqual(self.alice.heard(1).status, b"401")
        head += [*ALICE, (b"origin", b"https://evil.example")]
        self.alice.client.h2.send_headers(3, head)
        self.alice.client.flush()
        self.assertEqual(self.alice.heard(3).status, b"403")
        self.assertEqual(self.bench.pair.opener.heads, [])

    def test_the_end_of_a_session(self) -> None:
        """W03: it closes with the session."""
        number = self.opens()
        self.agrees()
        assert self.bench.preauth.session is not None
        self.bench.preauth.session.cut()
        self.assertEqual(self.alice.heard(number).reset, Code.INTERNAL_ERROR)
