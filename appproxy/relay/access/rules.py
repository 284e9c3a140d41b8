"""Rules of an application, looked at with every request: who may do what, from where, when, and how freshly signed in.

A rule applies to a request by path, method, the client's network and the time.  Of those that apply, one that denies
wins; else one that allows has to match; where none applies, assignment decides.  Paths are canonical, and compared as
the laxest origin would read them (letter case, dots at the end, NTFS streams); only what opens a path to people who
have not signed in is compared octet for octet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from appproxy.applications import Application, Rule, Who
from appproxy.http.addresses import is_at
from appproxy.identity import Identity
from appproxy.relay.access.policy import GROUPS_UNKNOWN, Assignment, Decision, StepUp, signed_in_by, texts_of
from appproxy.times import Window

SignIn = Literal["required", "optional", "public"]

#: How much a sign-in may be asked for; of several rules the strictest counts.
_STRICTNESS: Final[Mapping[SignIn, int]] = {"public": 0, "optional": 1, "required": 2}
#: What Windows does not see at the end of a name: streams, dots, spaces.
_UNSEEN = re.compile(rb":.*\Z|(?:[. ]|%20)+\Z")


#: Where nobody has to sign in, whoever has is no worse off.
ANYONE: Final = Decision(True, ("open-to-anyone",))


class Request(NamedTuple):
    """What rules look at: canonical path, method as sent, the client's address, epoch seconds."""

    path: bytes
    method: bytes
    client: str
    now: int


class People:
    """Who is meant: anyone of the named users, members of a group, or owners of a claim's value."""

    __slots__ = ("_claims", "_everyone", "_groups", "_users")

    def __init__(self, who: Who) -> None:
        self._everyone = who.everyone
        self._users = frozenset(who.users)
        self._groups = frozenset(who.groups)
        self._claims = {name: frozenset(values) for name, values in who.claims.items()}

    def includes(self, identity: Identity) -> bool:
        """Whether *identity* is one of them; compared exactly, letter case included."""
        if self._everyone or identity.user in self._users or not self._groups.isdisjoint(identity.groups):
            return True
        return any(not wanted.isdisjoint(texts_of(identity.claims.get(name))) for name, wanted in self._claims.items())

    def unknown(self, identity: Identity) -> bool:
        """Whether the groups that would tell are not known."""
        return bool(self._groups) and not identity.groups and "_claim_names" in identity.claims


class Compiled:
    """One rule, ready to be looked at."""

    __slots__ = (
        "_acr", "_amr", "_exact", "_max_age", "_methods", "_networks", "_paths", "_windows", "_zone", "allow", "deny",
        "name", "sign_in",
    )  # fmt: skip

    def __init__(self, rule: Rule, position: int) -> None:
        self.name = rule.name or f"rule {position + 1}"
        self.sign_in: SignIn = rule.sign_in
        self.allow = People(rule.allow) if rule.allow is not None else None
        self.deny = People(rule.deny) if rule.deny is not None else None
        self._exact = rule.sign_in != "required"
        folded: Callable[[bytes], bytes] = bytes if self._exact else fold_path
        self._paths = tuple(folded(path.encode("ascii")) for path in rule.paths)
        self._methods = frozenset(method.encode("ascii") for method in rule.methods)
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(map(ip_network, rule.networks))
        self._windows = tuple(map(Window.parse, rule.times))
        self._zone = ZoneInfo(rule.time_zone)
        self._max_age = int(rule.max_authentication_age)
        self._acr = rule.acr
        self._amr = frozenset(rule.amr)

    def applies(self, request: Request, folded: bytes) -> bool:
        """Whether the rule has anything to say of *request*, whose path *folded* is as lax origins read it."""
        if self._methods and request.method not in self._methods:
            return False
        if self._paths and not self._covers(request.path if self._exact else folded):
            return False
        if self._networks and not _is_within(request.client, self._networks):
            return False
        if self._windows:
            moment = datetime.fromtimestamp(request.now, self._zone)
            return any(window.holds(moment) for window in self._windows)
        return True

    def _covers(self, path: bytes) -> bool:
        return any(is_at(path, wanted) for wanted in self._paths)

    def lacks(self, identity: Identity, now: int) -> StepUp | None:
        """What the user's sign-in is short of."""
        stale = bool(self._max_age) and now - identity.authenticated_at > self._max_age
        weak = bool(self._acr) and not signed_in_by(identity, self._acr)
        other = bool(self._amr) and self._amr.isdisjoint(texts_of(identity.claims.get("amr")))
        if not (stale or weak or other):
            return None
        return StepUp(self._max_age if stale else 0, self._acr, tuple(sorted(self._amr)))


class Applying:
    """The rules that have something to say of one request.

    :ivar sign_in: whether people have to sign in: as the strictest rule says; they have to where none says anything.
    """

    __slots__ = ("_assignment", "_rules", "sign_in")

    def __init__(self, rules: Sequence[Compiled], assignment: Assignment) -> None:
        self._rules = rules
        self._assignment = assignment
        self.sign_in: SignIn = max((rule.sign_in for rule in rules), key=_STRICTNESS.__getitem__, default="required")

    def denial(self, identity: Identity) -> Decision | None:
        """The word of the first rule that denies *identity*, if one does."""
        for rule in self._rules:
            if rule.deny is not None and (rule.deny.includes(identity) or rule.deny.unknown(identity)):
                return Decision(False, ("denied-by-rule", rule.name))
        return None

    @property
    def names(self) -> list[str]:
        """What they are called, in their order."""
        return [rule.name for rule in self._rules]

    def decide(self, identity: Identity, now: int, assigned: Decision | None = None) -> Decision:
        """Say whether *identity* may; *now* in epoch seconds.

        :param assigned: what holds where no rule allows anything, in place of the application's assignment.
        """
        if (denied := self.denial(identity)) is not None:
            return denied
        decision = _allowed(self._rules, identity)
        if decision is None:
            decision = ANYONE if self.sign_in != "required" else assigned or self._assignment.decide(identity)
        if decision.allowed:
            for rule in self._rules:
                if (step_up := rule.lacks(identity, now)) is not None:
                    return Decision(False, ("step-up", rule.name), step_up)
        return decision


class Rules:
    """All rules of one application."""

    def __init__(self, application: Application, assignment: Assignment) -> None:
        self._rules = tuple(Compiled(rule, position) for position, rule in enumerate(application.rule))
        self._assignment = assignment

    def look(self, request: Request) -> Applying:
        """Find those that have something to say of *request*."""
        folded = fold_path(request.path)
        return Applying([rule for rule in self._rules if rule.applies(request, folded)], self._assignment)


def _allowed(rules: Iterable[Compiled], identity: Identity) -> Decision | None:
    """What the rules that allow say; None where there are none."""
    names: list[str] = []
    unknown = False
    for rule in rules:
        if rule.allow is not None:
            if rule.allow.includes(identity):
                return Decision(True, ("allowed-by-rule", rule.name))
            names.append(rule.name)
            unknown = unknown or rule.allow.unknown(identity)
    if unknown:
        return GROUPS_UNKNOWN
    return Decision(False, ("no-rule-allows", *names)) if names else None


def fold_path(path: bytes) -> bytes:
    """A canonical path as the laxest origin reads it: no letter case; no dots, spaces, NTFS streams at ends."""
    return b"/".join([_UNSEEN.sub(b"", _UNSEEN.sub(b"", segment)) for segment in path.lower().split(b"/")])


def _is_within(client: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address(client)
    except ValueError:  # a Unix socket
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)
