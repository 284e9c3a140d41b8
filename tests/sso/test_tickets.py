"""Reading how a ticket is encrypted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.sso.tickets import ticket_enctype


def element(tag: int, contents: bytes) -> bytes:
    """DER."""
    size = len(contents)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + contents


def ticket(enctype: int) -> bytes:
    """As a KDC writes one."""
    encrypted = element(0x30, element(0xA0, element(2, bytes([enctype]))) + element(0xA2, element(4, b"x" * 300)))
    version = element(0xA0, element(2, b"\x05"))
    realm = element(0xA1, element(0x1B, b"CORP.EXAMPLE"))
    return element(0x61, element(0x30, version + realm + element(0xA2, b"") + element(0xA3, encrypted)))


class TicketTests(SynchronousTestCase):
    """DER that others wrote."""

    def test_enctype(self) -> None:
        """B-K7: the type of the service's key, whatever that of the session is."""
        for enctype in (17, 18, 23):
            self.assertEqual(ticket_enctype(ticket(enctype)), enctype)

    @given(st.one_of(st.binary(max_size=60), st.integers(0, 350).map(lambda size: ticket(18)[:size])))
    def test_what_is_no_ticket(self, octets: bytes) -> None:
        """B-K15: it is said, and nothing else happens."""
        with pytest.raises(ValueError, match=r"cut short|no element|a length"):
            ticket_enctype(octets)
