"""What belongs to one connection only, and what a client may not tell an origin (RFC 9110, 7.6).

Names are compared *folded*: in lower case and with ``_`` and ``.`` read as ``-``, because CGI-like servers cannot tell
``X_Remote_User`` from ``X-Remote-User``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from appproxy.http.bodies import FOLD
from appproxy.http.messages import Field, RequestHead, tokens, upgrade_protocols

#: Of one connection, in requests and responses; framing is the conversations' own.
HOP_BY_HOP: Final = frozenset(
    b"connection content-length http2-settings keep-alive proxy-authenticate proxy-authentication-info "
    b"proxy-authorization proxy-connection te transfer-encoding upgrade".split()
)
#: What a client says about its own way to the relay, or what origins take for a word from a gateway.  Every
#: ``X-Forwarded-...`` counts as one of them.
FORWARDING: Final = frozenset(
    b"client-cert client-cert-chain client-ip cf-connecting-ip fastly-client-ip forwarded front-end-https "
    b"true-client-ip x-arr-ssl x-client-cert x-client-ip x-cluster-client-ip x-envoy-external-address "
    b"x-envoy-original-path x-host x-http-host-override x-original-forwarded-for x-original-host x-original-uri "
    b"x-original-url x-proxyuser-ip x-real-ip x-request-id x-rewrite-url x-script-name x-url-scheme "
    b"x-wap-profile-url".split()
)
#: How other gateways tell origins who the user is.  No client says so for itself, unless an application lets it.
IDENTITY: Final = frozenset(
    b"cf-access-authenticated-user-email cf-access-jwt-assertion iv-creds iv-groups iv-user remote-email "
    b"remote-group remote-groups remote-name remote-user shib-application-id shib-session-id sm-user ssl-client-cert "
    b"ssl-client-s-dn ssl-client-verify tailscale-user-login tailscale-user-name x-amzn-oidc-accesstoken "
    b"x-amzn-oidc-data x-amzn-oidc-identity x-auth-request-access-token x-auth-request-email x-auth-request-groups "
    b"x-auth-request-preferred-username x-auth-request-user x-authenticated-user x-authenticated-userid "
    b"x-authentik-email x-authentik-groups x-authentik-name x-authentik-uid x-authentik-username "
    b"x-goog-authenticated-user-email x-goog-authenticated-user-id x-goog-iap-jwt-assertion x-ms-client-principal "
    b"x-ms-client-principal-id x-ms-client-principal-idp x-ms-client-principal-name x-pomerium-claim-email "
    b"x-pomerium-jwt-assertion x-proxy-user x-remote-email x-remote-group x-remote-groups x-remote-name x-remote-user "
    b"x-ssl-client-cert x-ssl-client-dn x-ssl-client-s-dn x-ssl-client-verify x-vouch-user x-webauth-email "
    b"x-webauth-groups x-webauth-name x-webauth-user".split()
)
#: All that goes from a request, folded.
REQUEST_DROP: Final = HOP_BY_HOP | FORWARDING | IDENTITY
_FORWARDED_PREFIX: Final = b"x-forwarded"
#: A ``Connection`` option cannot name these: a request without them would be another request (or none), or would hide
#: where it has been.
_NEVER_NOMINATED: Final = frozenset(
    {b"host", b"close", b"keep-alive", b"upgrade", b"te", b"expect", b"via", b"cdn-loop"}
)
#: Those of them that also stay when another spelling was named.
_NEVER_DROPPED: Final = frozenset({b"host", b"expect", b"via", b"cdn-loop"})
#: How the relay calls itself to others; the same for all, so that nothing of the inside is told.
PSEUDONYM: Final = b"appproxy"


def passes(via: Iterable[bytes]) -> int:
    """How often a message has been through relays, by its ``Via`` fields."""
    return sum(member.split()[1:2] == [PSEUDONYM] for value in via for member in value.lower().split(b","))


def fold(name: bytes) -> bytes:
    """*name* as the most confused server would read it."""
    return name.translate(FOLD)


def clean_request(head: RequestHead, drop: frozenset[bytes] = REQUEST_DROP) -> list[Field]:
    """The fields of *head* that may go on towards the origin, in order and case.

    Without what belongs to the client's connection (also what ``Connection`` names), and without what a client does
    not say.  ``Upgrade`` stays for a proper offer of another protocol, ``TE`` as ``trailers`` alone; ``Expect`` stays.

    :param drop: folded names; :data:`REQUEST_DROP`, perhaps with fewer of :data:`IDENTITY`.
    """
    fields, known = head.fields, head.known
    names = [field[0].translate(FOLD) for field in fields]
    if b"connection" in known:
        nominated = [option for option in tokens(known[b"connection"]) if option not in _NEVER_NOMINATED]
        if nominated:
            drop = drop.union([option.translate(FOLD) for option in nominated]) - _NEVER_DROPPED
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


def clean_trailers(fields: Iterable[Field], drop: frozenset[bytes] = REQUEST_DROP) -> list[Field]:
    """A request's trailers without what no client says: what is not believed in a head is not believed later.

    :param drop: folded names; :data:`REQUEST_DROP`, perhaps with more.
    """
    return [
        field
        for field in fields
        if (name := field[0].translate(FOLD)) not in drop and not name.startswith(_FORWARDED_PREFIX)
    ]


def drop_aliases(fields: Iterable[Field], names: frozenset[bytes]) -> list[Field]:
    """*fields* without every spelling of *names* (which are folded); for heads and for trailers."""
    return [field for field in fields if field[0].translate(FOLD) not in names]
