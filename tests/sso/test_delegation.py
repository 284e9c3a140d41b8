"""Tickets in users' names, with a library that needs no KDC and a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.sso import delegation, realms
from appproxy.sso.asking import GssFailed, Number, Step, UserName
from appproxy.sso.causes import KerberosFailed
from appproxy.sso.delegation import REFUSED_SECONDS
from tests.fakes.kerberos import ALICE, SPN, Realm

BOB = UserName("bob@CORP.EXAMPLE", False)
UNREACHABLE = Number.KDC_UNREACHABLE


class DelegationTests(SynchronousTestCase):
    """Asking, keeping, forgetting."""

    def setUp(self) -> None:
        self.realm = Realm()
        self.library = self.realm.library

    def ticket(self, user: UserName = ALICE, spn: str = SPN) -> Any:
        """The ticket that is asked for and had."""
        return self.successResultOf(self.realm.ask(user, spn))

    def refusal(self, user: UserName = ALICE, spn: str = SPN) -> str:
        """The cause of not having one."""
        failed: KerberosFailed = self.failureResultOf(self.realm.ask(user, spn), KerberosFailed).value
        return failed.code.removeprefix("kerberos-")

    def refuse(self, step: Step, number: int) -> None:
        """Let the next question be refused."""
        self.library.failures.append(GssFailed(step, number, "no"))

    @pytest.mark.feature("SSO-4")
    def test_kept_by_user_and_service(self) -> None:
        """B-K8: one ticket for each user and service, for fifteen minutes."""
        alice, bob = self.ticket(), self.ticket(BOB)
        self.assertEqual((alice.client, bob.client), ("alice@CORP.EXAMPLE", "bob@CORP.EXAMPLE"))
        self.assertIs(self.realm.find(ALICE, SPN), alice)
        self.assertIs(self.realm.find(BOB, SPN), bob)
        self.assertIsNone(self.realm.find(UserName(ALICE.text, True), SPN))
        self.assertIsNone(self.realm.find(ALICE, "HTTP/other@CORP.EXAMPLE"))
        self.assertEqual(len(self.library.asked), 2)
        self.realm.clock.advance(15 * 60)
        self.assertIsNone(self.realm.find(ALICE, SPN))
        self.assertIsNot(self.ticket(), alice)
        self.assertTrue(alice.destroyed)

    def test_not_beyond_its_own_life(self) -> None:
        """A ticket that ends, or a wall clock that jumps, is noticed before the origin does."""
        self.library.lifetime = 120
        self.ticket()
        self.realm.clock.advance(61)
        self.assertIsNone(self.realm.find(ALICE, SPN))
        self.library.lifetime = 36_000
        self.ticket()
        self.realm.ahead = 40_000
        self.assertIsNone(self.realm.find(ALICE, SPN))

    def test_dropped(self) -> None:
        """B-K11: a ticket that the origin refuses is forgotten; a newer one is not."""
        first = self.ticket()
        self.realm.drop(ALICE, SPN, first)
        self.assertTrue(first.destroyed)
        second = self.ticket()
        self.realm.drop(ALICE, SPN, first)
        self.assertIs(self.realm.find(ALICE, SPN), second)

    def test_one_question_for_all_who_wait(self) -> None:
        """Requests for the same ticket share one question; who goes away harms nobody."""
        self.realm.frozen = True
        waiting = [self.realm.ask(ALICE, SPN) for _ in range(10)]
        waiting[3].addErrback(lambda _: None)
        waiting[3].cancel()
        self.realm.thaw()
        tickets = {id(self.successResultOf(done)) for done in waiting if done is not waiting[3]}
        self.assertEqual((len(tickets), len(self.library.asked)), (1, 1))

    def test_no_storm_of_refusals(self) -> None:
        """B-K3: a refusal is repeated for a moment without asking again."""
        self.refuse(Step.DELEGATE, Number.SERVER_UNKNOWN)
        self.assertEqual([self.refusal() for _ in range(50)], ["spn-unknown"] * 50)
        self.assertEqual(len(self.library.asked), 1)
        self.realm.clock.advance(REFUSED_SECONDS)
        self.assertEqual(self.ticket().client, ALICE.text)

    def test_a_stale_ticket_of_the_connector(self) -> None:
        """B-K17: when only the connector's own ticket has expired, it gets another one and asks again, once."""
        self.refuse(Step.IMPERSONATE, Number.TICKET_EXPIRED)
        self.assertEqual(self.ticket().client, ALICE.text)
        self.assertEqual(self.library.forgotten, 1)
        self.refuse(Step.ACQUIRE, Number.NO_CACHE)
        self.refuse(Step.ACQUIRE, Number.NO_FILE)
        self.assertEqual(self.refusal(BOB), "keytab-missing")

    def test_broken_encryption(self) -> None:
        """B-K7: a ticket that is encrypted with RC4 is refused, unless the settings allow it."""
        self.library.enctype = 23
        self.assertEqual(self.refusal(), "weak-ticket")
        self.realm = Realm(allow_rc4=True)
        self.realm.library.enctype = 23
        self.assertEqual(self.ticket().enctype, 23)

    def test_bounded(self) -> None:
        """The oldest tickets make room, and at the end nothing is left."""
        self.patch(delegation, "MAX_TICKETS", 3)
        tickets = [self.ticket(UserName(f"user-{number}@CORP.EXAMPLE", False)) for number in range(5)]
        self.assertEqual([ticket.destroyed for ticket in tickets], [True, True, False, False, False])
        self.realm.close()
        self.assertTrue(all(ticket.destroyed for ticket in tickets))

    def test_what_has_no_name(self) -> None:
        """An error of the library that is none is a cause of its own, with the text in the log only."""
        self.library.failures.append(ValueError("embarrassing"))
        self.assertEqual(self.refusal(), "library")

    # KDCs that fail

    @pytest.mark.feature("SSO-4")
    def test_a_silent_kdc(self) -> None:
        """B-K10: nobody waits longer than the deadline; then all hear at once, until an answer comes, however late."""
        self.realm.frozen = True
        waiting = self.realm.ask(ALICE, SPN)
        self.realm.clock.advance(9.9)
        self.assertNoResult(waiting)
        self.realm.clock.advance(0.2)
        self.assertEqual(self.failureResultOf(waiting, KerberosFailed).value.code, "kerberos-kdc-silent")
        self.assertEqual(self.refusal(BOB), "kdc-silent")
        self.assertEqual(len(self.realm.held), 1)
        self.realm.thaw()
        self.assertEqual(self.ticket(BOB).client, BOB.text)
        self.assertIsNotNone(self.realm.find(ALICE, SPN), "the late answer is of use")

    def test_one_attempt_in_each_pause(self) -> None:
        """B-K10: while the KDC does not answer, one request at a time finds out whether it does again."""
        self.realm.frozen = True
        self.failureResultOf(self.waited(ALICE), KerberosFailed)
        self.realm.clock.advance(2)
        trial = self.realm.ask(BOB, SPN)
        self.assertNoResult(trial)
        self.assertEqual(self.refusal(UserName("carol@CORP.EXAMPLE", False)), "kdc-silent")
        self.realm.thaw()
        self.successResultOf(trial)

    def waited(self, user: UserName) -> Any:
        """A question that nobody answers in time."""
        waiting = self.realm.ask(user, SPN)
        self.realm.clock.advance(10)
        return waiting

    def test_unreachable(self) -> None:
        """B-K10: a KDC that cannot be reached is not asked again for a moment; no user is blamed for it."""
        self.refuse(Step.ACQUIRE, UNREACHABLE)
        self.assertEqual([self.refusal(), self.refusal(BOB)], ["kdc-unreachable"] * 2)
        self.assertEqual(len(self.library.asked), 1)
        self.realm.clock.advance(2)
        self.assertEqual(self.ticket().client, ALICE.text)

    def test_ports_are_looked_at_first(self) -> None:
        """B-K10: before a KDC that failed is asked again, a connection is tried, which costs no thread."""
        path = Path(self.mktemp())
        path.write_text("[realms]\nCORP.EXAMPLE = {\nkdc = dc1.corp.example\n}\n")
        self.realm = Realm((path,))
        answers = iter([False, True])

        async def reachable(reactor: object, places: object) -> bool:
            self.assertEqual(places, [("dc1.corp.example", 88)])
            return next(answers)

        self.patch(realms, "reachable", reachable)
        self.library = self.realm.library
        self.refuse(Step.ACQUIRE, UNREACHABLE)
        self.assertEqual(self.refusal(), "kdc-unreachable")
        self.realm.clock.advance(2)
        self.assertEqual(self.refusal(), "kdc-unreachable")
        self.assertEqual(len(self.library.asked), 1)
        self.realm.clock.advance(4)
        self.assertEqual(self.ticket().client, ALICE.text)

    def test_realms_fail_apart(self) -> None:
        """B-K10: the KDC of one realm stops nobody of another."""
        self.realm.frozen = True
        self.failureResultOf(self.waited(ALICE), KerberosFailed)
        self.realm.frozen = False
        self.assertEqual(self.refusal(BOB), "kdc-silent")
        self.assertEqual(self.ticket(BOB, "HTTP/origin@OTHER.EXAMPLE").client, BOB.text)

    def test_too_many_wait(self) -> None:
        """More questions than threads and places to wait are refused at once; a busy KDC is not a silent one."""
        self.realm.frozen = True
        waiting = [self.realm.ask(UserName(f"user-{each}@CORP.EXAMPLE", False), SPN) for each in range(7)]
        self.assertEqual(self.failureResultOf(waiting[6], KerberosFailed).value.code, "kerberos-kdc-busy")
        self.realm.clock.advance(9)
        self.realm.held.pop(0)()
        self.realm.clock.advance(1)
        codes = {self.failureResultOf(each, KerberosFailed).value.code for each in waiting[1:6]}
        self.assertEqual(codes, {"kerberos-kdc-busy"})
        self.realm.thaw()
        self.assertEqual(self.ticket(BOB).client, BOB.text)
