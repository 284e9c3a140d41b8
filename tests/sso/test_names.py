"""Names of users and services, before the Kerberos library sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import NAMED_IDENTITIES
from appproxy.http.addresses import InternalURL
from appproxy.sso.asking import UserName
from appproxy.sso.causes import KerberosFailed
from appproxy.sso.names import MAX_NAME, account_of, service_of

REALM, CONNECTOR = "CORP.EXAMPLE", "svc-connector@CORP.EXAMPLE"


def account(kind: str, value: str | tuple[str, ...] | None) -> UserName:
    """The account that *value* names."""
    return account_of(kind, value, REALM, CONNECTOR)


class AccountTests(SynchronousTestCase):
    """Users."""

    def refused(self, kind: str, value: str | tuple[str, ...] | None) -> str:
        """The cause, by name."""
        with self.assertRaises(KerberosFailed) as caught:
            account(kind, value)
        return caught.exception.code.removeprefix("kerberos-")

    @pytest.mark.feature("SSO-3")
    def test_identities(self) -> None:
        """Whole names are looked up by the KDC, parts and SAM names are accounts of the realm; others by their look."""
        looked_up = UserName("alice@contoso.example@CORP.EXAMPLE", True)
        plain = UserName("alice@CORP.EXAMPLE", False)
        self.assertEqual(account("userPrincipalName", "alice@contoso.example"), looked_up)
        self.assertEqual(account("onPremisesUserPrincipalName", "alice@contoso.example"), looked_up)
        self.assertEqual(account("userPrincipalUsername", "alice@contoso.example"), plain)
        self.assertEqual(account("userPrincipalUsername", "alice"), plain)
        self.assertEqual(account("onPremisesUserPrincipalUsername", "alice@contoso.example"), plain)
        self.assertEqual(account("onPremisesSAMAccountName", "alice"), plain)
        self.assertEqual(account("claim:account", "alice"), plain)
        self.assertEqual(account("lower(claim:upn)", ("alice@contoso.example",)), looked_up)

    @pytest.mark.feature("SSO-3")
    def test_nothing_is_an_error_of_its_own(self) -> None:
        """An empty value is no other name instead."""
        for kind in (*NAMED_IDENTITIES, "claim:account"):
            for nothing in (None, "", ()):
                self.assertEqual(self.refused(kind, nothing), "name-empty")

    def test_what_is_no_name(self) -> None:
        """B-K1, B-K18: realms, instances, escapes, controls, blanks and lengths that would mean something else."""
        hostile = [
            "@", "alice@", "@corp.example", "alice@@corp.example", "alice@corp.example@OTHER.EXAMPLE",
            "a/b@corp.example", "a\\b@corp.example", "CORP\\alice@corp.example", "al\0ice@corp.example",
            "alice\n@corp.example", " alice@corp.example", "alice @corp.example", "alice@corp.example ",
            "alice@.", "alice@-", "alice@corp..", "alice@1", "alice@cörp.example", "alice@corp example",
            "a" * 10_000 + "@corp.example", "alice@" + "c" * 10_000, "\ud800@corp.example", "a\u202eb@corp.example",
            "alice@corp.example/x", "a:b@corp.example", "a,b@corp.example", "\u2028@corp.example",
        ]  # fmt: skip
        for name in hostile:
            self.assertEqual(self.refused("userPrincipalName", name), "name-refused", name)
            self.assertEqual(self.refused("onPremisesSAMAccountName", name), "name-refused", name)
        for name in ("a/b", "alice@OTHER.EXAMPLE", "a\\b", "a" * (MAX_NAME + 1), " a", "\t", "a\0"):
            self.assertEqual(self.refused("onPremisesSAMAccountName", name), "name-refused", name)
        self.assertEqual(self.refused("userPrincipalName", ("a@b.c", "d@b.c")), "name-refused")

    def test_nobody_is_the_connector(self) -> None:
        """B-K1: the connector's own account cannot be signed in as, by any way to name it."""
        self.assertEqual(self.refused("userPrincipalUsername", "svc-connector"), "user-is-connector")
        self.assertEqual(self.refused("onPremisesSAMAccountName", "SVC-Connector"), "user-is-connector")
        self.assertEqual(self.refused("userPrincipalName", "svc-connector@corp.example"), "user-is-connector")

    @given(st.text(max_size=300), st.sampled_from([*NAMED_IDENTITIES, "claim:x"]))
    def test_any_text(self, text: str, kind: str) -> None:
        """B-K1: what is accepted has one realm, ours, at its end, and nothing that the library reads otherwise."""
        try:
            user = account(kind, text)
        except KerberosFailed:
            return
        name, _, realm = user.text.rpartition("@")
        self.assertEqual(realm, REALM)
        self.assertEqual(name.count("@"), 1 if user.enterprise else 0)
        self.assertFalse(set(name) & set("/\\\0\n") or name != name.strip() or not name.partition("@")[0])


class ServiceTests(SynchronousTestCase):
    """Services."""

    @pytest.mark.feature("SSO-2")
    def test_templates(self) -> None:
        """B-K4: host and port of the internal address, or a fixed name; the realm is ours unless it is named."""
        internal = InternalURL.parse("https://hr.corp.example:8443/app/")
        for template, spn in {
            "": "HTTP/hr.corp.example@CORP.EXAMPLE",
            "HTTP/{host}:{port}": "HTTP/hr.corp.example:8443@CORP.EXAMPLE",
            "HTTP/portal": "HTTP/portal@CORP.EXAMPLE",
            "HTTP/{host}@OTHER.EXAMPLE": "HTTP/hr.corp.example@OTHER.EXAMPLE",
        }.items():
            self.assertEqual(service_of(template, internal, REALM), spn)
