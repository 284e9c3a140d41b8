"""The relay's own pages and errors: HTML for people, ``application/problem+json`` for programs, never internals."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from appproxy.errors import AppproxyError, Phase, Side
from appproxy.sso.causes import CAUSES as KERBEROS

if TYPE_CHECKING:
    from appproxy.http.messages import Field
    from appproxy.relay.exchange import Exchange

#: On every answer that the relay makes up itself (the addresses of a sign-in are nobody else's business).
OWN_FIELDS: tuple[tuple[bytes, bytes], ...] = (
    (b"Cache-Control", b"no-store"),
    (b"Vary", b"Cookie"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
)
_BARE_POLICY = b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"


class Words(NamedTuple):
    """What a person is told."""

    title: str
    sentence: str


_BY_CODE = {
    "sign-in-first": Words("Please sign in first", "What you sent is too large to wait for that. Then send it again."),
    "form-not-kept": Words(
        "Your form was not sent on",
        "It is another site's, or cannot wait for a sign-in. Open the application first.",
    ),
    "sign-in-unknown": Words("This sign-in cannot be finished", "It was begun in another browser or is already used."),
    "sign-in-expired": Words("This sign-in took too long", "For your safety a sign-in must be finished soon."),
    "sign-in-malformed": Words("This address is not valid", "A sign-in cannot be begun or finished with it."),
    "sign-in-loops": Words("Signing in does not succeed", "Your browser comes back without its session cookie."),
    "sign-in-declined": Words("You were not signed in", "The identity provider did not confirm who you are."),
    "sign-in-too-weak": Words(
        "This needs another sign-in", "The identity provider did not sign you in as this page asks for."
    ),
    "certificate-missing": Words(
        "This needs your certificate", "Your browser has shown none that can be used. Close it and try again."
    ),
    "misdirected": Words("Please try again", "Your browser has used a connection that was made for something else."),
    "step-up": Words("This needs another sign-in", "Sign in again, as the application asks for here."),
    "sign-in-unavailable": Words("Signing in is not possible now", "Please try again in a minute."),
    "provider-unreachable": Words("The identity provider does not answer", "Please try again in a minute."),
    "provider-misconfigured": Words("Signing in is not set up right", "Your administrator can find out why."),
    "token-refused": Words("You were not signed in", "The identity provider's answer did not stand up to its checks."),
    "maintenance": Words("This application is being worked on", "It will be back. Please try again in a while."),
    "identity-refused": Words("You cannot be signed in", "The identity provider did not tell a name that can be used."),
}
_BY_CODE |= {cause.code: Words(cause.title, cause.sentence) for cause in KERBEROS.values()}
_BY_STATUS = {
    400: Words("This request is not valid", "It cannot be understood in one way only, so it was not passed on."),
    401: Words("You are not signed in", "Open the application's page to sign in."),
    403: Words("You may not open this", "Your account is not assigned to this application."),
    404: Words("There is nothing here", "The address may be mistyped, or the application is not published."),
    405: Words("That cannot be done here", "This address does not take such a request."),
    413: Words("The request is too large", "The application does not accept that much."),
    429: Words("Too many requests", "Please wait a moment and try again."),
    500: Words("Something went wrong here", "It is not your fault. Your administrator can find out more."),
    502: Words("The application cannot be reached", "The connection to it failed. Please try again in a minute."),
    503: Words("The application is not available", "Nothing can reach it at the moment. Please try again in a minute."),
    504: Words("The application takes too long", "It accepted the request but did not answer in time."),
    508: Words("The application leads back here", "Its address is set up wrong. Your administrator can mend it."),
}


def words_for(code: str, status: int) -> Words:
    """What to tell a person about a failure."""
    words = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if words is None:
        try:
            words = Words(HTTPStatus(status).phrase, _BY_STATUS[500].sentence)
        except ValueError:
            words = _BY_STATUS[500]
    return words


class Rendering:
    """Writes pages and answers with them.

    :param epoch: epoch seconds, shown on error pages.
    """

    def __init__(self, epoch: Callable[[], int]) -> None:
        self._epoch = epoch
        loader = PackageLoader("appproxy.relay", "pages")
        self._templates = Environment(loader=loader, autoescape=True, trim_blocks=True, auto_reload=False)
        style = loader.get_source(self._templates, "style.css")[0]
        script = loader.get_source(self._templates, "sign-in.js")[0]
        # Markup: style sheet and script are not escaped; they are ours and hold nothing of anybody else.
        self._templates.globals["style"] = Markup(style)  # noqa: S704
        self._templates.globals["script"] = Markup(script)  # noqa: S704
        self._policy = b"default-src 'none'; base-uri 'none'; style-src 'sha256-%s'" % _digest(style)
        self._script = b"; script-src 'sha256-%s'" % _digest(script)

    def page(
        self,
        exchange: Exchange,
        status: int,
        template: str,
        fields: Sequence[Field] = (),
        /,
        *,
        form: bool = False,
        script: bool = False,
        frames: Sequence[str] = (),
        **values: Any,
    ) -> None:
        """Answer with the page *template* made of *values*.

        :param form: it holds a form.  Chromium applies form-action to every redirect after one: such a page has none.
        :param script: it holds the one script that there is.
        :param frames: origins whose pages may have it in a frame.
        """
        body = self._templates.get_template(template + ".html").render(values).encode()
        policy = self._policy + b"; frame-ancestors " + (" ".join(frames).encode("ascii") or b"'none'")
        policy += (b"" if form else b"; form-action 'none'") + (self._script if script else b"")
        own = (*OWN_FIELDS, (b"Content-Security-Policy", policy))
        exchange.answer(status, [(b"Content-Type", b"text/html; charset=utf-8"), *own, *fields], body)

    def redirect(self, exchange: Exchange, location: bytes, fields: Sequence[Field] = ()) -> None:
        """Send a person elsewhere: 302 after a GET or HEAD, else 303."""
        status = 302 if exchange.head.method in (b"GET", b"HEAD") else 303
        exchange.answer(
            status,
            [(b"Location", location), *OWN_FIELDS, (b"Content-Security-Policy", _BARE_POLICY), *fields],
        )

    def fail(
        self,
        exchange: Exchange,
        error: AppproxyError,
        fields: Sequence[Field] = (),
        *,
        reasons: Sequence[str] = (),
        link: str = "",
        link_text: str = "Try again",
    ) -> None:
        """Answer with what went wrong; *error*'s detail stays here.

        :param link: an address of ours that offers a way on.
        """
        self.explain(
            exchange, error.status, error.code, error.side, error.phase, fields, reasons, link=link, link_text=link_text
        )

    def explain(
        self,
        exchange: Exchange,
        status: int,
        code: str,
        side: Side,
        phase: Phase,
        fields: Sequence[Field] = (),
        reasons: Sequence[str] = (),
        *,
        link: str = "",
        link_text: str = "Try again",
    ) -> None:
        """Answer an error that is no exception: a page where a person looks, else a problem document (RFC 9457)."""
        words = words_for(code, status)
        told = self._told(words.title, status, code, side, phase, exchange.request_id)
        if reasons:
            told["reasons"] = list(reasons)
        if exchange.navigation:
            self.page(
                exchange, status, "error", fields, sentence=words.sentence, link=link, link_text=link_text, **told
            )
            return
        body = msgspec.json.encode(told)
        own = (*OWN_FIELDS, (b"Content-Security-Policy", _BARE_POLICY))
        exchange.answer(status, [(b"Content-Type", b"application/problem+json"), *own, *fields], body)

    def refusal(self, error: AppproxyError, request_id: str) -> tuple[list[Field], bytes]:
        """Fields and body of the answer to what was no request; its detail is ours and says what was wrong with it."""
        told = self._told(error.detail, error.status, error.code, error.side, error.phase, request_id)
        return [(b"Content-Type", b"application/problem+json"), *OWN_FIELDS], msgspec.json.encode(told)

    def _told(self, title: str, status: int, code: str, side: Side, phase: Phase, request_id: str) -> dict[str, Any]:
        """What every error says."""
        return {
            "title": title,
            "status": status,
            "code": code,
            "side": side.value,
            "phase": phase.value,
            "request_id": request_id,
            "time": datetime.fromtimestamp(self._epoch(), UTC).isoformat().replace("+00:00", "Z"),
        }


def _digest(text: str) -> bytes:
    return b64encode(hashlib.sha256(text.encode()).digest())
