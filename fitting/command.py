"""`mobiletl fit`: export the most that fits into a board's memory, and into the time there is."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import UsageError
from mobiletl.device.memory.limit import megabytes, needed, parse_bytes
from mobiletl.device.printable import aligned, printable, say
from mobiletl.device.refusals import cannot_write
from mobiletl.device.run.duration import duration
from mobiletl.device.run.expected import parse_seconds
from mobiletl.export.parts import Request
from mobiletl.export.weights.loading import embedded_facts
from mobiletl.export.writing.export_bundle import export_bundle
from mobiletl.export.writing.writer import put_in_place, require_free
from mobiletl.fitting.levels import Level, Wanted, chosen, levels_of, with_fewer_blocks, worth_it

EXAMPLES = """\
to paste:
  mobiletl fit --memory 128MB --out artifacts/mbv2
  mobiletl fit --memory 112MB --model mbv2-0.35 --weights demo --out artifacts/small
  mobiletl fit --memory 128MB --time 20m --pictures 300 --out artifacts/mbv2
  mobiletl fit --memory 160MB --levels --out artifacts/mbv2
"""
MOST_BLOCKS = 5
BATCHES = (8, 4, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _fit(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl fit",
        description="Export what trains most within a board's memory, and within the time there "
        "is. Memory is the planned peak of the whole process and a tenth; times are of this "
        "machine.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--memory", type=parse_bytes, metavar="SIZE", help="of the process, such as 128MB")
    add("--time", type=parse_seconds, metavar="TIME", help="of a run here, such as 20m")
    add("--pictures", type=int, default=200, help="how many there are to learn (default 200)")
    add("--classes", type=int, default=10, help="default 10")
    add("--most-blocks", type=int, default=MOST_BLOCKS, help=f"default {MOST_BLOCKS}")
    add("--model", help="as for mobiletl export")
    add("--weights", default="imagenet", help="as for mobiletl export")
    add("--method", default="mobiletl", help="as for mobiletl export")
    add("--resolution", type=int, help="as for mobiletl export")
    add("--calibrate", type=Path, metavar="DIR", help="pictures: frozen layers get 8 bits")
    add(
        "--levels",
        action="store_true",
        help="put what has fewer blocks into the bundle as well, which boards then choose among",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="the bundle that is chosen")
    add("--force", action="store_true", help="replace a bundle that is there")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _fit(flags: argparse.Namespace) -> int:
    _check(flags)
    require_free(flags.out, flags.force)
    wanted = Wanted(flags.memory, flags.time, flags.pictures, flags.classes)
    with _beside(flags.out) as scratch:
        request = _request(flags, scratch)
        depths = range(1, flags.most_blocks + 1)
        levels = list(levels_of(request, depths, BATCHES, wanted, _tell(flags)))
        best = chosen(levels, wanted)
        if best is None:
            raise UsageError(_nothing(levels, wanted, flags.calibrate is None))
        bundle = best.bundle
        if flags.levels:
            _tell(flags)("exporting them as levels of one bundle ...")
            all_of_them = with_fewer_blocks(request, worth_it(levels, wanted), best)
            bundle = export_bundle(replace(all_of_them, out=scratch / "levels"))
        try:
            put_in_place(bundle, flags.out, scratch)
        except OSError as error:
            raise cannot_write("the bundle", flags.out, error) from error
    _report(flags, levels, best, wanted)
    return 0


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Yield an empty folder in the file system of `out`, which is gone afterwards."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    except OSError as error:
        raise cannot_write("the bundles to choose from", out.parent, error) from error
    with scratch as folder:
        yield Path(folder)


def _check(flags: argparse.Namespace) -> None:
    problems = []
    if flags.memory is None and flags.time is None:
        problems.append("what is there to fit into? name --memory, --time or both")
    for name, least in (("pictures", 2), ("classes", 2), ("most_blocks", 1)):
        value = getattr(flags, name)
        if value < least:
            problems.append(f"--{name.replace('_', '-')} is {value}, expected {least} or more")
    if problems:
        raise UsageError("; ".join(problems))


def _tell(flags: argparse.Namespace) -> Any:
    return lambda line: None if flags.json else say(line, sys.stderr)


def _request(flags: argparse.Namespace, folder: Path) -> Request:
    facts = embedded_facts() if flags.weights == "demo" else None
    return Request(
        model=flags.model or (facts.model if facts else "mbv2"),
        weights=flags.weights,
        method=flags.method,
        blocks=None,
        resolution=flags.resolution or (facts.resolution if facts else 224),
        optimizer="adam",
        out=folder,
        prefix="float32" if flags.calibrate is None else "int8",
        calibrate=flags.calibrate,
    )


def _nothing(levels: Sequence[Level], wanted: Wanted, prefix_in_floats: bool) -> str:
    least = min(levels, key=lambda one: one.planned)
    shortest = min(levels, key=lambda one: one.run_seconds(wanted.pictures))
    found = [
        f"the least is {needed(least.needed)}, {megabytes(least.planned)} planned and a tenth, "
        f"{_named(least)}"
    ]
    if wanted.seconds is not None:
        seconds = shortest.run_seconds(wanted.pictures)
        found.append(f"the shortest run takes {duration(seconds)}, {_named(shortest)}")
    ways = "a narrower --model" + (
        ", a lower --resolution, or --calibrate for frozen layers in 8 bits"
        if prefix_in_floats
        else " or a lower --resolution"
    )
    return f"nothing keeps to that: {'; '.join(found)}. Take {ways}"


def _named(level: Level) -> str:
    plural = "s" if level.blocks > 1 else ""
    return f"with {level.blocks} block{plural}, {level.form}, {level.batch} pictures a step"


def _report(
    flags: argparse.Namespace, levels: Sequence[Level], best: Level, wanted: Wanted
) -> None:
    shown = worth_it(levels, wanted)
    if flags.json:
        rows = [
            {
                **{k: v for k, v in asdict(one).items() if k != "bundle"},
                "run_seconds": round(one.run_seconds(wanted.pictures), 1),
                "fits": wanted.allows(one),
                "chosen": one is best,
            }
            for one in shown
        ]
        say(json.dumps({"bundle": str(flags.out), "levels": rows}))
        return
    header = (
        "blocks",
        "form",
        "a step",
        "planned MB",
        "step ms",
        f"{wanted.pictures} pictures",
        "",
    )
    table = [
        (
            str(one.blocks),
            one.form,
            str(one.batch),
            f"{one.planned / 1e6:.1f}",
            f"{1e3 * one.step_seconds:.0f}",
            duration(one.run_seconds(wanted.pictures)),
            "<- chosen" if one is best else "" if wanted.allows(one) else "does not fit",
        )
        for one in shown
    ]
    say("\n".join(aligned([header, *table])))
    limit = "" if wanted.memory is None else f" --max-memory {wanted.memory}"
    batch = "" if best.batch == BATCHES[0] else f" --batch {best.batch}"
    say(f"wrote {printable(str(flags.out))}; on the board:")
    runner = printable(str(flags.out / "device" / "train_on_board.py"))
    say(f"  python {runner} --data photos/{batch}{limit}")
