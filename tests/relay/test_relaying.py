"""One exchange on its stream: interim answers, early ones, pauses, pipes, and a client that goes at any moment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Timeouts
from appproxy.http.websocket_frames import PING_OCTETS
from appproxy.units import Duration
from appproxy.wire import frames, heads
from appproxy.wire.frames import Code, Flag, Kind
from appproxy.wire.heads import ResponseHead
from appproxy.wire.windows import INITIAL_WINDOW
from tests.fakes.channels import RecordingReceiver
from tests.fakes.fronts import APPLICATIONS, COOKIE, Bench, get
from tests.http.test_websocket_frames import frame

OK = ResponseHead(200, b"OK", [])
SWITCH = ResponseHead(101, b"Switching Protocols", [(b"Upgrade", b"websocket")])
UPGRADE = COOKIE + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + b"Content-Length: 10\r\n\r\nhalf."


class RelayingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()
        self.client = self.bench.client()

    def begun(self, request: bytes | None = None) -> Any:
        """A request on its way; returns the connector's end of its stream."""
        self.bench.sends(self.client, get() if request is None else request)
        return self.bench.pair.opener.streams[-1]

    def hears(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """The relay hears a frame that no connector of ours would send."""
        self.bench.pair.relay.message_received(frames.encode(kind, flags, stream, payload))
        self.run_()

    def run_(self) -> None:
        self.bench.pair.run(500)

    @property
    def receiver(self) -> RecordingReceiver:
        """What the connector heard."""
        return self.bench.pair.opener.receivers[-1]

    def assert_nothing_left(self) -> None:
        """No stream, no credit, no coroutine is left behind; there is one access record."""
        pair = self.bench.pair
        self.assertEqual((pair.relay.streams, pair.connector.streams), ({}, {}))
        self.assertEqual(pair.relay.connection._budget.waiting, 0)
        self.assertEqual(len(self.bench.tasks), 0)
        self.assertEqual(len(self.bench.records), 1)
        assert self.bench.preauth.session is not None
        self.assertFalse(self.bench.preauth.session.watched)


class AnswerTests(RelayingTestCase):
    @pytest.mark.feature("HTTP-3")
    def test_interim_answers_pass(self) -> None:
        """Any number of 1xx precedes the answer, each at once; then the answer is whole."""
        stream = self.begun()
        for status, reason, link in ((103, b"Early Hints", b"</a.css>"), (103, b"Early Hints", b"</b.css>")):
            stream.answer(ResponseHead(status, reason, [(b"Link", link)]), informational=True)
            self.run_()
            self.assertEqual(self.client.take(), b"HTTP/1.1 103 Early Hints\r\nLink: " + link + b"\r\n\r\n")
        stream.answer(ResponseHead(204, b"No Content", []), end=True)
        self.run_()
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 204 No Content\r\n"))
        self.assert_nothing_left()

    def test_unsafe_interim_answer(self) -> None:
        """C20: a 1xx that would inject a field ends the exchange with 502."""
        stream = self.begun()
        stream.answer(ResponseHead(103, b"Hints", [(b"X", b"a\r\nSet-Cookie: b")]), informational=True)
        self.run_()
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 502 "))
        self.assertEqual(self.receiver.resets[0][0], Code.CANCELLED)
        self.assert_nothing_left()

    def test_head_alone_does_not_wait_for_the_body(self) -> None:
        """The head of an answer whose body is not there yet is written at once."""
        stream = self.begun()
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Type", b"text/event-stream")]))
        self.run_()
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 200 OK\r\n"))
        stream.write(b"data: 1\n\n")
        self.run_()
        self.assertIn(b"data: 1\n\n", self.client.take())

    def test_an_answer_that_came_whole(self) -> None:
        """Head and body leave as one, also where an upgrade was offered; an unsafe one is 502 and leaves nothing."""
        for request in (get(), get(more=UPGRADE)):
            self.setUp()
            stream = self.begun(request)
            stream.answer_whole(OK, b"whole")
            self.run_()
            self.assertTrue(self.client.take().endswith(b"Content-Length: 5\r\n\r\nwhole"))
            self.assertEqual(self.bench.pair.opener.receivers[-1].resets, [])
            self.assert_nothing_left()
        self.setUp()
        self.begun().answer_whole(ResponseHead(200, b"OK", [(b"X", b"a\r\nb")]), b"whole")
        self.run_()
        answer = self.client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 "))
        self.assertNotIn(b"whole", answer)
        self.assert_nothing_left()

    def test_trailers_that_are_unsafe(self) -> None:
        """C20, H01: a trailer that would break the framing or inject a field cuts the answer, it never ends it."""
        for trailer in ((b"X", b"a\r\nb"), (b"Bad Name", b"a")):
            self.setUp()
            stream = self.begun()
            stream.answer(OK)
            stream.write(b"body")
            stream.finish([trailer])
            self.run_()
            self.assertTrue(self.client.aborted, trailer)
            self.assertNotIn(b"\r\n0\r\n", self.client.take())
            self.assertTrue(self.bench.records[0][4].startswith("cut-short"))
            self.assert_nothing_left()

    def test_unsafe_trailers_with_the_head(self) -> None:
        """The same when head, body and trailers came at once: nothing was written, so it may be 502 or a cut."""
        stream = self.begun()
        stream.answer(OK)
        stream.finish([(b"Bad Name", b"a")])
        self.run_()
        written = self.client.take()
        self.assertTrue(self.client.aborted or written.startswith(b"HTTP/1.1 502 "))
        self.assertNotIn(b"Bad Name", written)
        self.assert_nothing_left()

    @pytest.mark.feature("HTTP-2")
    def test_early_answer_ends_the_upload(self) -> None:
        """An answer that ends first resets the stream; what the client still sends reaches nobody."""
        stream = self.begun(UPLOAD)
        stream.answer(ResponseHead(413, b"Too Large", [(b"Content-Length", b"3")]))
        stream.end(b"no!")
        self.run_()
        self.assertTrue(self.client.take().endswith(b"no!"))
        self.assertEqual(len(self.receiver.resets), 1)
        self.bench.sends(self.client, b"rest.")
        self.assertEqual(self.receiver.data, b"half.")
        self.assert_nothing_left()

    def test_answer_begins_before_the_upload_ends(self) -> None:
        """Both directions flow at once: the answer's first half is read while the body's second is not yet sent."""
        stream = self.begun(UPLOAD)
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"8")]))
        stream.write(b"four")
        self.run_()
        self.assertTrue(self.client.take().endswith(b"four"))
        self.bench.sends(self.client, b"rest.")
        self.assertEqual((self.receiver.data, self.receiver.ended), (b"half.rest.", True))
        stream.end(b"more")
        self.run_()
        self.assertEqual(self.client.take(), b"more")
        self.assert_nothing_left()

    @pytest.mark.feature("SSO-5")
    def test_what_a_connector_says_itself(self) -> None:
        """B-K2: a refusal of the connector's, not the origin's answer: our own page with name, side and phase."""
        stream = self.begun(get(more=b"Accept: application/json\r\n" + COOKIE))
        fields = [(b"Content-Length", b"0"), (b"Set-Cookie", b"a=b")]
        head = ResponseHead(403, b"", fields, heads.CONNECTOR, Code.SSO, "kerberos-user-unknown", "sso")
        stream.answer(head, end=True)
        self.run_()
        answer = self.client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 403 Forbidden\r\n"), answer)
        self.assertTrue(answer.endswith(b"kerberos-user-unknown connector sso"), answer)
        self.assertNotIn(b"Set-Cookie: a=b", answer)
        self.assert_nothing_left()

    def test_unasked_switch(self) -> None:
        """C21: a 101 for a request that offered no upgrade never reaches the client."""
        for flags in (Flag.UPGRADE, 0, Flag.END, Flag.INFORMATIONAL):
            self.setUp()
            stream = self.begun()
            self.hears(Kind.HEADERS, flags, stream.id, heads.encode_response(SWITCH))
            written = self.client.take()
            self.assertNotIn(b" 101 ", written)
            self.assertTrue(written.startswith(b"HTTP/1.1 502 "), flags)


