"""Which account a user is, and which service an origin: names that are fit to be given to the Kerberos library.

Users' names come from the cloud and are not believed: an empty realm crashes the library, ``/`` and ``\\`` have a
meaning in it, and a realm in a name would choose whom to ask.  What is not plainly a name is refused here, before the
library is called.  The realm always comes from settings.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from appproxy.applications import NAMED_IDENTITIES
from appproxy.expressions import Value
from appproxy.http.addresses import InternalURL
from appproxy.sso.asking import Step, UserName
from appproxy.sso.causes import NAME_EMPTY, NAME_REFUSED, USER_IS_CONNECTOR, KerberosFailed

#: sAMAccountName has 256 characters at most, each half of a user principal name 1,024 in theory; nobody's is that long.
MAX_NAME: Final = 256
_SUFFIX = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
#: Means something to the library, or never stands in the name of an account.
_FORBIDDEN: Final = frozenset('/\\@"[]:;|=,+*?<>')
#: Identities that are the part before the ``@`` of another.
_USER_PARTS: Final = frozenset({"userPrincipalUsername", "onPremisesUserPrincipalUsername"})
_WHOLE_NAMES: Final = frozenset({"userPrincipalName", "onPremisesUserPrincipalName"})


def account_of(kind: str, told: Value, realm: str, connector: str) -> UserName:
    """The account of a user.

    :param kind: the application's ``identity``; *told*: what its expression makes of the user.
    :param realm: of accounts.
    :param connector: the connector's own principal, which nobody may be.
    :raises KerberosFailed: there is no such name, or it is none.
    """
    value = told[0] if isinstance(told, tuple) and len(told) == 1 else told
    if not value:
        raise KerberosFailed(NAME_EMPTY, f"nothing under {kind}", Step.NAME)
    if not isinstance(value, str):
        raise _refused(kind, "is several names")
    if kind in _USER_PARTS:
        name, sign, suffix = value.partition("@")
        if sign and not _SUFFIX.fullmatch(suffix):
            raise _refused(kind, "has no domain after the @")
        user = _account(name, realm, kind)
    elif kind in _WHOLE_NAMES or (kind not in NAMED_IDENTITIES and "@" in value):
        user = _enterprise(value, realm, kind)
    else:
        user = _account(value, realm, kind)
    if user.text.lower() in (connector.lower(), f"{connector}@{realm}".lower()):
        raise KerberosFailed(USER_IS_CONNECTOR, kind, Step.NAME)
    return user


def _enterprise(value: str, realm: str, what: str) -> UserName:
    """``name@suffix``: the KDC looks it up, whichever suffix it has."""
    name, _, suffix = value.partition("@")
    _check(name, what)
    if len(value) > MAX_NAME or not _SUFFIX.fullmatch(suffix):
        raise _refused(what, "is no name@domain")
    return UserName(f"{name}@{suffix}@{realm}", True)


def _account(name: str, realm: str, what: str) -> UserName:
    _check(name, what)
    return UserName(f"{name}@{realm}", False)


def _check(name: str, what: str) -> None:
    if not name:
        raise _refused(what, "is empty before the @")
    if len(name) > MAX_NAME:
        raise _refused(what, f"has more than {MAX_NAME} characters")
    if name != name.strip() or not _FORBIDDEN.isdisjoint(name):
        raise _refused(what, "has characters that no account has")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in name):
        raise _refused(what, "has control characters")


#: Unicode's control, format, surrogate, private and unassigned characters, and the borders of lines.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _refused(what: str, why: str) -> KerberosFailed:
    return KerberosFailed(NAME_REFUSED, f"{what} {why}", Step.NAME)


def service_of(template: str, internal: InternalURL, realm: str) -> str:
    """The service principal name of an origin, with its realm; settings only have a say in it, never a client.

    :param template: with ``{host}`` and ``{port}``; empty for ``HTTP/{host}``.
    """
    spn = (template or "HTTP/{host}").replace("{host}", internal.host).replace("{port}", str(internal.port))
    return spn if "@" in spn else f"{spn}@{realm}"
