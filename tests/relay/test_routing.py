"""From the octets of a request to the application that it is for: every way to name another one than it seems."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned, CrossOrigin, Segment
from appproxy.relay.catalog import Catalog
from appproxy.wire.heads import ResponseHead
from tests.fakes.fronts import COOKIE, Bench, get


def application(identifier: str, external: str, **more: Any) -> Application:
    """Something published at *external*; open to all unless told otherwise."""
    fields = {"internal_url": f"http://{identifier}.corp.local/", "connector_group": "hq", **more}
    fields.setdefault("preauthentication", "passthrough")
    return Application(id=identifier, external_url=external, **fields)


LOCKED = {"preauthentication": "oidc", "assigned": Assigned(users=("bob",))}


class RoutingTestCase(SynchronousTestCase):
    """A relay with some applications, and what becomes of requests."""

    def serve(self, *applications: Application) -> None:
        """Publish them."""
        self.bench = Bench(applications)

    def reached(self, request: bytes) -> tuple[int, str | None]:
        """The status of the relay's own answer, or 0 and the application that the request went to."""
        client, opener = self.bench.client(), self.bench.pair.opener
        before = len(opener.heads)
        self.bench.sends(client, request)
        answer = client.take()
        if answer:
            self.assertEqual(len(opener.heads), before)
            return int(answer.split(b" ")[1]), None
        self.assertEqual(len(opener.heads), before + 1)
        return 0, opener.heads[-1][0].standing.application


@pytest.mark.feature("PUB-2", "PUB-3")
class PathTests(RoutingTestCase):
    """Below each other: what all may see, and what only some may."""

    def setUp(self) -> None:
        self.serve(
            application("public", "https://a.example.com/public/"),
            application("admin", "https://a.example.com/admin/", **LOCKED),
            application("one", "https://a.example.com/app1/"),
        )

    def to(self, target: bytes, more: bytes = b"") -> tuple[int, str | None]:
        """Where a GET for *target* gets."""
        return self.reached(get(host=b"a.example.com", path=target, more=more))

    def test_no_spelling_leads_round_the_policy(self) -> None:
        """N01-N06, N09-N11: what an origin could take for the guarded path is guarded, refused, or literally other."""
        guarded = (401, None)
        for target, outcome in (
            (b"/public/../admin", guarded),
            (b"/public/./../admin/x", guarded),
            (b"/%2e%2e/admin", (400, None)),
            (b"/public/%2e%2e%2fadmin", (400, None)),
            (b"/admin%2fsecret", guarded),
            (b"/%61dmin/", guarded),
            (b"/admin%5csecret", (400, None)),
            (b"/public\\..\\admin", (400, None)),
            (b"/public/%252e%252e/admin", (0, "public")),
            (b"//admin", guarded),
            (b"/public//../admin", (400, None)),
            (b"/admin;x=1", guarded),
            (b"/admin;x=1/y", guarded),
            (b"/public/..;/admin", (400, None)),
            (b"/%c0%ae%c0%ae/admin", (400, None)),
            (b"/public/%zz", (400, None)),
            (b"/public#/../admin", (400, None)),
            (b"/public%23", (404, None)),
            (b"/public?/../admin", (0, "public")),
            (b"/public/x?a=/admin/", (0, "public")),
        ):
            self.assertEqual(self.to(target), outcome, target)

    def test_signed_in_is_not_assigned(self) -> None:
        """N01: with a session, too, it is the policy of the path that is meant."""
        self.assertEqual(self.to(b"/public/../admin", COOKIE), (403, None))

    def test_letter_case(self) -> None:
        """N07: paths are compared with their case; another case is another path, which is not published."""
        for target in (b"/ADMIN", b"/Public/", b"/APP1/x"):
            self.assertEqual(self.to(target), (404, None))

    def test_windows_spellings(self) -> None:
        """N08: what Windows would take for the guarded name is not below any published path."""
        for target in (b"/admin.", b"/admin%20", b"/admin::$DATA"):
            self.assertEqual(self.to(target), (404, None))

    def test_rewriting_fields(self) -> None:
        """N12: no field moves a request elsewhere, and none of them goes on."""
        names = (b"X-Original-URL", b"X-Rewrite-URL", b"X-Forwarded-Uri", b"X-Forwarded-Prefix", b"X-Forwarded-Path")
        more = b"".join(name + b": /admin/\r\n" for name in names)
        self.assertEqual(self.to(b"/public/x", more), (0, "public"))
        sent = {name.lower() for name, _ in self.bench.pair.opener.heads[-1][0].standing.fields}
        self.assertEqual(sent & {name.lower() for name in names}, set())

    def test_whole_segments(self) -> None:
        """N18: a published path is a path, not the beginning of a word, and nothing climbs out of it."""
        for target, outcome in (
            (b"/app1", (0, "one")),
            (b"/app1/x", (0, "one")),
            (b"/app10", (404, None)),
            (b"/app1x/", (404, None)),
            (b"/app1/../x", (404, None)),
            (b"/app1/../admin/", (401, None)),
        ):
            self.assertEqual(self.to(target), outcome, target)

    def test_octets_stay(self) -> None:
        """N04, N19: the canonical reading decides, the octets that came are passed on."""
        for target in (b"/public/a%20b%2Fc+%7e", b"/public/%252e", b"/public/%C3%A9?x=%zz", b"/%70ublic//x;y=1"):
            self.assertEqual(self.to(target), (0, "public"))
            self.assertEqual(self.bench.pair.opener.heads[-1][0].target, target)

    def test_methods_are_what_they_are(self) -> None:
        """N20: a method is passed on with its letters; fields that name another one are text."""
        for method in (b"get", b"HEAD", b"PROPFIND"):
            more = b"X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\n"
            request = get(host=b"a.example.com", path=b"/public/", more=more).replace(b"GET", method, 1)
            self.assertEqual(self.reached(request), (0, "public"))
            self.assertEqual(self.bench.pair.opener.heads[-1][0].method, method)
        guarded = get(host=b"a.example.com", path=b"/admin/", more=b"X-HTTP-Method-Override: OPTIONS\r\n")
        self.assertEqual(self.reached(guarded), (401, None))

    def test_a_very_long_query(self) -> None:
        """N21: parameters by the ten thousand are octets, counted and not looked at; too many are 414."""
        self.assertEqual(self.to(b"/public/?" + b"a&" * 15_000), (0, "public"))
        self.assertEqual(self.to(b"/public/?" + b"a&" * 100_000), (414, None))


