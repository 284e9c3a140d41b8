"""The request's fields as they go to the connector: cleaned, with the relay's own word on where they come from."""

from __future__ import annotations

from appproxy.http.cookies import take_reserved
from appproxy.http.hops import clean_request
from appproxy.http.messages import Field
from appproxy.relay.front import ClientExchange

VIA = (b"Via", b"1.1 appproxy")


def upward_fields(exchange: ClientExchange) -> list[Field]:
    """Clean fields in the client's order, then the relay's own word on client, host and scheme.

    The body's length stays as ``Content-Length``: it is how the connector knows it.
    """
    fields = clean_request(exchange.head)
    if exchange.reserved:
        fields = _without_reserved(fields)
    client = exchange.client.encode("ascii", "replace")
    authority = exchange.authority.encode("ascii")
    scheme = exchange.scheme.encode("ascii")
    port = authority.rpartition(b":")[2] if exchange.port_shown else b"443" if scheme == b"https" else b"80"
    node = b'"[%b]"' % client if b":" in client else client
    fields += (
        (b"X-Forwarded-For", client),
        (b"X-Forwarded-Host", authority),
        (b"X-Forwarded-Proto", scheme),
        (b"X-Forwarded-Port", port),
        (b"Forwarded", b'for=%b;host="%b";proto=%b' % (node, authority, scheme)),
        (b"X-Request-ID", exchange.request_id.encode("ascii")),
        VIA,
    )
    if exchange.length is not None:
        fields.append((b"Content-Length", b"%d" % exchange.length))
    return fields


def _without_reserved(fields: list[Field]) -> list[Field]:
    """One ``Cookie`` field with the application's cookies only, where the first one stood."""
    kept: list[Field] = []
    values = [value for name, value in fields if name.lower() == b"cookie"]
    cookie = take_reserved(values)[1]
    for field in fields:
        if field[0].lower() != b"cookie":
            kept.append(field)
        elif cookie is not None:
            kept.append((field[0], cookie))
            cookie = None
    return kept
