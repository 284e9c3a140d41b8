"""Frames that an honest client does not send, and what must come of them.  Every security fix adds a case."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from hpack import Encoder

from appproxy.http.intake import PREFACE, Code
from tests.fakes.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GREETING,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Field,
    asked,
    frame,
    packed,
)

OPEN = END_HEADERS
WHOLE = END_HEADERS | END_STREAM
#: The head of a good request.
HEAD = packed(asked())
#: The window that everybody has at first.
WINDOW = 65535


class Broken(NamedTuple):
    """What a client sends after its greeting, and the code with which the whole connection ends."""

    name: str
    octets: bytes
    code: int


class Malformed(NamedTuple):
    """Fields of a request that is refused, with the status of the answer; other requests go on."""

    name: str
    fields: list[Field]
    status: int = 400


def setting(key: int, value: int) -> bytes:
    """One setting."""
    return struct.pack("!HI", key, value)


def request(stream: int, flags: int = WHOLE, head: bytes = HEAD) -> bytes:
    """A head in one frame."""
    return frame(HEADERS, flags, stream, head)


def many(count: int, make: Callable[[int], bytes]) -> bytes:
    """*count* streams' worth of something."""
    return b"".join(make(2 * number + 1) for number in range(count))


def reset(stream: int, code: int = 8) -> bytes:
    """The client cancels."""
    return frame(RST_STREAM, 0, stream, struct.pack("!I", code))


