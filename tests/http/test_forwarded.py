"""Whom to believe about a client."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appproxy.http.forwarded import Told, TrustedProxies
from appproxy.http.messages import Field, index

NETWORKS = [ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]


def told(*fields: Field, kind: str = "x-forwarded", peer: str = "10.0.0.1") -> Told:
    """What is believed of a request that came in the clear from a trusted proxy."""
    return TrustedProxies(NETWORKS, kind).believe(peer, "http", b"relay.test", index(fields))  # type: ignore[arg-type]


def client(value: bytes, kind: str = "x-forwarded") -> str:
    """Whom one field makes the client."""
    return told((b"X-Forwarded-For" if kind == "x-forwarded" else b"Forwarded", value), kind=kind).client


@pytest.mark.feature("HTTP-3")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"192.0.2.7", "192.0.2.7"),
        (b"203.0.113.9, 192.0.2.7", "192.0.2.7"),  # the client's invention stands left
        (b"203.0.113.9, 192.0.2.7, 10.9.9.9", "192.0.2.7"),  # a chain of ours
        (b"203.0.113.9,10.1.1.1,192.0.2.7", "192.0.2.7"),  # not behind a stranger
        (b"10.1.1.1, 10.2.2.2", "10.1.1.1"),  # somebody inside
        (b"192.0.2.7:51000", "192.0.2.7"),
        (b"2001:DB8::7", "2001:db8::7"),
        (b"[2001:db8::7]", "2001:db8::7"),
        (b"[2001:db8::7]:443, 2001:db8:1::1", "2001:db8::7"),
        (b"::ffff:192.0.2.7", "192.0.2.7"),
        (b"192.0.2.7, ::ffff:10.1.1.1", "192.0.2.7"),
        (b"", "10.0.0.1"),
        (b"unknown", "10.0.0.1"),
        (b"192.0.2.7, unknown, 10.2.2.2", "10.2.2.2"),
        (b"192.0.2.7, _hidden", "10.0.0.1"),
        (b"192.0.2.7,", "10.0.0.1"),
        (b"192.0.2.300", "10.0.0.1"),
        (b"192.0.2.07", "10.0.0.1"),
        (b"1.2.3", "10.0.0.1"),
        (b"2130706433", "10.0.0.1"),
        (b"fe80::1%eth0", "10.0.0.1"),
        (b"192.0.2.7 10.2.2.2", "10.0.0.1"),
        (b"\xff192.0.2.7", "10.0.0.1"),
        (b"9.9.9.9," * 500 + b"192.0.2.7", "192.0.2.7"),
        (b"192.0.2.7" + b", 10.1.1.1" * 500, "10.1.1.1"),
    ],
)
def test_the_right_most_stranger(value: bytes, expected: str) -> None:
    """H10: the client is the right-most who is no trusted proxy; nonsense ends with the last one known."""
    assert client(value) == expected


def test_several_lines() -> None:
    """Lines are one list."""
    fields = [
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"X-FORWARDED-FOR", b"10.3.3.3"),
    ]
    assert told(*fields).client == "192.0.2.7"


@pytest.mark.feature("HTTP-3")
def test_scheme_host_and_port() -> None:
    """A proxy that ends TLS says so, and what it was asked for."""
    assert told((b"X-Forwarded-Proto", b"HTTPS")) == ("10.0.0.1", "https", b"relay.test")
    for_ = (b"X-Forwarded-For", b"192.0.2.7")
    assert told(for_, (b"X-Forwarded-Proto", b"https")).scheme == "https"
    host, port = (b"X-Forwarded-Host", b"hr.test"), (b"X-Forwarded-Port", b"8443")
    assert told(for_, host).host == b"hr.test"
    assert told(for_, host, port).host == b"hr.test:8443"
    assert told(for_, (b"X-Forwarded-Host", b"hr.test:81"), port).host == b"hr.test:81"
    assert told(for_, (b"X-Forwarded-Host", b"[::1]"), port).host == b"[::1]:8443"
    assert told(for_, port).host == b"relay.test"  # what a client calls a host, it calls with the port


def test_each_word_of_its_own_hop() -> None:
    """Of several words that one counts which stands beside the client's address."""
    for_ = (b"X-Forwarded-For", b"203.0.113.9, 192.0.2.7, 10.2.2.2")
    assert told(for_, (b"X-Forwarded-Proto", b"http, https, http")).scheme == "https"
    assert told(for_, (b"X-Forwarded-Host", b"evil.test, hr.test, inner.test")).host == b"hr.test"
    # Set afresh by the nearest: it holds for all before it.
    assert told(for_, (b"X-Forwarded-Proto", b"https")).scheme == "https"
    # A proxy that knows no address still knows the scheme.
    assert told((b"X-Forwarded-For", b"192.0.2.7"), (b"X-Forwarded-Proto", b"http, https")).scheme == "https"


