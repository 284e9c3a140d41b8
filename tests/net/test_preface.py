"""The PROXY protocol's preface: what is one, what is none, and that nothing behind it is taken."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address

from appproxy.net.preface import MAX_LENGTH, MAX_LINE, MAX_PREFACE, MalformedPreface, PrefaceReader, crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 50000, 443)
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + struct.pack("!HH", 50001, 443)
V4, V6 = IPv4Address("TCP", "192.0.2.7", 50000), IPv6Address("TCP", "2001:db8::7", 50001)


def second(block: bytes = FOUR, family: int = 0x11, command: int = 0x21, length: int | None = None) -> bytes:
    """A preface of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def addition(kind: int, value: bytes) -> bytes:
    """A type-length-value addition."""
    return struct.pack("!BH", kind, len(value)) + value


def summed(preface: bytes) -> bytes:
    """*preface*, which ends with a blank checksum, with the right one."""
    return preface[:-4] + crc32c(preface).to_bytes(4, "big")


def read(octets: bytes, step: int = 1 << 20) -> tuple[PrefaceReader, int]:
    """Show a reader *octets*, *step* more at a time as a socket would: what was not taken is shown again."""
    reader, taken, there = PrefaceReader(), 0, 0
    while there < len(octets) and not reader.done:
        there = min(len(octets), there + step)
        taken += reader.look(octets[taken:there])
    return reader, taken


GOOD = {
    "v1 four": (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n", V4),
    "v1 six": (b"PROXY TCP6 2001:DB8::7 ::1 50001 443\r\n", V6),
    "v1 mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 50000 443\r\n", V4),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with more": (b"PROXY UNKNOWN 1 2 3 whatever\r\n", None),
    "v1 port 0": (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n", IPv4Address("TCP", "192.0.2.7", 0)),
    "v1 longest": (b"PROXY UNKNOWN".ljust(MAX_LINE - 2, b" ") + b"\r\n", None),
    "v2 four": (second(), V4),
    "v2 six": (second(SIX, 0x21), V6),
    "v2 local": (second(b"", 0, 0x20), None),
    "v2 local, nonsense": (second(b"nonsense", 0xEE, 0x20), None),
    "v2 unspecified": (second(b"", 0), None),
    "v2 Unix": (second(bytes(216), 0x31), None),
    "v2 additions": (second(FOUR + addition(1, b"h2") + addition(4, b"") + addition(0xEA, b"x" * 300)), V4),
    "v2 checksum": (summed(second(FOUR + addition(2, b"a.test") + addition(3, bytes(4)))), V4),
    "v2 longest": (second(FOUR + addition(4, bytes(MAX_LENGTH - 15))), V4),
}
BAD = {
    "nothing of it": b"GET / HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "v1 lower case": b"proxy TCP4 192.0.2.7 198.51.100.1 50000 443\r\n",
    "v1 bare LF": b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\n",
    "v1 two spaces": b"PROXY TCP4  192.0.2.7 198.51.100.1 50000 443\r\n",
    "v1 UDP": b"PROXY UDP4 192.0.2.7 198.51.100.1 50000 443\r\n",
    "v1 no family": b"PROXY \r\n",
    "v1 too few": b"PROXY TCP4 192.0.2.7 198.51.100.1 50000\r\n",
    "v1 too many": b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443 1\r\n",
    "v1 other family": b"PROXY TCP4 ::1 ::1 50000 443\r\n",
    "v1 octal": b"PROXY TCP4 192.0.2.07 198.51.100.1 50000 443\r\n",
    "v1 no address": b"PROXY TCP4 192.0.2 198.51.100.1 50000 443\r\n",
    "v1 destination no address": b"PROXY TCP4 192.0.2.7 x 50000 443\r\n",
    "v1 leading zero": b"PROXY TCP4 192.0.2.7 198.51.100.1 050000 443\r\n",
    "v1 port 65536": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    "v1 huge port": b"PROXY TCP4 192.0.2.7 198.51.100.1 " + b"9" * 40 + b" 443\r\n",
    "v1 signed port": b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n",
    "v1 control": b"PROXY UNKNOWN \0\r\n",
    "v1 too long": b"PROXY UNKNOWN".ljust(MAX_LINE - 1, b" ") + b"\r\n",
    "v1 endless": b"PROXY UNKNOWN " + b"x" * 200,
    "v2 version 1": second(command=0x11),
    "v2 version 3": second(command=0x31),
    "v2 unknown command": second(command=0x22),
    "v2 UDP": second(family=0x12),
    "v2 unknown family": second(family=0x41),
    "v2 too short for four": second(FOUR[:-1]),
    "v2 too short for six": second(FOUR, 0x21),
    "v2 too long": second(b"", length=MAX_LENGTH + 1),
    "v2 addition cut short": second(FOUR + b"\x01\x00"),
    "v2 addition longer than all": second(FOUR + b"\x01\x00\x05abcd"),
    "v2 octets left over": second(FOUR + addition(1, b"h2") + b"\0"),
    "v2 wrong checksum": second(FOUR + addition(3, b"\0\0\0\1")),
    "v2 short checksum": second(FOUR + addition(3, b"\0\0\0")),
    "v2 signature off": SIGNATURE[:-1] + b"\r" + second()[12:],
}  # fmt: skip


@pytest.mark.feature("HTTP-3")
@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize("case", GOOD)
def test_good(case: str, step: int) -> None:
    """The client is known, exactly the preface is taken, and what follows is left, however it arrives."""
    octets, client = GOOD[case]
    assert len(octets) <= MAX_PREFACE
    reader, taken = read(octets + b"\x16\x03\x01", step)
    assert reader.done
    assert (reader.client, taken) == (client, len(octets))


@pytest.mark.feature("HTTP-3")
@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize("case", BAD)
def test_bad(case: str, step: int) -> None:
    """What is not strictly a preface is refused."""
    with pytest.raises(MalformedPreface):
        read(BAD[case], step)


@pytest.mark.parametrize("case", GOOD)
def test_cut_short(case: str) -> None:
    """As long as an octet is missing it is not done."""
    reader, taken = read(GOOD[case][0][:-1])
    assert not reader.done
    assert taken == len(GOOD[case][0]) - 1


def test_checksum() -> None:
    """The vectors of RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda more: b"PROXY " + more),
        st.builds(
            lambda text: b"PROXY " + text.encode("ascii") + b"\r\n",
            st.from_regex(r"TCP[46][ 0-9a-f.:]{0,60}", fullmatch=True),
        ),
        st.builds(second, st.binary(max_size=300), st.integers(0, 255), st.integers(0, 255), st.integers(0, 400)),
        st.builds(lambda more: second(FOUR + more), st.binary(max_size=100)),
    ),
    st.integers(1, 40),
)
def test_any_octets(octets: bytes, step: int) -> None:
    """Any octets, in any slices, are a preface, the beginning of one, or refused; the same in every slicing."""

    def outcome(step: int) -> object:
        try:
            reader, taken = read(octets, step)
        except MalformedPreface:
            return "malformed"
        assert taken <= len(octets)
        return reader.done, reader.client, taken if reader.done else None

    assert outcome(step) == outcome(1 << 20)
