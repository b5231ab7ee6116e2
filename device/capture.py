"""`mobiletl capture`: pictures of classes by a camera; the sharp ones, no two alike, are kept."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import json
import sys
from pathlib import Path
from typing import Sequence

from mobiletl.device.capturing.showing import pictures
from mobiletl.device.commands.camera_flags import add_camera, camera_of, camera_problems
from mobiletl.device.commands.capturing import (
    PER_CLASS,
    add_rules,
    class_problems,
    classes_of,
    rules_of,
    rules_problems,
)
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.commands.taking import Order, Taken, take
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import aligned, printable
from mobiletl.device.run.expected import parse_seconds

EXAMPLES = """\
in a terminal, number keys choose a class, the space bar held down records, and q ends

to paste:
  mobiletl capture --camera 0 --classes cat,dog,none --data photos/
  mobiletl capture --camera 0 --class cat --data photos/ --per-class 100
  mobiletl capture --camera rtsp://camera.local/stream --class cat --data photos/ --yes --seconds 60
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _capture(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl capture",
        description="Take pictures of classes by a camera. A frame is kept when it is sharp and "
        "differs from the kept ones of its class. What a class has already counts.",
        epilog=EXAMPLES,
    )
    add_camera(parser)
    add = parser.add_argument
    classes = parser.add_mutually_exclusive_group(required=True)
    classes.add_argument("--class", dest="one_class", metavar="NAME", help="what is shown")
    classes.add_argument("--classes", metavar="A,B,...", help="what is shown, in turn")
    add("--data", metavar="DIR", required=True, help="folder of pictures; made if it is missing")
    add(
        "--per-class",
        type=int,
        default=PER_CLASS,
        metavar="N",
        help="pictures that a class is to have (default: %(default)s; 0 with a terminal: no end)",
    )
    # What it was called before it had the name that it has with `train` and `teach`.
    add("--count", dest="per_class", type=int, default=PER_CLASS, help=argparse.SUPPRESS)
    add("--seconds", type=parse_seconds, metavar="TIME", help="end after so long, such as 60 or 5m")
    add_rules(parser)
    add("--json", action="store_true", help="print one JSON object at the end")
    return parser


def _capture(flags: argparse.Namespace) -> int:
    names = [flags.one_class] if flags.one_class is not None else classes_of(flags.classes)
    _check(flags, names)
    order = Order(
        data=Path(flags.data),
        names=tuple(names),
        goal=flags.per_class or None,
        guided=flags.yes or not sys.stdin.isatty(),
        # One class needs no time to get ready.
        countdown=flags.yes or len(names) > 1,
        camera=camera_of(flags),
        rules=rules_of(flags),
        limit_bytes=round(flags.max_mb * 1e6),
        seconds=flags.seconds,
    )
    _tell(flags, take(order))
    return 0


def _check(flags: argparse.Namespace, names: list[str]) -> None:
    """Report every flag that makes no sense at once."""
    problems = camera_problems(flags) + rules_problems(flags) + class_problems(names)
    if flags.camera is None:
        problems.append("no camera named; say where frames come from with --camera")
    if flags.per_class < 0:
        problems.append(f"--per-class is {flags.per_class}, expected at least 0")
    if flags.per_class == 0 and (flags.yes or not sys.stdin.isatty()):
        problems.append("--per-class 0 has no end, which only a person at a terminal can give it")
    if problems:
        raise UsageError("; ".join(problems))


def _tell(flags: argparse.Namespace, taken: Taken) -> None:
    if flags.json:
        document = {
            "data": flags.data,
            "classes": taken.counts,
            "kept": taken.kept,
            "frames": taken.seen,
            "black": taken.black,
        }
        print(json.dumps(document))
        return
    rows = [(printable(name), pictures(count)) for name, count in taken.counts.items()]
    for line in aligned(rows, right=[1]):
        print(printable(line, sys.stdout.encoding))
    black = f"; {taken.black} were black" if taken.black else ""
    line = f"{taken.kept} of {taken.seen} frames kept in {flags.data}{black}"
    print(printable(line, sys.stdout.encoding))


if __name__ == "__main__":
    raise SystemExit(main())
