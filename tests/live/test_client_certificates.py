"""Certificates of users over real TLS: asked for where an application wants them, verified, used, handed on."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fakes.certificates import Authority
from tests.live.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.feature("AUTH-12")]

#: Nobody asks it anything: whoever has a certificate needs no provider.
PROVIDER = """
[[provider]]
id = "unused"
issuer = "https://idp.localhost:1"
client_id = "relay"
client_secret = "x"
"""
APPLICATIONS = '''
[[connector_group]]
name = "hq"
[[application]]
id = "lab"
external_url = "https://lab.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { users = ["alice@example.com"] }
[application.client_certificate]
ca = """
AUTHORITY"""
user = "upn"
forward = true
[application.sso]
mode = "header"
header = [{ name = "X-User", value = "user" }]
[[application]]
id = "open"
external_url = "https://open.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
preauthentication = "passthrough"
'''


class Laboratory(Stack):
    """The stack, with an authority for its users."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, relay_more=PROVIDER)
        self.users = Authority("Users CA")
        for name in ("alice", "bob"):
            self.users.write(folder / f"{name}.pem", name, f"upn:{name}@example.com", client=True)
        self.users.write(folder / "expired.pem", "alice", "upn:alice@example.com", client=True, expired=True)
        self.users.write(folder / "server.pem", "alice", "upn:alice@example.com")
        Authority("Users CA").write(folder / "stranger.pem", "alice", "upn:alice@example.com", client=True)

    def connect(self, name: str, host: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLSocket:
        """TLS with somebody's certificate; empty for nobody's."""
        context = self.tls()
        context.maximum_version = version
        if name:
            context.load_cert_chain(self.folder / f"{name}.pem")
        raw = socket.create_connection(("127.0.0.1", self.clients_port), 20)
        return context.wrap_socket(raw, server_hostname=host)

    def ask(self, tls: ssl.SSLSocket, host: str) -> tuple[int, bytes]:
        """One request; status and body."""
        fields = (
            f"GET / HTTP/1.1\r\nHost: {host}:{self.clients_port}\r\nClient-Cert: :Zm9y:\r\nConnection: close\r\n\r\n"
        )
        with tls:
            tls.sendall(fields.encode())
            answer = b""
            while data := tls.recv(65536):
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """Everything, started once for this module."""
    with Laboratory(tmp_path_factory.mktemp("certificates")) as lab:
        lab.start(APPLICATIONS.replace("AUTHORITY", lab.users.pem))
        yield lab


def fields(body: bytes) -> dict[str, str]:
    """What the origin got."""
    return {name.lower(): value for name, value in json.loads(body)["fields"]}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_owner(lab: Laboratory, version: ssl.TLSVersion) -> None:
    """The owner is signed in by it, and the origin gets it."""
    status, body = lab.ask(lab.connect("alice", "lab.localhost", version), "lab.localhost")
    assert status == 200
    told = fields(body)
    assert told["x-user"] == "alice@example.com"
    pem = (lab.folder / "alice.pem").read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert told["client-cert"] == f":{base64.b64encode(der).decode()}:"


def test_others(lab: Laboratory) -> None:
    """Somebody who is not assigned is 403; whoever shows none is asked to sign in."""
    assert lab.ask(lab.connect("bob", "lab.localhost"), "lab.localhost")[0] == 403
    assert lab.ask(lab.connect("", "lab.localhost"), "lab.localhost")[0] == 401


@pytest.mark.parametrize("name", ["stranger", "expired", "server"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificates_that_are_not_good(lab: Laboratory, name: str, version: ssl.TLSVersion) -> None:
    """Of another authority by the same name, expired, for servers: TLS itself ends, and nothing is answered."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        lab.ask(lab.connect(name, "lab.localhost", version), "lab.localhost")


def test_misdirected(lab: Laboratory) -> None:
    """N14: a connection that was made for another application, with a certificate or without, is told 421."""
    assert lab.ask(lab.connect("alice", "open.localhost"), "lab.localhost")[0] == 421
    assert lab.ask(lab.connect("", "open.localhost"), "lab.localhost")[0] == 421


def test_other_applications_ask_for_nothing(lab: Laboratory) -> None:
    """A stranger's certificate does no harm where none is asked for, and a good one is told nobody."""
    for name in ("stranger", "alice"):
        status, body = lab.ask(lab.connect(name, "open.localhost"), "open.localhost")
        assert status == 200
        assert "client-cert" not in fields(body)


def test_a_hello_that_comes_in_pieces(lab: Laboratory) -> None:
    """The relay waits for the rest of it, and serves others meanwhile."""
    context = lab.tls()
    context.load_cert_chain(lab.folder / "alice.pem")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="lab.localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    with socket.create_connection(("127.0.0.1", lab.clients_port), 20) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(hello), 100):
            raw.sendall(hello[at : at + 100])
            assert lab.ask(lab.connect("", "open.localhost"), "open.localhost")[0] == 200
        request = f"GET / HTTP/1.1\r\nHost: lab.localhost:{lab.clients_port}\r\nConnection: close\r\n\r\n"
        answer = b""
        sent = False
        while True:
            try:
                if not sent:
                    tls.do_handshake()
                    tls.write(request.encode())
                    sent = True
                data = tls.read(65536)
                if not data:
                    break
                answer += data
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                data = raw.recv(65536)
                if not data:
                    break
                incoming.write(data)
        assert b" 200 " in answer.split(b"\r\n")[0]
        assert b"alice@example.com" in answer


def test_a_hello_that_never_ends(lab: Laboratory) -> None:
    """A client that goes away in the middle is let go at once; nobody waits for the rest."""
    with socket.create_connection(("127.0.0.1", lab.clients_port), 5) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
        assert lab.ask(lab.connect("", "open.localhost"), "open.localhost")[0] == 200
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(100)[:1] in (b"", b"\x15")
