"""How long clients are waited for."""

from __future__ import annotations

import msgspec


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long the front waits for clients, in seconds."""

    #: For the first octet of the first request, and for the whole of any head.
    head: float = 30.0
    #: Between two requests on a kept connection.
    keep_alive: float = 75.0
    #: For the next octet of a request body, while somebody takes it.
    body: float = 60.0
    #: Octets of it that must come in a second, on average since *body* after its beginning; 0: any number.
    body_rate: int = 240
    #: For a client that stopped reading its answer.
    write: float = 120.0
