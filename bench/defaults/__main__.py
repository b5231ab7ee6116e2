"""`python -m bench.defaults`: see the package."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from bench.defaults.cells import Results, cells, find_sets
from bench.defaults.runs import Bench, run
from bench.defaults.table import table_lines
from mobiletl.core.integer.top import AUTO
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.commands.table import guarded
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle


def main(argv: list[str] | None = None) -> int:
    """Run what is not yet in OUT/results.jsonl, and print the table."""
    return guarded(lambda: _compare(_parser().parse_args(argv)))


def _compare(flags: argparse.Namespace) -> int:
    flags.out.mkdir(parents=True, exist_ok=True)
    results = Results(flags.out / "results.jsonl")
    sets = [one for one in find_sets(flags.data) if not flags.sets or one.name in flags.sets]
    by_name = {one.name: one for one in sets}
    blocks = [int(word) for word in flags.blocks.split(",")]
    per_class = [int(word) for word in flags.per_class.split(",")]
    benches = {
        count: Bench(_bundle(flags, count), flags.out / "scratch", flags.limit, flags.threads)
        for count in blocks
    }
    wanted = cells(sets, blocks, per_class, flags.seeds, flags.train)
    todo = [cell for cell in wanted if not results.has(cell)]
    with ProcessPoolExecutor(flags.jobs, get_context("spawn")) as pool:
        futures = {pool.submit(run, benches[c.blocks], by_name[c.set], c): c for c in todo}
        for future in as_completed(futures):
            cell, figures = futures[future], future.result()
            results.add(cell, figures)
            gain = figures["trained"]["accuracy"] - figures["closed_form"]["accuracy"]
            print(f"{cell}: {figures['trained']['accuracy']:.1%}, {100 * gain:+.1f}", flush=True)
    rows = [row for row in results.rows if row["cell"]["train"] == flags.train]
    print("\n".join(table_lines(rows)))
    return 0


def _bundle(flags: argparse.Namespace, blocks: int) -> Bundle:
    out = flags.out / f"{flags.model}-{blocks}"
    if not out.exists():
        request = Request(
            flags.model, flags.weights, flags.method, blocks or None, flags.resolution,
            flags.optimizer, out, step=flags.step,
        )  # fmt: skip
        export_bundle(request)
    return open_bundle(out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.defaults",
        description="Teach and train with nothing but defaults, and score on pictures of their "
        "own. What is in OUT/results.jsonl is not repeated.",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of sets with train/ and test/ each")
    add("--sets", nargs="*", default=[], help="some of them (default: all)")
    add("--weights", default="imagenet", help="as for mobiletl export")
    add("--model", default="mbv2")
    add("--method", default="mobiletl")
    add("--resolution", type=int, default=224)
    add("--blocks", default="1,3,5", help="0 for a method that takes none")
    add("--optimizer", default="adam")
    add("--step", default=AUTO, help="as for mobiletl export")
    add("--train", default="", metavar="FLAGS", help="of mobiletl train, instead of its defaults")
    add("--per-class", default="5,20,0", help="pictures of each class, 0 for all")
    add("--limit", type=int, default=120, help="how many of a class are all")
    add("--seeds", type=int, default=3)
    add("--threads", type=int, default=2)
    add("--jobs", type=int, default=1, help="cells at a time, each in a process of its own")
    add("--out", type=Path, default=Path("artifacts/defaults"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
