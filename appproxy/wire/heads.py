"""Heads of requests and answers as msgpack arrays: fields keep bytes, order and case.

Decoding checks shapes, counts and the range of the status while it reads, so that a hostile head costs no more than its
bytes.  Whether names and values are good HTTP is for :mod:`appproxy.http` to say.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from appproxy.wire.frames import MAX_HEAD

Field = tuple[bytes, bytes]

#: Fields in one head or trailer: five times what browsers and servers send.
MAX_FIELDS: Final = 512
#: Claims may be nested as deep as any provider nests them; more is an attempt on the stack.
MAX_DEPTH: Final = 16

Fields = Annotated[list[Field], Meta(max_length=MAX_FIELDS)]
Name = Annotated[bytes, Meta(min_length=1, max_length=64)]
Short = Annotated[str, Meta(max_length=1024)]


class HeadTooLarge(ValueError):
    """The head has more bytes or fields than a channel carries."""


class MalformedHead(ValueError):
    """The peer sent a head that is none."""


class RequestHead(msgspec.Struct, array_like=True, gc=False):
    """A request as the relay hands it to a connector.

    :ivar host: the external authority that the client named; *scheme* the one that it used.
    :ivar identity: who asks, for single sign-on; None for pass-through.
    :ivar trace: the W3C trace context to continue.
    :ivar deadlines: seconds by phase: ``connect``, ``first_byte``, ``idle``.
    """

    method: Name
    target: bytes
    fields: Fields
    application: Short
    client: Short = ""
    request_id: Short = ""
    identity: dict[str, Any] | None = None
    trace: Short = ""
    affinity: Short = ""
    deadlines: dict[str, float] = {}
    scheme: Short = "https"
    host: Short = ""


class ResponseHead(msgspec.Struct, array_like=True, gc=False):
    """An answer's head, from the origin or, with *code*, *cause* and *phase*, from the connector itself."""

    status: Annotated[int, Meta(ge=100, le=999)]
    reason: bytes = b""
    fields: Fields = []
    #: ``ORIGIN`` or ``CONNECTOR``.
    speaker: Annotated[int, Meta(ge=0, le=1)] = 0
    code: Annotated[int, Meta(ge=0, le=0xFFFF)] = 0
    cause: Short = ""
    phase: Short = ""


#: Who speaks in a :class:`ResponseHead`.
ORIGIN: Final = 0
CONNECTOR: Final = 1

_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(RequestHead).decode
_response = msgspec.msgpack.Decoder(ResponseHead).decode
_trailers = msgspec.msgpack.Decoder(Fields).decode


def encode_head(head: RequestHead | ResponseHead) -> bytes:
    """The payload of a HEADERS frame.

    :raises HeadTooLarge: no channel would carry it.
    """
    payload = _encode(head)
    if len(head.fields) > MAX_FIELDS or len(payload) > MAX_HEAD:
        raise HeadTooLarge(f"{len(head.fields)} fields, {len(payload)} bytes")
    return payload


def encode_trailers(fields: list[Field]) -> bytes:
    """The payload of a HEADERS frame that ends a half; :raises HeadTooLarge: no channel would carry it."""
    payload = _encode(fields)
    if len(fields) > MAX_FIELDS or len(payload) > MAX_HEAD:
        raise HeadTooLarge(f"{len(fields)} fields, {len(payload)} bytes")
    return payload


def decode_request(payload: bytes) -> RequestHead:
    """:raises MalformedHead: what is wrong with it."""
    try:
        head = _request(payload)
    except (ValueError, RecursionError) as problem:
        raise MalformedHead(f"request head: {problem}") from None
    if head.identity is not None and not is_plain(head.identity):
        raise MalformedHead("request head: the identity is nested too deep")
    return head


def decode_response(payload: bytes) -> ResponseHead:
    """:raises MalformedHead: what is wrong with it."""
    try:
        return _response(payload)
    except (ValueError, RecursionError) as problem:
        raise MalformedHead(f"response head: {problem}") from None


def decode_trailers(payload: bytes) -> list[Field]:
    """:raises MalformedHead: what is wrong with them."""
    try:
        return _trailers(payload)
    except (ValueError, RecursionError) as problem:
        raise MalformedHead(f"trailers: {problem}") from None


_TEXT: Final = frozenset({str})
_LEAVES: Final = frozenset({str, int, float, bool, bytes, type(None)})


def is_plain(value: object, depth: int = MAX_DEPTH) -> bool:
    """True for maps with text keys, lists and scalars, nested at most *depth* deep."""
    if type(value) is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        inner: Collection[object] = value.values()
    elif type(value) is list:
        inner = value
    else:
        return type(value) in _LEAVES
    if depth <= 0:
        return False
    for item in inner:  # noqa: SIM110 - a generator costs twice as much on every request
        if type(item) not in _LEAVES and not is_plain(item, depth - 1):
            return False
    return True
