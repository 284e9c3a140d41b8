"""Applications as the relay assigns them."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector import places
from appproxy.connector.assignments import Assignments
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.failures import NotAllowed, UnknownApplication
from appproxy.wire.frames import Code
from tests.connector.rig import HR, Asking, Rig

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WILD = {**HR, "id": "wild", "external_url": "https://*.apps.example.com/", "internal_url": "http://*.corp.local/"}


async def _dial_nothing(*arguments: object) -> None:
    raise AssertionError("nothing is dialled")


class SnapshotTests(SynchronousTestCase):
    """What is compiled, and what is refused."""

    def setUp(self) -> None:
        self.assignments = Assignments(_dial_nothing, Deadlines(Clock()))

    def test_applications_are_found_by_id(self) -> None:
        """And nothing else is."""
        self.assertEqual(self.assignments.replace(7, [HR]), {})
        self.assertEqual((self.assignments.version, len(self.assignments)), (7, 1))
        self.assertEqual(self.assignments.get("hr").application.id, "hr")
        self.assertRaises(UnknownApplication, self.assignments.get, "Hr")

    @pytest.mark.feature("CON-8")
    def test_what_cannot_be_served_is_refused_with_a_reason_and_the_rest_is_served(self) -> None:
        """One bad application costs only itself."""
        refused = self.assignments.replace(
            1,
            [
                HR,
                {**HR, "id": "typo", "internal_ulr": "x"},
                {**HR, "id": "url", "internal_url": "gopher://x/"},
                {**HR, "id": "header", "sso": {"mode": "header", "header": [{"name": "Host", "value": "user"}]}},
                {**HR, "id": "ca", "internal_url": "https://x/", "origin": {"ca_file": "/nowhere/ca.pem"}},
                {"id": 5},
            ],
        )
        self.assertEqual(sorted(refused), ["5", "ca", "header", "typo", "url"])
        self.assertIn("internal_ulr", refused["typo"])
        self.assertIn("/nowhere/ca.pem", refused["ca"])
        self.assertEqual(len(self.assignments), 1)

    def test_a_new_snapshot_replaces_the_old_one_whole(self) -> None:
        """What is not in it is gone."""
        self.assignments.replace(1, [HR, WILD])
        self.assignments.replace(2, [WILD])
        self.assertRaises(UnknownApplication, self.assignments.get, "hr")

    def test_wildcards_are_limited(self) -> None:
        """A client that invents hosts cannot fill the memory."""
        self.patch(places, "MAX_PLACES", 2)
        self.assignments.replace(1, [WILD])
        wild = self.assignments.get("wild")
        for host in ("a.apps.example.com", "b.apps.example.com"):
            wild.place(host)
        self.assertRaises(NotAllowed, wild.place, "c.apps.example.com")
        self.assertIs(wild.place("a.apps.example.com"), wild.place("A.apps.example.com:443"))

    def test_hosts_of_one_origin_make_room_for_each_other(self) -> None:
        """All hosts of a wildcard may share one origin, and its connections; any number of them."""
        self.patch(places, "MAX_PLACES", 2)
        self.assignments.replace(1, [{**WILD, "internal_url": "http://one.corp.local/"}])
        wild = self.assignments.get("wild")
        found = [wild.place(f"{label}.apps.example.com") for label in "abc"]
        self.assertEqual(len({place.pool for place in found}), 1)
        self.assertEqual(
            [place.translation.external.host for place in found], [f"{label}.apps.example.com" for label in "abc"]
        )


BI = {
    **HR,
    "id": "bi",
    "external_url": "https://bi.example.com/",
    "internal_url": "https://bi.corp.local/",
    "segment": [
        {"external_url": "https://bi.example.com:4747/", "internal_url": "http://bi.corp.local:4747/engine/"},
        {"external_url": "https://*.bi.example.com/", "internal_url": "http://*.bi.corp.local:4242/"},
    ],
}


@pytest.mark.feature("PUB-5", "SCN-9")
class SegmentTests(SynchronousTestCase):
    """Several addresses of one application."""

    def setUp(self) -> None:
        self.rig = Rig(HR, BI)

    def ask(self, segment: str, host: str, target: bytes = b"/", *fields: tuple[bytes, bytes]) -> Asking:
        """Ask for something there."""
        return self.rig.ask(target, *fields, application="bi", host=host, segment=segment)

    def test_each_has_its_own_origin(self) -> None:
        """Host, port, scheme and path by the segment that the relay names."""
        for segment, host, origin, sent in (
            ("https://bi.example.com/", "bi.example.com", ("bi.corp.local", 443), b"bi.corp.local"),
            ("https://bi.example.com:4747/", "bi.example.com:4747", ("bi.corp.local", 4747), b"bi.corp.local:4747"),
            ("https://*.bi.example.com/", "a.bi.example.com", ("a.bi.corp.local", 4242), b"a.bi.corp.local:4242"),
        ):
            self.ask(segment, host, b"/x")
            socket = self.rig.sockets[-1]
            self.assertEqual(socket.address, origin)
            path = b"/engine/x" if "4747" in segment else b"/x"
            self.assertTrue(socket.take().startswith(b"GET " + path + b" HTTP/1.1\r\nHost: " + sent + b"\r\n"))

    def test_answers_lead_to_each_other(self) -> None:
        """Links from one segment to another are translated by the same map as those to other applications."""
        asking = self.ask("https://bi.example.com/", "bi.example.com")
        for origin, location in (
            (b"http://bi.corp.local:4747/engine/e?x", b"https://bi.example.com:4747/e?x"),
            (b"https://bi.corp.local/hub", b"https://bi.example.com/hub"),
            (b"http://n.bi.corp.local:4242/", b"https://n.bi.example.com/"),
            (b"http://hr.corp.local:8080/x", b"https://hr.example.com/x"),
            (b"http://bi.corp.local:4748/", b"http://bi.corp.local:4748/"),
        ):
            self.rig.sockets[-1].say(b"HTTP/1.1 302 Found\r\nLocation: " + origin + b"\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual(dict(asking.fields)[b"Location"], location)
            asking = self.ask("https://bi.example.com/", "bi.example.com")

    def test_an_unknown_segment_is_no_other_one(self) -> None:
        """A relay that is ahead or behind, or lies, reaches nothing by it."""
        for segment in ("https://bi.example.com:1/", "https://hr.example.com/", "x"):
            asking = self.ask(segment, "bi.example.com")
            self.assertEqual((asking.status, asking.reset), (0, Code.UNKNOWN_APPLICATION))
        for host in ("hr.example.com", "bi.example.com", "a.evil.example"):
            asking = self.ask("https://*.bi.example.com/", host)
            self.assertEqual((asking.status, asking.reset), (0, Code.PROTOCOL))
        self.assertEqual(self.rig.sockets, [])

    @pytest.mark.feature("CON-8")
    def test_each_is_held_against_the_allow_list(self) -> None:
        """M04: what is not allowed here is not served, and named; the other segments are."""
        rig = Rig(BI, allow=["https://bi.corp.local", "http://a.bi.corp.local:4242"])
        self.assertEqual(rig.refused, {"bi": "http://bi.corp.local:4747 is not in this connector's allow-list"})
        for segment, host, dialled in (
            ("https://bi.example.com/", "bi.example.com", True),
            ("https://bi.example.com:4747/", "bi.example.com:4747", False),
            ("https://*.bi.example.com/", "a.bi.example.com", True),
            ("https://*.bi.example.com/", "b.bi.example.com", False),
        ):
            asking = rig.ask(application="bi", host=host, segment=segment)
            self.assertEqual((asking.reset == Code.NOT_ALLOWED, bool(rig.sockets)), (not dialled, dialled))
            rig.sockets.clear()

    def test_nothing_published(self) -> None:
        """An empty list leads nowhere."""
        rig = Rig({"id": "none", "connector_group": "hq", "segment": []})
        self.assertEqual(rig.refused, {})
        self.assertEqual(rig.ask(application="none").reset, Code.UNKNOWN_APPLICATION)

    def test_names_that_are_too_long(self) -> None:
        """What a wildcard stands for makes a name that can be one, or nothing is looked up."""
        rig = Rig({**BI, "segment": [{**BI["segment"][1], "internal_url": f"http://*.{'x' * 60}.corp.local/"}]})  # type: ignore[index, dict-item]
        labels = ".".join(["y" * 60] * 3)
        asking = rig.ask(application="bi", segment="https://*.bi.example.com/", host=f"{labels}.bi.example.com")
        self.assertEqual((asking.reset, rig.sockets), (Code.NOT_ALLOWED, []))

    @pytest.mark.feature("PUB-10")
    def test_a_segment_more_leaves_the_others_alone(self) -> None:
        """Their connections stay, hosts of wildcards too; what is under way ends as it began."""
        running = self.ask("https://bi.example.com:4747/", "bi.example.com:4747")
        self.ask("https://*.bi.example.com/", "a.bi.example.com")
        self.rig.sockets[1].say(OK)
        more = {"external_url": "https://new.example.com/", "internal_url": "http://new.corp.local/"}
        self.rig.assignments.replace(2, [{**BI, "segment": [more, *BI["segment"]]}])  # type: ignore[misc]
        self.ask("https://*.bi.example.com/", "a.bi.example.com")
        self.assertEqual(len(self.rig.sockets), 2)
        self.rig.sockets[0].say(OK)
        self.assertEqual(running.answer.data, b"ok")
        self.ask("https://bi.example.com:4747/", "bi.example.com:4747")
        self.assertEqual(len(self.rig.sockets), 2)
        self.ask("https://new.example.com/", "new.example.com")
        self.assertEqual(self.rig.sockets[2].address, ("new.corp.local", 80))

    @pytest.mark.feature("PUB-10")
    def test_a_segment_less_ends_it(self) -> None:
        """Its idle connections are closed, those of the others are not."""
        self.ask("https://bi.example.com:4747/", "bi.example.com:4747")
        self.ask("https://bi.example.com/", "bi.example.com")
        for socket in self.rig.sockets:
            socket.say(OK)
        self.rig.assignments.replace(2, [{**BI, "segment": []}])
        self.assertEqual([socket.open for socket in self.rig.sockets], [False, True])


@pytest.mark.feature("PUB-6")
class AlternateTests(SynchronousTestCase):
    """A second external address of the same origin."""

    def moved(self, segment: str, **translate: bool) -> tuple[bytes, bytes]:
        """Where a redirect to the internal address leads, and the ``Host`` that the origin sees."""
        rig = Rig({**HR, "alternate_url": "https://global.example.com/", "translate": translate})
        asking = rig.ask(host=segment[8:-1], segment=segment)
        host = rig.sockets[0].take().split(b"\r\n")[1]
        answer = b"HTTP/1.1 302 Found\r\nLocation: http://hr.corp.local:8080/x\r\nContent-Length: 0\r\n\r\n"
        rig.sockets[0].say(answer)
        return dict(asking.fields)[b"Location"], host

    def test_links_lead_to_the_external_address(self) -> None:
        """Unless told otherwise, from wherever somebody asks."""
        for segment in ("https://hr.example.com/", "https://global.example.com/"):
            self.assertEqual(self.moved(segment), (b"https://hr.example.com/x", b"Host: hr.corp.local:8080"))

    def test_links_lead_to_the_alternate_address(self) -> None:
        """When told so."""
        for segment in ("https://hr.example.com/", "https://global.example.com/"):
            self.assertEqual(self.moved(segment, alternate_url=True)[0], b"https://global.example.com/x")

    def test_the_external_host_is_the_one_that_was_asked_for(self) -> None:
        """Where the origin shall see it."""
        for host in (b"hr.example.com", b"global.example.com"):
            self.assertEqual(self.moved(f"https://{host.decode()}/", host_header=False)[1], b"Host: " + host)


class ChangeTests(SynchronousTestCase):
    """PUB-10: changes without harm to what is in flight."""

    def setUp(self) -> None:
        self.rig = Rig(HR, WILD)

    def test_connections_survive_a_change_of_something_else(self) -> None:
        """An application that stayed as it was keeps its pool."""
        self.rig.ask()
        self.rig.sockets[0].say(OK)
        self.rig.assignments.replace(2, [{**HR, "name": "Human resources"}])
        self.rig.ask()
        self.assertEqual(len(self.rig.sockets), 1)

    def test_an_application_that_is_gone_ends_what_is_in_flight_and_keeps_nothing(self) -> None:
        """R15: running requests end as they began, idle connections are closed."""
        running = self.rig.ask()
        idle = self.rig.ask()
        self.rig.sockets[1].say(OK)
        self.assertTrue(idle.answer.ended)
        self.rig.assignments.replace(2, [])
        self.assertEqual([socket.open for socket in self.rig.sockets], [True, False])
        self.rig.sockets[0].say(OK)
        self.assertEqual(running.answer.data, b"ok")
        self.assertFalse(self.rig.sockets[0].open)

    def test_a_changed_timeout_is_in_force_for_the_next_request(self) -> None:
        """It gets connections of its own."""
        self.rig.ask()
        self.rig.sockets[0].say(OK)
        self.rig.assignments.replace(2, [{**HR, "timeouts": {"first_byte": "3s"}}])
        asking = self.rig.ask()
        self.assertEqual(len(self.rig.sockets), 2)
        self.rig.advance(5)
        self.assertIsNotNone(asking.reset)

    def test_hosts_of_a_wildcard_are_forgotten_with_their_last_connection(self) -> None:
        """They take no room for ever."""
        self.rig.ask(application="wild", host="a.apps.example.com")
        wild = self.rig.assignments.get("wild")
        before = wild.place("a.apps.example.com")
        self.rig.sockets[0].say(OK)
        self.rig.advance(62)
        self.assertIsNot(wild.place("a.apps.example.com"), before)

    def test_hosts_of_a_wildcard_are_forgotten_after_a_change_too(self) -> None:
        """Connections that survived it are the last ones all the same."""
        self.rig.ask(application="wild", host="a.apps.example.com")
        self.rig.sockets[0].say(OK)
        self.rig.assignments.replace(2, [WILD])
        before = self.rig.assignments.get("wild").place("a.apps.example.com")
        self.rig.ask(application="wild", host="a.apps.example.com")
        self.assertEqual(len(self.rig.sockets), 1)
        self.rig.sockets[0].say(OK)
        self.rig.advance(62)
        self.assertFalse(self.rig.sockets[0].open)
        self.assertIsNot(self.rig.assignments.get("wild").place("a.apps.example.com"), before)

    def test_closing_closes_every_connection(self) -> None:
        """Busy or idle."""
        self.rig.ask()
        self.rig.assignments.close()
        self.assertFalse(self.rig.sockets[0].open)
