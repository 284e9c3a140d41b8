"""Who somebody is, once a provider has said so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """A person as a provider vouches for them.

    *issuer* and *subject* together are stable and unique; *user* is the name used in assignments, logs and headers (the
    provider's ``user_claim``); *claims* are those of the ID token and of userinfo.
    """

    issuer: str
    subject: str
    user: str
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Any] = {}
    #: When the person last proved who they are, epoch seconds.
    authenticated_at: int = 0
