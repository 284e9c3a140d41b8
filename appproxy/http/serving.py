"""One client's connection, the serving half of HTTP/1.x: octets in, requests out; answers in, octets out.

Strict on purpose (RFC 9112 with every leniency declined): whatever two readers could understand differently is
:class:`BadRequest`, and the caller answers with its status and closes.  One request is told at a time; what follows it
stays unread until :meth:`ServerConversation.next_request`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec

from appproxy.http.addresses import MalformedHost, canonical_host
from appproxy.http.bodies import BodyWriter, ChunkedReader
from appproxy.http.limits import Limits
from appproxy.http.messages import (
    Field,
    MalformedMessage,
    OutOfTurn,
    RequestHead,
    body_length,
    index,
    parse_fields,
    serialise_response,
    tokens,
    upgrade_protocols,
)
from appproxy.http.refusal import BadRequest

#: Field lines up to this size are remembered for the connection's next request.
_MAX_REMEMBERED: Final = 8 * 1024
#: A longer method is nobody's.
MAX_METHOD: Final = 64
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([!\"$-~]+) HTTP/([0-9]\.[0-9])\r\n")
_VERSIONS: Final = {b"1.1": (1, 1), b"1.0": (1, 0)}
_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?]+)([^?]*)(\?.*)?", re.IGNORECASE)
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}
#: What a request that is only a head has none of.
_FRAMING: Final = frozenset({b"transfer-encoding", b"content-length", b"upgrade", b"expect"})
#: Stands in until an answer with a body begins.
_NO_BODY: Final = BodyWriter(0, False)


class RequestBegun(msgspec.Struct):
    """A request's head has come; *ended*: it has no body and no ``RequestEnded`` follows.

    *upgrade*: it properly offers another protocol.  *length* or *chunked* say how the body is framed.
    """

    head: RequestHead
    ended: bool
    expect_continue: bool = False
    upgrade: bool = False
    length: int | None = None
    chunked: bool = False


class BodyReceived(msgspec.Struct):
    """Some of the body."""

    data: bytes


class RequestEnded(msgspec.Struct):
    """The body is complete."""

    trailers: Sequence[Field] = ()


Event = RequestBegun | BodyReceived | RequestEnded


class Reading(IntEnum):
    """What the next octet from the client belongs to."""

    HEAD = 0
    LENGTH = 1
    CHUNKED = 2
    #: To nothing yet: the request is complete, its answer is not; or to another protocol.
    WAIT = 3
    #: To nothing ever: the conversation is over.
    OVER = 4


class Writing(IntEnum):
    """Where the answer is."""

    UNBEGUN = 0
    BODY = 1
    ENDED = 2
    SWITCHED = 3


# In Python 3.11 the name of a member costs 60 ns, each time.
_HEAD: Final = Reading.HEAD
_LENGTH: Final = Reading.LENGTH
_CHUNKED: Final = Reading.CHUNKED
_WAIT: Final = Reading.WAIT
_OVER: Final = Reading.OVER
_UNBEGUN: Final = Writing.UNBEGUN
_BODY: Final = Writing.BODY
_ENDED: Final = Writing.ENDED
_SWITCHED: Final = Writing.SWITCHED


class _Block(msgspec.Struct):
    """The field lines of a request as they came, and what they mean; never changed, several heads share it."""

    block: bytes
    fields: list[Field]
    known: dict[bytes, list[bytes]]
    host: bytes
    options: list[bytes]
    plain: bool  # nothing in them tells of a body, or of another protocol


class ServerConversation:
    """Both directions of one client connection.

    :param secure: the client came by TLS; decides which scheme an absolute-form target may name.
    """

    __slots__ = (
        "_bodiless", "_chunks", "_draining", "_expecting", "_head", "_held", "_keep", "_last", "_left", "_limits",
        "_line_read", "_offered", "_reading", "_searched", "_secure", "_skipped", "_writer", "_writing",
    )  # fmt: skip

    def __init__(self, limits: Limits | None = None, secure: bool = True) -> None:
        self._limits = limits or Limits()
        self._secure = secure
        self._held = bytearray()
        self._last: _Block | None = None
        self._begin_reading()

    def _begin_reading(self) -> None:
        self._reading = _HEAD
        self._writing = _UNBEGUN
        self._head: RequestHead | None = None
        self._writer = _NO_BODY
        self._chunks: ChunkedReader | None = None
        self._keep = False
        self._expecting = self._offered = self._draining = self._bodiless = False
        #: Octets of the body that are still to come.
        self._left = 0
        #: How far the held octets have been searched for the end of the head; whether an empty line was skipped.
        self._searched = 0
        self._skipped = self._line_read = False

    # Reading

    @property
    def buffered(self) -> int:
        """Octets received and not yet told; the caller stops reading while they are many."""
        return len(self._held)

    @property
    def expecting(self) -> bool:
        """The client waits to be told to send its body, and may."""
        return self._expecting

    @property
    def idle(self) -> bool:
        """Nothing of a request has come since the last one was answered."""
        return self._reading is _HEAD and not self._held

    def receive(self, data: bytes) -> list[Event]:
        """Take what the client sent and tell what it means.

        :raises BadRequest: it means nothing strictly; the conversation is over but for the answer.
        """
        reading = self._reading
        if reading is _OVER:
            return []
        try:
            if reading is _HEAD:
                return self._read_head(data)
            if reading is _WAIT:
                self._held += data
                return []
            return self._read_body(data)
        except MalformedMessage as problem:
            self._reading = _OVER
            raise BadRequest(400, str(problem)) from None
        except BadRequest:
            self._reading = _OVER
            raise

    def next_request(self) -> list[Event]:
        """The answer is complete: go on with what the client has sent meanwhile.

        Nothing more is told when the connection is not to be kept alive.  The rest of a request that was answered
        early is dropped on the way.

        :raises BadRequest: as :meth:`receive`.
        """
        if not self.keep_alive:
            self._reading = _OVER
            self._held.clear()
            return []
        left, draining = self._left, self._reading is _LENGTH
        self._begin_reading()
        if draining:
            self._reading, self._left, self._draining = _LENGTH, left, True
        if not self._held:
            return []
        held = bytes(self._held)
        self._held.clear()
        return self.receive(held)

    def _read_head(self, data: bytes) -> list[Event]:
        end = -1 if self._held or data.startswith(b"\r\n") else data.find(b"\r\n\r\n")
        if end < 0:
            self._held += data
            end = self._find_end()
            if end < 0:
                return []
            data = bytes(self._held)
            self._held.clear()
        return self._begin_request(data, end + 4)

    def _find_end(self) -> int:
        """Where the held head's last line ends, or -1; refuses at once what can no longer become a head."""
        held = self._held
        if not self._skipped and len(held) >= 2:
            # One empty line before a request is forgiven: old clients send it after a body.
            self._skipped = True
            if held.startswith(b"\r\n"):
                del held[:2]
        end = held.find(b"\r\n\r\n", self._searched)
        if end >= 0:
            return end
        size = len(held)
        if not self._line_read:
            line_end = held.find(b"\r\n")
            if line_end >= 0:
                self._check_line(bytes(held[: line_end + 2]))
                self._line_read = True
            elif size > self._limits.target + MAX_METHOD + len(b"  HTTP/1.1"):
                raise BadRequest(414, "target too long")
        if size > self._limits.head:
            raise BadRequest(431, "head too large")
        if held.count(b"\n", self._searched) != held.count(b"\r\n", self._searched):
            raise BadRequest(400, "bare line feed")
        # The last three octets may begin the end; one more, so that no CRLF is cut in two and counted by halves.
        searched = max(0, size - 3)
        self._searched = searched - 1 if searched and held[searched - 1] == 13 else searched
        return -1

    def _check_line(self, head: bytes) -> tuple[bytes, bytes, tuple[int, int], int]:
        """Read the request line: method, target, version and where its end is."""
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise BadRequest(400, "malformed request line")
        method, target, digits = line.groups()
        if len(target) > self._limits.target:
            raise BadRequest(414, "target too long")
        version = _VERSIONS.get(digits)
        if version is None:
            raise BadRequest(505, "version of HTTP not supported")
        return method, target, version, line.end() - 2

    def _begin_request(self, data: bytes, end: int) -> list[Event]:
        method, target, version, line_end = self._check_line(data)
        if end > self._limits.head:
            raise BadRequest(431, "head too large")
        block = data[line_end:end]
        last = self._last
        if last is None or last.block != block:
            last = self._read_fields(block)
        if method == b"CONNECT":
            raise BadRequest(501, "no proxy for CONNECT")
        if target[0] != 47:  # an origin-form target begins with "/"
            target = self._origin_form(method, target, last.host)
        head = RequestHead(method, target, version, last.fields, last.known, last.host)
        self._head = head
        begun = self._frame(head, last)
        if not begun.ended:
            return [begun, *self._read_body(data[end:])] if len(data) > end else [begun]
        self._reading = _WAIT
        self._held += data[end:]
        return [begun]

    def _read_fields(self, block: bytes) -> _Block:
        """Read the field lines, and remember them: a client mostly says the same again on its next request."""
        fields = parse_fields(block, 0)
        if len(fields) > self._limits.fields:
            raise BadRequest(431, "too many fields")
        known = index(fields)
        hosts = known.get(b"host")
        if hosts is None or len(hosts) != 1:
            raise BadRequest(400, "not exactly one Host")
        try:
            canonical_host(hosts[0])
        except MalformedHost:
            raise BadRequest(400, "malformed Host") from None
        options = tokens(known.get(b"connection", ()))
        last = _Block(block, fields, known, hosts[0], options, _FRAMING.isdisjoint(known))
        self._last = last if len(block) <= _MAX_REMEMBERED else None
        return last

    def _origin_form(self, method: bytes, target: bytes, host: bytes) -> bytes:
        """Turn asterisk-form and absolute-form into what an origin expects; refuse the other forms."""
        if target == b"*" and method == b"OPTIONS":
            return target
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise BadRequest(400, "malformed target")
        scheme, authority, path, query = absolute.groups()
        scheme = scheme.lower()
        if (scheme == b"https") is not self._secure:
            raise BadRequest(400, "target of another scheme")
        try:
            named, port = canonical_host(authority)
        except MalformedHost:
            raise BadRequest(400, "malformed target") from None
        meant, meant_port = canonical_host(host)
        default = _DEFAULT_PORTS[scheme]
        if named != meant or (port or default) != (meant_port or default):
            raise BadRequest(400, "target of another host")
        if not path and not query and method == b"OPTIONS":
            return b"*"
        return (path or b"/") + (query or b"")

    def _frame(self, head: RequestHead, block: _Block) -> RequestBegun:
        """Decide how the body is framed and whether the connection may live on."""
        options = block.options
        self._keep = b"close" not in options and (head.version == (1, 1) or b"keep-alive" in options)
        begun = RequestBegun(head, True)
        if block.plain:
            return begun
        known = head.known
        if b"transfer-encoding" in known:
            self._check_coding(head)
            begun.chunked, begun.ended = True, False
            self._reading = _CHUNKED
            self._chunks = ChunkedReader(self._limits.trailers, self._limits.fields)
        elif b"content-length" in known:
            begun.length = self._left = body_length(known[b"content-length"])
            if self._left:
                begun.ended = False
                self._reading = _LENGTH
        if b"upgrade" in known and upgrade_protocols(head):
            if not begun.ended:
                raise BadRequest(400, "upgrade with a body")
            begun.upgrade = self._offered = True
        if b"expect" in known and head.version == (1, 1):
            if tokens(known[b"expect"]) != [b"100-continue"]:
                raise BadRequest(417, "unknown expectation")
            begun.expect_continue = self._expecting = not begun.ended
        return begun

    def _check_coding(self, head: RequestHead) -> None:
        codings = head.known[b"transfer-encoding"]
        if head.version != (1, 1):
            raise BadRequest(400, "Transfer-Encoding on HTTP/1.0")
        if b"content-length" in head.known:
            raise BadRequest(400, "Transfer-Encoding and Content-Length")
        if len(codings) != 1:
            raise BadRequest(400, "several Transfer-Encodings")
        if codings[0].lower() != b"chunked":
            raise BadRequest(501, "unknown Transfer-Encoding")

    def _read_body(self, data: bytes) -> list[Event]:
        chunks = self._chunks
        if chunks is not None:
            body = chunks.read(data)
            events: list[Event] = [BodyReceived(body)] if body else []
            if not chunks.done:
                return events
            events.append(RequestEnded(chunks.trailers))
            rest = chunks.rest
        else:
            body = data if len(data) <= self._left else data[: self._left]
            self._left -= len(body)
            if self._draining:
                return self._drain(data[len(body) :])
            events = [BodyReceived(body)] if body else []
            if self._left:
                return events
            events.append(RequestEnded())
            rest = data[len(body) :]
        self._reading = _WAIT
        self._held += rest
        return events

    def _drain(self, rest: bytes) -> list[Event]:
        """What was read belonged to a request answered before; go on once that is over."""
        if self._left:
            return []
        self._draining = False
        self._reading = _HEAD
        return self._read_head(rest) if rest else []

    # Writing

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request, now that the answer has ended."""
        if self._writing is not _ENDED or not self._keep:
            return False
        return self._reading is _WAIT or (self._reading is _LENGTH and self._left <= self._limits.drain)

    def informational(self, status: int, reason: bytes, fields: Sequence[Field] = ()) -> bytes:
        """An interim answer (1xx but 101); HTTP/1.0 clients are spared it."""
        if not 100 <= status <= 199 or status == 101 or self._writing is not _UNBEGUN:
            raise OutOfTurn("no interim answer here")
        if self._head is not None and self._head.version == (1, 0):
            return b""
        if status == 100:
            self._expecting = False
        return serialise_response(status, reason, fields)

    def begin(self, status: int, reason: bytes, fields: Sequence[Field] = (), length: int | None = None) -> bytes:
        """Begin the final answer.

        *fields* are clean of framing and hop-by-hop fields, but for ``Upgrade`` in a 101.

        :param length: of the body; ``None`` when it is not known: then chunked, or ended by closing for HTTP/1.0.
        :raises UnsafeHead: the head would not be a well-formed one.
        :raises OutOfTurn: an answer has begun already, or a 101 was not asked for.
        """
        return self._begin(status, reason, fields, length, False)

    def _begin(self, status: int, reason: bytes, fields: Sequence[Field], length: int | None, whole: bool) -> bytes:
        """The same; *whole*: the caller has all of the body and needs nobody to frame it."""
        if self._writing is not _UNBEGUN:
            raise OutOfTurn("answer already begun")
        head = self._head
        if status == 101:
            if not self._offered:
                raise OutOfTurn("no other protocol was offered")
            octets = serialise_response(status, reason, fields, b"Connection: Upgrade\r\n")
            self._writing = _SWITCHED
            return octets
        old = head is not None and head.version == (1, 0)
        self._bodiless = status in (204, 304) or (head is not None and head.method == b"HEAD")
        chunked = length is None and not self._bodiless and not old
        keep = self._keep and self._reading is not _OVER
        if self._expecting or (self._offered and self._held) or (old and length is None and not self._bodiless):
            # The client may or may not send the body now, or has spoken its other protocol too early, or has to be
            # told by the end of the connection.
            keep = False
        self._keep = keep
        framing = b"" if keep and not old else b"Connection: keep-alive\r\n" if keep else b"Connection: close\r\n"
        if chunked:
            framing += b"Transfer-Encoding: chunked\r\n"
        elif length is not None and status != 204:
            framing += b"Content-Length: %d\r\n" % length
        octets = serialise_response(status, reason, fields, framing)
        if whole:
            self._writing = _ENDED
        else:
            self._writing = _BODY
            self._writer = BodyWriter(0 if self._bodiless else length, chunked)
        return octets

    def body(self, data: bytes) -> bytes:
        """Some of the answer's body, as it goes on the wire: nothing, where the answer has none (HEAD, 204, 304).

        :raises LengthMismatch: more than announced; the connection has to be aborted.
        """
        if self._writing is not _BODY:
            raise OutOfTurn("no answer begun")
        return b"" if self._bodiless else self._writer.body(data)

    def end(self, trailers: Sequence[Field] = ()) -> bytes:
        """The end of the answer.

        :raises LengthMismatch: less than announced; the connection has to be aborted.
        """
        if self._writing is not _BODY:
            raise OutOfTurn("no answer begun")
        octets = self._writer.end(trailers)
        self._writing = _ENDED
        return octets

    def whole(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes = b"") -> bytes:
        """A complete final answer; for HEAD, with the length but without the body."""
        octets = self._begin(status, reason, fields, len(body), True)
        return octets if self._bodiless else octets + body

    def upgraded(self) -> bytes:
        """After a 101: what the client has already sent in the other protocol.  Later octets are the caller's."""
        octets = bytes(self._held)
        self._held.clear()
        return octets
