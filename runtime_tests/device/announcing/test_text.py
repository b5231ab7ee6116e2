"""The line on a terminal, and the lines elsewhere."""

from __future__ import annotations

import io
import re

from mobiletl.device.announcing.text import CLEAR_LINE, Text
from runtime_tests.support.board.answers import answer


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_elsewhere_a_line_for_each_change() -> None:
    stream = io.StringIO()
    with Text(stream) as text:
        text.hear(answer("ant"))
        text.hear(answer("ant", changed=False))
        text.hear(answer("bee"))
        text.hear(answer(None))
    lines = stream.getvalue().splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in lines] == [
        "ant 90.0%",
        "bee 90.0%",
        "unknown, most like ant 90.0%",
    ]


def test_on_a_terminal_one_line_is_rewritten_ten_times_a_second() -> None:
    now = iter([0.0, 0.05, 0.06, 0.2])
    stream = Tty()
    with Text(stream, clock=lambda: next(now)) as text:
        text.hear(answer("ant"))
        text.hear(answer("ant", changed=False))  # too soon
        text.hear(answer("bee"))  # but a change is shown
        text.hear(answer("bee", changed=False))
    text.close()  # a second time changes nothing
    shown = stream.getvalue()
    assert shown.count(CLEAR_LINE) == 3
    assert shown.count("\n") == 1
    assert shown.endswith("bee 90.0%  12.5 frames/s\n")


def test_a_folder_of_any_name_moves_no_cursor() -> None:
    names = ("\x1b[2Jant\n\udcff", "bee")
    for stream in (io.StringIO(), Tty()):
        with Text(stream) as text:
            text.hear(answer(names[0], names=names))
        shown = stream.getvalue().replace(CLEAR_LINE, "")
        assert "\x1b" not in shown
        assert shown.count("\n") == 1
        assert "\\x1b[2Jant\\n\\udcff 90.0%" in shown
