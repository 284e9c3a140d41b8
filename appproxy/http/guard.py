"""What the relay lets back to a client: nothing that a connector or origin could use against others.

The relay trusts no connector to have cleaned an answer; it does so itself, last of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appproxy.errors import AppproxyError, Side
from appproxy.http.cookies import drop_reserved
from appproxy.http.hops import HOP_BY_HOP, PSEUDONYM, clean_response, fold
from appproxy.http.messages import Field, is_text, is_token, is_value, remember

#: The external host is the relay's: its transport security and its other endpoints are not the origin's to announce.
_RELAYS_OWN: Final = frozenset({b"strict-transport-security", b"alt-svc"})
#: ``Via`` of proxies inside would tell their names (RFC 9110, 7.6.3); ours stands for them all.
_DROP: Final = HOP_BY_HOP | _RELAYS_OWN | {b"via"}
_VIA: Final[Field] = (b"Via", b"1.1 " + PSEUDONYM)
#: One year, without sub-domains: those may be someone else's.
HSTS: Final[Field] = (b"Strict-Transport-Security", b"max-age=31536000")
#: What stands at the end of every final answer.
_BY_TLS: Final[Sequence[Field]] = (_VIA, HSTS)
_IN_THE_CLEAR: Final[Sequence[Field]] = (_VIA,)


class UnsafeAnswer(AppproxyError):
    """The connector passed on an answer that is not well-formed HTTP."""

    code = "unsafe-answer"
    status = 502
    side = Side.CONNECTOR


class _Plan:
    """What is kept of fields with certain names, in a certain order: origins have few such lists of names.

    :ivar keep: positions of what may go on.
    :ivar connection: positions of ``Connection``, whose values may name more that has to go.
    :ivar lengths: positions of ``Content-Length``.
    :ivar cookies: there is a ``Set-Cookie`` to look at.
    """

    __slots__ = ("connection", "cookies", "keep", "lengths")

    def __init__(self, names: Sequence[bytes]) -> None:
        folded = [fold(name) for name in names]
        lowered = [name.lower() for name in names]
        self.keep = [position for position, name in enumerate(folded) if name not in _DROP]
        self.connection = [position for position, name in enumerate(folded) if name == b"connection"]
        self.lengths = [position for position, name in enumerate(lowered) if name == b"content-length"]
        self.cookies = b"set-cookie" in lowered


#: Values of ``Connection`` that name nothing.
_NAMELESS: Final = frozenset({b"keep-alive", b"close"})
_plans: Final[dict[tuple[bytes, ...], _Plan]] = {}


def _plan_for(names: tuple[bytes, ...]) -> _Plan:
    if not all(map(is_token, names)):
        raise UnsafeAnswer
    plan = _Plan(names)
    remember(_plans, names, plan)
    return plan


def guard_response(
    status: int, reason: bytes, fields: Sequence[Field], secure: bool
) -> tuple[list[Field], Sequence[bytes]]:
    """The fields of an answer that may go to a client, in order and case; and what they say of its length.

    Without framing, hop-by-hop fields (but ``Upgrade`` in a 101) and cookies that only the relay may set; final answers
    with the relay's own ``Via``, and ``Strict-Transport-Security`` if *secure*.

    :returns: the fields, and the values of ``Content-Length`` as they are.
    :raises UnsafeAnswer: status, reason or fields are not what may stand in a head.
    """
    if not 100 <= status <= 599 or not is_value(reason):
        raise UnsafeAnswer
    names = tuple([field[0] for field in fields])
    values = [field[1] for field in fields]
    plan = _plans.get(names) or _plan_for(names)
    if not is_text(b"".join(values)):
        raise UnsafeAnswer
    if status == 101 or (plan.connection and _names_more(plan, values)):
        kept = clean_response(fields, status == 101, _DROP)
    else:
        kept = [fields[position] for position in plan.keep]
    if plan.cookies:
        kept = drop_reserved(kept)
    if status >= 200:
        kept += _BY_TLS if secure else _IN_THE_CLEAR
    return kept, [values[position] for position in plan.lengths] if plan.lengths else ()


def _names_more(plan: _Plan, values: Sequence[bytes]) -> bool:
    """Whether a ``Connection`` names fields that have to go, too."""
    for position in plan.connection:  # noqa: SIM110 - a generator costs more than all the rest
        if values[position].lower() not in _NAMELESS:
            return True
    return False
