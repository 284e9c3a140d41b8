"""Header single sign-on: fields with the user's name, groups and claims, which nobody but the connector can set.

Whatever a client sends under the name of a rule is removed first, in every spelling that some origin reads as the same
name (``X_Remote_User``, ``x.remote.user``), from heads and trailers, also where nobody has signed in.

Values are expressions (:mod:`appproxy.expressions`), written as UTF-8.  A list becomes its members with commas between
them; a comma within a member is written ``%2C``.  What is not there (a claim that this user does not have), or is made
nothing of, leaves the field out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from appproxy.applications import HeaderRule
from appproxy.errors import ConfigError
from appproxy.expressions import Expression, MalformedExpression, NoText, Value, parse
from appproxy.http.hops import drop_aliases, fold
from appproxy.http.messages import FRAMING, Field, is_token, is_value
from appproxy.sso.method import Method, SignOnFailed

#: Common origins refuse longer fields (nginx, Apache: 8 KiB for a line); a list cut short would be a lie.
MAX_VALUE_BYTES: Final = 8 * 1024
#: Fields with a meaning of their own in the message, which no rule may set.
RESERVED: Final = FRAMING | {b"host", b"te", b"upgrade", b"expect", b"trailer", b"via", b"x-request-id"}


class HeaderSignOn(Method):
    """Adds the fields of an application's rules.

    :raises ConfigError: a rule's name or value cannot be used.
    """

    __slots__ = ("_names", "_rules")

    lasting = True

    def __init__(self, rules: Iterable[HeaderRule]) -> None:
        self._rules: list[tuple[bytes, Expression]] = []
        for position, rule in enumerate(rules):
            where = f"sso.header[{position}]"
            self._rules.append((_name(rule.name, where), _source(rule.value, where)))
        self._names = frozenset(fold(name) for name, _ in self._rules)

    async def sign_on(self, identity: Mapping[str, Any] | None, fields: list[Field]) -> list[Field]:
        """The fields without every copy of the rules' names, and then the rules' own."""
        signed = drop_aliases(fields, self._names)
        known = identity or {}
        for name, source in self._rules:
            try:
                value = source.value(known)
            except NoText as problem:
                raise SignOnFailed(f"{name.decode()}: {problem}") from None
            if value is not None and (value or source.constant):
                signed.append((name, _value(name, _text(value))))
        return signed

    def clean_trailers(self, trailers: Sequence[Field]) -> Sequence[Field]:
        """Without every copy of the rules' names."""
        return drop_aliases(trailers, self._names)


def _name(text: str, where: str) -> bytes:
    name = text.encode("utf-8")
    if not is_token(name) or fold(name) in RESERVED:
        raise ConfigError(f"{where}.name", f"{text!r} cannot be set; choose a field name of the application's own")
    return name


def _source(text: str, where: str) -> Expression:
    try:
        expression = parse(text)
    except MalformedExpression as problem:
        raise ConfigError(f"{where}.value", str(problem)) from None
    if expression.constant and not is_value(_text(expression.value({})).encode("utf-8")):
        raise ConfigError(f"{where}.value", "has control characters or spaces at its ends")
    return expression


def _text(value: Value) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return ",".join(member.replace(",", "%2C") for member in value)


def _value(name: bytes, text: str) -> bytes:
    octets = text.encode("utf-8", "replace")
    if len(octets) > MAX_VALUE_BYTES:
        raise SignOnFailed(f"{name.decode()} would have {len(octets)} bytes; {MAX_VALUE_BYTES} are allowed")
    if not is_value(octets):
        raise SignOnFailed(f"the value for {name.decode()} has control characters or spaces at its ends")
    return octets
