"""The gateway: routing, identity, decisions, connectors, failures; one access record each."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned, HeaderRule, Rule, SingleSignOn, Who
from appproxy.identity import Identity
from appproxy.relay.catalog import Catalog
from appproxy.relay.connectors.attachments import Attachment
from appproxy.wire.frames import Code
from appproxy.wire.heads import ResponseHead
from appproxy.wire.limits import Limits
from tests.fakes.channels import Pair
from tests.fakes.fronts import APPLICATIONS, COOKIE, Bench, get, make_session


class GatewayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()
        self.client = self.bench.client()

    def asked(self, data: bytes) -> bytes:
        """Send and return what the relay answers by itself."""
        self.bench.sends(self.client, data)
        return self.client.take()

    def test_unknown_host_is_404(self) -> None:
        """N17: what is not published is 404 and reaches nobody."""
        self.assertIn(b"404", self.asked(get(host=b"other.example.com")))
        self.assertEqual(self.bench.pair.opener.streams, [])

    @pytest.mark.feature("AUTH-1")
    def test_what_is_open_to_strangers(self) -> None:
        """Public paths ask nobody, optional ones tell the origin who is signed in; others challenge."""
        rules = (Rule(paths=("/public/",), sign_in="public"), Rule(paths=("/maybe/",), sign_in="optional"))
        application = msgspec.structs.replace(APPLICATIONS[0], rule=rules)
        self.bench.gateway.catalog = Catalog([application])
        told = []
        for path, more in ((b"/public/x", COOKIE), (b"/maybe/x", COOKIE), (b"/maybe/x", b"")):
            self.bench.sends(self.bench.client(), get(path=path, more=more))
            told.append(self.bench.pair.opener.heads[-1][0].standing.identity is not None)
        self.assertEqual(told, [False, True, False])
        self.asked(get(path=b"/PUBLIC/x", more=b""))
        self.assertEqual((len(self.bench.pair.opener.streams), self.bench.records[-1][4]), (3, "challenged"))

    @pytest.mark.feature("POL-2")
    def test_rules_are_looked_at_with_every_request(self) -> None:
        """A path that a rule keeps for others is 403, and nothing of the request reaches the origin."""
        application = msgspec.structs.replace(
            APPLICATIONS[0], rule=(Rule(name="admins", paths=("/admin/",), allow=Who(users=("root",))),)
        )
        self.bench.gateway.catalog = Catalog([application])
        self.assertIn(b"403", self.asked(get(path=b"/Admin/x")))
        self.assertEqual(self.bench.pair.opener.streams, [])
        self.bench.sends(self.client, get(path=b"/x"))
        self.assertEqual(len(self.bench.pair.opener.streams), 1)

    @pytest.mark.feature("AUTH-1", "POL-2")
    def test_stepping_up(self) -> None:
        """Somebody whose sign-in is too weak for a path is asked for another, and nothing reaches the origin."""
        application = msgspec.structs.replace(APPLICATIONS[0], rule=(Rule(paths=("/pay/",), acr=("mfa",)),))
        self.bench.gateway.catalog = Catalog([application])
        self.assertIn(b"Location: /again", self.asked(get(path=b"/pay/x")))
        self.assertEqual((self.bench.pair.opener.streams, self.bench.records[-1][4]), ([], "step-up"))

    def test_stranger_is_challenged(self) -> None:
        """A01, A05: without a session nothing reaches a connector; neither does an upgrade."""
        self.assertIn(b"401", self.asked(get(more=b"")))
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        self.assertIn(b"401", self.asked(get(more=upgrade)))
        self.assertEqual(self.bench.pair.opener.streams, [])
        self.assertEqual(self.bench.records[0][4], "challenged")

    @pytest.mark.feature("POL-1")
    def test_unassigned_user_is_refused(self) -> None:
        """A34: signed in but not assigned is 403 and reaches nobody."""
        answer = self.asked(get(host=b"locked.example.com"))
        self.assertIn(b"403", answer)
        self.assertIn(b"refused client policy", answer)
        self.assertEqual(self.bench.pair.opener.streams, [])

    def test_passthrough_needs_no_session(self) -> None:
        """A pass-through application is reached by anybody, without an identity."""
        self.asked(get(host=b"open.example.com", more=b""))
        head = self.bench.pair.opener.heads[0][0]
        self.assertEqual((head.standing.application, head.standing.identity), ("open", None))

    def test_what_the_connector_is_told(self) -> None:
        """Target, order and case stay; hop-by-hop fields and the relay's cookies go; the relay vouches for the rest."""
        self.asked(
            get(
                path=b"/a%2Fb?q=%26",
                more=COOKIE
                + b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nConnection: x-gone\r\nX-Gone: 1\r\naB: c\r\n",
            )
        )
        head = self.bench.pair.opener.heads[0][0]
        fields = dict(head.standing.fields)
        self.assertEqual(head.target, b"/a%2Fb?q=%26")
        self.assertEqual(fields[b"Cookie"], b"theme=dark")
        self.assertEqual(fields[b"X-Forwarded-For"], b"192.0.2.7")
        self.assertEqual(fields[b"Forwarded"], b'for=192.0.2.7;host="hr.example.com";proto=https')
        self.assertEqual(fields[b"X-Forwarded-Port"], b"443")
        self.assertEqual(fields[b"Via"], b"1.1 appproxy")
        self.assertEqual(fields[b"aB"], b"c")
        self.assertNotIn(b"X-Gone", fields)
        self.assertNotIn(b"Connection", fields)
        self.assertEqual(head.standing.identity, {"user": "alice"})

    def test_identity_is_no_more_than_needed(self) -> None:
        """Groups and claims travel only for applications whose single sign-on uses them."""
        rules = (HeaderRule(name="X-G", value="groups"), HeaderRule(name="X-M", value="claim:mail"))
        application = Application(
            id="told",
            external_url="https://told.example.com/",
            internal_url="http://t/",
            connector_group="hq",
            assigned=Assigned(everyone=True),
            sso=SingleSignOn(mode="header", header=rules),
        )
        bench = Bench([application])
        bench.preauth.session = make_session(Identity("i", "s", "bob", ("g",), {"mail": "b@x", "secret": "y"}))
        bench.sends(bench.client(), get(host=b"told.example.com"))
        self.assertEqual(
            bench.pair.opener.heads[0][0].standing.identity, {"user": "bob", "groups": ["g"], "claims": {"mail": "b@x"}}
        )

    def test_no_connector_is_503(self) -> None:
        """HTTP-8: without a connector the answer is 503 and says so."""
        self.bench.attachments.remove(self.bench.attachments.by_connector["c-1"])
        answer = self.asked(get())
        self.assertIn(b"HTTP/1.1 503", answer)
        self.assertIn(b"no-connector relay channel", answer)

    @pytest.mark.feature("HTTP-8")
    def test_connector_failures_have_their_status(self) -> None:
        """Each code of the channel becomes a status, a side and a phase."""
        for code, expected in (
            (Code.UNKNOWN_APPLICATION, b"502 Bad Gateway|unknown-application connector channel"),
            (Code.NOT_ALLOWED, b"502 Bad Gateway|not-allowed-here connector policy"),
            (Code.DNS, b"502 Bad Gateway|origin-unresolved origin dns"),
            (Code.CONNECT, b"502 Bad Gateway|origin-unreachable origin connect"),
            (Code.TLS, b"502 Bad Gateway|origin-tls origin tls"),
            (Code.SSO, b"502 Bad Gateway|sso-failed connector sso"),
            (Code.FIRST_BYTE, b"504 Gateway Timeout|origin-timeout origin first byte"),
            (Code.ORIGIN_BROKE_OFF, b"502 Bad Gateway|origin-broke-off origin first byte"),
            (Code.NOT_HTTP, b"502 Bad Gateway|origin-not-http origin first byte"),
            (Code.INTERNAL, b"502 Bad Gateway|connector-failed connector channel"),
        ):
            client = self.bench.client()
            self.bench.sends(client, get())
            self.bench.pair.opener.streams[-1].reset(code, "details for the log")
            self.bench.pair.run()
            answer = client.take()
            for part in expected.split(b"|"):
                self.assertIn(part, answer, code)
            self.assertNotIn(b"details", answer)

    def test_failure_after_the_head_aborts(self) -> None:
        """C38, C39: once the head is out, a failure cuts the connection; no polite end."""
        self.bench.sends(self.client, get())
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"10")]))
        stream.write(b"half")
        self.bench.pair.run()
        stream.reset(Code.ORIGIN_BROKE_OFF)
        self.bench.pair.run()
        self.assertTrue(self.client.aborted)
        self.assertEqual(self.bench.records[0][4], "cut-short origin-broke-off")

    def test_lost_channel_is_502_for_a_post(self) -> None:
        """C33: a POST whose connector dies is 502; it is never sent twice."""
        self.bench.sends(
            self.client, b"POST / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + b"Content-Length: 2\r\n\r\nab"
        )
        self.bench.pair.relay.carrier_closed(1006, "cut")
        self.assertIn(b"connector-lost connector channel", self.client.take())

    @pytest.mark.feature("HTTP-9")
    def test_lost_channel_is_retried_for_a_get(self) -> None:
        """C34: an idempotent request without a body goes to another connector, once."""
        other = Pair()
        attachment = Attachment("c-2", "hq-2", "hq", boot="b", epoch=1, peer="p", since=0)
        attachment.channels.append(other.relay)
        self.bench.attachments.add(attachment)
        self.bench.sends(self.client, get(path=b"/once"))
        self.bench.pair.relay.carrier_closed(1006, "cut")
        other.run()
        self.assertEqual([head.target for head, _, _ in other.opener.heads], [b"/once"])
        other.opener.streams[0].answer(ResponseHead(204, b"No Content", []), end=True)
        other.run()
        self.assertIn(b"HTTP/1.1 204", self.client.take())

    @pytest.mark.feature("HTTP-9")
    def test_refused_stream_is_tried_elsewhere(self) -> None:
        """RESET(refused) means that nothing was delivered; with nobody else left it is 503."""
        self.bench.sends(self.client, get())
        self.bench.pair.opener.streams[0].reset(Code.REFUSED)
        self.bench.pair.run()
        self.assertIn(b"connector-busy connector channel", self.client.take())

    def test_least_outstanding_connector_is_taken(self) -> None:
        """CON-5: the next request goes to the connector with the least under way."""
        other = Pair()
        attachment = Attachment("c-2", "hq-2", "hq", boot="b", epoch=1, peer="p", since=0)
        attachment.channels.append(other.relay)
        self.bench.attachments.add(attachment)
        for _ in range(4):
            self.bench.sends(self.bench.client(), get())
        other.run()
        self.assertEqual((len(self.bench.pair.opener.streams), len(other.opener.streams)), (2, 2))

    def test_hostile_answers_become_502(self) -> None:
        """C20, C22: header injection and lengths that contradict each other are never written to a client."""
        for fields in (
            [(b"X", b"a\r\nSet-Cookie: b")],
            [(b"Bad Name", b"a")],
            [(b"Content-Length", b"5"), (b"Content-Length", b"6")],
            [(b"Content-Length", b"-1")],
        ):
            client = self.bench.client()
            self.bench.sends(client, get())
            self.bench.pair.opener.streams[-1].answer(ResponseHead(200, b"OK", fields))
            self.bench.pair.run()
            self.assertTrue(client.take().startswith(b"HTTP/1.1 502"), fields)

    def test_body_longer_or_shorter_than_announced_is_cut(self) -> None:
        """C22: the relay frames by itself; a body that does not fit its head ends the connection."""
        for body in (b"too long", b"x"):
            client = self.bench.client()
            self.bench.sends(client, get())
            stream = self.bench.pair.opener.streams[-1]
            stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"3")]))
            stream.end(body)
            self.bench.pair.run()
            self.assertTrue(client.aborted, body)

    def test_reserved_cookies_of_an_origin_are_dropped(self) -> None:
        """S09: an origin cannot set the relay's cookies; its own pass."""
        self.bench.sends(self.client, get())
        fields = [(b"Set-Cookie", b"__Host-appproxy-session=evil"), (b"Set-Cookie", b"theme=light")]
        self.bench.pair.opener.streams[0].answer(ResponseHead(200, b"OK", fields), end=True)
        self.bench.pair.run()
        answer = self.client.take()
        self.assertNotIn(b"evil", answer)
        self.assertIn(b"theme=light", answer)

    @pytest.mark.feature("HTTP-4")
    def test_upgrade_becomes_a_pipe(self) -> None:
        """After a 101 octets pass both ways, cookies of the handshake kept, each half closed alone."""
        upgrade = COOKIE + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        self.bench.sends(self.client, get(more=upgrade) + b"early frame")
        head, end, offered = self.bench.pair.opener.heads[0]
        self.assertEqual((dict(head.standing.fields)[b"Upgrade"], end, offered), (b"websocket", False, True))
        stream, receiver = self.bench.pair.opener.streams[0], self.bench.pair.opener.receivers[0]
        self.assertEqual(receiver.data, b"")
        fields = [(b"Upgrade", b"websocket"), (b"Set-Cookie", b"a=b")]
        stream.answer(ResponseHead(101, b"Switching Protocols", fields), upgrade=True)
        stream.write(b"\x81\x05hello")
        self.bench.pair.run()
        written = self.client.take()
        self.assertIn(b"Set-Cookie: a=b", written)
        self.assertTrue(written.endswith(b"\r\n\r\n\x81\x05hello"))
        self.assertEqual(receiver.data, b"early frame")
        self.bench.sends(self.client, b"more")
        self.assertEqual(receiver.data, b"early framemore")
        self.client.protocol.readConnectionLost()
        self.bench.pair.run()
        self.assertTrue(receiver.ended)
        self.assertFalse(self.client.disconnecting)
        stream.end(b"bye")
        self.bench.pair.run()
        self.assertEqual(self.client.take(), b"bye")
        self.assertTrue(self.client.disconnecting)

    def test_refused_upgrade_is_an_ordinary_answer(self) -> None:
        """C37: what the client sent early after a refused upgrade is never forwarded."""
        upgrade = COOKIE + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        self.bench.sends(self.client, get(more=upgrade) + b"GET /smuggled HTTP/1.1\r\nHost: hr.example.com\r\n\r\n")
        self.bench.pair.opener.streams[0].answer(ResponseHead(403, b"No", [(b"Content-Length", b"0")]), end=True)
        self.bench.pair.run()
        self.assertIn(b"HTTP/1.1 403", self.client.take())
        self.assertEqual(len(self.bench.pair.opener.streams), 1)
        self.assertTrue(self.client.disconnecting or self.client.half_closed)

    def test_end_of_the_session_ends_its_pipes(self) -> None:
        """W03: when the session ends, its open WebSocket is cut and the connector told."""
        upgrade = COOKIE + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        self.bench.sends(self.client, get(more=upgrade))
        self.bench.pair.opener.streams[0].answer(
            ResponseHead(101, b"Switching Protocols", [(b"Upgrade", b"websocket")]), upgrade=True
        )
        self.bench.pair.run()
        assert self.bench.preauth.session is not None
        self.bench.preauth.session.cut()
        self.bench.pair.run()
        self.assertTrue(self.client.aborted)
        self.assertEqual(self.bench.pair.opener.receivers[0].resets[0][0], Code.CANCELLED)

    @pytest.mark.feature("PUB-10")
    def test_a_new_catalog_leaves_streams_alone(self) -> None:
        """A change of what is published drops no stream that is under way; new requests see it at once."""
        self.bench.sends(self.client, get())
        self.bench.gateway.catalog = Catalog(APPLICATIONS[1:])
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"4")]))
        stream.end(b"done")
        self.bench.pair.run()
        self.assertTrue(self.client.take().endswith(b"done"))
        self.assertIn(b"404", self.asked(get()))

    def test_an_application_changes_its_connectors(self) -> None:
        """R14: new requests go to the new group only; what is under way at the old one ends as it began."""
        other = Pair()
        attachment = Attachment("c-9", "lab-1", "lab", boot="b", epoch=1, peer="p", since=0)
        attachment.channels.append(other.relay)
        self.bench.attachments.add(attachment)
        self.bench.sends(self.client, get(path=b"/before"))
        moved = msgspec.structs.replace(APPLICATIONS[0], connector_group="lab")
        self.bench.gateway.catalog = Catalog([moved])
        late = self.bench.client()
        self.bench.sends(late, get(path=b"/after"))
        other.run()
        self.assertEqual([head.target for head, _, _ in self.bench.pair.opener.heads], [b"/before"])
        self.assertEqual([head.target for head, _, _ in other.opener.heads], [b"/after"])
        for pair, client in ((self.bench.pair, self.client), (other, late)):
            pair.opener.streams[0].answer(ResponseHead(200, b"OK", [(b"Content-Length", b"4")]))
            pair.opener.streams[0].end(b"done")
            pair.run()
            self.assertTrue(client.take().endswith(b"\r\n\r\ndone"))

    def test_nobody_gets_what_was_made_for_another(self) -> None:
        """S25: nothing is kept for the next who asks; what the origin says about caches passes, and is not followed."""
        sessions = {name: make_session(Identity("i", name, name)) for name in ("alice", "bob")}
        self.patch(self.bench.preauth, "peek", lambda asked, _: sessions.get(dict(asked.head.fields)[b"User"].decode()))
        self.bench.gateway.catalog = Catalog(
            [msgspec.structs.replace(APPLICATIONS[0], assigned=Assigned(everyone=True))]
        )
        lasting = [(b"Cache-Control", b"public, max-age=31536000"), (b"ETag", b'"1"'), (b"Vary", b"Accept-Encoding")]
        clients = {name: self.bench.client() for name in sessions}
        for turn in range(3):
            for name, client in clients.items():
                self.bench.sends(client, get(path=b"/report", more=b"User: " + name.encode() + b"\r\n"))
            streams, heads = self.bench.pair.opener.streams[-2:], self.bench.pair.opener.heads[-2:]
            self.assertEqual(len(self.bench.pair.opener.streams), 2 * (turn + 1))
            for stream, (head, _, _) in reversed(list(zip(streams, heads, strict=True))):
                assert head.standing.identity is not None
                body = b"only for " + head.standing.identity["user"].encode()
                stream.answer(ResponseHead(200, b"OK", [*lasting, (b"Content-Length", b"%d" % len(body))]))
                stream.end(body)
            self.bench.pair.run()
            for name, client in clients.items():
                answer = client.take()
                self.assertTrue(answer.endswith(b"\r\n\r\nonly for " + name.encode()), answer)
                for field, value in lasting:
                    self.assertEqual(answer.count(b"%s: %s\r\n" % (field, value)), 1)
                self.assertNotIn(b"\r\nAge:", answer)

    def test_three_thousand_ranges(self) -> None:
        """D04: however many ranges, they are the origin's to judge: one request goes up, one answer comes down."""
        ranges = b"bytes=" + b",".join(b"%d-%d" % (n, n + 1) for n in range(0, 6000, 2))
        self.bench.sends(self.client, get(more=COOKIE + b"Range: " + ranges + b'\r\nIf-Range: "1"\r\n'))
        ((head, _, _),) = self.bench.pair.opener.heads
        told = dict(head.standing.fields)
        self.assertEqual((told[b"Range"], told[b"If-Range"]), (ranges, b'"1"'))
        fields = [(b"Content-Range", b"bytes */6000"), (b"Content-Length", b"0")]
        self.bench.pair.opener.streams[0].answer(ResponseHead(416, b"Range Not Satisfiable", fields), end=True)
        self.bench.pair.run()
        answer = self.client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 416 Range Not Satisfiable\r\n"))
        self.assertIn(b"Content-Range: bytes */6000\r\n", answer)
        answer = self.asked(get(more=COOKIE + b"Range: " + ranges * 3 + b"\r\n"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 431 "))
        self.assertEqual(len(self.bench.pair.opener.streams), 1)

    @pytest.mark.feature("OBS-1")
    def test_one_record_per_request(self) -> None:
        """Every request leaves one record with application, user, connector and bytes both ways."""
        self.bench.sends(
            self.client, b"POST / HTTP/1.1\r\nHost: hr.example.com\r\n" + COOKIE + b"Content-Length: 2\r\n\r\nab"
        )
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", []))
        stream.end(b"hello")
        self.bench.pair.run()
        ((_, application, user, _, cause, up, down),) = self.bench.records
        self.assertEqual((application, user, cause, up, down), ("hr", "alice", "", 2, 5))

    def test_trailers_pass(self) -> None:
        """HTTP-3: trailers of the origin reach the client after a chunked body."""
        self.bench.sends(self.client, get())
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", []))
        stream.write(b"x")
        stream.finish([(b"X-Digest", b"d")])
        self.bench.pair.run()
        self.assertTrue(self.client.take().endswith(b"0\r\nX-Digest: d\r\n\r\n"))

    def test_head_request_keeps_its_length(self) -> None:
        """An answer to HEAD says the length it would have, and has no body."""
        self.bench.sends(self.client, get().replace(b"GET", b"HEAD", 1))
        self.bench.pair.opener.streams[0].answer(ResponseHead(200, b"OK", [(b"Content-Length", b"77")]), end=True)
        self.bench.pair.run()
        answer = self.client.take()
        self.assertIn(b"Content-Length: 77\r\n", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))

    def test_client_gone_while_the_store_is_asked(self) -> None:
        """C35: for a client that went away before it was known who it is, no stream is opened."""
        session, waiting = self.bench.preauth.session, Deferred[None]()
        self.bench.preauth.session = None

        async def identify(*_: object) -> object:
            await waiting
            return session

        self.bench.preauth.identify = identify  # type: ignore[method-assign]
        self.bench.sends(self.client, get())
        self.client.lose()
        self.bench.preauth.session = session
        waiting.callback(None)
        self.bench.pair.run()
        self.assertEqual(self.bench.pair.opener.streams, [])
        self.assertEqual((len(self.bench.tasks), self.bench.records[0][4]), (0, "client-gone"))

    def test_failure_inside_the_relay(self) -> None:
        """What nobody foresaw is 500 without its text; the log has it, under the request's id."""

        async def broken(*_: object) -> None:
            raise RuntimeError("secret inside")

        self.bench.preauth.challenge = broken  # type: ignore[method-assign]
        answer = self.asked(get(more=b""))
        self.assertTrue(answer.startswith(b"HTTP/1.1 500 "))
        self.assertNotIn(b"secret", answer)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.bench.records[0][4], "internal")

    def test_head_beyond_what_a_channel_carries(self) -> None:
        """An identity too large for a channel's head is 502 with its own name; nothing is sent, the channel stays."""
        rules = (HeaderRule(name="X-G", value="groups"),)
        application = Application(
            id="told",
            external_url="https://told.example.com/",
            internal_url="http://t/",
            connector_group="hq",
            assigned=Assigned(everyone=True),
            sso=SingleSignOn(mode="header", header=rules),
        )
        bench = Bench([application])
        groups = tuple(f"group-{number:060}" for number in range(6000))
        bench.preauth.session = make_session(Identity("i", "s", "bob", groups))
        client = bench.client()
        bench.sends(client, get(host=b"told.example.com"))
        answer = client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 "))
        self.assertIn(b"head-too-large relay channel", answer)
        self.assertTrue(bench.pair.relay.usable)

    @pytest.mark.feature("HTTP-9")
    def test_a_full_channel_is_503(self) -> None:
        """Where every channel has all the streams that it may, the answer is 503 and nothing was delivered."""
        bench = Bench(pair=Pair(limits=Limits(max_streams=1)))
        first, second = bench.client(), bench.client()
        for client in (first, second):
            bench.sends(client, get())
        self.assertEqual(first.take(), b"")
        answer = second.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
        self.assertIn(b"connector-busy connector channel", answer)
        self.assertEqual(len(bench.pair.opener.streams), 1)
