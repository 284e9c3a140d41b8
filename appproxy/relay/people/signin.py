"""The relay's own addresses under ``/.appproxy/``: sign in, come back, get a session, sign out.

::

    application's host                relay's host                       provider
    GET /leave  (challenge)  ──302──► /.appproxy/sign-in ─────302──────► authorization endpoint
    /.appproxy/ticket  ◄───302─────── /.appproxy/callback ◄───302───────
    GET /leave  ◄─302─┘

A browser that already has a session at the relay's host goes from sign-in to ticket at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from appproxy.applications import Application
from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http.messages import Field
from appproxy.relay.exchange import Exchange
from appproxy.relay.people.notices import provider_session_key
from appproxy.relay.people.refreshing import RefreshTimes, seal_tokens
from appproxy.relay.people.sessions import hash_handle
from appproxy.relay.people.signout import SignOut
from appproxy.relay.preauth.attempts import Attempt, Ticket, Wish, fragment_cookie, hash_binding
from appproxy.relay.preauth.cookies import BINDING, SESSION, expire_cookie, set_cookie
from appproxy.relay.preauth.failures import (
    ProviderUnreachable,
    SignInDeclined,
    SignInExpired,
    SignInFailed,
    SignInLoops,
    SignInMalformed,
    SignInUnavailable,
    SignInUnknown,
    TokenRefused,
)
from appproxy.relay.preauth.oidc import MAX_LOOKED_AT, MAX_ROUNDS, OpenIDConnect, passing_site
from appproxy.relay.preauth.provider import Provider, SignedIn, with_query
from appproxy.relay.preauth.stepping_up import asked_for, check_stepped_up, is_stepped_up
from appproxy.store import once, sessions
from appproxy.store.interface import Database, Store, StoreUnavailable
from appproxy.store.records import SessionRecord

Journey = Callable[[Exchange], Coroutine[Deferred[Any], Any, None]]

PREFIX = b"/.appproxy/"
CALLBACK = "/.appproxy/callback"
#: Errors at the provider's side, not the person's (RFC 6749 section 4.1.2.1).
_PROVIDER_FAULTS = frozenset({"server_error", "temporarily_unavailable"})
_MAX_PARAMETERS = 20
#: An answer of a provider in a form; codes are a few KiB at most.
_MAX_ANSWER_BYTES = 16 * 1024
_MAX_AGENT_BYTES = 200
#: What stays as it is when octets become a link.
_LINK_SAFE = "/?:@!$&'()*+,;=%-._~[]"


def parse_query(query: bytes | None) -> dict[str, str]:
    """Read the parameters of one of our own addresses.

    :raises SignInMalformed: too many of them, or one of them twice.
    """
    try:
        pairs = parse_qsl(
            (query or b"").decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="strict"
        )
    except ValueError:
        raise SignInMalformed from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise SignInMalformed
    return parameters


class SignIn:
    """Answers everything under ``/.appproxy/``.

    :param idle_seconds: after which the relay's own session ends when nobody uses it.
    :param absolute_seconds: after which it ends in any case.
    :param times: when sign-ins are refreshed.
    :param more: further addresses of the relay's host, with their methods.
    """

    log = Logger()

    def __init__(
        self,
        oidc: OpenIDConnect,
        store: Store,
        *,
        idle_seconds: float,
        absolute_seconds: float,
        times: RefreshTimes | None = None,
        more: Mapping[bytes, tuple[Sequence[bytes], Journey]] | None = None,
    ) -> None:
        self._oidc = oidc
        self._store = store
        self._idle_seconds = int(idle_seconds)
        self._absolute_seconds = int(absolute_seconds)
        self._times = times or RefreshTimes()
        self._redirect_uri = oidc.relay_origin + CALLBACK
        sign_out = SignOut(oidc, store)
        self._at_relay: dict[bytes, tuple[Sequence[bytes], Journey]] = {
            b"sign-in": ((b"GET", b"HEAD"), self._begin),
            b"callback": ((b"GET", b"POST"), self._come_back),
            b"sign-out": ((b"GET", b"HEAD", b"POST"), sign_out.serve),
            b"signed-out": ((b"GET", b"HEAD"), sign_out.show_signed_out),
            **(more or {}),
        }
        self._at_application: dict[bytes, tuple[Sequence[bytes], Journey]] = {
            b"ticket": ((b"GET",), self._redeem_ticket),
            b"hand-over": ((b"GET", b"HEAD"), self._hand_over),
            b"sign-out": ((b"GET", b"HEAD", b"POST"), sign_out.serve),
            b"signed-out": ((b"GET", b"HEAD"), sign_out.show_signed_out),
        }

    async def serve_reserved(self, exchange: Exchange, application: Application | None = None) -> None:
        """Answer a request whose path begins with ``/.appproxy``.

        :param application: the one at this host, if it is known; the sign-in itself names its own.
        """
        rendering = self._oidc.rendering
        at_relay = exchange.host == self._oidc.relay_host
        table = self._at_relay if at_relay else self._at_application
        methods, journey = table.get(exchange.path.removeprefix(PREFIX), ((), None))
        if journey is None:
            return rendering.explain(exchange, 404, "not-found", Side.CLIENT, Phase.REQUEST)
        if exchange.head.method not in methods:
            allow = [(b"Allow", b", ".join(methods))]
            return rendering.explain(exchange, 405, "method-not-allowed", Side.CLIENT, Phase.REQUEST, allow)
        try:
            await journey(exchange)
        except StoreUnavailable:
            rendering.fail(exchange, SignInUnavailable())
        except AppproxyError as error:
            self._failed(exchange, error)
            rendering.fail(exchange, error, link="/", link_text="Start again")
        return None

    def _failed(self, exchange: Exchange, error: AppproxyError) -> None:
        self.log.info(
            "sign-in failed: {code} ({detail})",
            event="signin.failed",
            code=error.code,
            detail=error.detail,
            flaw=error.flaw if isinstance(error, TokenRefused) else "",
            client=exchange.client,
            request_id=exchange.request_id,
        )

    # At the relay's host

    async def _begin(self, exchange: Exchange) -> None:
        """``sign-in``: to the provider, or straight on for somebody that the relay knows."""
        oidc = self._oidc
        parameters = parse_query(exchange.query)
        wish = oidc.attempts.open_wish(parameters["wish"]) if "wish" in parameters else None
        if wish is not None:
            application = oidc.known_application(wish.application)
            if application is None:
                raise SignInMalformed(f"no application {wish.application}")
            provider = oidc.provider(oidc.provider_id(application))
        else:
            named = parameters.get("provider")
            if named is not None and named not in oidc.providers:
                raise SignInMalformed("no such provider")
            provider = oidc.provider(named or next(iter(oidc.providers), ""))
        root = await oidc.root(exchange, provider.id)
        step_up = wish.step_up if wish is not None else None
        if root is not None and (step_up is None or is_stepped_up(root.identity, step_up, oidc.epoch())):
            # A fragment goes along by itself: the browser takes it from redirect to redirect.
            return self._onward(exchange, root.handle_hash, wish, [])
        if not exchange.navigation:
            return oidc.rendering.explain(exchange, 401, "sign-in-required", Side.CLIENT, Phase.SIGN_IN)
        attempt, state, fields = oidc.attempts.begin(provider.id, wish, exchange.reserved)
        address = await provider.authorization_address(
            redirect_uri=self._redirect_uri,
            state=state,
            nonce=attempt.nonce,
            challenge=attempt.challenge,
            **asked_for(step_up, provider.issuer),
        )
        if wish is not None and self._may_have_fragment(exchange, wish):
            name, age = fragment_cookie(state).decode(), oidc.sign_in_seconds
            oidc.rendering.page(exchange, 200, "onward", fields, script=True, address=address, cookie=name, age=age)
        else:
            oidc.rendering.redirect(exchange, address.encode(), fields)
        return None

    def _may_have_fragment(self, exchange: Exchange, wish: Wish) -> bool:
        """Whether a page with a script is to look for a fragment, which the provider's pages would lose.

        Only browsers that say where a request comes from get it: these have scripts; programs that follow redirects do
        not.
        """
        application = self._oidc.known_application(wish.application)
        keeps = application is not None and application.sign_in.keep_fragment and not wish.framed
        return keeps and exchange.head.method == b"GET" and b"sec-fetch-site" in exchange.head.known

    def _onward(
        self, exchange: Exchange, root: bytes, wish: Wish | None, fields: Sequence[Field], fragment: str = ""
    ) -> None:
        """From the relay's host to where the person wanted to go."""
        address = "/"
        if wish is not None:
            way = "hand-over" if wish.framed else "ticket"
            ticket = self._oidc.attempts.seal_ticket(root, wish)
            address = with_query(f"{wish.scheme}://{wish.authority}/.appproxy/{way}", ticket=ticket)
        self._oidc.rendering.redirect(exchange, (address + (fragment and "#" + fragment)).encode("ascii"), fields)

    async def _come_back(self, exchange: Exchange) -> None:
        """``callback``: the provider's answer, brought by the browser that was sent there."""
        oidc = self._oidc
        if exchange.head.method == b"POST":
            return await self._take_posted(exchange)
        parameters = parse_query(exchange.query)
        if "answer" in parameters:
            parameters = oidc.attempts.open_answer(parameters["answer"])
        state = parameters.get("state", "")
        attempt = oidc.attempts.find(state, exchange.reserved)
        fields = oidc.attempts.end(state, exchange.reserved)
        try:
            first = await self._store.write(once.use, b"state:" + attempt.state_hash, attempt.until)
            if not first:
                raise SignInUnknown("used before")
            provider = oidc.provider(attempt.provider)
            code = await self._read_answer(provider, parameters)
            signed_in = await provider.redeem(code, attempt.verifier, self._redirect_uri, attempt.nonce)
            step_up = attempt.wish.step_up if attempt.wish is not None else None
            if step_up is not None:
                check_stepped_up(signed_in.identity, step_up, oidc.epoch())
            root, cookies = await self._root_for(exchange, provider, signed_in, step_up is not None)
        except (SignInFailed, StoreUnavailable) as error:
            self._failed(exchange, error)
            shown = error if isinstance(error, SignInFailed) else SignInUnavailable()
            return oidc.rendering.fail(exchange, shown, fields, link=_address_of(attempt))
        self.log.info(
            "{user} signed in",
            event="signin.done",
            user=signed_in.identity.user,
            provider=provider.id,
            application=attempt.wish.application if attempt.wish else "",
            client=exchange.client,
            request_id=exchange.request_id,
        )
        fragment = oidc.attempts.fragment(state, exchange.reserved)
        self._onward(exchange, root, attempt.wish, [*fields, *cookies], fragment)
        return None

    async def _take_posted(self, exchange: Exchange) -> None:
        """An answer in a form (OAuth 2.0 Form Post Response Mode), brought by a page of the provider.

        Such a request has none of the cookies that bind the sign-in to the browser; a redirect to here, which has them,
        takes the answer along.
        """
        given = parse_query(await exchange.read_body(_MAX_ANSWER_BYTES))
        kept = {name: value for name, value in given.items() if name in ("code", "state", "iss", "error")}
        address = with_query(self._redirect_uri, answer=self._oidc.attempts.seal_answer(kept))
        self._oidc.rendering.redirect(exchange, address.encode())

    async def _read_answer(self, provider: Provider, parameters: dict[str, str]) -> str:
        """The code of an authorization answer that comes from *provider* (RFC 9207)."""
        metadata = await provider.metadata()
        issuer = parameters.get("iss")
        if issuer is None and metadata.authorization_response_iss_parameter_supported:
            raise SignInDeclined("the answer does not name its issuer")
        if issuer is not None and not provider.is_issuer(issuer):
            raise SignInDeclined("the answer is another issuer's")
        error = parameters.get("error")
        if error in _PROVIDER_FAULTS:
            raise ProviderUnreachable(f"the provider answered {error}")
        if error is not None:
            raise SignInDeclined(f"the provider answered {error[:64]!r}")
        if not parameters.get("code"):
            raise SignInDeclined("the answer has no code")
        return parameters["code"]

    async def _root_for(
        self, exchange: Exchange, provider: Provider, signed_in: SignedIn, stepped_up: bool
    ) -> tuple[bytes, list[Field]]:
        """The relay's own session for somebody who has just signed in: its handle's hash and the cookies to set.

        A session that this browser has already goes on if it is the same person's (two tabs came back, or they have
        *stepped up*, which is then known of all that came from it), else it ends.
        """
        oidc, identity = self._oidc, signed_in.identity
        old = await oidc.root(exchange, provider.id)
        if old is not None and (old.identity.issuer, old.identity.subject) == (identity.issuer, identity.subject):
            if stepped_up:
                await self._renew(old.handle_hash, signed_in)
            return old.handle_hash, []
        handle, now = oidc.sessions.new_handle(), oidc.epoch()
        due, wait, deadline = self._times.of(signed_in, now)
        record = SessionRecord(
            handle_hash=hash_handle(handle),
            host=oidc.relay_host,
            provider=provider.id,
            identity=identity,
            created=now,
            last_seen=now,
            idle_seconds=self._idle_seconds,
            until=now + self._absolute_seconds,
            sealed=seal_tokens(oidc.sealer, signed_in),
            provider_session=signed_in.provider_session,
            refresh_due=due,
            refresh_wait=wait,
            refresh_deadline=deadline,
            client=exchange.client,
            agent=_agent(exchange),
        )
        await self._store.write(_replace, record, old.handle_hash if old else None, now)
        if old is not None:
            oidc.sessions.forget_family(old.handle_hash)
        oidc.sessions.remember(handle, record)
        return record.handle_hash, [set_cookie(oidc.root_cookie(provider.id), handle)]

    async def _renew(self, root: bytes, signed_in: SignedIn) -> None:
        oidc = self._oidc
        times, sealed = self._times.of(signed_in, oidc.epoch()), seal_tokens(oidc.sealer, signed_in)
        changed = await self._store.write(
            sessions.refreshed, root, signed_in.identity, sealed, signed_in.provider_session, times
        )
        oidc.sessions.renewed(changed, signed_in.identity, times[0], times[1])

    # At an application's host

    async def _redeem_ticket(self, exchange: Exchange) -> None:
        """``ticket``: a session for this host, for the browser that asked for it, once."""
        oidc = self._oidc
        ticket, application = self._open_ticket(exchange)
        wish = ticket.wish
        target = f"{exchange.scheme}://{exchange.authority}".encode() + wish.target
        current = await oidc.identify(exchange, application)
        binding = oidc.binding(exchange)
        if current is not None and current.parent == ticket.root:
            bound = binding is not None and hash_binding(binding) == wish.binding and ticket.until > oidc.epoch()
            fields = self._replay(wish, application, current.handle_hash) if bound else []
            if wish.step_up is not None:
                fields.append(oidc.another_round(exchange, application))
            return oidc.rendering.redirect(exchange, target, fields)
        if binding is None and oidc.rounds(exchange).count == 0:
            raise SignInUnknown("a ticket without its binding cookie")
        if binding is None or hash_binding(binding) != wish.binding:
            # Another tab of this browser began or ended a sign-in meanwhile: begin again with the cookies it has now.
            if oidc.rounds(exchange).count >= MAX_ROUNDS:
                raise SignInLoops
            return oidc.rendering.redirect(exchange, target, [oidc.another_round(exchange, application)])
        if ticket.until <= oidc.epoch():
            raise SignInExpired
        handle = oidc.sessions.new_handle()
        olds = [hash_handle(value) for value in exchange.reserved.get(SESSION, ())[:MAX_LOOKED_AT]]
        record = await self._store.write(_redeem, ticket, application, exchange.host, handle, olds, oidc.epoch())
        for old in olds:
            oidc.sessions.forget_family(old)
        oidc.sessions.remember(handle, record)
        fields = self._replay(wish, application, record.handle_hash)
        self._enter(exchange, application, record, handle, target, fields)
        return None

    def _open_ticket(self, exchange: Exchange) -> tuple[Ticket, Application]:
        """The ticket in the address, and what it is for.

        :raises SignInMalformed: it is none, or for elsewhere.
        """
        ticket = self._oidc.attempts.open_ticket(parse_query(exchange.query).get("ticket", ""))
        wish = ticket.wish
        application = self._oidc.known_application(wish.application)
        if application is None or (wish.scheme, wish.authority) != (exchange.scheme, exchange.authority):
            raise SignInMalformed("a ticket for elsewhere")
        return ticket, application

    def _replay(self, wish: Wish, application: Application, handle_hash: bytes) -> list[Field]:
        """What has a request sent that was kept for this sign-in."""
        keeping = self._oidc.keeping
        if not wish.kept or keeping is None:
            return []
        site, partitioned = passing_site(application)
        return [keeping.cookie(wish.kept, handle_hash, site, partitioned)]

    async def _hand_over(self, exchange: Exchange) -> None:
        """``hand-over``: the window that a framed page has opened gives the ticket to that page, and closes.

        Only a page of this origin can have opened it and be told, and only the frame has the cookie that the ticket is
        bound to.
        """
        ticket, application = self._open_ticket(exchange)
        if not ticket.wish.framed:
            raise SignInMalformed("a ticket that is for no frame")
        text = parse_query(exchange.query)["ticket"]
        back = self._oidc.root_path(application, exchange).decode()
        self._oidc.rendering.page(exchange, 200, "hand_over", script=True, ticket=text, back=back)

    def _enter(
        self,
        exchange: Exchange,
        application: Application,
        record: SessionRecord,
        handle: bytes,
        target: bytes,
        more: Sequence[Field],
    ) -> None:
        """Hand out the session's cookie and send the person where they wanted to go."""
        oidc, cookies = self._oidc, application.cookies
        site, partitioned = passing_site(application)
        fields = [
            set_cookie(
                SESSION,
                handle,
                max_age=record.until - oidc.epoch() if cookies.persistent else None,
                same_site=cookies.same_site,
                partitioned=cookies.partitioned,
                http_only=cookies.http_only,
            ),
            expire_cookie(BINDING, same_site=site, partitioned=partitioned),
            oidc.another_round(exchange, application),
            *more,
        ]
        if cookies.same_site == "strict":
            # A strict cookie does not come with a redirect that began at another site, but with our page's refresh.
            oidc.rendering.page(exchange, 200, "continue", fields, script=True, address=quote(target, safe=_LINK_SAFE))
        else:
            oidc.rendering.redirect(exchange, target, fields)


