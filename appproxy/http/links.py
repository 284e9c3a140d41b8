"""Links in text: found by their octets, moved from internal to external addresses, nothing else touched.

No markup is parsed.  An absolute link is an absolute link in HTML, CSS, JSON, XML or a script, so one search for
``//host`` in any spelling (:mod:`~appproxy.http.spelling`) finds them all, also those in scripts within attributes
within JSON.  A link from the root (``/app/x``) is one only where an attribute, ``url()`` or ``@import`` says so, which
the octets before it tell.  The ``value`` of an ``input`` stays: it goes back to the origin, which knows no other
address than its own.  What replaces a link consists of letters, digits, ``-._~[]``, escapes, and of colons and slashes
spelled as they were: it ends no string, attribute or element that the old one did not end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from appproxy.http.addresses import ExternalURL, InternalURL, MalformedHost, canonical_host
from appproxy.http.spelling import COLON, SCHEME, SLASH, begun, colon_beside, respelled, spelled_path
from appproxy.http.translate import Translation

#: Octets that end every link; whatever precedes the last one of them is decided.
_ENDS: Final = bytes(range(33)) + b"\"'`<>\x7f"
_LINES: Final = bytes.maketrans(_ENDS, b"\n" * len(_ENDS))
#: So much of what was passed on already is looked back at: for the beginning of a word, or of a ``srcset``.
_WORD: Final = 96
_LOOK_BACK: Final = 1024
#: A scheme and its colon, in the longest spelling.
_SCHEME_LENGTH: Final = 16
#: Servers whose links are remembered; a page may name any number.
_MAX_REMEMBERED: Final = 1024

#: Where a word may begin: not after a letter, but after an escape that ends in one.
_BOUNDARY = (
    r"(?:(?<![0-9A-Za-z+.\-])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f]{2})|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u00[0-9A-Fa-f]{2}))"
)
_HOST = r"\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z_](?:[0-9A-Za-z_.\-]{0,252}[0-9A-Za-z_])?"
_AUTHORITY = (
    rf"({SLASH.whole})(?P<host>{_HOST})(?:\.(?={SLASH.whole}|{COLON.whole}))?"
    rf"(?:({COLON.whole})([0-9]{{1,5}})(?![0-9]))?"
)
#: A slash that may begin a link from the root: at the beginning of a quoted string, an argument, a word.
_FROM_ROOT = rf"(?:(?<=[\s\"'=(>;,]/)|(?<=[\s\"'=(>;,]\\/)|(?<=[\"']\\\\/))(?!{SLASH.whole})"


def _compiled(expression: str, flags: int = 0) -> re.Pattern[bytes]:
    return re.compile(expression.encode("ascii"), flags)


_ABSOLUTE = _compiled(rf"({SLASH.whole}){_AUTHORITY}")
_ANY = _compiled(rf"({SLASH.whole})(?:{_AUTHORITY}|{_FROM_ROOT})")
_ABSOLUTE_BEGUN = _compiled(SLASH.whole + SLASH.whole)
_ANY_BEGUN = _compiled(rf"{SLASH.whole}(?:{SLASH.whole}|{_FROM_ROOT})")
_UNDECIDED = _compiled(rf"(?:{_BOUNDARY}{begun(SCHEME, COLON, SLASH, SLASH)}|{begun(SLASH, SLASH)})")

_SCHEME_BEFORE = _compiled(rf"{_BOUNDARY}({SCHEME.whole})({COLON.whole})\Z")
#: What may stand before a link without scheme; not the path or the scheme of another one.
_RELATIVE_BEFORE = _compiled(
    r"(?:\A|[\s\"'`=(,>\[;|{]|%(?:2[0278]|3[DdEeBb])|\\(?:x|u00)(?:2[0278]|3[DdEe])|\\[nrt])\Z"
)

#: What ends an authority or a path without belonging to it.  A user may come before a host, and be named like one.
_TEXT_ENDS = (
    r"[\s\"'`<>?#]|\.(?=[\s\"'<)]|\Z)|\)(?![^\s\"'`<>/?#;)]{0,64}@)|[,;(\]\[{}|^!*$](?![^\s\"'`<>/?#]{0,64}@)"
    r"|\\{1,3}(?:[\"'`nrt]|(?:x|u00)(?:2[0267]|3[CcEeFf]|0[AaDd9]))"
    r"|&(?:(?:quot|apos|lt|gt|amp|nbsp|num|quest|#0{0,3}(?:3[2459]|38|6[023])|#[xX]0{0,3}(?:2[0-367]|3[CcEeFf]));"
    r"|[A-Za-z_][0-9A-Za-z_.\-]{0,31}=)"
)
_END = _compiled(rf"{SLASH.whole}|{_TEXT_ENDS}|\Z")
#: The same in a URL that is itself written with escapes.
_ESCAPED_END = _compiled(
    rf"{SLASH.whole}|%(?:25){{0,2}}(?:2[0236789CcBb]|3[BbCcDdEeFf]|0[AaDd9]|5[BbDd]|7[BbCcDd])|[&+]|{_TEXT_ENDS}|\Z"
)

_SPACE: Final = b" \t\r\n\f"
_QUOTES: Final = (b'"', b"'")
_ESCAPED_QUOTES: Final = (b"&quot;", b"&#34;", b"&#39;", b"&#034;", b"&#039;")
#: Attributes, and properties in scripts, whose value is a link; ``data-`` ones likewise.
_ATTRIBUTES: Final = frozenset(
    b"href src action formaction poster cite background longdesc data manifest icon codebase archive ping srcset "
    b"imagesrcset".split()
)
_NAME_BEFORE = _compiled(r"(\A|[^0-9A-Za-z\-])([0-9A-Za-z\-]{2,48})\Z")
_SOURCES_BEFORE = _compiled(r"srcset\s{0,8}=\s{0,8}(?:\"[^\"<>]*|'[^'<>]*),\s{0,32}\Z", re.IGNORECASE)
_VALUE_BEFORE = _compiled(
    r"[\s\"']value\s{0,8}=\s{0,8}(?:\\{0,3}\"[^\"<>]*|\\{0,3}'[^'<>]*|[^\s\"'<>]*)\Z", re.IGNORECASE
)
_INPUT = _compiled(r"<input(?=\s)[^<>]*\Z", re.IGNORECASE)
#: Where text that is no markup begins and ends; one octet more, so that no longer name is taken for one of these.
_RAW_TEXT = _compiled(r"<(/?)(textarea|script|style)[\s/>]", re.IGNORECASE)
_RAW_TEXT_TAG: Final = len("</textarea>")
_HREF_BEFORE = _compiled(r"<(?:[0-9A-Za-z_.\-]{1,32}:)?href(?:\s[^<>]{0,256})?>\s{0,32}\Z")
#: What a path keeps unescaped wherever it is written.
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/%")


class _Move(NamedTuple):
    """From a path of an internal server to where it is published; *server* is empty within the page's own."""

    expression: re.Pattern[bytes]
    secure: bool
    server: bytes
    path: bytes

    @classmethod
    def of(cls, path: bytes, url: ExternalURL | InternalURL, near: bool = False) -> _Move:
        """From *path*; *near* when *url* is on the page's own server."""
        there = b"".join(b"%c" % octet if octet in _UNRESERVED else b"%%%02X" % octet for octet in url.path)
        server = b"" if near else url.authority.encode("ascii")
        return cls(_compiled(spelled_path(path)), url.scheme == "https", server, there)


