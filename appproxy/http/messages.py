"""Message heads as values: strict reading of field lines, safe writing of heads (RFC 9110 and 9112).

Whoever holds a :class:`RequestHead` or :class:`ResponseHead` made here may rely on it: names are tokens, values hold no
control characters, there is one framing and one ``Host``.  Whatever is written is checked once more, so that a mistake
elsewhere becomes an exception and never a second header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Self, TypeVar

import msgspec

from appproxy.errors import AppproxyError

#: Name and value as they came: order, case and duplicates are kept.
Field = tuple[bytes, bytes]

_TCHAR: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: What a value or reason may hold: tab, space, visible ASCII and obs-text.
_TEXT: Final = bytes(octet for octet in range(256) if octet == 9 or (octet >= 32 and octet != 127))
#: One field line, found by the CRLF before it.  Possessive where backtracking could become quadratic.
_FIELD: Final = re.compile(rb"\r\n([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+((?:.*[^ \t\r\n])?)[ \t]*+(?=\r\n)")
#: Asking one of these twice does no more than asking once (RFC 9110, 9.2.2).
IDEMPOTENT: Final = frozenset(
    {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH"}
)
#: How Remote Desktop Gateway and RPC over HTTP open the two halves of a tunnel (MS-TSGU, MS-RPCH): requests and answers
#: without an end, and a sign-in that holds for one connection.
TUNNEL_METHODS: Final = frozenset({b"RDG_IN_DATA", b"RDG_OUT_DATA", b"RPC_IN_DATA", b"RPC_OUT_DATA"})
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET: Final = re.compile(rb"[!\"$-~]+")
#: The conversations alone write these; a caller who passes one has forgotten to clean.
FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
#: 10**18 octets is more than anybody sends; longer numbers overflow the counters of other implementations.
_MAX_LENGTH_DIGITS: Final = 18


class MalformedMessage(Exception):
    """What came is not strictly HTTP/1.x; the text says why and repeats nothing of it."""


class UnsafeHead(AppproxyError):
    """A head that was about to be written would not have been one well-formed head."""

    code = "unsafe-head"
    status = 502


class LengthMismatch(AppproxyError):
    """The body is longer or shorter than the head announced."""

    code = "length-mismatch"
    status = 502


class OutOfTurn(AppproxyError):
    """A part of a message was written where it cannot stand; a fault of ours."""

    code = "out-of-turn"
    status = 500


class RequestHead(msgspec.Struct):
    """A request's head.  *known* maps lower-cased names to their values in order; *host* is the validated ``Host``."""

    method: bytes
    target: bytes
    version: tuple[int, int]
    fields: list[Field]
    known: dict[bytes, list[bytes]]
    host: bytes

    @classmethod
    def of(cls, method: bytes, target: bytes, fields: Iterable[Field], version: tuple[int, int] = (1, 1)) -> Self:
        """A head from trusted parts, indexed."""
        fields = list(fields)
        known = index(fields)
        return cls(method, target, version, fields, known, known.get(b"host", [b""])[0])


class ResponseHead(msgspec.Struct):
    """A response's head; *known* as for requests."""

    status: int
    reason: bytes
    version: tuple[int, int]
    fields: list[Field]
    known: dict[bytes, list[bytes]]


def index(fields: Iterable[Field]) -> dict[bytes, list[bytes]]:
    """Values in order by lower-cased name."""
    known: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        name = name.lower()
        if name in known:
            known[name].append(value)
        else:
            known[name] = [value]
    return known


def parse_fields(block: bytes, start: int) -> list[Field]:
    """Read every field line of *block*, strictly.

    *start* is where the CRLF before the first field line is; *block* ends with the empty line.  No line but a
    well-formed one survives: every CR and LF must belong to a CRLF that a match or the end accounts for, so bare CR and
    LF, folded lines, white space before the colon, control characters and names that are no tokens are all refused.

    :raises MalformedMessage: for all of these.
    """
    fields: list[Field] = _FIELD.findall(block, start)
    if block.translate(None, _TEXT) != b"\r\n" * (len(fields) + 2):
        raise MalformedMessage("malformed field line")
    return fields


def is_token(name: bytes) -> bool:
    """Whether *name* may be a method or a field name."""
    return bool(name) and not name.translate(None, _TCHAR)


def is_target(target: bytes) -> bool:
    """Whether *target* may be a request target: visible ASCII without a fragment."""
    return _TARGET.fullmatch(target) is not None


def is_value(value: bytes) -> bool:
    """Whether *value* may be a field value or reason: no control characters, no white space around it."""
    return not value.translate(None, _TEXT) and value.strip(b" \t") == value


def is_text(value: bytes) -> bool:
    """Whether *value* holds no control characters but tabs."""
    return not value.translate(None, _TEXT)


