"""Explanations of requests that are not sent."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned, HeaderRule, Rule, Segment, SingleSignOn, Who
from appproxy.identity import Identity
from appproxy.relay.access.explaining import NoAddress, Question, explain
from appproxy.relay.catalog import Catalog
from appproxy.units import Duration

NOW = 1_900_000_000
ALICE = Identity("", "", "alice", ("staff",), {"email": "Alice@x", "address": {"a": 1}}, NOW - 7200)

CATALOG = Catalog(
    [
        Application(
            id="hr",
            connector_group="hq",
            external_url="https://hr.example.com/portal/",
            internal_url="http://hr.corp.local:8080/",
            segment=(Segment(external_url="https://*.apps.example.com/", internal_url="https://*.corp.local/app/"),),
            assigned=Assigned(groups=("staff",)),
            sso=SingleSignOn(
                mode="header",
                header=(
                    HeaderRule(name="X-User", value="user"),
                    HeaderRule(name="X-Mail", value="lower(claim:email)"),
                    HeaderRule(name="X-Groups", value="groups"),
                    HeaderRule(name="X-Address", value="claim:address"),
                    HeaderRule(name="X-None", value="claim:none"),
                ),
            ),
            rule=(
                Rule(name="admins", paths=("/portal/admin/",), allow=Who(groups=("hr-admins",))),
                Rule(name="fresh", paths=("/portal/pay/",), max_authentication_age=Duration(3600)),
                Rule(name="open", paths=("/portal/open/",), sign_in="public"),
            ),
        ),
        Application(
            id="wiki", connector_group="lab", external_url="https://wiki.example.com/",
            internal_url="http://wiki.corp.local/", preauthentication="passthrough",
        ),
        Application(
            id="old", connector_group="lab", external_url="https://old.example.com/", internal_url="http://old.corp/",
            maintenance=True,
        ),
    ]
)  # fmt: skip


def asked(url: str, identity: Identity | None = ALICE, method: str = "GET") -> dict[str, Any]:
    """What is said of one request."""
    return explain(CATALOG, {"hq": ["hq-1", "hq-2"]}, Question(url, method, "192.0.2.1", identity, NOW))


@pytest.mark.feature("POL-3")
class ExplanationTests(SynchronousTestCase):
    """The verdict, why, and what the origin would receive."""

    def test_allowed(self) -> None:
        """With the origin's address, the target octet for octet, and what single sign-on says."""
        told = asked("https://hr.example.com/portal/a%2Fb?q=%26")
        self.assertEqual((told["allowed"], told["reasons"]), (True, ["group-assigned", "staff"]))
        self.assertEqual((told["application"], told["connectors"]), ("hr", ["hq-1", "hq-2"]))
        origin = told["origin"]
        self.assertEqual((origin["address"], origin["request"]), ("http://hr.corp.local:8080", "GET /a%2Fb?q=%26"))
        self.assertEqual(origin["host"], "hr.corp.local:8080")
        headers = origin["single_sign_on"]["headers"]
        self.assertEqual((headers["X-User"], headers["X-Mail"], headers["X-Groups"]), ("alice", "alice@x", ["staff"]))
        self.assertIn("fails", headers["X-Address"])
        self.assertNotIn("X-None", headers)

    def test_refused_by_a_rule(self) -> None:
        """The rule is named, and nothing is said of what the origin would receive."""
        told = asked("https://hr.example.com/portal/Admin/x")
        self.assertEqual((told["allowed"], told["reasons"]), (False, ["no-rule-allows", "admins"]))
        self.assertEqual(told["rules"], ["admins"])
        self.assertNotIn("origin", told)

    def test_a_stronger_sign_in(self) -> None:
        """What would do is said."""
        self.assertEqual(asked("https://hr.example.com/portal/pay/")["step_up"], {"max_age": 3600, "acr": []})

    def test_strangers(self) -> None:
        """Are asked to sign in, unless the path is open."""
        self.assertIsNone(asked("https://hr.example.com/portal/", None)["allowed"])
        told = asked("https://hr.example.com/portal/open/x", None)
        self.assertEqual((told["allowed"], told["reasons"]), (True, ["open-to-anyone"]))
        self.assertEqual(told["origin"]["single_sign_on"]["headers"], {})

    def test_segments_and_wildcards(self) -> None:
        """Each leads to its own origin."""
        told = asked("https://x.y.apps.example.com/z")
        self.assertEqual(told["external_url"], "https://*.apps.example.com/")
        self.assertEqual(
            (told["origin"]["address"], told["origin"]["request"]), ("https://x.y.corp.local", "GET /app/z")
        )

    def test_what_nobody_signs_in_to_or_is_not_there(self) -> None:
        """Pass-through, maintenance, another path, another host."""
        self.assertEqual(asked("https://wiki.example.com/")["reasons"], ["passthrough"])
        self.assertEqual(asked("https://wiki.example.com/")["connectors"], [])
        self.assertEqual(asked("https://old.example.com/")["reasons"], ["maintenance"])
        self.assertEqual(asked("https://hr.example.com/")["detail"], "something else is published at this host")
        self.assertEqual(asked("https://moon.example.com/")["detail"], "no such host")

    def test_what_is_no_address(self) -> None:
        """Is refused with the reason."""
        for url in ("hr.example.com", "ftp://hr.example.com/", "https://u@hr.example.com/", "https://hr.example.com/%2e%2e/",
                    "https://[::1", "https://hr.example.com/ä"):  # fmt: skip
            self.assertRaises(NoAddress, asked, url)
