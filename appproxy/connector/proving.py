"""Asking an origin in a user's name: a ticket with each request, the origin's proof with each answer.

Connections are never shared between users: some origins take who signed in first on a connection for everybody on it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from appproxy.connector.carriage import Carriage
from appproxy.connector.exchange import OriginResponse
from appproxy.connector.failures import OriginBusy
from appproxy.connector.pool import Pool
from appproxy.http.messages import Field
from appproxy.sso import negotiate
from appproxy.sso.delegation import Proof, Ticket
from appproxy.sso.kerberos import Signer

#: Users with connections to an origin at once; each is one socket at least.
MAX_USERS: Final = 16_384
_UNAUTHORIZED: Final = 401

#: Sends the request, with what the callable makes of the connection that it goes over.
Send = Callable[["Signing | None"], Awaitable[OriginResponse]]


class Signing:
    """One ticket on one request.

    Called with the connection's transport, as soon as it is known which one it is, for the fields to add.
    """

    __slots__ = ("_signer", "_ticket", "proof")

    def __init__(self, signer: Signer, ticket: Ticket) -> None:
        self._signer = signer
        self._ticket = ticket
        self.proof: Proof | None = None

    def __call__(self, transport: Any) -> Sequence[Field]:
        """The fields; a request that is sent once more gets a token of its own, since none is good twice."""
        certificate_of = getattr(transport, "getPeerCertificateDER", None)
        self.proof = self._signer.method.begin(self._ticket, certificate_of() if certificate_of else None)
        return (negotiate.authorization(self.proof.token),)


async def ask_signed(signer: Signer, send: Send, carriage: Carriage) -> OriginResponse:
    """The origin's answer to a request in the user's name.

    A ticket that the origin refuses is replaced once, where the request can be repeated.  Without *preemptive*,
    requests without a body go without a ticket until the origin asks for one.

    :raises appproxy.sso.causes.KerberosFailed: no ticket can be had, the origin does not take it, or proves nothing.
    """
    method = signer.method
    if not method.preemptive and carriage.body is None:
        response = await send(None)
        if not _refuses(response):
            return response
        _leave(response, carriage)
    for again in (True, False):
        ticket = await signer.ticket()
        signing = Signing(signer, ticket)
        response = await send(signing)
        proof, fields = signing.proof, response.head.fields
        assert proof is not None
        try:
            if not _refuses(response):
                method.check(proof, fields)
                return response
            refusal = method.refusal(proof, fields)
        except BaseException:
            response.abandon()
            raise
        _leave(response, carriage)
        if refusal.status == 403:
            raise refusal
        signer.drop(ticket)
        if not again or not carriage.rewind():
            raise refusal
    raise AssertionError("not reached")


def _refuses(response: OriginResponse) -> bool:
    return response.head.status == _UNAUTHORIZED and negotiate.challenged(response.head.fields)


def _leave(response: OriginResponse, carriage: Carriage) -> None:
    """Nobody reads the rest; a connection on which nothing more is said stays."""
    if not response.ended or carriage.sending:
        response.connection.abandon()


class UserPools:
    """The connections of each user to each origin."""

    def __init__(self) -> None:
        self._pools: dict[tuple[Pool, str], Pool] = {}

    def __len__(self) -> int:
        return len(self._pools)

    def pool(self, shared: Pool, user: str) -> Pool:
        """The user's own pool to the origin of *shared*.

        :raises OriginBusy: too many users have connections.
        """
        key = shared, user
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= MAX_USERS:
                raise OriginBusy(f"{MAX_USERS} users have connections for themselves")
            pool = self._pools[key] = shared.apart(partial(self._pools.pop, key, None))
        return pool
