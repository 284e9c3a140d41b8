"""What one message costs in microseconds; ``python -m tests.bench.bench_http``."""

from __future__ import annotations

import timeit
from collections.abc import Callable

from appproxy.http.addresses import ExternalURL, InternalURL, canonical_path
from appproxy.http.cookies import take_reserved
from appproxy.http.guard import guard_response
from appproxy.http.hops import clean_request, clean_response
from appproxy.http.links import Links, LinkScanner
from appproxy.http.requesting import ClientConversation
from appproxy.http.serving import RequestBegun, ServerConversation
from appproxy.http.translate import Translation

REQUEST = (
    b"GET /leave/requests?year=2024&team=blue HTTP/1.1\r\nHost: hr.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://hr.example.com/leave/\r\nConnection: keep-alive\r\nCookie: session=" + b"c" * 242 + b"\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\r\n"
)
BODY = b"x" * 1024
ANSWER_FIELDS = [
    (b"Server", b"nginx"),
    (b"Date", b"Sat, 23 Nov 2024 10:00:00 GMT"),
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"Cache-Control", b"private, max-age=0"),
    (b"Strict-Transport-Security", b"max-age=31536000"),
]


TEXTS = {
    "links": b'<li class="item"><a href="http://intra/app/page">A page</a> <a href="/app/other">another</a></li>\n'
    * 10_000,
    "prose": b"<p>Nothing in here leads anywhere, as in most of what people write and read.</p>\n" * 10_000,
    "script": b"function a(b,c){return b.d(c/2,'e')&&b.f[c]||{g:'/h'}}\n" * 10_000,
}


def microseconds(work: Callable[[], object], number: int = 20_000) -> float:
    """The best of five rounds."""
    return min(timeit.repeat(work, number=number, repeat=5)) / number * 1e6


def served(answer: Callable[[ServerConversation], object]) -> Callable[[], None]:
    """One request and its answer on a kept-alive connection."""
    conversation = ServerConversation()

    def once() -> None:
        conversation.receive(REQUEST)
        answer(conversation)
        conversation.next_request()

    return once


def moved(translation: Translation, text: bytes) -> None:
    """A text's links, in pieces as they come from a socket."""
    scanner = LinkScanner(Links(translation))
    for start in range(0, len(text), 65536):
        scanner.receive(text[start : start + 65536])
    scanner.end()


def main() -> None:
    """Print the table."""

    def parts(conversation: ServerConversation) -> None:
        conversation.begin(200, b"OK", ANSWER_FIELDS, len(BODY))
        conversation.body(BODY)
        conversation.end()

    def parse() -> None:
        ServerConversation().receive(REQUEST)

    empty = microseconds(ServerConversation)
    parsing = microseconds(parse) - empty
    print(f"serving: parse a browser's GET    {parsing:6.2f}")
    whole = microseconds(served(lambda conversation: conversation.whole(200, b"OK", ANSWER_FIELDS, BODY)))
    print(f"serving: whole answer, next       {whole - parsing:6.2f}")
    print(f"serving: begin, body, end, next   {microseconds(served(parts)) - parsing:6.2f}")

    (begun,) = ServerConversation().receive(REQUEST)
    assert isinstance(begun, RequestBegun)
    head = begun.head
    fields = clean_request(head)
    origin = ClientConversation()
    answer = ServerConversation().whole(200, b"OK", ANSWER_FIELDS, BODY).replace(b"Connection: close\r\n", b"")

    def ask() -> None:
        origin.begin(b"GET", head.target, fields)
        origin.receive(answer)

    print(f"requesting: begin, receive        {microseconds(ask):6.2f}")
    print(f"hops: clean_request               {microseconds(lambda: clean_request(head)):6.2f}")
    print(f"hops: clean_response              {microseconds(lambda: clean_response(ANSWER_FIELDS)):6.2f}")
    guarded = microseconds(lambda: guard_response(200, b"OK", ANSWER_FIELDS, True))
    print(f"guard: guard_response             {guarded:6.2f}")
    translation = Translation(ExternalURL.parse("https://hr.example.com/"), InternalURL.parse("http://intra/app/"))
    print(f"translate: up                     {microseconds(lambda: translation.up(fields)):6.2f}")
    print(f"translate: down                   {microseconds(lambda: translation.down(ANSWER_FIELDS)):6.2f}")
    print(f"addresses: canonical_path         {microseconds(lambda: canonical_path(b'/leave/requests')):6.2f}")
    print(f"addresses: with escapes           {microseconds(lambda: canonical_path(b'/leave/a%20b')):6.2f}")
    for name, text in TEXTS.items():
        seconds = min(timeit.repeat(lambda text=text: moved(translation, text), number=5, repeat=5)) / 5
        print(f"links: MB/s of {name:12}       {len(text) / seconds / 1e6:6.0f}")
    cookies = [b"a=b; __Host-appproxy-session=" + b"h" * 43 + b"; c=d"]
    print(f"cookies: take_reserved            {microseconds(lambda: take_reserved(cookies)):6.2f}")


if __name__ == "__main__":
    main()
