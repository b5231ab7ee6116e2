"""The parser of every command: a wrong flag is one line, with the flag that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any, NoReturn

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

        self._given: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse; what was given is kept for `error`, whose message may not name it."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; `message` is argparse's."""
        text = " ".join(message.split())
        raise UsageError(f"{text}{self._meant()}; `{self.prog} --help` lists what there is")

    def _meant(self) -> str:
        """Name the nearest flag of each that there is none of."""
        known = [flag for action in self._actions for flag in action.option_strings]
        given = [word.split("=")[0] for word in self._given if word.startswith("--")]
        unknown = [word for word in given if not any(flag.startswith(word) for flag in known)]
        pairs = [(word, difflib.get_close_matches(word, known, 1)) for word in unknown]
        meant = [f"{near[0]} for {word}" for word, near in pairs if near]
        return f" (did you mean {', '.join(meant)}?)" if meant else ""


def add_state_key(parser: argparse.ArgumentParser) -> None:
    """Add whose states alone are read."""
    parser.add_argument(
        "--state-key",
        metavar="KEYFILE",
        help="read the state only if this key has signed it: state.pub of a fleet's server",
    )
