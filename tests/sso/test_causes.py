"""Named causes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import Phase
from appproxy.relay.rendering import words_for
from appproxy.sso.asking import GssFailed, Number, Step
from appproxy.sso.causes import CAUSES, KerberosFailed, cause_of

#: Step, number, whether tickets were forwardable, and the cause.
TOLD = [
    (Step.ACQUIRE, Number.NO_FILE, None, "keytab-missing"),
    (Step.ACQUIRE, Number.BAD_KEYTAB, None, "keytab-broken"),
    (Step.ACQUIRE, Number.NO_CACHE, None, "ccache-stale"),
    (Step.ACQUIRE, Number.NOT_IN_KEYTAB, None, "keytab-other"),
    (Step.ACQUIRE, Number.PREAUTHENTICATION_FAILED, None, "connector-key"),
    (Step.ACQUIRE, Number.BAD_INTEGRITY, None, "connector-key"),
    (Step.ACQUIRE, Number.CLIENT_UNKNOWN, None, "connector-unknown"),
    (Step.ACQUIRE, Number.REVOKED, None, "connector-disabled"),
    (Step.ACQUIRE, Number.KDC_UNREACHABLE, None, "kdc-unreachable"),
    (Step.ACQUIRE, Number.REALM_UNKNOWN, None, "realm-unknown"),
    (Step.ACQUIRE, Number.BAD_CONFIG, None, "config-broken"),
    (Step.ACQUIRE, Number.SKEW, None, "clock"),
    (Step.IMPERSONATE, Number.CLIENT_UNKNOWN, None, "user-unknown"),
    (Step.IMPERSONATE, Number.POLICY, None, "user-disabled"),
    (Step.IMPERSONATE, Number.REVOKED, None, "user-disabled"),
    (Step.IMPERSONATE, Number.CLIENT_EXPIRED, None, "user-expired"),
    (Step.IMPERSONATE, Number.SERVER_UNKNOWN, None, "connector-without-spn"),
    (Step.IMPERSONATE, Number.MUST_USE_USER_TO_USER, None, "connector-without-spn"),
    (Step.IMPERSONATE, Number.PADATA, None, "user-is-connector"),
    (Step.IMPERSONATE, Number.MALFORMED_NAME, None, "name-refused"),
    (Step.DELEGATE, Number.SERVER_UNKNOWN, None, "spn-unknown"),
    (Step.DELEGATE, Number.SERVER_NOT_UNIQUE, None, "spn-twice"),
    (Step.DELEGATE, Number.KEY_EXPIRED, None, "user-password"),
    (Step.DELEGATE, Number.BAD_OPTION, (True, True), "not-delegated"),
    (Step.DELEGATE, Number.BAD_OPTION, (True, False), "no-transition"),
    (Step.DELEGATE, Number.BAD_OPTION, (False, False), "not-forwardable"),
    (Step.DELEGATE, Number.BAD_OPTION, None, "delegation-refused"),
    (Step.DELEGATE, Number.ENCTYPE, None, "encryption"),
    (Step.REPLY, Number.SKEW, None, "origin-clock"),
    (Step.REPLY, Number.TICKET_EXPIRED, None, "origin-clock"),
    (Step.REPLY, Number.TICKET_NOT_YET_VALID, None, "origin-clock"),
    (Step.REPLY, Number.BAD_INTEGRITY, None, "origin-key"),
    (Step.REPLY, Number.KEY_VERSION, None, "origin-key"),
    (Step.REPLY, Number.NOT_US, None, "origin-name"),
    (Step.REPLY, 100_005, None, "origin-refused"),
    (Step.DELEGATE, 100_005, None, "library"),
]


@pytest.mark.feature("SSO-5")
class CausesTests(SynchronousTestCase):
    """From the library's numbers to words."""

    def test_by_step_and_number(self) -> None:
        """B-K3, B-K10, B-K18: the same number means different things at different steps."""
        for step, number, forwardable, name in TOLD:
            failure = GssFailed(step, number, "text")
            failure.forwardable = forwardable
            self.assertIs(cause_of(failure), CAUSES[name], (step, number))

    def test_all_are_documented(self) -> None:
        """The page for operators has each by name, and no other."""
        page = Path(__file__).parents[2].joinpath("docs", "kerberos.rst").read_text("utf-8")
        named = set(re.findall("^``(kerberos-[a-z-]+)`` ", page, re.MULTILINE))
        self.assertEqual(named, {cause.code for cause in CAUSES.values()})

    def test_users_of_other_realms(self) -> None:
        """B-K18: a server that is not found is the user's realm when that is not ours."""
        failure = GssFailed(Step.IMPERSONATE, Number.SERVER_UNKNOWN, "text")
        self.assertIs(cause_of(failure, foreign=True), CAUSES["user-realm"])

    def test_each_says_what_to_do(self) -> None:
        """Every cause has a name, sentences for both readers, a status, and a page of its own."""
        for name, cause in CAUSES.items():
            self.assertTrue(re.fullmatch("[a-z-]+", name))
            for sentence in (cause.says, cause.remedy, cause.sentence):
                self.assertTrue(sentence.endswith("."), sentence)
            self.assertIn(cause.status, (403, 502, 503))
            self.assertEqual(words_for(cause.code, cause.status).title, cause.title)
            failed = KerberosFailed(cause, "as told", Step.DELEGATE)
            self.assertEqual((failed.code, failed.status, failed.phase), (f"kerberos-{name}", cause.status, Phase.SSO))
            self.assertIn(cause.remedy, failed.detail)
            for word in ("msDS", "keytab", "SPN", "svc"):
                self.assertNotIn(word, cause.title + cause.sentence)
