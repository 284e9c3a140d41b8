"""What the relay lets back to a client: nothing that a connector or origin could use against others.

The relay trusts no connector to have cleaned an answer; it does so itself, last of all.
"""

from __future__ import annotations

from collections.abc import Sequence

from appproxy.errors import AppproxyError, Side
from appproxy.http.cookies import drop_reserved
from appproxy.http.hops import HOP_BY_HOP, clean_response
from appproxy.http.messages import Field, are_fields, is_value

#: The external host is the relay's: its transport security and its other endpoints are not the origin's to announce.
_RELAYS_OWN = frozenset({b"strict-transport-security", b"alt-svc"})
_DROP = HOP_BY_HOP | _RELAYS_OWN
#: One year, without sub-domains: those may be someone else's.
HSTS: Field = (b"Strict-Transport-Security", b"max-age=31536000")


class UnsafeAnswer(AppproxyError):
    """The connector passed on an answer that is not well-formed HTTP."""

    code, status, side = "unsafe-answer", 502, Side.CONNECTOR


def guard_response(status: int, reason: bytes, fields: Sequence[Field], secure: bool) -> list[Field]:
    """The fields of an answer that may go to a client, in order and case.

    Without framing, hop-by-hop fields (but ``Upgrade`` in a 101) and cookies that only the relay may set; with
    ``Strict-Transport-Security`` if *secure* (final answers only).

    :raises UnsafeAnswer: status, reason or fields are not what may stand in a head.
    """
    if not 100 <= status <= 599 or not is_value(reason) or not are_fields(fields):
        raise UnsafeAnswer
    kept = clean_response(fields, status == 101, _DROP)
    kept = drop_reserved(kept)
    if secure and status >= 200:
        kept.append(HSTS)
    return kept
