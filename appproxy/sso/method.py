"""What every single sign-on method does, and which one an application uses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.messages import Field


class SignOnFailed(AppproxyError):
    """The connector could not tell the origin who the user is."""

    code, status, side, phase = "sso-failed", 502, Side.CONNECTOR, Phase.SSO


class Method(ABC):
    """How one application's origin learns who asks."""

    __slots__ = ()

    #: What :meth:`sign_on` makes of the same identity and fields stays the same, so that it may be used again.
    lasting = False

    @abstractmethod
    async def sign_on(self, identity: Mapping[str, Any] | None, fields: list[Field]) -> list[Field]:
        """The fields of a request, made acceptable to the origin; what only this method may say is taken out first.

        :param identity: ``user``, ``groups`` and ``claims`` as the relay vouches for them; None for nobody.
        :raises SignOnFailed: it cannot be said.
        """

    def clean_trailers(self, trailers: Sequence[Field]) -> Sequence[Field]:
        """The request's trailers, without what only this method may say."""
        return trailers
