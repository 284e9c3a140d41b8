"""The provider's keys: rotation, floods, outages, and keys that must not verify anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.preauth.failures import ProviderUnreachable
from appproxy.relay.preauth.keys import KeySet, parse_key, parse_keys
from tests.fakes.idp import public_jwk


class KeySetTest(SynchronousTestCase):
    """A provider that publishes what the test says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.published = ["key-1"]
        self.reads = 0
        self.broken: Exception | None = None
        self.hold: Deferred[None] | None = None
        self.keys = KeySet(self.read, self.clock.seconds)

    async def read(self) -> bytes:
        """The published document."""
        self.reads += 1
        if self.hold is not None:
            await self.hold
        if self.broken:
            raise self.broken
        return json.dumps({"keys": [public_jwk(name) for name in self.published]}).encode()

    def find(self, kid: str | None) -> list[str | None]:
        """The ids of the keys found."""
        return [key.kid for key in self.successResultOf(self.keys.find(kid, "RS256"))]

    @pytest.mark.feature("AUTH-2")
    def test_flood_of_unknown_ids(self) -> None:
        """A25: a thousand unknown ids cost three reads a minute, and known keys go on."""
        self.find("key-1")
        for n in range(1000):
            self.assertEqual(self.find(f"made-up-{n}"), [])
            self.clock.advance(0.01)
        self.assertEqual(self.reads, 1 + 3)
        self.assertEqual(self.find("key-1"), ["key-1"])
        self.clock.advance(20)
        self.assertEqual(self.find("made-up"), [])
        self.assertEqual(self.reads, 1 + 4)

    @pytest.mark.feature("AUTH-2")
    def test_rotation(self) -> None:
        """A26: the first token with a new key works after one read, at any time."""
        self.find("key-1")
        self.published = ["key-2"]
        self.assertEqual(self.find("key-2"), ["key-2"])
        self.assertEqual(self.reads, 2)
        self.assertEqual(self.find("key-1"), [])

    def test_unknown_id_is_remembered(self) -> None:
        """The same unknown id is not asked for twice in a minute."""
        self.find("key-1")
        for _ in range(5):
            self.find("made-up")
        self.assertEqual(self.reads, 2)

    def test_outage(self) -> None:
        """A27: when the provider fails the last good keys serve, and it is asked again after a while only."""
        self.find("key-1")
        self.broken = ProviderUnreachable("down")
        self.clock.advance(3601)
        self.assertEqual(self.find("key-1"), ["key-1"])
        reads = self.reads
        self.assertEqual(self.find("key-1"), ["key-1"])
        self.assertEqual(self.reads, reads)

    def test_no_keys_at_all(self) -> None:
        """Without any keys the sign-in fails, and the provider is not asked for each."""
        self.broken = ProviderUnreachable("down")
        for _ in range(10):
            self.failureResultOf(self.keys.find("key-1", "RS256"), ProviderUnreachable)
        self.assertEqual(self.reads, 1)
        self.broken = None
        self.clock.advance(6)
        self.assertEqual(self.find("key-1"), ["key-1"])

    def test_one_read_for_all(self) -> None:
        """Sign-ins that need the keys at the same time share one read; one that is cancelled harms no other."""
        self.hold = Deferred()
        waiting = [Deferred.fromCoroutine(self.keys.find("key-1", "RS256")) for _ in range(5)]
        waiting[0].addErrback(lambda failure: None)
        waiting[0].cancel()
        self.hold.callback(None)
        for each in waiting[1:]:
            self.assertEqual(len(self.successResultOf(each)), 1)
        self.assertEqual(self.reads, 1)

    def test_token_without_id(self) -> None:
        """A token that names no key may have been signed by any."""
        self.published = ["key-1", "key-2"]
        self.assertEqual(self.find(None), ["key-1", "key-2"])

    def test_key_without_id(self) -> None:
        """A single key without an id is the one; among several it is not."""
        document = [{name: v for name, v in public_jwk("key-1").items() if name != "kid"}, public_jwk("key-2")]

        async def read() -> bytes:
            return json.dumps({"keys": document}).encode()

        self.assertEqual(len(self.successResultOf(KeySet(read, self.clock.seconds).find("x", "RS256"))), 0)
        del document[1]
        self.assertEqual(len(self.successResultOf(KeySet(read, self.clock.seconds).find("x", "RS256"))), 1)


class ParseTest(SynchronousTestCase):
    """Which published keys verify signatures."""

    def test_keys_that_verify_nothing(self) -> None:
        """Symmetric, short, foreign and encryption keys are passed over."""
        short = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
        curve = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256K1()).public_key(), as_dict=True)
        for jwk in (
            {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
            short,
            curve,
            public_jwk("key-1", use="enc"),
            public_jwk("key-1", key_ops=["encrypt"]),
            public_jwk("key-1", alg="HS256"),
            public_jwk("key-1", alg="ES256"),
            public_jwk("key-1", alg=["RS256"]),
            public_jwk("key-1", kid=7),
            public_jwk("key-1", n=7),
            {"kty": "RSA"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
            "RSA",
            None,
        ):
            self.assertIsNone(parse_key(jwk), jwk)

    def test_algorithm_of_the_key(self) -> None:
        """A key that names its algorithm verifies that one only."""
        key = parse_key(public_jwk("key-1", alg="PS256"))
        assert key is not None
        self.assertEqual(key.algorithms, {"PS256"})

    def test_documents(self) -> None:
        """A27: what is no key set is an outage, never a crash."""
        many: list[dict[str, Any]] = [{}] * 101
        for document in (
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b'{"keys": 1}',
            b'{"keys": []}',
            json.dumps({"keys": many}).encode(),
        ):
            self.assertRaises(ProviderUnreachable, parse_keys, document)
