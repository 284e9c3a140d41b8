"""Kerberos single sign-on: the origin gets a ticket in the user's name, with the first request and every one after it.

Nothing that a client sends as ``Authorization`` reaches such an origin, and none of the origin's challenges of
integrated authentication reaches the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from appproxy.applications import Application
from appproxy.expressions import NoText, parse
from appproxy.http.addresses import InternalURL
from appproxy.http.hops import drop_aliases
from appproxy.http.messages import Field
from appproxy.sso import negotiate
from appproxy.sso.asking import GssFailed, Step, UserName
from appproxy.sso.binding import endpoint_binding
from appproxy.sso.causes import (
    NAME_REFUSED,
    ORIGIN_FORBIDS,
    ORIGIN_REFUSED,
    ORIGIN_UNPROVEN,
    TICKET_TOO_LARGE,
    KerberosFailed,
    cause_of,
)
from appproxy.sso.delegation import Delegation, Proof, Ticket
from appproxy.sso.method import Method
from appproxy.sso.names import account_of, service_of

_OURS: Final = frozenset({b"authorization"})


class KerberosSignOn(Method):
    """One application's way to its origins' Kerberos."""

    __slots__ = ("_application", "_delegation", "_name", "_spns", "preemptive")

    lasting = True

    def __init__(self, application: Application, delegation: Delegation) -> None:
        self._application = application
        self._delegation = delegation
        self.preemptive = application.sso.preemptive
        self._name = parse(application.sso.identity_expression)
        #: By external URL of the segment.
        self._spns = {segment.external_url: segment.spn for segment in application.segments if segment.spn}

    async def sign_on(self, identity: Mapping[str, Any] | None, fields: list[Field]) -> list[Field]:
        """The fields without what the client says about itself; the ticket comes later, with each request anew."""
        return drop_aliases(fields, _OURS)

    def clean_trailers(self, trailers: Sequence[Field]) -> Sequence[Field]:
        """Without the client's word either."""
        return drop_aliases(trailers, _OURS)

    def signer(self, identity: Mapping[str, Any] | None, internal: InternalURL, segment: str) -> Signer:
        """What signs the requests of one user to one origin.

        :param segment: the external URL that was asked for.
        :raises KerberosFailed: the user has no name that can be asked for.
        """
        sso, delegation = self._application.sso, self._delegation
        realm = sso.realm or delegation.realm
        try:
            told = self._name.value(identity or {})
        except NoText as problem:
            raise KerberosFailed(NAME_REFUSED, f"{sso.identity}: {problem}", Step.NAME) from None
        user = account_of(sso.identity, told, realm, delegation.account.principal)
        spn = service_of(self._spns.get(segment) or sso.spn, internal, realm)
        return Signer(self, user, spn, delegation)

    def begin(self, ticket: Ticket, certificate: bytes | None) -> Proof:
        """A token for one request, over the connection that *certificate* (DER) was shown on.

        :raises KerberosFailed: it is too large for a request.
        """
        sso = self._application.sso
        binding = endpoint_binding(certificate) if certificate is not None and sso.channel_binding else None
        try:
            proof = ticket.begin(sso.mechanism == "spnego", sso.mutual != "off", binding)
        except GssFailed as failure:
            raise KerberosFailed(cause_of(failure), failure.text, failure.step) from None
        if len(proof.token) > negotiate.MAX_TOKEN:
            raise KerberosFailed(TICKET_TOO_LARGE, f"{len(proof.token)} bytes")
        return proof

    def check(self, proof: Proof, fields: Sequence[Field]) -> None:
        """See that the origin proved itself with its answer, as far as that is asked for.

        :raises KerberosFailed: it did not.
        """
        mutual = self._application.sso.mutual
        if mutual == "off":
            return
        reply = negotiate.reply(fields)
        if reply is None:
            if mutual == "required":
                raise KerberosFailed(ORIGIN_UNPROVEN, "its answer has no token")
            return
        try:
            proof.check(reply)
        except GssFailed as failure:
            raise KerberosFailed(ORIGIN_UNPROVEN, failure.text, failure.step) from None

    def refusal(self, proof: Proof, fields: Sequence[Field]) -> KerberosFailed:
        """Why the origin answers a ticket with 401 and a challenge, from the token in it."""
        reply = negotiate.reply(fields)
        if not reply or self._application.sso.mutual == "off":
            return KerberosFailed(ORIGIN_REFUSED, "its challenge has no token")
        try:
            proof.check(reply)
        except GssFailed as failure:
            return KerberosFailed(cause_of(failure), failure.text, failure.step)
        return KerberosFailed(ORIGIN_FORBIDS, "it took the ticket and says 401")


class Signer:
    """Signs requests of one user to one origin.

    :ivar user: for whom connections are apart.
    """

    __slots__ = ("_delegation", "method", "spn", "user")

    def __init__(self, method: KerberosSignOn, user: UserName, spn: str, delegation: Delegation) -> None:
        self.method = method
        self.user = user
        self.spn = spn
        self._delegation = delegation

    async def ticket(self) -> Ticket:
        """The user's ticket; :raises KerberosFailed: none can be had."""
        return self._delegation.find(self.user, self.spn) or await self._delegation.ask(self.user, self.spn)

    def drop(self, ticket: Ticket) -> None:
        """The origin does not take this one."""
        self._delegation.drop(self.user, self.spn, ticket)
