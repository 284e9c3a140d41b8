"""How the octets of a text are to be read in order to find ASCII in it; not which characters they mean.

In most charsets an octet below 128 is the ASCII character.  In some of East Asia it may be the second half of another
character, in UTF-16 each character has two octets, and in a few nothing is what it seems: those texts are left alone.
"""

from __future__ import annotations

import codecs
import re
from enum import Enum
from functools import lru_cache
from typing import Final


class Reading(Enum):
    """How to find ASCII."""

    #: Every octet below 128 is the ASCII character.
    OCTETS = "octets"
    #: Some are halves of other characters; never quotes, slashes, colons and what else frames a link.
    HALVES = "halves"
    UTF16_LE = "utf-16-le"
    UTF16_BE = "utf-16-be"
    #: Not at all.
    NONE = "none"


#: How many octets tell by themselves.
SNIFFED: Final = 2
#: So many octets may hold the declaration (WHATWG HTML 4.2.5.4).
DECLARED_WITHIN: Final = 1024
_ASCII: Final = bytes(range(0x20, 0x7F))
#: As browsers read the labels: gb2312 and euc-kr are read as their larger successors.
_HALVES: Final = frozenset({
    "shift_jis", "cp932", "shift_jis_2004", "shift_jisx0213", "gb2312", "gbk", "gb18030", "big5", "big5hkscs", "cp949",
    "cp950", "euc_kr", "johab",
})  # fmt: skip
_OTHER_LABELS: Final = {"windows-31j": "cp932", "x-sjis": "cp932", "x-gbk": "gbk", "x-x-big5": "big5"}
_DECLARED = re.compile(
    rb"<meta\s[^>]{0,512}?charset\s*=\s*[\"']?\s*([0-9A-Za-z_.:\-]{1,40})(?=[\"'\s;/>])"
    rb"|\A<\?xml\s[^>]{0,256}?encoding\s*=\s*[\"']([^\"'>]{1,40})[\"']"
    rb"|\A@charset \"([^\"]{1,40})\";",
    re.IGNORECASE,
)


@lru_cache(maxsize=256)
def reading_of(label: bytes) -> Reading:
    """How a text with that charset label is read; one that nobody knows is left alone."""
    try:
        known = label.strip(b" \t\"'").lower().decode("ascii")
        name = codecs.lookup(_OTHER_LABELS.get(known, known)).name
        if name in _HALVES:
            return Reading.HALVES
        if name in ("utf-16", "utf-16-le"):
            return Reading.UTF16_LE
        if name == "utf-16-be":
            return Reading.UTF16_BE
        same = _ASCII.decode(name) == _ASCII.decode("ascii")
    except (LookupError, ValueError, TypeError):
        return Reading.NONE
    # The octets of these are ASCII until an escape makes them something else.
    return Reading.OCTETS if same and not name.startswith("iso2022") else Reading.NONE


def sniff(beginning: bytes) -> Reading | None:
    """What the first :data:`SNIFFED` octets say: a byte order mark, or every other octet zero as in UTF-16."""
    first, second = beginning[:1], beginning[1:2]
    if beginning[:2] == b"\xff\xfe" or (first > b"\0" and second == b"\0"):
        return Reading.UTF16_LE
    if beginning[:2] == b"\xfe\xff" or (first == b"\0" and second > b"\0"):
        return Reading.UTF16_BE
    return None


def find_declaration(beginning: bytes) -> tuple[Reading, int] | None:
    """What the text says of itself within its first :data:`DECLARED_WITHIN` octets, and where that ends."""
    found = _DECLARED.search(beginning, 0, DECLARED_WITHIN)
    if found is None:
        return None
    reading = reading_of(found[1] or found[2] or found[3])
    if reading in (Reading.UTF16_LE, Reading.UTF16_BE):
        reading = Reading.OCTETS  # it could not be read as ASCII if that were true
    return reading, found.end()


class Narrowed:
    """UTF-16 as UTF-8 and back, piece by piece; nothing is lost, also of what is no proper UTF-16."""

    __slots__ = ("_charset", "_decoder")

    def __init__(self, reading: Reading) -> None:
        self._charset = reading.value
        self._decoder = codecs.getincrementaldecoder(self._charset)("surrogatepass")

    def narrow(self, data: bytes) -> bytes:
        """Some UTF-16 as UTF-8, as far as its characters are complete."""
        return self._decoder.decode(data).encode("utf-8", "surrogatepass")

    def widen(self, text: bytes) -> bytes:
        """Back to UTF-16."""
        return text.decode("utf-8", "surrogatepass").encode(self._charset, "surrogatepass")

    def rest(self) -> bytes:
        """The octets of a character that never became complete."""
        return self._decoder.getstate()[0]
