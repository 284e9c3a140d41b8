"""What heads look like on the wire: msgpack arrays, and what each of their members may be."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

Field = tuple[bytes, bytes]

#: Fields in one head or trailer: five times what browsers and servers send.
MAX_FIELDS: Final = 512

Fields = Annotated[list[Field], Meta(max_length=MAX_FIELDS)]
Name = Annotated[bytes, Meta(min_length=1, max_length=64)]
Short = Annotated[str, Meta(max_length=1024)]


class Standing(msgspec.Struct, array_like=True, gc=False):
    """The part of a request's head that stands from one request of a client to its next, as it is on the wire.

    :ivar host: the external authority that the client named; *scheme* the one that it used.
    :ivar segment: the external URL of the application's segment; empty where it has only one.
    :ivar identity: who asks, for single sign-on; None for pass-through.
    :ivar trace: the W3C trace context to continue.
    """

    fields: Fields
    application: Short
    client: Short = ""
    identity: dict[str, Any] | None = None
    trace: Short = ""
    scheme: Short = "https"
    host: Short = ""
    segment: Short = ""


class Request(msgspec.Struct, array_like=True, gc=False):
    """A request head on the wire: what changes, then the octets of what stands."""

    method: Name
    target: bytes
    request_id: Short
    length: Annotated[int, Meta(ge=0, le=10**18)] | None
    standing: bytes
    affinity: Short = ""


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
