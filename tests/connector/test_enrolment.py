"""From a one-time token to a certificate."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config.connector import Connector
from appproxy.connector.credentials import Credentials
from appproxy.connector.enrolment import Enrolment
from appproxy.connector.failures import OriginTimeout
from appproxy.connector.pinning import find_authority, fingerprint_in
from appproxy.errors import ConfigError
from appproxy.net.failures import ConnectFailed, TlsFailed
from appproxy.net.tls import ClientTLS
from appproxy.relay.connectors.authority import Authority, make_authority
from tests.fakes.recorded_log import recorded

NOW = int(time.time())
RELAY = Authority.load(make_authority(NOW))
OTHER = Authority.load(make_authority(NOW))
DAY = 86400


def token_for(authority: Authority) -> str:
    secret, fingerprint = (urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b"s" * 32, authority.fingerprint))
    return f"apt1.{secret}.{fingerprint}"


class Relay:
    """Answers enrolments as the test wants; signs like the real one."""

    def __init__(self, authority: Authority = RELAY) -> None:
        self.authority = authority
        self.asked: list[tuple[str, int, dict[str, Any]]] = []
        self.answers: list[Any] = []
        self.now = NOW

    async def chain(self, host: str, port: int) -> list[bytes]:
        leaf = self.authority.certificate.public_bytes(Encoding.DER)
        return [b"leaf", leaf]

    async def post(self, host: str, port: int, tls: ClientTLS, body: bytes) -> tuple[int, bytes]:
        asked = json.loads(body)
        self.asked.append((host, port, asked))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        issued = self.authority.certify_connector(asked["csr"], "c-1", self.now)
        granted = {
            "connector_id": "c-1", "certificate": issued.pem.decode(), "ca": self.authority.pem.decode(), "group": "hq",
        }  # fmt: skip
        return 200, json.dumps(granted).encode()


class EnrolmentTests(SynchronousTestCase):
    """CON-2: the whole of it, without sockets."""

    def setUp(self) -> None:
        self.state = Path(self.mktemp())
        self.clock = Clock()
        self.relay = Relay()
        self.now = float(NOW)

    def begin(self, token: str | None = None, **settings: Any) -> Deferred[Credentials]:
        connector = Connector(
            relays=settings.pop("relays", ("https://relay:8443",)),
            name="hq-1",
            state_dir=self.state,
            enrolment_token=token_for(RELAY) if token is None else token,
            **settings,
        )
        enrolment = Enrolment(
            connector, self.clock, lambda: 1.0, post=self.relay.post, chain=self.relay.chain, now=lambda: self.now
        )
        return Deferred.fromCoroutine(enrolment.credentials())

    @pytest.mark.feature("CON-2")
    def test_a_token_becomes_a_certificate(self) -> None:
        """The key is made here; the relay sees the token, a signing request and the name."""
        credentials = self.successResultOf(self.begin())
        self.assertEqual(credentials.connector, "c-1")
        ((host, port, asked),) = self.relay.asked
        self.assertEqual((host, port, asked["name"], asked["token"]), ("relay", 8443, "hq-1", token_for(RELAY)))
        self.assertEqual(set(asked), {"token", "csr", "name"})
        self.assertNotIn("PRIVATE", asked["csr"])

    def test_whoever_is_enrolled_ignores_the_token(self) -> None:
        """It may be used, expired, or gone."""
        self.successResultOf(self.begin())
        self.relay.asked.clear()
        self.successResultOf(self.begin(token="nonsense"))
        self.assertEqual(self.relay.asked, [])

    def test_a_refused_token_is_the_administrators_to_mend(self) -> None:
        """R01, R02: one line with the relay's own words; nothing is tried again."""
        refusal = {"error": "The enrolment token is not valid.", "remedy": "issue a new token"}
        for status in (400, 403, 404, 413):
            self.relay.answers = [(status, json.dumps(refusal).encode())]
            failure = self.failureResultOf(self.begin(), ConfigError)
            self.assertIn("not valid", str(failure.value))
            self.assertIn("issue a new token", str(failure.value))
            self.assertNotIn(token_for(RELAY), str(failure.value))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_token_or_none_at_all_is_said_before_anything_is_sent(self) -> None:
        """With the command that makes one."""
        for token in ("", "apt1.short", "apt2." + token_for(RELAY)[5:]):
            failure = self.failureResultOf(self.begin(token=token), ConfigError)
            self.assertIn("appproxy token enrol --group GROUP", str(failure.value))
        self.assertEqual(self.relay.asked, [])

    def test_a_relay_that_is_not_there_is_waited_for(self) -> None:
        """Back-off and a line each time, as long as it takes; the key stays the same."""
        self.relay.answers = [ConnectFailed("relay:8443: refused"), (503, b"{}"), OriginTimeout("slow"), (200, b"no")]
        with recorded(Enrolment) as events:
            waiting = self.begin()
            for wait in (1, 2, 4, 4):
                self.assertNoResult(waiting)
                self.clock.advance(wait)
        self.assertEqual(self.successResultOf(waiting).connector, "c-1")
        lines = [event["problem"] for event in events if event["event"] == "enrolment.failed"]
        self.assertEqual(len(lines), 4)
        self.assertIn("relay:8443: refused", lines[0])
        self.assertEqual(len({asked["name"] for _, _, asked in self.relay.asked}), 1)

    def test_waiting_can_be_given_up(self) -> None:
        """A stopping connector does not linger."""
        self.relay.answers = [ConnectFailed("refused")]
        with recorded(Enrolment):
            waiting = self.begin()
        waiting.cancel()
        self.failureResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_several_relays_are_asked_in_turn(self) -> None:
        """The first that answers is enough."""
        self.relay.answers = [ConnectFailed("refused")]
        with recorded(Enrolment):
            self.successResultOf(self.begin(relays=("https://one:8443", "https://two")))
        self.assertEqual([(host, port) for host, port, _ in self.relay.asked], [("one", 8443), ("two", 443)])

    def test_only_the_authority_that_the_token_names_is_trusted(self) -> None:
        """C27: somebody in between shows another chain and gets nothing, not even the token."""
        self.relay.authority = OTHER
        with recorded(Enrolment) as events:
            waiting = self.begin()
        self.assertNoResult(waiting)
        self.assertEqual(self.relay.asked, [])
        self.assertIn("does not come from the authority", events[0]["problem"])
        self.relay.authority = RELAY
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(waiting).authority, RELAY.pem.decode())

    def test_a_configured_authority_is_used_without_looking(self) -> None:
        """For relays whose own certificate is from elsewhere; what issues connectors' certificates is still pinned."""
        self.state.mkdir()
        ca_file = self.state / "public.pem"
        ca_file.write_bytes(OTHER.pem)
        credentials = self.successResultOf(self.begin(relay_ca_file=ca_file))
        self.assertEqual((credentials.authority, credentials.authorities), (OTHER.pem.decode(), RELAY.pem.decode()))

    def test_an_expired_certificate_needs_a_new_token(self) -> None:
        """R07: the error names it; with a good token the connector is enrolled again."""
        self.relay.now = NOW - 31 * DAY
        self.successResultOf(self.begin())
        self.relay.answers = [(403, b'{"error": "The enrolment token is not valid.", "remedy": "x"}')]
        text = str(self.failureResultOf(self.begin(), ConfigError).value)
        self.assertIn("expired", text)
        self.assertIn("appproxy token enrol", text)
        self.relay.now = NOW
        self.assertGreater(self.successResultOf(self.begin()).not_after, NOW)

    def test_a_clock_that_is_wrong_is_named(self) -> None:
        """R09: a certificate from the future is the clock's fault."""
        self.successResultOf(self.begin())
        self.now = NOW - DAY
        text = str(self.failureResultOf(self.begin(), ConfigError).value)
        self.assertIn("set the clock", text)
        self.now = NOW - 300.0
        self.successResultOf(self.begin())

    def test_a_clock_that_is_wrong_at_enrolment_is_named(self) -> None:
        """R09: rather than by a TLS error afterwards."""
        self.now = NOW - DAY
        self.assertIn("set the clock", str(self.failureResultOf(self.begin(), ConfigError).value))


class PinningTests(SynchronousTestCase):
    """Whom the first contact trusts."""

    def test_the_named_certificate_is_found_in_the_chain(self) -> None:
        """Wherever it stands."""
        der = RELAY.certificate.public_bytes(Encoding.DER)
        fingerprint = fingerprint_in(token_for(RELAY), "token")
        self.assertEqual(fingerprint, hashlib.sha256(der).digest())
        self.assertEqual(ssl.PEM_cert_to_DER_cert(find_authority([b"x", der], fingerprint)), der)

    def test_no_other_is(self) -> None:
        """Not even an empty chain passes."""
        der = OTHER.certificate.public_bytes(Encoding.DER)
        self.assertRaises(TlsFailed, find_authority, [der], RELAY.fingerprint)
        self.assertRaises(TlsFailed, find_authority, [], RELAY.fingerprint)
