"""How the characters of a URL are written inside other texts."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.spelling import COLON, SCHEME, SLASH, begun, colon_beside, respelled, spelled_path

SLASHES = [
    "/", r"\/", r"\\/", r"\\\/", "%2F", "%2f", "%252F", "%25252f", "&#47;", "&#0047;", "&#x2F;", "&#X02f;", "&sol;",
    r"\u002f", r"\\u002F", r"\x2f",
]  # fmt: skip
COLONS = [":", "%3A", "%253a", "&#58;", "&#x3A;", "&colon;", r"\u003a", r"\x3A"]


def matches(expression: str, text: str) -> bool:
    """Whether *text* is one of what *expression* describes."""
    return re.fullmatch(expression, text) is not None


class SpellingTests(SynchronousTestCase):
    """Slash, colon, scheme, path."""

    def test_every_way_is_known(self) -> None:
        """JSON, scripts, HTML and queries write them in their ways."""
        for ways, spelled in ((SLASHES, SLASH), (COLONS, COLON), (["http", "HTTPS", "ws", "Wss"], SCHEME)):
            for way in ways:
                self.assertTrue(matches(spelled.whole, way), way)
        for other in ("", "//", "%2", "&#4;", r"\u02f", "%25", "httpss", "\\"):
            for spelled in (SLASH, SCHEME):
                self.assertFalse(matches(spelled.whole, other), other)

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from(["http", "https", "wss"]), st.sampled_from(COLONS), *[st.sampled_from(SLASHES)] * 2, st.data()
    )
    def test_every_beginning_is_recognised(
        self, scheme: str, colon: str, one: str, two: str, data: st.DataObject
    ) -> None:
        """Wherever a link is cut before its host, it is known to have begun; whole, it is not."""
        expression = begun(SCHEME, COLON, SLASH, SLASH)
        whole = scheme + colon + one + two
        cut = data.draw(st.integers(1, len(whole) - 1))
        self.assertTrue(matches(expression, whole[:cut]), whole[:cut])
        self.assertFalse(matches(expression, whole))

    def test_paths(self) -> None:
        """A path is known in every spelling, and written as its slashes were."""
        expression = spelled_path(b"/my%20app/a'b/")
        for text in ("/my%20app/a'b/", r"\/my%20app\/a'b\/", "%2Fmy%2520app%2Fa%27b%2F", "/my%20app/a'b"):
            self.assertTrue(matches(expression, text), text)
        for text in ("/my app/a'b/", "/my%20apps/a'b/", "/my%20app/"):
            self.assertFalse(matches(expression, text), text)
        for slash, written in (
            (b"/", b"/my%20app/"),
            (rb"\/", rb"\/my%20app\/"),
            (b"%2f", b"%2fmy%2520app%2f"),
            (b"%252F", b"%252Fmy%252520app%252F"),
            (b"&#x2F;", b"&#x2F;my%20app&#x2F;"),
        ):
            self.assertEqual(respelled(b"/my%20app/", slash), written)

    def test_a_colon_where_there_was_none(self) -> None:
        """It is escaped as often as the slashes are."""
        for slash, colon in ((b"/", b":"), (rb"\/", b":"), (b"%2f", b"%3A"), (b"%252F", b"%253A")):
            self.assertEqual(colon_beside(slash), colon)
