"""The system's Kerberos library, as far as it is needed: the only module that imports ``gssapi`` and ``krb5``.

What asks the KDC (:func:`initial`, :func:`obtain`, :func:`service_known`) blocks, up to a minute when the KDC is
silent, and belongs into threads of its own.  :meth:`ServiceTicket.begin` and :meth:`Proof.check` never leave the
process: the ticket is alone in its credential cache, so there is nothing that another one could be asked for with.

Every failure is a :class:`GssFailed` with the step that failed, because the library's numbers mean different things at
different steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import gssapi
import krb5
from gssapi.exceptions import ExpiredCredentialsError, GSSError
from gssapi.raw import ChannelBindings

from appproxy.sso.asking import RC4, Account, GssFailed, Number, Step, UserName
from appproxy.sso.tickets import ticket_enctype

_KRB5: Final = gssapi.MechType.kerberos
_SPNEGO: Final = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
_PRINCIPAL: Final = gssapi.NameType.kerberos_principal
#: NT_ENTERPRISE (RFC 6806): the KDC finds the account that has this name.
_ENTERPRISE: Final = gssapi.OID.from_int_seq("1.2.840.113554.1.2.2.6")
_MUTUAL: Final = [gssapi.RequirementFlag.mutual_authentication]
#: Without mutual authentication; an empty list would mean the library's own choice, which has it.
_PLAIN: Final = [gssapi.RequirementFlag.integrity]
#: Of a ticket (RFC 4120, 2.6).
FORWARDABLE: Final = 0x40000000
#: With SPNEGO the library's minor codes count up as they occur in the process; only their texts can be told apart.
_BY_TEXT: Final = {
    "Ticket expired": Number.TICKET_EXPIRED,
    "Ticket not yet valid": Number.TICKET_NOT_YET_VALID,
    "Decrypt integrity check failed": Number.BAD_INTEGRITY,
    "The ticket isn't for us": Number.NOT_US,
    "Key version is not available": Number.KEY_VERSION,
    "Service key not available": Number.NO_KEY,
    "Clock skew too great": Number.SKEW,
}
_numbers = itertools.count(1)


class Initial(NamedTuple):
    """The connector's own ticket.

    :ivar issued: when, by the KDC's clock, epoch seconds; *expires* likewise.
    """

    client: str
    forwardable: bool
    issued: int
    expires: int
    enctype: int


def initial(account: Account) -> Initial:
    """Get the connector's own ticket, or see that it has one."""
    with _failing(Step.ACQUIRE):
        _acquire(account).lifetime  # noqa: B018 - asks the KDC when there is nothing in the cache
    context = krb5.init_context()
    for creds in _tickets(context, account.ccache):
        if _server(context, creds).startswith("krbtgt/"):
            times = creds.times
            return Initial(
                _client(context, creds),
                bool(creds.ticket_flags_raw & FORWARDABLE),
                times.starttime or times.authtime,
                times.endtime,
                creds.keyblock.enctype,
            )
    raise GssFailed(Step.ACQUIRE, 0, f"no ticket-granting ticket in {account.ccache}")


def service_known(account: Account, spn: str) -> int:
    """Ask for a ticket to *spn* for the connector itself; returns its encryption type."""
    with _failing(Step.ACQUIRE):
        own = _acquire(account)
    with _failing(Step.DELEGATE):
        context = gssapi.SecurityContext(
            name=gssapi.Name(spn, _PRINCIPAL), creds=own, usage="initiate", mech=_KRB5, flags=_PLAIN
        )
        context.__DEFER_STEP_ERRORS__ = False
        context.step()
    library = krb5.init_context()
    for creds in _tickets(library, account.ccache):
        if _server(library, creds).rpartition("@")[0] == spn.rpartition("@")[0]:
            return _weakest(creds)
    return 0


