"""What the Kerberos library is asked for and how it refuses, in words that do not need the library itself."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import NamedTuple


class Step(StrEnum):
    """Where a failure happened; the library's numbers mean different things at different steps."""

    #: The user's name, before anything is asked.
    NAME = "name"
    #: The connector's own ticket.
    ACQUIRE = "acquire"
    #: S4U2Self: a ticket to the connector itself, in the user's name.
    IMPERSONATE = "impersonate"
    #: S4U2Proxy: from there, a ticket to the origin.
    DELEGATE = "delegate"
    #: What the origin says to it.
    REPLY = "reply"


class Number(IntEnum):
    """Errors of the protocol (RFC 4120, 7.5.9) and, above 127, of MIT's library, both counted from :attr:`TABLE`."""

    TABLE = -1765328384
    CLIENT_EXPIRED = 1
    CLIENT_UNKNOWN = 6
    SERVER_UNKNOWN = 7
    SERVER_NOT_UNIQUE = 8
    POLICY = 12
    BAD_OPTION = 13
    ENCTYPE = 14
    PADATA = 16
    REVOKED = 18
    KEY_EXPIRED = 23
    PREAUTHENTICATION_FAILED = 24
    MUST_USE_USER_TO_USER = 27
    BAD_INTEGRITY = 31
    TICKET_EXPIRED = 32
    TICKET_NOT_YET_VALID = 33
    NOT_US = 35
    SKEW = 37
    KEY_VERSION = 44
    NO_KEY = 45
    MALFORMED_NAME = 134
    BAD_CONFIG = 136
    REALM_UNKNOWN = 154
    KDC_UNREACHABLE = 156
    NOT_IN_KEYTAB = 181
    NO_CACHE = 195
    BAD_KEYTAB = 213
    #: Of the operating system: no such file, permission denied, a directory.
    NO_FILE = 2
    NO_PERMISSION = 13
    IS_FOLDER = 21


#: Encryption types of RFC 4757: broken, and what Active Directory gives an account whose types nobody set.
RC4 = frozenset({23, 24})


class GssFailed(Exception):
    """The library refused.

    :ivar number: a :class:`Number`, or the library's own.
    :ivar forwardable: at step ``delegate``: whether the connector's own ticket, and the user's evidence,
        could be passed on.
    """

    def __init__(self, step: Step, number: int, text: str) -> None:
        super().__init__(f"{step}: {text}")
        self.step = step
        self.number = number
        self.text = text
        self.forwardable: tuple[bool, bool] | None = None


class Account(NamedTuple):
    """Whose credential the connector has.

    :ivar keytab: a file; empty for a credential that somebody else keeps fresh in *ccache*.
    :ivar ccache: where tickets of the account itself are; in memory with a keytab.
    """

    principal: str
    keytab: str
    ccache: str


class UserName(NamedTuple):
    """A user as the KDC is asked for them; *enterprise*: by a name that it looks up, ``name@suffix@REALM``."""

    text: str
    enterprise: bool


#: What the library has to be told for delegation to work, whatever ``krb5.conf`` says.
OWN_CONFIG = Path(__file__).parent / "krb5.conf"
SYSTEM_CONFIG = Path("/etc/krb5.conf")


def block_default_credentials(environ: MutableMapping[str, str], config: Sequence[Path]) -> None:
    """Leave the library nothing to find by itself: it falls back silently on the process's own credentials.

    To be called before it is first used, and once: it reads its environment again and again.

    :param config: ``krb5.conf`` files, the strongest first.
    """
    environ["KRB5_CONFIG"] = ":".join(map(str, config))
    environ["KRB5CCNAME"] = "MEMORY:none"
    environ["KRB5_CLIENT_KTNAME"] = environ["KRB5_KTNAME"] = "FILE:/nonexistent"
