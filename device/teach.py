"""`mobiletl teach`: solve for a classifier of a folder of pictures, in one look at each."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Sequence

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.commands import settings
from mobiletl.device.commands.capturing import (
    add_capture_first,
    capture_first,
    capture_first_problems,
)
from mobiletl.device.commands.flags import add_blocks, chosen_bundle
from mobiletl.device.commands.former import add_former, former_of, former_problems
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.paste import command_line
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import Interrupted, UsageError
from mobiletl.device.printable import aligned, printable, say
from mobiletl.device.run.duration import duration
from mobiletl.device.run.evaluation import Score
from mobiletl.device.run.options import Options
from mobiletl.device.run.report import skipped_lines
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.run.terminal import Terminal, new_run_folder
from mobiletl.device.teaching.folder import Taught, teach

EXAMPLES = """\
to paste:
  mobiletl teach --bundle artifacts/mbv2 --data photos/ --out runs/taught
  mobiletl teach --bundle artifacts/mbv2 --data more/ --from runs/taught --out runs/more
  mobiletl train --bundle artifacts/mbv2 --data photos/ --from runs/taught --out runs/trained
  mobiletl teach --bundle artifacts/mbv2 --camera 0 --classes cat,dog,none --per-class 20
  mobiletl teach --bundle artifacts/mbv2 --data photos/ --json
"""
SETTINGS = ("seed", "runtime", "micro_batch", "blocks")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _teach(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl teach",
        description="Solve for a classifier of a folder with one folder of pictures per class. "
        "Nothing is trained, so it takes little longer than looking at each picture once.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--data", metavar="DIR", help="folder of pictures (with --camera: photos-<date>)")
    add("--out", metavar="DIR", help="folder of the run (default: runs/<date>-<time>)")
    add_capture_first(parser)
    add_former(parser)
    add("--seed", type=int, help="names the state of layers that have no weights (default: 0)")
    add_blocks(parser, "for `train --from` at this level of the bundle (default: the deepest)")
    settings.add_micro_batch(parser)
    settings.add_runtime(parser)
    settings.add_keeping(parser)
    add("--threads", type=int, default=0, help="default: 0, all cores")
    add("--json", action="store_true", help="print one JSON object; progress goes to stderr")
    return parser


def _teach(flags: argparse.Namespace) -> int:
    _check(flags)
    if flags.camera is not None:
        # A bundle that cannot be taught should say so before anybody has taken pictures.
        open_bundle(chosen_bundle(flags.bundle), flags.trust_bundle, flags.require_signature)
        capture_first(flags)
    options = _options(flags)
    with StopFlag() as stop:
        try:
            taught = teach(options, [Terminal(sys.stderr)], stop)
        except StopRequested:
            raise Interrupted("stopped, nothing is saved; run the same command again") from None
    predict = _predict_command(taught, options)
    if flags.json:
        print(json.dumps(_document(taught, options, predict)))
    else:
        for line in _lines(taught, predict):
            say(line)
    return 0


def _check(flags: argparse.Namespace) -> None:
    """Report every flag out of range at once."""
    problems = settings.problems(flags) + former_problems(flags) + capture_first_problems(flags)
    if problems:
        raise UsageError("; ".join(problems))


def _options(flags: argparse.Namespace) -> Options:
    named = {name: getattr(flags, name) for name in SETTINGS}
    return Options(
        bundle=chosen_bundle(flags.bundle),
        data=Path(flags.data),
        run=Path(flags.out) if flags.out is not None else new_run_folder(),
        resume=False,
        given={name: value for name, value in named.items() if value is not None},
        use_cache=not flags.no_cache,
        cache=None if flags.cache is None else Path(flags.cache),
        threads=flags.threads,
        former=former_of(flags),
        replay_bytes=round(flags.replay_mb * 1e6),
        trust=flags.trust_bundle,
        key=None if flags.require_signature is None else Path(flags.require_signature),
    )


def _predict_command(taught: Taught, options: Options) -> str:
    dataset = taught.opened.dataset
    picture = dataset.root / (dataset.val or dataset.train)[0].path
    state = str(taught.folder.best)
    words = ["--bundle", str(options.bundle), "--state", state, str(picture)]
    return command_line("predict", words)


def _lines(taught: Taught, predict: str) -> list[str]:
    names = taught.opened.dataset.class_names
    lines = [f"{len(names)} classes, {taught.pictures} pictures", ""]
    columns = [("each held out in turn", taught.held_out)]
    if taught.validation is not None:
        columns.append(("validation", taught.validation))
    rows = [("right", *(name for name, _ in columns))]
    rows.append(("all", *(_share(sum(s.class_correct), sum(s.class_seen)) for _, s in columns)))
    for label, name in enumerate(names):
        shares = (_share(s.class_correct[label], s.class_seen[label]) for _, s in columns)
        rows.append((f"  {printable(name)}", *shares))
    lines += aligned(rows, right=range(1, len(columns) + 1))
    lines += ["", *skipped_lines(taught.skipped.entries(), taught.folder)]
    seconds = duration(taught.seconds)
    peak = taught.peak_bytes / 1e6
    lines.append(f"{seconds} in all, peak of the process {peak:.0f} MB, measured")
    lines += [f"state {printable(str(taught.folder.best))}; name a picture with", f"  {predict}"]
    return lines


def _share(correct: int, seen: int) -> str:
    return f"{correct} of {seen} ({correct / seen:.1%})" if seen else "-"


def _document(taught: Taught, options: Options, predict: str) -> dict[str, Any]:
    dataset = taught.opened.dataset
    return {
        "bundle": str(options.bundle),
        "run": str(taught.folder.path),
        "state": str(taught.folder.best),
        "classes": list(dataset.class_names),
        "pictures": taught.pictures,
        "replayed": taught.opened.kept.counts(),
        "held_out": _score(taught.held_out),
        "validation": None if taught.validation is None else _score(taught.validation),
        "skipped": [asdict(entry) for entry in taught.skipped.entries()],
        "notes": list(dataset.notes),
        "measured_peak_bytes": taught.peak_bytes,
        "seconds": taught.seconds,
        "predict": predict,
    }


def _score(score: Score) -> dict[str, Any]:
    return {"accuracy": score.accuracy, **asdict(score)}


if __name__ == "__main__":
    raise SystemExit(main())
