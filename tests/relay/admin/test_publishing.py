from __future__ import annotations

import pytest

from appproxy.store import ConnectorRecord, applications, connectors
from tests.relay.admin.calls import HR, NOW, AdminTestCase


@pytest.mark.feature("ADM-3")
class ApplyTests(AdminTestCase):
    def test_says_what_it_added_and_changed(self) -> None:
        """The answer is the difference, each field with its value before and after."""
        first = self.asked("POST", "/v1/apply", {"connector_group": [{"name": "hq"}], "application": [HR]})
        self.assertEqual(first["added"], [{"kind": "group", "id": "hq"}, {"kind": "application", "id": "hr"}])
        second = self.asked("POST", "/v1/apply", {"application": [HR | {"timeouts": {"connect": "20s"}}]})
        self.assertEqual(
            second["changed"],
            [
                {
                    "kind": "application",
                    "id": "hr",
                    "fields": [{"path": "timeouts.connect", "before": "10s", "after": "20s"}],
                }
            ],
        )
        third = self.asked("POST", "/v1/apply", {"connector_group": [{"name": "hq"}]})
        self.assertEqual((third["added"], third["changed"], len(third["unchanged"])), ([], [], 1))

    def test_a_dry_run_changes_nothing(self) -> None:
        """The same answer, and the store and the log stay as they were."""
        document = {"connector_group": [{"name": "hq"}], "application": [HR]}
        dry = self.asked("POST", "/v1/apply", document | {"dry_run": True})
        self.assertEqual(self.write(applications.list_), [])
        self.assertEqual(self.acts, [])
        self.assertEqual(self.asked("POST", "/v1/apply", document), dry | {"dry_run": False})

    def test_is_one_event(self) -> None:
        """O08: one file applied is one event that names what changed."""
        self.asked("POST", "/v1/apply", {"connector_group": [{"name": "hq"}], "application": [HR]})
        self.assertEqual([act["event"] for act in self.acts], ["admin.applied"])
        self.assertEqual(self.acts[0]["added"], ["hq", "hr"])

    def test_what_is_wrong_is_named(self) -> None:
        """Each mistake is 422 with the setting and the remedy, and nothing of the document is kept."""
        for change, where, said in (
            ({"nonsense": 1}, "application[hr].nonsense", "unknown key"),
            ({"timeouts": {"conect": "1s"}}, "application[hr].timeouts.conect", 'did you mean "connect"'),
            ({"internal_url": "ftp://x/"}, "application[hr].internal_url", "ftp"),
            ({"internal_url": "http://169.254.169.254/"}, "application[hr].internal_url", "link-local"),
            ({"connector_group": "dr"}, "application[hr].connector_group", "no connector group"),
            ({"provider": "google"}, "application[hr].provider", "entra"),
            ({"external_url": "https://proxy.example.com/hr/"}, "application[hr].external_url", "own host"),
        ):
            body = {"connector_group": [{"name": "hq"}], "application": [HR | change]}
            problem = self.refused("POST", "/v1/apply", 422, body)
            self.assertEqual(problem["where"], where)
            self.assertIn(said, problem["problem"])
        self.assertEqual(self.write(applications.list_groups), [])

    def test_group_names_are_names(self) -> None:
        """A connector group's name is safe in file names, URLs and logs."""
        problem = self.refused("POST", "/v1/apply", 422, {"connector_group": [{"name": "a b"}]})
        self.assertEqual(problem["where"], "connector_group[0].name")

    def test_nothing_is_there_twice(self) -> None:
        """N22: one id, one application, also within one document; and one URL."""
        groups = [{"name": "hq"}]
        self.refused("POST", "/v1/apply", 422, {"connector_group": groups, "application": [HR, HR]})
        self.refused("POST", "/v1/apply", 422, {"connector_group": groups * 2})
        same_url = self.refused(
            "POST", "/v1/apply", 422, {"connector_group": groups, "application": [HR, HR | {"id": "hr2"}]}
        )
        self.assertIn("belongs to application hr", same_url["problem"])

    def test_a_url_of_a_stored_application_is_refused(self) -> None:
        """N22, M02: who was first keeps the host."""
        self.publish(HR)
        problem = self.refused("POST", "/v1/apply", 422, {"application": [HR | {"id": "thief"}]})
        self.assertIn("belongs to application hr", problem["problem"])


