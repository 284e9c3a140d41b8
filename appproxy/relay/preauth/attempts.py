"""What travels with a browser during a sign-in, sealed: the wish, the attempt and the ticket."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote

import msgspec

from appproxy.relay.access.policy import StepUp
from appproxy.relay.people.sealing import MAX_SEALED_CHARACTERS, Sealer, Unsealable
from appproxy.relay.preauth.cookies import ATTEMPT, FRAGMENT, expire_cookie, set_cookie
from appproxy.relay.preauth.failures import SignInExpired, SignInMalformed, SignInUnknown

#: A browser with more sign-ins under way than this loses the oldest, so that its cookies stay small.
MAX_ATTEMPTS = 5
#: From the relay's host to the application's host, one redirect.
TICKET_SECONDS = 30
#: Cookies of earlier attempts that are looked at; whoever sends more has made them up.
_MAX_LOOKED_AT = 50
#: A fragment as the script encodes it, and as browsers have it in addresses.
_ENCODED = re.compile(rb"[A-Za-z0-9_.!~*'()%-]{1,3072}")
_FRAGMENT = re.compile(r"[!-~]{1,1024}")


class Wish(msgspec.Struct, array_like=True, frozen=True):
    """Somebody wants to *target* of an application, and is to come back with a session."""

    application: str
    scheme: str
    authority: str
    target: bytes
    #: Hash of the cookie that binds it to the browser.
    binding: bytes
    until: int
    #: What a request that was kept for it is found by; empty for none.
    kept: bytes = b""
    #: It is for a frame: whoever signs in does so in a window of its own.
    framed: bool = False
    #: How the person has to sign in, signed in or not.
    step_up: StepUp | None = None


class Attempt(msgspec.Struct, array_like=True, frozen=True):
    """One redirect to a provider.  *wish* is None for a sign-in to the relay's own pages."""

    state_hash: bytes
    nonce: str
    verifier: str
    provider: str
    until: int
    wish: Wish | None = None

    @property
    def challenge(self) -> str:
        """The PKCE code challenge, method S256 (RFC 7636 section 4.2)."""
        digest = hashlib.sha256(self.verifier.encode("ascii")).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """A provider's answer that came in a form, on its way to the address where cookies come along."""

    parameters: dict[str, str]
    until: int


class Ticket(msgspec.Struct, array_like=True, frozen=True):
    """The way from the relay's session *root* (its handle's hash) to one on the application's host."""

    id: bytes
    root: bytes
    wish: Wish
    until: int


def hash_binding(value: bytes) -> bytes:
    """What a wish knows of the binding cookie."""
    return hashlib.sha256(value).digest()


def random_text(random: Callable[[int], bytes]) -> str:
    """256 unpredictable bits as text for an address or a cookie."""
    return urlsafe_b64encode(random(32)).rstrip(b"=").decode("ascii")


