"""How texts are read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.charsets import Narrowed, Reading, find_declaration, reading_of, sniff


class ReadingTests(SynchronousTestCase):
    """What labels, octets and declarations say."""

    def test_labels(self) -> None:
        """L04: charsets where ASCII is octets, where it is nearly so, and where it is not."""
        for reading, labels in (
            (Reading.OCTETS, "utf-8 UTF8 us-ascii ISO-8859-1 latin2 windows-1252 koi8-r euc-jp cp850"),
            (Reading.HALVES, "Shift_JIS windows-31j GBK gb2312 euc-kr gb18030 big5 big5-hkscs ms949"),
            (Reading.UTF16_LE, "utf-16 UTF-16LE"),
            (Reading.UTF16_BE, "utf-16be"),
            (Reading.NONE, "iso-2022-jp hz utf-7 utf-32 cp037 cp500 nonsense rot13 base64 \xff"),
        ):
            for label in labels.split():
                self.assertIs(reading_of(label.encode("latin-1")), reading, label)
        self.assertIs(reading_of(b'"utf-8"'), Reading.OCTETS)
        self.assertIs(reading_of(b""), Reading.NONE)

    def test_first_octets(self) -> None:
        """A byte order mark, or UTF-16 without one."""
        for text, reading in (
            (b"\xff\xfe<\0", Reading.UTF16_LE), (b"\xfe\xff\0<", Reading.UTF16_BE), (b"<\0", Reading.UTF16_LE),
            (b"\0{", Reading.UTF16_BE), (b"\xef\xbb\xbf<", None), (b"<h", None), (b"\0\0", None), (b"<", None),
        ):  # fmt: skip
            self.assertIs(sniff(text), reading, text)

    def test_declarations(self) -> None:
        """In HTML, XML and CSS, near the beginning, and where they end."""
        for text, reading in (
            (b"<html><META charset=Shift_JIS>", Reading.HALVES),
            (b'<meta http-equiv="Content-Type" content="text/html; charset=iso-2022-jp">', Reading.NONE),
            (b'<?xml version="1.0" encoding="ISO-8859-15"?>', Reading.OCTETS),
            (b'@charset "gbk";', Reading.HALVES),
            (b"<meta charset='utf-16'>", Reading.OCTETS),
        ):
            found = find_declaration(text)
            assert found is not None
            self.assertIs(found[0], reading, text)
            self.assertLessEqual(found[1], len(text))
        for text in (
            b"<meta charset=iso-2022",
            b" " * 1020 + b"<meta charset=gbk>",
            b' @charset "gbk";',
            b"charset=gbk",
        ):
            self.assertIsNone(find_declaration(text), text)

    @settings(max_examples=150, deadline=None)
    @given(
        st.binary(max_size=40) | st.lists(st.sampled_from(b"\xd8\xdc\0a"), max_size=12).map(bytes),
        st.sampled_from([Reading.UTF16_LE, Reading.UTF16_BE]),
        st.data(),
    )
    def test_nothing_is_lost(self, octets: bytes, reading: Reading, data: st.DataObject) -> None:
        """L04: any octets, cut anywhere, come back as they were; also halves of characters."""
        narrowed, result, left = Narrowed(reading), b"", octets
        while left:
            cut = data.draw(st.integers(1, len(left)))
            result += narrowed.widen(narrowed.narrow(left[:cut]))
            left = left[cut:]
        self.assertEqual(result + narrowed.rest(), octets)
