"""All of the relay's authorities: one issues, every one is trusted, so that one can take over from another.

A change of authority is three steps, each of which leaves everybody connected: a new authority is added and connectors
learn to trust it; it is made the one that issues, and connectors renew their certificates; the old one is removed when
nobody has a certificate of it any more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from appproxy.errors import AppproxyError
from appproxy.relay.connectors.authority import CONNECTOR_DAYS, DAY, Authority, make_authority
from appproxy.store import connectors, feed, secrets
from appproxy.store.interface import Database

#: The secret that holds the authorities' keys and certificates.
AUTHORITY_SECRET = "connector-authority"  # noqa: S105
#: Characters of a fingerprint that name an authority.
SHOWN_FINGERPRINT = 12
#: More than these overlap by mistake only.
MAX_AUTHORITIES = 4

#: Other relays may go on issuing for so long, until they have heard.
HEARD_SECONDS = 2

#: Text before PEM is not read by anybody else: when the one that issues began to, in epoch seconds.
_SINCE = re.compile(rb"\Aissues-from: (\d+)\n")
_MEMBER = re.compile(rb"-----BEGIN PRIVATE KEY-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class CannotChange(AppproxyError):
    """The authorities stay as they are; the text says why."""

    code, status = "authority-not-changed", 409


class Authorities:
    """Those in force; whoever holds this sees every change.

    :ivar issuing: signs all that is issued from now on.
    :ivar since: when it began to, in epoch seconds; what was issued before comes from another.
    :ivar members: all that are trusted, the issuing one first.
    :ivar trusted_pem: their certificates.
    :ivar version: grows with every change.
    """

    def __init__(self, members: Sequence[Authority], since: int = 0) -> None:
        self.version = 0
        self._take(members, since)

    @classmethod
    def load(cls, octets: bytes) -> Authorities:
        """Read what the store keeps.

        :raises ValueError: it is something else.
        """
        return cls(*_read(octets))

    def replace(self, octets: bytes) -> bool:
        """Put in force what the store keeps now; returns whether anything is different.

        :raises ValueError: it is something else.
        """
        before = self.trusted_pem
        self._take(*_read(octets))
        self.version += self.trusted_pem != before
        return self.trusted_pem != before

    def _take(self, members: Sequence[Authority], since: int) -> None:
        self.members = tuple(members)
        self.issuing = self.members[0]
        self.since = since
        self.trusted_pem = "".join(member.pem.decode("ascii") for member in self.members)

    def told(self) -> dict[str, str]:
        """The document that tells a connector whom to trust, and who issues."""
        return {"type": "trust", "authorities": self.trusted_pem, "issuer": self.issuing.fingerprint.hex()}


class Holders(NamedTuple):
    """One authority as it is shown to administrators; *connectors* have a certificate of it."""

    authority: Authority
    connectors: int


def name_of(authority: Authority) -> str:
    """How administrators call it: the beginning of its fingerprint."""
    return authority.fingerprint.hex()[:SHOWN_FINGERPRINT]


def holders(db: Database, now: int) -> list[Holders]:
    """All authorities, the issuing one first, each with how many connectors depend on it.

    Certificates older than the issuing authority's time may be from any of the others.
    """
    members, since = _read(_stored(db))
    old = new = 0
    for record in connectors.list_(db):
        if record.revoked is None and record.not_after > now:
            if record.not_after - CONNECTOR_DAYS * DAY < since:
                old += 1
            else:
                new += 1
    return [Holders(members[0], new), *[Holders(member, old) for member in members[1:]]]


def add(db: Database, now: int) -> Authority:
    """Make one more authority, trusted from now on, that does not issue yet."""
    members, since = _read(_stored(db))
    if len(members) >= MAX_AUTHORITIES:
        raise CannotChange(f"there are {len(members)} authorities; remove those that are not needed any more")
    added = Authority.load(make_authority(now))
    _keep(db, [*members, added], since)
    return added


def use(db: Database, name: str, now: int) -> Authority:
    """Let an authority issue from now on; those before it stay trusted."""
    members, _ = _read(_stored(db))
    chosen = _find(members, name)
    if chosen is members[0]:
        raise CannotChange(f"authority {name} issues already")
    _keep(db, [chosen, *[member for member in members if member is not chosen]], now + HEARD_SECONDS)
    return chosen


def remove(db: Database, name: str, now: int, force: bool = False) -> Authority:
    """Trust an authority no more.

    :param force: although connectors have certificates of it; they have to enrol again.
    """
    members, since = _read(_stored(db))
    chosen = _find(members, name)
    if chosen is members[0]:
        raise CannotChange(f"authority {name} issues; let another one issue first: appproxy authority use ID")
    [depending] = [each.connectors for each in holders(db, now) if name_of(each.authority) == name_of(chosen)]
    if depending and not force:
        raise CannotChange(
            f"{depending} connectors have not renewed their certificates since another authority issues; wait until "
            "they have (they do while they are connected), or give --force and enrol them again"
        )
    _keep(db, [member for member in members if member is not chosen], since)
    return chosen


def _find(members: Sequence[Authority], name: str) -> Authority:
    for member in members:
        if name_of(member) == name:
            return member
    raise CannotChange(f"there is no authority {name}; see: appproxy authority list")


def _stored(db: Database) -> bytes:
    return secrets.find(db, AUTHORITY_SECRET) or b""


def _keep(db: Database, members: Sequence[Authority], since: int) -> None:
    secrets.put(db, AUTHORITY_SECRET, b"issues-from: %d\n" % since + b"".join(member.whole() for member in members))
    feed.append(db, feed.AUTHORITY, AUTHORITY_SECRET)


def _read(octets: bytes) -> tuple[list[Authority], int]:
    members = [Authority.load(found[0]) for found in _MEMBER.finditer(octets)]
    if not members:
        raise ValueError("there is no authority in it")
    since = _SINCE.match(octets)
    return members, int(since[1]) if since else 0
