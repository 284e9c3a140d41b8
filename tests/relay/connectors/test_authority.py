from __future__ import annotations

import base64
import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.connectors.authority import DAY, Authority, UnacceptableRequest, make_authority, read_request
from tests.fakes.signing_requests import make_request

NOW = 1_900_000_000
AUTHORITY = Authority.load(make_authority(NOW))
#: Made once: the size is what counts.
RSA_2048 = rsa.generate_private_key(65537, 2048)
RSA_1024 = rsa.generate_private_key(65537, 1024)


def issue(request: str, connector: str = "c-abc") -> x509.Certificate:
    return x509.load_pem_x509_certificate(AUTHORITY.certify_connector(request, connector, NOW).pem)


class MakeAuthorityTests(SynchronousTestCase):
    def test_lives_ten_years_and_issues_no_other_authorities(self) -> None:
        """The authority's certificate is a CA's of path length 0, EC P-256, for ten years."""
        certificate = AUTHORITY.certificate
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        self.assertEqual((constraints.ca, constraints.path_length), (True, 0))
        self.assertEqual(int(certificate.not_valid_after_utc.timestamp()), NOW + 3650 * DAY)
        key = certificate.public_key()
        self.assertIsInstance(key, ec.EllipticCurvePublicKey)
        certificate.verify_directly_issued_by(certificate)

    def test_fingerprint_is_of_the_der(self) -> None:
        """What connectors pin is the SHA-256 of the certificate's DER."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(AUTHORITY.certificate.public_bytes(Encoding.DER))
        self.assertEqual(AUTHORITY.fingerprint, digest.finalize())

    def test_what_is_kept_is_read_again(self) -> None:
        """Key and certificate survive being written and read."""
        pem = make_authority(NOW)
        self.assertEqual(Authority.load(pem).pem, Authority.load(pem).pem)
        self.assertNotIn(b"PRIVATE", Authority.load(pem).pem)

    def test_something_else_is_refused(self) -> None:
        """A damaged secret is a ValueError, not an authority without a key."""
        for pem in (b"", b"junk", AUTHORITY.pem):
            with self.assertRaises(ValueError):
                Authority.load(pem)


@pytest.mark.feature("CON-2")
class CertifyConnectorTests(SynchronousTestCase):
    def test_everything_but_the_key_is_chosen_here(self) -> None:
        """R04: another's name, CA:TRUE, extra names and purposes in the request do not come back."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = issue(
            make_request(
                key,
                "c-somebody-else",
                x509.BasicConstraints(ca=True, path_length=None),
                x509.SubjectAlternativeName(
                    [x509.DNSName("proxy.example.com"), x509.UniformResourceIdentifier("appproxy:connector:c-other")]
                ),
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            )
        )
        self.assertEqual(certificate.public_key(), key.public_key())
        self.assertEqual(certificate.subject, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "c-abc")]))
        find = certificate.extensions.get_extension_for_class
        self.assertFalse(find(x509.BasicConstraints).value.ca)
        self.assertEqual(
            list(find(x509.SubjectAlternativeName).value), [x509.UniformResourceIdentifier("appproxy:connector:c-abc")]
        )
        self.assertEqual(list(find(x509.ExtendedKeyUsage).value), [ExtendedKeyUsageOID.CLIENT_AUTH])
        self.assertEqual(len(certificate.extensions), 6)
        certificate.verify_directly_issued_by(AUTHORITY.certificate)

    def test_lives_thirty_days_from_a_little_ago(self) -> None:
        """R09: a connector whose clock is an hour slow takes its certificate."""
        certificate = issue(make_request())
        self.assertEqual(int(certificate.not_valid_after_utc.timestamp()), NOW + 30 * DAY)
        self.assertEqual(int(certificate.not_valid_before_utc.timestamp()), NOW - 3600)

    def test_the_chain_and_the_record_agree(self) -> None:
        """The PEM holds the certificate, then its issuer's; serial and end are those of the certificate."""
        issued = AUTHORITY.certify_connector(make_request(), "c-abc", NOW)
        certificate, issuer = x509.load_pem_x509_certificates(issued.pem)
        self.assertEqual(issued.serial, f"{certificate.serial_number:x}")
        self.assertEqual(issued.not_after, NOW + 30 * DAY)
        self.assertEqual(issuer, AUTHORITY.certificate)

    def test_ids_are_ours(self) -> None:
        """R05: an id that we would never make is a mistake of the caller, not a certificate."""
        for connector in ("", "abc", "c-", "c-A", "c-a\0.evil", "c-a b", "c-é"):
            with self.assertRaises(ValueError):
                issue(make_request(), connector)


