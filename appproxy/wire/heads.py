"""Heads of requests and answers as msgpack arrays: fields keep bytes, order and case.

Decoding checks shapes, counts and the range of the status while it reads, so that a hostile head costs no more than its
bytes.  Whether names and values are good HTTP is for :mod:`appproxy.http` to say.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from appproxy.wire.frames import MAX_HEAD
from appproxy.wire.shapes import CONNECTOR, MAX_FIELDS, ORIGIN, Field, Fields, Request, ResponseHead, Standing

__all__ = [
    "CONNECTOR",
    "MAX_FIELDS",
    "MAX_KNOWN_BYTES",
    "ORIGIN",
    "Field",
    "HeadTooLarge",
    "MalformedHead",
    "Packed",
    "RequestHead",
    "ResponseHead",
    "Standing",
    "decode_request",
    "decode_response",
    "decode_trailers",
    "encode_request",
    "encode_response",
    "encode_trailers",
    "is_plain",
]

#: Claims may be nested as deep as any provider nests them; more is an attempt on the stack.
MAX_DEPTH: Final = 16


class HeadTooLarge(ValueError):
    """The head has more bytes or fields than a channel carries."""


class MalformedHead(ValueError):
    """The peer sent a head that is none."""


class Packed:
    """A :class:`Standing` with its octets: packed once by whoever sends it, read once by whoever knows the octets.

    :ivar note: whatever its reader worked out from it and wants to find again with the next request.
    """

    __slots__ = ("note", "octets", "standing")

    def __init__(self, standing: Standing, octets: bytes = b"") -> None:
        """:raises HeadTooLarge: no channel would carry it."""
        self.standing = standing
        self.octets = octets or _encode(standing)
        self.note: Any = None
        if len(standing.fields) > MAX_FIELDS or len(self.octets) > MAX_HEAD:
            raise HeadTooLarge(f"{len(standing.fields)} fields, {len(self.octets)} bytes")


class RequestHead:
    """A request as the relay hands it to a connector; nothing in it may be changed, requests share parts of it.

    :ivar length: of the body in bytes, where the client said it.
    :ivar affinity: names the client's connection when it shall have one at the origin for itself; else empty.
    """

    __slots__ = ("affinity", "length", "method", "packed", "request_id", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        packed: Packed,
        request_id: str = "",
        length: int | None = None,
        affinity: str = "",
    ) -> None:
        self.method = method
        self.target = target
        self.packed = packed
        self.request_id = request_id
        self.length = length
        self.affinity = affinity

    @classmethod
    def of(
        cls,
        method: bytes,
        target: bytes,
        standing: Standing,
        request_id: str = "",
        length: int | None = None,
        affinity: str = "",
    ) -> RequestHead:
        """A head whose standing part is nobody else's."""
        return cls(method, target, Packed(standing), request_id, length, affinity)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} for {self.standing.application}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestHead) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash((self.method, self.target, self.packed.octets, self.request_id, self.length, self.affinity))

    def _parts(self) -> tuple[object, ...]:
        return self.method, self.target, self.standing, self.request_id, self.length, self.affinity

    @property
    def standing(self) -> Standing:
        """What does not change from request to request."""
        return self.packed.standing


_encode: Final = msgspec.msgpack.Encoder().encode
_request: Final = msgspec.msgpack.Decoder(Request).decode
_standing: Final = msgspec.msgpack.Decoder(Standing).decode
_response: Final = msgspec.msgpack.Decoder(ResponseHead).decode
_trailers: Final = msgspec.msgpack.Decoder(Fields).decode


def encode_request(head: RequestHead) -> bytes:
    """The payload of a HEADERS frame that opens a stream; :raises HeadTooLarge: no channel would carry it."""
    parts = (head.method, head.target, head.request_id, head.length, head.packed.octets)
    payload = _encode((*parts, head.affinity) if head.affinity else parts)
    if len(payload) > MAX_HEAD:
        raise HeadTooLarge(f"{len(payload)} bytes")
    return payload


def encode_response(head: ResponseHead) -> bytes:
    """The payload of a HEADERS frame that answers; :raises HeadTooLarge: no channel would carry it."""
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


#: Standing parts that were read lately, by their octets, oldest first: what is equal means the same, whoever sent it.
_known: Final[dict[bytes, Packed]] = {}
#: How many of them, and of what size at most.
MAX_KNOWN: Final = 1024
MAX_KNOWN_BYTES: Final = 8 * 1024


def decode_request(payload: bytes) -> RequestHead:
    """:raises MalformedHead: what is wrong with it."""
    try:
        request = _request(payload)
        packed = _known.get(request.standing) or _read_standing(request.standing)
    except (ValueError, RecursionError) as problem:
        raise MalformedHead(f"request head: {problem}") from None
    return RequestHead(request.method, request.target, packed, request.request_id, request.length, request.affinity)


def _read_standing(octets: bytes) -> Packed:
    standing = _standing(octets)
    if standing.identity is not None and not is_plain(standing.identity):
        raise MalformedHead("the identity is nested too deep")
    packed = Packed(standing, octets)
    if len(octets) <= MAX_KNOWN_BYTES:
        if len(_known) >= MAX_KNOWN:
            del _known[next(iter(_known))]
        _known[octets] = packed
    return packed


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
