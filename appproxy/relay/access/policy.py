"""Who may use which application: the one evaluator that the gate, the portal and explanations share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from appproxy.applications import Application
from appproxy.identity import Identity


class StepUp(NamedTuple):
    """How a user has to sign in again: within so many seconds (0: any time), in one of these ways, by such a method."""

    max_age: int
    acr: tuple[str, ...]
    amr: tuple[str, ...] = ()


class Decision(NamedTuple):
    """Whether somebody may, and why; reasons are stable words for logs and pages.

    :ivar step_up: what would change the decision.
    """

    allowed: bool
    reasons: tuple[str, ...]
    step_up: StepUp | None = None


EVERYONE: Final = Decision(True, ("everyone",))
NOT_REQUIRED: Final = Decision(True, ("assignment-not-required",))
USER_ASSIGNED: Final = Decision(True, ("user-assigned",))
NOT_ASSIGNED: Final = Decision(False, ("not-assigned",))
#: The provider said that there are too many groups to list: nobody is "in no group", so nobody gets in by a guess.
GROUPS_UNKNOWN: Final = Decision(False, ("groups-overage",))


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


def signed_in_by(identity: Identity, acr: Collection[str]) -> bool:
    """Whether the sign-in was one of these: by ``acr``, or by the list that Microsoft Entra has in ``acrs``."""
    if str(identity.claims.get("acr", "")) in acr:
        return True
    return not set(acr).isdisjoint(texts_of(identity.claims.get("acrs")))


def texts_of(value: Any) -> Iterable[str]:
    """A claim's value, or values, as rules write them."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return [str(member) for member in value]
    return () if value is None else (("true" if value else "false") if isinstance(value, bool) else str(value),)
