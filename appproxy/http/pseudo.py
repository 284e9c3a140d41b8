"""Heads as HTTP/2 writes them (RFC 9113, 8): pseudo-fields in front, names in lower case, nothing about the connection.

As strict as :mod:`appproxy.http.serving`, and with the same outcome: a :class:`RequestBegun` that nobody downstream can
tell from one of HTTP/1.1, but for its version.  A client's fields are read once for as long as it repeats them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from hpack import NeverIndexedHeaderTuple

from appproxy.http.addresses import MalformedHost, canonical_host
from appproxy.http.bodies import keep_allowed_trailers
from appproxy.http.limits import Limits
from appproxy.http.messages import (
    FRAMING,
    Field,
    MalformedMessage,
    RequestHead,
    UnsafeHead,
    body_length,
    index,
    is_target,
    is_text,
    is_token,
    tokens,
)
from appproxy.http.refusal import BadRequest
from appproxy.http.serving import MAX_METHOD, RequestBegun
from appproxy.http.websocket import PROTOCOL, Handshake

VERSION = (2, 0)
#: What each field costs besides its octets (RFC 9113, 6.5.2).
FIELD_OVERHEAD = 32
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
#: Of one HTTP/1.1 connection: a head with these is malformed.
_CONNECTION_SPECIFIC = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: Lists of names whose lower-case forms are remembered; then all are forgotten.
_MAX_REMEMBERED = 4096
_lowered: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}


class _Block(msgspec.Struct):
    """The fields of a request as they came, and what they mean; never changed, several heads share it."""

    raw: list[Field]
    authority: bytes | None
    fields: list[Field]
    known: dict[bytes, list[bytes]]
    host: bytes


class HeadReader:
    """Reads the heads that one client sends.

    :param random: gives so many octets that nobody can guess.
    """

    __slots__ = ("_last", "_limits", "_random")

    def __init__(self, limits: Limits, random: Callable[[int], bytes]) -> None:
        self._limits = limits
        self._random = random
        self._last: _Block | None = None

    def request(self, came: Sequence[Field], ended: bool) -> tuple[RequestBegun, Handshake | None]:
        """The request that *came*; with the handshake when it asks for a WebSocket (RFC 8441).

        :param ended: nothing follows.
        :raises BadRequest: it is not strictly one.
        """
        try:
            return self._request(came, ended)
        except MalformedMessage as problem:
            raise BadRequest(400, str(problem)) from None

    def _request(self, came: Sequence[Field], ended: bool) -> tuple[RequestBegun, Handshake | None]:
        pseudo: dict[bytes, bytes] = {}
        for name, value in came:
            if name[:1] != b":":
                break
            if name not in _PSEUDO or name in pseudo:
                raise BadRequest(400, "malformed pseudo-fields")
            pseudo[name] = value
        method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
        if not is_token(method) or len(method) > MAX_METHOD:
            raise BadRequest(400, "malformed method")
        protocol = pseudo.get(b":protocol")
        if method == b"CONNECT" and protocol != PROTOCOL:
            raise BadRequest(501, "no proxy for CONNECT")
        if protocol is not None and method != b"CONNECT":
            raise BadRequest(400, "malformed pseudo-fields")
        if pseudo.get(b":scheme") != b"https":
            raise BadRequest(400, "target of another scheme")
        if len(target) > self._limits.target:
            raise BadRequest(414, "target too long")
        if not is_target(target) or (target[0] != 47 and (target != b"*" or method != b"OPTIONS")):
            raise BadRequest(400, "malformed target")
        block = self._block([*came[len(pseudo) :]], pseudo.get(b":authority"))
        if protocol is not None:
            handshake = Handshake(self._random(16))
            fields = handshake.ask(block.fields)
            head = RequestHead(b"GET", target, VERSION, fields, index(fields), block.host)
            # Whatever comes now is of the other protocol.
            return RequestBegun(head, True, upgrade=True), handshake
        return self._frame(RequestHead(method, target, VERSION, block.fields, block.known, block.host), ended), None

    def _block(self, raw: list[Field], authority: bytes | None) -> _Block:
        last = self._last
        if last is None or last.raw != raw or last.authority != authority:
            last = self._last = self._read(raw, authority)
        return last

    def _read(self, raw: list[Field], authority: bytes | None) -> _Block:
        if sum([len(name) + len(value) + FIELD_OVERHEAD for name, value in raw]) > self._limits.head:
            raise BadRequest(431, "head too large")
        check_fields(raw)
        fields = _join_cookies(raw)
        if len(fields) > self._limits.fields:
            raise BadRequest(431, "too many fields")
        known = index(fields)
        hosts = known.get(b"host", [])
        if len(hosts) > 1 or (authority is None and not hosts):
            raise BadRequest(400, "not exactly one Host")
        host = authority if authority is not None else hosts[0]
        if hosts and hosts[0] != host:
            raise BadRequest(400, "Host of another authority")
        try:
            canonical_host(host)
        except MalformedHost:
            raise BadRequest(400, "malformed Host") from None
        if not hosts:
            fields.insert(0, (b"Host", host))
            known[b"host"] = [host]
        return _Block(raw, authority, fields, known, host)

    def _frame(self, head: RequestHead, ended: bool) -> RequestBegun:
        known = head.known
        begun = RequestBegun(head, ended)
        if b"content-length" in known:
            begun.length = body_length(known[b"content-length"])
            if ended and begun.length:
                raise BadRequest(400, "a length without a body")
        if b"expect" in known:
            if tokens(known[b"expect"]) != [b"100-continue"]:
                raise BadRequest(417, "unknown expectation")
            begun.expect_continue = not ended
        return begun

    def trailers(self, came: Sequence[Field]) -> list[Field]:
        """The trailers that *came*, without those that must not come late.

        :raises BadRequest: they are malformed, or too many.
        """
        fields = [(name, value) for name, value in came]
        if (
            len(fields) > self._limits.fields
            or sum([len(name) + len(value) for name, value in fields]) > self._limits.trailers
        ):
            raise BadRequest(431, "trailers too large")
        try:
            check_fields(fields)
        except MalformedMessage as problem:
            raise BadRequest(400, str(problem)) from None
        return keep_allowed_trailers(fields)


def check_fields(fields: Sequence[Field]) -> None:
    """Refuse what no head of HTTP/2 holds.

    :raises MalformedMessage: names that are no tokens in lower case (pseudo-fields here, too), control characters,
        white space around a value, fields of a connection.
    """
    names = [name for name, _ in fields]
    joined = b"".join(names)
    if b"" in names or (joined and not is_token(joined)) or joined.translate(None, _UPPER) != joined:
        raise MalformedMessage("malformed field name")
    values = [value for _, value in fields]
    if not is_text(b"".join(values)) or any(value[:1] in _BLANK or value[-1:] in _BLANK for value in values if value):
        raise MalformedMessage("malformed field value")
    if not _CONNECTION_SPECIFIC.isdisjoint(names):
        raise MalformedMessage("a field of an HTTP/1.1 connection")
    if b"te" in names and any(name == b"te" and value.lower() != b"trailers" for name, value in fields):
        raise MalformedMessage("TE other than trailers")


_BLANK = (b" ", b"\t")


def _join_cookies(raw: Sequence[Field]) -> list[Field]:
    """*raw* as plain pairs, with one ``cookie`` where the first crumb of it stood (RFC 9113, 8.2.3)."""
    fields: list[Field] = []
    crumbs: list[bytes] = []
    at = 0
    for name, value in raw:
        if name == b"cookie":
            if not crumbs:
                at = len(fields)
                fields.append((name, value))
            crumbs.append(value)
        else:
            fields.append((name, value))
    if len(crumbs) > 1:
        fields[at] = (b"cookie", b"; ".join(crumbs))
    return fields


def response_fields(status: int, fields: Sequence[Field], length: int | None = None) -> list[Field]:
    """The head of an answer for HTTP/2.

    :param length: to be announced; None for none.
    :raises UnsafeHead: something in it does not belong there.
    """
    if not 100 <= status <= 599:
        raise UnsafeHead("status")
    head: list[Field] = [(b":status", b"%d" % status)]
    head += lowered(fields)
    if length is not None:
        head.append((b"content-length", b"%d" % length))
    return head


def lowered(fields: Sequence[Field]) -> list[Field]:
    """*fields* with their names in lower case, checked; cookies are kept out of the compression's memory.

    :raises UnsafeHead: something in them does not belong there.
    """
    names = tuple([field[0] for field in fields])
    known = _lowered.get(names)
    if known is None:
        known = _lower(names)
    values = [field[1] for field in fields]
    if not is_text(b"".join(values)):
        raise UnsafeHead("control characters")
    if b"set-cookie" in known:
        return [
            NeverIndexedHeaderTuple(name, value) if name == b"set-cookie" else (name, value)
            for name, value in zip(known, values, strict=True)
        ]
    return list(zip(known, values, strict=True))


def _lower(names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    lower = tuple(map(bytes.lower, names))
    if not all(map(is_token, names)) or not (FRAMING | _CONNECTION_SPECIFIC).isdisjoint(lower):
        raise UnsafeHead("field name")
    if len(_lowered) >= _MAX_REMEMBERED:
        _lowered.clear()
    _lowered[names] = lower
    return lower