@pytest.mark.parametrize("value", [b"ftp", b"https;", b"", b"javascript", b"https http", b"\xc5\xbf"])
def test_no_scheme(value: bytes) -> None:
    """What is no scheme of ours is not believed."""
    assert told((b"X-Forwarded-Proto", value)).scheme == "http"


@pytest.mark.feature("HTTP-3")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"for=192.0.2.7", "192.0.2.7"),
        (b"For=192.0.2.7;proto=https;by=10.0.0.1", "192.0.2.7"),
        (b"for=203.0.113.9, for=192.0.2.7", "192.0.2.7"),
        (b"for=192.0.2.7 , for=10.1.1.1;secret=x", "192.0.2.7"),
        (b'for="[2001:db8::7]:4711"', "2001:db8::7"),
        (b'for="192.0.2.7:4711"', "192.0.2.7"),
        (b'for="\\192.0.2.7"', "192.0.2.7"),
        (b'for=203.0.113.9;x="a,b;c", for=192.0.2.7', "192.0.2.7"),
        (b"for=192.0.2.7,,", "192.0.2.7"),
        (b"for=unknown", "10.0.0.1"),
        (b'for="_gazonk"', "10.0.0.1"),
        (b"proto=https", "10.0.0.1"),
        (b"for=[2001:db8::7]", "10.0.0.1"),  # brackets need quotes
        (b'for="192.0.2.7', "10.0.0.1"),
        (b'for=", for=192.0.2.7', "10.0.0.1"),
        (b'for="203.0.113.9, for="192.0.2.7"', "10.0.0.1"),
        (b"for 192.0.2.7", "10.0.0.1"),
        (b"", "10.0.0.1"),
    ],
)
def test_forwarded(value: bytes, expected: str) -> None:
    """RFC 7239: elements from the right; what cannot be read strictly says nothing."""
    assert client(value, "forwarded") == expected


def test_all_of_forwarded() -> None:
    """An element says address, scheme and host of the same hop."""
    value = (
        b'for=9.9.9.9;host=evil.test;proto=http, for=192.0.2.7;host="hr.test:8443";proto=https, for=10.2.2.2;proto=http'
    )
    assert told((b"Forwarded", value), kind="forwarded") == ("192.0.2.7", "https", b"hr.test:8443")
    assert told((b"Forwarded", b'host="\xff"'), kind="forwarded").host == b"relay.test"


@pytest.mark.feature("HTTP-3")
def test_one_kind_only() -> None:
    """N12: the other kind of field may be the client's own, passed on by a proxy that does not know it."""
    both = (b"X-Forwarded-For", b"192.0.2.7"), (b"Forwarded", b"for=203.0.113.9;proto=https;host=evil.test")
    assert told(*both) == ("192.0.2.7", "http", b"relay.test")
    assert told(*both, kind="forwarded").client == "203.0.113.9"


def test_who_is_trusted() -> None:
    """Addresses of the networks, in every notation; nothing else."""
    trusted = TrustedProxies(NETWORKS)
    assert [trusted.trusts(each) for each in ("10.255.0.1", "::ffff:10.0.0.1", "2001:db8:1::5")] == [True] * 3
    assert [trusted.trusts(each) for each in ("11.0.0.1", "local", "", "2001:db8:2::5")] == [False] * 4


@given(st.binary(max_size=200), st.sampled_from(["x-forwarded", "forwarded"]))
def test_any_octets(value: bytes, kind: str) -> None:
    """Whatever stands there, the outcome is an address, and a stranger only if that is the last word."""
    names = [b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port", b"Forwarded"]
    found = told(*[(name, value) for name in names], kind=kind)
    assert found.scheme in ("http", "https")
    assert found.host.isascii()
    if kind == "x-forwarded" and b"," not in value:
        assert client(value + b", 192.0.2.7") == "192.0.2.7"
