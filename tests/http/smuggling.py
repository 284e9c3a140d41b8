"""Octets that two readers could understand differently, and what must come of them.  Every security fix adds a case.

The literature: Linhart et al., HTTP Request Smuggling (2005); Kettle, HTTP Desync Attacks (2019), HTTP/2 (2021),
Browser-Powered Desync Attacks (2022), HTTP/1.1 Must Die (2025); Weikop, Funky Chunks (2025); Jabiyev et al.,
T-Reqs (2021) and FRAMESHIFTER (2022); Grenfeldt et al., Attacking Websites Using HTTP Request Smuggling (2021).
:mod:`tests.http.test_smuggling` holds the conversations to these, :mod:`tests.joined.test_desynchronisation` relay and
connector together, :mod:`tests.live` the programs.
"""

from __future__ import annotations

from typing import NamedTuple

HOST = b"Host: a.test\r\n"


class Request(NamedTuple):
    """What a client sends, and the status with which it is refused."""

    name: str
    octets: bytes
    status: int


class Passed(NamedTuple):
    """What a client sends that is right though remarkable, and what the origin is asked: one canonical request.

    *gone* are names that the origin must not see, folded; *kept* are fields that it must.
    """

    name: str
    octets: bytes
    method: bytes = b"GET"
    target: bytes = b"/"
    body: bytes = b""
    gone: tuple[bytes, ...] = ()
    kept: tuple[tuple[bytes, bytes], ...] = ()


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
END = b"0\r\n\r\n"

