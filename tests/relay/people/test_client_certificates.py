"""Certificates of users: whose they are, and for which requests they count."""

from __future__ import annotations

import datetime
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Assigned, ClientCertificates, Rule, Who
from appproxy.relay.catalog import Catalog
from tests.fakes.certificates import Authority
from tests.fakes.fronts import APPLICATIONS, COOKIE, Bench, FakeSocket, get

HR, OPEN, _ = APPLICATIONS
CA = Authority("Users CA")


def issued(*names: str) -> bytes:
    """A certificate of a user, as it comes in TLS."""
    pem, _ = CA.issue(*names, client=True)
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


ALICE = issued("alice", "upn:alice", "email:alice@example.com")


class Certified(SynchronousTestCase):
    """A relay whose application asks for certificates."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.bench.gateway._epoch = lambda: int(datetime.datetime.now(datetime.UTC).timestamp())

    def publish(self, application: Any = HR, rule: tuple[Rule, ...] = (), **settings: Any) -> None:
        certificates = ClientCertificates(ca=CA.pem, **settings)
        changed = msgspec.structs.replace(application, client_certificate=certificates, rule=rule)
        self.bench.gateway.catalog = Catalog([changed])

    def asked(
        self, der: bytes | None, more: bytes = b"", host: str = "hr.example.com", sni: str = "", trusted: str = CA.pem
    ) -> bytes:
        """What the relay itself answers on a connection with this certificate; empty for what has gone on."""
        client: Any = self.bench.client()
        client.sni, client.trusted = sni or host, trusted
        client.getPeerCertificateDER = lambda: der
        self.bench.sends(client, get(host=host.encode(), more=more))
        answer: bytes = client.take()
        return answer

    @property
    def standing(self) -> Any:
        """What the connector was last told."""
        return self.bench.pair.opener.heads[-1][0].standing


@pytest.mark.feature("AUTH-12", "AUTH-1")
class SignInTest(Certified):
    """A certificate in place of a sign-in."""

    def test_names(self) -> None:
        """The user is who the certificate says, by the name that the application looks at."""
        for kind, user in (("upn", "alice"), ("email", "alice@example.com"), ("cn", "alice")):
            self.publish(msgspec.structs.replace(HR, assigned=Assigned(users=(user,))), user=kind)
            self.assertEqual(self.asked(ALICE), b"")
            self.assertEqual(self.standing.identity, {"user": user})

    def test_without(self) -> None:
        """Whoever has none signs in as usual, unless it is required."""
        self.publish(user="upn")
        self.assertIn(b" 401 ", self.asked(None))
        self.assertEqual(self.asked(None, COOKIE), b"")
        self.publish(user="upn", required=True)
        self.assertIn(b"certificate-missing", self.asked(None, COOKIE))

    def test_assignment_and_rules(self) -> None:
        """They hold as for everybody."""
        self.publish(msgspec.structs.replace(HR, assigned=Assigned(users=("bob",))), user="upn")
        self.assertIn(b" 403 ", self.asked(ALICE))
        self.publish(user="upn", rule=(Rule(deny=Who(claims={"certificate_subject": ("CN=alice",)})),))
        self.assertIn(b" 403 ", self.asked(ALICE))
        self.publish(user="upn", rule=(Rule(acr=("mfa",)),))
        self.assertIn(b" 403 ", self.asked(ALICE))
        self.assertEqual(self.bench.pair.opener.heads, [])

    def test_names_that_are_none(self) -> None:
        """Two names, empty ones, programs' and those that no person has: nobody is signed in by these."""
        for names in (
            ("x", "upn:alice", "upn:bob"),
            ("x", "upn: alice"),
            ("x", "upn:app:daemon"),
            ("x", "upn:a\r\nb"),
            ("x",),
        ):
            self.publish(user="upn")
            self.assertIn(b" 401 ", self.asked(issued(*names)), names)
            self.publish(user="upn", required=True)
            self.assertIn(b" 403 ", self.asked(issued(*names), COOKIE), names)

    def test_expired_meanwhile(self) -> None:
        """A connection that outlives its certificate."""
        self.publish(user="upn")
        self.bench.gateway._epoch = lambda: 4_000_000_000
        self.assertIn(b" 401 ", self.asked(ALICE))

    def test_what_cannot_be_read(self) -> None:
        """Is no certificate."""
        self.publish(user="upn", required=True)
        self.assertIn(b" 403 ", self.asked(b"\x30\x03\x02\x01\x00", COOKIE))


@pytest.mark.feature("AUTH-12")
class DirectionTest(Certified):
    """A certificate counts for the host that TLS was told, and no other."""

    def test_other_host(self) -> None:
        """N14: SNI and Host differ, or the connection was made with other authorities, or without TLS: 421."""
        self.publish(user="upn")
        self.assertIn(b" 421 ", self.asked(ALICE, sni="wiki.example.com"))
        self.assertIn(b" 421 ", self.asked(ALICE, trusted=Authority("Other").pem))
        self.assertIn(b" 421 ", self.asked(None, COOKIE, trusted=""))
        plain: FakeSocket = self.bench.client()
        self.bench.sends(plain, get())
        self.assertIn(b" 421 ", plain.take())
        self.assertEqual(self.bench.pair.opener.heads, [])

    def test_other_applications(self) -> None:
        """Those that ask for none do not care about the connection."""
        self.bench.gateway.catalog = Catalog([HR])
        self.assertEqual(self.asked(ALICE, COOKIE, sni="wiki.example.com"), b"")
        self.assertEqual(self.standing.identity, {"user": "alice"})

    def test_who_is_asked(self) -> None:
        """The clients of hosts that an enabled application asks for certificates."""
        asking = msgspec.structs.replace(HR, client_certificate=ClientCertificates(ca=CA.pem, user="upn"))
        catalog = Catalog([asking, OPEN])
        self.assertEqual(catalog.trusted_at("hr.example.com"), CA.pem)
        self.assertEqual(catalog.trusted_at("open.example.com"), "")
        self.assertTrue(catalog.asks_for_certificates)
        catalog = Catalog([msgspec.structs.replace(asking, enabled=False)])
        self.assertEqual((catalog.trusted_at("hr.example.com"), catalog.asks_for_certificates), ("", False))


@pytest.mark.feature("AUTH-12")
class ForwardingTest(Certified):
    """RFC 9440."""

    def test_forwarded(self) -> None:
        """The origin gets it as a byte sequence; what a client says of itself is removed."""
        self.publish(OPEN, forward=True)
        spoofed = b"Client-Cert: :Zm9yZ2Vk:\r\nclient_cert: x\r\nClient-Cert-Chain: :x:\r\n"
        self.assertEqual(self.asked(ALICE, spoofed, "open.example.com"), b"")
        told = [(name, value) for name, value in self.standing.fields if b"cert" in name.lower()]
        self.assertEqual(told, [(b"Client-Cert", b":" + b64encode(ALICE) + b":")])
        self.assertEqual(self.asked(None, spoofed, "open.example.com"), b"")
        self.assertEqual([name for name, _ in self.standing.fields if b"cert" in name.lower()], [])

    def test_required(self) -> None:
        """A pass-through application, too, can demand one."""
        self.publish(OPEN, required=True)
        self.assertIn(b" 403 ", self.asked(None, host="open.example.com"))
        self.assertEqual(self.asked(ALICE, host="open.example.com"), b"")
        self.assertEqual([name for name, _ in self.standing.fields if b"cert" in name.lower()], [])