def _replace(db: Database, record: SessionRecord, old: bytes | None, now: int) -> None:
    if record.provider_session and once.is_used(db, provider_session_key(record.provider, record.provider_session)):
        raise SignInDeclined("the provider has ended this sign-in meanwhile")
    if old is not None:
        sessions.end(db, old, now)
    sessions.create(db, record)


def _redeem(
    db: Database, ticket: Ticket, application: Application, host: str, handle: bytes, olds: Sequence[bytes], now: int
) -> SessionRecord:
    """Use up *ticket* and make the session, in one transaction."""
    if not once.use(db, b"ticket:" + ticket.id, ticket.until):
        raise SignInUnknown("a ticket used before")
    root = sessions.find(db, ticket.root)
    if root is None or not root.is_live(now):
        raise SignInExpired("the relay's session has ended")
    for old in olds:
        known = sessions.find(db, old)
        if known is not None and known.host == host:
            sessions.end(db, old, now)
    record = SessionRecord(
        handle_hash=hash_handle(handle),
        parent=ticket.root,
        host=host,
        application=application.id,
        provider=root.provider,
        identity=root.identity,
        created=now,
        last_seen=now,
        idle_seconds=max(1, int(application.session.idle)),
        until=min(root.until, now + max(1, int(application.session.absolute))),
        provider_session=root.provider_session,
        refresh_due=root.refresh_due,
        refresh_wait=root.refresh_wait,
        client=root.client,
        agent=root.agent,
    )
    sessions.create(db, record)
    sessions.touch(db, [(ticket.root, now)])
    return record


def _agent(exchange: Exchange) -> str:
    """How the browser calls itself, for its owner to recognise it."""
    given = exchange.head.known.get(b"user-agent", (b"",))[0][:_MAX_AGENT_BYTES].decode("latin-1")
    return "".join(each for each in given if each.isprintable())


def _address_of(attempt: Attempt) -> str:
    """Where to begin anew after a failure."""
    wish = attempt.wish
    return f"{wish.scheme}://{wish.authority}{quote(wish.target, safe=_LINK_SAFE)}" if wish else "/"
