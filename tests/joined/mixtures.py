"""Conversations at random: any of what the corpus has in tables, in any combination."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.joined.corpus import METHODS, SLICES, body, framed
from tests.joined.exchanges import Await, Conversation, Say, Step, answer, request
from tests.joined.reading import Field

_TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TARGET = "".join(chr(octet) for octet in range(0x21, 0x7F) if chr(octet) not in "#%\\;./?")
_TEXT = "".join(chr(octet) for octet in (9, *range(0x20, 0x7F), *range(0x80, 0x100)))


def _octets(alphabet: str, **size: int) -> st.SearchStrategy[bytes]:
    return st.text(alphabet, **size).map(lambda text: text.encode("latin-1"))  # type: ignore[arg-type]


#: No field that means something to a proxy begins like this.
_NAMES = _octets(_TCHAR, max_size=12).map(lambda name: b"q" + name)
_VALUES = _octets(_TEXT, max_size=60).map(lambda value: value.strip(b" \t"))
_FIELDS: st.SearchStrategy[list[Field]] = st.lists(st.tuples(_NAMES, _VALUES), max_size=8)
_SEGMENTS = _octets(_TARGET, min_size=1, max_size=12) | st.sampled_from([b"%2F", b"%20", b"%7e", b"a.b", b"%C3%A9"])
_PATHS = st.lists(_SEGMENTS, max_size=5).map(lambda segments: b"/" + b"/".join(segments))
_QUERIES = st.just(b"") | _octets(_TARGET + "%;./?", max_size=40).map(lambda query: b"?" + query)
_SIZES = st.sampled_from([0, 1, 10, 1000, 32_768, 70_000])
_REASONS = st.none() | _VALUES
_STATUSES = st.sampled_from([200, 201, 204, 206, 207, 301, 304, 307, 401, 404, 409, 416, 423, 500, 503, 507, 599])
_INTERIM = st.lists(st.tuples(st.sampled_from([100, 102, 103, 104, 199]), _REASONS, _FIELDS), max_size=3)


@st.composite
def mixtures(draw: st.DrawFn) -> Conversation:
    """Up to six exchanges on one connection."""
    client: list[Step] = []
    methods: list[bytes] = []
    origin: list[list[Step]] = []
    largest = 0
    for number in range(draw(st.integers(1, 6))):
        method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT"]) | st.sampled_from(METHODS))
        size_up, how_up = draw(_SIZES), draw(st.sampled_from(["none", "length", "chunked"]))
        size_down, how_down = draw(_SIZES), draw(st.sampled_from(["length", "chunked"]))
        up, octets = framed(b"" if how_up == "none" else body(size_up), how_up, draw(_FIELDS))
        target = draw(_PATHS) + draw(_QUERIES)
        asked = request(method, target, draw(_FIELDS) + up, octets)
        status = draw(_STATUSES)
        down, said = framed(body(size_down, b"down"), how_down, draw(_FIELDS))
        if status in (204, 304):
            down, said = [], b""
        elif method == b"HEAD":
            said = b""
        interim = [Say(answer(*each)) for each in draw(_INTERIM)]
        before, after = (interim, []) if draw(st.booleans()) else ([], interim)
        answered = answer(status, draw(_REASONS), draw(_FIELDS) + down, said)
        client.append(Say(asked))
        if draw(st.booleans()):
            client.append(Await("answers", number + 1))
        methods.append(method)
        origin.append([Await("head"), *before, Await("end"), *after, Say(answered)])
        largest = max(largest, size_up, size_down)
    slices = [each for each in SLICES if not each or largest < 10_000 or max(each) >= 1000]
    return Conversation(
        f"mixture of {b' '.join(methods)!r}", client, methods, origin,
        draw(st.sampled_from(slices)), draw(st.sampled_from(slices)),
    )  # fmt: skip
