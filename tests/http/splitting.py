"""What hostile origins answer: octets that are read as another answer, or as several (see tests.http.smuggling)."""

from __future__ import annotations

from typing import NamedTuple

from tests.http.smuggling import BAD_CHUNKS, BROKEN_LINES, BROKEN_SPELLINGS, CHUNKS, LENGTHS, SPELLINGS


class Answer(NamedTuple):
    """What a hostile origin answers to a GET; always refused."""

    name: str
    octets: bytes


class Served(NamedTuple):
    """What an origin answers that is right as far as it goes, and what the client gets of it.

    *kept*: the origin's connection may be used again; what follows the answer must reach nobody.
    """

    name: str
    octets: bytes
    status: int = 200
    body: bytes = b""
    method: bytes = b"GET"
    kept: bool = False
    gone: tuple[bytes, ...] = ()


OK = b"HTTP/1.1 200 OK\r\n"

NEXT = OK + b"Content-Length: 5\r\nX-Split: yes\r\n\r\nsplit"
#: After answers that have no body by themselves.
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def length(value: bytes, body: bytes = b"hello") -> bytes:
    """An answer with one Content-Length."""
    return OK + b"Content-Length: " + value + b"\r\n\r\n" + body


ANSWERS = [
    # Framing
    Answer("CL and TE", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Answer("TE and CL", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKS),
    Answer("two different lengths", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    Answer("length 0, then 5", OK + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello"),
    Answer("two lengths, one with zeros", OK + b"Content-Length: 5\r\nContent-Length: 05\r\n\r\nhello"),
    Answer("two equal lengths that are none", OK + b"Content-Length: x\r\nContent-Length: x\r\n\r\nhello"),
    Answer("chunked twice", OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n"),
    Answer("chunked, then identity", OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + CHUNKS),
    Answer("chunked on HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Answer("length, then folded more", OK + b"Content-Length: 5\r\n 0\r\n\r\nhello"),
    # Lines
    Answer("bare LF everywhere", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    Answer("bare LF in the middle", OK + b"X: y\nSet-Cookie: a=b\r\n\r\n"),
    Answer("bare LF before the end", OK + b"X: y\r\n\nSet-Cookie: a=b\r\n\r\n"),
    Answer("bare CR in a value", OK + b"X: y\rSet-Cookie: a=b\r\n\r\n"),
    Answer("two bare CRs", OK + b"X: y\r\rSet-Cookie: a=b\r\n\r\n"),
    Answer("CR CR LF", OK + b"X: y\r\r\nSet-Cookie: a=b\r\n\r\n"),
    Answer("folded line", OK + b"X: y\r\n z\r\n\r\n"),
    Answer("first line folded", b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n"),
    Answer("space before colon", OK + b"Content-Length : 5\r\n\r\nhello"),
    Answer("no colon", OK + b"Nonsense\r\n\r\n"),
    Answer("status line for a field", OK + OK + b"Content-Length: 0\r\n\r\n"),
    Answer("empty name", OK + b": x\r\n\r\n"),
    Answer("name beyond ASCII", OK + b"X\xff: y\r\n\r\n"),
    Answer("NUL in value", OK + b"X: a\0b\r\n\r\n"),
    Answer("escape in value", OK + b"X: \x1b[2J\r\n\r\n"),
    Answer("control in reason", b"HTTP/1.1 200 O\x01K\r\n\r\n"),
    Answer("bare CR in reason", b"HTTP/1.1 200 OK\rX: y\r\n\r\n"),
    Answer("bare LF in reason", b"HTTP/1.1 200 OK\nX: y\r\n\r\n"),
    # Status line
    Answer("HTTP/0.9", b"<html>hello</html>"),
    Answer("a request", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    Answer("empty line first", b"\r\n" + OK + b"\r\n"),
    Answer("space first", b" " + OK + b"\r\n"),
    Answer("letters first", b"xx" + OK + b"\r\n"),
    Answer("small letters", b"http/1.1 200 OK\r\n\r\n"),
    Answer("tab after the version", b"HTTP/1.1\t200 OK\r\n\r\n"),
    Answer("two spaces after the version", b"HTTP/1.1  200 OK\r\n\r\n"),
    Answer("status of two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
    Answer("status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
    Answer("status 600", b"HTTP/1.1 600 OK\r\n\r\n"),
    Answer("status 099", b"HTTP/1.1 099 OK\r\n\r\n"),
    Answer("status 000", b"HTTP/1.1 000 OK\r\n\r\n"),
    Answer("signed status", b"HTTP/1.1 +20 OK\r\n\r\n"),
    Answer("status with letters", b"HTTP/1.1 2OO OK\r\n\r\n"),
    Answer("status and reason in one", b"HTTP/1.1 200OK\r\n\r\n"),
    Answer("no status", b"HTTP/1.1 OK\r\n\r\n"),
    Answer("only a version", b"HTTP/1.1\r\n\r\n"),
    Answer("HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n"),
    Answer("HTTP/1.2", b"HTTP/1.2 200 OK\r\n\r\n"),
    Answer("HTTP/1.10", b"HTTP/1.10 200 OK\r\n\r\n"),
    Answer("HTTP/1", b"HTTP/1 200 OK\r\n\r\n"),
    Answer("ICY", b"ICY 200 OK\r\n\r\n"),
    Answer("HTTP/2 frames", b"\0\0\x12\x04\0\0\0\0\0" + bytes(18)),
    # Interim answers and upgrades
    Answer("101 that was not asked for", b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    Answer("101 to h2c", b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    Answer("101 without Upgrade", b"HTTP/1.1 101 x\r\n\r\n"),
    Answer("101 after another interim answer", b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n"),
    Answer("endless interim answers", b"HTTP/1.1 100 Continue\r\n\r\n" * 17),
    Answer("endless early hints", b"HTTP/1.1 103 x\r\nLink: </a>\r\n\r\n" * 17 + OK + b"Content-Length: 0\r\n\r\n"),
    Answer("interim answer with a body", b"HTTP/1.1 100 x\r\nContent-Length: 5\r\n\r\nhello" + OK + b"\r\n"),
    Answer("chunked interim answer", b"HTTP/1.1 100 x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + OK + b"\r\n"),
    Answer("malformed after an interim answer", b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 2 x\r\n\r\n"),
    # Sizes
    Answer("head too large", OK + b"X: " + b"y" * 65_536 + b"\r\n\r\n"),
    Answer("endless head", OK + b"X: " + b"y" * 65_536),
    Answer("endless status line", b"HTTP/1.1 200 " + b"y" * 65_536),
    Answer("201 fields", OK + b"X: y\r\n" * 201 + b"\r\n"),
]  # fmt: skip

#: The same ideas in every spelling.
ANSWER_FAMILIES = [
    *[Answer(f"length {value[:30]!r}", length(value)) for value in LENGTHS],
    *[Answer(f"coding {value[:30]!r}", OK + b"Transfer-Encoding: " + value + b"\r\n\r\n" + CHUNKS)
      for value in (*SPELLINGS, *BROKEN_SPELLINGS)],
    *[Answer(f"length and coding {value[:30]!r}",
             OK + b"Content-Length: 5\r\nTransfer-Encoding: " + value + b"\r\n\r\n" + CHUNKS)
      for value in (b"chunked", b"CHUNKED", *SPELLINGS, *BROKEN_SPELLINGS)],
    *[Answer(f"line {line!r}", OK + line + b"Content-Length: 5\r\n\r\n" + CHUNKS) for line in BROKEN_LINES],
    *[Answer(name, OK + CHUNKED + body) for name, body in BAD_CHUNKS],
]  # fmt: skip

SERVED = [
    Served("another answer behind", length(b"5") + NEXT, body=b"hello"),
    Served("another answer behind an empty one", length(b"0", b"") + NEXT),
    Served("another answer behind chunks", OK + CHUNKED + CHUNKS + NEXT, body=b"hello"),
    Served("one octet behind", length(b"5") + b"\n", body=b"hello"),
    Served("an empty line behind", length(b"5") + b"\r\n", body=b"hello"),
    Served("an interim answer behind", length(b"5") + b"HTTP/1.1 100 Continue\r\n\r\n", body=b"hello"),
    Served("HEAD with a body", length(b"5"), method=b"HEAD"),
    Served("HEAD with chunks", OK + CHUNKED + CHUNKS, method=b"HEAD"),
    Served("HEAD with another answer behind", length(b"5", b"") + NEXT, method=b"HEAD"),
    Served("204 with a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204),
    Served("204 with chunks", b"HTTP/1.1 204 No Content\r\n" + CHUNKED + CHUNKS, 204),
    Served("304 with a body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", 304),
    Served("304 with another answer behind", b"HTTP/1.1 304 Not Modified\r\n\r\n" + NEXT, 304),
    Served("two equal lengths", OK + b"Content-Length: 5\r\n" * 2 + b"\r\nhello", body=b"hello", kept=True),
    Served("length with zeros", length(b"0005"), body=b"hello", kept=True),
    Served("chunked in capitals", OK + b"TRANSFER-ENCODING:\tCHUNKED \r\n\r\n" + CHUNKS, body=b"hello", kept=True),
    Served(
        "length in other spellings",
        OK + b"Content_Length: 50\r\nContent.Length: 0\r\n" + b"Content-Length: 5\r\n\r\nhello",
        body=b"hello",
        kept=True,
    ),
    Served(
        "coding in other spellings",
        OK + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        body=b"hello",
        kept=True,
        gone=(b"transfer-encoding",),
    ),
    Served(
        "fields of the connection",
        OK + b"Connection: close, X-Secret\r\nX-Secret: y\r\n"
        b"Keep-Alive: 5\r\nUpgrade: h2c\r\n"
        b"Content-Length: 5\r\n\r\nhello",
        body=b"hello",
        gone=(b"x-secret", b"keep-alive", b"upgrade"),
    ),
    Served("no reason", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", kept=True),
    Served(
        "forbidden trailers",
        OK + CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n"
        b"X-Forwarded-For: x\r\nTransfer_Encoding: chunked\r\n\r\n",
        body=b"hello",
        kept=True,
        gone=(b"set-cookie", b"x-forwarded-for", b"transfer-encoding"),
    ),
    Served("sixteen interim answers", b"HTTP/1.1 103 x\r\n\r\n" * 16 + length(b"5"), body=b"hello", kept=True),
    Served("HTTP/1.0 without a length", b"HTTP/1.0 200 OK\r\n\r\n" + NEXT, body=NEXT),
]
