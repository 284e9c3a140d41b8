"""Octets that two readers could understand differently, and what must come of them.  Every security fix adds a case."""

from __future__ import annotations

from typing import NamedTuple

HOST = b"Host: a.test\r\n"


class Request(NamedTuple):
    """What a client sends, and the status with which it is refused."""

    name: str
    octets: bytes
    status: int


class Answer(NamedTuple):
    """What a hostile origin answers to a GET; always refused."""

    name: str
    octets: bytes


def get(*lines: bytes, target: bytes = b"/", method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    """A request with a good Host and *lines*."""
    return b"%b %b %b\r\n%b%b\r\n" % (method, target, version, HOST, b"".join(line + b"\r\n" for line in lines))


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """As :func:`get`, with a body."""
    return get(*lines, method=b"POST", version=version) + body


def chunked(body: bytes) -> bytes:
    """A chunked request whose body is *body* as it stands."""
    return post(b"Transfer-Encoding: chunked", body=body)


CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"

REQUESTS = [
    # Framing
    Request("CL.TE", post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG"), 400),
    Request("TE.CL", post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=CHUNKS), 400),
    Request("two different lengths", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"), 400),
    Request("two equal lengths", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    Request("list of lengths", post(b"Content-Length: 5, 5", body=b"hello"), 400),
    Request("signed length", post(b"Content-Length: +5", body=b"hello"), 400),
    Request("negative length", post(b"Content-Length: -5", body=b"hello"), 400),
    Request("hexadecimal length", post(b"Content-Length: 0x5", body=b"hello"), 400),
    Request("length with underscore", post(b"Content-Length: 1_0", body=b"hello"), 400),
    Request("length with space", post(b"Content-Length: 5 5", body=b"hello"), 400),
    Request("empty length", post(b"Content-Length:", body=b"hello"), 400),
    Request("length in other digits", post(b"Content-Length: \xd9\xa5", body=b"hello"), 400),
    Request("length of 2**64 + 5", post(b"Content-Length: 18446744073709551621", body=b"hello"), 400),
    Request("length of 400 digits", post(b"Content-Length: " + b"9" * 400, body=b"hello"), 400),
    Request("identity coding", post(b"Transfer-Encoding: identity", body=b""), 501),
    Request("identity and length", post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"), 400),
    Request("chunked twice", post(b"Transfer-Encoding: chunked, chunked", body=CHUNKS), 501),
    Request("chunked, identity", post(b"Transfer-Encoding: chunked, identity", body=CHUNKS), 501),
    Request("gzip, chunked", post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS), 501),
    Request("xchunked", post(b"Transfer-Encoding: xchunked", body=CHUNKS), 501),
    Request("quoted chunked", post(b'Transfer-Encoding: "chunked"', body=CHUNKS), 501),
    Request("chunked with parameter", post(b"Transfer-Encoding: chunked;q=1", body=CHUNKS), 501),
    Request("empty coding", post(b"Transfer-Encoding:", body=CHUNKS), 501),
    Request("vertical tab before chunked", post(b"Transfer-Encoding: \x0bchunked", body=CHUNKS), 400),
    Request("two codings in two lines", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=CHUNKS), 400),
    Request("the same coding in two lines", post(*[b"Transfer-Encoding: chunked"] * 2, body=CHUNKS), 400),
    Request("chunked on HTTP/1.0", post(b"Transfer-Encoding: chunked", body=CHUNKS, version=b"HTTP/1.0"), 400),
    Request("upgrade with body", get(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 5"), 400),
    Request("upgrade chunked", get(b"Connection: upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked"), 400),
    Request("unknown expectation", post(b"Expect: 200-ok", b"Content-Length: 5"), 417),
    Request("two expectations", post(b"Expect: 100-continue", b"Expect: x", b"Content-Length: 5"), 417),
    # Lines
    Request("bare LF everywhere", b"GET / HTTP/1.1\nHost: a.test\n\n", 400),
    Request("bare LF after the request line", b"GET / HTTP/1.1\nHost: a.test\r\n\r\n", 400),
    Request("bare LF in the middle", b"GET / HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n", 400),
    Request("bare LF before the end", b"GET / HTTP/1.1\r\nHost: a.test\r\n\nX: y\r\n\r\n", 400),
    Request("bare CR between lines", b"GET / HTTP/1.1\r\nHost: a.test\rX: y\r\n\r\n", 400),
    Request("bare CR in a value", get(b"X: a\rb"), 400),
    Request("bare CR at the end of a value", get(b"X: a\r"), 400),
    Request("folded line", get(b"X: a\r\n b"), 400),
    Request("folded with tab", get(b"X: a\r\n\tTransfer-Encoding: chunked"), 400),
    Request("first line folded", b"GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", 400),
    Request("space before colon", post(b"Content-Length : 5", body=b"hello"), 400),
    Request("tab before colon", post(b"Transfer-Encoding\t: chunked", body=CHUNKS), 400),
    Request("no colon", get(b"Nonsense"), 400),
    Request("empty name", get(b": value"), 400),
    Request("name with parenthesis", get(b"X(y): z"), 400),
    Request("name with NUL", get(b"X\0: z"), 400),
    Request("name beyond ASCII", get(b"X\xff: z"), 400),
    Request("NUL in value", get(b"X: a\0b"), 400),
    Request("escape in value", get(b"X: \x1b[0m"), 400),
    Request("delete in value", get(b"X: \x7f"), 400),
    Request("form feed around value", get(b"X: \x0cz"), 400),
    Request("two empty lines first", b"\r\n\r\n" + get(), 400),
    Request("bare LF first", b"\n" + get(), 400),
    Request("space first", b" " + get(), 400),
    # Request line
    Request("HTTP/0.9", b"GET /\r\n\r\n", 400),
    Request("HTTP/0.9 with version", get(version=b"HTTP/0.9"), 505),
    Request("HTTP/1.2", get(version=b"HTTP/1.2"), 505),
    Request("HTTP/2.0", get(version=b"HTTP/2.0"), 505),
    Request("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    Request("HTTP/11", get(version=b"HTTP/11"), 400),
    Request("HTTP/1.10", get(version=b"HTTP/1.10"), 400),
    Request("http/1.1", get(version=b"http/1.1"), 400),
    Request("HTTP / 1.1", get(version=b"HTTP / 1.1"), 400),
    Request("two spaces", get(target=b" /"), 400),
    Request("tab between", b"GET\t/\tHTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    Request("space in target", get(target=b"/a b"), 400),
    Request("space after version", get(version=b"HTTP/1.1 "), 400),
    Request("method no token", get(method=b"G(T"), 400),
    Request("method too long", get(method=b"G" * 65), 400),
    Request("no method", b" / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    Request("fragment", get(target=b"/public#/../admin"), 400),
    Request("target beyond ASCII", get(target=b"/\xc3\xa4"), 400),
    Request("control in target", get(target=b"/\x01"), 400),
    Request("NUL in target", get(target=b"/\0"), 400),
    Request("target without slash", get(target=b"index.html"), 400),
    Request("asterisk without OPTIONS", get(target=b"*"), 400),
    Request("asterisk and more", get(target=b"*/x", method=b"OPTIONS"), 400),
    Request("CONNECT", get(target=b"a.test:443", method=b"CONNECT"), 501),
    Request("CONNECT with a path", get(target=b"/", method=b"CONNECT"), 501),
    Request("authority-form", get(target=b"a.test:443"), 400),
    Request("absolute-form, other host", get(target=b"https://b.test/"), 400),
    Request("absolute-form, other port", get(target=b"https://a.test:444/"), 400),
    Request("absolute-form, other scheme", get(target=b"http://a.test/"), 400),
    Request("absolute-form, foreign scheme", get(target=b"ftp://a.test/"), 400),
    Request("absolute-form with user", get(target=b"https://a.test@b.test/"), 400),
    Request("absolute-form, empty host", get(target=b"https:///x"), 400),
    Request("absolute-form, malformed host", get(target=b"https://a..test/"), 400),
    # Host
    Request("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    Request("no Host, other fields", b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400),
    Request("no Host on HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", 400),
    Request("two Hosts", get(b"Host: b.test"), 400),
    Request("two equal Hosts", get(b"hOST: a.test"), 400),
    Request("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    Request("comma in Host", b"GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", 400),
    Request("space in Host", b"GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n", 400),
    Request("path in Host", b"GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n", 400),
    Request("user in Host", b"GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n", 400),
    Request("percent in Host", b"GET / HTTP/1.1\r\nHost: a%2etest\r\n\r\n", 400),
    Request("text for port", b"GET / HTTP/1.1\r\nHost: a.test:x\r\n\r\n", 400),
    Request("empty port", b"GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n", 400),
    Request("port 65536", b"GET / HTTP/1.1\r\nHost: a.test:65536\r\n\r\n", 400),
    # Chunks
    Request("chunk size with sign", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    Request("chunk size with 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    Request("chunk size with space before", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    Request("chunk size with space after", chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400),
    Request("chunk size with underscore", chunked(b"1_0\r\nhello\r\n0\r\n\r\n"), 400),
    Request("empty chunk size", chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    Request("chunk size that overflows", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
    Request("chunk size of 400 digits", chunked(b"0" * 400 + b"5\r\nhello\r\n0\r\n\r\n"), 400),
    Request("bare LF after chunk size", chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    Request("bare CR after chunk size", chunked(b"5\rhello\r\n0\r\n\r\n"), 400),
    Request("bare LF after chunk", chunked(b"5\r\nhello\n0\r\n\r\n"), 400),
    Request("bare CR after chunk", chunked(b"5\r\nhello\r0\r\n\r\n"), 400),
    Request("chunk longer than its size", chunked(b"4\r\nhello\r\n0\r\n\r\n"), 400),
    Request("bare LF in chunk extension", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    Request("bare CR in chunk extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    Request("NUL in chunk extension", chunked(b"5;a\0b\r\nhello\r\n0\r\n\r\n"), 400),
    Request("endless chunk extension", chunked(b"5;" + b"a" * 2000), 400),
    Request("long chunk extension", chunked(b"5;" + b"a" * 2000 + b"\r\nhello\r\n0\r\n\r\n"), 400),
    Request("chunk extensions without body", chunked((b"1;" + b"e" * 1000 + b"\r\nx\r\n") * 20), 400),
    Request("bare LF after last chunk", chunked(b"0\n\r\n"), 400),
    Request("bare LF in trailers", chunked(b"0\r\nX: y\nZ: z\r\n\r\n"), 400),
    Request("bare LF in unfinished trailers", chunked(b"0\r\nX: y\n"), 400),
    Request("folded trailer", chunked(b"0\r\nX: y\r\n z\r\n\r\n"), 400),
    Request("trailer with space before colon", chunked(b"0\r\nX : y\r\n\r\n"), 400),
    Request("trailers too long", chunked(b"0\r\nX: " + b"y" * 17_000 + b"\r\n\r\n"), 400),
    Request("endless trailers", chunked(b"0\r\nX: " + b"y" * 17_000), 400),
    Request("too many trailers", chunked(b"0\r\n" + b"X: y\r\n" * 201 + b"\r\n"), 400),
    # Sizes
    Request("target too long", get(target=b"/" + b"a" * 32 * 1024), 414),
    Request("endless request line", b"GET /" + b"a" * 33_000, 414),
    Request("endless method", b"G" * 33_000, 414),
    Request("head too large", get(*[b"X: " + b"y" * 1000] * 66), 431),
    Request("endless head", get(*[b"X: " + b"y" * 1000] * 66)[:-2], 431),
    Request("one endless field", get()[:-2] + b"X: " + b"y" * 65_536, 431),
    Request("201 fields", get(*[b"X: y"] * 200), 431),
]  # fmt: skip

OK = b"HTTP/1.1 200 OK\r\n"

ANSWERS = [
    Answer("CL and TE", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Answer("two different lengths", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    Answer("list of lengths", OK + b"Content-Length: 5, 5\r\n\r\nhello"),
    Answer("signed length", OK + b"Content-Length: +5\r\n\r\nhello"),
    Answer("length of 2**64 + 5", OK + b"Content-Length: 18446744073709551621\r\n\r\nhello"),
    Answer("identity coding", OK + b"Transfer-Encoding: identity\r\n\r\nhello"),
    Answer("gzip, chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    Answer("chunked twice", OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n"),
    Answer("chunked on HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Answer("bare LF everywhere", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    Answer("bare LF in the middle", OK + b"X: y\nSet-Cookie: a=b\r\n\r\n"),
    Answer("bare CR in a value", OK + b"X: y\rSet-Cookie: a=b\r\n\r\n"),
    Answer("folded line", OK + b"X: y\r\n z\r\n\r\n"),
    Answer("space before colon", OK + b"Content-Length : 5\r\n\r\nhello"),
    Answer("no colon", OK + b"Nonsense\r\n\r\n"),
    Answer("NUL in value", OK + b"X: a\0b\r\n\r\n"),
    Answer("control in reason", b"HTTP/1.1 200 O\x01K\r\n\r\n"),
    Answer("HTTP/0.9", b"<html>hello</html>"),
    Answer("empty line first", b"\r\n" + OK + b"\r\n"),
    Answer("status of two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
    Answer("status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
    Answer("status 600", b"HTTP/1.1 600 OK\r\n\r\n"),
    Answer("status 099", b"HTTP/1.1 099 OK\r\n\r\n"),
    Answer("signed status", b"HTTP/1.1 +20 OK\r\n\r\n"),
    Answer("HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n"),
    Answer("HTTP/1.2", b"HTTP/1.2 200 OK\r\n\r\n"),
    Answer("101 that was not asked for", b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    Answer("101 without Upgrade", b"HTTP/1.1 101 x\r\n\r\n"),
    Answer("endless interim answers", b"HTTP/1.1 100 Continue\r\n\r\n" * 17),
    Answer("interim answer with a body", b"HTTP/1.1 100 x\r\nContent-Length: 5\r\n\r\nhello" + OK + b"\r\n"),
    Answer("head too large", OK + b"X: " + b"y" * 65_536 + b"\r\n\r\n"),
    Answer("endless head", OK + b"X: " + b"y" * 65_536),
    Answer("endless status line", b"HTTP/1.1 200 " + b"y" * 65_536),
    Answer("201 fields", OK + b"X: y\r\n" * 201 + b"\r\n"),
    Answer("chunk size with sign", OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
    Answer("bare LF after chunk", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"),
    Answer("chunk longer than its size", OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n"),
]  # fmt: skip
