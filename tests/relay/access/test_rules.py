"""Rules that are looked at with every request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, Assigned, Rule, Who
from appproxy.identity import Identity
from appproxy.relay.access.policy import Assignment, Decision, StepUp
from appproxy.relay.access.rules import Request, Rules, fold_path
from appproxy.units import Duration

NOW = int(datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp())  # a Monday

ALICE = Identity("https://idp", "1", "alice", ("hr-admins", "staff"), {"acr": "mfa", "amr": ["pwd", "otp"]}, NOW - 600)
BOB = Identity("https://idp", "2", "bob", ("staff",), {"department": ["it"], "managed": True}, NOW - 7200)
CAROL = Identity("https://idp", "3", "carol", (), {"_claim_names": {"groups": "src1"}}, NOW)


def rules(*rules: Rule) -> Rules:
    """An application that alice and bob are assigned to."""
    application = Application(id="hr", connector_group="hq", rule=rules, assigned=Assigned(users=("alice", "bob")))
    return Rules(application, Assignment(application))


def decide(
    given: Rules, identity: Identity, path: str = "/", method: str = "GET", client: str = "10.1.2.3"
) -> Decision:
    """What is decided of one request."""
    return given.look(Request(path.encode(), method.encode(), client, NOW)).decide(identity, NOW)


ADMIN = Rule(name="admins", paths=("/admin/",), allow=Who(groups=("hr-admins",)))


@pytest.mark.feature("POL-2")
class DecisionTests(SynchronousTestCase):
    """Deny beats allow, allow beats assignment, and where nothing matches nobody may."""

    def test_without_a_rule_that_applies_assignment_decides(self) -> None:
        """As if there were none."""
        self.assertEqual(decide(rules(ADMIN), BOB, "/"), Decision(True, ("user-assigned",)))
        self.assertEqual(decide(rules(ADMIN), CAROL, "/"), Decision(False, ("not-assigned",)))

    def test_where_rules_allow_one_has_to_match(self) -> None:
        """Being assigned is not enough there; not being assigned is no obstacle."""
        self.assertEqual(decide(rules(ADMIN), ALICE, "/admin/x"), Decision(True, ("allowed-by-rule", "admins")))
        self.assertEqual(decide(rules(ADMIN), BOB, "/admin"), Decision(False, ("no-rule-allows", "admins")))
        self.assertTrue(decide(rules(ADMIN), BOB, "/administration").allowed)
        both = rules(ADMIN, Rule(paths=("/admin/",), allow=Who(users=("dave",))))
        dave = Identity("https://idp", "4", "dave")
        self.assertEqual(decide(both, dave, "/admin/"), Decision(True, ("allowed-by-rule", "rule 2")))

    def test_deny_beats_allow(self) -> None:
        """Whatever their order."""
        both = rules(
            Rule(name="all", allow=Who(everyone=True)), Rule(name="not it", deny=Who(claims={"department": ("it",)}))
        )
        self.assertEqual(decide(both, BOB), Decision(False, ("denied-by-rule", "not it")))
        self.assertTrue(decide(both, ALICE).allowed)

    def test_claims_may_be_texts_lists_and_truth(self) -> None:
        """As providers write them."""
        managed = rules(Rule(allow=Who(claims={"managed": ("true",)})))
        self.assertTrue(decide(managed, BOB).allowed)
        self.assertFalse(decide(managed, ALICE).allowed)
        self.assertTrue(decide(rules(Rule(allow=Who(claims={"acr": ("mfa",)}))), ALICE).allowed)

    def test_unknown_groups_get_nobody_in_and_nobody_around(self) -> None:
        """A33: where the provider does not say the groups, allow does not hold and deny does."""
        self.assertEqual(decide(rules(ADMIN), CAROL, "/admin/").reasons, ("groups-overage",))
        banned = rules(Rule(name="x", allow=Who(everyone=True)), Rule(name="y", deny=Who(groups=("guests",))))
        self.assertEqual(decide(banned, CAROL), Decision(False, ("denied-by-rule", "y")))

    def test_methods_are_judged_as_sent(self) -> None:
        """N20: no other spelling is the same method."""
        reading = rules(
            Rule(methods=("GET",), allow=Who(everyone=True)), Rule(methods=("DELETE",), deny=Who(everyone=True))
        )
        self.assertTrue(decide(reading, CAROL, method="GET").allowed)
        self.assertFalse(decide(reading, CAROL, method="get").allowed)
        self.assertFalse(decide(reading, ALICE, method="DELETE").allowed)

    def test_networks(self) -> None:
        """Of the client, IPv4 within IPv6 too; a Unix socket is in none."""
        outside = rules(Rule(name="office", networks=("10.0.0.0/8", "2001:db8::/32"), allow=Who(users=("dave",))))
        for client in ("10.9.9.9", "::ffff:10.9.9.9", "2001:db8::1"):
            self.assertFalse(decide(outside, BOB, client=client).allowed, client)
        for client in ("192.0.2.1", "local"):
            self.assertTrue(decide(outside, BOB, client=client).allowed, client)

    def test_times(self) -> None:
        """In the rule's own time zone."""

        def at(*times: str, zone: str = "UTC") -> bool:
            return not decide(rules(Rule(times=times, time_zone=zone, deny=Who(everyone=True))), BOB).allowed

        self.assertTrue(at("mon-fri 08:00-18:00"))
        self.assertTrue(at("12:00-12:01"))
        self.assertFalse(at("sat-sun 00:00-24:00"))
        self.assertFalse(at("08:00-12:00", "12:01-18:00"))
        self.assertTrue(at("sun 22:00-12:30"), "over midnight")
        self.assertFalse(at("mon 22:00-12:30"))
        self.assertTrue(at("fri-mon 11:00-13:00"), "over the week's end")
        self.assertTrue(at("13:00-13:30", zone="Europe/Berlin"))

    def test_a_sign_in_that_is_too_old_or_too_weak(self) -> None:
        """The decision says what sign-in would do; who may not anyway is not asked to."""
        fresh = rules(Rule(name="fresh", paths=("/pay/",), max_authentication_age=Duration(3600)))
        self.assertTrue(decide(fresh, ALICE, "/pay/").allowed)
        self.assertEqual(decide(fresh, BOB, "/pay/"), Decision(False, ("step-up", "fresh"), StepUp(3600, ())))
        self.assertEqual(decide(fresh, BOB, "/"), Decision(True, ("user-assigned",)))
        strong = rules(Rule(name="strong", acr=("mfa", "phr")))
        self.assertTrue(decide(strong, ALICE).allowed)
        self.assertEqual(decide(strong, BOB).step_up, StepUp(0, ("mfa", "phr")))
        self.assertEqual(decide(strong, CAROL).step_up, None)
        self.assertFalse(decide(rules(Rule(amr=("hwk",))), ALICE).allowed)
        self.assertTrue(decide(rules(Rule(amr=("hwk", "otp"))), ALICE).allowed)


