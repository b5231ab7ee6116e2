"""`mobiletl train`: fine-tune a bundle on a folder of pictures."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import sys
from pathlib import Path
from typing import Sequence

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.commands import settings
from mobiletl.device.commands.capturing import (
    add_capture_first,
    capture_first,
    capture_first_problems,
)
from mobiletl.device.commands.flags import chosen_bundle
from mobiletl.device.commands.former import add_former, former_of, former_problems
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.paste import command_line
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import Interrupted, UsageError
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.events import Started
from mobiletl.device.run.options import Options
from mobiletl.device.run.report import Report
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.run.terminal import Terminal, new_run_folder
from mobiletl.device.run.training import train

EXAMPLES = """\
to paste:
  mobiletl train --bundle artifacts/mbv2 --data photos/
  mobiletl train --bundle artifacts/mbv2 --camera 0 --classes cat,dog,none --per-class 40
  python artifacts/mbv2/device/train_on_board.py --data photos/
  mobiletl train --bundle artifacts/mbv2 --data photos/ --out runs/first
  mobiletl train --bundle artifacts/mbv2 --data photos/ --resume runs/first
  mobiletl train --bundle artifacts/mbv2 --data photos/ --from runs/first --out runs/second
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _train(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl train",
        description="Fine-tune a bundle on a folder with one folder of pictures per class, or "
        "with train/ and val/ of such folders.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--data", metavar="DIR", help="folder of pictures (with --camera: photos-<date>)")
    add("--out", metavar="DIR", help="folder of the run (default: runs/<date>-<time>)")
    add("--resume", metavar="DIR", help="go on with the stopped run in this folder")
    add_capture_first(parser)
    add_former(parser)
    settings.add_settings(parser)
    settings.add_resources(parser)
    add("--json", action="store_true", help="print one JSON object; progress goes to stderr")
    add("--timestamps", action="store_true", help="begin each line of progress with the time, UTC")
    return parser


def _train(flags: argparse.Namespace) -> int:
    _check(flags)
    if flags.camera is not None:
        # A bundle that cannot be trained should say so before anybody has taken pictures.
        open_bundle(chosen_bundle(flags.bundle), flags.trust_bundle, flags.require_signature)
        capture_first(flags)
    options = _options(flags)
    listeners = [
        Terminal(sys.stderr, flags.timestamps),
        Report(sys.stdout, _predict_command, flags.json, _review_command),
    ]
    with StopFlag() as stop:
        try:
            train(options, listeners, stop)
        except StopRequested:
            raise Interrupted(_stopped(flags, options)) from None
    return 0


def _predict_command(started: Started) -> str:
    """Return the command that names a picture of the validation part."""
    state = RunFolder(Path(started.run)).best
    picture = started.dataset.root / started.dataset.val[0].path
    arguments = ["--bundle", started.bundle, "--state", str(state), str(picture)]
    return command_line("predict", arguments)


def _review_command(started: Started) -> str:
    """Return the command that writes a page on the run."""
    return command_line("review", [started.run])


def _options(flags: argparse.Namespace) -> Options:
    if flags.resume is not None:
        run = Path(flags.resume)
    elif flags.out is not None:
        run = Path(flags.out)
    else:
        run = new_run_folder()
    return Options(
        bundle=chosen_bundle(flags.bundle),
        data=Path(flags.data),
        run=run,
        resume=flags.resume is not None,
        given=settings.given(flags),
        use_cache=not flags.no_cache,
        cache=None if flags.cache is None else Path(flags.cache),
        threads=flags.threads,
        save_every=flags.save_every,
        save_budget=flags.save_budget,
        max_memory=flags.max_memory,
        max_seconds=flags.max_time,
        former=former_of(flags),
        replay_bytes=round(flags.replay_mb * 1e6),
        trust=flags.trust_bundle,
        key=None if flags.require_signature is None else Path(flags.require_signature),
        limits=settings.machine_limits(flags),
    )


def _check(flags: argparse.Namespace) -> None:
    """Report every flag out of range at once."""
    problems = settings.problems(flags) + capture_first_problems(flags)
    if flags.resume is not None and flags.out is not None:
        problems.append("--out and --resume both name the run's folder; give one of them")
    problems += former_problems(flags)
    if problems:
        raise UsageError("; ".join(problems))


def _stopped(flags: argparse.Namespace, options: Options) -> str:
    if not RunFolder(options.run).resumable():
        return "stopped before there was anything to save; run the same command again"
    arguments = ["--bundle", str(options.bundle), "--data", flags.data]
    arguments += ["--resume", str(options.run)]
    # The run keeps its settings.
    unnamed = argparse.Namespace(**{**vars(flags), **dict.fromkeys(settings.SETTINGS)})
    arguments += settings.as_arguments(_parser(), unnamed)
    arguments += ["--json"] * flags.json + ["--timestamps"] * flags.timestamps
    return f"stopped, the state is saved; go on with: {command_line('train', arguments)}"


if __name__ == "__main__":
    raise SystemExit(main())
