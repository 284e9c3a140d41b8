"""Whom a client trusts, and what an operator reads when it does not; mutual TLS."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from appproxy.config.listening import ListenAddress
from appproxy.errors import ConfigError, Phase
from appproxy.net.certificates import Certificates
from appproxy.net.dial import dial
from appproxy.net.failures import TlsFailed
from appproxy.net.listen import listen
from appproxy.net.tls import ALPN, ALPN_WITH_HTTP2, check_name, client_tls, server_context
from tests.fakes.certificates import Authority
from tests.net.kit import Recorder, soon, until


class World:
    """A TLS listener whose certificates a test chooses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority()
        self.accepted: list[Recorder] = []

    def listen(
        self,
        *names: str,
        client_ca_pem: str = "",
        protocols: Sequence[str] = ALPN,
        by_alpn: Any = None,
        **settings: Any,
    ) -> None:
        """Serve one certificate."""
        (self.directory / "certificates").mkdir()
        self.authority.write(self.directory / "certificates" / "default.pem", *names, **settings)
        certificates = Certificates(
            self.directory / "certificates", reactor, client_ca_pem=client_ca_pem, protocols=protocols
        )

        def build(_: object) -> Recorder:
            self.accepted.append(Recorder())
            return self.accepted[-1]

        address = ListenAddress(kind="tls", host="127.0.0.1")
        self.listening = listen(reactor, address, build, certificates, by_alpn=by_alpn)

    async def dial(self, **settings: Any) -> Any:
        """Connect by address; the name checked is ``server_name`` or the address."""
        if not settings.keys() & {"ca_pem", "ca_file", "system", "verify"}:
            settings["ca_pem"] = self.authority.pem
        return await soon(dial(reactor, "127.0.0.1", self.listening.port, lambda _: Recorder(), client_tls(**settings)))


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """A place for a listener."""
    world = World(tmp_path)
    yield world
    world.listening.abort()


async def refused(world: World, **settings: Any) -> str:
    """Dial, and return what an operator reads."""
    with pytest.raises(TlsFailed) as caught:
        await world.dial(**settings)
    assert caught.value.phase is Phase.TLS
    await until(lambda: not world.listening.connections)
    return caught.value.detail


class TestProtocols:
    """ALPN chooses who talks to a client."""

    @ensureDeferred
    async def test_by_what_was_agreed(self, world: World) -> None:
        """Who agreed on a protocol that has a factory of its own gets that; everybody else gets the usual one."""
        others: list[Recorder] = []

        def build(_: object) -> Recorder:
            others.append(Recorder())
            return others[-1]

        world.listen("127.0.0.1", protocols=ALPN_WITH_HTTP2, by_alpn={"h2": build})
        await world.dial()
        await until(lambda: world.accepted)
        tls = client_tls(ca_pem=world.authority.pem)
        tls.context.set_alpn_protocols(["h2"])
        await soon(dial(reactor, "127.0.0.1", world.listening.port, lambda _: Recorder(), tls))
        await until(lambda: others)
        assert (len(world.accepted), len(others)) == (1, 1)
        assert world.accepted[0].transport.alpn == "http/1.1"
        assert others[0].transport.alpn == "h2"


class TestTrust:
    """C27: a relay that cannot prove who it is gets nothing."""

    @ensureDeferred
    async def test_the_right_name(self, world: World) -> None:
        """A host name, a wildcard, and an IP address are accepted from the pinned authority."""
        world.listen("relay.example.com", "*.apps.example.com", "127.0.0.1")
        for name in ("relay.example.com", "hr.apps.example.com", ""):
            connected = await world.dial(server_name=name)
            connected.transport.abortConnection()
        assert world.accepted[0].transport.sni == "relay.example.com"

    @ensureDeferred
    async def test_the_wrong_name(self, world: World) -> None:
        """The sentence names both."""
        world.listen("relay.example.com")
        assert "for relay.example.com, not for other.example.com" in await refused(
            world, server_name="other.example.com"
        )
        assert "not for 127.0.0.1" in await refused(world)

    @ensureDeferred
    async def test_the_wrong_authority(self, world: World) -> None:
        """Neither another authority nor the system's will do."""
        world.listen("127.0.0.1")
        assert "authority that is not trusted" in await refused(world, ca_pem=Authority("Other").pem)
        assert "not signed by the authority that it names" in await refused(world, ca_pem=Authority().pem)
        assert "authority that is not trusted" in await refused(world, system=True)

    @ensureDeferred
    async def test_an_expired_certificate(self, world: World) -> None:
        """Its age is the reason given."""
        world.listen("127.0.0.1", expired=True)
        assert "expired" in await refused(world)

    @ensureDeferred
    async def test_a_client_certificate_is_no_relay(self, world: World) -> None:
        """R11: a certificate issued for clients does not make a server."""
        world.listen("127.0.0.1", client=True)
        assert "not meant for this purpose" in await refused(world)

    @ensureDeferred
    async def test_without_verification(self, world: World) -> None:
        """It can be switched off, for origins with certificates of their own make."""
        world.listen("somebody.else", expired=True)
        connected = await world.dial(verify=False)
        connected.transport.abortConnection()


