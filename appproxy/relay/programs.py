"""Programs that use an application without a browser: how they are told that their credential is not good."""

from __future__ import annotations

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.messages import Field


class Unauthorised(AppproxyError):
    """The program's credential is not good; the text for it says no more (RFC 6750, 3.1)."""

    code, status, side, phase = "invalid-token", 401, Side.CLIENT, Phase.SIGN_IN
    challenge = b'Bearer error="invalid_token"'

    @property
    def fields(self) -> list[Field]:
        """What the answer says beside the page."""
        return [(b"WWW-Authenticate", self.challenge)]


class OutOfScope(Unauthorised):
    """The credential is good, but not for this."""

    code, status, phase = "insufficient-scope", 403, Phase.POLICY
    challenge = b'Bearer error="insufficient_scope"'
