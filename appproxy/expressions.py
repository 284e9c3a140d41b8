"""What the origin is told of a user, written as an expression over what the provider says of them.

``user``, ``groups``, ``claim:NAME``, ``const:TEXT``, and functions of them in any depth:
``lower(mailPrefix(claim:email))``, ``join(";", groups)``, ``ifEmpty(claim:nickname, user)``.  Texts within functions
stand in single or double quotes, with a backslash before a quote or a backslash.

A value is a text, a list of texts (a claim with several values), or nothing.  Functions of one text apply to each
member of a list, and leave out those they make nothing of; nothing stays nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from appproxy.errors import AppproxyError

#: What people write by hand is shorter, and nobody reads what is nested deeper.
MAX_CHARACTERS: Final = 4000
MAX_DEPTH: Final = 32
#: Texts that grow in functions (a replacement for every character) stop growing here.
MAX_TEXT: Final = 64 * 1024

SOURCES: Final = "user, groups, claim:NAME or const:TEXT"

#: A text, several, or nothing.
Value = str | tuple[str, ...] | None
Evaluate = Callable[[Mapping[str, Any]], Value]


class MalformedExpression(ValueError):
    """The text is no expression; says what is wrong, where, and what would be right."""


class NoText(AppproxyError):
    """The value of a claim cannot be written as text."""

    code = "claim-not-text"


class Expression(NamedTuple):
    """A compiled expression.

    :ivar claims: the names of the claims it looks at.
    :ivar groups: whether it looks at the groups.
    :ivar constant: whether it says the same of everybody.
    :ivar value: given an identity (``user``, ``groups``, ``claims``), its value; raises :class:`NoText`.
    """

    claims: frozenset[str]
    groups: bool
    constant: bool
    value: Evaluate


def parse(text: str) -> Expression:
    """Compile an expression.

    :raises MalformedExpression: it is none.
    """
    if len(text) > MAX_CHARACTERS:
        raise MalformedExpression(f"is longer than {MAX_CHARACTERS} characters")
    kind, colon, rest = text.partition(":")
    if kind == "const" and colon:  # the rest of the line, whatever it is
        return Expression(frozenset(), False, True, lambda identity: rest)
    if kind == "claim" and rest and "(" not in kind:
        return Expression(frozenset((rest,)), False, False, _claim(rest))
    reader = _Reader(text)
    value = reader.expression(0)
    reader.expect_end()
    return Expression(frozenset(reader.claims), reader.groups, not reader.personal, value)


# Functions.  Each is given its arguments' values, not their names.


def _each(function: Callable[..., str | None]) -> Callable[..., Value]:
    """Apply a function of one text, and of settings, to each member of a list."""

    def applied(value: Value, *settings: Any) -> Value:
        if value is None or isinstance(value, str):
            return None if value is None else function(value, *settings)
        return tuple(made for member in value if (made := function(member, *settings))) or None

    return applied


def _members(value: Value) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


def _join(separator: str, *values: Value) -> Value:
    return separator.join(member for value in values for member in _members(value) if member) or None


def _test(holds: Callable[[str, str], bool]) -> Callable[..., Value]:
    """Choose by whether a text, or any member of a list, has a property."""

    def chosen(value: Value, wanted: str, then: Value, otherwise: Value = None) -> Value:
        return then if any(holds(member, wanted) for member in _members(value)) else otherwise

    return chosen


def _between(text: str, before: str, after: str) -> str | None:
    _, found, rest = text.partition(before)
    inner, ended, _ = rest.partition(after)
    return inner if found and ended else None


def _matching(pattern: str) -> Callable[..., Value]:
    compiled = re.compile(pattern)

    def matched(text: str) -> str | None:
        match = compiled.search(text)
        return match[0] if match else None

    return _each(matched)


def _substring(text: str, start: int, length: int | None = None) -> str | None:
    return text[start:] if length is None else text[start : start + length]


def _replace(text: str, pattern: Any, replacement: str) -> str | None:
    replaced: str = pattern.sub(replacement, text)
    return replaced[:MAX_TEXT]


class _Function(NamedTuple):
    """A function: kinds of its arguments (``v`` any value, ``t`` a quoted text, ``n`` a number, ``r`` a pattern in
    quotes), how many have to be given, and whether the last kind may come again."""

    kinds: str
    needed: int
    apply: Callable[..., Value]
    again: bool = False


FUNCTIONS: Final[Mapping[str, _Function]] = {
    "mailPrefix": _Function("v", 1, _each(lambda text: text.partition("@")[0])),
    "join": _Function("tv", 2, _join, again=True),
    "lower": _Function("v", 1, _each(str.lower)),
    "upper": _Function("v", 1, _each(str.upper)),
    "contains": _Function("vtvv", 3, _test(lambda text, wanted: wanted in text)),
    "startsWith": _Function("vtvv", 3, _test(str.startswith)),
    "endsWith": _Function("vtvv", 3, _test(str.endswith)),
    "extractAfter": _Function("vt", 2, _each(lambda text, mark: text.partition(mark)[2])),
    "extractBefore": _Function("vt", 2, _each(lambda text, mark: text.partition(mark)[0] if mark in text else None)),
    "extractBetween": _Function("vtt", 3, _each(_between)),
    "alphaPrefix": _Function("v", 1, _matching(r"\A[^\W\d_]+")),
    "alphaSuffix": _Function("v", 1, _matching(r"[^\W\d_]+\Z")),
    "numericPrefix": _Function("v", 1, _matching(r"\A\d+")),
    "numericSuffix": _Function("v", 1, _matching(r"\d+\Z")),
    "ifEmpty": _Function("vv", 2, lambda value, fallback: value or fallback),
    "ifNotEmpty": _Function("vvv", 2, lambda value, then, otherwise=None: then if value else otherwise),
    "substring": _Function("vnn", 2, _each(_substring)),
    "regexReplace": _Function("vrt", 3, _each(_replace)),
}

_TOKENS = re.compile(
    r"""\s*(?:
        (?P<punctuation>[(),])
      | (?P<text>"(?:[^"\\]|\\["'\\])*"|'(?:[^'\\]|\\["'\\])*')
      | (?P<claim>claim:[^\s(),"']+)
      | (?P<number>\d{1,6}(?![\w:]))
      | (?P<name>[A-Za-z]\w*)
    )""",
    re.VERBOSE,
)
_QUOTED = re.compile(r"""\\(["'\\])""")
_KINDS = {"t": "a text in quotes", "n": "a number", "r": "a pattern in quotes"}


class _Reader:
    """Recursive descent over the text of one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.claims: set[str] = set()
        self.groups = False
        self.personal = False

    def expression(self, depth: int) -> Evaluate:
        """A source, a text or a function with its arguments."""
        if depth > MAX_DEPTH:
            raise MalformedExpression(f"is nested deeper than {MAX_DEPTH}")
        kind, word = self._next()
        if kind == "text":
            constant = _unquoted(word)
            return lambda identity: constant
        if kind == "claim":
            name = word.removeprefix("claim:")
            self.claims.add(name)
            self.personal = True
            return _claim(name)
        if word in ("user", "groups"):
            self.groups = self.groups or word == "groups"
            self.personal = True
            return lambda identity: _value(identity.get(word))
        if kind == "name":
            if not self._text[self._at :].lstrip().startswith("("):
                raise MalformedExpression(f"{word!r} is not a source; use {SOURCES}")
            return self._call(word, depth)
        raise self._problem(f'has {word!r} where a value should stand: user, groups, claim:NAME, "text", a function')

    def expect_end(self) -> None:
        """Nothing may follow."""
        if rest := self._text[self._at :].strip():
            raise MalformedExpression(f"has {rest[:20]!r} after its end")

    def _call(self, name: str, depth: int) -> Evaluate:
        function = FUNCTIONS.get(name)
        if function is None:
            raise MalformedExpression(f"{name!r} is not a function{_nearest(name)}")
        self._next()
        arguments: list[Evaluate] = []
        while True:
            arguments.append(self._argument(name, function, len(arguments), depth))
            _, word = self._next()
            if word == ")":
                break
            if word != ",":
                raise self._problem(f"has {word!r} where {name} should go on with , or )")
        if len(arguments) < function.needed:
            raise MalformedExpression(f"gives {name} {len(arguments)} of at least {function.needed} arguments")
        apply = function.apply
        return lambda identity: apply(*[argument(identity) for argument in arguments])

    def _argument(self, name: str, function: _Function, position: int, depth: int) -> Any:
        kinds = function.kinds
        if position >= len(kinds) and not function.again:
            raise MalformedExpression(f"gives {name} more than {len(kinds)} arguments")
        wanted = kinds[min(position, len(kinds) - 1)]
        if wanted == "v":
            return self.expression(depth + 1)
        kind, word = self._next()
        if kind != ("number" if wanted == "n" else "text"):
            raise self._problem(f"has {word!r} as argument {position + 1} of {name}, which takes {_KINDS[wanted]}")
        setting: Any = int(word) if wanted == "n" else _unquoted(word)
        if wanted == "r":
            setting = _pattern(setting)
        elif name == "regexReplace":
            _check_replacement(setting)
        return lambda identity: setting

    def _next(self) -> tuple[str, str]:
        match = _TOKENS.match(self._text, self._at)
        if match is None:
            rest = self._text[self._at :].strip()
            raise self._problem(f"cannot be read from {rest[:20]!r} on" if rest else "ends too soon")
        self._at = match.end()
        kind = match.lastgroup or ""
        return kind, match[kind]

    def _problem(self, text: str) -> MalformedExpression:
        return MalformedExpression(f"{text} (character {self._at})")


def _unquoted(token: str) -> str:
    return _QUOTED.sub(r"\1", token[1:-1])


def _nearest(name: str) -> str:
    close = get_close_matches(name, [*FUNCTIONS, "user", "groups"], 1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(FUNCTIONS)}"


def _pattern(text: str) -> Any:
    """A pattern whose matching takes no longer than the text is long, whatever users are called.

    :raises MalformedExpression: it is none, or the library is missing.
    """
    try:
        import re2
    except ImportError:
        raise MalformedExpression('uses regexReplace, which needs the extra: pip install "appproxy[regex]"') from None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as problem:
        [reason, *_] = problem.args or ("",)
        told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise MalformedExpression(f"has {text!r}, which is no pattern of RE2: {told}") from None


def _check_replacement(text: str) -> None:
    if re.search(r"\\(?!\d|g<\w+>)", text):
        raise MalformedExpression(f"has {text!r} as replacement; a backslash stands before a group's number only")


# What the provider says, as text.


def _claim(name: str) -> Evaluate:
    return lambda identity: _value((identity.get("claims") or {}).get(name))


def _value(told: object) -> Value:
    if isinstance(told, list | tuple):
        return tuple(_texts(told)) or None
    return _text(told)


def _texts(members: Sequence[object]) -> Iterable[str]:
    for member in members:
        if isinstance(member, list | tuple):
            raise NoText("a claim with lists in a list cannot be written as text")
        text = _text(member)
        if text is not None:
            yield text


def _text(told: object) -> str | None:
    if told is None or told == "":
        return None
    if isinstance(told, bool):
        return "true" if told else "false"
    if isinstance(told, str | int | float):
        return str(told)
    raise NoText("a claim with parts of its own cannot be written as text")
