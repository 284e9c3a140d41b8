"""A directory of certificates: which one is shown, and what happens when files change."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import ConfigError
from appproxy.net.certificates import WATCH_SECONDS, Certificates
from appproxy.net.tls import names_of
from tests.fakes.certificates import Authority


def shown(context: ssl.SSLContext, name: str | None) -> list[str]:
    """Shake hands in memory and return the names in the certificate that a client asking for *name* is shown."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(down, up, server_hostname=name)
    server = context.wrap_bio(up, down, server_side=True)
    for end in (client, server, client):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return names_of(x509.load_der_x509_certificate(der))


class Directory(SynchronousTestCase):
    """A directory, an authority and a clock."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.authority = Authority()
        self.clock = Clock()

    def put(self, stem: str, *names: str, **settings: Any) -> Path:
        return self.authority.write(self.directory / f"{stem}.pem", *names, **settings)

    def load(self) -> Certificates:
        certificates = Certificates(self.directory, self.clock)
        certificates.start()
        self.addCleanup(certificates.stop)
        return certificates


class ChoosingTests(Directory):
    """By name."""

    def test_exact_then_wildcard_then_default(self) -> None:
        """N17: the name asked for decides; unknown and absent names get the default."""
        self.put("default", "portal.example.com")
        self.put("a-wildcard", "*.apps.example.com", "apps.example.com")
        self.put("hr", "hr.apps.example.com")
        context = self.load().context
        self.assertEqual(shown(context, "hr.apps.example.com"), ["hr.apps.example.com"])
        self.assertEqual(shown(context, "HR.Apps.Example.com"), ["hr.apps.example.com"])
        self.assertEqual(shown(context, "crm.apps.example.com"), ["*.apps.example.com", "apps.example.com"])
        self.assertEqual(shown(context, "apps.example.com"), ["*.apps.example.com", "apps.example.com"])
        for other in ("a.b.apps.example.com", "random.example", "com", None):
            self.assertEqual(shown(context, other), ["portal.example.com"])

    def test_without_a_default(self) -> None:
        """The first by name is the default."""
        self.put("b", "b.example.com")
        self.put("a", "a.example.com")
        self.assertEqual(shown(self.load().context, None), ["a.example.com"])

    def test_the_one_valid_longer(self) -> None:
        """An expired certificate for the same name is not in the way of its successor."""
        self.put("a", "app.example.com", expired=True)
        self.put("b", "app.example.com")
        certificates = self.load()
        latest = max(certificate.not_after for certificate in certificates.loaded)
        self.assertEqual([c.stem for c in certificates.loaded if c.not_after == latest], ["b"])
        context = ssl.create_default_context(cadata=self.authority.pem)
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(down, up, server_hostname="app.example.com")
        server = certificates.context.wrap_bio(up, down, server_side=True)
        for end in (client, server):
            self.assertRaises(ssl.SSLWantReadError, end.do_handshake)
        client.do_handshake()  # verified

    def test_a_key_of_its_own(self) -> None:
        """``NAME.crt`` or ``NAME.pem`` beside ``NAME.key`` is one certificate."""
        for suffix in ("crt", "pem"):
            certificate, key = self.authority.issue(f"{suffix}.example.com")
            (self.directory / f"{suffix}.{suffix}").write_text(certificate)
            (self.directory / f"{suffix}.key").touch(mode=0o600)
            (self.directory / f"{suffix}.key").write_text(key)
        (self.directory / ".hidden.pem").write_text("editor's droppings")
        (self.directory / "README").write_text("not a certificate")
        context = self.load().context
        for suffix in ("crt", "pem"):
            self.assertEqual(shown(context, f"{suffix}.example.com"), [f"{suffix}.example.com"])


class ChangingTests(Directory):
    """While running."""

    def test_a_new_and_a_renewed_file(self) -> None:
        """Both are in service after a few seconds; connections made before keep what they have."""
        self.put("default", "old.example.com")
        certificates = self.load()
        before = certificates.context
        self.put("default", "new.example.com")
        self.put("other", "other.example.com")
        self.clock.advance(WATCH_SECONDS)
        self.assertEqual(shown(certificates.context, None), ["new.example.com"])
        self.assertEqual(shown(certificates.context, "other.example.com"), ["other.example.com"])
        self.assertEqual(shown(before, None), ["old.example.com"])

    def test_a_broken_file_keeps_the_old_ones(self) -> None:
        """What cannot be loaded is named, with the reason; its predecessor serves on, and others are renewed."""
        self.put("default", "portal.example.com")
        self.put("hr", "hr.example.com")
        certificates = self.load()
        (self.directory / "default.pem").write_text("-----BEGIN CERTIFICATE-----\nhalf")
        self.put("hr", "hr.example.com", "staff.example.com")
        with capturedLogs() as logs:
            self.clock.pump([WATCH_SECONDS] * 3)
        self.assertEqual(len(certificates.problems), 1)
        self.assertIn("default.pem", str(certificates.problems[0]))
        told = [log["problem"] for log in logs if log.get("event") == "tls.certificate-refused"]
        self.assertEqual(told, [str(certificates.problems[0])])
        self.assertEqual(shown(certificates.context, None), ["portal.example.com"])
        self.assertEqual(shown(certificates.context, "staff.example.com"), ["hr.example.com", "staff.example.com"])
        self.put("default", "mended.example.com")
        self.clock.advance(WATCH_SECONDS)
        self.assertEqual(certificates.problems, [])
        self.assertEqual(shown(certificates.context, None), ["mended.example.com"])

    def test_certificate_before_key(self) -> None:
        """A renewal that is seen between its two files is tried again."""
        first, first_key = self.authority.issue("one.example.com")
        second, second_key = self.authority.issue("two.example.com")
        key_file = self.directory / "default.key"
        key_file.touch(mode=0o600)
        key_file.write_text(first_key)
        (self.directory / "default.crt").write_text(first)
        certificates = self.load()
        (self.directory / "default.crt").write_text(second)
        self.clock.advance(WATCH_SECONDS)
        self.assertIn("does not belong", certificates.problems[0].problem)
        self.assertEqual(shown(certificates.context, None), ["one.example.com"])
        key_file.write_text(second_key)
        self.clock.advance(WATCH_SECONDS)
        self.assertEqual(shown(certificates.context, None), ["two.example.com"])

    def test_a_removed_file(self) -> None:
        """Its names fall to the default; when all are gone, the last ones stay."""
        self.put("default", "portal.example.com")
        hr = self.put("hr", "hr.example.com")
        certificates = self.load()
        hr.unlink()
        self.clock.advance(WATCH_SECONDS)
        self.assertEqual(shown(certificates.context, "hr.example.com"), ["portal.example.com"])
        (self.directory / "default.pem").unlink()
        self.clock.advance(WATCH_SECONDS)
        self.assertEqual(shown(certificates.context, None), ["portal.example.com"])
        self.assertIn("no certificate here", certificates.problems[0].problem)

    def test_nothing_changed(self) -> None:
        """Looking costs nothing but looking."""
        self.put("default", "portal.example.com")
        certificates = self.load()
        before = certificates.context
        self.clock.pump([WATCH_SECONDS] * 5)
        self.assertIs(certificates.context, before)


class RefusingTests(Directory):
    """At the start, anything unusable is an error that names the file."""

    def refused(self) -> str:
        return str(self.assertRaises(ConfigError, Certificates, self.directory, self.clock))

    def test_no_certificates(self) -> None:
        """An empty or missing directory."""
        self.assertIn("no certificate here", self.refused())
        self.directory.rmdir()
        self.assertIn("cannot be read", self.refused())

    def test_a_key_that_everybody_can_read(self) -> None:
        """R13: mode 0644 is refused, with the remedy; 0640 for a group is not."""
        self.put("default", "portal.example.com").chmod(0o644)
        refused = self.refused()
        self.assertIn("0644", refused)
        self.assertIn("chmod 600", refused)
        self.assertNotIn("BEGIN", refused)
        (self.directory / "default.pem").chmod(0o640)
        self.load()

    def test_no_key(self) -> None:
        """A certificate alone."""
        path = self.put("default", "portal.example.com")
        path.write_text(path.read_text().partition("-----BEGIN PRIVATE")[0])
        self.assertIn("default.pem", self.refused())

    def test_no_names(self) -> None:
        """A certificate for nobody serves nobody."""
        self.put("default")
        self.assertIn("names no host", self.refused())

    def test_an_encrypted_key(self) -> None:
        """Nobody is there to type a password."""
        from cryptography.hazmat.primitives import serialization

        certificate, key = self.authority.issue("portal.example.com")
        encrypted = serialization.load_pem_private_key(key.encode(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        path = self.directory / "default.pem"
        path.touch(mode=0o600)
        path.write_bytes(certificate.encode() + encrypted)
        self.assertIn("encrypted", self.refused())