@pytest.mark.feature("PUB-2")
class HostTests(RoutingTestCase):
    """Names of hosts."""

    def setUp(self) -> None:
        self.serve(
            application("app", "https://app.example.com/", **LOCKED),
            application("other", "https://other.example.com/"),
            application("six", "https://[fd00::1]/"),
        )

    def to(self, host: bytes) -> tuple[int, str | None]:
        """Where a GET with that ``Host`` gets."""
        return self.reached(get(host=host, more=COOKIE))

    def test_one_host_one_policy(self) -> None:
        """N15: case, final dot and port make no other host, so no other policy."""
        for host in (b"APP.example.com", b"app.example.com.", b"app.example.com:443", b"App.Example.Com.:443"):
            self.assertEqual(self.to(host), (403, None), host)
        for host in (b"app.example.com..", b"app.example.com:", b"app.example.com:x", b" app.example.com:0"):
            self.assertEqual(self.to(host), (400, None), host)

    def test_addresses(self) -> None:
        """N16: an address is a host only in its own form, and only where it is published."""
        for host, outcome in (
            (b"[fd00::1]", (0, "six")),
            (b"[FD00:0::1]:443", (0, "six")),
            (b"[fd00::2]", (404, None)),
            (b"127.0.0.1", (404, None)),
            (b"2130706433", (400, None)),
            (b"0177.0.0.1", (400, None)),
            (b"0x7f000001", (400, None)),
            (b"127.1", (400, None)),
            (b"[::ffff:127.0.0.1%25lo]", (400, None)),
        ):
            self.assertEqual(self.to(host), outcome, host)

    def test_unknown_hosts(self) -> None:
        """N17: a host that nothing is published at is 404, with no word about any application."""
        self.assertEqual(self.to(b"random.example.net"), (404, None))
        self.assertEqual(self.to(b"evilapp.example.com"), (404, None))

    def test_host_and_target_disagree(self) -> None:
        """N13: an absolute target with another host is refused; one with the same is that one's."""
        request = b"GET https://other.example.com/ HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
        self.assertEqual(self.reached(request)[0], 400)
        request = b"GET https://other.example.com/ HTTP/1.1\r\nHost: other.example.com\r\n\r\n"
        self.assertEqual(self.reached(request), (0, "other"))

    def test_the_connections_name_is_no_key(self) -> None:
        """N14: on a connection that was opened for one host, a request for another one is under that one's policy."""
        client = self.bench.client()
        client.sni = "other.example.com"  # type: ignore[attr-defined]
        self.bench.sends(client, get(host=b"other.example.com", more=b""))
        self.bench.pair.opener.streams[0].answer(ResponseHead(204, b"No Content", []), end=True)
        self.bench.pair.run()
        self.assertIn(b" 204 ", client.take())
        for more, status in ((b"", b" 401 "), (COOKIE, b" 403 ")):
            self.bench.sends(client, get(host=b"app.example.com", more=more))
            self.assertIn(status, client.take())
        self.assertEqual(len(self.bench.pair.opener.streams), 1)

    @pytest.mark.feature("PUB-4")
    def test_most_specific_host(self) -> None:
        """M03: who is published by name has its own policy only, beside a wildcard that is open to all."""
        self.serve(application("any", "https://*.example.com/"), application("x", "https://x.example.com/", **LOCKED))
        self.assertEqual(self.to(b"y.example.com"), (0, "any"))
        for host in (b"x.example.com", b"X.EXAMPLE.COM."):
            self.assertEqual(self.to(host), (403, None))

    @pytest.mark.feature("PUB-4")
    def test_hosts_of_a_wildcard_are_names(self) -> None:
        """Only valid labels stand for the star, whatever a client writes."""
        self.serve(application("any", "https://*.example.com/", internal_url="http://*.corp.local/"))
        self.assertEqual(self.to(b"a-b.x_1.example.com"), (0, "any"))
        for host in (
            b".example.com", b"a..example.com", b"-a.example.com", b"a-.example.com", b"*.example.com",
            b"a%2fb.example.com", b"a@b.example.com", b"x" * 64 + b".example.com", b"a/../b.example.com",
            b"x." * 125 + b"example.com", b"\xc3\xa9.example.com",
        ):  # fmt: skip
            self.assertEqual(self.to(host)[0], 400, host)