#: Values of Transfer-Encoding that somebody has been found to take for ``chunked``, or for none.
SPELLINGS = (
    b"xchunked", b"chunkedx", b"chunke", b"chunk", b"chunked;", b"chunked ;", b"chunked,", b",chunked", b", chunked",
    b"chunked, identity", b"identity, chunked", b"identity", b"cow, chunked", b"chunked, cow", b"chunked, chunked",
    b"chunked,chunked", b"gzip, chunked", b"chunked, gzip", b"gzip", b"deflate", b"compress", b"x-gzip", b"br",
    b"null",
    b"none", b"0", b"1", b"true", b"'chunked'", b'"chunked"', b'"chunked', b'chunked"', b"`chunked`", b"<chunked>",
    b"[chunked]", b"{chunked}", b"(chunked)", b"chunked (yes)", b"chunked;q=1", b"chunked; q=0", b"chunked;foo=bar",
    b"chunked=1", b"chunked/1.1", b"chunked chunked", b"chunked x", b"x chunked", b"chun ked", b"chunked\\",
    b"\\chunked",
    b"chunked:", b":chunked", b": chunked", b"chunked.", b"-chunked", b"+chunked", b"chunked\t,", b"chunked\t;x",
    b"\xa0chunked", b"chunked\xa0", b"\x85chunked", b"\xc2\xa0chunked", b"\xe2\x80\x8bchunked",
    b"\xef\xbb\xbfchunked",
    b"\xff" b"chunked", b"chunked\xff", b"ch\xc3\xbcnked", b"chunk\xc3\xa9d", b"chun\xe2\x84\xaaed",
    b"\xe3\x83\x81chunked",
    b"c\xd2\xbbunked", b"=?iso-8859-1?B?Y2h1bmtlZA==?=", b"=?UTF-8?B?Y2h1bmtlZA==?=", b"=?utf-8?q?chunked?=",
    b"%63hunked", b"&#99;hunked", b"\\u0063hunked", b"", b"chunked, " * 100 + b"chunked",
)  # fmt: skip
#: The same with octets that belong into no value.
BROKEN_SPELLINGS = tuple(
    value
    for octet in b"\0\x01\x08\x0b\x0c\x0e\x1b\x1f\x7f\r\n"
    for value in (bytes([octet]) + b"chunked", b"chunked" + bytes([octet]), b"chun" + bytes([octet]) + b"ked")
)
#: Field lines, each with its CRLF, that are no ``Transfer-Encoding``, or that only some take for one.
BROKEN_LINES = (
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding\t: chunked\r\n", b"Transfer-Encoding\x0b: chunked\r\n",
    b"Transfer-Encoding\x0c: chunked\r\n", b"Transfer-Encoding\r: chunked\r\n", b"Transfer-Encoding\n: chunked\r\n",
    b"Transfer-Encoding\0: chunked\r\n", b"Transfer-Encoding\xa0: chunked\r\n", b"Transfer-Encoding\x85: chunked\r\n",
    b"Transfer Encoding: chunked\r\n", b"Transfer-\0Encoding: chunked\r\n", b"\0Transfer-Encoding: chunked\r\n",
    b"\xef\xbb\xbfTransfer-Encoding: chunked\r\n", b"Tr\xc3\xa5nsfer-Encoding: chunked\r\n",
    b"Transfer\xad-Encoding: chunked\r\n", b"Transfer\xe2\x80\x90Encoding: chunked\r\n",
    b'"Transfer-Encoding": chunked\r\n', b"(Transfer-Encoding): chunked\r\n", b"Transfer-Encoding(): chunked\r\n",
    b"Transfer-Encoding;x: chunked\r\n", b"Transfer-Encoding,: chunked\r\n", b"Transfer-Encoding@: chunked\r\n",
    b"Transfer-Encoding[]: chunked\r\n", b"Transfer-Encoding/: chunked\r\n", b"Transfer-Encoding\\: chunked\r\n",
    b":Transfer-Encoding: chunked\r\n", b"Transfer-Encoding=chunked\r\n", b"Transfer-Encoding chunked\r\n",
    b"Transfer-Encoding\r\n", b" Transfer-Encoding: chunked\r\n", b"\tTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n", b"Transfer-Encoding:\r\n\tchunked\r\n",
    b"Transfer-Encoding:\n chunked\r\n",
    b"Transfer-Encoding:\r chunked\r\n", b"Transfer-\r\n Encoding: chunked\r\n",
    b"X: y\r\n Transfer-Encoding: chunked\r\n",
    b"X: y\rTransfer-Encoding: chunked\r\n", b"X: y\nTransfer-Encoding: chunked\r\n",
    b"X: y\r\rTransfer-Encoding: chunked\r\n", b"X: y\n\rTransfer-Encoding: chunked\r\n",
    b"X: y\r\n\rTransfer-Encoding: chunked\r\n", b"X: y\r\n\0Transfer-Encoding: chunked\r\n",
    b"X: y\0Transfer-Encoding: chunked\r\n", b"X: y\r\n \r\nTransfer-Encoding: chunked\r\n",
    b"X: y\r\n\x0bTransfer-Encoding: chunked\r\n", b"X: y\x85Transfer-Encoding : chunked\r\n\r",
    b"X: y\r\n\xa0Transfer-Encoding: chunked\r\n", b"X\r\nTransfer-Encoding: chunked\r\n",
)  # fmt: skip
#: Names that are tokens, but that servers behind CGI, WSGI and the like take for framing.
ALIASES = (
    b"Transfer_Encoding", b"Transfer.Encoding", b"TRANSFER_ENCODING", b"transfer.encoding", b"Content_Length",
    b"Content.Length", b"content_length", b"CONTENT.LENGTH",
)  # fmt: skip
#: Values of Content-Length that are no number to us.
LENGTHS = (
    b"+5", b"-5", b"-0", b"+0", b"0x5", b"0X5", b"0b101", b"0o5", b"5h", b"5.", b"5.0", b".5", b"5e0", b"5E0",
    b"1_0", b"5 5",
    b"5,5", b"5, 5", b"5,", b",5", b", 5", b"5, 6", b"0, 5", b"5;", b"5; 6", b"5;x=y", b"'5'", b'"5"', b"(5)",
    b"5 (five)",
    b"five", b"NaN", b"inf", b"Infinity", b"null", b"", b"\xd9\xa5", b"\xef\xbc\x95", b"\xb5", b"\xc2\xb2", b"5\xa0",
    b"\xa05",
    b"9" * 19, b"18446744073709551621", b"4294967301" + b"0" * 10, b"0" * 400 + b"5", b"9" * 400, b"%35", b"5\\",
    b"$5",
)  # fmt: skip