class PauseTests(RelayingTestCase):
    @pytest.mark.feature("HTTP-2")
    def test_owed_credit_comes_back_at_the_end(self) -> None:
        """C09: what a paused client held back is given back when its exchange is cut: it slows nobody for ever."""
        stream = self.begun()
        stream.answer(OK)
        self.client.producer.pauseProducing()
        stream.write(b"x" * (2 * INITIAL_WINDOW))
        self.run_()
        budget = self.bench.pair.relay.connection._budget
        self.assertEqual(budget.waiting, INITIAL_WINDOW)
        self.client.lose()
        self.run_()
        self.assert_nothing_left()

    def test_a_paused_client_gets_all_of_it(self) -> None:
        """Pauses in the middle lose nothing and change nothing."""
        stream = self.begun()
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"%d" % (3 * INITIAL_WINDOW))]))
        body = bytes(range(256)) * (3 * INITIAL_WINDOW // 256)
        stream.end(body)
        for _ in range(8):
            self.client.producer.pauseProducing()
            self.run_()
            self.client.producer.resumeProducing()
            self.run_()
        self.assertTrue(self.client.take().endswith(body))
        self.assert_nothing_left()


class LossTests(RelayingTestCase):
    """A client that goes away, a session that ends, a channel that is lost: in every state of an exchange."""

    def states(self) -> dict[str, Any]:
        """How an exchange gets into each of its states; every entry returns the connector's end."""

        def waiting() -> Any:
            return self.begun()

        def uploading() -> Any:
            return self.begun(UPLOAD)

        def interim() -> Any:
            stream = self.begun()
            stream.answer(ResponseHead(103, b"Early Hints", []), informational=True)
            return stream

        def answering() -> Any:
            stream = self.begun()
            stream.answer(OK)
            stream.write(b"some")
            return stream

        def both() -> Any:
            stream = self.begun(UPLOAD)
            stream.answer(OK)
            stream.write(b"some")
            return stream

        def paused() -> Any:
            stream = self.begun()
            stream.answer(OK)
            self.client.producer.pauseProducing()
            stream.write(b"x" * (2 * INITIAL_WINDOW))
            return stream

        def piped() -> Any:
            stream = self.begun(get(more=UPGRADE))
            stream.answer(SWITCH, upgrade=True)
            stream.write(b"pipe")
            return stream

        def client_half_closed() -> Any:
            stream = piped()
            self.run_()
            self.client.protocol.readConnectionLost()
            return stream

        def origin_half_closed() -> Any:
            stream = piped()
            stream.finish()
            return stream

        return {
            made.__name__: made
            for made in (
                waiting,
                uploading,
                interim,
                answering,
                both,
                paused,
                piped,
                client_half_closed,
                origin_half_closed,
            )
        }

    @pytest.mark.feature("CON-4")
    def test_client_lost_in_every_state(self) -> None:
        """C35: the connector hears a reset at once, nothing is left behind, and there is one record."""
        for name in self.states():
            self.setUp()
            self.states()[name]()
            self.run_()
            self.client.lose()
            self.run_()
            self.assertEqual(len(self.receiver.resets), 1, name)
            self.assert_nothing_left()

    @pytest.mark.feature("AUTH-7")
    def test_session_ended_in_every_state(self) -> None:
        """A35, W03: when the session ends the client is cut off and the connector told, whatever was going on."""
        for name in self.states():
            self.setUp()
            self.states()[name]()
            self.run_()
            assert self.bench.preauth.session is not None
            self.bench.preauth.session.cut()
            self.run_()
            self.assertTrue(self.client.aborted, name)
            self.assertEqual(self.receiver.resets[0][0], Code.CANCELLED, name)
            self.assertEqual(self.bench.records[0][4], "session-ended", name)
            self.bench.aborted(self.client)
            self.assert_nothing_left()

    def test_session_ended_after_the_end(self) -> None:
        """An exchange that is over has nothing left to cut: the connection goes on."""
        stream = self.begun()
        stream.answer(ResponseHead(204, b"No Content", []), end=True)
        self.run_()
        assert self.bench.preauth.session is not None
        self.bench.preauth.session.cut()
        self.assertFalse(self.client.aborted)

    def test_channel_lost_in_every_state(self) -> None:
        """C12: before the answer began it is 502; afterwards the client is cut, never told a polite end."""
        for name in self.states():
            self.setUp()
            self.states()[name]()
            self.run_()
            written = self.client.take()
            self.bench.pair.relay.carrier_closed(1006, "cut")
            self.bench.clock.advance(0)
            if written and b" 103 " not in written:
                self.assertTrue(self.client.aborted, name)
            else:
                self.assertIn(b"HTTP/1.1 502 ", self.client.take(), name)
            self.assertIn("connector-lost", self.bench.records[0][4], name)
            self.assertEqual((len(self.bench.tasks), len(self.bench.records)), (0, 1), name)


@pytest.mark.feature("HTTP-4")
class PipeTests(RelayingTestCase):
    def piped(self) -> Any:
        """An exchange that became a pipe."""
        stream = self.begun(get(more=UPGRADE))
        stream.answer(SWITCH, upgrade=True)
        self.run_()
        self.client.take()
        return stream

    def test_an_offer_with_a_body(self) -> None:
        """W06: nobody could say which octets are the body's and which the pipe's: 400, and none reaches anybody."""
        for framing in (b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"):
            client = self.bench.client()
            self.bench.sends(client, get(more=UPGRADE + framing) + b"GET /smuggled HTTP/1.1\r\n\r\n")
            self.assertTrue(client.take().startswith(b"HTTP/1.1 400 "), framing)
            self.assertTrue(client.disconnecting)
        self.assertEqual(self.bench.pair.opener.streams, [])
        self.begun(get(more=UPGRADE + b"Content-Length: 0\r\n"))

    @pytest.mark.feature("SCN-5")
    def test_any_method_and_its_cookies(self) -> None:
        """RDG_OUT_DATA opens a pipe as GET does; the cookies of the handshake are the client's."""
        self.bench.sends(self.client, b"RDG_OUT_DATA" + get(more=UPGRADE)[3:])
        stream = self.bench.pair.opener.streams[-1]
        stream.answer(ResponseHead(101, b"Go", [(b"Upgrade", b"websocket"), (b"Set-Cookie", b"a=b")]), upgrade=True)
        stream.write(b"first")
        self.run_()
        written = self.client.take()
        self.assertIn(b"\r\nSet-Cookie: a=b\r\n", written)
        self.assertTrue(written.endswith(b"\r\n\r\nfirst"))

    def test_the_origin_ends_first(self) -> None:
        """The client is told by a half-close, may still speak, and ends the pipe with its own half."""
        stream = self.piped()
        stream.end(b"bye")
        self.run_()
        self.assertEqual(self.client.take(), b"bye")
        self.assertTrue(self.client.half_closed)
        self.assertFalse(self.client.disconnecting)
        self.bench.sends(self.client, b"one more thing")
        self.assertEqual(self.receiver.data, b"one more thing")
        self.client.protocol.readConnectionLost()
        self.run_()
        self.assertTrue(self.receiver.ended)
        self.assertTrue(self.client.disconnecting)
        self.assert_nothing_left()

    def test_the_client_ends_first(self) -> None:
        """The connector hears the end, may still speak, and ends the pipe with its own half."""
        stream = self.piped()
        self.client.protocol.readConnectionLost()
        self.run_()
        self.assertTrue(self.receiver.ended)
        stream.write(b"still ")
        stream.end(b"here")
        self.run_()
        self.assertEqual(self.client.take(), b"still here")
        self.assertTrue(self.client.disconnecting)
        self.assert_nothing_left()

    def test_the_client_ends_with_bytes_that_wait_for_credit(self) -> None:
        """Its half ends behind what it wrote, once the connector takes it; the pipe is over then and not before."""
        self.bench.pair.opener.greedy = False
        stream = self.piped()
        stream.finish()
        self.bench.sends(self.client, b"u" * (INITIAL_WINDOW + 100))
        self.client.protocol.readConnectionLost()
        self.run_()
        self.assertFalse(self.receiver.ended)
        self.receiver.stream.consumed(INITIAL_WINDOW)  # type: ignore[union-attr]
        self.run_()
        self.assertEqual((len(self.receiver.data), self.receiver.ended), (INITIAL_WINDOW + 100, True))
        if not self.client.disconnecting:  # both halves of the socket have ended: the transport tells
            self.client.lose()
        self.assertEqual(len(self.bench.records), 1)
        self.assertEqual(len(self.bench.tasks), 0)

    def test_a_slow_client_stops_the_origin(self) -> None:
        """Pipes have the same credit as bodies, both ways."""
        self.bench.pair.opener.greedy = False
        stream = self.piped()
        self.client.producer.pauseProducing()
        stream.write(b"d" * (2 * INITIAL_WINDOW))
        self.bench.sends(self.client, b"u" * (2 * INITIAL_WINDOW))
        self.assertEqual(len(self.client.take()), INITIAL_WINDOW)
        self.assertEqual(len(self.receiver.data), INITIAL_WINDOW)
        self.assertFalse(self.client.reading)
        self.client.producer.resumeProducing()
        self.receiver.stream.consumed(INITIAL_WINDOW)  # type: ignore[union-attr]
        self.run_()
        self.assertEqual(len(self.client.take()), INITIAL_WINDOW)
        self.assertEqual(len(self.receiver.data), 2 * INITIAL_WINDOW)
        self.assertTrue(self.client.reading)

    def test_trailers_of_a_pipe(self) -> None:
        """A hostile connector that ends a pipe with trailers puts nothing into it."""
        stream = self.piped()
        trailers = heads.encode_trailers([(b"X-Injected", b"1")])
        self.hears(Kind.HEADERS, Flag.TRAILERS | Flag.END, stream.id, trailers)
        self.assertNotIn(b"X-Injected", self.client.take())
        self.assertTrue(self.client.aborted)
        self.assertEqual((len(self.bench.tasks), len(self.bench.records)), (0, 1))


@pytest.mark.feature("HTTP-4")
class PingTests(RelayingTestCase):
    """Idle WebSockets of an application that wants their clients to be pinged."""

    ACCEPT = (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")

    def setUp(self) -> None:
        timeouts = Timeouts(ping=Duration(30))
        self.bench = Bench([msgspec.structs.replace(each, timeouts=timeouts) for each in APPLICATIONS])
        self.client = self.bench.client()

    def piped(self, *fields: tuple[bytes, bytes]) -> Any:
        stream = self.begun(get(more=UPGRADE))
        stream.answer(ResponseHead(101, b"Switching", [(b"Upgrade", b"websocket"), *fields]), upgrade=True)
        self.run_()
        self.client.take()
        return stream

    def passes(self, seconds: int) -> None:
        """Time passes; both ends of the channel stay alive."""
        for _ in range(seconds):
            self.bench.clock.advance(1)
            self.run_()

    def test_idle_client(self) -> None:
        """It is pinged; its answer goes no further, and nothing of it keeps the origin's side from being idle."""
        stream = self.piped(self.ACCEPT)
        stream.write(frame(0x1, b"news"))
        self.run_()
        self.passes(29)
        self.assertEqual(self.client.take(), frame(0x1, b"news"))
        self.passes(2)
        ping = self.client.take()
        self.assertEqual((ping[0], len(ping)), (0x89, 2 + PING_OCTETS))
        self.bench.sends(self.client, frame(0xA, ping[2:], mask=b"abcd") + frame(0x1, b"hi", mask=b"wxyz"))
        self.assertEqual(self.receiver.data, frame(0x1, b"hi", mask=b"wxyz"))

    def test_only_websockets(self) -> None:
        """Other protocols, and WebSockets with frames of another kind, are left alone."""
        for fields in ((), (self.ACCEPT, (b"Sec-WebSocket-Extensions", b"mux"))):
            self.setUp()
            self.piped(*fields)
            self.passes(100)
            self.assertEqual(self.client.take(), b"")

    def test_nothing_is_left(self) -> None:
        """However a pinged WebSocket ends, no timer stays; what was held back still goes up."""
        for end in ("client", "origin", "session", "halves"):
            self.setUp()
            stream = self.piped(self.ACCEPT)
            self.passes(31)
            ping = self.client.take()
            self.bench.sends(self.client, frame(0xA, ping[2:], mask=b"abcd")[:7])
            if end == "client":
                self.client.lose()
            elif end == "origin":
                stream.reset(Code.ORIGIN_BROKE_OFF)
            elif end == "session":
                assert self.bench.preauth.session is not None
                self.bench.preauth.session.cut()
            else:
                self.client.protocol.readConnectionLost()
                self.run_()
                self.assertEqual(self.receiver.data, frame(0xA, ping[2:], mask=b"abcd")[:7])
                stream.finish()
            self.run_()
            self.assert_nothing_left()
            self.passes(100)
            self.assertEqual(self.client.take(), b"", end)

    def test_client_that_does_not_read(self) -> None:
        """It gets no ping on top of what it has not read."""
        self.piped(self.ACCEPT)
        self.client.producer.pauseProducing()
        self.passes(100)
        self.assertEqual(self.client.take(), b"")
        self.client.producer.resumeProducing()
        self.passes(31)
        self.assertTrue(self.client.take())
