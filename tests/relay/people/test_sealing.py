"""Sealed values."""

from __future__ import annotations

import os

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.people.sealing import Sealer, Unsealable


class Note(msgspec.Struct, array_like=True, frozen=True):
    """Something to seal."""

    text: str
    octets: bytes


class SealerTest(SynchronousTestCase):
    """One key."""

    def setUp(self) -> None:
        self.sealer = Sealer(b"k" * 32, os.urandom)

    @settings(max_examples=50)
    @given(st.text(max_size=50), st.binary(max_size=50))
    def test_round_trip(self, text: str, octets: bytes) -> None:
        """What is sealed comes back, and two seals of the same value differ."""
        sealer = Sealer(b"k" * 32, os.urandom)
        sealed = sealer.seal("a", Note(text, octets))
        self.assertEqual(sealer.open("a", sealed, Note), Note(text, octets))
        self.assertNotEqual(sealed, sealer.seal("a", Note(text, octets)))
        self.assertRegex(sealed, r"^[\w-]+$")

    def test_every_change_is_noticed(self) -> None:
        """Flipping any bit, or cutting or adding anything, makes it nobody's."""
        sealed = self.sealer.seal("a", Note("x", b"y"))
        for position in range(len(sealed)):
            for bit in range(7):
                changed = bytearray(sealed.encode())
                changed[position] ^= 1 << bit
                self.assertRaises(Unsealable, self.sealer.open, "a", bytes(changed), Note)
        for changed in (sealed[:-1], sealed + "A", sealed + "=", "", "A", sealed * 100, sealed[1:], "\ud800" + sealed):
            self.assertRaises(Unsealable, self.sealer.open, "a", changed, Note)

    def test_purpose_key_and_type(self) -> None:
        """A value opens for its purpose only, with its key only, as its type only."""
        sealed = self.sealer.seal("a", Note("x", b"y"))
        self.assertRaises(Unsealable, self.sealer.open, "b", sealed, Note)
        self.assertRaises(Unsealable, Sealer(b"l" * 32, os.urandom).open, "a", sealed, Note)
        self.assertRaises(Unsealable, self.sealer.open, "a", sealed, int)

    def test_key_length(self) -> None:
        """A key of another length is a mistake, told at once."""
        self.assertRaises(ValueError, Sealer, b"short", os.urandom)
