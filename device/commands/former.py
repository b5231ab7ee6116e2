"""The flags that name a run to go on from, and what becomes of its classes."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobiletl.device.bundle.signature import require_state_signature
from mobiletl.device.commands.parser import add_state_key
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.options import Former


def add_former(parser: argparse.ArgumentParser) -> None:
    """Add --from, --rename, --drop and --state-key."""
    add = parser.add_argument
    add(
        "--from",
        dest="former",
        metavar="DIR",
        help="begin where the run in this folder ended, with more or other pictures or classes; "
        "what it kept of pictures that are gone counts as well",
    )
    add(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="with --from: call a class otherwise from now on; may be given again",
    )
    add(
        "--drop",
        action="append",
        default=[],
        metavar="CLASS",
        help="with --from: leave a class out from now on; may be given again",
    )
    add_state_key(parser)


def former_of(flags: argparse.Namespace) -> Former | None:
    """Return the run that is named, if one is; `former_problems` come first."""
    if flags.former is None:
        return None
    renamed: dict[str, str | None] = dict(words.split("=", 1) for words in flags.rename)
    renamed.update(dict.fromkeys(flags.drop))
    require_state_signature(RunFolder(Path(flags.former)).best, flags.state_key)
    return Former(Path(flags.former), renamed)


def former_problems(flags: argparse.Namespace) -> list[str]:
    """Say what is wrong with these flags."""
    problems = []
    if flags.former is not None and getattr(flags, "resume", None) is not None:
        problems.append("--resume goes on with a run that has begun, so it takes no --from")
    if flags.former is None and flags.state_key is not None:
        problems.append("--state-key is of a former run's state; name that run with --from")
    if flags.former is None and (flags.rename or flags.drop):
        problems.append(
            "--rename and --drop change the classes of a former run; name that run with --from"
        )
    for words in flags.rename:
        old, _, new = words.partition("=")
        if not old or not new:
            problems.append(f"--rename is {words!r}, expected OLD=NEW")
    return problems
