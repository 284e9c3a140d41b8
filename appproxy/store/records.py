"""The rows, as values.  Times are whole epoch seconds given by the caller."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from appproxy.identity import Identity


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One sign-in at one host.  *handle_hash* is all the store knows of the cookie."""

    handle_hash: bytes
    #: The relay's own session that this one was made from; None for that one itself.
    parent: bytes | None = None
    host: str
    #: Empty for the relay's own session.
    application: str = ""
    provider: str
    identity: Identity
    created: int
    last_seen: int
    idle_seconds: int
    until: int
    #: Provider tokens, encrypted by the relay.
    sealed: bytes = b""
    #: The provider's ``sid``.
    provider_session: str = ""
    #: When the sign-in is to be refreshed (0: never), from when requests wait for that (0: they do not), and until when
    #: it may go on without.  A session made from another has its parent's.
    refresh_due: int = 0
    refresh_wait: int = 0
    refresh_deadline: int = 0
    #: Address and program of whoever signed in, for its owner to recognise it.
    client: str = ""
    agent: str = ""

    def __repr__(self) -> str:
        """Without anything that is secret."""
        return f"SessionRecord({self.handle_hash.hex()[:8]}, {self.host!r}, {self.identity.user!r})"

    def is_live(self, now: int) -> bool:
        """Whether neither lifetime has run out."""
        return now < self.until and now < self.last_seen + self.idle_seconds


class TokenRecord(NamedTuple):
    """A one-time enrolment token."""

    hash: bytes
    group: str
    issued: int
    expires: int
    used: int | None


class ServiceTokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A program's token.  No *applications* or no *paths* are all of them."""

    id: str
    hash: bytes
    name: str
    #: Who answers for it.
    owner: str
    applications: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    created: int
    expires: int
    last_used: int = 0
    revoked: int | None = None

    def __repr__(self) -> str:
        """Without the hash."""
        return f"ServiceTokenRecord({self.id!r}, {self.name!r})"


class ConnectorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An enrolled connector.

    *serial* is that of its current certificate; *generation* counts certificates, so that two holders of one identity
    are noticed; *boot* and *epoch* name the process that speaks for it now.
    """

    id: str
    name: str
    group: str
    serial: str
    not_after: int
    enrolled: int
    generation: int = 1
    revoked: int | None = None
    boot: str = ""
    epoch: int = 0


class Change(NamedTuple):
    """One entry of the feed: *key* of *kind* is not what it was."""

    seq: int
    kind: str
    key: str
