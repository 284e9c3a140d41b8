"""Somebody's own sign-ins: where they are signed in, and a way to end each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from twisted.logger import Logger

from appproxy.applications import Application
from appproxy.errors import Phase, Side
from appproxy.relay.exchange import Exchange
from appproxy.relay.people.sealing import Unsealable
from appproxy.relay.people.sessions import Session
from appproxy.relay.people.signout import parse_form
from appproxy.relay.preauth.oidc import OpenIDConnect
from appproxy.store import sessions
from appproxy.store.interface import Store
from appproxy.store.records import SessionRecord

OWN_SESSIONS = b"sessions"
#: For how long a page that was opened works.
_TOKEN_SECONDS = 3600
_MAX_FORM_BYTES = 16 * 1024
#: Of the hash of a handle; nobody can make a handle from it.
_SHOWN_HASH = 16
_OTHERS = "others"


class PageToken(msgspec.Struct, array_like=True, frozen=True):
    """What the page's forms carry: whose page it is, and until when (epoch seconds)."""

    handle_hash: bytes
    until: int


class SignInEntry(NamedTuple):
    """One sign-in as its owner sees it."""

    id: str
    current: bool
    since: str
    seen: str
    client: str
    agent: str
    applications: list[str]


class OwnSessions:
    """Answers ``sessions`` on the relay's host."""

    log = Logger()

    def __init__(self, oidc: OpenIDConnect, store: Store) -> None:
        self._oidc = oidc
        self._store = store

    async def serve(self, exchange: Exchange) -> None:
        """Show them, or end one."""
        oidc = self._oidc
        roots = [root for name in oidc.providers if (root := await oidc.root(exchange, name)) is not None]
        if not roots:
            if exchange.navigation and exchange.head.method != b"POST":
                return oidc.rendering.redirect(exchange, b"/")
            return oidc.rendering.explain(exchange, 401, "sign-in-required", Side.CLIENT, Phase.SIGN_IN)
        if exchange.head.method == b"POST":
            return await self._end(exchange, roots)
        entries = [entry for root in roots for entry in self._entries(root, await self._records(root))]
        token = oidc.sealer.seal("own-sessions", PageToken(roots[0].handle_hash, oidc.epoch() + _TOKEN_SECONDS))
        users = sorted({root.identity.user for root in roots})
        return oidc.rendering.page(exchange, 200, "sessions", form=True, users=users, entries=entries, token=token)

    async def _records(self, root: Session) -> list[SessionRecord]:
        """All live sessions of the same person."""
        now = self._oidc.epoch()
        found = await self._store.read(sessions.list_of, root.provider, root.identity.subject)
        return [each for each in found if each.identity.issuer == root.identity.issuer and each.is_live(now)]

    def _entries(self, root: Session, records: list[SessionRecord]) -> list[SignInEntry]:
        applications: Mapping[str, Application] = self._oidc.applications()
        entries = []
        for record in records:
            if record.parent is not None:
                continue
            family = [each for each in records if each.parent == record.handle_hash]
            used = [applications.get(each.application) for each in family]
            names = sorted({each.name or each.id for each in used if each is not None}, key=str.casefold)
            seen = max(each.last_seen for each in (record, *family))
            current = record.handle_hash == root.handle_hash
            entries.append(
                SignInEntry(
                    record.handle_hash.hex()[:_SHOWN_HASH],
                    current,
                    _moment(record.created),
                    _moment(max(seen, self._oidc.epoch()) if current else seen),
                    record.client,
                    record.agent,
                    names,
                )
            )
        return sorted(entries, key=lambda entry: not entry.current)

    async def _end(self, exchange: Exchange, roots: list[Session]) -> None:
        oidc = self._oidc
        form = parse_form(await exchange.read_body(_MAX_FORM_BYTES))
        if not exchange.same_origin_post or not self._is_ours(form.get("token", ""), roots):
            return oidc.rendering.explain(exchange, 403, "cross-site-request", Side.CLIENT, Phase.REQUEST)
        wanted, ended = form.get("end", ""), 0
        mine = {root.handle_hash for root in roots}
        for root in roots:
            for record in await self._records(root):
                id = record.handle_hash.hex()[:_SHOWN_HASH]
                if record.parent is None and (id == wanted or (wanted == _OTHERS and record.handle_hash not in mine)):
                    ended += await self._store.write(sessions.end, record.handle_hash, oidc.epoch())
                    oidc.sessions.forget_family(record.handle_hash)
        self.log.info(
            "{user} ended {ended} sessions of their own",
            event="session.ended-by-owner",
            user=roots[0].identity.user,
            ended=ended,
            client=exchange.client,
            request_id=exchange.request_id,
        )
        return oidc.rendering.redirect(exchange, b"/.appproxy/" + OWN_SESSIONS)

    def _is_ours(self, token: str, roots: list[Session]) -> bool:
        try:
            opened = self._oidc.sealer.open("own-sessions", token, PageToken)
        except Unsealable:
            return False
        return opened.until > self._oidc.epoch() and any(root.handle_hash == opened.handle_hash for root in roots)


def _moment(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M UTC")