@pytest.mark.feature("AUTH-1")
class SignInTests(SynchronousTestCase):
    """Whether people have to sign in, by path."""

    def test_the_strictest_rule_counts(self) -> None:
        """Required where nothing is said."""
        given = rules(
            Rule(paths=("/public/",), sign_in="public"),
            Rule(paths=("/public/maybe/",), sign_in="optional"),
            Rule(paths=("/public/maybe/not/",), allow=Who(users=("alice",))),
        )

        def at(path: str) -> str:
            return given.look(Request(path.encode(), b"GET", "", NOW)).sign_in

        self.assertEqual([at(path) for path in ("/", "/public", "/public/x", "/public/maybe/", "/public/maybe/not/")],
                         ["required", "public", "public", "optional", "required"])  # fmt: skip

    def test_what_is_open_is_open_in_one_spelling(self) -> None:
        """N07: others are other paths for some origins."""
        given = rules(Rule(paths=("/public/",), sign_in="public"))
        for path in (b"/PUBLIC/", b"/public./", b"/public%20/x", b"/public::$INDEX_ALLOCATION/"):
            self.assertEqual(given.look(Request(path, b"GET", "", NOW)).sign_in, "required", path)

    def test_who_is_signed_in_is_no_worse_off(self) -> None:
        """Where nobody has to sign in, who is not assigned may stay."""
        given = rules(Rule(paths=("/open/",), sign_in="optional"))
        self.assertTrue(decide(given, CAROL, "/open/").allowed)
        self.assertFalse(decide(given, CAROL, "/").allowed)


@pytest.mark.feature("POL-2")
@pytest.mark.parametrize(
    "path",
    ["/admin/x", "/ADMIN/x", "/Admin./x", "/admin%20/x", "/admin..%20/x", "/admin::$DATA", "/admin:stream/x", "/admin"],
)
def test_no_spelling_gets_around(path: str) -> None:
    """N07, N08: a rule that restricts holds for whatever any origin takes for its path."""
    assert not decide(rules(ADMIN), BOB, path).allowed


@given(st.lists(st.sampled_from([b"a", b"A", b".", b" ", b"%20", b":", b"$x", b"/"]), max_size=8))
def test_folding_again_changes_nothing(parts: list[bytes]) -> None:
    """What is folded is its own fold."""
    once = fold_path(b"/" + b"".join(parts))
    assert fold_path(once) == once


def test_rules_are_values() -> None:
    """They travel and come back as they were."""
    from appproxy.applications import from_document, to_document

    application = Application(
        id="hr", connector_group="hq", rule=(ADMIN, Rule(acr=("x",), max_authentication_age=Duration(60)))
    )
    document: Any = to_document(application)
    assert document["rule"][1]["max_authentication_age"] == "1m"
    assert from_document(document, Application) == application
