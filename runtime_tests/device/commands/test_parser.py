"""A wrong flag of any command is one line that names what was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from mobiletl.device.commands import table as commands
from mobiletl.device.commands.parser import Parser
from mobiletl.device.errors import UsageError

ON_BOARD = [row.name for row in commands.COMMANDS if not row.needs_host]


def parser() -> Parser:
    made = Parser("mobiletl fly", "Fly.", "to paste:\n  mobiletl fly --height 3")
    made.add_argument("--height", type=int, required=True)
    made.add_argument("--to", choices=["north", "south"])
    return made


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "--height 3 --heihgt 4",
            r": --heihgt 4 \(did you mean --height for --heihgt\?\)",
        ),
        (
            "--height 3 --hieght=4 --ot x",
            r"\(did you mean --height for --hieght, --to for --ot\?\)",
        ),
        ("--height 3 --zzz", r"^unrecognized arguments: --zzz; `mobiletl fly --help` lists"),
        ("--height 3 stray", r"^unrecognized arguments: stray; `"),
        ("--hight 3", r"required: --height \(did you mean --height for --hight\?\); `"),
        ("", r"^the following arguments are required: --height; `"),
        ("--height high", r"^argument --height: invalid int value: 'high'; `"),
        ("--height 3 --to west", r"invalid choice: 'west'"),
    ],
)
def test_what_is_wrong_and_what_was_meant(line: str, text: str) -> None:
    with pytest.raises(UsageError, match=text) as raised:
        parser().parse_args(line.split())
    assert "\n" not in str(raised.value)


def test_lines_to_paste_stay_lines(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    assert capsys.readouterr().out.endswith("to paste:\n  mobiletl fly --height 3\n")


@pytest.mark.parametrize("name", ON_BOARD)
def test_every_command_of_a_board_says_it_in_one_line(name: str, capsys: Any) -> None:
    assert commands.main([name, "--bundel", "x", "--data", "y", "--out", "z"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mobiletl: ")
    assert err.count("\n") == 1
    assert f"`mobiletl {name} --help`" in err
