"""Header single sign-on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import HeaderRule
from appproxy.errors import ConfigError
from appproxy.http.hops import fold
from appproxy.http.messages import Field, is_value
from appproxy.sso.headers import MAX_VALUE_BYTES, HeaderSignOn
from appproxy.sso.method import SignOnFailed
from appproxy.sso.none import NoSignOn


def rules(**named: str) -> HeaderSignOn:
    return HeaderSignOn(HeaderRule(name=name.replace("_", "-"), value=value) for name, value in named.items())


def run(method: Any, identity: dict[str, Any] | None, fields: list[Field]) -> list[Field]:
    """The result of a coroutine that does not wait."""
    try:
        method.sign_on(identity, fields).send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


class HeaderTests(SynchronousTestCase):
    """What the origin is told, and what it can never be told by others."""

    @pytest.mark.feature("SSO-6")
    def test_each_source_fills_its_field(self) -> None:
        """User, groups, claims, constants; in the rules' order, after the client's fields."""
        method = rules(X_User="user", X_Groups="groups", X_Mail="claim:email", X_Via="const:app proxy")
        identity = {"user": "alice", "groups": ["a", "b,c"], "claims": {"email": "a@x", "other": "y"}}
        self.assertEqual(
            run(method, identity, [(b"Accept", b"*/*")]),
            [
                (b"Accept", b"*/*"),
                (b"X-User", b"alice"),
                (b"X-Groups", b"a,b%2Cc"),
                (b"X-Mail", b"a@x"),
                (b"X-Via", b"app proxy"),
            ],
        )

    @pytest.mark.feature("SSO-6")
    def test_no_spelling_of_a_name_gets_through(self) -> None:
        """H01: case, underscore, dot, repeated; also when nobody has signed in (H09), and in trailers."""
        method = rules(X_Remote_User="user")
        spoofed = [
            (name, b"admin")
            for name in (b"X-Remote-User", b"X_Remote_User", b"x.remote.user", b"X-REMOTE_user", b"X-Remote-User")
        ]
        kept = [(b"X-Remote-Users", b"kept"), (b"Remote-User", b"kept")]
        self.assertEqual(run(method, {"user": "bob"}, spoofed + kept), [*kept, (b"X-Remote-User", b"bob")])
        self.assertEqual(run(method, None, spoofed + kept), kept)
        self.assertEqual(method.clean_trailers(spoofed + kept), kept)

    def test_what_is_not_there_is_left_out(self) -> None:
        """H05: no empty field, and never the last user's value."""
        method = rules(X_User="user", X_Mail="claim:email", X_Groups="groups", X_Dept="claim:dept")
        self.assertEqual(len(run(method, {"user": "a", "groups": ["g"], "claims": {"email": "e", "dept": "d"}}, [])), 4)
        self.assertEqual(
            run(method, {"user": "b", "groups": [], "claims": {"email": None, "dept": ""}}, []), [(b"X-User", b"b")]
        )

    def test_control_characters_fail_the_request(self) -> None:
        """H03: never a second header, never a changed value."""
        for value in ("a\r\nX-Admin: 1", "a\nb", "a\0b", "a\x7fb", " padded", "tab\t"):
            self.assertRaises(SignOnFailed, run, rules(X="user"), {"user": value}, [])

    def test_other_letters_are_utf_8(self) -> None:
        """H04: documented, and no failure."""
        name = "Jürgen 日本 🎉"
        self.assertEqual(run(rules(X="user"), {"user": name}, []), [(b"X", name.encode())])

    def test_long_lists_fail_rather_than_being_cut(self) -> None:
        """H06: a user must not lose rights, or restrictions, silently."""
        groups = [f"group-{number}" for number in range(2000)]
        problem = self.assertRaises(SignOnFailed, run, rules(X="groups"), {"groups": groups}, [])
        self.assertIn(str(MAX_VALUE_BYTES), problem.detail)
        self.assertEqual(len(run(rules(X="groups"), {"groups": groups[:400]}, [])), 1)

    def test_constants_are_no_templates(self) -> None:
        """H08: what looks like a template is text, and nothing in an identity is looked at again."""
        identity = {"user": "{groups}${user}%(user)s", "groups": ["root"]}
        for text in ("{user}", "${user}", "{{user}}", "{{ 7*7 }}", "%(user)s", "{0.__class__}", "user", "$(id)", "\\1"):
            self.assertEqual(run(rules(X=f"const:{text}"), identity, []), [(b"X", text.encode())])
        self.assertEqual(run(rules(X="user"), identity, []), [(b"X", identity["user"].encode())])  # type: ignore[attr-defined]

    def test_claims_of_other_types_are_written_plainly(self) -> None:
        """Numbers, truths and lists; a claim with parts of its own cannot be."""
        for value, expected in ((5, b"5"), (1.5, b"1.5"), (True, b"true"), (False, b"false"), (["a", 1], b"a,1")):
            self.assertEqual(run(rules(X="claim:c"), {"claims": {"c": value}}, []), [(b"X", expected)])
        self.assertRaises(SignOnFailed, run, rules(X="claim:c"), {"claims": {"c": {"a": 1}}}, [])

    def test_bad_rules_are_refused_by_name(self) -> None:
        """When the application is compiled, not when it is used."""
        for name, value in (
            ("Host", "user"), ("Content-Length", "user"), ("transfer_encoding", "user"), ("a b", "user"), ("", "user"),
            ("X", "nobody"), ("X", "claim:"), ("X", "const"), ("X", "const:a\nb"), ("Connection", "user"),
        ):  # fmt: skip
            problem = self.assertRaises(ConfigError, HeaderSignOn, [HeaderRule(name=name, value=value)])
            self.assertTrue(problem.where.startswith("sso.header[0]."), problem)

    @given(st.text(), st.lists(st.text()), st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
    def test_whatever_an_identity_says_the_fields_are_sound(
        self, user: str, groups: list[str], claims: dict[str, Any]
    ) -> None:
        """At most one field a rule, each a good value, or a named failure."""
        method = rules(X_User="user", X_Groups="groups", X_C="claim:c")
        try:
            fields = run(method, {"user": user, "groups": groups, "claims": claims}, [(b"x_user", b"spoofed")])
        except SignOnFailed:
            return
        names = [fold(name) for name, _ in fields]
        assert len(set(names)) == len(names)
        assert all(is_value(value) for _, value in fields)
        assert (b"x_user", b"spoofed") not in fields


class NoSignOnTests(SynchronousTestCase):
    """The origin asks for itself."""

    def test_nothing_is_changed(self) -> None:
        """Neither head nor trailers."""
        fields = [(b"X-Remote-User", b"kept")]
        self.assertIs(run(NoSignOn(), {"user": "alice"}, fields), fields)
        self.assertIs(NoSignOn().clean_trailers(fields), fields)
