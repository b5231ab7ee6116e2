"""Commands for a person to paste, in the words with which this one was started."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Sequence

from mobiletl.device.printable import printable

SCRIPTS = {"train": "train_on_board.py", "predict": "predict.py", "review": "review.py"}


def command_line(command: str, arguments: Sequence[str]) -> str:
    """Return a line that runs `command` with `arguments`, quoted for a shell.

    Where a script of a copied folder was started, its neighbour is named; else `mobiletl`.
    """
    started = Path(sys.argv[0])
    if started.name in SCRIPTS.values():
        words = ["python", str(started.with_name(SCRIPTS[command]))]
    else:
        words = ["mobiletl", command]
    return printable(" ".join(shlex.quote(word) for word in [*words, *arguments]))
