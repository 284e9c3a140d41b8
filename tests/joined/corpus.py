"""Conversations, made from tables: what they have in common is that a proxy must change nothing in them.

Left out is what the relay refuses on purpose: ambiguous paths, malformed heads, what is over a limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from itertools import cycle, product

from tests.joined.exchanges import (
    CHUNKED,
    Await,
    Close,
    Conversation,
    Say,
    answer,
    chunked,
    length,
    pieces,
    request,
    simple,
)
from tests.joined.reading import Field

#: RFC 9110, 5789, 10008; WebDAV, DeltaV, CalDAV, BIND; UPnP; Exchange; RD Gateway and RPC over HTTP; nobody's.
METHODS = (
    b"GET HEAD POST PUT DELETE OPTIONS TRACE PATCH QUERY PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL "
    b"BASELINE-CONTROL BIND CHECKIN CHECKOUT LABEL LINK MERGE MKACTIVITY MKCALENDAR MKREDIRECTREF MKWORKSPACE "
    b"ORDERPATCH REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UPDATE UPDATEREDIRECTREF VERSION-CONTROL PURGE "
    b"M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE SOURCE BCOPY BDELETE BMOVE BPROPFIND BPROPPATCH POLL X-MS-ENUMATTS "
    b"RDG_IN_DATA RDG_OUT_DATA RPC_IN_DATA RPC_OUT_DATA RPC_CONNECT BREW PRI get Get gEt head delete x Z "
    b"!#$%&'*+-.^_`|~ 0 007 a.b LONGEST-METHOD-THAT-IS-TAKEN-HAS-64-OCTETS-AND-NO-MORE-THAN-THIS"
).split()
#: Sizes in which octets arrive.
SLICES: Sequence[Sequence[int]] = ((), (1,), (2, 3), (7, 1, 64), (1000,))
#: What a path may not hold: see ``appproxy.http.addresses.canonical_path``.
_REFUSED_IN_PATH = frozenset([*range(0x20), 0x5C, 0x7F, 0xC0, 0xC1, 0xFE, 0xFF])


def body(size: int, seed: bytes = b"") -> bytes:
    """*size* octets in which nothing repeats for a while."""
    block = b"".join(hashlib.sha256(seed + b"%d" % number).digest() for number in range(min(size // 32 + 1, 1024)))
    return (block * (size // len(block) + 1))[:size]


def framed(octets: bytes, how: str, trailers: Sequence[Field] = ()) -> tuple[list[Field], bytes]:
    """The framing fields for a body, and the body in that framing."""
    match how:
        case "none" | "close":
            return [], octets
        case "length":
            return [length(len(octets))], octets
        case "chunked":
            return [CHUNKED], chunked(pieces(octets, max(1, len(octets) // 3)), trailers)
        case "extended":
            return [CHUNKED], chunked(pieces(octets, 50), trailers, b';name="a value";x')
    raise ValueError(how)


def methods() -> Iterator[Conversation]:
    """Every method, without and with a body."""
    for method, how in product(METHODS, ["none", "length", "chunked"]):
        fields, octets = framed(b"" if how == "none" else b"said by " + method, how)
        yield simple(
            f"{method.decode()} {how}",
            request(method, b"/some/where?a=b", fields, octets),
            answer(200, b"OK", [length(4)], b"" if method == b"HEAD" else b"done"),
            method,
        )
    yield simple("OPTIONS *", request(b"OPTIONS", b"*"), answer(204, b"No Content"), b"OPTIONS")


def targets() -> Iterator[Conversation]:
    """Every octet that may stand in a path or query, every escape, and what other proxies tidy up."""
    plain = [bytes([octet]) for octet in range(0x21, 0x7F) if octet != 0x23]
    found = [b"/a%bb" % each for each in plain if each not in (b"\\", b"%")]
    found += [b"/?a%bb" % each for each in plain]
    found += [b"/a%%%02Xb" % octet for octet in range(256) if octet not in _REFUSED_IN_PATH]
    found += [b"/a%%%02xb" % octet for octet in range(256) if octet not in _REFUSED_IN_PATH]
    found += [b"/?q=%%%02X" % octet for octet in range(256)]
    found += (
        b"/ /? /?? /?a?b /a? /a/? // //a /a//b /a///b// /; /;x /a;b=c/d;e /a;/b /. /./ /a/./b /a/../b /a/.. /... "
        b"/.hidden /a. /a%2Fb /a%2fb%2F /%7e /%7E /~ /a%20b%2Fc+%7e /%C3%A9 /%e9 /%25 /%252e%252e /%252F /a%3Fb "
        b'/a%3fb?c /a%23b /?a#b /|x|/^/{y}/"z"/<w>/`v`/ /?%zz /?%  /?% /?\\ /?../.. /?//x /?http://other.example/ '
        b"/http://other.example/ /a:b /a@b /@ /:80 /*/* /%2A /$metadata /Products(1)/Name /a,b /a'b /(a) /!a "
        b"/x=1&y=2 /?a=1&a=2&a=1 /?a=b=c /?&& /?+ /?%20+%2B /.well-known/a /.appproxyx /robots.txt /favicon.ico"
    ).split(b" ")
    found += [b"/" + b"x" * 8000, b"/?" + b"y" * 16_000, b"/" + b"a/" * 3000, b"/?" + b"a&" * 15_000, b"/%41" * 7000]
    for target in dict.fromkeys(each for each in found if each and b"#" not in each):
        yield simple(f"target {target[:60].decode()}", request(target=target), answer(fields=[length(2)], body=b"ok"))


def hosts() -> Iterator[Conversation]:
    """Ports in Host, and letters in either case; the origin always gets its own name."""
    for host in (b"app.example.com", b"APP.example.COM", b"app.example.com:443", b"app.example.com."):
        yield simple(f"host {host.decode()}", request(target=b"/x", host=host), answer(fields=[length(0)]))


def statuses() -> Iterator[Conversation]:
    """Every status with its usual reason, none, an empty one and an odd one; to GET and to HEAD."""
    reasons: Sequence[Callable[[int], bytes | None]] = (
        lambda status: HTTPStatus(status).phrase.encode() if status in list(HTTPStatus) else b"Unheard Of",
        lambda status: None,
        lambda status: b"",
        lambda status: b"Caf\xe9 \t; 200 HTTP/1.1",
    )
    for status, (number, reason) in product(range(200, 600), enumerate(reasons)):
        bodiless = status in (204, 304)
        fields: list[Field] = [(b"X-Status", b"%d" % status)]
        if not bodiless:
            fields.append(length(5))
        method = (b"GET", b"POST", b"HEAD", b"DELETE")[(status + number) % 4]
        octets = b"" if bodiless or method == b"HEAD" else b"hello"
        asked = request(method, b"/", [length(1)] if method == b"POST" else [], b"x" if method == b"POST" else b"")
        yield simple(f"{status} {number}", asked, answer(status, reason(status), fields, octets), method)
    for status in (200, 206, 301, 304, 404, 416, 500):
        for fields in ([length(12345)], [], [CHUNKED]):
            yield simple(f"HEAD {status} {fields}", request(b"HEAD"), answer(status, b"so", fields), b"HEAD", down=(3,))
    for fields in ([length(12345)], [], [(b"ETag", b'"a"'), length(7)]):
        yield simple(f"GET 304 {fields}", request(), answer(304, b"Not Modified", fields))
    yield simple("204 with a length", request(), answer(204, b"No Content", [length(0)]))
    yield simple("205", request(), answer(205, b"Reset Content", [length(0)]))


def _odd_fields() -> list[list[Field]]:
    """Lists of fields as heads may have them."""
    values = [b"a%bb" % bytes([octet]) for octet in (9, *range(0x20, 0x7F), *range(0x80, 0x100))]
    found: list[list[Field]] = [[(b"X-Value-%d" % at, value)] for at, value in enumerate(values)]
    names = [b"x%by" % bytes([octet]) for octet in b"!#$%&'*+-^`|~09AZaz"]
    found += [[(name, b"v")] for name in names]
    found += [
        [(b"X-Empty", b"")],
        [(b"X-Empty", b""), (b"X-Empty", b"")],
        [(b"A", b"1"), (b"B", b"2"), (b"a", b"3"), (b"A", b"1")],
        [(b"ACCEPT", b"*/*"), (b"accept", b"text/html;q=0.5, */*;q=0.1"), (b"aCCept", b"")],
        [(b"z", b"1"), (b"Y", b"2"), (b"x", b"3"), (b"Z", b"4")],
        [(b"X-Long", b"v" * 20_000)],
        [(b"N" * 5000, b"v")],
        [(b"X-%d" % number, b"%d" % number) for number in range(150)],
        [(b"X-Same", b"%d" % number) for number in range(150)],
        [(b"X-Quoted", b'"a, b"; c="\\"d\\""')],
        [(b"X-Utf8", "gr\u00fc\u00df \u65e5\u672c".encode())],
        [(b"X-Mixed", b"\xff\xfe\x80"), (b"x-mixed", b"(comment)")],
        [(b"Via", b"1.0 fred, 1.1 p.example.net"), (b"Via", b"1.1 other")],
        [(b"Cache-Control", b"no-cache"), (b"Pragma", b"no-cache")],
        [(b"Trailer", b"Digest"), (b"X-1", b"1")],
        [(b"Content-Type", b"text/html; charset=iso-8859-1"), (b"Content-Language", b"en, de")],
        [(b"Content-Encoding", b"gzip, br"), (b"Vary", b"*"), (b"Vary", b"Accept-Encoding")],
        [(b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT"), (b"Server", b"Apache/2.4 (Unix)"), (b"Age", b"0")],
    ]
    return found


def request_fields() -> Iterator[Conversation]:
    """What clients say."""
    more: list[list[Field]] = [
        [(b"Cookie", b"a=b; c=d")],
        [(b"Cookie", b"a=b"), (b"cookie", b"c=d; e"), (b"COOKIE", b"")],
        [(b"Cookie", b'"q"=1;;  ;x=\xe9;$Version=1; __Host-theirs=5; __Secure-x="y z"')],
        [(b"Authorization", b"Basic YWxhZGRpbjpvcGVuc2VzYW1l")],
        [(b"Authorization", b"Negotiate " + b"A" * 16_000)],
        [(b"If-None-Match", b'"a", W/"b", *'), (b"If-Modified-Since", b"Sat, 29 Oct 1994 19:43:31 GMT")],
        [(b"If-Match", b'"x"'), (b"If-Unmodified-Since", b"Sat, 29 Oct 1994 19:43:31 GMT")],
        [(b"Range", b"bytes=0-0,-1"), (b"If-Range", b'"a"')],
        [(b"Range", b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(300)))],
        [(b"Accept-Encoding", b"gzip;q=1.0, identity; q=0.5, *;q=0")],
        [(b"Accept-Encoding", b"")],
        [(b"User-Agent", b"Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)")],
        [(b"Max-Forwards", b"0"), (b"From", b"webmaster@example.org")],
        [(b"Depth", b"infinity"), (b"Overwrite", b"F"), (b"Timeout", b"Infinite, Second-4100000000")],
        [(b"Lock-Token", b"<urn:uuid:a515cfa4-5da4-22e1-f5bf-00a0451e6bf7>"), (b"Translate", b"f")],
        [(b"SOAPAction", b'""'), (b"MIME-Version", b"1.0")],
        [(b"Origin", b"null"), (b"Sec-Fetch-Site", b"cross-site"), (b"Sec-WebSocket-Key", b"x")],
        [(b"Upgrade-Insecure-Requests", b"1"), (b"DNT", b"1"), (b"Priority", b"u=1, i")],
        [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), (b"tracestate", b"a=b")],
        [(b"X-Requested-With", b"XMLHttpRequest"), (b"X-HTTP-Method-Override", b"DELETE")],
        [(b"RDG-Connection-Id", b"{9A1D5A35-6D10-4DAE-BC1A-2E5A2E1B9A0D}")],
        [(b"Connection", b"X-Hop, keep-alive"), (b"X-Hop", b"1"), (b"X-Stays", b"2")],
        [(b"Connection", b"x-one"), (b"X-One", b"1"), (b"connection", b"x-two"), (b"X-Two", b"2"), (b"X-3", b"3")],
        [(b"Keep-Alive", b"timeout=5"), (b"Proxy-Connection", b"keep-alive"), (b"X-Stays", b"1")],
        [(b"Connection", b"TE"), (b"TE", b"trailers, deflate;q=0.5")],
        [(b"TE", b"deflate")],
    ]
    for number, fields in enumerate(_odd_fields() + more):
        name = f"request fields {number} {fields[0][0][:30].decode()}"
        yield simple(name, request(fields=fields), answer(fields=[length(0)]), up=SLICES[number % 3])


def answer_fields() -> Iterator[Conversation]:
    """What origins say."""
    more: list[list[Field]] = [
        [(b"Set-Cookie", b"a=b"), (b"Set-Cookie", b"a=c; Path=/; HttpOnly"), (b"set-cookie", b"d=e; SameSite=none")],
        [(b"Set-Cookie", b"a=b, c; Expires=Wed, 09 Jun 2021 10:18:14 GMT; domain=.example.org;secure")],
        [(b"Set-Cookie", b""), (b"Set-Cookie", b"=x"), (b"Set-Cookie", b"__Host-theirs=1; Secure; Path=/")],
        [(b"Location", b"relative/path?x#y")],
        [(b"Location", b"/absolute;x=1/%2F?a=b%26c")],
        [(b"Location", b"https://other.example/x")],
        [(b"Location", b"app-scheme:callback")],
        [(b"Content-Location", b"../x"), (b"Refresh", b"5; url=/next"), (b"Refresh", b"7")],
        [(b"Link", b'</style.css>; rel=preload; as=style, <x>; rel="next"; title="a, b"')],
        [
            (b"WWW-Authenticate", b"Negotiate"),
            (b"WWW-Authenticate", b"NTLM"),
            (b"www-authenticate", b'Basic realm="x"'),
        ],
        [(b"WWW-Authenticate", b"Negotiate oYG2MIGzoAMKAQChCwYJKoZIhvcSAQICooGeBIGbYIGYBgkqhkiG9xIB")],
        [(b"ETag", b'W/"x\xff"'), (b"Last-Modified", b"Sat, 29 Oct 1994 19:43:31 GMT"), (b"Accept-Ranges", b"none")],
        [(b"Cache-Control", b"public, max-age=31536000, immutable"), (b"Expires", b"0"), (b"Age", b"x")],
        [(b"Content-Security-Policy", b"default-src 'self'; img-src *"), (b"X-Frame-Options", b"DENY")],
        [(b"Access-Control-Allow-Origin", b"*"), (b"Access-Control-Expose-Headers", b"X-A, X-B")],
        [(b"DAV", b"1, 2, <http://apache.org/dav/propset/fs/1>"), (b"MS-Author-Via", b"DAV"), (b"Allow", b"")],
        [(b"Content-Disposition", b"attachment; filename*=UTF-8''%e2%82%ac%20rates")],
        [(b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"X-Stays", b"2")],
        [(b"Keep-Alive", b"timeout=5, max=99"), (b"Connection", b"keep-alive"), (b"X-Stays", b"1")],
        [(b"Content-Length", b"0"), (b"X-A", b"1"), (b"content-length", b"0")],
        [(b"Retry-After", b"120"), (b"Warning", b'110 anderson/1.3.37 "Response is stale"')],
        [(b"Server-Timing", b"db;dur=53"), (b"Trailer", b"Server-Timing"), (b"X-Accel-Buffering", b"no")],
        [(b"P3P", b'CP="x"'), (b"X-UA-Compatible", b"IE=edge"), (b"X-AspNet-Version", b"4.0.30319")],
    ]
    for number, fields in enumerate(_odd_fields() + more):
        name = f"answer fields {number} {fields[0][0][:30].decode()}"
        own = fields if any(each[0].lower() == b"content-length" for each in fields) else [*fields, length(0)]
        yield simple(name, request(), answer(fields=own), down=SLICES[number % 3])


def framings() -> Iterator[Conversation]:
    """Every way to frame a body, both ways, between old and new."""
    sizes, slices = cycle([0, 1, 2, 77, 5000, 40_000]), cycle(SLICES)
    ups = ["none", "length", "chunked", "extended", "trailers"]
    downs = ["length", "chunked", "extended", "trailers", "close", "old close", "old length"]
    for method, up, down, old, _ in product([b"GET", b"POST", b"HEAD"], ups, downs, [False, True], range(2)):
        if old and up in ("chunked", "extended", "trailers"):
            continue
        size_up, size_down = next(sizes), next(sizes)
        up_trailers = [(b"X-Sum", b"1"), (b"x-sum", b"2")] if up == "trailers" else []
        fields, octets = framed(
            b"" if up == "none" else body(size_up), "chunked" if up == "trailers" else up, up_trailers
        )
        down_trailers = [(b"Digest", b"x=="), (b"Server-Timing", b"a")] if down == "trailers" else []
        how = {"trailers": "chunked", "old close": "close", "old length": "length"}.get(down, down)
        own, said = framed(body(size_down, b"down"), how, down_trailers)
        version = b"1.0" if down.startswith("old") else b"1.1"
        answered = answer(200, b"Fine", own, b"" if method == b"HEAD" else said, version)
        asked = request(method, b"/f", fields, octets, b"1.0" if old else b"1.1")
        steps = [Await("end"), Say(answered), *([Close()] if "close" in down else [])]
        name = f"{method.decode()} up {up} {size_up} down {down} {size_down} {'1.0' if old else '1.1'}"
        yield Conversation(
            name, [Say(asked), Await("answers")], [method], [steps], _coarse(next(slices), size_up),
            _coarse(next(slices), size_down), old,
        )  # fmt: skip


def _coarse(sizes: Sequence[int], size: int) -> Sequence[int]:
    """Large bodies are not sliced octet by octet."""
    return sizes if size < 10_000 else (1460, 4000)


def interims() -> Iterator[Conversation]:
    """Interim answers, asked for or not, and expectations granted and refused."""
    link = [(b"Link", b"</a.css>; rel=preload"), (b"Link", b"</b.js>; rel=preload"), (b"X-Early", b"1")]
    heads = {
        "100": [answer(100, b"Continue")],
        "102": [answer(102, b"Processing", [(b"X-Progress", b"10%")])],
        "103": [answer(103, b"Early Hints", link)],
        "199": [answer(199, None)],
        "many": [
            answer(102, b"Processing"),
            answer(103, b"Early Hints", link),
            answer(103, b"", link),
            answer(100, b""),
        ],
    }
    final = answer(200, b"OK", [length(2)], b"ok")
    expects = [(b"Expect", b"100-continue")]
    for (name, interim), method, old in product(heads.items(), [b"GET", b"POST"], [False, True]):
        fields, octets = ([length(4)], b"body") if method == b"POST" else ([], b"")
        asked = request(method, b"/i", fields, octets, b"1.0" if old else b"1.1")
        for slices in SLICES[:3]:
            steps = [Await("head"), *[Say(each) for each in interim], Await("end"), Say(final)]
            yield Conversation(
                f"{name} before the answer to {method.decode()} {old} {slices}", [Say(asked), Await("answers")],
                [method], [steps], slices, slices, old,
            )  # fmt: skip
    for how, size in product(["length", "chunked"], [1, 5000, 300_000]):
        fields, octets = framed(body(size), how)
        yield Conversation(
            f"expectation granted {how} {size}",
            [Say(request(b"PUT", b"/e", [*fields, *expects])), Await("interim"), Say(octets), Await("answers")],
            [b"PUT"], [[Await("head"), Say(answer(100, b"Continue")), Await("end"), Say(final)]],
        )  # fmt: skip
        yield Conversation(
            f"expectation overtaken {how} {size}",
            [Say(request(b"PUT", b"/e", [*fields, *expects], octets)), Await("answers")],
            [b"PUT"], [[Await("end"), Say(final)]],
        )  # fmt: skip
        for status in (401, 413, 417, 302, 200):
            yield Conversation(
                f"expectation refused {how} {size} {status}",
                [Say(request(b"PUT", b"/e", [*fields, *expects])), Await("answers")],
                [b"PUT"], [[Await("head"), Say(answer(status, b"No", [length(5)], b"sorry"))]], early=True,
            )  # fmt: skip


def bodies() -> Iterator[Conversation]:
    """Bodies of all sizes both ways; the borders of frames, windows and chunks among them."""
    borders = [1, 16, 1 << 10, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 20]
    sizes = sorted({0, *(size + more for size in borders for more in (-1, 0, 1))})
    for size, how in product(sizes, ["length", "chunked"]):
        up, octets = framed(body(size, b"up"), how)
        down, said = framed(body(size, b"down"), how)
        yield simple(
            f"{size} {how} up", request(b"PUT", b"/b", up, octets), answer(201, b"Created", [length(0)]), b"PUT",
            up=_coarse((), size),
        )  # fmt: skip
        yield simple(f"{size} {how} down", request(), answer(fields=down, body=said), down=_coarse((), size))
    for how in ("length", "chunked", "close"):
        up, octets = framed(body(5_000_000, b"up"), "length" if how == "close" else how)
        down, said = framed(body(5_000_000, b"down"), how)
        steps = [Await("end"), Say(answer(fields=down, body=said)), *([Close()] if how == "close" else [])]
        yield Conversation(
            f"5 MB {how} both ways", [Say(request(b"POST", b"/b", up, octets)), Await("answers")], [b"POST"], [steps],
            (60_000, 1, 3000), (60_000, 1, 3000),
        )  # fmt: skip


def both_ways() -> Iterator[Conversation]:
    """Answers that begin, and end, before the request has."""
    for how, rounds in product(["length", "chunked"], [1, 2, 5, 30]):
        said = [b"<%d>" % number for number in range(rounds)]
        whole = b"".join(said)
        fields = [length(len(whole))] if how == "length" else [CHUNKED]
        wire = said if how == "length" else [b"%x\r\n%b\r\n" % (len(each), each) for each in said]
        end = [] if how == "length" else [Say(b"0\r\n\r\n")]
        client: list[Say | Await | Close] = [Say(request(b"POST", b"/d", fields)), Await("head")]
        origin: list[Say | Await | Close] = [Await("head"), Say(answer(fields=fields))]
        count = 0
        for each, piece in zip(said, wire, strict=True):
            count += len(each)
            client += [Say(piece), Await("body", count)]
            origin += [Await("body", count), Say(piece)]
        yield Conversation(
            f"echo piece by piece {how} {rounds}",
            [*client, *end, Await("answers")],
            [b"POST"],
            [[*origin, Await("end"), *end]],
        )
    for status, size, sent in product((200, 413, 401, 500), (0, 3000), (0, 1, 60_000)):
        said_early = answer(status, b"Early", [length(size)], body(size))
        fields, octets = framed(body(100_000), "length")
        yield Conversation(
            f"answered {status} with {size} after {sent}",
            [Say(request(b"POST", b"/early", fields)), Say(octets[:sent]), Await("answers")],
            [b"POST"], [[Await("body", sent), Say(said_early)]], early=True,
        )  # fmt: skip


def cut_short() -> Iterator[Conversation]:
    """Answers that their origin never finishes."""
    octets = body(100_000)
    for how, sent, cut in product(["length", "chunked"], [0, 1, 50_000, 99_999], [False, True]):
        own, said = framed(octets, how)
        yield Conversation(
            f"C38: {how} ends after {sent} {'reset' if cut else 'closed'}",
            [Say(request()), Await("answers")],
            [b"GET"], [[Await("end"), Say(answer(fields=own, body=said[:sent])), Close(cut)]],
        )  # fmt: skip


def conversations() -> Iterator[Conversation]:
    """Several exchanges on one connection, one after the other or pipelined."""
    for count, pipelined, up in product([2, 3, 7, 20], [False, True], SLICES):
        client: list[Say | Await | Close] = []
        methods, origin = [], []
        for number in range(count):
            method = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE")[number % 5]
            how = ("length", "chunked", "extended")[number % 3]
            fields, octets = framed(body(number * 100, b"up"), how if method in (b"POST", b"PUT") else "none")
            if method not in (b"POST", b"PUT"):
                octets = b""
            own, said = framed(body(number * 50 + 1, b"down"), ("chunked", "length")[number % 2])
            if method == b"HEAD":
                said = b""
            asked = request(method, b"/n/%d" % number, [*fields, (b"X-Number", b"%d" % number)], octets)
            client += [Say(asked)] if pipelined else [Say(asked), Await("answers", number + 1)]
            methods.append(method)
            answered = answer(220 + number, b"Number", [*own, (b"X-Number", b"%d" % number)], said)
            origin.append([Await("end"), Say(answered)])
        if pipelined:
            client = [Say(b"".join(each.octets for each in client if isinstance(each, Say)))]
        yield Conversation(
            f"{count} {'pipelined' if pipelined else 'in turn'} {up}", [*client, Await("answers", count)], methods,
            origin, up,
        )  # fmt: skip
    for old, option in product([False, True], [b"close", b"keep-alive"]):
        asked = request(fields=[(b"Connection", option)], version=b"1.0" if old else b"1.1")
        yield simple(f"Connection: {option.decode()} {old}", asked, answer(fields=[length(2)], body=b"ok"), old=old)


FAMILIES: tuple[Callable[[], Iterator[Conversation]], ...] = (
    methods, targets, hosts, statuses, request_fields, answer_fields, framings, interims, bodies, both_ways,
    cut_short, conversations,
)  # fmt: skip