class Attempts:
    """The attempts of browsers, kept by the browsers themselves in sealed cookies.

    :param seconds: how long a sign-in may take.
    """

    def __init__(
        self, sealer: Sealer, epoch: Callable[[], int], random: Callable[[int], bytes], seconds: int = 600
    ) -> None:
        self._sealer = sealer
        self._epoch = epoch
        self._random = random
        self._seconds = seconds

    def begin(
        self, provider: str, wish: Wish | None, cookies: Mapping[bytes, Sequence[bytes]]
    ) -> tuple[Attempt, str, list[tuple[bytes, bytes]]]:
        """Begin an attempt.

        :param cookies: the relay's cookies of this browser.
        :return: it, its state for the provider, and the cookies to set.
        """
        state = random_text(self._random)
        attempt = Attempt(
            hashlib.sha256(state.encode()).digest(),
            random_text(self._random),
            random_text(self._random),
            provider,
            self._epoch() + self._seconds,
            wish,
        )
        surplus = self._surplus(cookies)
        surplus += [name for name in (FRAGMENT + each.removeprefix(ATTEMPT) for each in surplus) if name in cookies]
        fields = [expire_cookie(name) for name in surplus]
        sealed = self._sealer.seal("attempt", attempt).encode("ascii")
        fields.append(set_cookie(_cookie_name(state), sealed, max_age=self._seconds))
        return attempt, state, fields

    def _surplus(self, cookies: Mapping[bytes, Sequence[bytes]]) -> list[bytes]:
        """The cookies that must go before another is set: unreadable, expired, and the oldest beyond the limit."""
        now, alive, surplus = self._epoch(), [], []
        for name in [name for name in cookies if name.startswith(ATTEMPT)][:_MAX_LOOKED_AT]:
            try:
                until = self._sealer.open("attempt", cookies[name][0], Attempt).until
            except Unsealable:
                until = 0
            if until > now:
                alive.append((until, name))
            else:
                surplus.append(name)
        alive.sort()
        return surplus + [name for _, name in alive[: max(0, len(alive) - (MAX_ATTEMPTS - 1))]]

    def find(self, state: str, cookies: Mapping[bytes, Sequence[bytes]]) -> Attempt:
        """The attempt of this browser that has this state.

        :raises SignInUnknown: this browser has none; nothing has been used up.
        :raises SignInExpired: it took too long.
        """
        state_hash = hashlib.sha256(state.encode("utf-8", "surrogatepass")).digest()
        for value in cookies.get(_cookie_name(state), ())[:_MAX_LOOKED_AT]:
            try:
                attempt = self._sealer.open("attempt", value, Attempt)
            except Unsealable:
                continue
            if hmac.compare_digest(attempt.state_hash, state_hash):
                if attempt.until <= self._epoch():
                    raise SignInExpired
                return attempt
        raise SignInUnknown

    def end(self, state: str, cookies: Mapping[bytes, Sequence[bytes]]) -> list[tuple[bytes, bytes]]:
        """The fields that take the attempt's cookies away."""
        names = [_cookie_name(state), fragment_cookie(state)]
        return [expire_cookie(name) for name in names if name in cookies or name == names[0]]

    @staticmethod
    def fragment(state: str, cookies: Mapping[bytes, Sequence[bytes]]) -> str:
        """What stood after the # of the address that was wanted, as it stood there; empty if nothing is known."""
        value = cookies.get(fragment_cookie(state), (b"",))[0]
        if not _ENCODED.fullmatch(value):
            return ""
        fragment = unquote(value.decode("ascii"), errors="replace")
        return fragment if _FRAGMENT.fullmatch(fragment) else ""

    def seal_wish(self, wish: Wish) -> str:
        """Seal *wish* for the address of the relay's sign-in."""
        return self._sealer.seal("wish", wish)

    def open_wish(self, text: str) -> Wish:
        """:raises SignInMalformed: not ours. :raises SignInExpired: too old."""
        try:
            wish = self._sealer.open("wish", text, Wish)
        except Unsealable:
            raise SignInMalformed from None
        if wish.until <= self._epoch():
            raise SignInExpired
        return wish

    def seal_answer(self, parameters: dict[str, str]) -> str:
        """Seal a provider's answer for one redirect."""
        sealed = self._sealer.seal("answer", Answer(parameters, self._epoch() + TICKET_SECONDS))
        if len(sealed) > MAX_SEALED_CHARACTERS:
            raise SignInMalformed("a provider's answer that is too long")
        return sealed

    def open_answer(self, text: str) -> dict[str, str]:
        """:raises SignInMalformed: not ours. :raises SignInExpired: too old."""
        try:
            answer = self._sealer.open("answer", text, Answer)
        except Unsealable:
            raise SignInMalformed from None
        if answer.until <= self._epoch():
            raise SignInExpired
        return answer.parameters

    def make_wish(
        self,
        application: str,
        scheme: str,
        authority: str,
        target: bytes,
        binding: bytes,
        kept: bytes = b"",
        framed: bool = False,
        step_up: StepUp | None = None,
    ) -> Wish:
        """A wish that holds as long as a sign-in may take; *binding* is the cookie's value."""
        until = self._epoch() + self._seconds
        return Wish(application, scheme, authority, target, hash_binding(binding), until, kept, framed, step_up)

    def seal_ticket(self, root: bytes, wish: Wish) -> str:
        """Issue a ticket for the holder of the session with handle hash *root*."""
        return self._sealer.seal("ticket", Ticket(self._random(32), root, wish, self._epoch() + TICKET_SECONDS))

    def open_ticket(self, text: str) -> Ticket:
        """Read a ticket, whatever its age.

        :raises SignInMalformed: not ours.
        """
        try:
            return self._sealer.open("ticket", text, Ticket)
        except Unsealable:
            raise SignInMalformed from None


def fragment_cookie(state: str) -> bytes:
    """The name of the cookie that a fragment waits in."""
    return FRAGMENT + _cookie_name(state).removeprefix(ATTEMPT)


def _cookie_name(state: str) -> bytes:
    return ATTEMPT + hashlib.sha256(b"name" + state.encode("utf-8", "surrogatepass")).hexdigest()[:12].encode()
