"""Expressions over what a provider says of a user."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appproxy import expressions
from appproxy.expressions import FUNCTIONS, MalformedExpression, NoText, parse

ALICE: dict[str, Any] = {
    "user": "alice@corp.example",
    "groups": ["staff", "hr-admins"],
    "claims": {
        "email": "Alice.Smith@Example.com",
        "employee": "ab123cd45",
        "number": 42,
        "ok": True,
        "empty": "",
        "none": None,
        "dn": "CN=Alice,OU=HR,DC=corp",
        "address": {"street": "x"},
        "mails": ["a@x", "b@y", ""],
        "https://claims.example/role": "boss",
    },
}

#: Expression and value.
CASES = [
    ("user", "alice@corp.example"),
    ("groups", ("staff", "hr-admins")),
    ("claim:email", "Alice.Smith@Example.com"),
    ("claim:https://claims.example/role", "boss"),
    ("claim:number", "42"),
    ("claim:ok", "true"),
    ("claim:empty", None),
    ("claim:none", None),
    ("claim:missing", None),
    ("claim:mails", ("a@x", "b@y")),
    ('const:a (b, c) "d"', 'a (b, c) "d"'),
    ("const:", ""),
    ('"text"', "text"),
    ("mailPrefix(user)", "alice"),
    ("lower(mailPrefix(claim:email))", "alice.smith"),
    ("upper(claim:https://claims.example/role)", "BOSS"),
    ("mailPrefix(claim:mails)", ("a", "b")),
    ("mailPrefix('no at')", "no at"),
    ('join(";", groups)', "staff;hr-admins"),
    ('join("\\\\", "CORP", mailPrefix(user))', "CORP\\alice"),
    ("join('', claim:missing, claim:number)", "42"),
    ("join(',', claim:missing)", None),
    ("contains(user, 'corp', 'in', 'out')", "in"),
    ("contains(user, 'moon', 'in', 'out')", "out"),
    ("contains(user, 'moon', 'in')", None),
    ("startsWith(groups, 'hr-', 'HR', 'other')", "HR"),
    ("startsWith(claim:missing, '', 'yes', 'no')", "no"),
    ("endsWith(user, '@corp.example', mailPrefix(user), user)", "alice"),
    ("extractAfter(user, '@')", "corp.example"),
    ("extractBefore(user, '@')", "alice"),
    ("extractBefore(user, '#')", None),
    ("extractBetween(claim:dn, 'OU=', ',')", "HR"),
    ("extractBetween(claim:dn, 'DC=', ',')", None),
    ("alphaPrefix(claim:employee)", "ab"),
    ("alphaSuffix('12xy')", "xy"),
    ("alphaSuffix(claim:employee)", None),
    ("numericPrefix(claim:number)", "42"),
    ("numericPrefix(claim:employee)", None),
    ("numericSuffix(claim:employee)", "45"),
    ("ifEmpty(claim:missing, user)", "alice@corp.example"),
    ("ifEmpty(claim:email, user)", "Alice.Smith@Example.com"),
    ("ifNotEmpty(claim:missing, 'a', 'b')", "b"),
    ("ifNotEmpty(claim:email, 'a')", "a"),
    ("substring(claim:employee, 2, 3)", "123"),
    ("substring(claim:employee, 7)", "45"),
    ("substring(claim:employee, 70)", ""),
    (r"regexReplace(user, '^(\\w+)@(.*)$', '\\2/\\1')", "corp.example/alice"),
    ("  lower( claim:email )  ", "alice.smith@example.com"),
]

#: What is no expression, and what the message has to say.
MALFORMED = [
    ("", "ends too soon"),
    ("mail", "not a source; use user, groups, claim:NAME or const:TEXT"),
    ("mail(user)", "not a function"),
    ("mailprefix(user)", "did you mean 'mailPrefix'?"),
    ("lower", "not a source"),
    ("lower user", "not a source"),
    ("lower(user", "ends too soon"),
    ("lower(user))", "after its end"),
    ("lower()", "where a value should stand"),
    ("lower(user, user)", "more than 1"),
    ("join(user, groups)", "takes a text in quotes"),
    ("substring(user, 'x')", "takes a number"),
    ("contains(user, 'x')", "2 of at least 3"),
    ("lower(user) upper(user)", "after its end"),
    ("lower(user; groups)", "cannot be read"),
    ("'open", "cannot be read"),
    ("regexReplace(user, '(', '')", "no pattern"),
    ("regexReplace(user, '(?=a)', '')", "no pattern"),
    (r"regexReplace(user, 'a', '\\q')", "backslash"),
    ("lower(" * 40 + "user" + ")" * 40, "nested deeper"),
    ("'" + "x" * 5000 + "'", "longer than"),
]


@pytest.mark.feature("SSO-6")
@pytest.mark.parametrize(("text", "value"), CASES)
def test_values(text: str, value: object) -> None:
    """Each source and function, alone and one within the other."""
    assert parse(text).value(ALICE) == value


@pytest.mark.feature("SSO-6")
@pytest.mark.parametrize(("text", "problem"), MALFORMED)
def test_what_is_none_is_said(text: str, problem: str) -> None:
    """With what is wrong, and where or what would be right."""
    with pytest.raises(MalformedExpression, match=expressions.re.escape(problem)):
        parse(text)


def test_every_function_is_shown() -> None:
    """No function without a value in the table above."""
    assert {name for name in FUNCTIONS if not any(f"{name}(" in text for text, _ in CASES)} == set()


def test_says_what_it_looks_at() -> None:
    """So that connectors are told no more of a user than that."""
    parsed = parse("join(',', claim:a, lower(ifEmpty(claim:b, groups)))")
    assert (parsed.claims, parsed.groups, parsed.constant) == (frozenset("ab"), True, False)
    assert parse("upper('x')").constant
    assert parse("claim:x").claims == {"x"}


def test_nobody_has_no_values() -> None:
    """H05: without an identity, sources are nothing, and never what they were before."""
    for text in ("user", "groups", "claim:email", "lower(user)", "join(',', groups)"):
        assert parse(text).value({}) is None


def test_a_claim_with_parts_is_an_error() -> None:
    """It is never written as the text of a map."""
    with pytest.raises(NoText):
        parse("claim:address").value(ALICE)
    with pytest.raises(NoText):
        parse("claim:x").value({"claims": {"x": [["a"]]}})


def test_no_name_takes_long() -> None:
    """L11: what users are called cannot keep a pattern busy."""
    parsed = parse("regexReplace(user, '(a+)+$', 'x')")
    began = time.perf_counter()
    assert parsed.value({"user": "a" * 50_000 + "b"}) == "a" * 50_000 + "b"
    assert time.perf_counter() - began < 1


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_malformed(text: str) -> None:
    """Nothing else is ever raised; what is one has a value."""
    try:
        parsed = parse(text)
    except MalformedExpression:
        return
    parsed.value({"user": "u", "groups": ["g"], "claims": {}})


@given(
    st.lists(
        st.sampled_from(["lower(", "user", ")", ",", "'x'", "join(", "claim:a", "1", " ", "ifEmpty("]), max_size=14
    )
)
def test_any_tokens_too(parts: list[str]) -> None:
    """The same of what looks like an expression."""
    try:
        value = parse("".join(parts)).value({"user": "U", "claims": {"a": "b"}})
    except MalformedExpression:
        return
    assert value is None or isinstance(value, str | tuple)
