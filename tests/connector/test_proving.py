"""Requests in users' names: a ticket with each, on connections of their own, and the origin's proof."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector import proving
from appproxy.sso.asking import GssFailed, Number, Step
from appproxy.wire.frames import Code
from appproxy.wire.heads import CONNECTOR
from tests.connector.rig import HR, Asking, OriginSocket, Rig
from tests.connector.test_upgrade import SWITCHED
from tests.fakes.certificates import Authority
from tests.fakes.kerberos import Realm

CHALLENGE = (
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def published(**sso: Any) -> dict[str, Any]:
    """An application with Kerberos."""
    keys = {"mode": "kerberos", "spn": "HTTP/hr", "identity": "userPrincipalUsername", **sso}
    return {**HR, "sso": keys}


def token(heard: bytes) -> bytes:
    """The one ticket in a request head."""
    (found,) = re.findall(rb"(?im)^authorization: *Negotiate (\S+)\r$", heard)
    return b64decode(found)


def proof(heard: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer that proves the origin to whoever sent that request."""
    reply = b64encode(b"proof of " + token(heard))
    return b"HTTP/1.1 %b\r\nWWW-Authenticate: Negotiate %b\r\nContent-Length: 2\r\n\r\nok" % (status, reply)


class ProvingTests(SynchronousTestCase):
    """With a library that needs no KDC."""

    def setUp(self) -> None:
        self.begin()

    def begin(self, **sso: Any) -> None:
        """A connector with one application."""
        self.realm = Realm()
        self.rig = Rig(published(**sso), delegation=self.realm)
        assert self.rig.refused == {}

    def ask(self, user: str = "alice", *fields: tuple[bytes, bytes], **how: Any) -> Asking:
        """A request of somebody who signed in."""
        return self.rig.ask(b"/", *fields, identity={"user": user}, **how)

    @property
    def socket(self) -> OriginSocket:
        """The newest connection."""
        return self.rig.sockets[-1]

    def cause(self, asking: Asking) -> str:
        """What the connector itself answered with."""
        head = asking.answer.heads[-1][0]
        self.assertEqual(
            (head.speaker, head.code, head.phase, head.fields),
            (CONNECTOR, Code.SSO, "sso", [(b"Content-Length", b"0")]),
        )
        return head.cause.removeprefix("kerberos-")

    @pytest.mark.feature("SSO-1", "SSO-2")
    def test_the_first_request_has_a_ticket(self) -> None:
        """And each after it another one, of the same ticket; what proves the origin stays here."""
        for number in (b"1.1", b"1.2"):
            asking = self.ask()
            heard = self.socket.take()
            self.assertEqual(token(heard), b"alice@CORP.EXAMPLE " + number)
            self.socket.say(proof(heard))
            self.assertEqual((asking.status, asking.answer.data), (200, b"ok"))
            self.assertEqual([name for name, _ in asking.fields], [b"Content-Length"])
        self.assertEqual(self.realm.library.asked, [("alice@CORP.EXAMPLE", "HTTP/hr@CORP.EXAMPLE")])

    @pytest.mark.feature("SSO-1")
    def test_websocket_handshakes_too(self) -> None:
        """An upgrade carries a ticket like any other request."""
        asking = self.ask("alice", (b"Upgrade", b"websocket"), end=False, upgrade=True)
        self.assertTrue(token(self.socket.take()).startswith(b"alice"))
        self.socket.say(SWITCHED)
        self.assertEqual(asking.status, 101)

    def test_clients_cannot_speak_for_themselves(self) -> None:
        """B-K14: Authorization of the client, in any spelling, in head or trailers, never reaches the origin."""
        asking = self.ask("alice", (b"authorization", b"Negotiate x"), (b"AUTHORIZATION", b"Basic y"), end=False)
        heard = self.socket.take()
        self.assertTrue(token(heard).startswith(b"alice"))
        self.assertNotIn(b"Basic", heard)
        asking.send(b"body")
        asking.finish((b"Authorization", b"Negotiate z"), (b"X-Sum", b"1"))
        heard = self.socket.take()
        self.assertIn(b"X-Sum: 1", heard)
        self.assertNotIn(b"Negotiate z", heard)

    def test_the_name_of_the_service_is_ours(self) -> None:
        """B-K4: whatever host a client names, the ticket is for the service of the settings."""
        rig = Rig({**published(), "external_url": "https://*.example.com/"}, delegation=self.realm)
        rig.ask(identity={"user": "alice"}, host="other.example.com")
        rig.ask(identity={"user": "alice"}, host="hr.example.com")
        self.assertEqual({spn for _, spn in self.realm.library.asked}, {"HTTP/hr@CORP.EXAMPLE"})

    def test_segments_have_services_of_their_own(self) -> None:
        """Each segment may name another service; templates take the internal host."""
        segments = [
            {"external_url": "https://a.example.com/", "internal_url": "http://a.corp.local/"},
            {"external_url": "https://b.example.com/", "internal_url": "http://b.corp.local/", "spn": "HTTP/other"},
        ]
        application = {"id": "hr", "connector_group": "hq", "segment": segments, "sso": published(spn="")["sso"]}
        rig = Rig(application, delegation=self.realm)
        for host in ("a", "b"):
            rig.ask(identity={"user": "alice"}, host=f"{host}.example.com", segment=f"https://{host}.example.com/")
        spns = [spn for _, spn in self.realm.library.asked]
        self.assertEqual(spns, ["HTTP/a.corp.local@CORP.EXAMPLE", "HTTP/other@CORP.EXAMPLE"])

    # Connections

    @pytest.mark.feature("SSO-4")
    def test_no_connection_is_shared_between_users(self) -> None:
        """B-K8: an origin that binds sign-in to connections never sees two users on one."""
        users = ["alice", "bob", "alice", "carol", "bob"]
        for user in users:
            self.ask(user)
            (socket,) = [each for each in self.rig.sockets if each.heard]
            socket.name = getattr(socket, "name", user)  # type: ignore[attr-defined]
            self.assertEqual(socket.name, user)  # type: ignore[attr-defined]
            socket.say(proof(socket.take()))
        self.assertEqual(len(self.rig.sockets), 3)
        self.assertEqual(len(self.rig.serving._users), 3)
        self.rig.advance(70)
        self.assertEqual(len(self.rig.serving._users), 0, "empty pools are forgotten")

    def test_too_many_users(self) -> None:
        """Beyond a number nobody opens further sockets."""
        self.patch(proving, "MAX_USERS", 1)
        self.ask("alice")
        self.assertEqual(self.ask("bob").reset, Code.CONNECT_TIMEOUT)

    def test_another_connection_another_token(self) -> None:
        """A request that is sent once more, because a kept connection was gone, does not repeat its token."""
        self.ask()
        self.socket.say(proof(self.socket.take()))
        self.ask()
        first = token(self.socket.take())
        self.socket.lose()
        self.assertEqual(len(self.rig.sockets), 2)
        self.assertNotEqual(token(self.socket.take()), first)

    # Refusals

    @pytest.mark.feature("SSO-4")
    def test_one_fresh_ticket(self) -> None:
        """B-K11: an origin that changed its key gets a ticket with the new one, and then no third."""
        asking = self.ask()
        self.socket.take()
        self.socket.say(CHALLENGE)
        heard = self.socket.take()
        self.assertEqual(token(heard), b"alice@CORP.EXAMPLE 2.1")
        self.socket.say(proof(heard))
        self.assertEqual(asking.status, 200)
        again = self.ask()
        for _ in range(2):
            self.assertTrue(self.socket.take())
            self.socket.say(CHALLENGE)
        self.assertEqual(self.socket.take(), b"")
        self.assertEqual(self.cause(again), "origin-refused")

    def test_small_bodies_are_sent_again(self) -> None:
        """A body that had come whole goes along with the fresh ticket; the relay's credit is given back once."""
        asking = self.ask("alice", (b"Content-Length", b"4"), method=b"POST", end=False)
        self.rig.pair.run()
        self.socket.take()
        self.socket.say(CHALLENGE)
        self.assertEqual(self.cause(asking), "origin-refused", "nothing of it has come yet")
        self.rig.hold_dials = True
        asking = self.ask("bob", (b"Content-Length", b"4"), method=b"POST", end=False)
        asking.send(b"body", end=True)
        self.rig.dials[-1].callback(None)
        self.rig.pair.run()
        for _ in range(2):
            heard = self.socket.take()
            self.assertTrue(heard.endswith(b"\r\n\r\nbody"), heard)
            self.assertTrue(token(heard).startswith(b"bob"))
            self.socket.say(CHALLENGE if b" 2.1" in token(heard) else proof(heard))
        self.assertEqual(asking.status, 200)

    def test_what_the_origin_says_of_it(self) -> None:
        """B-K11, B-K13: the reason in its token is the cause; a proof with a 401 says that the user may not."""
        for number, cause in ((Number.SKEW, "origin-clock"), (Number.BAD_INTEGRITY, "origin-key")):
            self.begin()
            asking = self.ask()
            for _ in range(2):
                self.socket.take()
                error = b64encode(b"%d" % number)
                self.socket.say(
                    b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate %b\r\nContent-Length: 0\r\n\r\n" % error
                )
            self.assertEqual(self.cause(asking), cause)
        self.begin()
        asking = self.ask()
        self.socket.say(proof(self.socket.take(), b"401 Unauthorized"))
        self.assertEqual((self.cause(asking), asking.status), ("origin-forbids", 403))

    def test_other_answers_pass(self) -> None:
        """A 401 that asks for no ticket is the application's own."""
        asking = self.ask()
        self.socket.say(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="api"\r\nContent-Length: 0\r\n\r\n')
        self.assertEqual(asking.status, 401)
        self.assertIn((b"WWW-Authenticate", b'Bearer realm="api"'), asking.fields)

    def test_no_ticket(self) -> None:
        """B-K2, B-K3: what the KDC refuses is said by name, and nothing is asked of the origin."""
        self.realm.library.failures.append(GssFailed(Step.IMPERSONATE, Number.CLIENT_UNKNOWN, "no"))
        asking = self.ask()
        self.assertEqual((self.cause(asking), asking.status), ("user-unknown", 403))
        self.assertEqual(self.rig.sockets, [])
        self.assertEqual(self.rig.records[-1][5], "kerberos-user-unknown")
        self.assertEqual(self.cause(self.ask("a/b")), "name-refused")
        self.assertEqual(self.cause(self.rig.ask(identity={})), "name-empty")

    def test_a_request_that_is_given_up(self) -> None:
        """Whoever goes away while the KDC thinks is forgotten; the ticket is there for the next."""
        self.realm.frozen = True
        asking = self.ask()
        asking.stream.reset(Code.CANCELLED, "gone")
        self.rig.pair.run()
        self.assertEqual(self.rig.records[-1][5], "cancelled")
        self.realm.thaw()
        self.assertEqual(self.rig.sockets, [])
        self.ask()
        self.assertTrue(token(self.socket.take()).startswith(b"alice"))

    # Proof

    def test_proof_is_checked(self) -> None:
        """B-K12: a token that proves nothing ends the exchange; none at all only where one is required."""
        for sso, answer, cause in (
            (
                {},
                b"HTTP/1.1 200 OK\r\nWWW-Authenticate: Negotiate YWJj\r\nContent-Length: 2\r\n\r\nok",
                "origin-unproven",
            ),
            ({"mutual": "required"}, OK, "origin-unproven"),
            ({}, OK, ""),
            (
                {"mutual": "off"},
                b"HTTP/1.1 200 OK\r\nWWW-Authenticate: Negotiate YWJj\r\nContent-Length: 2\r\n\r\nok",
                "",
            ),
        ):
            self.begin(**sso)
            asking = self.ask()
            self.socket.take()
            self.socket.say(answer)
            if cause:
                self.assertEqual(self.cause(asking), cause)
            else:
                self.assertEqual((asking.status, asking.answer.data), (200, b"ok"))
            self.assertNotIn(b"WWW-Authenticate", [name for name, _ in asking.fields])

    # When, how and how large

    @pytest.mark.feature("SSO-2")
    def test_only_when_asked(self) -> None:
        """Without preemptive the ticket goes once the origin wants one; bodies are not sent twice for it."""
        self.begin(preemptive=False)
        asking = self.ask()
        self.assertNotIn(b"Authorization", self.socket.take())
        self.socket.say(CHALLENGE)
        heard = self.socket.take()
        self.socket.say(proof(heard))
        self.assertEqual((asking.status, len(self.rig.sockets)), (200, 1))
        asking = self.ask()
        self.socket.take()
        self.socket.say(OK)
        self.assertEqual(asking.status, 200)
        self.ask("alice", end=False, method=b"POST")
        self.assertIn(b"Authorization", self.socket.take())

    @pytest.mark.feature("SSO-2")
    def test_mechanism_and_binding(self) -> None:
        """SPNEGO or raw; over TLS bound to the origin's certificate, unless the settings say otherwise."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        pem = Authority().issue("hr.corp.local")[0]
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        OriginSocket.getPeerCertificateDER = lambda socket: der  # type: ignore[attr-defined]
        self.addCleanup(delattr, OriginSocket, "getPeerCertificateDER")
        seen = []
        for sso in ({}, {"mechanism": "kerberos", "mutual": "off", "channel_binding": False}):
            self.begin(**sso)
            self.ask()
            ticket = self.realm.find(*next(iter(self.realm._kept)))
            seen += ticket.begun  # type: ignore[union-attr]
        (spnego, mutual, binding), second = seen
        self.assertTrue(spnego and mutual and binding is not None and binding.startswith(b"tls-server-end-point:"))
        self.assertEqual(second, (False, False, None))

    def test_huge_tickets(self) -> None:
        """B-K16: a ticket beyond what any server takes is a cause of its own, not a broken request."""
        asking = self.ask()
        self.socket.say(proof(self.socket.take()))
        ticket: Any = self.realm.find(*next(iter(self.realm._kept)))
        ticket.padding = b"x" * 70_000
        asking = self.ask()
        self.assertEqual(self.cause(asking), "ticket-too-large")
        ticket.padding = b"x" * 40_000
        asking = self.ask()
        heard = self.socket.take()
        self.socket.say(proof(heard))
        self.assertEqual(asking.status, 200)

    def test_without_an_account(self) -> None:
        """A connector that is in no realm says so when such an application is assigned."""
        rig = Rig(published())
        self.assertIn("no [kerberos] account", rig.refused["hr"])
