"""Programs that use an application without a browser: how they are told that their credential does not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.messages import Field
from appproxy.identity import Identity
from appproxy.relay.access.policy import Decision, StepUp

if TYPE_CHECKING:
    from appproxy.http.cors import CrossOriginRules, Known
    from appproxy.relay.access.rules import Applying
    from appproxy.relay.catalog import Published
    from appproxy.relay.people.sessions import Watcher

#: Where the metadata of a protected resource are, before its path (RFC 9728 section 3.1).
METADATA_PATH = b"/.well-known/oauth-protected-resource"


class Unauthorised(AppproxyError):
    """The program's credential is not good; the text for it says no more (RFC 6750, 3.1).

    :ivar parameters: of the challenge, beside the realm.
    """

    code, status, side, phase = "invalid-token", 401, Side.CLIENT, Phase.SIGN_IN

    def __init__(self, detail: str = "", parameters: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.parameters = {"error": "invalid_token"} if parameters is None else parameters


class OutOfScope(Unauthorised):
    """The credential is good, but not for this."""

    code, status, phase = "insufficient-scope", 403, Phase.POLICY

    def __init__(self, detail: str = "", scopes: Sequence[str] = ()) -> None:
        named = {"scope": " ".join(scopes)} if scopes else {}
        super().__init__(detail, {"error": "insufficient_scope", **named})


class StepUpNeeded(Unauthorised):
    """The user has to sign in again, or in another way, before this is open to them."""

    code, phase = "step-up", Phase.POLICY

    def __init__(self, detail: str, parameters: Mapping[str, str]) -> None:
        super().__init__(detail, parameters)


class Program(Protocol):
    """A program's credential in use."""

    @property
    def identity(self) -> Identity:
        """Whom it stands for."""

    def decide(self, published: Published, applying: Applying | None, now: int) -> Decision:
        """Say whether it may; *applying* are the rules for this request, *now* epoch seconds."""

    def refusal(self, published: Published, decision: Decision, now: int) -> AppproxyError:
        """What to answer where it may not."""

    def watch(self, watcher: Watcher, /) -> None:
        """Tell *watcher* when it is out of force."""

    def unwatch(self, watcher: Watcher, /) -> None:
        """Undo :meth:`watch`."""


def stronger(step_up: StepUp) -> dict[str, str]:
    """What tells a program how its user has to sign in (RFC 9470)."""
    parameters = {
        "error": "insufficient_user_authentication",
        "error_description": "A stronger or more recent sign-in is needed",
    }
    if step_up.acr:
        parameters["acr_values"] = " ".join(step_up.acr)
    if step_up.max_age:
        parameters["max_age"] = str(step_up.max_age)
    return parameters


def challenge(realm: str, parameters: Mapping[str, str]) -> Field:
    """The field that tells a program what is wrong (RFC 6750 section 3)."""
    named = {"realm": realm, **parameters}
    written = ", ".join(f'{name}="{_quoted(value)}"' for name, value in named.items())
    return b"WWW-Authenticate", b"Bearer " + written.encode("ascii", "replace")


def _quoted(text: str) -> str:
    return "".join(each for each in text if " " <= each <= "~").replace("\\", "\\\\").replace('"', '\\"')


def shared(rules: CrossOriginRules, known: Known) -> list[Field]:
    """What lets a script of another site, which may use the application, read an answer of the relay's own."""
    fields = rules.answered((), known)
    if any(name == b"Access-Control-Allow-Origin" for name, _ in fields):
        fields.append((b"Access-Control-Expose-Headers", b"WWW-Authenticate, Retry-After"))
    return fields
