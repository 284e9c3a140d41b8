from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.cli.showing import moment, table, toml

SCALARS = st.text() | st.booleans() | st.integers(-(2**40), 2**40)
DOCUMENTS = st.recursive(
    st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), SCALARS | st.lists(st.text(), max_size=3)),
    lambda inner: st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True), SCALARS | inner | st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


class TableTests(SynchronousTestCase):
    def test_columns_are_aligned(self) -> None:
        """Titles above, two spaces between, no space at the end; nothing is a hyphen."""
        rows = [{"a": "long text", "b": 1}, {"a": None, "b": ""}]
        self.assertEqual(
            table(rows, [("A", "a"), ("B", lambda row: row["b"])], "none"), "A          B\nlong text  1\n-          -"
        )

    def test_no_rows_are_said_so(self) -> None:
        """An empty table is a sentence."""
        self.assertEqual(table([], [("A", "a")], "there is nothing"), "there is nothing")

    def test_control_characters_stay_out_of_the_terminal(self) -> None:
        """O01: a user name with an escape sequence is shown, not obeyed."""
        self.assertEqual(table([{"a": "\x1b[2Jx\n"}], [("A", "a")], ""), "A\n\\x1b[2Jx\\x0a")


class MomentTests(SynchronousTestCase):
    def test_times_are_utc(self) -> None:
        """To the minute, and marked; none is empty."""
        self.assertEqual(moment(1_900_000_000), "2030-03-17 17:46Z")
        self.assertEqual(moment(None), "")


class TomlTests(SynchronousTestCase):
    @given(DOCUMENTS)
    def test_what_is_written_is_read_again(self, document: dict[str, object]) -> None:
        """Any document of texts, numbers, truths, lists and tables survives."""
        self.assertEqual(tomllib.loads(toml(document)), document)
