from __future__ import annotations

import shutil
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import ConfigError
from appproxy.net.certificates import Certificates
from appproxy.net.tls import ALPN_WITH_HTTP2
from appproxy.relay.certificates import (
    MAX_MADE,
    ServerCertificates,
    open_authorities,
    publish_authorities,
)
from appproxy.relay.connectors.authorities import AUTHORITY_SECRET, Authorities
from appproxy.relay.connectors.authority import DAY, Authority, make_authority
from appproxy.store import secrets
from tests.fakes.certificates import Authority as OtherAuthority
from tests.fakes.memory_store import MemoryStore
from tests.fakes.recorded_log import recorded

NOW = 1_900_000_000
AUTHORITY = Authority.load(make_authority(NOW))


def handshake(context: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """Shake hands in memory; return the client's end, which offers HTTP/2."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.set_alpn_protocols(["h2", "http/1.1"])
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(down, up, server_hostname=name)
    server = context.wrap_bio(up, down, server_side=True)
    for side in (caller, server, caller, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return caller


def shown(context: ssl.SSLContext, name: str | None) -> x509.Certificate:
    """The certificate that a server shows."""
    caller = handshake(context, name)
    der = caller.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def names(certificate: x509.Certificate) -> list[str]:
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return alternatives.get_values_for_type(x509.DNSName)


class FolderTestCase(SynchronousTestCase):
    def folder(self) -> Path:
        """A folder that is gone after the test."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        return folder


@pytest.mark.feature("PUB-8")
class ServerCertificatesTests(FolderTestCase):
    def setUp(self) -> None:
        self.now = NOW
        self.published = {"hr.localhost"}

    def make(self, **more: Any) -> ServerCertificates:
        return ServerCertificates(
            Authorities([AUTHORITY]),
            "proxy.localhost",
            now=lambda: self.now,
            publishes=self.published.__contains__,
            **more,
        )

    def directory(self, **files: str) -> Certificates:
        folder = self.folder()
        other = OtherAuthority()
        for stem, name in files.items():
            other.write(folder / f"{stem}.pem", name)
        return Certificates(folder, Clock())

    def test_a_published_host_gets_its_own(self) -> None:
        """Without configured certificates a published host is shown one of the relay's own authority, for it alone."""
        certificate = shown(self.make().context, "hr.localhost")
        self.assertEqual(names(certificate), ["hr.localhost"])
        certificate.verify_directly_issued_by(AUTHORITY.certificate)

    @pytest.mark.feature("HTTP-1")
    def test_http2_is_offered_where_it_is_wanted(self) -> None:
        """Whichever certificate is shown, HTTP/2 is agreed on where it is offered, and nowhere else."""
        for name in ("proxy.localhost", "hr.localhost", None):
            self.assertEqual(handshake(self.make().context, name).selected_alpn_protocol(), "http/1.1")
            offering = self.make(protocols=ALPN_WITH_HTTP2).context
            self.assertEqual(handshake(offering, name).selected_alpn_protocol(), "h2")

    def test_strangers_make_nothing(self) -> None:
        """A name that nothing is published at gets the relay's own certificate; none is made for it."""
        certificates = self.make()
        for name in ("evil.example", None):
            self.assertEqual(names(shown(certificates.context, name)), ["proxy.localhost"])
        self.assertEqual(set(certificates._made), {"proxy.localhost"})

    def test_an_application_published_later_is_served_at_once(self) -> None:
        """PUB-10: what is published is asked at each handshake."""
        certificates = self.make()
        self.assertEqual(names(shown(certificates.context, "new.localhost")), ["proxy.localhost"])
        self.published.add("new.localhost")
        self.assertEqual(names(shown(certificates.context, "New.localhost")), ["new.localhost"])

    def test_made_once_and_again_in_time(self) -> None:
        """A certificate is kept for sixty days and then replaced by a new one."""
        certificates = self.make()
        first = shown(certificates.context, "hr.localhost")
        self.now += 59 * DAY
        self.assertEqual(shown(certificates.context, "hr.localhost"), first)
        self.now += 2 * DAY
        later = shown(certificates.context, "hr.localhost")
        self.assertEqual(int(later.not_valid_after_utc.timestamp()), self.now + 90 * DAY)

    def test_many_hosts_of_a_wildcard_do_not_pile_up(self) -> None:
        """The number of certificates kept is bounded."""
        certificates = self.make()
        context = certificates._development("0")
        certificates._made.update((f"{number}.localhost", certificates._made["0"]) for number in range(MAX_MADE))
        certificates._development("another.localhost")
        self.assertLessEqual(len(certificates._made), MAX_MADE + 1)
        self.assertIsNot(certificates._development("0"), context)

    def test_the_folder_goes_first(self) -> None:
        """A configured certificate, exact or wildcard, is shown wherever it fits; for the rest one is made."""
        directory = self.directory(wild="*.localhost", proxy="proxy.localhost", other="other.example")
        certificates = self.make(directory=directory)
        self.published.add("hr.example")
        self.assertEqual(names(shown(certificates.context, "proxy.localhost")), ["proxy.localhost"])
        self.assertEqual(names(shown(certificates.context, "hr.localhost")), ["*.localhost"])
        self.assertEqual(names(shown(certificates.context, "hr.example")), ["hr.example"])
        for name in ("evil.invalid", None):
            certificate = shown(certificates.context, name)
            self.assertEqual(names(certificate), ["proxy.localhost"])
            self.assertNotEqual(certificate.issuer, AUTHORITY.certificate.subject)

    def test_strangers_see_the_folder_even_when_it_lacks_our_name(self) -> None:
        """With configured certificates nobody but those who ask for a published host sees a development one."""
        certificates = self.make(directory=self.directory(other="other.example"))
        self.assertEqual(names(shown(certificates.context, None)), ["other.example"])

    def test_says_that_it_is_for_development(self) -> None:
        """The log says once for each host, as a warning, that its certificate is a development one, and the remedy."""
        certificates = self.make()
        with recorded(ServerCertificates) as events:
            for name in ("hr.localhost", "hr.localhost", None):
                shown(certificates.context, name)
        self.assertEqual([event["host"] for event in events], ["hr.localhost", "proxy.localhost"])
        self.assertEqual({event["log_level"] for event in events}, {LogLevel.warn})
        self.assertIn("tls.certificates", events[0]["log_format"])

    def test_nothing_is_left_on_the_disk(self) -> None:
        """Keys of development certificates stay in memory."""
        folder = self.folder()
        self.patch(tempfile, "tempdir", str(folder))
        self.make().find("hr.localhost")
        self.assertEqual(list(folder.iterdir()), [])

    @pytest.mark.feature("CON-2")
    def test_asks_connectors_for_their_certificate(self) -> None:
        """The connectors' door verifies client certificates against the relay's authority."""
        context = self.make(asks_clients=True).context
        self.assertEqual(context.verify_mode, ssl.CERT_OPTIONAL)
        self.assertEqual(len(context.get_ca_certs()), 1)

    @pytest.mark.feature("CON-2")
    def test_new_handshakes_follow_the_authorities(self) -> None:
        """R12: as soon as another one issues, its certificates are shown, and both are asked for."""
        old, new = AUTHORITY, Authority.load(make_authority(NOW + 1))
        authorities = Authorities([old])
        certificates = ServerCertificates(authorities, "proxy.localhost", now=lambda: self.now, asks_clients=True)
        shown(certificates.context, "proxy.localhost").verify_directly_issued_by(old.certificate)
        authorities.replace(new.whole() + old.whole())
        shown(certificates.context, "proxy.localhost").verify_directly_issued_by(new.certificate)
        self.assertEqual(len(certificates.context.get_ca_certs()), 2)

    @pytest.mark.feature("CON-2")
    def test_the_connectors_door_is_no_development(self) -> None:
        """Connectors pin the authority: what they are shown is as it should be, and the log does not warn."""
        with recorded(ServerCertificates) as events:
            shown(self.make(asks_clients=True).context, "proxy.localhost")
        self.assertEqual(events, [])


class OpenAuthorityTests(SynchronousTestCase):
    @pytest.mark.feature("CON-2")
    def test_all_relays_share_one(self) -> None:
        """Whoever opens the store later finds the same authority."""
        store: Any = MemoryStore()
        first = self.successResultOf(open_authorities(store, NOW))
        self.assertEqual(self.successResultOf(open_authorities(store, NOW + 1)).trusted_pem, first.trusted_pem)

    def test_a_damaged_one_is_said_so(self) -> None:
        """A store whose authority cannot be read is an error with a remedy; no second authority is made."""
        store: Any = MemoryStore()
        self.successResultOf(store.write(secrets.put, AUTHORITY_SECRET, b"junk"))
        error = self.failureResultOf(open_authorities(store, NOW), ConfigError).value
        self.assertIn("restore a backup", str(error))


class PublishAuthorityTests(FolderTestCase):
    @pytest.mark.feature("PUB-8")
    def test_writes_the_certificate_and_no_key(self) -> None:
        """The file is the certificate, readable by all; a stale one is replaced."""
        folder = self.folder()
        (folder / "development-ca.pem").write_text("old")
        path = publish_authorities(Authorities([AUTHORITY]), folder)
        self.assertEqual(path.read_bytes(), AUTHORITY.pem)
        self.assertEqual(path.stat().st_mode & 0o777, 0o644)
        self.assertEqual([each.name for each in folder.iterdir()], ["development-ca.pem"])

    def test_an_unwritable_folder_is_named(self) -> None:
        """A state folder that is none is one line with the remedy."""
        with self.assertRaises(ConfigError) as caught:
            publish_authorities(Authorities([AUTHORITY]), Path("/dev/null"))
        self.assertIn("relay.state_dir", str(caught.exception))
