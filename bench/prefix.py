"""`python -m bench.prefix`: accuracy and time by the numbers that the frozen layers compute with,
and that the training step multiplies.

All bundles hold the same network; frozen layers in 8 bits are calibrated on half of a set's
training pictures. Each is trained from feature maps of its own, of the same central crops in the
same order, from the same first state. Adam at the method's rate, falling linearly to 0; the last
state is scored on test pictures.
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
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.export.parts import Request
from mobiletl.export.prefix.frozen_in_bytes import FLOAT32, INT8
from mobiletl.export.writing.export_bundle import export_bundle

# Frozen layers, then the step.
ROWS = ((FLOAT32, FLOAT32), (INT8, FLOAT32), (INT8, INT8))
ROUNDS = 30


def main(argv: list[str] | None = None) -> int:
    """Print a row per set: accuracies in percent, means over seeds."""
    flags = parser_of("python -m bench.prefix", __doc__, Path("artifacts/prefix"), 6).parse_args(
        argv
    )
    sets = [one for one in find_sets(flags.data) if not flags.sets or one.name in flags.sets]
    print("| set | pictures | float32 | int8 | step int8, too | difference | by seed |", flush=True)
    means: list[np.ndarray] = []
    last: list[Bundle] = []
    for pictures in sets:
        last = [_bundle(flags, pictures, *row) for row in ROWS]
        found = np.array([_runs(flags, last, pictures, seed) for seed in range(flags.seeds)])
        means.append(100 * found[:, 1:].mean(axis=0))
        print_row(pictures.name, int(found[0, 0]), means[-1], 100 * (found[:, -1] - found[:, 1]))
    print_row("mean", 0, np.mean(means, axis=0), np.zeros(0))
    print(_times(flags, last))
    return 0


def _times(flags: argparse.Namespace, bundles: list[Bundle]) -> str:
    """How long a batch takes through the frozen layers, in turn: the median of the ratios."""
    side = bundles[0].manifest.input.resolution
    images = np.random.default_rng(0).standard_normal((BATCH, 3, side, side)).astype(np.float32)
    seconds = np.empty((ROUNDS, len(bundles)))
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(open_session(it, 2, it.initial_state(2, 0), flags.threads))
            for it in bundles
        ]
        for row in range(ROUNDS):
            for column, session in enumerate(sessions):
                started = time.perf_counter()
                session.features(images)
                seconds[row, column] = time.perf_counter() - started
    used = seconds[ROUNDS // 10 :]
    ms, ratio = 1e3 * np.median(used, axis=0), float(np.median(used[:, 0] / used[:, 1]))
    return (
        f"frozen layers, batch {BATCH}, {side} px, {flags.threads} thread(s): float32 "
        f"{ms[0]:.1f} ms, int8 {ms[1]:.1f} ms, {ratio:.2f} x as fast"
    )


def _runs(
    flags: argparse.Namespace, bundles: list[Bundle], pictures: PictureSet, seed: int
) -> list[float]:
    """The number of training pictures, then an accuracy for each bundle."""
    names, folder = pictures.class_names, flags.out / "scratch"
    held = PictureSet(pictures.name, pictures.test, pictures.test)
    train = pictures.link(folder / "train", flags.per_class, seed, flags.per_class)
    test = held.link(folder / "test", flags.test_per_class, 0, flags.test_per_class)
    started, found, count = time.perf_counter(), [], 0
    for bundle in bundles:
        bench = Bench(bundle, folder, flags.per_class, flags.threads)
        maps = Maps.of(bench, train, names), Maps.of(bench, test, names)
        found.append(accuracy_of(flags, bundle, *maps, seed))
        count = len(maps[0].labels)
    print(f"  {pictures.name} {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return [float(count), *found]


def _bundle(flags: argparse.Namespace, pictures: PictureSet, prefix: str, step: str) -> Bundle:
    name = prefix if prefix == FLOAT32 else f"{prefix}-{step}-{pictures.name}"
    out = flags.out / f"{flags.model}-{flags.blocks}-{flags.resolution}-{name}"
    if not out.exists():
        request = Request(
            flags.model, flags.weights, flags.method, flags.blocks, flags.resolution, "adam", out,
            prefix=prefix, calibrate=pictures.train if prefix == INT8 else None, step=step,
        )  # fmt: skip
        export_bundle(request)
    return open_bundle(out)


if __name__ == "__main__":
    sys.exit(main())