class Links:
    """How the links of one published place move; made once and used for every answer.

    :param elements: only in ``href`` elements, as in WebDAV's multistatus answers; else wherever links stand.
    """

    def __init__(self, translation: Translation, elements: bool = False) -> None:
        self._translation = translation
        self._elements = elements
        self._secure = translation.shown.scheme == "https"
        linked = translation.linked()
        self._hosts = frozenset(url.host.encode("ascii") for url in linked if not url.wildcard)
        self._suffixes = tuple({b"." + url.host.encode("ascii") for url in linked if url.wildcard})
        self._remembered: dict[tuple[bytes, bytes, bytes], tuple[_Move, ...]] = {}
        shown = translation.shown
        here = translation.internal
        self._from_root = tuple(
            _Move.of(path, url, url.origin == shown.origin)
            for path, url in translation.leads(here.scheme, here.host, here.port)
        )
        if all(not move.server and move.expression == _compiled(spelled_path(move.path)) for move in self._from_root):
            self._from_root = ()  # they lead there as they are
        self._found, self._begun = (_ANY, _ANY_BEGUN) if self._from_root else (_ABSOLUTE, _ABSOLUTE_BEGUN)
        #: A link is decided when so many octets have come after its beginning: a host and a path, spelled out.
        self.reach = 1024 + 12 * max(len(url.path) for url in linked)

    # Reading a text piece by piece

    def decided(self, text: bytes, start: int) -> int:
        """How far *text*, handled up to *start*, can be handled before more of it is known."""
        floor = max(start, len(text) - self.reach)
        floor += text[floor:].translate(_LINES).rfind(b"\n") + 1
        found = self._begun.search(text, floor)
        if found is None:
            undecided = _UNDECIDED.search(text, max(floor, len(text) - _WORD))
            return undecided.start() if undecided else len(text)
        scheme = _SCHEME_BEFORE.search(text, max(0, found.start() - _SCHEME_LENGTH), found.start())
        return max(start, scheme.start(1)) if scheme else found.start()

    def moved(self, text: bytes, start: int, end: int, wary: bool = False) -> bytes:
        """What becomes of *text* between *start* and *end*.

        :param wary: octets beyond ASCII may be followed by letters that belong to them.
        """
        pieces: list[bytes] = []
        for found in self._found.finditer(text, start):
            position = found.start()
            if position >= end:
                break
            change = self._absolute(text, found, start, wary) if found["host"] else self._from_the_root(text, found)
            if change is not None:
                where, replacement, upto = change
                pieces += (text[start:where], replacement)
                start = upto
        if not pieces:
            return text[start:end]
        pieces.append(text[start:end])
        return b"".join(pieces)

    # One link

    def _absolute(self, text: bytes, found: re.Match[bytes], start: int, wary: bool) -> tuple[int, bytes, int] | None:
        host = found["host"].lower()
        if host not in self._hosts and not host.endswith(self._suffixes) and not host.startswith(b"["):
            return None
        first, second, colon, port = found[1], found[2], found[4], found[5] or b""
        end = _ESCAPED_END if second.startswith(b"%") else _END
        if not end.match(text, found.end()):
            return None
        where = found.start()
        named = _SCHEME_BEFORE.search(text, max(0, where - _SCHEME_LENGTH), where)
        if named is not None and named.start(1) >= start:
            scheme, where = named[1].lower(), named.start(1)
            if wary and where and text[where - 1] >= 0x80:
                return None
        elif _RELATIVE_BEFORE.search(text, max(0, where - 6), where):
            scheme = b""
        else:
            return None
        if _in_value(text, where) or (self._elements and not _in_element(text, where)):
            return None
        for move in self._moves(scheme, host, port):
            path = move.expression.match(text, found.end())
            if path is None or not (path[1] or end.match(text, path.end())):
                continue
            new = b""
            colon_before = named[2] if scheme and named else colon_beside(first)
            if scheme or move.secure != self._secure:
                socket = b"ws" if scheme.startswith(b"ws") else b"http"
                new = socket + (b"s" if move.secure else b"") + colon_before
            server = move.server.replace(b":", colon or colon_before)
            if server.startswith(b"["):
                server = move.server  # an address; its colons are its own
            return where, b"".join((new, first, second, server, _path(move, path, second))), path.end()
        return None

    def _from_the_root(self, text: bytes, found: re.Match[bytes]) -> tuple[int, bytes, int] | None:
        where = found.start()
        if self._elements:
            if not _in_element(text, where):
                return None
        elif not _in_reference(text, where):
            return None
        for move in self._from_root:
            path = move.expression.match(text, where)
            if path is None or not (path[1] or (path.end() > where and _END.match(text, path.end()))):
                continue
            slash = found[1]
            new = _path(move, path, slash) or slash
            if move.server:
                scheme = b"https" if move.secure else b"http"
                new = b"".join((scheme, b":", slash, slash, move.server, new))
            return where, new, path.end()
        return None

    def _moves(self, scheme: bytes, host: bytes, port: bytes) -> tuple[_Move, ...]:
        """Where the paths of a server lead, the most specific first."""
        key = scheme, host, port
        moves = self._remembered.get(key)
        if moves is None:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            moves = self._remembered[key] = self._find_moves(scheme, host, port)
        return moves

    def _find_moves(self, scheme: bytes, host: bytes, port: bytes) -> tuple[_Move, ...]:
        try:
            name, number = canonical_host(host + b":" + port if port else host)
        except MalformedHost:
            return ()
        named = "https" if scheme in (b"https", b"wss") else "http"
        http = named if scheme else self._translation.internal.scheme
        number = number or (443 if http == "https" else 80)
        return tuple(_Move.of(path, url) for path, url in self._translation.leads(http, name, number))


