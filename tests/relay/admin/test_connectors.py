from __future__ import annotations

from types import SimpleNamespace

import pytest

from appproxy.relay.connectors.enrolment import hash_token
from appproxy.store import ConnectorRecord, connectors, tokens
from tests.relay.admin.calls import NOW, AdminTestCase


@pytest.mark.feature("CON-2")
class TokenTests(AdminTestCase):
    def test_issues_a_token_that_is_good(self) -> None:
        """The answer holds the token's text; the store its hash, group and end."""
        self.publish()
        answer = self.asked("POST", "/v1/tokens", {"group": "hq", "expires": "2h"})
        token_hash = hash_token(answer["token"])
        assert token_hash is not None
        record = self.write(tokens.find, token_hash)
        self.assertEqual((record.group, record.expires, record.used), ("hq", NOW + 7200, None))
        self.assertEqual(answer["expires"], NOW + 7200)

    def test_the_text_is_shown_nowhere_else(self) -> None:
        """O02: neither the log nor the list of tokens has the text."""
        self.publish()
        secret = self.asked("POST", "/v1/tokens", {"group": "hq"})["token"].split(".")[1]
        self.assertEqual([act["event"] for act in self.acts], ["admin.token-issued"])
        self.assertNotIn(secret, repr(self.acts))
        self.assertEqual(self.acts[0]["id"], self.asked("GET", "/v1/tokens")["tokens"][0]["id"])
        self.assertNotIn(secret, repr(self.asked("GET", "/v1/tokens")))

    def test_lists_tokens(self) -> None:
        """Each by the beginning of its hash, which the issuing told too."""
        self.publish()
        issued = self.asked("POST", "/v1/tokens", {"group": "hq", "expires": "1h"})
        self.assertEqual(
            self.asked("GET", "/v1/tokens")["tokens"],
            [{"id": issued["id"], "group": "hq", "issued": NOW, "expires": NOW + 3600, "used": None}],
        )

    def test_needs_a_group(self) -> None:
        """Without the group nothing is made, and the remedy is named."""
        problem = self.refused("POST", "/v1/tokens", 422, {"group": "hq"})
        self.assertEqual(problem["where"], "group")
        self.assertIn("appproxy apply", problem["problem"])
        self.assertEqual(self.write(tokens.list_), [])

    def test_needs_a_sensible_lifetime(self) -> None:
        """A duration between a second and thirty days."""
        self.publish()
        for expires in ("1", "", "0s", "31d", "-1h", "1h "):
            self.assertEqual(
                self.refused("POST", "/v1/tokens", 422, {"group": "hq", "expires": expires})["where"], "expires"
            )


@pytest.mark.feature("CON-2")
class ConnectorTests(AdminTestCase):
    def enrol(self, connector: str) -> None:
        record = ConnectorRecord(
            id=connector, name=f"name-of-{connector}", group="hq", serial="1", not_after=NOW + 100, enrolled=NOW
        )
        self.write(connectors.enrol, record)

    def test_lists_with_what_is_known_now(self) -> None:
        """Online with channels and address, or offline, or revoked."""
        for connector in ("c-1", "c-2", "c-3"):
            self.enrol(connector)
        self.live.by_connector["c-1"] = SimpleNamespace(peer="192.0.2.1", since=NOW, channels=[1, 2])
        self.asked("POST", "/v1/connectors/c-3/revoke")
        listed = self.asked("GET", "/v1/connectors")["connectors"]
        self.assertEqual(
            listed[0],
            {
                "id": "c-1",
                "name": "name-of-c-1",
                "group": "hq",
                "state": "online",
                "enrolled": NOW,
                "certificate_until": NOW + 100,
                "revoked": None,
                "channels": 2,
                "peer": "192.0.2.1",
                "since": NOW,
            },
        )
        self.assertEqual([each["state"] for each in listed], ["online", "offline", "revoked"])

    def test_certificate_that_ran_out(self) -> None:
        """R08: a connector that was away for too long is shown as such; it has to be enrolled again."""
        self.write(
            connectors.enrol,
            ConnectorRecord(id="c-1", name="hq-1", group="hq", serial="1", not_after=NOW, enrolled=NOW - 100),
        )
        self.assertEqual(self.asked("GET", "/v1/connectors")["connectors"][0]["state"], "expired")

    @pytest.mark.feature("CON-5")
    def test_moves(self) -> None:
        """R14: into a group that exists; an unknown connector or group is refused; one event."""
        self.publish()
        self.asked("POST", "/v1/apply", {"connector_group": [{"name": "hq"}, {"name": "lab"}], "application": []})
        self.acts.clear()
        self.enrol("c-1")
        self.asked("POST", "/v1/connectors/c-1/move", {"group": "lab"})
        self.assertEqual(self.write(connectors.find, "c-1").group, "lab")
        self.refused("POST", "/v1/connectors/c-2/move", 404, {"group": "lab"})
        self.assertEqual(self.refused("POST", "/v1/connectors/c-1/move", 422, {"group": "moon"})["where"], "group")
        self.assertEqual(self.write(connectors.find, "c-1").group, "lab")
        self.assertEqual([act["event"] for act in self.acts], ["admin.connector-moved"])

    def test_revokes_once(self) -> None:
        """R10: the record says when; a second time is 409, an unknown one 404; one event."""
        self.enrol("c-1")
        self.asked("POST", "/v1/connectors/c-1/revoke")
        record = self.write(connectors.find, "c-1")
        self.assertEqual(record.revoked, NOW)
        self.refused("POST", "/v1/connectors/c-1/revoke", 409)
        self.refused("POST", "/v1/connectors/c-2/revoke", 404)
        self.assertEqual([act["event"] for act in self.acts], ["admin.connector-revoked"])