def obtain(account: Account, user: UserName, spn: str) -> ServiceTicket:
    """A ticket to *spn* in the name of *user*: S4U2Self, then S4U2Proxy (MS-SFU).

    :param user: validated; some names crash the library.
    """
    with _failing(Step.ACQUIRE):
        own = _acquire(account)
    with _failing(Step.IMPERSONATE):
        name = gssapi.Name(user.text, _ENTERPRISE if user.enterprise else _PRINCIPAL)
        impersonated = own.impersonate(name, mechs=[_KRB5])
    cache = f"MEMORY:evidence-{next(_numbers)}"
    library = krb5.init_context()
    try:
        with _failing(Step.DELEGATE):
            impersonated.store(store={"ccache": cache}, usage="initiate", overwrite=True)
            evidence = gssapi.Credentials(usage="initiate", store={"ccache": cache})
            context = gssapi.SecurityContext(
                name=gssapi.Name(spn, _PRINCIPAL), creds=evidence, usage="initiate", mech=_KRB5
            )
            context.__DEFER_STEP_ERRORS__ = False
            context.step()
        return ServiceTicket(library, cache, account.principal)
    except GssFailed as failure:
        failure.forwardable = _forwardable(library, cache)
        raise
    finally:
        _destroy(library, cache)


class ServiceTicket:
    """A ticket to one service in one user's name, alone in a cache in memory.

    :ivar expires: epoch seconds, by the KDC's clock.
    :ivar client: the name in it, as the service will see it unless it looks further.
    """

    def __init__(self, library: krb5.Context, cache: str, connector: str) -> None:
        found = None
        for creds in _tickets(library, cache):
            server = _server(library, creds)
            if not server.startswith("krbtgt/") and (found is None or server != connector):
                found = creds
        if found is None:
            raise GssFailed(Step.DELEGATE, 0, "the KDC's answer has no ticket")
        self.client = _client(library, found)
        self.expires = found.times.endtime
        self.enctype = _weakest(found)
        self._cache = f"MEMORY:ticket-{next(_numbers)}"
        alone = krb5.cc_resolve(library, self._cache.encode())
        krb5.cc_initialize(library, alone, found.client)
        krb5.cc_store_cred(library, alone, found)
        # Whatever the KDC called the service is what is in the cache.
        self._target = gssapi.Name(_server(library, found), _PRINCIPAL)
        with _failing(Step.DELEGATE):
            self._credential = gssapi.Credentials(usage="initiate", store={"ccache": self._cache})
        self.size = len(found.ticket)

    def begin(self, spnego: bool, mutual: bool, binding: bytes | None) -> Proof:
        """A token for one request.

        :param binding: of the TLS connection that it will go over (RFC 5929), if it shall hold for that alone.
        """
        bindings = None if binding is None else ChannelBindings(application_data=binding)
        with _failing(Step.DELEGATE):
            context = gssapi.SecurityContext(
                name=self._target,
                creds=self._credential,
                usage="initiate",
                mech=_SPNEGO if spnego else _KRB5,
                channel_bindings=bindings,
                flags=_MUTUAL if mutual else _PLAIN,
            )
            context.__DEFER_STEP_ERRORS__ = False
            return Proof(context, context.step() or b"")

    def destroy(self) -> None:
        """Forget it, and its keys."""
        self._credential = None
        _destroy(krb5.init_context(), self._cache)


class Proof:
    """One security context: the token for one request and what is expected in return."""

    __slots__ = ("_context", "token")

    def __init__(self, context: Any, token: bytes) -> None:
        self._context = context
        self.token = token

    def check(self, reply: bytes) -> None:
        """See that the service proves who it is; :raises GssFailed: it does not, or says why it refuses."""
        with _failing(Step.REPLY):
            self._context.step(reply)
            if not self._context.complete:
                raise GssFailed(Step.REPLY, 0, "the origin's reply proves nothing")


def keytab_entries(path: str) -> list[tuple[str, int, int]]:
    """Principal, key version and encryption type of each key; :raises GssFailed: it is no keytab."""
    library = krb5.init_context()
    try:
        return [
            (_text(library, entry.principal), entry.kvno, entry.key.enctype)
            for entry in krb5.kt_resolve(library, b"FILE:" + path.encode())
        ]
    except krb5.Krb5Error as error:
        raise GssFailed(Step.ACQUIRE, _from_table(error.err_code), _words(error)) from None