def _path(move: _Move, path: re.Match[bytes], slash: bytes) -> bytes:
    """The external path, with the final slash that the internal one had, or none."""
    return respelled(move.path[:-1], slash) + (path[1] or b"")


def _in_element(text: bytes, where: int) -> bool:
    return _HREF_BEFORE.search(text, max(0, where - 384), where) is not None


def _in_value(text: bytes, where: int) -> bool:
    """Whether what begins here is (part of) the value of a form's ``input``."""
    tag = text.rfind(b"<", max(0, where - _LOOK_BACK), where)
    return (
        tag >= 0 and _INPUT.match(text, tag, where) is not None and _VALUE_BEFORE.search(text, tag, where) is not None
    )


def _in_reference(text: bytes, where: int) -> bool:
    """Whether what begins here is said to be a link: by an attribute, ``url()``, ``@import`` or a refresh."""
    before = text[max(0, where - _WORD) : where].rstrip(_SPACE)
    quoted = before.endswith(_QUOTES)
    if quoted:
        before = before[:-1].rstrip(b"\\").rstrip(_SPACE)
    elif before.endswith(_ESCAPED_QUOTES):
        before = before[: before.rindex(b"&")].rstrip(_SPACE)
    if before.endswith(b"="):
        name = _NAME_BEFORE.search(before[:-1].rstrip(_SPACE)[-50:])
        if name is None:
            return False
        attribute = name[2].lower()
        return (
            attribute in _ATTRIBUTES
            or attribute.startswith(b"data-")
            or (attribute == b"url" and name[1] in b" ;,")  # of a refresh
        )
    if before.endswith(b","):
        return _in_sources(text, where)
    return before[-4:].lower() == b"url(" or (quoted and before[-7:].lower() == b"@import")


