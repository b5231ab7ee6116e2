"""Names from outside never move the cursor, break a line or end a program."""

from __future__ import annotations

import pytest

from mobiletl.device.printable import aligned, display_width, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name", "plain name"),
        ("Grün 日本", "Grün 日本"),
        ("two\nlines\ttab", "two\\nlines\\ttab"),
        ("\x1b[2J", "\\x1b[2J"),
        ("abc\u202edef", "abc\\u202edef"),
        ("bytes \udcff", "bytes \\udcff"),
    ],
)
def test_one_line_that_prints(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_the_terminal_cannot_encode_is_escaped() -> None:
    assert printable("Grün 日", "ascii") == "Gr\\xfcn \\u65e5"
    assert printable("Grün 日", "latin-1") == "Grün \\u65e5"
    assert printable("Grün", None) == "Gr\\xfcn"


def test_columns_align_by_what_is_seen() -> None:
    rows = [("a", "1"), ("日本", "100"), ("e\u0301", "22")]
    assert [display_width(row[0]) for row in rows] == [1, 4, 1]
    assert aligned(rows, right=[1]) == ["a       1", "日本  100", "e\u0301      22"]