@pytest.mark.feature("CON-2")
class ReadRequestTests(SynchronousTestCase):
    def test_strong_keys_are_taken(self) -> None:
        """EC from P-256 on, Ed25519, and RSA from 2048 bits on."""
        for key in (ec.generate_private_key(ec.SECP384R1()), RSA_2048):
            self.assertEqual(read_request(make_request(key)), key.public_key())
        edwards = ed25519.Ed25519PrivateKey.generate()
        self.assertEqual(read_request(make_request(edwards, algorithm=None)), edwards.public_key())

    def test_weak_and_unusual_keys_are_refused(self) -> None:
        """R04: short RSA, small or odd curves, other kinds; the answer says what to use."""
        keys = [
            (RSA_1024, hashes.SHA256()),
            (ec.generate_private_key(ec.SECP192R1()), hashes.SHA256()),
            (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
            (ed448.Ed448PrivateKey.generate(), None),
            (dsa.generate_private_key(2048), hashes.SHA256()),
        ]
        for key, algorithm in keys:
            with self.assertRaises(UnacceptableRequest) as caught:
                read_request(make_request(key, algorithm=algorithm))
            self.assertIn("EC P-256", str(caught.exception))

    def test_the_request_is_signed_by_its_key(self) -> None:
        """A request for somebody else's key, without a signature of that key, is refused."""
        octets = bytearray(base64.b64decode("".join(make_request().splitlines()[1:-1])))
        for position in (len(octets) - 1, len(octets) - 20):
            broken = bytearray(octets)
            broken[position] ^= 1
            with self.assertRaises(UnacceptableRequest):
                read_request(_pem(broken))

    def test_outdated_hashes_are_refused(self) -> None:
        """A SHA-1 signature proves nothing any more."""
        template = base64.b64decode("".join(make_request(RSA_2048).splitlines()[1:-1]))
        # sha256WithRSAEncryption (1.2.840.113549.1.1.11) becomes sha1WithRSAEncryption (.5).
        sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
        self.assertIn(sha256, template)
        with self.assertRaises(UnacceptableRequest) as caught:
            read_request(_pem(template.replace(sha256, sha1)))
        self.assertIn("SHA-256", str(caught.exception))

    def test_names_with_tricks_are_refused(self) -> None:
        """R05: NUL, control characters and look-alikes in names, although no name is used."""
        for name in ("c1\0.evil", "c1\n", "\u04411", "c1\u202e"):
            with self.assertRaises(UnacceptableRequest):
                read_request(make_request(None, name))
        names = x509.SubjectAlternativeName([x509.DNSName("c1\0.evil")])
        with self.assertRaises(UnacceptableRequest):
            read_request(make_request(None, "c1", names))

    def test_what_is_no_request_is_refused(self) -> None:
        """Certificates, keys, text, nothing and megabytes are refused alike."""
        for text in ("", "x", AUTHORITY.pem.decode(), "é", "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 1_000_000):
            with self.assertRaises(UnacceptableRequest):
                read_request(text)

    @settings(max_examples=100)
    @given(st.data())
    def test_any_bytes_are_a_request_or_refused(self, data: st.DataObject) -> None:
        """Damaged requests raise nothing but the one exception."""
        octets = bytearray(base64.b64decode("".join(REQUEST.splitlines()[1:-1])))
        for _ in range(data.draw(st.integers(1, 4))):
            octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(UnacceptableRequest):
            read_request(_pem(octets))


class CertifyServerTests(SynchronousTestCase):
    @pytest.mark.feature("PUB-8")
    def test_is_for_servers_of_these_names_only(self) -> None:
        """A development certificate names its hosts, may not be a client, and lives ninety days."""
        key = ec.generate_private_key(ec.SECP256R1())
        issued = AUTHORITY.certify_server(key.public_key(), ["hr.localhost", "127.0.0.1"], NOW)
        certificate = x509.load_pem_x509_certificate(issued.pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["hr.localhost"])
        self.assertEqual([str(each) for each in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1"])
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(purposes), [ExtendedKeyUsageOID.SERVER_AUTH])
        self.assertEqual(issued.not_after, NOW + 90 * DAY)


REQUEST = make_request(
    None, "c1", x509.SubjectAlternativeName([x509.DNSName("a.example")]), x509.BasicConstraints(False, None)
)


def _pem(octets: bytes | bytearray) -> str:
    text = base64.encodebytes(bytes(octets)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
