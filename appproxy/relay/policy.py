"""Who may use which application: the one evaluator that the gate, the portal and explanations share."""

from __future__ import annotations

from typing import NamedTuple

from appproxy.applications import Application
from appproxy.identity import Identity


class StepUp(NamedTuple):
    """How a user has to sign in again: within so many seconds (0: any time), in one of these ways (``acr``)."""

    max_age: int
    acr: tuple[str, ...]


class Decision(NamedTuple):
    """Whether somebody may, and why; reasons are stable words for logs and pages.

    :ivar step_up: what would change the decision.
    """

    allowed: bool
    reasons: tuple[str, ...]
    step_up: StepUp | None = None


EVERYONE = Decision(True, ("everyone",))
NOT_REQUIRED = Decision(True, ("assignment-not-required",))
USER_ASSIGNED = Decision(True, ("user-assigned",))
NOT_ASSIGNED = Decision(False, ("not-assigned",))
#: The provider said that there are too many groups to list: nobody is "in no group", so nobody gets in by a guess.
GROUPS_UNKNOWN = Decision(False, ("groups-overage",))


class Assignment:
    """Who may use one application, compiled: a decision costs less than a microsecond."""

    __slots__ = ("_always", "_groups", "_users")

    def __init__(self, application: Application) -> None:
        assigned = application.assigned
        self._users = frozenset(assigned.users)
        self._groups = frozenset(assigned.groups)
        self._always: Decision | None = None
        if assigned.everyone:
            self._always = EVERYONE
        elif not application.assignment_required:
            self._always = NOT_REQUIRED

    def decide(self, identity: Identity) -> Decision:
        """Say whether *identity* is assigned.  Names and groups are compared exactly, letter case included."""
        if self._always is not None:
            return self._always
        if identity.user in self._users:
            return USER_ASSIGNED
        groups = self._groups
        if groups:
            for group in identity.groups:
                if group in groups:
                    return Decision(True, ("group-assigned", group))
            if not identity.groups and "_claim_names" in identity.claims:
                return GROUPS_UNKNOWN
        return NOT_ASSIGNED