def _in_sources(text: bytes, where: int) -> bool:
    """Whether a ``srcset`` goes on here with another of its sources."""
    begun = text.rfind(b"srcset", max(0, where - _LOOK_BACK), where)
    return begun >= 0 and _SOURCES_BEFORE.match(text, begun, where) is not None


class LinkScanner:
    """Moves the links of one text that comes piece by piece; however it is cut, the result is the same.

    What may be the beginning of a link is held back, at most :attr:`Links.reach` octets.

    :param wary: octets beyond ASCII may be followed by letters that belong to them.
    :param html: what stands in a ``textarea`` stays: it goes back to the origin.
    """

    __slots__ = ("_done", "_html", "_links", "_text", "_wary", "_within")

    def __init__(self, links: Links, wary: bool = False, html: bool = False) -> None:
        self._links = links
        self._wary = wary
        self._html = html
        self._within = b""  # the element whose text is no markup
        self._text = b""
        self._done = 0  # of _text: what is before was passed on, and is kept to be looked back at

    def receive(self, data: bytes) -> bytes:
        """Some more of the text; returns what is decided of it."""
        self._text += data
        return self._advance(self._links.decided(self._text, self._done))

    def end(self) -> bytes:
        """There is no more; returns the rest."""
        return self._advance(len(self._text))

    def _advance(self, upto: int) -> bytes:
        if self._html:
            moved = b"".join(self._pieces(upto))
        else:
            moved = self._links.moved(self._text, self._done, upto, self._wary)
        kept = max(0, upto - _LOOK_BACK - _WORD)
        self._text, self._done = self._text[kept:], upto - kept
        return moved

    def _pieces(self, upto: int) -> Iterator[bytes]:
        """What is decided now: moved, but for what people typed."""
        text, start = self._text, self._done
        for tag in _RAW_TEXT.finditer(text, max(0, start - _RAW_TEXT_TAG), upto):
            if tag.end() <= start:
                continue  # seen before
            closes, name = tag[1], tag[2].lower()
            if (name == self._within) if closes else not self._within:
                yield self._piece(start, tag.end())
                start = tag.end()
                self._within = b"" if closes else name
        yield self._piece(start, upto)

    def _piece(self, start: int, end: int) -> bytes:
        if self._within == b"textarea":
            return self._text[start:end]
        return self._links.moved(self._text, start, end, self._wary)