class SegmentTests(RoutingTestCase):
    """Several addresses of one application."""

    @pytest.mark.feature("PUB-5", "SCN-9")
    def test_one_policy_for_all(self) -> None:
        """Every segment is under the application's policy, and the connector is told which one was asked."""
        segments = (
            Segment(external_url="https://bi.example.com:4747/", internal_url="https://bi.corp.local:4747/"),
            Segment(external_url="https://api.example.com/bi/", internal_url="https://bi.corp.local:4242/"),
        )
        bi = application("bi", "https://bi.example.com/", segment=segments, **LOCKED)
        self.serve(bi)
        asked = {
            b"bi.example.com": b"/",
            b"bi.example.com:4747": b"/app/engine",
            b"api.example.com": b"/bi/x",
        }
        for host, path in asked.items():
            self.assertEqual(self.reached(get(host=host, path=path, more=b"")), (401, None))
            self.assertEqual(self.reached(get(host=host, path=path)), (403, None))
        self.serve(msgspec.structs.replace(bi, assigned=Assigned(everyone=True)))
        for host, path in asked.items():
            self.assertEqual(self.reached(get(host=host, path=path)), (0, "bi"))
        told = [head.standing.segment for head, _, _ in self.bench.pair.opener.heads]
        self.assertEqual(told, list(bi.external_urls))
        self.assertEqual(self.reached(get(host=b"bi.example.com:4242")), (404, None))

    @pytest.mark.feature("PUB-6")
    def test_alternate_url(self) -> None:
        """The same application under the same policy at its alternate address."""
        self.serve(application("hr", "https://hr.example.com/", alternate_url="https://global.example.com/", **LOCKED))
        self.assertEqual(self.reached(get(host=b"global.example.com", more=b"")), (401, None))
        self.assertEqual(self.reached(get(host=b"global.example.com")), (403, None))

    @pytest.mark.feature("PUB-5", "PUB-10")
    def test_segments_come_and_go(self) -> None:
        """A new snapshot adds and removes addresses at once; what is under way at one that is gone ends as it began."""
        both = application(
            "hr",
            "https://hr.example.com/",
            segment=(Segment(external_url="https://files.example.com/", internal_url="http://files.corp.local/"),),
        )
        self.serve(both)
        client = self.bench.client()
        self.bench.sends(client, get(host=b"files.example.com"))
        stream = self.bench.pair.opener.streams[0]
        stream.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"8")]))
        stream.write(b"half")
        self.bench.pair.run()
        self.bench.gateway.catalog = Catalog([msgspec.structs.replace(both, segment=())])
        self.assertEqual(self.reached(get(host=b"files.example.com")), (404, None))
        self.assertEqual(self.reached(get(host=b"hr.example.com")), (0, "hr"))
        stream.end(b"half")
        self.bench.pair.run()
        self.assertTrue(client.take().endswith(b"halfhalf"))


