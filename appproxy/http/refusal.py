"""What a client is told whose request is none, by whichever version of HTTP it came."""

from __future__ import annotations

from typing import Final

from appproxy.errors import AppproxyError, Side

#: What refusals are called; the others are "bad-request".
_CODES: Final = {
    408: "request-timeout", 414: "target-too-long", 417: "unknown-expectation", 431: "request-head-too-large",
    501: "not-implemented", 505: "version-not-supported",
}  # fmt: skip


class BadRequest(AppproxyError):
    """The client sent something that is not strictly HTTP/1.x, or more of it than is allowed."""

    code = "bad-request"
    side = Side.CLIENT

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        #: What the client is answered before the connection is closed.
        self.status = status  # type: ignore[misc]
        self.code = _CODES.get(status, "bad-request")  # type: ignore[misc]