#: Chunked bodies, of requests and answers alike, that are read in more than one way, or never end.
BAD_CHUNKS = (
    ("chunk size with sign", b"+5\r\nhello\r\n" + END),
    ("negative chunk size", b"-5\r\nhello\r\n" + END),
    ("negative last chunk", b"5\r\nhello\r\n-0\r\n\r\n"),
    ("chunk size with 0x", b"0x5\r\nhello\r\n" + END),
    ("chunk size with 0X", b"0X5\r\nhello\r\n" + END),
    ("chunk size with x", b"x5\r\nhello\r\n" + END),
    ("chunk size with h", b"5h\r\nhello\r\n" + END),
    ("chunk size with point", b"5.0\r\nhello\r\n" + END),
    ("chunk size with comma", b"5,5\r\nhello\r\n" + END),
    ("chunk size in other digits", b"\xd9\xa5\r\nhello\r\n" + END),
    ("quoted chunk size", b'"5"\r\nhello\r\n' + END),
    ("chunk size with space before", b" 5\r\nhello\r\n" + END),
    ("chunk size with tab before", b"\t5\r\nhello\r\n" + END),
    ("chunk size with space after", b"5 \r\nhello\r\n" + END),
    ("chunk size with tab after", b"5\t\r\nhello\r\n" + END),
    ("chunk size with space before its extension", b"5 ;a\r\nhello\r\n" + END),
    ("chunk size with space within", b"1 0\r\nhello\r\n" + END),
    ("chunk size with NUL", b"5\0\r\nhello\r\n" + END),
    ("chunk size with vertical tab", b"5\x0b\r\nhello\r\n" + END),
    ("chunk size with no-break space", b"5\xa0\r\nhello\r\n" + END),
    ("chunk size with underscore", b"1_0\r\nhello\r\n" + END),
    ("empty chunk size", b"\r\nhello\r\n" + END),
    ("empty chunk size with extension", b";a\r\nhello\r\n" + END),
    ("empty line before the last chunk", b"5\r\nhello\r\n\r\n" + END),
    ("chunk size that overflows 64 bits", b"10000000000000005\r\nhello\r\n" + END),
    ("chunk size that overflows 32 bits twice", b"0000000100000005" + b"\r\nhello\r\n" + END),
    ("chunk size of all ones", b"ffffffffffffffff\r\nhello\r\n" + END),
    ("chunk size of 400 digits", b"0" * 400 + b"5\r\nhello\r\n" + END),
    ("last chunk of 400 digits", b"5\r\nhello\r\n" + b"0" * 400 + b"\r\n\r\n"),
    ("bare LF after chunk size", b"5\nhello\r\n" + END),
    ("bare CR after chunk size", b"5\rhello\r\n" + END),
    ("CR CR LF after chunk size", b"5\r\r\nhello\r\n" + END),
    ("LF CR after chunk size", b"5\n\rhello\r\n" + END),
    ("bare LF after chunk", b"5\r\nhello\n" + END),
    ("bare CR after chunk", b"5\r\nhello\r" + END),
    ("two bare LFs after chunk", b"5\r\nhello\n\n" + END),
    ("LF CR after chunk", b"5\r\nhello\n\r" + END),
    ("nothing after chunk", b"5\r\nhello" + END),
    ("two other octets after chunk", b"5\r\nhelloXX" + END),
    ("chunk longer than its size", b"4\r\nhello\r\n" + END),
    ("chunk shorter than its size", b"6\r\nhello\r\n" + END),
    ("bare LF in chunk extension", b"5;a\nb\r\nhello\r\n" + END),
    ("bare CR in chunk extension", b"5;a\rb\r\nhello\r\n" + END),
    ("NUL in chunk extension", b"5;a\0b\r\nhello\r\n" + END),
    ("TERM.EXT",
        b"2;\nxx\r\n4c\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n" + END),
    ("EXT.TERM", b"4c;\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n" + END),
    ("bare CR in place of extension", b"2;\rxx\r\nhe\r\n" + END),
    ("TERM.SPILL", b"5\r\nAAAAAXX2\r\n45\r\n" + END),
    ("SPILL.TERM", b"5\r\nAAAAA\n2\r\n45\r\n" + END),
    ("ONE.TWO", b"2\r\nxx\n45\r\n" + END),
    ("ZERO.TWO", b"2\r\nxx45\r\n\r\n" + END),
    ("empty chunk extension", b"5;\r\nhello\r\n" + END),
    ("open quote in chunk extension", b'5;a="\r\nhello\r\n' + END),
    ("quoted line break in chunk extension", b'5;a="\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nX: "\r\nhello\r\n' + END),
    ("escaped end of quote in chunk extension", b'5;a="b\\"\r\nhello\r\n' + END),
    ("quote after quote in chunk extension", b'5;a="b""c"\r\nhello\r\n' + END),
    ("chunk extension without a name", b"5;=a\r\nhello\r\n" + END),
    ("chunk extension without a value", b"5;a=\r\nhello\r\n" + END),
    ("two semicolons in chunk extension", b"5;;a\r\nhello\r\n" + END),
    ("endless chunk extension", b"5;" + b"a" * 2000),
    ("long chunk extension", b"5;" + b"a" * 2000 + b"\r\nhello\r\n" + END),
    ("chunk extensions without body", (b"1;" + b"e" * 1000 + b"\r\nx\r\n") * 20),
    ("bare LF after last chunk", b"0\n\r\n"),
    ("bare CR after last chunk", b"0\r\r\n"),
    ("bare LF at the very end", b"5\r\nhello\r\n0\r\n\n"),
    ("bare LF in trailers", b"0\r\nX: y\nZ: z\r\n\r\n"),
    ("bare CR in trailers", b"0\r\nX: y\rZ: z\r\n\r\n"),
    ("bare LF in unfinished trailers", b"0\r\nX: y\n"),
    ("folded trailer", b"0\r\nX: y\r\n z\r\n\r\n"),
    ("first trailer folded", b"0\r\n X: y\r\n\r\n"),
    ("trailer with space before colon", b"0\r\nX : y\r\n\r\n"),
    ("trailer without colon", b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    ("request as trailers", b"0\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    ("NUL in trailer", b"0\r\nX: y\0\r\n\r\n"),
    ("trailers too long", b"0\r\nX: " + b"y" * 17_000 + b"\r\n\r\n"),
    ("endless trailers", b"0\r\nX: " + b"y" * 17_000),
    ("too many trailers", b"0\r\n" + b"X: y\r\n" * 201 + b"\r\n"),
)  # fmt: skip

REQUESTS = [
    # Framing
    Request("CL.TE", post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG"), 400),
    Request("TE.CL", post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=CHUNKS), 400),
    Request("two different lengths", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"), 400),
    Request("two equal lengths", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    Request("identity and length", post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"), 400),
    Request("two codings in two lines", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x",
        body=CHUNKS), 400),
    Request("the same coding in two lines", post(*[b"Transfer-Encoding: chunked"] * 2, body=CHUNKS), 400),
    Request("chunked on HTTP/1.0", post(b"Transfer-Encoding: chunked", body=CHUNKS, version=b"HTTP/1.0"), 400),
    Request("upgrade with body", get(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 5"), 400),
    Request("upgrade chunked", get(b"Connection: upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked"), 400),
    Request("unknown expectation", post(b"Expect: 200-ok", b"Content-Length: 5"), 417),
    Request("two expectations", post(b"Expect: 100-continue", b"Expect: x", b"Content-Length: 5"), 417),
    Request("length, then folded more", post(b"Content-Length: 5\r\n 0", body=b"hello"), 400),
    Request("length on a folded line", post(b"Content-Length:\r\n 5", body=b"hello"), 400),
    Request("length behind a bare CR", post(b"X: y\rContent-Length: 5", body=b"hello"), 400),
    Request("three lengths", post(*[b"Content-Length: 5"] * 3, body=b"hello"), 400),
    Request("lengths in two cases", post(b"Content-Length: 5", b"CONTENT-LENGTH: 0", body=b"hello"), 400),
    Request("length 0 and 5", post(b"Content-Length: 0", b"Content-Length: 5", body=b"hello"), 400),
    Request("chunked and length on HTTP/1.0", post(b"Transfer-Encoding: chunked",
        b"Content-Length: 5", version=b"HTTP/1.0",
            body=b"hello"), 400),
    Request("expectation and more", post(b"Expect: 100-continue, x", b"Content-Length: 5"), 417),
    Request("word before the expectation", post(b"Expect: y 100-continue", b"Content-Length: 5"), 417),
    Request("empty expectation", post(b"Expect:", b"Content-Length: 5"), 417),
    Request("expectation on the next line", post(b"Expect:\n100-continue", b"Content-Length: 5"), 400),
    Request("folded expectation", post(b"Expect:\r\n 100-continue", b"Content-Length: 5"), 400),
    Request("expectation twice", post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5"), 417),
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
    Request("vertical tab before the version", b"GET /\x0bHTTP/1.1\r\n" + HOST + b"\r\n", 400),
    Request("no-break space before the version", b"GET /\xa0HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    Request("bare CR in the request line", b"GET /\r HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    Request("CR CR LF after the request line", b"GET / HTTP/1.1\r\r\n" + HOST + b"\r\n", 400),
    Request("NUL after the version", b"GET / HTTP/1.1\0\r\n" + HOST + b"\r\n", 400),
    Request("NUL before the method", b"\0GET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    Request("byte order mark first", b"\xef\xbb\xbfGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    Request("line folded onto the request line", b"GET / HTTP/1.1\r\n x: y\r\n" + HOST + b"\r\n", 400),
    Request("two versions", get(version=b"HTTP/1.1 HTTP/1.1"), 400),
    Request("version with more", get(version=b"HTTP/1.1.1"), 400),
    Request("version with sign", get(version=b"HTTP/+1.1"), 400),
    Request("version with zero", get(version=b"HTTP/01.1"), 400),
    Request("version with comma", get(version=b"HTTP/1,1"), 400),
    Request("version without slash", get(version=b"HTTP1.1"), 400),
    Request("version without number", get(version=b"HTTP/"), 400),
    Request("HTTP/1", get(version=b"HTTP/1"), 400),
    Request("HTTP/1.9", get(version=b"HTTP/1.9"), 505),
    Request("HTTP/3.0", get(version=b"HTTP/3.0"), 505),
    Request("HTTP/0.0", get(version=b"HTTP/0.0"), 505),
    Request("only a version", b"HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    Request("empty request line", b"\r\n\r\n\r\n", 400),
    Request("an answer", b"HTTP/1.1 200 OK\r\n" + HOST + b"\r\n", 400),
    Request("target is an address of mail", get(target=b"@b.test/"), 400),
    Request("target with a scheme only", get(target=b"https:"), 400),
    Request("absolute-form, one slash", get(target=b"https:/a.test/"), 400),
    Request("absolute-form, no slash", get(target=b"https:a.test/"), 400),
    Request("absolute-form, three slashes", get(target=b"https:///a.test/"), 400),
    Request("absolute-form, backslashes", get(target=b"https:\\\\a.test/"), 400),
    Request("absolute-form, backslash in the host", get(target=b"https://a.test\\@b.test/"), 400),
    Request("absolute-form, our name as user", get(target=b"https://a.test:443@b.test/"), 400),
    Request("absolute-form, escaped host", get(target=b"https://a%2etest/"), 400),
    Request("absolute-form, fragment", get(target=b"https://a.test#/x"), 400),
    Request("absolute-form, comma", get(target=b"https://a.test,b.test/"), 400),
    Request("absolute-form, longer host", get(target=b"https://a.test.b.test/"), 400),
    Request("absolute-form, empty port", get(target=b"https://a.test:/"), 400),
    Request("absolute-form, port with sign", get(target=b"https://a.test:+443/"), 400),
    Request("absolute-form, address", get(target=b"https://[::1]/"), 400),
    Request("absolute-form, another Host", b"GET https://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", 400),
    Request("absolute-form, no Host", b"GET https://a.test/ HTTP/1.1\r\n\r\n", 400),
    Request("absolute-form, WebSocket", get(target=b"wss://a.test/"), 400),
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
    Request("Host with space before colon", b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", 400),
    Request("Host on a folded line", b"GET / HTTP/1.1\r\nHost:\r\n a.test\r\n\r\n", 400),
    Request("second Host folded", b"GET / HTTP/1.1\r\n" + HOST + b" Host: b.test\r\n\r\n", 400),
    Request("second Host with space before colon", get(b"Host : b.test"), 400),
    Request("second Host behind a bare CR", get(b"X: y\rHost: b.test"), 400),
    Request("second Host empty", get(b"Host:"), 400),
    # Chunks
    # Sizes
    Request("target too long", get(target=b"/" + b"a" * 32 * 1024), 414),
    Request("endless request line", b"GET /" + b"a" * 33_000, 414),
    Request("endless method", b"G" * 33_000, 414),
    Request("head too large", get(*[b"X: " + b"y" * 1000] * 66), 431),
    Request("endless head", get(*[b"X: " + b"y" * 1000] * 66)[:-2], 431),
    Request("one endless field", get()[:-2] + b"X: " + b"y" * 65_536, 431),
    Request("201 fields", get(*[b"X: y"] * 200), 431),
]  # fmt: skip

#: The same ideas in every spelling.
FAMILIES = [
    *[Request(f"length {value[:30]!r}", post(b"Content-Length: " + value, body=b"hello"), 400) for value in LENGTHS],
    *[Request(f"coding {value[:30]!r}", post(b"Transfer-Encoding: " + value,
        body=CHUNKS), 501) for value in SPELLINGS],
    *[Request(f"broken coding {value!r}", post(b"Transfer-Encoding: " + value, body=CHUNKS), 400)
      for value in BROKEN_SPELLINGS],
    *[Request(f"length and coding {value[:30]!r}", post(b"Content-Length: 4", b"Transfer-Encoding: " + value,
        body=CHUNKS), 400)
      for value in (b"chunked", b"CHUNKED", b" \tchunked\t", *SPELLINGS, *BROKEN_SPELLINGS)],
    *[Request(f"chunked and coding {value[:30]!r}", post(b"Transfer-Encoding: chunked",
        b"transfer-encoding: " + value,
      body=CHUNKS), 400) for value in SPELLINGS],
    *[Request(f"line {line!r}", b"POST / HTTP/1.1\r\n" + HOST + line + b"Content-Length: 5\r\n\r\n" + CHUNKS, 400)
      for line in BROKEN_LINES],
    *[Request(f"line, no length {line!r}", b"POST / HTTP/1.1\r\n" + HOST + line + b"\r\n" + CHUNKS, 400)
      for line in BROKEN_LINES],
    *[Request(f"protocol {version.decode()}", get(version=version), 400)
      for version in (b"HTTPS/1.1", b"ICAP/1.0", b"RTSP/1.0", b"SIP/2.0", b"hTTP/1.1", b"HTTP/1.1;x", b"HTTP/1.1,")],
    *[Request(f"Host {value!r}", b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n", 400)
      for value in (
          b"a.test\0", b"a.test\x0b", b"a.test#", b"a.test?x", b"a.test\\b", b"a.test/", b"//a.test",
          b"https://a.test", b"a.test;b",
          b"[::1", b"::1", b"[::1]x", b"[::1%eth0]", b"[a.test]", b"a.test:443:80", b"a.test:-1", b"a.test:+443",
          b"a.test: 443",
          b"a.test :443", b"a.test:443x", b"a.test:0", b"a.test:4294967739", b".a.test", b"a..test", b".",
          b"-a.test", b"a-.test",
          b"\xc3\xa4.test", b"a\xe3\x80\x82test", b"127.1", b"0x7f.0.0.1", b"0177.0.0.1", b"2130706433",
          b"0x7f000001", b"1.2.3.4.5",
          b"a.test\tb.test", b"'a.test'", b'"a.test"', b"a.test,", b"*.test", b"a" * 254 + b".test", b"a%00.test",
      )],
    *[Request(name, chunked(body), 400) for name, body in BAD_CHUNKS],
]  # fmt: skip

HELLO = b"hello"
HIDDEN = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
#: A body that is a request, as long as it says.
BODY = (b"Content-Length: %d" % len(HIDDEN),)

PASSED = [
    # A body that looks like a request is a body, whatever the method makes others think.
    *[
        Passed(f"CL.0 by {method.decode()}", get(*BODY, method=method) + HIDDEN, method, body=HIDDEN)
        for method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"POST", b"PUT", b"get", b"PROPFIND", b"X")
    ],
    *[
        Passed(
            f"TE.0 by {method.decode()}",
            get(b"Transfer-Encoding: chunked", method=method) + b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN) + END,
            method,
            body=HIDDEN,
        )
        for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"POST")
    ],
    *[
        Passed(
            f"body with {name.decode()}",
            post(name + b": chunked", b"Content-Length: 5", body=HELLO),
            b"POST",
            body=HELLO,
            gone=(b"transfer-encoding",),
        )
        for name in ALIASES
        if b"ncoding" in name.lower()
    ],
    *[
        Passed(
            f"body with {name.decode()}", post(name + b": 50", b"Content-Length: 5", body=HELLO), b"POST", body=HELLO
        )
        for name in ALIASES
        if b"ength" in name.lower()
    ],
    *[
        Passed(
            f"chunks with {name.decode()}",
            post(b"Transfer-Encoding: chunked", name + b": 50", body=CHUNKS),
            b"POST",
            body=HELLO,
        )
        for name in ALIASES
        if b"ength" in name.lower()
    ],
    Passed("chunked in capitals", post(b"TRANSFER-ENCODING: CHUNKED", body=CHUNKS), b"POST", body=HELLO),
    Passed("chunked without space", post(b"Transfer-Encoding:chunked", body=CHUNKS), b"POST", body=HELLO),
    Passed(
        "chunked with white space around", post(b"Transfer-Encoding: \t chunked \t", body=CHUNKS), b"POST", body=HELLO
    ),
    Passed("length with zeros", post(b"Content-Length: 00005", body=HELLO), b"POST", body=HELLO),
    Passed("length with white space around", post(b"Content-Length:\t5 ", body=HELLO), b"POST", body=HELLO),
    Passed(
        "chunk sizes in other letters",
        chunked(b"00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n"),
        b"POST",
        body=b"0123456789" * 2,
    ),
    Passed("chunk extensions", chunked(b'5;a;b=c;d="e;\\"f";g = h\r\nhello\r\n0;last\r\n\r\n'), b"POST", body=HELLO),
    Passed(
        "framing in trailers",
        chunked(
            b"5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer_Encoding: x\r\n"
            b"Host: b.test\r\nX-Forwarded-For: 1.2.3.4\r\nX_Remote_User: root\r\nCookie: a=b\r\n"
            b"Expect: 100-continue\r\n\r\n"
        ),
        b"POST",
        body=HELLO,
        gone=(b"transfer-encoding", b"x-remote-user", b"cookie", b"expect"),
    ),
    Passed("HTTP/1.0 with a length", post(b"Content-Length: 5", version=b"HTTP/1.0", body=HELLO), b"POST", body=HELLO),
    # Connection
    Passed(
        "framing nominated away",
        post(b"Connection: Content-Length, Transfer-Encoding, Host", b"Content-Length: 5", body=HELLO),
        b"POST",
        body=HELLO,
    ),
    Passed(
        "our words nominated away",
        get(b"Connection: X-Forwarded-For, X-Forwarded-Proto, Forwarded, Via"),
        kept=((b"X-Forwarded-For", b"192.0.2.7"), (b"Via", b"1.1 appproxy")),
    ),
    Passed(
        "fields of the connection",
        get(
            b"Connection: keep-alive, X-Mine",
            b"X-Mine: 1",
            b"x_mine: 2",
            b"Keep-Alive: 5",
            b"Proxy-Connection: x",
            b"TE: gzip, trailers",
        ),
        gone=(b"x-mine", b"keep-alive", b"proxy-connection"),
        kept=((b"TE", b"trailers"),),
    ),
    Passed("expectation without a body", get(b"Expect: 100-continue"), gone=(b"expect",)),
    Passed(
        "expectation of an old client",
        post(b"Expect: 100-continue", b"Content-Length: 5", version=b"HTTP/1.0", body=HELLO),
        b"POST",
        body=HELLO,
        gone=(b"expect",),
    ),
    # Upgrades
    Passed(
        "h2c",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        gone=(b"upgrade", b"http2-settings"),
    ),
    Passed(
        "h2c, not nominated",
        get(b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        gone=(b"upgrade", b"http2-settings"),
    ),
    Passed(
        "h2c with a body",
        post(
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2_Settings: x",
            b"Content-Length: 5",
            body=HELLO,
        ),
        b"POST",
        body=HELLO,
        gone=(b"upgrade", b"http2-settings"),
    ),
    Passed("h2c without Connection", get(b"Upgrade: h2c", b"HTTP2-Settings: x"), gone=(b"upgrade", b"http2-settings")),
    *[
        Passed(f"upgrade to {name.decode()}", get(b"Connection: upgrade", b"Upgrade: " + name), gone=(b"upgrade",))
        for name in (b"H2C", b"h2", b"h3", b"HTTP/2.0", b"HTTP/1.1", b"TLS/1.2", b"h2c, HTTP/2.0", b"h2c;x", b",h2c,")
    ],
    Passed(
        "upgrade of an old client",
        get(b"Connection: upgrade", b"Upgrade: websocket", version=b"HTTP/1.0"),
        gone=(b"upgrade",),
    ),
    # Request line and Host
    Passed("absolute-form", get(target=b"https://a.test/x?y"), target=b"/x?y"),
    Passed("absolute-form with port", get(target=b"HTTPS://A.TEST.:443/x"), target=b"/x"),
    Passed("absolute-form without path", get(target=b"https://a.test?y"), target=b"/?y"),
    Passed("absolute-form for OPTIONS", get(target=b"https://a.test", method=b"OPTIONS"), b"OPTIONS", b"*"),
    Passed("empty line first", b"\r\n" + get()),
    Passed("Host with tab", b"GET / HTTP/1.1\r\nHost:\ta.test\t\r\n\r\n"),
    Passed("Host in capitals, with port and dot", b"GET / HTTP/1.1\r\nHOST: A.TEST.:443\r\n\r\n"),
    Passed(
        "hosts elsewhere",
        get(
            b"X-Forwarded-Host: b.test",
            b"X-Host: b.test",
            b"Forwarded: host=b.test",
            b"X-HTTP-Host-Override: b.test",
            b"X-Original-URL: /smuggled",
            b"X-Rewrite-URL: /smuggled",
        ),
        gone=(b"x-host", b"x-http-host-override", b"x-original-url", b"x-rewrite-url"),
    ),
    Passed("method override", get(b"X-HTTP-Method-Override: DELETE"), kept=((b"X-HTTP-Method-Override", b"DELETE"),)),
    Passed(
        "identity",
        get(b"X-Remote-User: root", b"x_remote_user: root", b"X.Remote.User: root", b"Remote-User: root"),
        gone=(b"x-remote-user", b"remote-user"),
    ),
]
