"""The journey of a request through the connector."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector.serve import Serving
from appproxy.wire.frames import Code
from appproxy.wire.heads import CONNECTOR
from tests.connector.rig import HR, Rig
from tests.fakes.recorded_log import recorded

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DEEP = {
    **HR,
    "id": "deep",
    "external_url": "https://apps.example.com/hr/",
    "internal_url": "https://intra.corp.local/portal/hr/",
}
WILD = {
    **HR,
    "id": "wild",
    "external_url": "https://*.apps.example.com/",
    "internal_url": "http://*.corp.local/",
}


class JourneyTests(SynchronousTestCase):
    """What the origin is asked and what the relay is answered."""

    def setUp(self) -> None:
        self.rig = Rig(HR, DEEP, WILD)

    def heard(self) -> bytes:
        return self.rig.sockets[-1].take()

    def test_a_request_is_asked_of_the_applications_origin(self) -> None:
        """Host, port and head are the internal ones."""
        asking = self.rig.ask(b"/leave?x=1", (b"Accept", b"*/*"))
        self.assertEqual(self.rig.sockets[0].address, ("hr.corp.local", 8080))
        self.assertEqual(self.heard(), b"GET /leave?x=1 HTTP/1.1\r\nHost: hr.corp.local:8080\r\nAccept: */*\r\n\r\n")
        self.rig.sockets[0].say(OK)
        self.assertEqual((asking.status, asking.answer.data, asking.answer.ended), (200, b"ok", True))

    def test_requests_that_repeat_their_fields_are_prepared_once(self) -> None:
        """Each has its own target and id, and what was worked out before is never another user's or application's."""
        heard = []
        for target, user, application, host in (
            (b"/1", "alice", "hr", "hr.example.com"),
            (b"/2", "alice", "hr", "hr.example.com"),
            (b"/3", "bob", "hr", "hr.example.com"),
            (b"/4", "alice", "wild", "a.apps.example.com"),
            (b"/5", "alice", "wild", "b.apps.example.com"),
        ):
            self.rig.ask(
                target, identity={"user": user}, application=application, host=host, request_id=f"id-{target.decode()}"
            )
            heard.append(self.heard().split(b"\r\n")[:-2])
        self.assertEqual(
            heard,
            [
                [b"GET /1 HTTP/1.1", b"Host: hr.corp.local:8080", b"X-Remote-User: alice", b"X-Request-ID: id-/1"],
                [b"GET /2 HTTP/1.1", b"Host: hr.corp.local:8080", b"X-Remote-User: alice", b"X-Request-ID: id-/2"],
                [b"GET /3 HTTP/1.1", b"Host: hr.corp.local:8080", b"X-Remote-User: bob", b"X-Request-ID: id-/3"],
                [b"GET /4 HTTP/1.1", b"Host: a.corp.local", b"X-Remote-User: alice", b"X-Request-ID: id-/4"],
                [b"GET /5 HTTP/1.1", b"Host: b.corp.local", b"X-Remote-User: alice", b"X-Request-ID: id-/5"],
            ],
        )

    def test_new_assignments_are_prepared_anew(self) -> None:
        """What was worked out for an application as it was is of no use once it has changed."""
        self.rig.ask(b"/1")
        self.heard()
        self.rig.assignments.replace(2, [{**HR, "internal_url": "http://new.corp.local/"}])
        self.rig.ask(b"/1")
        self.assertIn(b"Host: new.corp.local\r\n", self.heard())

    def test_an_id_is_no_way_into_a_head(self) -> None:
        """C24: a hostile relay's request id adds no field; its length is no number beyond the protocol's."""
        asking = self.rig.ask(request_id="a\r\nX-Admin: 1")
        self.assertTrue(asking.reset)
        self.assertEqual([socket.take() for socket in self.rig.sockets], [b""] * len(self.rig.sockets))

    @pytest.mark.feature("PUB-3")
    def test_addresses_are_translated_both_ways(self) -> None:
        """Path prefix, Origin, Referer up; Location and cookie paths down."""
        asking = self.rig.ask(
            b"/hr/leave?x",
            (b"Origin", b"https://apps.example.com"),
            (b"Referer", b"https://apps.example.com/hr/start"),
            application="deep",
            host="apps.example.com",
        )
        heard = self.heard()
        self.assertTrue(heard.startswith(b"GET /portal/hr/leave?x HTTP/1.1\r\nHost: intra.corp.local\r\n"))
        self.assertIn(b"Origin: https://intra.corp.local\r\n", heard)
        self.assertIn(b"Referer: https://intra.corp.local/portal/hr/start\r\n", heard)
        self.rig.sockets[0].say(
            b"HTTP/1.1 302 Found\r\nLocation: https://intra.corp.local/portal/hr/new\r\n"
            b"Set-Cookie: a=b; Path=/portal/hr/\r\nContent-Length: 0\r\n\r\n"
        )
        self.assertEqual(asking.fields[0], (b"Location", b"https://apps.example.com/hr/new"))
        self.assertEqual(asking.fields[1], (b"Set-Cookie", b"a=b; Path=/hr/"))

    @pytest.mark.feature("PUB-4")
    def test_a_wildcard_goes_to_the_host_of_the_same_labels(self) -> None:
        """Each host has connections of its own."""
        self.rig.ask(application="wild", host="wiki.apps.example.com")
        self.rig.ask(application="wild", host="a.b.apps.example.com:443")
        hosts = [socket.address[0] for socket in self.rig.sockets]
        self.assertEqual(hosts, ["wiki.corp.local", "a.b.corp.local"])
        self.assertIn(b"Host: a.b.corp.local\r\n", self.heard())

    def test_a_host_that_is_not_published_is_not_dialled(self) -> None:
        """A relay cannot name an origin by the Host of a wildcard."""
        for host in ("evil.example.com", "apps.example.com", "", "a b", "..apps.example.com", "é.apps.example.com"):
            self.assertEqual(self.rig.ask(application="wild", host=host).reset, Code.PROTOCOL, host)
        self.assertEqual(self.rig.dials, [])

    def test_an_unknown_application_is_refused(self) -> None:
        """Nothing is dialled for it."""
        asking = self.rig.ask(application="nobody")
        self.assertEqual((asking.reset, self.rig.dials), (Code.UNKNOWN_APPLICATION, []))
        self.assertEqual(self.rig.records[-1][5], "unknown-application")

    @pytest.mark.feature("CON-8")
    def test_the_local_allow_list_has_the_last_word(self) -> None:
        """C23: no relay can widen it."""
        self.rig = Rig(HR, {**HR, "id": "meta", "internal_url": "http://169.254.169.254/"}, WILD,
                       allow=["http://hr.corp.local:8080", "http://wiki.corp.local"])  # fmt: skip
        self.assertEqual(self.rig.ask(application="meta").reset, Code.NOT_ALLOWED)
        self.assertEqual(self.rig.ask(application="wild", host="mail.apps.example.com").reset, Code.NOT_ALLOWED)
        self.assertEqual(self.rig.dials, [])
        self.rig.ask()
        self.rig.ask(application="wild", host="wiki.apps.example.com")
        self.assertEqual(len(self.rig.sockets), 2)
        self.assertIn("allow-list", self.rig.refused["meta"])

    def test_heads_are_checked_again(self) -> None:
        """C24: whatever a relay sends, the origin gets one well-formed request or none."""
        host = (b"Host", b"hr.example.com")
        for target, fields, method in (
            (b"/a\r\nX: y", (), b"GET"),
            (b"/a b", (), b"GET"),
            (b"http://169.254.169.254/", (), b"GET"),
            (b"", (), b"GET"),
            (b"*", (), b"GET"),
            (b"/\xff", (), b"GET"),
            (b"/a#b", (), b"GET"),
            (b"/", (), b"GET /x HTTP/1.1\r\nX:"),
            (b"/", (), b"G\xc9T"),
            (b"/", (), b"CONNECT"),
            (b"/", ((b"X-A", b"1\r\nX-B: 2"),), b"GET"),
            (b"/", ((b"X A", b"1"),), b"GET"),
            (b"/", ((b"X-A", b"\x00"),), b"GET"),
            (b"/", ((b"", b""),), b"GET"),
            (b"/", (host,), b"GET"),
            (b"/", ((b"Transfer-Encoding", b"chunked"),), b"GET"),
            (b"/", ((b"Connection", b"X-A"),), b"GET"),
            (b"/", ((b"Content-Length", b"5"),), b"GET"),
        ):
            asking = self.rig.ask(target, *fields, method=method)
            self.assertTrue(asking.status == 400 or asking.reset, (target, fields, method))
            self.assertEqual([socket.take() for socket in self.rig.sockets], [b""] * len(self.rig.sockets))

    def test_no_path_leaves_what_is_published(self) -> None:
        """A relay that forgot to look cannot reach the rest of the origin."""
        for target in (b"/hr/../admin", b"/admin", b"/hrx", b"/hr/%2e%2e/admin", b"/hr\\..\\admin", b"*"):
            asking = self.rig.ask(target, application="deep", host="apps.example.com")
            self.assertTrue(asking.status == 400 or asking.reset, target)
        self.assertEqual(self.rig.sockets, [])

    def test_what_the_client_did_wrong_is_an_answer(self) -> None:
        """A COPY to somewhere that is not published is forbidden: the connector says so, with cause and phase."""
        asking = self.rig.ask(b"/a", (b"Destination", b"https://elsewhere.example/b"), method=b"COPY")
        head, end, *_ = asking.answer.heads[0]
        self.assertEqual((head.status, end, head.speaker), (403, True, CONNECTOR))
        self.assertEqual((head.cause, head.phase), ("unpublished-destination", "request"))
        self.assertEqual((self.rig.sockets, self.rig.records[-1][1]), ([], 403))

    def test_options_for_the_whole_server_pass(self) -> None:
        """``OPTIONS *`` is the one target without a path."""
        self.rig.ask(b"*", method=b"OPTIONS")
        self.assertTrue(self.heard().startswith(b"OPTIONS * HTTP/1.1\r\n"))

    @pytest.mark.feature("SSO-6")
    def test_the_user_is_told_in_a_header_that_nobody_else_can_set(self) -> None:
        """H01, H07: the session's value, one after another on the same connection, whatever clients send."""
        for user in ("alice", "bob"):
            self.rig.ask(b"/", (b"x_remote.USER", b"admin"), (b"X-Remote-User", b"root"), identity={"user": user})
            heard = self.heard()
            self.assertEqual(heard.count(b"emote"), 1)
            self.assertIn(b"X-Remote-User: %b\r\n" % user.encode(), heard)
            self.rig.sockets[0].say(OK)

    def test_nobody_signed_in_means_no_such_header(self) -> None:
        """H09: pass-through applications too, and trailers."""
        asking = self.rig.ask(b"/", (b"X-Remote-User", b"root"), method=b"POST", end=False)
        asking.finish((b"x_remote_user", b"root"), (b"X-Sum", b"1"))
        heard = self.heard()
        self.assertNotIn(b"emote", heard)
        self.assertIn(b"X-Sum: 1\r\n", heard)

    def test_an_identity_that_cannot_be_told_fails_the_request(self) -> None:
        """H03: a name with CR LF never becomes a second header."""
        asking = self.rig.ask(identity={"user": "a\r\nX-Admin: 1"})
        head = asking.answer.heads[-1][0]
        self.assertEqual((head.status, head.speaker, head.code, head.cause), (502, CONNECTOR, Code.SSO, "sso-failed"))
        self.assertEqual(self.rig.sockets, [])

    @pytest.mark.feature("SCN-5")
    def test_unusual_methods_and_endless_bodies_pass(self) -> None:
        """W07: RPC_IN_DATA with a length of 1 GiB streams; nothing waits for its end."""
        asking = self.rig.ask(b"/", (b"Content-Length", b"1073741824"), method=b"RPC_IN_DATA", end=False, affinity="a")
        asking.send(b"a" * 1000)
        heard = self.heard()
        self.assertTrue(heard.startswith(b"RPC_IN_DATA / HTTP/1.1\r\n"))
        self.assertTrue(heard.endswith(b"Content-Length: 1073741824\r\n\r\n" + b"a" * 1000))

    @pytest.mark.feature("HTTP-3")
    def test_expect_continue_is_end_to_end(self) -> None:
        """W11: the origin's 100 reaches the client, whose body then reaches the origin."""
        asking = self.rig.ask(b"/", (b"Expect", b"100-continue"), (b"Content-Length", b"2"), method=b"PUT", end=False)
        self.assertIn(b"Expect: 100-continue\r\n", self.heard())
        self.rig.sockets[0].say(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(asking.answer.heads[0][0].status, 100)
        asking.send(b"ok", end=True)
        self.assertEqual(self.heard(), b"ok")


@pytest.mark.feature("SCN-8")
class TableauTests(SynchronousTestCase):
    """An application that wants its external name, believes the connectors, and takes its time."""

    def setUp(self) -> None:
        timeouts = {"first_byte": "long", "upgraded_idle": "2h"}
        self.rig = Rig({**HR, "sso": {"mode": "none"}, "translate": {"host_header": False}, "timeouts": timeouts})

    def test_names_and_patience(self) -> None:
        """It sees its external host and where the client came from, and may think for nearly three minutes."""
        asking = self.rig.ask(b"/views/sales", (b"X-Forwarded-For", b"192.0.2.7"), (b"X-Forwarded-Proto", b"https"))
        heard = self.rig.sockets[0].take()
        for line in (b"Host: hr.example.com", b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https"):
            self.assertIn(line + b"\r\n", heard)
        self.rig.advance(178)
        self.rig.sockets[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual((asking.status, asking.reset), (200, None))

    def test_websockets_of_a_quiet_dashboard(self) -> None:
        """Origin and Host agree, and an hour of silence is none too many."""
        origin = (b"Origin", b"https://hr.example.com")
        asking = self.rig.ask(b"/vizql", (b"Upgrade", b"websocket"), origin, upgrade=True, end=False)
        heard = self.rig.sockets[0].take()
        self.assertIn(b"Origin: https://hr.example.com\r\n", heard)
        self.assertIn(b"Host: hr.example.com\r\n", heard)
        self.rig.sockets[0].say(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.rig.advance(3600)
        asking.send(b"still here")
        self.assertEqual((self.rig.sockets[0].take(), asking.reset), (b"still here", None))


class EndingTests(SynchronousTestCase):
    """However an exchange ends, everything is let go of."""

    def setUp(self) -> None:
        self.rig = Rig()

    def test_a_cancelled_request_closes_its_connection_at_once(self) -> None:
        """C35: before the head, and in the middle of either body."""
        for say, body in ((b"", False), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", False), (b"", True)):
            asking = self.rig.ask(method=b"POST" if body else b"GET", end=not body)
            socket = self.rig.sockets[-1]
            if say:
                socket.say(say)
            asking.stream.reset(Code.CANCELLED)
            self.rig.pair.run()
            self.assertTrue(socket.aborted)
            self.assertEqual(self.rig.records[-1][5], "cancelled")
        self.assertEqual(self.rig.serving.journeys, set())

    def test_a_request_cancelled_while_dialling_leaves_an_idle_connection(self) -> None:
        """The next one uses it."""
        self.rig.hold_dials = True
        self.rig.ask().stream.reset(Code.CANCELLED)
        self.rig.pair.run()
        self.rig.dials[0].callback(None)
        self.assertEqual(self.rig.sockets[0].take(), b"")
        self.rig.ask()
        self.assertEqual((len(self.rig.dials), bool(self.rig.sockets[0].take())), (1, True))

    def test_a_body_cancelled_after_its_answer_closes_its_connection(self) -> None:
        """The answer is long gone, the upload is not wanted any more."""
        asking = self.rig.ask(method=b"POST", end=False)
        self.rig.sockets[0].say(OK)
        asking.stream.reset(Code.NONE, "answered early")
        self.rig.pair.run()
        self.assertTrue(self.rig.sockets[0].aborted)

    def test_a_lost_channel_closes_all_connections_that_are_busy(self) -> None:
        """Nobody is left to be answered."""
        self.rig.ask()
        self.rig.ask(method=b"POST", end=False)
        self.rig.pair.connector.carrier_closed(1006, "cut")
        self.assertTrue(all(socket.aborted for socket in self.rig.sockets))
        self.assertEqual(self.rig.serving.journeys, set())

    @pytest.mark.feature("HTTP-8")
    def test_every_exchange_leaves_one_record(self) -> None:
        """Status, bytes up and down, seconds, and what went wrong."""
        asking = self.rig.ask(b"/x", method=b"POST", end=False, request_id="r-1")
        asking.send(b"four", end=True)
        self.rig.advance(2)
        self.rig.sockets[0].say(OK)
        ((head, *rest),) = self.rig.records
        self.assertEqual((head.request_id, head.target, rest), ("r-1", b"/x", [200, 4, 2, 2.0, ""]))
        self.assertTrue(asking.answer.ended)

    def test_a_fault_of_ours_costs_one_request(self) -> None:
        """It is logged with its traceback and told as internal; the next request is served."""
        self.patch(self.rig.serving, "_origins", None)
        with recorded(Serving) as events:
            asking = self.rig.ask()
        self.assertEqual(asking.reset, Code.INTERNAL)
        self.assertEqual(self.rig.records[-1][5], "internal")
        self.assertEqual(events[0]["log_failure"].type, AttributeError)

    def test_failures_are_logged_with_their_detail(self) -> None:
        """The operator sees host and cause; the relay does not."""
        with recorded(Serving) as events:
            asking = self.rig.ask()
            self.rig.sockets[0].lose(clean=False)
        self.assertIn("hr.corp.local:8080", events[0]["detail"])
        self.assertNotIn("corp", asking.answer.resets[0][1])
