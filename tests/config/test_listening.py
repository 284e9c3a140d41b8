"""Where a program listens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config import ListenAddress

GOOD = {
    "tls:443": ListenAddress(kind="tls", port=443),
    "tcp:80": ListenAddress(kind="tcp", port=80),
    "tls:8443:interface=127.0.0.1": ListenAddress(kind="tls", host="127.0.0.1", port=8443),
    "tls:8443:interface=::1": ListenAddress(kind="tls", host="::1", port=8443),
    "tcp:127.0.0.1:9464": ListenAddress(kind="tcp", host="127.0.0.1", port=9464),
    "tcp:[::1]:9464": ListenAddress(kind="tcp", host="::1", port=9464),
    "unix:/run/appproxy/admin.sock": ListenAddress(kind="unix", path="/run/appproxy/admin.sock"),
    "systemd:name=clients": ListenAddress(kind="systemd", name="clients"),
}
BAD = [
    *("", "443", "tls", "tls:", "tls:x", "ssl:443", "tls:443:interface=", "tls:443:interface=localhost"),
    *("tls:1.2.3:443", "tls:127.0.0.1:443:interface=::1", "unix:relative", "systemd:clients", "tls:-1", "tls:65536"),
    "tls:\N{ARABIC-INDIC DIGIT FOUR}",
]


class TestListenAddress(SynchronousTestCase):
    """Reading one listening address."""

    def test_all_ways_to_write_one(self) -> None:
        """Every form is read, and written so that it is read the same again."""
        for text, address in GOOD.items():
            self.assertEqual(ListenAddress.parse(text), address)
            self.assertEqual(ListenAddress.parse(str(address)), address)

    def test_anything_else(self) -> None:
        """What is no address is told as such, with how one is written."""
        for text in BAD:
            self.assertRaises(ValueError, ListenAddress.parse, text)

    @given(st.one_of(st.text(), st.integers(), st.from_regex(r"(tls|tcp|unix|systemd):.{0,20}")))
    def test_hostile_text(self, text: object) -> None:
        """Any text is an address or a :class:`ValueError`."""
        try:
            address = ListenAddress.parse(text)
        except ValueError:
            return
        self.assertEqual(ListenAddress.parse(str(address)), address)

    def test_is_local(self) -> None:
        """Only loopback and Unix sockets are for this machine alone."""
        local = [text for text, address in GOOD.items() if address.is_local]
        self.assertEqual(len(local), 5)
        self.assertNotIn("tls:443", local)
