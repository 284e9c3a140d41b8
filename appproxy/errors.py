"""What can go wrong, each with a name, a code, a side and a phase.

Three roots: :class:`AppproxyError` for everything with a public code, :class:`ConfigError` for what an administrator
wrote, :class:`ProtocolViolation` for what a peer sent.  The docstring of a class is the sentence an operator reads.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Side(StrEnum):
    """Who failed: the four stations of a request."""

    CLIENT = "client"
    RELAY = "relay"
    CONNECTOR = "connector"
    ORIGIN = "origin"


class Phase(StrEnum):
    """Where in the journey it failed."""

    REQUEST = "request"
    SIGN_IN = "sign-in"
    POLICY = "policy"
    CHANNEL = "channel"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    SSO = "sso"
    FIRST_BYTE = "first byte"
    BODY = "body"


class AppproxyError(Exception):
    """Something failed; the subclass says what.

    :ivar detail: for the operator's log only, never for the client.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    side: ClassVar[Side] = Side.RELAY
    phase: ClassVar[Phase] = Phase.REQUEST

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or type(self).__doc__ or self.code)
        self.detail = detail


class ConfigError(Exception):
    """A setting, a file or an argument is wrong: one line naming it and what to do.

    :param where: the file, key or argument, for instance ``relay.toml: listen.clients[0]``.
    :param problem: what is wrong with it, and the remedy, as one sentence.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}" if where else problem)
        self.where = where
        self.problem = problem


class ProtocolViolation(Exception):
    """The peer broke the protocol; *code* is what the peer is told."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
