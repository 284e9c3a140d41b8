"""Documents: what the two programs tell each other about themselves, as msgpack maps with a ``type``.

Unknown types and unknown keys are ignored, so that an older end understands a newer one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from appproxy.errors import ProtocolViolation, Side
from appproxy.wire.frames import MAX_DOCUMENT, Code
from appproxy.wire.heads import is_plain


class Document(msgspec.Struct, tag_field="type", tag=str.lower, kw_only=True, frozen=True):
    """A document; its type is the name of its class in lower case."""


class Hello(Document, frozen=True):
    """Connector: who I am.  *epoch* orders the boots of one connector id."""

    connector: str
    version: str
    boot: str
    epoch: int
    features: tuple[str, ...] = ()
    #: Facts about the host, for people: system, name, addresses.
    host: dict[str, Any] = {}


class Node(msgspec.Struct, frozen=True):
    """Another relay node that this connector may dial."""

    name: str
    url: str


class Welcome(Document, frozen=True):
    """Relay: who I am, who else there is, and how to behave."""

    node: str
    nodes: tuple[Node, ...] = ()
    settings: dict[str, Any] = {}
    limits: dict[str, int] = {}


class Assignments(Document, frozen=True):
    """Relay: all applications of the connector's group; the whole list, each time."""

    version: int
    applications: tuple[dict[str, Any], ...]


class Applied(Document, frozen=True):
    """Connector: these assignments are in force."""

    version: int


class Refused(Document, frozen=True):
    """Connector: these applications of the assignments are not served, each with a sentence why."""

    version: int
    reasons: dict[str, str]


class OriginState(msgspec.Struct, frozen=True):
    """How an application's origin does; *since* in epoch seconds."""

    application: str
    healthy: bool
    since: int = 0
    detail: str = ""


class Health(Document, frozen=True):
    """Connector: the states of its origins."""

    origins: tuple[OriginState, ...]


class Drain(Document, frozen=True):
    """Either: finish what is in flight and move; a replacement channel first."""

    reason: str = ""
    within_seconds: float = 30.0


class Renew(Document, frozen=True):
    """Connector: a certificate signing request; relay: the certificate (chain).  Both in PEM."""

    csr: str = ""
    certificate: str = ""


class Trust(Document, frozen=True):
    """Relay: whom to trust from now on (certificates in PEM), and who issues connectors' certificates (SHA-256)."""

    authorities: str
    issuer: str


class Revoked(Document, frozen=True):
    """Relay: this connector is no longer trusted."""

    reason: str = ""


class Unpin(Document, frozen=True):
    """Relay: the client connections that heads on this channel called by these affinities are gone."""

    affinities: tuple[str, ...]


#: Who may send which document; None is either.
SENDERS: Final[dict[str, Side | None]] = {
    "hello": Side.CONNECTOR,
    "welcome": Side.RELAY,
    "assignments": Side.RELAY,
    "applied": Side.CONNECTOR,
    "refused": Side.CONNECTOR,
    "health": Side.CONNECTOR,
    "drain": None,
    "renew": None,
    "revoked": Side.RELAY,
    "trust": Side.RELAY,
    "unpin": Side.RELAY,
}

AnyDocument = Hello | Welcome | Assignments | Applied | Refused | Health | Drain | Renew | Revoked | Trust | Unpin

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class DocumentTooLarge(ValueError):
    """The document has more bytes than a channel carries."""


def encode(document: Document | dict[str, Any]) -> bytes:
    """The payload of a CONTROL frame; :raises DocumentTooLarge: no channel would carry it."""
    payload = _encode(document)
    if len(payload) > MAX_DOCUMENT:
        raise DocumentTooLarge(f"{len(payload)} bytes")
    return payload


def decode(payload: bytes, receiver: Side) -> dict[str, Any]:
    """Read a document as the map that it is.

    :raises ProtocolViolation: it is no map with a text ``type``, is nested too deep, or comes from the wrong side.
    """
    try:
        document = _decode(payload)
    except (ValueError, RecursionError):
        raise ProtocolViolation(Code.PROTOCOL, "CONTROL is no map") from None
    name = document.get("type")
    if not isinstance(name, str) or not is_plain(document):
        raise ProtocolViolation(Code.PROTOCOL, "CONTROL is no document")
    if SENDERS.get(name) is receiver:
        raise ProtocolViolation(Code.PROTOCOL, f"{name} comes from the wrong side")
    return document


def parse(document: dict[str, Any]) -> AnyDocument | None:
    """Give a document its type; None when this version does not know it.

    :raises ProtocolViolation: a key is missing or has a value of another type; the text names it.
    """
    if document.get("type") not in SENDERS:
        return None
    try:
        said: AnyDocument = msgspec.convert(document, AnyDocument)
    except msgspec.ValidationError as problem:
        raise ProtocolViolation(Code.PROTOCOL, f"{document['type']}: {problem}") from None
    return said
