"""How much of a message is read."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a message, besides its body, is believed to be honest.  Sizes in bytes."""

    #: First line and fields together; more is 431.
    head: int = 64 * 1024
    #: Field lines in one head; more is 431.
    fields: int = 200
    #: The request target; more is 414.
    target: int = 32 * 1024
    #: Trailer section of a chunked body.
    trailers: int = 16 * 1024
    #: Rest of a request body that is read and dropped so that an early answered connection can live on.
    drain: int = 64 * 1024
    #: Interim (1xx) answers to one request; an origin that sends more is hostile.
    informational: int = 16