class AttendedTests(SynchronousTestCase):
    """What the relay answers in the origin's place."""

    def asked(self, bench: Bench, data: bytes) -> bytes:
        """Send and return what the relay answers by itself."""
        client = bench.client()
        bench.sends(client, data)
        return client.take()

    @pytest.mark.feature("PUB-7")
    def test_maintenance(self) -> None:
        """503 with the time to come back, for whoever asks, signed in or not; nothing reaches a connector."""
        bench = Bench([application("hr", "https://hr.example.com/", maintenance=True, **LOCKED)])
        for more in (b"", COOKIE):
            answer = self.asked(bench, get(more=more))
            self.assertIn(b"HTTP/1.1 503 ", answer)
            self.assertIn(b"\r\nRetry-After: 600\r\n", answer)
            self.assertTrue(answer.endswith(b"maintenance relay policy"))
        self.assertEqual(bench.pair.opener.streams, [])
        self.assertEqual([record[1:5] for record in bench.records], [("hr", "", "", "maintenance")] * 2)

    @pytest.mark.feature("PUB-7")
    def test_disabled(self) -> None:
        """404, as if it had never been there; to a crawler too."""
        bench = Bench([application("hr", "https://hr.example.com/", enabled=False, **LOCKED)])
        for path in (b"/", b"/robots.txt"):
            self.assertIn(b"HTTP/1.1 404 ", self.asked(bench, get(path=path)))

    @pytest.mark.feature("PUB-9")
    def test_robots(self) -> None:
        """What needs a sign-in tells crawlers to keep out, also where only a path of the host is published."""
        bench = Bench(
            [
                application("root", "https://root.example.com/", **LOCKED),
                application("below", "https://below.example.com/hr/", **LOCKED),
                application("open", "https://open.example.com/"),
                application("mixed", "https://open.example.com/hr/", **LOCKED),
            ]
        )
        for host in (b"root.example.com", b"below.example.com"):
            for more in (b"", COOKIE):
                answer = self.asked(bench, get(host=host, path=b"/robots.txt", more=more))
                self.assertIn(b"HTTP/1.1 200 OK\r\n", answer)
                self.assertIn(b"\r\nContent-Type: text/plain; charset=utf-8\r\n", answer)
                self.assertTrue(answer.endswith(b"\r\n\r\nUser-agent: *\nDisallow: /\n"))
            head = self.asked(bench, get(host=host, path=b"/robots.txt", more=b"").replace(b"GET", b"HEAD", 1))
            self.assertIn(b"HTTP/1.1 200 OK\r\n", head)
            self.assertTrue(head.endswith(b"\r\n\r\n"))
        self.assertEqual(bench.pair.opener.streams, [])
        self.assertEqual(self.asked(bench, get(host=b"open.example.com", path=b"/robots.txt", more=b"")), b"")
        self.assertEqual(bench.pair.opener.heads[0][0].target, b"/robots.txt")

    @pytest.mark.feature("PUB-9")
    def test_only_that_address(self) -> None:
        """No other method and no other path passes by the sign-in that way."""
        bench = Bench([application("root", "https://root.example.com/", **LOCKED)])
        for method, path in ((b"POST", b"/robots.txt"), (b"GET", b"/robots.txt/x"), (b"GET", b"/x/robots.txt")):
            request = get(host=b"root.example.com", path=path, more=b"").replace(b"GET", method, 1)
            self.assertIn(b" 401 ", self.asked(bench, request))


