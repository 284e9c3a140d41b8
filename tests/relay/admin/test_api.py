from __future__ import annotations

import pytest

from appproxy.relay.admin.api import OPERATIONS, Admin
from tests.fakes.recorded_log import recorded
from tests.relay.admin.calls import AdminTestCase


@pytest.mark.feature("ADM-2")
class RespondTests(AdminTestCase):
    def test_answers_are_json(self) -> None:
        """A good call is answered 200 with a JSON document."""
        exchange = self.send("GET", "/v1/status")
        self.assertEqual((exchange.status, exchange.value("content-type")), (200, "application/json"))

    def test_refusals_are_problem_documents(self) -> None:
        """RFC 9457, with where and problem for the one line that people read."""
        exchange = self.send("GET", "/v1/applications/nothing")
        self.assertEqual(exchange.value("content-type"), "application/problem+json")
        problem = self.refused("GET", "/v1/applications/nothing", 404)
        self.assertEqual(set(problem), {"title", "status", "where", "problem"})
        self.assertEqual((problem["title"], problem["where"]), ("Not Found", "application nothing"))

    def test_unknown_paths_are_404(self) -> None:
        """Nothing is guessed: other paths, other versions and a slash too many are refused."""
        for path in ("/", "/v1", "/v2/status", "/v1/status/", "/v1/applications/a/enable/b", "/v1/sta%74us/x"):
            self.refused("GET", path, 404)

    def test_other_methods_are_told_which(self) -> None:
        """405 names the methods of the path."""
        exchange = self.send("PUT", "/v1/applications/hr")
        self.assertEqual((exchange.status, exchange.value("allow")), (405, "DELETE, GET"))

    def test_web_pages_are_refused(self) -> None:
        """O03: whatever carries an Origin, even our own or null, or comes from a browser, changes nothing."""
        for name, value in (
            (b"Origin", b"https://evil.example"),
            (b"Origin", b"http://localhost"),
            (b"Origin", b"null"),
            (b"Referer", b"http://localhost/"),
            (b"Sec-Fetch-Site", b"same-origin"),
        ):
            for path, methods in OPERATIONS.items():
                for method in methods:
                    exchange = self.send(method.decode(), path.replace("*", "hr"), None, ((name, value),))
                    self.assertEqual(exchange.status, 403)

    def test_names_bound_to_this_machine_are_refused(self) -> None:
        """O03: a page that rebinds its own name to 127.0.0.1 does not get here."""
        self.assertEqual(self.send("GET", "/v1/status", base="http://evil.example").status, 403)
        self.assertEqual(self.send("GET", "/v1/status", base="http://127.0.0.1:9443").status, 200)

    def test_bodies_are_checked(self) -> None:
        """Not JSON, of another form, or with keys that nobody knows: 400 naming it."""
        for body, said in (
            (b"", "not JSON"),
            (b'{"group": ', "not JSON"),
            (b"\xff", "not JSON"),
            (b"[]", "Expected `object`"),
            (b'{"group": 1}', "$.group"),
            (b'{"group": "hq", "forever": true}', "forever"),
        ):
            problem = self.refused("POST", "/v1/tokens", 400, body)
            self.assertEqual(problem["where"], "body")
            self.assertIn(said, problem["problem"])
        bottomless = b'{"application": [{"a": ' + b"[" * 100_000
        self.assertIn("not JSON", self.refused("POST", "/v1/apply", 400, bottomless)["problem"])

    def test_queries_are_checked(self) -> None:
        """A misspelt or repeated parameter is refused, not ignored: it would list, or end, everything."""
        for query in ("usr=alice", "user=a&user=b", "user=a&b=c"):
            self.refused("GET", f"/v1/sessions?{query}", 400)
            self.refused("DELETE", f"/v1/sessions?{query}", 400)

    def test_a_store_that_is_away_is_said_so(self) -> None:
        """503, and nothing was done."""
        self.store.away = True
        problem = self.refused("GET", "/v1/applications", 503)
        self.assertEqual(problem["where"], "store-unavailable")

    def test_refusals_are_logged(self) -> None:
        """O08: each refused call is one event with method, path and reason."""
        with recorded(Admin) as events:
            self.refused("DELETE", "/v1/applications/nothing", 404)
        self.assertEqual([event["event"] for event in events], ["admin.refused"])
        self.assertEqual((events[0]["method"], events[0]["path"]), ("DELETE", "/v1/applications/nothing"))
