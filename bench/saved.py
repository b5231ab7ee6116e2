"""`python -m bench.saved`: accuracy and time of a step by what its backward pass keeps, and by the
numbers that it multiplies.

All bundles hold the same network and are trained from the same stored feature maps of central
crops, in the same order, from the same first state: a difference is that of the step alone. Adam at
the method's rate, falling linearly to 0; the last state is scored on test pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench.compared import BATCH, accuracy_of, parser_of, print_row
from bench.defaults.cells import PictureSet, find_sets
from bench.defaults.runs import Bench, Maps
from mobiletl.core.integer.top import FLOAT32, INT8
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle

CLASSES, ROUNDS = 10, 60


def main(argv: list[str] | None = None) -> int:
    """Print a row per set: accuracies in percent, means over seeds."""
    flags = _parser().parse_args(argv)
    rows = flags.rows.split(",")
    bundles = {row: _bundle(flags, row) for row in rows}
    print(_times(flags, bundles), flush=True)
    print("| set | pictures | " + " | ".join(rows) + " | difference | by seed |", flush=True)
    means: list[np.ndarray] = []
    for pictures in find_sets(flags.data):
        if flags.sets and pictures.name not in flags.sets:
            continue
        found = np.array([_runs(flags, bundles, pictures, seed) for seed in range(flags.seeds)])
        count, accuracies = int(found[0, 0]), 100 * found[:, 1:]
        means.append(accuracies.mean(axis=0))
        print_row(pictures.name, count, means[-1], accuracies[:, -1] - accuracies[:, 0])
    if means:
        print_row("mean", 0, np.mean(means, axis=0), np.zeros(0))
    return 0


def _times(flags: argparse.Namespace, bundles: dict[str, Bundle]) -> str:
    """How long a step takes beside one of the first bundle: the median over rounds of both."""
    shape = (BATCH, *next(iter(bundles.values())).manifest.feature.shape)
    h = np.random.default_rng(0).random(shape, np.float32)
    labels = np.arange(BATCH, dtype=np.int64) % CLASSES
    rounds = []
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(
                open_session(it, CLASSES, it.initial_state(CLASSES, 0), flags.threads)
            )
            for it in bundles.values()
        ]
        for _ in range(ROUNDS):
            times = []
            for session in sessions:
                started = time.perf_counter()
                session.train_step(h, labels, 0.0)
                times.append(time.perf_counter() - started)
            rounds.append(times)
    seconds = np.array(rounds[ROUNDS // 10 :])
    ratios = np.median(seconds / seconds[:, :1], axis=0)
    found = zip(bundles, 1e3 * np.median(seconds, axis=0), ratios, strict=True)
    return "step: " + ", ".join(f"{name} {ms:.1f} ms ({ratio:.2f} x)" for name, ms, ratio in found)


def _runs(
    flags: argparse.Namespace, bundles: dict[str, Bundle], pictures: PictureSet, seed: int
) -> list[float]:
    """The number of training pictures, then an accuracy for each bundle."""
    first = next(iter(bundles.values()))
    bench = Bench(first, flags.out / "scratch", flags.per_class, flags.threads)
    names = pictures.class_names
    train = Maps.of(bench, pictures.link(bench.folder / "train", 0, seed, flags.per_class), names)
    held = pictures.test.parent / pictures.test.name
    test = PictureSet(pictures.name, held, held)
    tested = Maps.of(bench, test.link(bench.folder / "test", 0, 0, flags.test_per_class), names)
    started = time.perf_counter()
    results = [accuracy_of(flags, bundle, train, tested, seed) for bundle in bundles.values()]
    print(f"  {pictures.name} {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return [float(len(train.labels)), *results]


def _bundle(flags: argparse.Namespace, row: str) -> Bundle:
    """`row` is a policy of what is saved, or `int8` for the step on bytes."""
    out = flags.out / f"{flags.model}-{flags.blocks}-{flags.resolution}-{row}"
    is_int8 = row == INT8
    if not out.exists():
        request = Request(
            flags.model, flags.weights, flags.method, flags.blocks, flags.resolution, "adam", out,
            saved=None if is_int8 else row, step=INT8 if is_int8 else FLOAT32,
        )  # fmt: skip
        export_bundle(request)
    return open_bundle(out)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("python -m bench.saved", __doc__, Path("artifacts/saved"), 10)
    parser.add_argument(
        "--rows",
        default="one-bit,eight-bit,int8",
        help="policies of what is saved, or int8 for --step int8; the first is the base",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