PREFLIGHT = b"Origin: https://www.example.com\r\nAccess-Control-Request-Method: PUT\r\n"


@pytest.mark.feature("PUB-5")
class CrossOriginTests(SynchronousTestCase):
    """Rules for scripts of other sites."""

    def setUp(self) -> None:
        """An application with rules at one of its two addresses."""
        rules = CrossOrigin(
            allowed_origins=("https://www.example.com",), allowed_methods=("PUT",), allow_credentials=True
        )
        ruled = Segment(external_url="https://hr.example.com/api/", internal_url="http://api.corp.local/", cors=rules)
        self.bench = Bench(
            [
                application(
                    "hr",
                    "https://hr.example.com/",
                    segment=(ruled,),
                    preauthentication="oidc",
                    assigned=Assigned(users=("alice",)),
                )
            ]
        )

    def asked(self, path: bytes, more: bytes, method: bytes = b"OPTIONS") -> bytes:
        """Send and return what the relay answers by itself."""
        client = self.bench.client()
        self.bench.sends(client, get(path=path, more=more).replace(b"GET", method, 1))
        return client.take()

    def test_preflight_needs_no_session(self) -> None:
        """A06: where there are rules the relay answers by them, and nothing reaches the origin."""
        answer = self.asked(b"/api/x", PREFLIGHT)
        self.assertTrue(answer.startswith(b"HTTP/1.1 204 "))
        self.assertIn(b"\r\nAccess-Control-Allow-Origin: https://www.example.com\r\n", answer)
        self.assertIn(b"\r\nAccess-Control-Allow-Methods: PUT\r\n", answer)
        stranger = self.asked(b"/api/x", PREFLIGHT.replace(b"www.example.com", b"evil.test"))
        self.assertTrue(stranger.startswith(b"HTTP/1.1 403 "))
        self.assertNotIn(b"Access-Control", stranger)
        self.assertEqual(self.bench.pair.opener.streams, [])

    def test_no_other_door(self) -> None:
        """A06: without rules, with another method or without what makes a preflight, a stranger is a stranger."""
        for path, more, method in (
            (b"/x", PREFLIGHT, b"OPTIONS"),
            (b"/api/x", PREFLIGHT, b"PUT"),
            (b"/api/x", PREFLIGHT, b"GET"),
            (b"/api/x", PREFLIGHT.partition(b"\r\n")[0] + b"\r\n", b"OPTIONS"),
            (b"/api/x", PREFLIGHT.partition(b"\r\n")[2], b"OPTIONS"),
            (b"/api/../x", PREFLIGHT, b"OPTIONS"),
        ):
            self.assertIn(b" 401 ", self.asked(path, more, method), (path, more, method))
        self.assertEqual(self.bench.pair.opener.streams, [])

    def test_answers(self) -> None:
        """The origin's word about sharing is replaced where there are rules, and stands where there are none."""
        said = [(b"Access-Control-Allow-Origin", b"*"), (b"Content-Length", b"0")]
        for path, allowed in ((b"/api/x", b"https://www.example.com"), (b"/x", b"*")):
            client = self.bench.client()
            self.bench.sends(client, get(path=path, more=COOKIE + b"Origin: https://www.example.com\r\n"))
            self.bench.pair.opener.streams[-1].answer(ResponseHead(200, b"OK", said), end=True)
            self.bench.pair.run()
            answer = client.take()
            self.assertEqual(answer.count(b"Access-Control-Allow-Origin:"), 1)
            self.assertIn(b"\r\nAccess-Control-Allow-Origin: " + allowed + b"\r\n", answer)
