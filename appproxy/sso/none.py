"""No single sign-on: the origin asks for itself, or does not care."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appproxy.http.messages import Field
from appproxy.sso.method import Method


class NoSignOn(Method):
    """Leaves requests as they are."""

    __slots__ = ()

    lasting = True

    async def sign_on(self, identity: Mapping[str, Any] | None, fields: list[Field]) -> list[Field]:
        """The fields themselves."""
        return fields
