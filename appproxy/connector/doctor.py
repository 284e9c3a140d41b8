"""``appproxy connector doctor``: what of Kerberos works from here, step by step, and what to do about what does not.

Asks the KDC and origins as the connector does, with the same settings and the same library, while the connector runs or
does not.  Blocks, and gives up on whatever does not answer.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from appproxy.applications import Application
from appproxy.config import ConnectorConfig
from appproxy.connector.realm import account_of, config_files, load_library
from appproxy.errors import ConfigError
from appproxy.http.addresses import InternalURL
from appproxy.net.tls import is_address
from appproxy.sso import negotiate
from appproxy.sso.asking import RC4, Account, GssFailed, Step, UserName
from appproxy.sso.binding import endpoint_binding
from appproxy.sso.causes import (
    CLOCK,
    ENCRYPTION,
    KDC_SILENT,
    KDC_UNREACHABLE,
    KEYTAB_MISSING,
    NOT_FORWARDABLE,
    ORIGIN_REFUSED,
    ORIGIN_UNPROVEN,
    REALM_UNKNOWN,
    WEAK,
    Cause,
    KerberosFailed,
    cause_of,
)
from appproxy.sso.locating import kdcs_of
from appproxy.sso.names import account_of as user_of
from appproxy.sso.names import service_of

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"
#: Patience with a KDC (which is longer than the connector's own), and with an address.
ASK_SECONDS, CONNECT_SECONDS = 15.0, 3.0
MAX_SKEW_SECONDS: Final = 300
T = TypeVar("T")


class Finding(NamedTuple):
    """One line of the table."""

    check: str
    outcome: str
    found: str
    remedy: str = ""


class Silent(Exception):
    """No answer in time."""


class Doctor:
    """Looks at one connector's Kerberos.

    :param user: somebody to ask tickets for, as an application's ``identity`` would name them.
    :param now: epoch seconds.
    """

    def __init__(
        self,
        config: ConnectorConfig,
        applications: Iterable[Application],
        user: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._settings = config.kerberos
        self._applications = [each for each in applications if each.sso.mode == "kerberos"]
        self._user = user
        self._now = now
        self._account: Account = account_of(config.kerberos)
        self._library: Any = None

    def examine(self) -> Iterator[Finding]:
        """All findings, in the order in which things depend on each other."""
        if not self._settings.principal:
            yield Finding(
                "settings", SKIP, "no account in [kerberos]", "Set principal and keytab_file, if it needs one."
            )
            return
        yield Finding("settings", PASS, f"{self._account.principal}, realm {self._settings.realm}")
        try:
            self._library = load_library(self._settings)
        except ConfigError as problem:
            yield Finding("library", FAIL, problem.problem)
            return
        yield Finding("library", PASS, "gssapi and krb5 are installed")
        yield from self._kdcs()
        yield from self._keytab()
        ready = True
        for finding in self._ticket():
            ready = ready and finding.outcome != FAIL
            yield finding
        if not self._applications:
            yield Finding(
                "applications", SKIP, "none with Kerberos", "Start the connector once, or name --applications."
            )
        for application in self._applications:
            yield from self._application(application, ready)

    # The realm

    def _kdcs(self) -> Iterator[Finding]:
        places = kdcs_of(self._settings.realm, config_files(self._settings))
        if not places:
            yield Finding("kdc", SKIP, f"krb5.conf names none for {self._settings.realm}", REALM_UNKNOWN.remedy)
        for host, port in places:
            problem = _connects(host, port)
            remedy = KDC_UNREACHABLE.remedy if problem else ""
            yield Finding(f"kdc {host}:{port}", FAIL if problem else PASS, problem or "accepts connections", remedy)

    def _keytab(self) -> Iterator[Finding]:
        path = self._settings.keytab_file
        if path is None:
            yield Finding("keytab", SKIP, f"tickets come from {self._account.ccache}")
            return
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
                yield Finding("keytab", FAIL, f"{path} is open to others", f"chmod 600 {path}")
            entries = self._library.keytab_entries(str(path))
        except OSError as problem:
            yield Finding("keytab", FAIL, str(problem), KEYTAB_MISSING.remedy)
            return
        except GssFailed as failure:
            yield _failed("keytab", failure)
            return
        own = [(version, enctype) for name, version, enctype in entries if name == self._account.principal]
        if not own:
            others = ", ".join(sorted({name for name, _, _ in entries})) or "nothing"
            remedy = "The realm is in capitals, and names are compared letter by letter."
            yield Finding("keytab", FAIL, f"has keys of {others}, none of {self._account.principal}", remedy)
            return
        keys = ", ".join(f"{self._library.enctype_name(enctype)} (version {version})" for version, enctype in own)
        if all(enctype in RC4 for _, enctype in own):
            yield Finding("keytab", FAIL, keys, ENCRYPTION.remedy)
        else:
            yield Finding("keytab", PASS, keys)

    def _ticket(self) -> Iterator[Finding]:
        try:
            own = _within(lambda: self._library.initial(self._account))
        except Silent:
            yield Finding("ticket", FAIL, KDC_SILENT.says, KDC_SILENT.remedy)
            return
        except GssFailed as failure:
            yield _failed("ticket", failure)
            return
        left = own.expires - self._now()
        yield Finding(
            "ticket", PASS, f"{own.client}, for {left / 3600:.1f} h, {self._library.enctype_name(own.enctype)}"
        )
        if own.forwardable:
            yield Finding("forwardable", PASS, "the connector's ticket can be delegated with")
        else:
            yield Finding("forwardable", FAIL, NOT_FORWARDABLE.says, NOT_FORWARDABLE.remedy)
        if not self._account.keytab:
            return
        skew = abs(own.issued - self._now())
        outcome = PASS if skew <= MAX_SKEW_SECONDS else FAIL
        yield Finding("clock", outcome, f"{skew:.0f} s from the KDC's", "" if outcome == PASS else CLOCK.remedy)

    # Applications

    def _application(self, application: Application, ready: bool) -> Iterator[Finding]:
        several = len(application.segments) > 1
        for segment in application.segments:
            name = f"{application.id} {segment.external_url}" if several else application.id
            internal = InternalURL.parse(segment.internal_url)
            realm = application.sso.realm or self._settings.realm
            if internal.wildcard:
                yield Finding(name, SKIP, f"{internal} is a wildcard")
                continue
            spn = service_of(segment.spn or application.sso.spn, internal, realm)
            problem = _connects(internal.host.strip("[]"), internal.port)
            what = f"{internal.host}:{internal.port}"
            remedy = "See that the origin runs, and that the connector's network reaches it." if problem else ""
            yield Finding(
                f"{name}: origin", FAIL if problem else PASS, f"{what} {problem or 'accepts connections'}", remedy
            )
            if not ready:
                yield Finding(f"{name}: service", SKIP, "the connector has no ticket of its own")
                continue
            yield self._service(name, spn)
            yield from self._delegated(name, application, internal, spn, reachable=not problem)

    def _service(self, name: str, spn: str) -> Finding:
        check = f"{name}: service"
        try:
            enctype = _within(lambda: self._library.service_known(self._account, spn))
        except Silent:
            return Finding(check, FAIL, KDC_SILENT.says, KDC_SILENT.remedy)
        except GssFailed as failure:
            return _failed(check, failure)
        if enctype in RC4 and not self._settings.allow_rc4:
            return Finding(check, FAIL, f"{spn}: {WEAK.says}", WEAK.remedy)
        return Finding(check, PASS, f"{spn} is known, once, {self._library.enctype_name(enctype)}")

    def _delegated(
        self, name: str, application: Application, internal: InternalURL, spn: str, reachable: bool
    ) -> Iterator[Finding]:
        steps = [f"{name}: as the user", f"{name}: delegated", f"{name}: accepted"]
        if not self._user:
            for step in steps:
                yield Finding(step, SKIP, "nobody was named", "Name somebody: --user U")
            return
        sso = application.sso
        try:
            realm = sso.realm or self._settings.realm
            user = user_of(sso.identity, self._user, realm, self._account.principal)
            ticket = _within(lambda: self._library.obtain(self._account, user, spn))
        except Silent:
            yield Finding(steps[0], FAIL, KDC_SILENT.says, KDC_SILENT.remedy)
            return
        except KerberosFailed as refused:
            yield Finding(steps[0], FAIL, refused.cause.says, refused.cause.remedy)
            return
        except GssFailed as failure:
            if failure.step is Step.DELEGATE:
                yield Finding(steps[0], PASS, f"S4U2Self for {user.text}")
                yield _failed(steps[1], failure)
            else:
                yield _failed(steps[0], failure, foreign=_is_foreign(user, self._settings.realm))
            return
        yield Finding(steps[0], PASS, f"S4U2Self for {user.text}: {ticket.client}")
        yield Finding(steps[1], PASS, f"S4U2Proxy to {spn}, {self._library.enctype_name(ticket.enctype)}")
        if reachable:
            yield self._accepted(steps[2], application, internal, ticket)
        ticket.destroy()

    def _accepted(self, check: str, application: Application, internal: InternalURL, ticket: Any) -> Finding:
        """What the origin says to a request with the ticket."""
        sso = application.sso
        connection = self._connection(application, internal)
        try:
            connection.connect()
            binding = None
            if isinstance(connection.sock, ssl.SSLSocket) and sso.channel_binding:
                binding = endpoint_binding(connection.sock.getpeercert(binary_form=True) or b"")
            proof = ticket.begin(sso.mechanism == "spnego", sso.mutual != "off", binding)
            name, value = negotiate.authorization(proof.token)
            connection.request("GET", internal.path.decode("ascii"), headers={name.decode(): value.decode()})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as problem:
            return Finding(check, FAIL, f"{internal}: {problem}", "See that the origin answers.")
        finally:
            connection.close()
        fields = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in answer.getheaders()]
        reply = negotiate.reply(fields)
        refused = answer.status == http.client.UNAUTHORIZED and negotiate.challenged(fields)
        try:
            if reply is not None and sso.mutual != "off":
                proof.check(reply)
        except GssFailed as failure:
            cause = cause_of(failure) if refused else ORIGIN_UNPROVEN
            return Finding(check, FAIL, f"{cause.says} ({failure.text})", cause.remedy)
        if refused:
            return _finding(check, ORIGIN_REFUSED)
        if reply is None and sso.mutual == "required":
            return _finding(check, ORIGIN_UNPROVEN)
        proven = " and proves itself" if reply is not None and sso.mutual != "off" else ""
        return Finding(check, PASS, f"{internal} takes it{proven}: status {answer.status}")

    def _connection(self, application: Application, internal: InternalURL) -> http.client.HTTPConnection:
        host = internal.host.strip("[]")
        if internal.scheme == "http":
            return http.client.HTTPConnection(host, internal.port, timeout=ASK_SECONDS)
        origin = application.origin
        context = ssl.create_default_context()
        for file in (origin.ca_file, self._config.origin.ca_file):
            if file:
                context.load_verify_locations(file)
        if not origin.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(host, internal.port, timeout=ASK_SECONDS, context=context)


def _is_foreign(user: UserName, realm: str) -> bool:
    return user.text.rpartition("@")[2] != realm


def _failed(check: str, failure: GssFailed, *, foreign: bool = False) -> Finding:
    cause = cause_of(failure, foreign=foreign)
    return Finding(check, FAIL, f"{cause.says} ({failure.text})", cause.remedy)


def _finding(check: str, cause: Cause) -> Finding:
    return Finding(check, FAIL, cause.says, cause.remedy)


def _connects(host: str, port: int) -> str:
    """Why nothing accepts a connection there; empty when something does."""
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS):
            return ""
    except socket.gaierror:
        return "" if is_address(host) else "cannot be resolved"
    except OSError as problem:
        return f"accepts no connection ({problem.strerror or problem})"


def _within(work: Callable[[], T], seconds: float = ASK_SECONDS) -> T:
    """What *work* gives, from a thread that nobody waits for longer; :raises Silent: it takes too long."""
    results: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as problem:
            results.put((None, problem))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, problem = results.get(timeout=seconds)
    except Empty:
        raise Silent from None
    if problem is not None:
        raise problem
    return result  # type: ignore[return-value]
