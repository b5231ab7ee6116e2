"""The parser of every command: a wrong flag is one line, with the flag that was probably meant."""

from __future__ import annotations

import argparse
import difflib
from typing import NoReturn

from mobiletl.device.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print the usage, several lines of it, and exit."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        """`epilog` keeps its lines: they are there to be pasted."""
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; `message` is argparse's."""
        text = " ".join(message.split())
        raise UsageError(f"{text}{self._meant(text)}; `{self.prog} --help` lists what there is")

    def _meant(self, message: str) -> str:
        """Name the nearest flag of each that there is none of."""
        _, separator, rest = message.partition("unrecognized arguments: ")
        known = [flag for action in self._actions for flag in action.option_strings]
        unknown = [word.split("=")[0] for word in rest.split() if word.startswith("-")]
        nearest = [near for word in unknown for near in difflib.get_close_matches(word, known, 1)]
        return f" (did you mean {' '.join(nearest)}?)" if separator and nearest else ""
