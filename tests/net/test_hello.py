"""The name in a TLS client's first message."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appproxy.net.hello import MAX_HELLO, name_asked_for


def hello(name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_name(version: ssl.TLSVersion) -> None:
    """As the client spells it, in lower case; empty for a client that names none."""
    assert name_asked_for(hello("HR.Example.com", version)) == "hr.example.com"
    assert name_asked_for(hello(None, version)) == ""


def test_pieces() -> None:
    """Until the last octet is there, nothing is known; what follows does not matter."""
    octets = hello("hr.example.com")
    for end in range(len(octets)):
        assert name_asked_for(octets[:end]) is None, end
    assert name_asked_for(octets + b"more") == "hr.example.com"


def test_several_records() -> None:
    """A message may be cut into records anywhere."""
    octets = hello("hr.example.com")
    body = octets[5:]
    for size in (1, 3, 100):
        cut = b"".join(
            octets[:3] + len(piece).to_bytes(2, "big") + piece
            for piece in (body[at : at + size] for at in range(0, len(body), size))
        )
        assert name_asked_for(cut) == "hr.example.com"


def test_what_is_no_hello() -> None:
    """Has no name, at once: plain HTTP, another message, other records in between, a message without end."""
    octets = hello("hr.example.com")
    assert name_asked_for(b"GET / HTTP/1.1\r\n\r\n") == ""
    assert name_asked_for(b"\x16\x03\x01\x00\x04\x02\0\0\0") == ""
    assert name_asked_for(octets[:3] + b"\x00\x03" + octets[5:8] + b"\x17\x03\x03\x00\x01x") == ""
    assert name_asked_for((b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + b"\x16\x03\x01\0\0" * 20_000)[:MAX_HELLO]) == ""


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    """Never fail."""
    for text in (octets, b"\x16\x03\x01" + octets, b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c" + octets):
        name = name_asked_for(text)
        assert name is None or isinstance(name, str)


@given(st.data())
def test_damaged(data: st.DataObject) -> None:
    """A hello with wrong octets in it is read, or has no name."""
    octets = bytearray(hello("hr.example.com"))
    at = data.draw(st.integers(5, len(octets) - 1))
    octets[at] = data.draw(st.integers(0, 255))
    name_asked_for(bytes(octets))
