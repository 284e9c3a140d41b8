"""What belongs to one connection only, and what a client may not tell an origin (RFC 9110, 7.6).

Names are compared *folded*: in lower case and with ``_`` and ``.`` read as ``-``, because CGI-like servers cannot tell
``X_Remote_User`` from ``X-Remote-User``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appproxy.http.bodies import FOLD
from appproxy.http.messages import Field, RequestHead, tokens, upgrade_protocols

#: Of one connection, in requests and responses; framing is the conversations' own.
HOP_BY_HOP = frozenset(
    b"connection content-length http2-settings keep-alive proxy-authenticate proxy-authentication-info "
    b"proxy-authorization proxy-connection te transfer-encoding upgrade".split()
)
#: What a client says about its own way to the relay, or what origins take for a word from a gateway.  Every
#: ``X-Forwarded-...`` counts as one of them.
FORWARDING = frozenset(
    b"client-cert client-cert-chain client-ip cf-connecting-ip fastly-client-ip forwarded front-end-https "
    b"true-client-ip x-arr-ssl x-client-cert x-client-ip x-cluster-client-ip x-envoy-external-address "
    b"x-envoy-original-path x-host x-http-host-override x-original-forwarded-for x-original-host x-original-uri "
    b"x-original-url x-proxyuser-ip x-real-ip x-request-id x-rewrite-url x-script-name x-url-scheme "
    b"x-wap-profile-url".split()
)
_REQUEST_DROP = HOP_BY_HOP | FORWARDING
_FORWARDED_PREFIX = b"x-forwarded"
#: A ``Connection`` option cannot name these: a request without them would be another request (or none).
_NEVER_NOMINATED = frozenset({b"host", b"close", b"keep-alive", b"upgrade", b"te"})


def fold(name: bytes) -> bytes:
    """*name* as the most confused server would read it."""
    return name.translate(FOLD)


def clean_request(head: RequestHead, forwarding: frozenset[bytes] = FORWARDING) -> list[Field]:
    """The fields of *head* that may go on towards the origin, in order and case.

    Without what belongs to the client's connection (also what ``Connection`` names), and without the *forwarding*
    fields.  ``Upgrade`` stays for a proper offer of another protocol, ``TE`` as ``trailers`` alone; ``Expect`` stays.
    """
    fields, known = head.fields, head.known
    names = [field[0].translate(FOLD) for field in fields]
    drop = _REQUEST_DROP if forwarding is FORWARDING else HOP_BY_HOP | forwarding
    if b"connection" in known:
        nominated = [option for option in tokens(known[b"connection"]) if option not in _NEVER_NOMINATED]
        if nominated:
            drop = drop.union([option.translate(FOLD) for option in nominated]) - {b"host"}
    kept = [
        field
        for field, name in zip(fields, names, strict=True)
        if name not in drop and not name.startswith(_FORWARDED_PREFIX)
    ]
    if b"te" in known and any(coding.partition(b";")[0] == b"trailers" for coding in tokens(known[b"te"])):
        kept.append((b"TE", b"trailers"))
    if b"upgrade" in known and (offered := upgrade_protocols(head)):
        kept.append((b"Upgrade", _as_written(known[b"upgrade"], offered)))
    return kept


def _as_written(values: Iterable[bytes], offered: Sequence[bytes]) -> bytes:
    """The members of ``Upgrade`` that are *offered*, in their own letters."""
    written = [part.strip(b" \t") for value in values for part in value.split(b",")]
    return b", ".join([protocol for protocol in written if protocol.lower() in offered])


def clean_response(fields: Sequence[Field], upgrade: bool = False, drop: frozenset[bytes] = HOP_BY_HOP) -> list[Field]:
    """*fields* without what belongs to the origin's connection; ``Upgrade`` stays with *upgrade*, for a 101.

    :param drop: folded names; :data:`HOP_BY_HOP`, perhaps with more.
    """
    names = [field[0].translate(FOLD) for field in fields]
    if b"connection" in names:
        options = tokens([field[1] for field, name in zip(fields, names, strict=True) if name == b"connection"])
        drop = drop.union([option.translate(FOLD) for option in options])
    if upgrade:
        drop = drop - {b"upgrade"}
    return [field for field, name in zip(fields, names, strict=True) if name not in drop]


def drop_aliases(fields: Iterable[Field], names: frozenset[bytes]) -> list[Field]:
    """*fields* without every spelling of *names* (which are folded); for heads and for trailers."""
    return [field for field in fields if field[0].translate(FOLD) not in names]