@pytest.mark.feature("ADM-3")
class ApplicationTests(AdminTestCase):
    def test_lists_and_shows(self) -> None:
        """Applications by id, as the apply file would have them, with how many connectors can serve them now."""
        self.publish(HR | {"id": "wiki", "external_url": "https://wiki.example.com/"}, HR)
        record = ConnectorRecord(id="c-1", name="a", group="hq", serial="1", not_after=NOW, enrolled=NOW)
        self.write(connectors.enrol, record)
        self.live.by_connector["c-1"] = object()
        listed = self.asked("GET", "/v1/applications")["applications"]
        self.assertEqual([each["settings"]["id"] for each in listed], ["hr", "wiki"])
        self.assertEqual(listed[0]["connectors_online"], 1)
        self.assertEqual(self.asked("GET", "/v1/applications/hr"), {"version": 1, "settings": HR})

    def test_disables_and_enables(self) -> None:
        """PUB-7: a disabled application keeps its settings; each act is one event."""
        self.publish(HR)
        for word, enabled in (("disable", False), ("enable", True)):
            self.assertEqual(self.asked("POST", f"/v1/applications/hr/{word}")["enabled"], enabled)
            stored = self.write(applications.find, "hr")
            self.assertEqual(stored.application.enabled, enabled)
        self.assertEqual(
            [act["event"] for act in self.acts], ["admin.application-disabled", "admin.application-enabled"]
        )

    @pytest.mark.feature("PUB-7")
    def test_maintenance(self) -> None:
        """An application under maintenance keeps its settings; each act is one event."""
        self.publish(HR)
        for method, maintenance in (("POST", True), ("DELETE", False)):
            self.assertEqual(self.asked(method, "/v1/applications/hr/maintenance")["maintenance"], maintenance)
            stored = self.write(applications.find, "hr")
            self.assertEqual((stored.application.maintenance, stored.application.enabled), (maintenance, True))
        self.assertEqual(
            [act["event"] for act in self.acts],
            ["admin.application-put-under-maintenance", "admin.application-taken-from-maintenance"],
        )

    @pytest.mark.feature("PUB-5")
    def test_segments_of_stored_applications_are_taken(self) -> None:
        """N22, M02: no segment and no alternate URL is another application's address."""
        segment = {"external_url": "https://files.example.com/", "internal_url": "http://files.corp.local/"}
        self.publish(HR | {"segment": [segment], "alternate_url": "https://hr.example.org/"})
        other = HR | {"id": "x", "external_url": "https://x.example.com/"}
        for changes, key in (
            ({"external_url": "https://files.example.com/"}, "external_url"),
            ({"segment": [segment]}, "segment[0].external_url"),
            ({"alternate_url": "https://hr.example.com/"}, "alternate_url"),
            ({"external_url": "https://hr.example.org/"}, "external_url"),
        ):
            problem = self.refused("POST", "/v1/apply", 422, {"application": [other | changes]})
            self.assertEqual(problem["where"], f"application[x].{key}")
            self.assertIn("belongs to application hr", problem["problem"])

    def test_deletes(self) -> None:
        """R15: a deleted application is gone; it is one event."""
        self.publish(HR)
        self.asked("DELETE", "/v1/applications/hr")
        self.assertIsNone(self.write(applications.find, "hr"))
        self.assertEqual([act["event"] for act in self.acts], ["admin.application-deleted"])

    def test_what_does_not_exist_is_404(self) -> None:
        """M01: nothing is told of what is not there, and nothing is logged as done."""
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/enable"),
            ("POST", "/disable"),
            ("POST", "/maintenance"),
            ("DELETE", "/maintenance"),
        ):
            self.refused(method, f"/v1/applications/nothing{path}", 404)
        self.assertEqual(self.acts, [])


@pytest.mark.feature("ADM-3")
class GroupTests(AdminTestCase):
    def test_lists_with_users(self) -> None:
        """Each group with its applications and its connectors; the revoked do not count."""
        self.publish(HR)
        for number in range(3):
            record = ConnectorRecord(
                id=f"c-{number}",
                name="a",
                group="hq",
                serial="1",
                not_after=NOW,
                enrolled=NOW,
                revoked=NOW if number == 2 else None,
            )
            self.write(connectors.enrol, record)
        self.live.by_connector["c-1"] = object()
        self.assertEqual(
            self.asked("GET", "/v1/groups")["groups"],
            [{"name": "hq", "applications": 1, "connectors": 2, "connectors_online": 1}],
        )

    def test_deletes_only_what_nothing_uses(self) -> None:
        """A group with applications stays, and the problem names them."""
        self.publish(HR)
        self.assertIn("hr", self.refused("DELETE", "/v1/groups/hq", 422)["problem"])
        self.asked("DELETE", "/v1/applications/hr")
        self.asked("DELETE", "/v1/groups/hq")
        self.assertEqual(self.asked("GET", "/v1/groups")["groups"], [])
        self.refused("DELETE", "/v1/groups/hq", 404)
