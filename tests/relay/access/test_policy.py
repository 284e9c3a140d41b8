"""Assignments."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned
from appproxy.identity import Identity
from appproxy.relay.access.policy import Assignment, Decision


def decide(assigned: Assigned, required: bool = True, **identity: Any) -> Decision:
    """Decide for alice, member of staff, unless said otherwise."""
    application = Application(
        id="x",
        external_url="https://x.test/",
        internal_url="http://y.test/",
        connector_group="hq",
        assigned=assigned,
        assignment_required=required,
    )
    who = {"issuer": "i", "subject": "s", "user": "alice", "groups": ("staff",), **identity}
    return Assignment(application).decide(Identity(**who))


class AssignmentTest(SynchronousTestCase):
    """Who gets in, and the reason that the log shows."""

    @pytest.mark.feature("POL-1")
    def test_assigned(self) -> None:
        """A user by name, a member by group, everyone if so assigned, anyone if assignment is not required."""
        self.assertEqual(decide(Assigned(users=("alice",))), Decision(True, ("user-assigned",)))
        self.assertEqual(decide(Assigned(groups=("hr", "staff"))), Decision(True, ("group-assigned", "staff")))
        self.assertEqual(decide(Assigned(everyone=True)), Decision(True, ("everyone",)))
        self.assertEqual(decide(Assigned(), required=False), Decision(True, ("assignment-not-required",)))

    @pytest.mark.feature("POL-1")
    def test_not_assigned(self) -> None:
        """A34: nobody else, and an empty assignment lets nobody in."""
        for assigned in (Assigned(), Assigned(users=("bob",)), Assigned(groups=("hr",)), Assigned(groups=("alice",))):
            self.assertEqual(decide(assigned), Decision(False, ("not-assigned",)))

    def test_look_alikes(self) -> None:
        """A32: names are compared exactly."""
        for user in ("Alice", "alice ", "alice@evil.test", "\u0430lice"):
            self.assertFalse(decide(Assigned(users=("alice",)), user=user).allowed)

    @pytest.mark.feature("POL-1")
    def test_group_overage(self) -> None:
        """A33: too many groups to list is not "in no group": denied with its own reason, but names still count."""
        overage = {"groups": (), "claims": {"_claim_names": {"groups": "src1"}}}
        self.assertEqual(decide(Assigned(groups=("staff",)), **overage), Decision(False, ("groups-overage",)))
        self.assertTrue(decide(Assigned(groups=("staff",), users=("alice",)), **overage).allowed)
        self.assertEqual(decide(Assigned(users=("bob",)), **overage), Decision(False, ("not-assigned",)))
