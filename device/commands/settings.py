"""The flags that say how to train: what decides the outcome, and what decides the way there."""

from __future__ import annotations

import argparse
from typing import Any

from mobiletl.device.commands.flags import add_blocks, add_trust
from mobiletl.device.memory.limit import parse_bytes
from mobiletl.device.neighbour.limits import BUSY_CORES, MachineLimits
from mobiletl.device.pictures.layouts import LAYOUTS
from mobiletl.device.run.expected import parse_seconds
from mobiletl.device.run.limits import KNOWN, STARTS, problems_of
from mobiletl.device.run.options import (
    DEFAULTS,
    LEAST_EPOCHS,
    LEAST_STEPS,
    REPLAY_BYTES,
    SAVE_BUDGET,
    VIEWS,
)
from mobiletl.device.run.save_budget import budget_text, parse_budget
from mobiletl.device.sessions.table import RUNTIMES

# A resumed run keeps these; each is None unless it was named.
SETTINGS = KNOWN
# These may change when a run is resumed.
RESOURCES = (
    "cache",
    "no_cache",
    "threads",
    "save_every",
    "save_budget",
    "max_temp",
    "max_load",
    "pause_when_busy",
    "max_memory",
    "max_time",
    "replay_mb",
    "trust_bundle",
    "require_signature",
)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add what decides the outcome."""
    add = parser.add_argument
    add(
        "--epochs",
        type=int,
        help=f"default: {LEAST_EPOCHS}, more where that is less than {LEAST_STEPS} steps",
    )
    add("--batch", type=int, help=f"pictures in a step (default: {DEFAULTS['batch']})")
    add("--lr", type=float, help="first learning rate (default: the bundle's)")
    add("--seed", type=int, help=f"of order, crops, split and head (default: {DEFAULTS['seed']})")
    add(
        "--val-split",
        type=float,
        help="share that validates where there is no val/ folder "
        f"(default: {DEFAULTS['val_split']})",
    )
    add_finding(parser)
    augment = parser.add_mutually_exclusive_group()
    augment.add_argument(
        "--augment", action="store_true", default=None, help="random crops and flips (default)"
    )
    augment.add_argument(
        "--no-augment",
        action="store_false",
        dest="augment",
        help="central crops, the same in every epoch",
    )
    add(
        "--views",
        type=int,
        metavar="V",
        help=f"crops of a picture that take turns, whose feature maps are kept (default: {VIEWS}); "
        "0 is a fresh one in every epoch, and the default where maps are larger than pictures",
    )
    add(
        "--start",
        help=f"the classifier to begin with, {' or '.join(STARTS)} (default: {DEFAULTS['start']})",
    )
    add_blocks(
        parser,
        "train so many, of a bundle with several levels (default: the deepest, or the deepest "
        "that keeps to --max-memory)",
    )
    add_micro_batch(parser)
    add_runtime(parser)


def add_finding(parser: argparse.ArgumentParser) -> None:
    """Add which pictures are meant."""
    parser.add_argument(
        "--layout",
        help=f"{' or '.join(LAYOUTS[1:])}: the folders of the data are the classes, or have the "
        f"classes in train/ and val/ (default: {LAYOUTS[0]}, by their names)",
    )
    parser.add_argument(
        "--decode-memory",
        type=parse_bytes,
        metavar="SIZE",
        help="leave out pictures that take more while they are decoded, such as 20MB "
        f"(default: {DEFAULTS['decode_memory'] // 10**6}MB)",
    )


def add_micro_batch(parser: argparse.ArgumentParser) -> None:
    """Add how many pictures the frozen layers see at once."""
    parser.add_argument(
        "--micro-batch",
        type=int,
        help="pictures per pass of the frozen prefix (default: 1); more is more memory",
    )


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add which runtime it is."""
    parser.add_argument(
        "--runtime",
        help=f"one of {', '.join(row.name for row in RUNTIMES if row.in_bundle)} "
        "(default: the first that the bundle serves and that is installed)",
    )
    add_trust(parser)


def add_resources(parser: argparse.ArgumentParser) -> None:
    """Add what decides the way there."""
    add_keeping(parser)
    add = parser.add_argument
    add(
        "--threads",
        type=int,
        default=0,
        help="default: 0, all cores; sums round by it, so a resumed run keeps what it has",
    )
    add(
        "--save-every",
        type=int,
        default=200,
        metavar="STEPS",
        help="steps between saves inside an epoch, where the budget allows one (default: 200)",
    )
    add(
        "--save-budget",
        type=parse_budget,
        default=SAVE_BUDGET,
        metavar="SIZE/h",
        help="space saves so that they write no more in an hour, to spare an SD card, such as "
        f"100MB/h; none saves after every epoch (default: {budget_text(SAVE_BUDGET)})",
    )
    add(
        "--max-memory",
        type=parse_bytes,
        metavar="SIZE",
        help="refuse to start if more is planned, such as 120MB; of a bundle with several levels, "
        "take the deepest that keeps to it (default: no limit)",
    )
    add(
        "--max-time",
        type=parse_seconds,
        metavar="TIME",
        help="refuse to train if it is expected to take longer, such as 10m (default: no limit)",
    )
    add_machine(parser)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add what the run owes to the machine and its other users."""
    add = parser.add_argument
    add(
        "--max-temp",
        type=float,
        metavar="C",
        help="pause between steps so that the processor stays below so many degrees Celsius "
        "(default: no limit)",
    )
    add(
        "--max-load",
        type=float,
        metavar="CORES",
        help="wait while other programs keep more processor cores busy, such as 1.5, mean of ten "
        "seconds (default: no limit)",
    )
    add(
        "--pause-when-busy",
        action="store_true",
        help=f"the same at {BUSY_CORES:g} cores: somebody works on the machine",
    )


def machine_limits(flags: argparse.Namespace) -> MachineLimits:
    """Return what `add_machine` was told."""
    return MachineLimits(flags.max_temp, flags.max_load, flags.pause_when_busy)


def add_keeping(parser: argparse.ArgumentParser) -> None:
    """Add what is kept of pictures on disk."""
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument(
        "--cache",
        metavar="DIR",
        help="keep feature maps in this folder (default: in the run's, until it ends)",
    )
    cache.add_argument("--no-cache", action="store_true", help="keep no feature maps on disk")
    parser.add_argument(
        "--replay-mb",
        type=float,
        default=REPLAY_BYTES / 1e6,
        metavar="MB",
        help="feature maps that are kept for a later run with --from (default: %(default)g)",
    )


def given(flags: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were named."""
    named = {name: getattr(flags, name) for name in SETTINGS}
    return {name: value for name, value in named.items() if value is not None}


def problems(flags: argparse.Namespace) -> list[str]:
    """Say which of the flags are out of range."""
    return problems_of(vars(flags), flags=True)


def as_arguments(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> list[str]:
    """Return words that name the settings again, and the resources that are not as by default."""
    words: list[str] = []
    for name in (*SETTINGS, *RESOURCES):
        value = getattr(flags, name)
        if name == "save_budget" and value != parser.get_default(name):
            words += ["--save-budget", budget_text(value)]
            continue
        if value is None or (name in RESOURCES and value == parser.get_default(name)):
            continue
        flag = f"--{name.replace('_', '-')}"
        if name == "augment":
            words.append("--augment" if value else "--no-augment")
        elif name in ("no_cache", "trust_bundle", "pause_when_busy"):
            words.append(flag)
        else:
            words += [flag, str(value)]
    return words
