"""Upgraded streams: two byte pipes with their own ends and paces."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.wire.frames import Code
from tests.connector.rig import Asking, Rig

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSet-Cookie: a=b\r\n\r\n"
BIG = b"x" * 400_000


class UpgradeTests(SynchronousTestCase):
    """From the handshake to the end."""

    def setUp(self) -> None:
        self.rig = Rig()

    def ask(self, method: bytes = b"GET", **how: Any) -> Asking:
        return self.rig.ask(b"/ws", (b"Upgrade", b"websocket"), method=method, end=False, upgrade=True, **how)

    def up(self, leftover: bytes = b"", **how: Any) -> Asking:
        asking = self.ask(**how)
        self.rig.sockets[0].take()
        self.rig.sockets[0].say(SWITCHED + leftover)
        return asking

    @pytest.mark.feature("HTTP-4")
    def test_bytes_flow_both_ways_after_a_101(self) -> None:
        """The handshake passes with its cookies; what came with the head is the first of the bytes."""
        asking = self.up(b"first")
        head, end, interim, upgrade = asking.answer.heads[0]
        self.assertEqual((head.status, end, interim, upgrade), (101, False, False, True))
        self.assertIn((b"Set-Cookie", b"a=b"), head.fields)
        self.assertEqual(asking.answer.data, b"first")
        asking.send(b"\x81\x02hi")
        self.assertEqual(self.rig.sockets[0].take(), b"\x81\x02hi")
        self.rig.sockets[0].say(b"\x81\x03you")
        self.assertEqual(asking.answer.data, b"first\x81\x03you")

    @pytest.mark.feature("HTTP-4")
    def test_any_method_may_upgrade(self) -> None:
        """RD Gateway's RDG_OUT_DATA does."""
        self.ask(method=b"RDG_OUT_DATA", affinity="a")
        heard = self.rig.sockets[0].take()
        self.assertTrue(heard.startswith(b"RDG_OUT_DATA /ws HTTP/1.1\r\n"))
        self.assertIn(b"Upgrade: websocket\r\n", heard)
        self.assertIn(b"Connection: Upgrade\r\n", heard)
        self.rig.sockets[0].say(SWITCHED)

    @pytest.mark.feature("HTTP-4")
    def test_half_close_is_kept(self) -> None:
        """Either side may end first while the other goes on."""
        asking = self.up()
        socket = self.rig.sockets[0]
        asking.send(b"last", end=True)
        self.assertEqual((socket.take(), socket.half_closed), (b"last", True))
        socket.say(b"still")
        socket.end()
        self.assertEqual((asking.answer.data, asking.answer.ended), (b"still", True))
        socket.lose()
        self.assertEqual((asking.reset, self.rig.records[-1][1:4], self.rig.records[-1][5]), (None, (101, 4, 5), ""))

    def test_half_close_by_the_origin_first(self) -> None:
        """The client may go on sending."""
        asking = self.up()
        socket = self.rig.sockets[0]
        socket.end()
        self.assertTrue(asking.answer.ended)
        asking.send(b"more")
        self.assertEqual(socket.take(), b"more")
        asking.send(b"", end=True)
        self.assertTrue(socket.half_closed)
        socket.lose()
        self.assertEqual((asking.reset, asking.stream.closed, self.rig.serving.journeys), (None, True, set()))

    def test_early_bytes_wait_for_the_101(self) -> None:
        """C37: they are tunnel bytes only once there is a tunnel."""
        asking = self.ask()
        asking.send(b"early")
        self.rig.sockets[0].take()
        self.rig.sockets[0].say(SWITCHED)
        self.assertEqual(self.rig.sockets[0].take(), b"early")

    def test_early_bytes_are_dropped_when_the_origin_declines(self) -> None:
        """C37: they never reach it, nor hold back any credit."""
        asking = self.ask()
        asking.send(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        self.rig.sockets[0].take()
        self.rig.sockets[0].say(b"HTTP/1.1 400 No\r\nContent-Length: 4\r\n\r\n")
        for _ in range(4):
            asking.send(BIG)
        asking.send(b"", end=True)
        self.rig.sockets[0].say(b"nope")
        self.assertEqual((self.rig.sockets[0].take(), asking.status, asking.answer.data), (b"", 400, b"nope"))
        self.assertTrue(asking.answer.ended)
        self.assertTrue(asking.stream.closed)

    def test_an_upgrade_has_no_body(self) -> None:
        """W06: a length beside an offer is refused."""
        asking = self.rig.ask(b"/ws", (b"Upgrade", b"websocket"), (b"Content-Length", b"5"), end=False, upgrade=True)
        self.assertEqual((asking.reset, self.rig.sockets), (Code.PROTOCOL, []))

    def test_a_protocol_that_was_not_offered_is_refused(self) -> None:
        """The origin cannot choose one of its own."""
        asking = self.ask()
        self.rig.sockets[0].say(SWITCHED.replace(b"websocket", b"tunnel"))
        self.assertEqual(asking.reset, Code.NOT_HTTP)

    def test_both_pipes_have_their_own_pace(self) -> None:
        """A slow client pauses the origin; a slow origin keeps back the client's credit."""
        asking = self.up(greedy=False)
        socket = self.rig.sockets[0]
        socket.say(BIG)
        self.assertTrue(socket.paused)
        asking.send(b"up")
        self.assertEqual(socket.take(), b"up")
        socket.producer.pauseProducing()
        for _ in range(4):
            asking.send(BIG)
        self.assertLess(len(socket.take()), 300_000)

    def test_a_lost_origin_resets_the_stream(self) -> None:
        """A cut pipe is not an ended one."""
        asking = self.up()
        self.rig.sockets[0].lose(clean=False)
        self.assertEqual(asking.reset, Code.ORIGIN_BROKE_OFF)

    def test_a_reset_stream_closes_the_origins_connection(self) -> None:
        """The client's pipe was cut: so is the origin's."""
        asking = self.up()
        asking.stream.reset(Code.CANCELLED)
        self.rig.pair.run()
        self.assertTrue(self.rig.sockets[0].aborted)
        self.assertEqual(self.rig.records[-1][5], "cancelled")

    def test_an_upgraded_connection_is_never_used_again(self) -> None:
        """It has left HTTP."""
        asking = self.up()
        asking.send(b"", end=True)
        self.rig.sockets[0].end()
        self.rig.ask()
        self.assertEqual(len(self.rig.sockets), 2)
