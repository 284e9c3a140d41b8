from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from cryptography import x509
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import ConnectorGroup
from appproxy.relay.connectors.admission import connector_of
from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.connectors.authority import DAY, Authority, make_authority
from appproxy.relay.connectors.enrolment import MAX_BODY_BYTES, Enrolment, hash_secret, hash_token, make_token
from appproxy.store import applications, connectors, tokens
from tests.fakes.exchange import FakeExchange
from tests.fakes.memory_store import MemoryStore
from tests.fakes.recorded_log import recorded
from tests.fakes.signing_requests import make_request

NOW = 1_900_000_000
AUTHORITY = Authority.load(make_authority(NOW))
REQUEST = make_request()


class TokenTests(SynchronousTestCase):
    def test_the_text_names_version_secret_and_authority(self) -> None:
        """``apt1.<secret>.<SHA-256 of the authority's certificate>``, both base64url without padding."""
        secret = bytes(range(32))
        parts = make_token(secret, AUTHORITY.fingerprint).split(".")
        self.assertEqual(parts[0], "apt1")
        self.assertEqual(parts[1], urlsafe_b64encode(secret).decode().rstrip("="))
        self.assertEqual(parts[2], urlsafe_b64encode(AUTHORITY.fingerprint).decode().rstrip("="))

    def test_the_store_sees_the_hash_only(self) -> None:
        """What is looked up is the SHA-256 of the secret; a line end behind the text does not matter."""
        secret = bytes(range(32))
        text = make_token(secret, AUTHORITY.fingerprint)
        self.assertEqual(hash_token(text + "\n"), hashlib.sha256(secret).digest())
        self.assertEqual(hash_token(text), hash_secret(secret))

    def test_other_texts_are_no_tokens(self) -> None:
        """Nothing but the exact form is looked up."""
        text = make_token(bytes(32), AUTHORITY.fingerprint)
        for wrong in ("", "x", text[:-1], text + "A", text.replace("apt1", "apt2"), text.replace(".", "!"), "é" * 91):
            self.assertIsNone(hash_token(wrong))


