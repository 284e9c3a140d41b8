"""What a peer's bytes mean, one value each.  ``stream`` is the id of the stream that it happened to."""

from __future__ import annotations

from typing import Any

import msgspec

from appproxy.wire.heads import Field, RequestHead, ResponseHead


class Event(msgspec.Struct, gc=False):
    """Something that :meth:`appproxy.wire.connection.Connection.receive` learned."""


class RequestOpened(Event):
    """Connector: a request begins; with *end* it has no body."""

    stream: int
    head: RequestHead
    end: bool
    upgrade: bool


class Answered(Event):
    """Relay: the answer begins, or an interim one passes; with *upgrade* both halves are bytes from now on.

    Where there is *data*, all of the body had come with the head, as that of most answers: it is the end, and need not
    be consumed.
    """

    stream: int
    head: ResponseHead
    end: bool
    informational: bool
    upgrade: bool
    data: bytes = b""


class Data(Event):
    """Bytes of a body or of an upgraded stream; every one of them is to be consumed, even after the end."""

    stream: int
    data: bytes
    end: bool


class Trailers(Event):
    """Fields after the body; the half has ended."""

    stream: int
    fields: list[Field]


class Reset(Event):
    """The stream is over in both directions, by the peer's word or because the peer broke its rules."""

    stream: int
    code: int
    text: str


class RoomOpened(Event):
    """Who was told that there is no room may send again."""

    stream: int


class Ping(Event):
    """The peer asks whether we live; the answer is already queued."""

    opaque: bytes


class Pong(Event):
    """The answer to our PING; a relay adds how old its last successful store access is."""

    opaque: bytes
    store_age_ms: int | None


class GoingAway(Event):
    """The peer takes no streams after *last*; those opened later are reset as refused, one event each."""

    last: int
    code: int
    retry_after_ms: int
    text: str


class Control(Event):
    """A document of the other side; :func:`appproxy.wire.control.parse` gives it its type."""

    document: dict[str, Any]
