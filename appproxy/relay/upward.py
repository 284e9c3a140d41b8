"""The request as it goes to the connector: fields cleaned, with the relay's own word on where they come from."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.hops import PSEUDONYM, clean_request, drop_aliases, passes
from appproxy.http.messages import Field
from appproxy.identity import Identity
from appproxy.relay.catalog import Published
from appproxy.relay.front.client_exchange import ClientExchange
from appproxy.wire.heads import MAX_KNOWN_BYTES, Packed, RequestHead, Standing

#: A request that has been through relays so often goes round in circles.
MAX_PASSES: Final = 4
_EXPECT: Final = frozenset({b"expect"})


class LoopDetected(AppproxyError):
    """The request comes back again and again: the application's internal URL leads to the relay itself."""

    code = "loop-detected"
    status = 508
    side = Side.RELAY
    phase = Phase.REQUEST


def upward_head(
    exchange: ClientExchange,
    published: Published,
    identity: Identity | None,
    affinity: str = "",
    drop: frozenset[bytes] | None = None,
    told: tuple[Field, ...] = (),
) -> RequestHead:
    """The request as the connector gets it; what a client repeats is packed once.

    :param affinity: names the client's connection, if it shall have one to the origin for itself.
    :param drop: folded names of fields that do not go on, if others than usual for this application; the same for the
        same identity.
    :param told: further fields of the relay's own.
    :raises LoopDetected: it has been here too often.
    :raises appproxy.wire.heads.HeadTooLarge: no channel would carry it.
    """
    reading = exchange.reading
    packed = reading.packed
    if packed is None or reading.packed_for != (published, identity, told):
        packed = Packed(
            Standing(
                fields=[*upward_fields(exchange, published.drop if drop is None else drop), *told],
                application=published.id,
                client=exchange.client,
                identity=None if identity is None else published.outline(identity),
                scheme=exchange.scheme,
                host=exchange.authority,
                segment=published.segment,
            )
        )
        if len(packed.octets) <= MAX_KNOWN_BYTES:
            reading.packed, reading.packed_for = packed, (published, identity, told)
    head = exchange.head
    return RequestHead(head.method, head.target, packed, exchange.request_id, exchange.length, affinity)


def upward_fields(exchange: ClientExchange, drop: frozenset[bytes]) -> list[Field]:
    """Clean fields in the client's order, then the relay's own word on client, host and scheme.

    :param drop: folded names of what does not go on.
    """
    reading, head = exchange.reading, exchange.head
    via = head.known.get(b"via")
    if via is not None and passes(via) >= MAX_PASSES:
        raise LoopDetected
    fields = clean_request(head, drop)
    if b"expect" in head.known and not exchange.expects_continue:
        fields = drop_aliases(fields, _EXPECT)  # there is nothing to wait for, and some origins would wait
    if reading.reserved:
        fields = _with_cookie(fields, reading.cookie)
    fields += vouched(exchange.client, exchange.scheme, exchange.host, exchange.authority, head.version)
    return fields


@lru_cache(maxsize=4096)
def vouched(client: str, scheme: str, host: str, authority: str, version: tuple[int, int]) -> tuple[Field, ...]:
    """What the relay vouches for; the same for all requests of one client to one host.

    :param version: of HTTP, as the client spoke it.
    """
    address = client.encode("ascii", "replace")
    external = authority.encode("ascii")
    port = authority.rpartition(":")[2] if authority != host else "443" if scheme == "https" else "80"
    node = b'"[%b]"' % address if b":" in address else address
    return (
        (b"X-Forwarded-For", address),
        (b"X-Forwarded-Host", external),
        (b"X-Forwarded-Proto", scheme.encode("ascii")),
        (b"X-Forwarded-Port", port.encode("ascii")),
        (b"Forwarded", b'for=%b;host="%b";proto=%b' % (node, external, scheme.encode("ascii"))),
        (b"Via", b"%d.%d %b" % (*version, PSEUDONYM)),
    )


def _with_cookie(fields: list[Field], cookie: bytes | None) -> list[Field]:
    """One ``Cookie`` field with the application's cookies only, where the first one stood."""
    kept: list[Field] = []
    for field in fields:
        if len(field[0]) != 6 or field[0].lower() != b"cookie":
            kept.append(field)
        elif cookie is not None:
            kept.append((field[0], cookie))
            cookie = None
    return kept
