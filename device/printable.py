"""Text from outside (class names, paths) made safe to show.

A folder may be called anything: with a newline, an escape sequence, bytes that are no UTF-8. On a
terminal such a name must neither move the cursor nor end the program with an encoding error.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import Sequence, TextIO


def printable(text: str, encoding: str | None = "utf-8") -> str:
    """One line of `text`: what does not print, or not in `encoding`, as a backslash escape."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
    target = encoding or "ascii"
    return shown.encode(target, "backslashreplace").decode(target)


def one_line(error: BaseException) -> str:
    """Return the text of an error of some library on one line, made printable."""
    return printable(" ".join(str(error).split()))


def display_width(text: str) -> int:
    """Columns a terminal needs: wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def aligned(rows: Sequence[tuple[str, ...]], right: Sequence[int] = ()) -> list[str]:
    """Rows of cells as lines with aligned columns, two spaces apart.

    `right` names the columns (from 0) that are flush right.
    """
    widths = [max(map(display_width, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths)):
            space = " " * (width - display_width(cell))
            cells.append(space + cell if column in right else cell + space)
        lines.append("  ".join(cells).rstrip())
    return lines


def say(text: str, stream: TextIO | None = None) -> None:
    """Write the lines of `text`, each made printable, to `stream` or else to standard output.

    Whatever a command tells goes through here, so that nothing from outside reaches a terminal as
    it is.
    """
    target = sys.stdout if stream is None else stream
    lines = (printable(line, getattr(target, "encoding", None)) for line in text.split("\n"))
    target.write("\n".join(lines) + "\n")
