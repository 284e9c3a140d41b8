r"""How the characters of a URL are written inside other texts.

A link to ``http://intra/app`` stands as it is in an attribute or a style sheet, but also as ``http:\/\/intra\/app`` in
JSON, ``http:\u002f\u002fintra`` in a script, ``http:&#x2F;&#x2F;intra`` in escaped HTML and ``http%3A%2F%2Fintra`` in
the query of another link, there perhaps encoded twice.  Only the colon and the slash are ever written differently, so
whoever moves a link writes new ones as the old ones were written, and no quoting around them can break.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: A character class of one octet each, in their order.
_Sequence = list[str]
_END = ""


class Spelled:
    """The ways to write something, as regular expressions.

    :ivar whole: matches one of them.
    :ivar begun: matches the beginning of one that is not complete at the end of the text.
    """

    def __init__(self, *ways: _Sequence) -> None:
        tree: dict[str, Any] = {}
        for way in ways:
            node = tree
            for each in way:
                node = node.setdefault(each, {})
            node[_END] = {}
        self.whole = _whole(tree)
        self.begun = _begun(tree)


def _whole(tree: dict[str, Any]) -> str:
    branches = [each + _whole(inner) for each, inner in tree.items() if each != _END]
    if not branches:
        return ""
    if _END in tree:  # the longer way first
        return f"(?:{'|'.join(branches)})?+"
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _begun(tree: dict[str, Any]) -> str:
    branches = []
    for each, inner in tree.items():
        if longer := _begun(inner):
            branches.append(rf"{each}(?:\Z|{longer})")
        elif each != _END and inner != {_END: {}}:
            branches.append(rf"{each}\Z")
    return "|".join(branches)


def begun(*parts: Spelled) -> str:
    """Matches the beginning of *parts* one after another, when the text ends before they do."""
    expression = ""
    for part in reversed(parts):
        after = rf"{part.whole}(?:\Z|{expression})" if expression else ""
        expression = "|".join(filter(None, (part.begun, after)))
    return f"(?:{expression})"


def _escaped(octet: int) -> Iterable[_Sequence]:
    """How programs write *octet* in quoted text."""
    high, low = list(f"{octet:02x}")
    hexadecimal = [high, f"[{low}{low.upper()}]" if low.isalpha() else low]
    for times in range(3):
        yield ["%", *(["2", "5"] * times), *hexadecimal]
    for zeros in range(4):
        yield ["&", "#", *(["0"] * zeros), *list(str(octet)), ";"]
        yield ["&", "#", "[xX]", *(["0"] * zeros), *hexadecimal, ";"]
    for backslashes in (1, 2, 3):
        yield [*([r"\\"] * backslashes), "u", "0", "0", *hexadecimal]
        yield [*([r"\\"] * backslashes), "x", *hexadecimal]


SLASH = Spelled(*([*([r"\\"] * times), "/"] for times in range(4)), *_escaped(0x2F), list("&sol;"))
COLON = Spelled([":"], *_escaped(0x3A), list("&colon;"))
SCHEME = Spelled(*([f"[{each}{each.upper()}]" for each in scheme] for scheme in ("http", "https", "ws", "wss")))


def colon_beside(slash: bytes) -> bytes:
    """A colon that may stand where *slash* does."""
    return slash.upper().replace(b"2F", b"3A") if slash.startswith(b"%") else b":"


def spelled_path(path: bytes) -> str:
    """A regular expression for *path*, canonical and with its final slash, in any spelling.

    Group 1 is the final slash; without it, the path ends there, which the caller sees to.
    """
    expression = ""
    for octet in path[:-1]:
        if octet == 0x2F:
            expression += SLASH.whole
        elif octet == 0x25:
            expression += "%(?:25){0,3}"
        elif chr(octet).isalnum() or octet in b"-._~":
            expression += f"\\x{octet:02x}"
        else:
            expression += f"(?:\\x{octet:02x}{'(?:amp;)?' if octet == 0x26 else ''}|%(?:25){{0,2}}{octet:02X})"
    return f"{expression}({SLASH.whole})?+"


def respelled(path: bytes, slash: bytes) -> bytes:
    """*path*, made of slashes, unreserved characters and escapes, as it is written where slashes are *slash*."""
    if slash == b"/":
        return path
    if slash.startswith(b"%"):
        path = path.replace(b"%", b"%25" + b"25" * slash.count(b"25"))
    return path.replace(b"/", slash)