def enctype_name(enctype: int) -> str:
    """As people write it."""
    try:
        return str(krb5.enctype_to_name(enctype, shortest=True))
    except krb5.Krb5Error:
        return f"encryption type {enctype}"


def _acquire(account: Account) -> Any:
    """The account's credential, with a ticket from the cache or, when there is none that is good, from the keytab."""
    store = {"ccache": account.ccache}
    if account.keytab:
        store["client_keytab"] = f"FILE:{account.keytab}"
    try:
        return gssapi.Credentials(name=gssapi.Name(account.principal, _PRINCIPAL), usage="initiate", store=store)
    except GSSError as error:
        # The library says this also of keytabs that it can make nothing of.
        if not account.keytab or _number(error) != Number.NO_CACHE:
            raise
        if account.principal in {principal for principal, _, _ in keytab_entries(account.keytab)}:
            raise
        raise GssFailed(Step.ACQUIRE, Number.NOT_IN_KEYTAB, f"{account.keytab} has no key of it") from None


def forget_initial(account: Account) -> None:
    """Have the connector's own ticket asked for anew."""
    _destroy(krb5.init_context(), account.ccache)


def _tickets(library: krb5.Context, cache: str) -> Iterator[krb5.Creds]:
    """The tickets in a cache, without the library's own notes."""
    for creds in krb5.cc_resolve(library, cache.encode()):
        if "@X-CACHECONF:" not in _server(library, creds):
            yield creds


def _forwardable(library: krb5.Context, cache: str) -> tuple[bool, bool] | None:
    """Whether the connector's ticket-granting ticket, and the evidence, are forwardable."""
    own = evidence = None
    with suppress(krb5.Krb5Error):
        for creds in _tickets(library, cache):
            flag = bool(creds.ticket_flags_raw & FORWARDABLE)
            if _server(library, creds).startswith("krbtgt/"):
                own = flag
            else:
                evidence = flag
    return None if own is None or evidence is None else (own, evidence)


def _destroy(library: krb5.Context, cache: str) -> None:
    with suppress(krb5.Krb5Error):
        krb5.cc_destroy(library, krb5.cc_resolve(library, cache.encode()))


def _server(library: krb5.Context, creds: krb5.Creds) -> str:
    return _text(library, creds.server)


def _client(library: krb5.Context, creds: krb5.Creds) -> str:
    return _text(library, creds.client)


def _text(library: krb5.Context, principal: krb5.Principal) -> str:
    return str(krb5.unparse_name_flags(library, principal), "utf-8", "replace")


def _number(error: GSSError) -> int:
    """Of the minor code; a credential that has expired is told by the major one."""
    return Number.TICKET_EXPIRED if isinstance(error, ExpiredCredentialsError) else _from_table(error.min_code)


def _weakest(creds: krb5.Creds) -> int:
    """The encryption type of a ticket or of its session key, whichever is broken."""
    session = int(creds.keyblock.enctype)
    try:
        return session if session in RC4 else ticket_enctype(creds.ticket)
    except ValueError:
        return session


def _from_table(code: int) -> int:
    """A com_err code, counted from the table of Kerberos where it is from that."""
    signed = code - 2**32 if code >= 2**31 else code
    return signed - Number.TABLE if 0 <= signed - Number.TABLE < 256 else signed


@contextmanager
def _failing(step: Step) -> Iterator[None]:
    try:
        yield
    except GSSError as error:
        text = "; ".join(_texts(error))
        number = _number(error)
        if step is Step.REPLY:
            number = next((known for words, known in _BY_TEXT.items() if words in text), number)
        raise GssFailed(step, number, text) from None
    except krb5.Krb5Error as error:
        raise GssFailed(step, _from_table(error.err_code), _words(error)) from None


def _texts(error: GSSError) -> list[str]:
    texts = [str(each) for each in error.get_all_statuses(error.min_code, False)]
    major = [str(each) for each in error.get_all_statuses(error.maj_code, True)]
    return [each for each in texts if each != "Success"] or major


def _words(error: krb5.Krb5Error) -> str:
    """The text alone; the library's wrapper puts the number behind it."""
    return str(error).removesuffix(f" {error.err_code}")
