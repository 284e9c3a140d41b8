"""The users file of the development identity provider.

::

    [[user]]
    name = "alice"
    password = "alice"
    groups = ["hr-staff"]
    claims = { name = "Alice Ahlers", email = "alice@example.com" }

    [[client]]
    client_id = "relay"
    client_secret = "development"
    redirect_uris = ["https://proxy.localhost:4443/.appproxy/callback"]
    post_logout_redirect_uris = ["https://proxy.localhost:4443/.appproxy/signed-out"]
    frontchannel_logout_uri = "https://proxy.localhost:4443/.appproxy/front-channel-logout"
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import msgspec

from appproxy.config.reading import read_toml
from appproxy.errors import ConfigError

#: What the provider itself says; nobody may say it in ``claims``.
_OWN_CLAIMS = frozenset(["iss", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "auth_time", "sid", "azp"])


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who can sign in."""

    name: str
    password: str
    groups: tuple[str, ...] = ()
    claims: dict[str, Any] = {}

    def __repr__(self) -> str:
        """Without the password."""
        return f"User({self.name!r})"

    def told(self) -> dict[str, Any]:
        """The claims about them; what the file says wins."""
        mail = {"email": self.name, "email_verified": True} if "@" in self.name else {}
        names = {"sub": self.name, "preferred_username": self.name, "name": self.name, "groups": list(self.groups)}
        return {**names, **mail, **self.claims}


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program that may ask who somebody is.  Addresses are compared exactly."""

    client_id: str
    client_secret: str
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...] = ()
    #: Shown in a frame with ``iss`` and ``sid`` when somebody signs out; empty: nowhere.
    frontchannel_logout_uri: str = ""

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Client({self.client_id!r})"


class UsersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    user: tuple[User, ...] = ()
    client: tuple[Client, ...] = ()

    def find_client(self, client_id: str) -> Client | None:
        """The client of that id."""
        return next((client for client in self.client if client.client_id == client_id), None)

    def find_user(self, name: str) -> User | None:
        """The user of that name."""
        return next((user for user in self.user if user.name == name), None)

    def check_password(self, name: str, password: str) -> User | None:
        """The user, if this is their password."""
        user = self.find_user(name)
        right = hmac.compare_digest((user.password if user else "").encode(), password.encode("utf-8", "replace"))
        return user if user is not None and right else None


def read_users(path: Path) -> UsersFile:
    """Read and check the file.

    :raises ConfigError: one line naming what is wrong.
    """
    shown = str(path)
    try:
        users = msgspec.convert(read_toml(path, shown), UsersFile)
    except msgspec.ValidationError as problem:
        raise ConfigError(shown, str(problem)) from None
    if not users.user or not users.client:
        raise ConfigError(shown, "needs at least one [[user]] and one [[client]]")
    for user in users.user:
        if not user.name or not user.password:
            raise ConfigError(shown, "every user needs a name and a password")
        if wrong := _OWN_CLAIMS & set(user.claims):
            raise ConfigError(shown, f"claims of {user.name}: {sorted(wrong)[0]} is said by the provider itself")
    for kind, ids in (("user", [u.name for u in users.user]), ("client", [c.client_id for c in users.client])):
        if len(set(ids)) != len(ids):
            raise ConfigError(shown, f"two entries [[{kind}]] have the same name")
    return users
