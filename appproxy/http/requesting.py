"""One connection to an origin, the requesting half of HTTP/1.x: requests in, octets out; octets in, answers out.

The origin is not trusted: whatever is not strictly HTTP/1.x, or could be read in two ways, is :class:`BadResponse`, and
the connection is of no further use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.bodies import BodyWriter, ChunkedReader
from appproxy.http.limits import Limits
from appproxy.http.messages import (
    Field,
    FieldLines,
    MalformedMessage,
    OutOfTurn,
    ResponseHead,
    body_length,
    index,
    parse_fields,
    serialise_request,
    tokens,
    upgrade_protocols,
)

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")
_VERSIONS: Final = {b"0": (1, 0), b"1": (1, 1)}
_START: Final = b"HTTP/1."
#: Some origins read no body after these, and take it for the next request: such a connection carries no other.
_NO_BODY_EXPECTED: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})

#: A head up to this size is remembered for the connection's next answer.
_MAX_REMEMBERED: Final = 8 * 1024


class BadResponse(AppproxyError):
    """The origin sent something that is not strictly HTTP/1.x."""

    code = "bad-response"
    status = 502
    side = Side.ORIGIN
    phase = Phase.FIRST_BYTE


class Truncated(BadResponse):
    """The origin closed the connection before its answer was complete."""

    code = "cut-short"


class Informational(msgspec.Struct):
    """An interim (1xx) answer."""

    head: ResponseHead


class ResponseBegun(msgspec.Struct):
    """The final answer's head; *ended*: *body* and *trailers* are all that follows it, and nothing is told of it again.

    Most answers have come as a whole when their head is read.  *length* is what the origin announced, also for HEAD.
    """

    head: ResponseHead
    ended: bool
    length: int | None = None
    body: bytes = b""
    trailers: Sequence[Field] = ()


class BodyReceived(msgspec.Struct):
    """Some of the body."""

    data: bytes


class ResponseEnded(msgspec.Struct):
    """The body is complete."""

    trailers: Sequence[Field] = ()


class SwitchedProtocols(msgspec.Struct):
    """A 101: from here on the octets belong to another protocol; *leftover* are the first of them."""

    head: ResponseHead
    leftover: bytes


Event = Informational | ResponseBegun | BodyReceived | ResponseEnded | SwitchedProtocols


class Reading(IntEnum):
    """What the next octet from the origin belongs to."""

    #: Nothing has been asked.
    NOTHING = 0
    HEAD = 1
    LENGTH = 2
    CHUNKED = 3
    UNTIL_CLOSE = 4
    ENDED = 5
    #: Another protocol, or a broken origin.
    OVER = 6


# In Python 3.11 the name of a member costs 60 ns, each time.
_NOTHING: Final = Reading.NOTHING
_HEAD: Final = Reading.HEAD
_LENGTH: Final = Reading.LENGTH
_CHUNKED: Final = Reading.CHUNKED
_UNTIL_CLOSE: Final = Reading.UNTIL_CLOSE
_ENDED: Final = Reading.ENDED
_OVER: Final = Reading.OVER
_HTTP_11: Final = (1, 1)
#: What writes the bodies of requests that have none: it has ended, and takes nothing any more.
_NO_BODY: Final = BodyWriter(0, False)
_NO_BODY.end()
#: What ``Connection`` nearly always says, if anything.
_USUAL_OPTIONS: Final = {option: tokens([option]) for option in (b"keep-alive", b"Keep-Alive", b"close", b"Close")}


class ClientConversation:
    """Both directions of one connection to an origin, one request at a time."""

    __slots__ = (
        "_chunks", "_held", "_interim", "_keep", "_last", "_left", "_limits", "_method", "_offered", "_once",
        "_reading", "_searched", "_writer", "heard",
    )  # fmt: skip

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._reading = _NOTHING
        self._writer = _NO_BODY
        self._held = bytearray()
        self._last: tuple[bytes, ResponseHead] | None = None
        self._keep = True
        #: This request is the last on the connection, whatever is answered.
        self._once = False
        self._left = self._interim = self._searched = 0
        self._chunks: ChunkedReader | None = None
        self._method = b""
        self._offered: list[bytes] = []
        #: Whether anything of the answer to the last request has come: if not, it may be retried elsewhere.
        self.heard = False

    # Writing

    def begin(
        self,
        method: bytes,
        target: bytes,
        fields: Sequence[Field] | FieldLines,
        length: int | None = None,
        chunked: bool = False,
        upgrade: bool = False,
        more: Sequence[Field] = (),
    ) -> bytes:
        """Begin a request.

        *fields* are clean of framing and hop-by-hop fields, but for ``TE``, and ``Upgrade`` with *upgrade*; there is
        one ``Host`` among them; *more* fields, of this request alone, follow them.

        :raises UnsafeHead: the head would not be a well-formed one.
        :raises OutOfTurn: the connection is not free, or an upgrade has a body.
        """
        if self._reading is not _NOTHING and not self.reusable:
            raise OutOfTurn("connection is not free")
        if upgrade and (chunked or length):
            raise OutOfTurn("upgrade with a body")
        lines = fields if type(fields) is FieldLines else FieldLines(fields)  # type: ignore[arg-type]
        if lines.hosts != 1:
            raise OutOfTurn("not exactly one Host")
        offered: list[bytes] = []
        framing = b""
        if upgrade:
            offered = tokens([field[1] for field in lines.fields if field[0].lower() == b"upgrade"])
            framing = b"Connection: Upgrade\r\n"
        elif lines.te:
            framing = b"Connection: TE\r\n"
        if chunked:
            framing += b"Transfer-Encoding: chunked\r\n"
        elif length is not None:
            framing += b"Content-Length: %d\r\n" % length
        octets = serialise_request(method, target, lines, more, framing)
        self._method, self._offered = method, offered
        if chunked or length:
            self._writer = BodyWriter(None if chunked else length, chunked)
            self._once = self._once or method in _NO_BODY_EXPECTED
        else:
            self._writer = _NO_BODY
        self._reading = _HEAD
        self._chunks = None
        self._left = self._interim = self._searched = 0
        self.heard = False
        return octets

    def body(self, data: bytes) -> bytes:
        """Some of the request's body, as it goes on the wire.

        :raises LengthMismatch: more than announced; the connection has to be aborted.
        """
        return self._writer.body(data)

    def end(self, trailers: Sequence[Field] = ()) -> bytes:
        """The end of the request; without effect when it had no body.

        :raises LengthMismatch: less than announced; the connection has to be aborted.
        """
        return b"" if self._writer.ended else self._writer.end(trailers)

    # Reading

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request: both halves ended, kept alive, nothing left over."""
        return self._reading is _ENDED and self._keep and self._writer.ended

    def receive(self, data: bytes) -> list[Event]:
        """Take what the origin sent and tell what it means.

        :raises BadResponse: it means nothing strictly, or nobody asked for it.
        """
        reading = self._reading
        try:
            if reading is _HEAD:
                self.heard = True
                return self._read_heads(data)
            if reading in (_LENGTH, _CHUNKED, _UNTIL_CLOSE):
                body, trailers = self._read_body(data)
                return self._told(body, trailers)
        except MalformedMessage as problem:
            self._reading = _OVER
            raise BadResponse(str(problem)) from None
        except BadResponse:
            self._reading = _OVER
            raise
        self._reading = _OVER
        raise BadResponse("octets nobody asked for")

    def closed(self) -> list[Event]:
        """The origin has closed: the regular end of some bodies.

        :raises Truncated: anything was still owed.
        """
        reading, self._reading = self._reading, _OVER
        if reading is _UNTIL_CLOSE:
            return [ResponseEnded()]
        if reading in (_HEAD, _LENGTH, _CHUNKED):
            raise Truncated
        return []

    def _read_heads(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        while True:
            raw, data = self._take_head(data)
            if not raw:
                return events
            last = self._last
            # An origin that says the same again is not read again.
            head = last[1] if last is not None and last[0] == raw else self._parse_head(raw)
            if head.status >= 200:
                break
            if head.status == 101:
                events.append(self._switch(head, data))
                return events
            self._interim += 1
            if self._interim > self._limits.informational:
                raise BadResponse("too many interim answers")
            events.append(Informational(head))
        begun = self._frame(head)
        events.append(begun)
        if begun.ended:
            self._reading = _ENDED
            # What follows a complete answer was not asked for; a later answer must not begin with it.
            self._keep = self._keep and not data
        elif data and self._left == len(data):  # its body exactly, as of most answers
            self._left = 0
            self._reading = _ENDED
            begun.ended, begun.body = True, data
        elif data:
            body, trailers = self._read_body(data)
            if body and self._reading is _ENDED:
                begun.ended, begun.body, begun.trailers = True, body, trailers
            else:
                events += self._told(body, trailers)
        return events

    def _take_head(self, data: bytes) -> tuple[bytes, bytes]:
        """The next head, and what follows it; nothing, while it is incomplete."""
        held = self._held
        if held:
            held += data
            end = held.find(b"\r\n\r\n", self._searched)
            if end >= 0:
                data = bytes(held)
                held.clear()
                self._searched = 0
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                held += data
        if end < 0:
            self._check_start()
            return b"", b""
        end += 4
        return (data, b"") if end == len(data) else (data[:end], data[end:])

    def _check_start(self) -> None:
        """Refuse at once what can no longer become a head."""
        held = self._held
        start = bytes(held[: len(_START)])
        if not _START.startswith(start):
            raise BadResponse("no HTTP/1 status line")
        if len(held) > self._limits.head:
            raise BadResponse("head too large")
        if held.count(b"\n", self._searched) != held.count(b"\r\n", self._searched):
            raise BadResponse("bare line feed")
        searched = max(0, len(held) - 3)
        self._searched = searched - 1 if searched and held[searched - 1] == 13 else searched

    def _parse_head(self, raw: bytes) -> ResponseHead:
        line = _STATUS_LINE.match(raw)
        if line is None:
            raise BadResponse("malformed status line")
        if len(raw) > self._limits.head:
            raise BadResponse("head too large")
        fields = parse_fields(raw, line.end() - 2)
        if len(fields) > self._limits.fields:
            raise BadResponse("too many fields")
        minor, status, reason = line.groups()
        head = ResponseHead(int(status), (reason or b"").strip(b" \t"), _VERSIONS[minor], fields, index(fields))
        self._last = (raw, head) if len(raw) <= _MAX_REMEMBERED else None
        return head

    def _switch(self, head: ResponseHead, leftover: bytes) -> SwitchedProtocols:
        taken = upgrade_protocols(head)
        if not taken or not set(taken) <= set(self._offered):
            raise BadResponse("101 that was not asked for")
        self._reading = _OVER
        return SwitchedProtocols(head, leftover)

    def _frame(self, head: ResponseHead) -> ResponseBegun:
        """Decide how the body is framed and whether the connection may live on."""
        known = head.known
        said = known.get(b"connection")
        latest = head.version == _HTTP_11
        options: Sequence[bytes] = ()
        if said is not None:
            options = (_USUAL_OPTIONS.get(said[0]) if len(said) == 1 else None) or tokens(said)
        self._keep = b"close" not in options and (latest or b"keep-alive" in options) and not self._once
        length = None
        lengths = known.get(b"content-length")
        if lengths is not None:
            if len(lengths) > 1 and lengths.count(lengths[0]) == len(lengths):
                lengths = lengths[:1]  # an origin may say the same twice; it may not say two things
            length = body_length(lengths)
        codings = known.get(b"transfer-encoding")
        if codings is not None and (
            length is not None or not latest or [coding.lower() for coding in codings] != [b"chunked"]
        ):
            raise BadResponse("framing that can be read in two ways")
        begun = ResponseBegun(head, False, length)
        if self._method == b"HEAD" or head.status in (204, 304):
            begun.ended = True
        elif codings is not None:
            self._reading = _CHUNKED
            self._chunks = ChunkedReader(self._limits.trailers, self._limits.fields)
        elif length is None:
            self._reading = _UNTIL_CLOSE
            self._keep = False
        elif length:
            self._reading = _LENGTH
            self._left = length
        else:
            begun.ended = True
        return begun

    def _read_body(self, data: bytes) -> tuple[bytes, Sequence[Field]]:
        """What *data* adds to the body, and the trailers, if it ends there."""
        chunks = self._chunks
        trailers: Sequence[Field] = ()
        if chunks is not None:
            body = chunks.read(data)
            ended, rest, trailers = chunks.done, chunks.rest, chunks.trailers
        elif self._reading is _UNTIL_CLOSE:
            return data, ()
        else:
            left = self._left
            body, rest = (data, b"") if len(data) <= left else (data[:left], data[left:])
            left = self._left = left - len(body)
            ended = not left
        if ended:
            self._reading = _ENDED
            self._keep = self._keep and not rest
        return body, trailers

    def _told(self, body: bytes, trailers: Sequence[Field]) -> list[Event]:
        """Part of a body as events."""
        events: list[Event] = [BodyReceived(body)] if body else []
        if self._reading is _ENDED:
            events.append(ResponseEnded(trailers))
        return events