class TestMutual:
    """Connectors prove who they are."""

    @ensureDeferred
    async def test_a_certificate_of_the_connector_ca(self, world: World, tmp_path: Path) -> None:
        """The relay sees it; a connector without one gets in too, for enrolment, and is seen to have none."""
        connectors = Authority("connectors")
        world.listen("127.0.0.1", client_ca_pem=connectors.pem)
        mine = connectors.write(tmp_path / "connector.pem", "urn://connector/a", client=True)
        with_it = await world.dial(ca_pem=world.authority.pem, certificate=mine)
        await until(lambda: world.accepted and world.accepted[0].transport)
        presented = world.accepted[0].transport.getPeerCertificateDER()
        assert presented is not None
        assert ssl.DER_cert_to_PEM_cert(presented) in mine.read_text()
        without = await world.dial()
        await until(lambda: len(world.accepted) == 2)
        assert world.accepted[1].transport.getPeerCertificateDER() is None
        for protocol in (with_it, without):
            protocol.transport.abortConnection()

    @ensureDeferred
    @pytest.mark.parametrize("flaw", ["authority", "expired", "purpose"])
    async def test_a_flawed_certificate(self, world: World, tmp_path: Path, flaw: str) -> None:
        """Of another authority, expired, or made for servers: never becomes a connection, and the connector hears."""
        connectors = Authority("connectors")
        issuer = Authority("impostor") if flaw == "authority" else connectors
        world.listen("127.0.0.1", client_ca_pem=connectors.pem)
        path = tmp_path / "connector.pem"
        issuer.write(path, "urn://connector/a", expired=flaw == "expired", client=flaw != "purpose")
        try:
            connected = await world.dial(ca_pem=world.authority.pem, certificate=path)
        except TlsFailed as failed:
            reason: Any = failed
        else:  # TLS 1.3: the client has finished before the server has looked
            reason = await connected.lost()
        assert isinstance(reason, TlsFailed)
        assert "certificate" in str(reason)
        assert not world.accepted


class ReadingTests(SynchronousTestCase):
    """Files that cannot be used."""

    def test_authorities(self) -> None:
        """A missing and an empty CA file are named."""
        path = Path(self.mktemp())
        self.assertIn(str(path), str(self.assertRaises(ConfigError, client_tls, ca_file=path)))
        path.write_text("nothing of use")
        self.assertIn("CA certificate", str(self.assertRaises(ConfigError, client_tls, ca_file=path)))

    def test_missing_certificate(self) -> None:
        """A missing certificate is named."""
        path = Path(self.mktemp())
        self.assertIn(str(path), str(self.assertRaises(ConfigError, server_context, path)))

    def test_no_certificate_at_all(self) -> None:
        """A peer without a certificate is not who it should be."""
        self.assertRaises(TlsFailed, check_name, "relay.example.com", None)

    def test_hardened(self) -> None:
        """D06, C30: TLS 1.2 at least, no compression, no renegotiation; connectors get no tickets."""
        path = Path(self.mktemp())
        authority = Authority()
        authority.write(path, "a.example")
        context = server_context(path, client_ca_pem=authority.pem)
        self.assertEqual(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        self.assertTrue(context.options & ssl.OP_NO_RENEGOTIATION)
        self.assertTrue(context.options & ssl.OP_NO_COMPRESSION)
        self.assertEqual(context.num_tickets, 0)
        self.assertFalse(any("CBC" in cipher["name"] for cipher in context.get_ciphers()))
