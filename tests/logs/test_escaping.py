"""One line, no secrets."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.logs.escaping import escape, escape_json, is_secret, scrub, word


class TestEscaping(SynchronousTestCase):
    """What may be in a line."""

    @given(st.text())
    def test_any_text_is_one_printable_line(self, text: str) -> None:
        """O01: no text ends a line or moves a cursor, nor becomes several columns."""
        for line in (escape(text), word(text)):
            self.assertTrue(line.isprintable() and len(line.splitlines()) <= 1, repr(line))
        column = word(text)
        self.assertTrue(" " not in column or (column[0] == column[-1] == '"'), column)

    @given(st.recursive(st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5))
    def test_json_stays_json(self, value: object) -> None:
        """Escaped JSON says the same."""
        text = json.dumps(value, ensure_ascii=False)
        self.assertTrue(escape_json(text).isprintable())
        self.assertEqual(json.loads(escape_json(text)), value)

    def test_columns(self) -> None:
        """Quotes only where a reader needs them."""
        plain = {"": "-", "-": '"-"', "a@b.c": "a@b.c", "a b": '"a b"', "a=b": '"a=b"', "\u00fc": '"\u00fc"'}
        quoted = {'a"b': '"a\\"b"', "a\\n": '"a\\\\n"', "a\n": '"a\\n"', "a\u202e": '"a\\u202e"'}
        for text, column in {**plain, **quoted}.items():
            self.assertEqual(word(text), column)

    def test_what_is_no_secret_stays(self) -> None:
        """Ordinary sentences are left as they are."""
        for text in ("connector hq-1 attached", "status_code=200 and more", "basic things", "state machine"):
            self.assertEqual(scrub(text), text)
        self.assertEqual([name for name in ("user", "token", "Set-Cookie", "handle", "handler") if not is_secret(name)],
                         ["user", "handler"])  # fmt: skip
