"""What a client and an origin do in one conversation, as scripts that know of nothing in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.joined.reading import Field

HOST = b"app.example.com"


@dataclass(frozen=True)
class Say:
    """Send these octets."""

    octets: bytes


@dataclass(frozen=True)
class Await:
    """Go on when so much has come of the current message (for a client: of all answers together).

    :ivar what: ``head``, ``body`` (so many octets of it), ``end``; for a client also ``interim`` and ``answers``.
    """

    what: str
    count: int = 1


@dataclass(frozen=True)
class Close:
    """Close the connection; *cut*: as one who died."""

    cut: bool = False


Step = Say | Await | Close


@dataclass(frozen=True)
class Conversation:
    """One client connection and what the origin does for each of its requests.

    :ivar client: steps of the client.
    :ivar methods: of its requests, in order.
    :ivar origin: for each request the steps of the origin.
    :ivar up: sizes in which the client's octets arrive, over and over; *down*: the origin's.
    :ivar old: the client speaks HTTP/1.0.
    :ivar early: the origin may not have been sent all of the requests when all answers have come.
    """

    name: str
    client: Sequence[Step]
    methods: Sequence[bytes]
    origin: Sequence[Sequence[Step]]
    up: Sequence[int] = ()
    down: Sequence[int] = ()
    old: bool = False
    early: bool = False

    def __repr__(self) -> str:
        return self.name


def lines(fields: Iterable[Field]) -> bytes:
    """Field lines."""
    return b"".join(b"%b: %b\r\n" % each for each in fields)


def chunked(pieces: Iterable[bytes], trailers: Iterable[Field] = (), extension: bytes = b"") -> bytes:
    """A chunked body; empty pieces are left out."""
    chunks = [b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces if piece]
    return b"".join(chunks) + b"0\r\n" + lines(trailers) + b"\r\n"


def pieces(body: bytes, size: int) -> list[bytes]:
    """*body* in pieces of *size*."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def request(
    method: bytes = b"GET",
    target: bytes = b"/",
    fields: Iterable[Field] = (),
    body: bytes = b"",
    version: bytes = b"1.1",
    host: bytes = HOST,
) -> bytes:
    """A request; framing is among the *fields*, and *body* is framed accordingly."""
    return b"%b %b HTTP/%b\r\nHost: %b\r\n%b\r\n%b" % (method, target, version, host, lines(fields), body)


def answer(
    status: int = 200,
    reason: bytes | None = b"OK",
    fields: Iterable[Field] = (),
    body: bytes = b"",
    version: bytes = b"1.1",
) -> bytes:
    """An answer; a *reason* of None leaves out the blank before it too."""
    phrase = b"" if reason is None else b" " + reason
    return b"HTTP/%b %d%b\r\n%b\r\n%b" % (version, status, phrase, lines(fields), body)


def length(size: int) -> Field:
    """The field that says so."""
    return b"Content-Length", b"%d" % size


CHUNKED: Field = (b"Transfer-Encoding", b"chunked")


def simple(name: str, asked: bytes, answered: bytes, method: bytes = b"GET", **more: object) -> Conversation:
    """One request, one answer once all of the request has come."""
    return Conversation(
        name,
        [Say(asked), Await("answers")],
        [method],
        [[Await("end"), Say(answered)]],
        **more,  # type: ignore[arg-type]
    )
