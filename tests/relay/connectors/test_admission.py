from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from appproxy.channel.listen import Refused
from appproxy.relay.connectors.admission import Admission
from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.connectors.authority import DAY, Authority, Issued, UnacceptableRequest, make_authority
from appproxy.store import ConnectorRecord, connectors
from tests.fakes.memory_store import MemoryStore
from tests.fakes.recorded_log import recorded
from tests.fakes.signing_requests import make_request

NOW = 1_900_000_000
AUTHORITY = Authority.load(make_authority(NOW))


@pytest.mark.feature("CON-2")
class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = NOW
        self.store: Any = MemoryStore()
        self.admission = Admission(Authorities([AUTHORITY]), self.store, lambda: self.now)
        self.issued = self.enrol("c-one")

    def enrol(self, connector: str) -> Issued:
        issued = AUTHORITY.certify_connector(make_request(), connector, self.now)
        record = ConnectorRecord(
            id=connector,
            name="hq-1",
            group="hq",
            serial=issued.serial,
            not_after=issued.not_after,
            enrolled=self.now,
        )
        self.successResultOf(self.store.write(connectors.enrol, record))
        return issued

    def admit(self, pem: bytes) -> ConnectorRecord:
        return self.successResultOf(self.admission.admit(der_of(pem), "192.0.2.7"))

    def refused(self, der: bytes | None) -> str:
        with recorded(Admission) as events:
            reason = str(self.failureResultOf(self.admission.admit(der, "192.0.2.7"), Refused).value)
        self.assertEqual([(event["event"], event["reason"]) for event in events[-1:]], [("connector.refused", reason)])
        self.events = events
        return reason

    def test_an_enrolled_connector_comes_in(self) -> None:
        """The certificate it was given at enrolment says which connector it is."""
        self.assertEqual(self.admit(self.issued.pem).id, "c-one")

    def test_nobody_comes_in_without_certificate(self) -> None:
        """No certificate, or bytes that are none, are refused."""
        self.assertIn("enrol first", self.refused(None))
        self.assertIn("cannot be read", self.refused(b"junk"))

    def test_certificates_for_something_else_are_refused(self) -> None:
        """R11: a server certificate of the same authority, or the authority's own, opens no channel."""
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        server = der_of(AUTHORITY.certify_server(key, ["c-one"], NOW).pem)
        for der in (server, AUTHORITY.certificate.public_bytes(Encoding.DER)):
            self.assertIn("not a connector's", self.refused(der))

    def test_strangers_of_our_authority_are_refused(self) -> None:
        """A certificate without an enrolment in the store, of a restored backup perhaps, is refused."""
        self.assertIn("not enrolled", self.refused(der_of(AUTHORITY.certify_connector(make_request(), "c-x", NOW).pem)))

    def test_the_revoked_are_refused(self) -> None:
        """R10: a revoked connector stays out although its certificate is good."""
        self.successResultOf(self.store.write(connectors.revoke, "c-one", NOW))
        self.assertIn("revoked", self.refused(der_of(self.issued.pem)))

    def test_the_expired_are_refused(self) -> None:
        """R07: after its end a certificate needs a new enrolment; the answer names the clocks (R09)."""
        self.now += 30 * DAY
        self.assertIn("clocks", self.refused(der_of(self.issued.pem)))

    def test_a_renewed_certificate_takes_over(self) -> None:
        """R07: a renewal gives a certificate for the new key, and the record follows."""
        self.now += 20 * DAY
        key = ec.generate_private_key(ec.SECP256R1())
        pem = self.successResultOf(self.admission.reissue(self.admit(self.issued.pem), make_request(key)))
        self.assertEqual(x509.load_pem_x509_certificate(pem.encode()).public_key(), key.public_key())
        record = self.admit(pem.encode())
        self.assertEqual((record.generation, record.not_after), (2, self.now + 30 * DAY))

    def test_the_old_certificate_helps_when_the_answer_was_lost(self) -> None:
        """A connector that never got its new certificate comes again with the old one and renews once more."""
        self.now += 20 * DAY
        record = self.admit(self.issued.pem)
        self.successResultOf(self.admission.reissue(record, make_request()))
        self.now += 3599
        again = self.admit(self.issued.pem)
        pem = self.successResultOf(self.admission.reissue(again, make_request()))
        self.assertEqual(self.admit(pem.encode()).generation, 3)

    def test_a_copied_certificate_is_found_out(self) -> None:
        """R06: when a thief has renewed with a copy, the real one's return shuts both out, with an alarm."""
        self.now += 20 * DAY
        stolen = self.successResultOf(self.admission.reissue(self.admit(self.issued.pem), make_request()))
        self.now += 3600
        self.assertIn("superseded", self.refused(der_of(self.issued.pem)))
        self.assertEqual([event["event"] for event in self.events], ["connector.copied", "connector.refused"])
        self.assertIn("revoked", self.refused(der_of(stolen.encode())))

    def test_the_revoked_get_no_new_certificate(self) -> None:
        """A connector revoked while its channel was open cannot renew on it."""
        record = self.admit(self.issued.pem)
        self.successResultOf(self.store.write(connectors.revoke, "c-one", NOW))
        self.failureResultOf(self.admission.reissue(record, make_request()), Refused)

    def test_a_bad_signing_request_changes_nothing(self) -> None:
        """A malformed renewal is refused and the present certificate stays good."""
        record = self.admit(self.issued.pem)
        self.failureResultOf(self.admission.reissue(record, "junk"), UnacceptableRequest)
        self.assertEqual(self.admit(self.issued.pem), record)


def der_of(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