@pytest.mark.feature("CON-2")
class EnrolmentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = NOW
        self.clock = Clock()
        self.store: Any = MemoryStore()
        self.enrolment = Enrolment(
            Authorities([AUTHORITY]), self.store, now=lambda: self.now, seconds=self.clock.seconds
        )
        self.write(applications.put_group, ConnectorGroup(name="hq"))
        self.events: list[Any] = []
        self.made = 0

    def write(self, function: Any, *args: Any) -> Any:
        return self.successResultOf(self.store.write(function, *args))

    def token(self, expires: int = 3600) -> str:
        self.made += 1
        secret = self.made.to_bytes(32)
        self.write(tokens.issue, hash_secret(secret), "hq", NOW + expires, NOW)
        return make_token(secret, AUTHORITY.fingerprint)

    def post(self, body: bytes, **more: Any) -> FakeExchange:
        exchange = FakeExchange("https://connect.example/.appproxy/enrol", method=b"POST", fields=(), body=body, **more)
        with recorded(Enrolment) as events:
            self.successResultOf(self.enrolment.respond(exchange))
        self.events += events
        self.assertEqual(exchange.value("content-type"), "application/json")
        return exchange

    def enrol(self, token: str, csr: str = REQUEST, name: str = "hq-1", **more: Any) -> FakeExchange:
        return self.post(msgspec.json.encode({"token": token, "csr": csr, "name": name}), **more)

    def test_a_token_buys_a_certificate_and_a_place(self) -> None:
        """The answer has id, certificate with chain, authority and group; the store has the connector."""
        exchange = self.enrol(self.token())
        self.assertEqual(exchange.status, 200)
        answer = msgspec.json.decode(exchange.body)
        self.assertEqual(set(answer), {"connector_id", "certificate", "ca", "group"})
        self.assertEqual((answer["group"], answer["ca"]), ("hq", AUTHORITY.pem.decode()))
        certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())
        self.assertEqual(connector_of(certificate), answer["connector_id"])
        record = self.write(connectors.find, answer["connector_id"])
        self.assertEqual((record.name, record.group, record.enrolled), ("hq-1", "hq", NOW))
        self.assertEqual(record.serial, f"{certificate.serial_number:x}")
        self.assertEqual(record.not_after, NOW + 30 * DAY)

    def test_each_gets_an_id_of_its_own(self) -> None:
        """Ids begin with ``c-`` and are random: names may repeat, ids do not."""
        ids = {msgspec.json.decode(self.enrol(self.token()).body)["connector_id"] for _ in range(5)}
        self.assertEqual(len(ids), 5)
        self.assertTrue(all(each.startswith("c-") for each in ids))

    def test_the_second_use_is_refused(self) -> None:
        """R01: a replayed token enrols nobody, and the log raises the alarm."""
        token = self.token()
        self.enrol(token)
        self.assertEqual(self.enrol(token).status, 403)
        self.assertIn("used before", self.events[-1]["reason"])
        self.assertEqual(len(self.write(connectors.list_)), 1)

    def test_strangers_cannot_tell_why(self) -> None:
        """R02: unknown, malformed, expired, used and orphaned tokens get one and the same answer; the log tells."""
        used, expired, orphan = self.token(), self.token(), self.token()
        self.enrol(used)
        self.write(connectors.revoke, self.write(connectors.list_)[0].id, NOW)
        answers = [self.enrol("apt1.x"), self.enrol(make_token(bytes(32), bytes(32))), self.enrol(used)]
        self.write(applications.delete_group, "hq")
        answers.append(self.enrol(orphan))
        self.now += 3600
        answers.append(self.enrol(expired))
        self.assertEqual({answer.status for answer in answers}, {403})
        self.assertEqual(len({(answer.body, tuple(answer.fields)) for answer in answers}), 1)
        reasons = [event["reason"] for event in self.events if event["event"] == "enrolment.refused"]
        for reason, word in zip(reasons, ("no token", "unknown", "used", "deleted", "expired"), strict=True):
            self.assertIn(word, reason)

    def test_a_bad_signing_request_uses_nothing_up(self) -> None:
        """After a weak or malformed key the same token still works; the answer says so."""
        token = self.token()
        exchange = self.enrol(token, csr="junk")
        self.assertEqual(exchange.status, 400)
        self.assertIn("still good", msgspec.json.decode(exchange.body)["remedy"])
        self.assertEqual(self.enrol(token).status, 200)

    def test_names_are_names(self) -> None:
        """R05, O01: names with NUL, line ends, spaces or no letters are refused before anything else."""
        token = self.token()
        for name in ("", "a\0b", "a\nb", "a b", "-a", "é", "a" * 64):
            self.assertEqual(self.enrol(token, name=name).status, 400)
        self.assertEqual(self.enrol(token).status, 200)

    def test_bodies_that_are_not_the_document_are_refused(self) -> None:
        """Anything but JSON with the three texts is 400."""
        for body in (b"", b"[]", b"{}", b'{"token":1,"csr":"","name":"a"}', b"\xff", b'{"x":' + b"[" * 60_000):
            self.assertEqual(self.post(body).status, 400)

    def test_long_bodies_are_refused(self) -> None:
        """Nobody needs more than 64 KiB to enrol."""
        self.assertEqual(self.post(b" " * (MAX_BODY_BYTES + 1)).status, 413)

    def test_only_by_post(self) -> None:
        """Other methods are told which one there is."""
        exchange = FakeExchange("https://connect.example/.appproxy/enrol")
        self.successResultOf(self.enrolment.respond(exchange))
        self.assertEqual((exchange.status, exchange.value("allow")), (405, "POST"))

    def test_a_flood_from_one_address_is_held(self) -> None:
        """R03: of a thousand tries in ten seconds twenty-odd are looked at, and another address still enrols."""
        looked_at = 0
        for _ in range(1000):
            looked_at += self.enrol("apt1.guess").status == 403
            self.clock.advance(0.01)
        self.assertLess(looked_at, 30)
        refused = self.enrol(self.token())
        self.assertEqual(refused.status, 429)
        self.assertGreaterEqual(int(refused.value("retry-after")), 1)
        self.assertEqual(self.enrol(self.token(), client="198.51.100.9").status, 200)

    def test_a_flood_from_everywhere_is_held(self) -> None:
        """R03: a thousand addresses together get no more than the rate for all."""
        tried = [self.enrol("apt1.guess", client=f"10.0.{n >> 8}.{n & 255}").status for n in range(1000)]
        self.assertEqual(tried.count(403), 200)
        self.clock.advance(60)
        self.assertEqual(self.enrol(self.token(), client="198.51.100.9").status, 200)

    def test_while_the_store_is_away_nothing_happens(self) -> None:
        """The connector is told to come again; its token is still good."""
        token = self.token()
        self.store.away = True
        exchange = self.enrol(token)
        self.assertEqual(exchange.status, 503)
        self.assertIn("later", msgspec.json.decode(exchange.body)["remedy"])
        self.store.away = False
        self.assertEqual(self.enrol(token).status, 200)

    def test_tokens_are_in_no_log(self) -> None:
        """O02: neither a good nor a refused token is in any log event."""
        token = self.token()
        for _ in range(2):
            self.enrol(token)
        self.assertEqual([event["event"] for event in self.events], ["connector.enrolled", "enrolment.refused"])
        self.assertNotIn(token.split(".")[1], repr(self.events))