def window(stream: int, increment: int) -> bytes:
    """The client opens a window."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


def bomb() -> bytes:
    """A head of a few octets that unpacks to megabytes: one large field in the table, named again and again."""
    encoder = Encoder()
    first = encoder.encode([*asked(), (b"x", b"y" * 3900)])
    return first + b"\xbe" * 10_000


def continued(pieces: int, piece: bytes = b"", last: int = 0) -> bytes:
    """A head in many frames; *last*: the flags of the last one."""
    flags = [0] * (pieces - 1) + [last]
    return frame(HEADERS, 0, 1, HEAD) + b"".join(frame(CONTINUATION, each, 1, piece) for each in flags)


CALM, PROTOCOL, SIZE, FLOW = Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR, Code.FLOW_CONTROL_ERROR

BROKEN = (
    # Floods: every frame is allowed, so many are not.
    Broken("rapid reset", many(1000, lambda each: request(each, OPEN) + reset(each)), CALM),
    Broken("resets of nothing", request(1) + reset(1) * 1000, CALM),
    Broken(
        "made to reset by windows",
        many(1000, lambda each: request(each, OPEN) + window(each, 0x7FFFFFFF)),
        CALM,
    ),
    Broken("made to reset by late data", many(1000, lambda each: request(each) + frame(DATA, 0, each, b"x")), CALM),
    Broken("pings", frame(PING, 0, 0, b"12345678") * 2000, CALM),
    Broken("answers to pings that nobody sent", frame(PING, ACK, 0, b"12345678") * 2000, CALM),
    Broken("settings", frame(SETTINGS) * 2000, CALM),
    Broken("answers to settings that nobody sent", frame(SETTINGS, ACK) * 2000, CALM),
    Broken(
        "settings that nobody knows", many(600, lambda each: frame(SETTINGS, 0, 0, setting(each + 99, 1) * 2700)), CALM
    ),
    Broken("priorities", many(2000, lambda each: frame(PRIORITY, 0, each, bytes(5))), CALM),
    Broken("extensions", frame(0xF0, 0, 0, b"anything") * 2000, CALM),
    Broken("goodbyes", frame(GOAWAY, 0, 0, bytes(8)) * 2000, CALM),
    Broken("empty data", request(1, OPEN) + frame(DATA, 0, 1) * 2000, CALM),
    Broken("nothing but padding", request(1, OPEN) + frame(DATA, PADDED, 1, b"\0") * 2000, CALM),
    Broken("data octet by octet", request(1, OPEN) + frame(DATA, 0, 1, b"x") * 20_000, CALM),
    Broken("windows octet by octet", request(1, OPEN) + window(1, 1) * 5000, CALM),
    # Heads.
    Broken("continuations without end", continued(1000, b"x" * 1000), CALM),
    Broken("empty continuations", continued(1000), CALM),
    Broken("large continuations", continued(20, b"x" * 16_000), CALM),
    Broken("a bomb", request(1, WHOLE, bomb()), CALM),
    Broken("compression nobody understands", request(1, WHOLE, b"\xff\xff\xff\xff\xff\xff\xff"), PROTOCOL),
    Broken("compression that names nothing", request(1, WHOLE, b"\xfe"), PROTOCOL),
    Broken("a table of any size", request(1, WHOLE, b"\x3f\xff\xff\x7f" + HEAD), PROTOCOL),
    Broken("a frame in the middle of a head", frame(HEADERS, 0, 1, HEAD) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    Broken("another head in the middle of one", frame(HEADERS, 0, 1, HEAD) + request(3), PROTOCOL),
    Broken("an extension in the middle of a head", frame(HEADERS, 0, 1, HEAD) + frame(0xF0, 0, 1), PROTOCOL),
    Broken("another stream's continuation", frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, OPEN, 3), PROTOCOL),
    Broken("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, HEAD), PROTOCOL),
    Broken("padding longer than the frame", frame(HEADERS, WHOLE | PADDED, 1, b"\xff" + HEAD), PROTOCOL),
    Broken(
        "a stream that depends on itself", request(1, WHOLE | PRIORITIZED, struct.pack("!IB", 1, 0) + HEAD), PROTOCOL
    ),
    # Sizes.
    Broken("a frame that says it is huge", frame(DATA, 0, 1, length=0xFFFFFF), SIZE),
    Broken("a frame one octet too large", frame(DATA, 0, 1, length=16385), SIZE),
    Broken("half a ping", frame(PING, 0, 0, b"1234"), SIZE),
    Broken("half a setting", frame(SETTINGS, 0, 0, b"123"), SIZE),
    Broken("an answer to settings with settings", frame(SETTINGS, ACK, 0, setting(3, 1)), PROTOCOL),
    Broken("half a window", request(1, OPEN) + frame(WINDOW_UPDATE, 0, 1, b"12"), SIZE),
    Broken("half a reset", request(1, OPEN) + frame(RST_STREAM, 0, 1, b"12"), SIZE),
    # Settings.
    Broken("a window setting that overflows", frame(SETTINGS, 0, 0, setting(4, 0x80000000)), FLOW),
    Broken("a frame size that nobody may ask for", frame(SETTINGS, 0, 0, setting(5, 1)), PROTOCOL),
    Broken("push neither on nor off", frame(SETTINGS, 0, 0, setting(2, 7)), PROTOCOL),
    Broken("settings of a stream", frame(SETTINGS, 0, 1, setting(3, 1)), PROTOCOL),
    # Windows.
    Broken("a window of nothing", request(1, OPEN) + window(1, 0), PROTOCOL),
    Broken("the connection's window overflows", window(0, 0x7FFFFFFF), FLOW),
    Broken(
        "windows that overflow by a setting",
        request(1, OPEN) + window(1, 0x7FFFFFFF - WINDOW) + frame(SETTINGS, 0, 0, setting(4, 0x7FFFFFFF)),
        FLOW,
    ),
    # States.
    Broken("data before anything was asked", frame(DATA, 0, 1, b"x"), PROTOCOL),
    Broken("a reset before anything was asked", reset(1), PROTOCOL),
    Broken("a window before anything was asked", window(1, 1), PROTOCOL),
    Broken("a stream of the relay's", request(2), PROTOCOL),
    Broken("the connection as a stream", request(0), PROTOCOL),
    Broken("a stream that goes back", request(5) + request(3), PROTOCOL),
    Broken("a promise of a client", frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack("!I", 2) + HEAD), PROTOCOL),
    Broken(
        "trailers that are not the end", request(1, OPEN) + frame(HEADERS, OPEN, 1, packed([(b"x", b"y")])), PROTOCOL
    ),
    Broken("more requests than allowed", many(101, lambda each: request(each, OPEN)), PROTOCOL),
)

#: What comes instead of a greeting.
NO_GREETING = (
    Broken("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", PROTOCOL),
    Broken("another preface", PREFACE[:-3] + b"x\r\n" + frame(SETTINGS), PROTOCOL),
    Broken("no settings", PREFACE + request(1), PROTOCOL),
    Broken("an answer to settings first", PREFACE + frame(SETTINGS, ACK), PROTOCOL),
    Broken("a ping first", PREFACE + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    Broken("a huge frame first", PREFACE + frame(SETTINGS, 0, 0, length=0xFFFFFF), SIZE),
    Broken("an extension first", PREFACE + frame(0xF0), PROTOCOL),
)


def without(name: bytes) -> list[Field]:
    """A good request, all but one of its fields."""
    return [field for field in asked() if field[0] != name]


def altered(name: bytes, value: bytes) -> list[Field]:
    """A good request, but for one of its fields."""
    return [(each, value if each == name else old) for each, old in asked()]


CONNECT = [(b":method", b"CONNECT"), (b":authority", b"a.test:443")]

MALFORMED = (
    Malformed("no method", without(b":method")),
    Malformed("no path", without(b":path")),
    Malformed("no scheme", without(b":scheme")),
    Malformed("no authority", without(b":authority")),
    Malformed("an empty method", altered(b":method", b"")),
    Malformed("a method that is no token", altered(b":method", b"GET /x")),
    Malformed("an endless method", altered(b":method", b"G" * 65)),
    Malformed("two methods", [(b":method", b"GET"), *asked()]),
    Malformed("two paths", [*asked(), (b":path", b"/admin")]),
    Malformed("an empty path", altered(b":path", b"")),
    Malformed("a path that is none", altered(b":path", b"admin")),
    Malformed("a path with white space", altered(b":path", b"/a b")),
    Malformed("a path with another request", altered(b":path", b"/ HTTP/1.1\r\nHost: b.test\r\n\r\n")),
    Malformed("a path with a fragment", altered(b":path", b"/a#b")),
    Malformed("a path that is not ASCII", altered(b":path", "/é".encode())),
    Malformed("an absolute path", altered(b":path", b"https://b.test/")),
    Malformed("a star for another method", altered(b":path", b"*")),
    Malformed("an ambiguous path", altered(b":path", b"/a/..;/b")),
    Malformed("an endless path", altered(b":path", b"/" + b"x" * 33_000), 414),
    Malformed("plain HTTP", altered(b":scheme", b"http")),
    Malformed("another scheme", altered(b":scheme", b"file")),
    Malformed("an empty authority", altered(b":authority", b"")),
    Malformed("user information", altered(b":authority", b"user@a.test")),
    Malformed("an authority with a path", altered(b":authority", b"a.test/x")),
    Malformed("an authority with a line break", altered(b":authority", b"a.test\r\nx: y")),
    Malformed("a host of another authority", asked((b"host", b"b.test"))),
    Malformed("two hosts", [*without(b":authority"), (b"host", b"a.test"), (b"host", b"b.test")]),
    Malformed("two hosts beside the authority", asked((b"host", b"hr.example.com"), (b"host", b"b.test"))),
    Malformed("a pseudo-field after the others", [(b"accept", b"*/*"), *asked()]),
    Malformed("a pseudo-field at the end", asked((b"accept", b"*/*"), (b":path", b"/admin"))),
    Malformed("a pseudo-field that nobody knows", [(b":secret", b"x"), *asked()]),
    Malformed("a status", [(b":status", b"200"), *asked()]),
    Malformed("a protocol without CONNECT", [(b":protocol", b"websocket"), *asked()]),
    Malformed("upper case", asked((b"X-Remote-User", b"admin"))),
    Malformed("an empty name", asked((b"", b"x"))),
    Malformed("a name with a colon", asked((b"x:y", b"z"))),
    Malformed("a name with white space", asked((b"x y", b"z"))),
    Malformed("a name with a line break", asked((b"x\r\ny", b"z"))),
    Malformed("a name that is not ASCII", asked(("é".encode(), b"z"))),
    Malformed("a value with a line break", asked((b"x", b"y\r\nx-remote-user: admin"))),
    Malformed("a value with half a line break", asked((b"x", b"y\nz"))),
    Malformed("a value with a carriage return", asked((b"x", b"y\rz"))),
    Malformed("a value with a zero", asked((b"x", b"y\0z"))),
    Malformed("a value after white space", asked((b"x", b" y"))),
    Malformed("a value before white space", asked((b"x", b"y\t"))),
    Malformed("Connection", asked((b"connection", b"close, x-remote-user"))),
    Malformed("Keep-Alive", asked((b"keep-alive", b"timeout=5"))),
    Malformed("Proxy-Connection", asked((b"proxy-connection", b"close"))),
    Malformed("Transfer-Encoding", asked((b"transfer-encoding", b"chunked"))),
    Malformed("Upgrade", asked((b"upgrade", b"h2c"))),
    Malformed("TE of chunks", asked((b"te", b"trailers, gzip"))),
    Malformed("two lengths", asked((b"content-length", b"0"), (b"content-length", b"0"))),
    Malformed("a length without a body", asked((b"content-length", b"5"))),
    Malformed("an endless length", asked((b"content-length", b"0" * 30))),
    Malformed("another expectation", asked((b"expect", b"a miracle")), 417),
    Malformed("too many fields", asked(*((b"x-%d" % each, b"y") for each in range(250))), 431),
    Malformed("too large a head", asked(*((b"x-%d" % each, b"y" * 1000) for each in range(70))), 431),
    Malformed("a tunnel", CONNECT, 501),
    Malformed("a tunnel to a path", [*CONNECT, (b":scheme", b"https"), (b":path", b"/")], 501),
    Malformed(
        "a tunnel for another protocol",
        [*CONNECT, (b":protocol", b"connect-udp"), (b":scheme", b"https"), (b":path", b"/")],
        501,
    ),
)

assert GREETING.startswith(PREFACE)
