"""Documents: typed where known, ignored where not, refused from the wrong side."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.errors import ProtocolViolation, Side
from appproxy.wire import control
from appproxy.wire.frames import MAX_DOCUMENT, Code

EXAMPLES = [
    control.Hello(connector="c1", version="1.0", boot="b", epoch=3, features=("x",), host={"name": "srv"}),
    control.Welcome(node="r1", nodes=(control.Node("r2", "wss://r2"),), settings={"a": 1}, limits={"max_streams": 9}),
    control.Assignments(version=4, applications=({"id": "hr", "internal_url": "http://hr/"},)),
    control.Applied(version=4),
    control.Refused(version=4, reasons={"hr": "not allowed here"}),
    control.Health(origins=(control.OriginState("hr", False, 17, "connection refused"),)),
    control.Drain(reason="upgrade", within_seconds=5.0),
    control.Renew(csr="-----BEGIN"),
    control.Revoked(reason="lost"),
    control.Trust(authorities="PEM", issuer="00"),
    control.Unpin(affinities=("k", "l")),
]


@pytest.mark.feature("CON-4")
class DocumentTests(SynchronousTestCase):
    """What goes through a CONTROL frame."""

    def test_every_document_arrives(self) -> None:
        """Each comes out with its type and its values, from the side that may send it."""
        self.assertEqual({type(document).__name__.lower() for document in EXAMPLES}, set(control.SENDERS))
        for document in EXAMPLES:
            sender = control.SENDERS[type(document).__name__.lower()]
            receiver = Side.RELAY if sender is not Side.RELAY else Side.CONNECTOR
            arrived = control.decode(control.encode(document), receiver)
            self.assertEqual(control.parse(arrived), document)

    def test_maps_are_documents_too(self) -> None:
        """A plain map with the same keys is the same document."""
        arrived = control.decode(control.encode({"type": "applied", "version": 1}), Side.RELAY)
        self.assertEqual(control.parse(arrived), control.Applied(version=1))

    def test_unknown_documents_and_keys_are_ignored(self) -> None:
        """An older end understands a newer one."""
        newer = {"type": "weather", "sun": True}
        self.assertEqual(control.decode(control.encode(newer), Side.RELAY), newer)
        self.assertIsNone(control.parse(newer))
        self.assertEqual(control.parse({"type": "applied", "version": 1, "since": 2}), control.Applied(version=1))

    def test_a_key_of_the_wrong_type_is_named(self) -> None:
        """The text says where the document is wrong."""
        for document in ({"type": "applied"}, {"type": "applied", "version": "x"}):
            with self.assertRaises(ProtocolViolation) as caught:
                control.parse(document)
            self.assertIn("version", caught.exception.text)
            self.assertEqual(caught.exception.code, Code.PROTOCOL)

    def test_the_wrong_side(self) -> None:
        """A relay is not welcomed, a connector is not greeted."""
        for name, sender in control.SENDERS.items():
            payload = control.encode({"type": name})
            for receiver in (Side.RELAY, Side.CONNECTOR):
                if sender is receiver:
                    with self.assertRaises(ProtocolViolation):
                        control.decode(payload, receiver)
                else:
                    self.assertEqual(control.decode(payload, receiver), {"type": name})

    def test_what_is_no_document(self) -> None:
        """No map, no type, a type that is no text, depth, counts: one exception."""
        for payload in (
            b"",
            b"\x90",
            b"\x80",
            b"\x81\xa4type\x01",
            msgspec.msgpack.encode({"type": "hello", "x": {1: 2}}),
            b"\x82\xa4type\xa5hello\xa1x" + b"\x91" * 100_000,
            b"\x82\xa4type\xa5hello\xa1x" + b"\x91" * 20 + b"\x90",
            b"\xdf\xff\xff\xff\xff",
            b"\x81\xa4type\xa1\xff",
        ):
            with self.assertRaises(ProtocolViolation):
                control.decode(payload, Side.RELAY)

    def test_too_large(self) -> None:
        """What no channel would carry is not sent."""
        with self.assertRaises(control.DocumentTooLarge):
            control.encode({"type": "x", "y": b"0" * MAX_DOCUMENT})

    @given(st.binary(max_size=100) | st.dictionaries(st.text(), st.integers() | st.text()).map(repr).map(str.encode))
    def test_any_bytes(self, payload: bytes) -> None:
        """Whatever comes is a document or a violation."""
        try:
            document: dict[str, Any] = control.decode(payload, Side.RELAY)
        except ProtocolViolation:
            return
        self.assertIsInstance(document["type"], str)
