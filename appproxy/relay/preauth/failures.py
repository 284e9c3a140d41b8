"""How a sign-in fails, each with its public code and status."""

from __future__ import annotations

from enum import StrEnum

from appproxy.errors import AppproxyError, Phase, Side


class Flaw(StrEnum):
    """What is wrong with a token: the ``flaw`` of log events, one for each check."""

    FORMAT = "format"
    CRITICAL = "critical-header"
    TYPE = "type"
    ALGORITHM = "algorithm"
    KEY = "unknown-key"
    SIGNATURE = "signature"
    TEXT = "text"
    ISSUER = "issuer"
    TENANT = "tenant"
    KEY_ISSUER = "key-issuer"
    AUDIENCE = "audience"
    PARTY = "authorized-party"
    TIME = "time"
    EXPIRED = "expired"
    FUTURE = "future"
    NOT_YET = "not-yet"
    NONCE = "nonce"
    SUBJECT = "subject"
    EVENTS = "events"
    BOUND = "bound-to-a-key"
    ACCESS_TOKEN = "access-token"  # noqa: S105 - a name, no token
    TOKEN_TYPE = "token-type"  # noqa: S105 - a name, no token
    USER_INFORMATION = "user-information"
    REFRESHED = "refreshed"
    REPLAYED = "replayed"


class SignInFailed(AppproxyError):
    """The sign-in could not be finished."""

    code, status, phase = "sign-in-failed", 502, Phase.SIGN_IN


class SignInUnknown(SignInFailed):
    """The sign-in was not begun by this browser, was already used, or its cookie is gone."""

    code, status = "sign-in-unknown", 400


class SignInExpired(SignInFailed):
    """The sign-in took longer than it may; it must be begun anew."""

    code, status = "sign-in-expired", 400


class SignInMalformed(SignInFailed):
    """A sign-in address that the relay cannot have made, or that was changed on its way."""

    code, status = "sign-in-malformed", 400


class SignInLoops(SignInFailed):
    """The browser comes back from sign-in again and again without its session; does it refuse the cookie?"""

    code, status = "sign-in-loops", 403


class FormNotKept(SignInFailed):
    """A form came without the session's cookie and cannot wait; is one of another site to be expected at this path?"""

    code, status, side = "form-not-kept", 401, Side.CLIENT


class SignInDeclined(SignInFailed):
    """The provider refused to sign the person in."""

    code, status = "sign-in-declined", 403


class SignInTooWeak(SignInFailed):
    """The provider did not sign the person in as strongly, or as recently, as a rule of the application asks."""

    code, status = "sign-in-too-weak", 403


class GrantRefused(SignInDeclined):
    """The provider does not take the code or refresh token: used, expired, or nobody's any more."""


class SignInUnavailable(SignInFailed):
    """Sign-ins cannot be recorded at the moment because the store is away."""

    code, status = "sign-in-unavailable", 503


class ProviderUnreachable(SignInFailed):
    """The provider does not answer, or not with what its protocol promises."""

    code, status = "provider-unreachable", 502


class ProviderMisconfigured(SignInFailed):
    """The provider's metadata do not belong to the configured issuer, or name addresses that are not acceptable."""

    code, status = "provider-misconfigured", 502


class TokenRefused(SignInFailed):
    """The provider's token or user information did not stand up to its checks; the log has the flaw."""

    code, status = "token-refused", 502

    def __init__(self, flaw: Flaw, detail: str) -> None:
        super().__init__(f"{flaw}: {detail}")
        self.flaw = flaw


class SignInEnded(SignInFailed):
    """The provider does not refresh this sign-in any more: the account is disabled, or the person signed out there."""

    code, status = "sign-in-ended", 401


class IdentityRefused(SignInFailed):
    """The provider vouches for somebody, but not by a name that may be used here."""

    code, status = "identity-refused", 403