def tokens(values: Iterable[bytes]) -> list[bytes]:
    """The members of a comma-separated list that may span several lines, lower-cased, without empty ones."""
    return [token for value in values for part in value.lower().split(b",") if (token := part.strip(b" \t"))]


def body_length(values: Sequence[bytes]) -> int:
    """Read ``Content-Length``, given once.

    :raises MalformedMessage: given several times, not a plain decimal number or absurdly long.
    """
    if len(values) != 1:
        raise MalformedMessage("several lengths")
    value = values[0]
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise MalformedMessage("malformed length")
    return int(value)


def upgrade_protocols(head: RequestHead | ResponseHead) -> list[bytes]:
    """The protocols, lower-cased, that this head properly offers or takes to switch to; none on HTTP/1.0.

    ``h2c`` and other versions of HTTP or TLS itself are left out: behind a gateway they would open an unguarded
    connection to the origin (RFC 9110 lets a server ignore ``Upgrade``).
    """
    known = head.known
    if b"upgrade" not in known or head.version < (1, 1) or b"upgrade" not in tokens(known.get(b"connection", ())):
        return []
    return [name for name in tokens(known[b"upgrade"]) if not name.startswith((b"h2", b"h3", b"http/", b"tls/"))]


class FieldLines:
    """Fields of a request head, checked and written once, for requests that repeat them.

    :ivar octets: the lines, each with its CRLF.
    :ivar hosts: how many ``Host`` fields there are; *te*: whether there is a ``TE``.
    :raises UnsafeHead: something in them does not belong there.
    """

    __slots__ = ("fields", "hosts", "octets", "te")

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = fields
        self.octets = _serialise(b"", fields, b"")[2:-2]
        self.hosts, self.te = 0, False
        for name, _ in fields:
            # Lengths first: this is once for every field of every request.
            if len(name) == 4 and name.lower() == b"host":
                self.hosts += 1
            elif len(name) == 2 and name.lower() == b"te":
                self.te = True


def serialise_request(method: bytes, target: bytes, lines: FieldLines, more: Sequence[Field], framing: bytes) -> bytes:
    """Write a request head: *lines*, then *more* fields of this request alone.

    :param framing: ready lines, each with its CRLF.
    :raises UnsafeHead: something in it does not belong there.
    """
    if not _TOKEN.fullmatch(method) or not is_target(target):
        raise UnsafeHead("method or target")
    own = b""
    for name, value in more:  # seldom more than one, for which a head's way would be long
        _check_name(name)
        if not is_text(value):
            raise UnsafeHead("control characters")
        own += b"%b: %b\r\n" % (name, value)
    return b"%b %b HTTP/1.1\r\n%b%b%b\r\n" % (method, target, lines.octets, own, framing)


def serialise_response(status: int, reason: bytes, fields: Sequence[Field], framing: bytes = b"") -> bytes:
    """Write a response head; *framing* are ready lines.  :raises UnsafeHead: something in it does not belong there."""
    if not 100 <= status <= 599:
        raise UnsafeHead("status")
    return _serialise(b"HTTP/1.1 %d %b" % (status, reason), fields, framing)


def serialise_trailers(fields: Sequence[Field]) -> bytes:
    """Write a trailer section with the empty line that ends it; checked like a head."""
    return _serialise(b"", fields, b"")[2:] if fields else b"\r\n"


#: So much is remembered by lists of field names, of which servers have few; then all is forgotten.  Nothing is by a
#: list with more octets.
_MAX_REMEMBERED, _MAX_NAMES_BYTES = 1024, 4096
_T = TypeVar("_T")


def remember(memory: dict[tuple[bytes, ...], _T], names: tuple[bytes, ...], what: _T) -> None:
    """Put *what* into *memory* for all heads with fields of these *names*; it stays bounded, whatever comes."""
    if sum(map(len, names)) <= _MAX_NAMES_BYTES:
        if len(memory) >= _MAX_REMEMBERED:
            memory.clear()
        memory[names] = what


#: Lists of names that were found to be good.
_good_names: dict[tuple[bytes, ...], bool] = {}


def _serialise(first: bytes, fields: Sequence[Field], framing: bytes) -> bytes:
    names = tuple([field[0] for field in fields])
    if names not in _good_names:
        _check_names(names)
    head = b"\r\n".join([first, *map(b": ".join, fields), framing + b"\r\n"])
    if head.translate(None, _TEXT) != b"\r\n" * (len(fields) + 2 + framing.count(b"\n")):
        raise UnsafeHead("control characters")
    return head


def _check_name(name: bytes) -> None:
    if not is_token(name) or name.lower() in FRAMING:
        raise UnsafeHead("field name")


def _check_names(names: tuple[bytes, ...]) -> None:
    """Remember *names* if they are good; :raises UnsafeHead: one is no token, or frames."""
    for name in names:
        _check_name(name)
    remember(_good_names, names, True)
