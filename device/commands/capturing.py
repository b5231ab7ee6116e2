"""What commands share that take pictures by a camera: the flags, and taking them first."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from mobiletl.device.capturing.photo_folder import LIMIT_BYTES
from mobiletl.device.capturing.selection import Rules
from mobiletl.device.capturing.showing import pictures
from mobiletl.device.commands.camera_flags import add_camera, camera_of, camera_problems
from mobiletl.device.commands.taking import Order
from mobiletl.device.commands.taking_apart import take_apart
from mobiletl.device.errors import Interrupted
from mobiletl.device.pictures.class_names import problem_of_class_name
from mobiletl.device.printable import printable

PER_CLASS = 40


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Add how frames are chosen, and what they may take."""
    add, rules = parser.add_argument, Rules()
    add("--yes", action="store_true", help="begin each class after a countdown, not at a key")
    add(
        "--min-sharpness",
        type=float,
        default=rules.sharpness,
        metavar="S",
        help="how sharp a frame must be to be kept (default: %(default)g; 0 keeps all; photographs "
        "in focus have 0.3 to 1)",
    )
    add(
        "--min-difference",
        type=float,
        default=rules.difference,
        metavar="D",
        help="how far a frame must be from each kept one of its class (default: %(default)g; 0 "
        "keeps frames that are alike; unrelated ones are about 1.4 apart)",
    )
    add(
        "--max-mb",
        type=float,
        default=LIMIT_BYTES / 1e6,
        metavar="MB",
        help="what all pictures of the folder may take (default: %(default)g)",
    )


def add_capture_first(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a command that can take its pictures first."""
    add_camera(parser)
    add = parser.add_argument
    add("--classes", metavar="A,B,...", help="with --camera: take pictures of these classes first")
    add(
        "--per-class",
        type=int,
        metavar="N",
        help=f"with --camera: how many pictures a class is to have (default: {PER_CLASS})",
    )
    add_rules(parser)


def capture_first_problems(flags: argparse.Namespace) -> list[str]:
    """Say what is wrong with the flags of `add_capture_first` and with --data."""
    problems = camera_problems(flags) + rules_problems(flags)
    if flags.camera is None:
        if flags.data is None:
            problems.append(
                "no pictures named; give a folder with --data, or --camera to take some"
            )
        problems += [
            f"--{name.replace('_', '-')} is of a camera; name one with --camera"
            for name in ("classes", "per_class")
            if getattr(flags, name) is not None
        ]
        return problems
    if getattr(flags, "resume", None) is not None:
        problems.append(
            "--resume goes on with the pictures it has, so it takes no --camera; leave that out, "
            "or begin another run with --from"
        )
    if flags.classes is None:
        problems.append("--camera takes pictures of classes; name two or more, --classes cat,dog")
    else:
        names = classes_of(flags.classes)
        problems += class_problems(names)
        if len(names) < 2:
            problems.append(f"--classes is {flags.classes!r}, expected two or more with commas")
    if flags.per_class is not None and flags.per_class < 2:
        problems.append(f"--per-class is {flags.per_class}, expected at least 2")
    return problems


def capture_first(flags: argparse.Namespace) -> None:
    """Take the pictures that `flags` ask for, and let them name the folder as their data.

    They are taken by a process of its own: a camera's library stays in memory where it was loaded,
    and training keeps to its plan. Raises Interrupted if a person has ended it, and what `take`
    raises.
    """
    if flags.data is None:
        flags.data = time.strftime("photos-%Y%m%d")
    order = Order(
        data=Path(flags.data),
        names=tuple(classes_of(flags.classes)),
        goal=flags.per_class or PER_CLASS,
        guided=True,
        countdown=flags.yes,
        camera=camera_of(flags),
        rules=rules_of(flags),
        limit_bytes=round(flags.max_mb * 1e6),
    )
    taken = take_apart(order)
    shown = printable(flags.data)
    if not taken.finished:
        raise Interrupted(
            f"stopped before training; {shown} has {pictures(sum(taken.counts.values()))}, and "
            f"the same command with --data {shown} goes on with them"
        )


def classes_of(words: str) -> list[str]:
    """Return the names that a flag lists with commas."""
    return [word.strip() for word in words.split(",")]


def class_problems(names: list[str]) -> list[str]:
    """Say which names no class may have."""
    problems = []
    for row, name in enumerate(names):
        if name in names[:row]:
            problems.append(f"class '{printable(name)}' is named twice")
        else:
            problem = problem_of_class_name(name, names[:row])
            problems += [] if problem is None else [problem]
    return problems


def rules_of(flags: argparse.Namespace) -> Rules:
    """Return how frames are chosen; `rules_problems` come first."""
    return Rules(flags.min_sharpness, flags.min_difference)


def rules_problems(flags: argparse.Namespace) -> list[str]:
    """Say what is wrong with the flags of `add_rules`."""
    problems = []
    for name, most in (("min_sharpness", 2.0), ("min_difference", 2.0)):
        value = getattr(flags, name)
        if not 0 <= value <= most:
            flag = name.replace("_", "-")
            problems.append(f"--{flag} is {value:g}, expected 0 to {most:g}")
    if not 0 < flags.max_mb < 1e9:
        problems.append(f"--max-mb is {flags.max_mb:g}, expected more than 0")
    return problems
