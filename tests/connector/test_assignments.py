"""Applications as the relay assigns them."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector import places
from appproxy.connector.assignments import Assignments
from appproxy.connector.deadlines import Deadlines
from appproxy.connector.failures import NotAllowed, UnknownApplication
from tests.connector.rig import HR, Rig

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

    def test_closing_closes_every_connection(self) -> None:
        """Busy or idle."""
        self.rig.ask()
        self.rig.assignments.close()
        self.assertFalse(self.rig.sockets[0].open)
