"""`python -m bench.learning`: how accurate eager PyTorch and ours are after equal pictures, and how
long each takes to get there.

All train the same blocks of the same backbone from the same first classifier, by SGD with momentum
at the same rate, which falls linearly to 0, on the same central crops in the same order. PyTorch
trains them in the ordinary way, once with norms that take the statistics of a batch and once with
norms that keep the checkpoint's; ours by the method `mobiletl`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.defaults.cells import PictureSet, find_set, pictures_in
from bench.eager import LR, MOMENTUM, EagerFineTuning
from bench.exported import BYTES, FLOATS, PREFIX, export_row
from bench.learning.contenders import Contender, Eager, Learner, Ours, decoded
from bench.learning.race import Curve, Pictures, Plan, race
from bench.learning.table import rows_of, table_lines
from bench.processes import board_memory, eager_memory
from bench.report import common_conditions
from bench.speed import BATCH, BLOCKS, EAGER, THREADS
from mobiletl.core.errors import UsageError
from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.commands.flags import below_least
from mobiletl.device.commands.table import guarded
from mobiletl.device.run.limits import LARGEST_LR
from mobiletl.device.sessions.runtimes import open_session

FIXED = f"{EAGER}, norms fixed"
CACHED = ", cached"
LEAST = {
    "epochs": 1,
    "parts": 1,
    "seeds": 1,
    "blocks": 1,
    "limit": 1,
    "test_limit": 1,
    "threads": 1,
}
Tests = dict[str, tuple[Floats, Labels]]


@dataclass(frozen=True)
class Course:
    """What all seeds share: bundles by row, and pictures."""

    flags: argparse.Namespace
    bundles: dict[str, Bundle]
    data: Path
    train: Pictures
    test: Pictures
    classes: int

    @property
    def size(self) -> Input:
        """How pictures are made ready; the same for every bundle."""
        return self.bundles[FLOATS].manifest.input


def main(argv: list[str] | None = None) -> int:
    """Print a row for each contender and return an exit code (docs/exit-codes.md)."""
    return guarded(lambda: _compare(_parser().parse_args(argv)), argv)


def _compare(flags: argparse.Namespace) -> int:
    _check(flags)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        course = _course(flags, scratch)
        tests: Tests = {}
        runs = [_run(course, tests, seed) for seed in range(flags.seeds)]
        rows = rows_of(runs, _peaks(course, scratch) if flags.memory else {})
    facts = _conditions(course)
    if flags.json:
        curves = [{name: asdict(curve) for name, curve in run.items()} for run in runs]
        table = [asdict(row) for row in rows]
        print(json.dumps({"conditions": facts, "rows": table, "curves": curves}))
        return 0
    print("\n".join(f"{name:<10}{text}" for name, text in facts.items()), end="\n\n")
    print("\n".join(table_lines(rows, runs[0][EAGER].pictures)))
    return 0


def _check(flags: argparse.Namespace) -> None:
    problems = below_least(flags, LEAST)
    if not 0 < flags.rate <= LARGEST_LR:
        problems.append(f"--rate is {flags.rate}, expected a positive number")
    if problems:
        raise UsageError("; ".join(problems))


def _course(flags: argparse.Namespace, scratch: Path) -> Course:
    """Choose the pictures, then export; frozen layers in bytes are calibrated on those to train
    on.
    """
    found = find_set(flags.data)
    data = _linked(found, scratch / "pictures", flags.limit, flags.test_limit)
    names = found.class_names
    train, test = (_pictures(data / part, names) for part in ("train", "test"))
    if len(train.paths) < BATCH or not test.paths:
        raise UsageError(
            f"{flags.data} gives {len(train.paths)} pictures to train on and {len(test.paths)} to "
            f"test on; expected at least {BATCH} and 1"
        )
    bundles = {
        row: open_bundle(export_row(row, flags.weights, flags.blocks, data / "train", scratch))
        for row in (FLOATS, PREFIX, BYTES)
    }
    return Course(flags, bundles, data, train, test, len(names))


def _linked(found: PictureSet, folder: Path, limit: int | None, test_limit: int | None) -> Path:
    """Links to so many pictures of each class (None: all), the same for every seed."""
    most = limit or sys.maxsize
    found.link(folder / "train", most, 0, most)
    test, most = PictureSet(found.name, found.test, found.test), test_limit or most
    test.link(folder / "test", most, 0, most)
    return folder


def _pictures(folder: Path, names: list[str]) -> Pictures:
    files = [(path, k) for k, name in enumerate(names) for path in pictures_in(folder / name)]
    return Pictures([path for path, _ in files], np.array([k for _, k in files], np.int64))


def _run(course: Course, tests: Tests, seed: int) -> dict[str, Curve]:
    """The curves of one seed; feature maps of test pictures are put into `tests` once."""
    flags = course.flags
    print(f"seed {seed + 1} of {flags.seeds} ...", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        learners = _learners(course, seed, stack)
        for name, learner in learners.items():
            frozen = _frozen(name)
            if frozen not in tests:
                tests[frozen] = _maps(learner, course.test, course.size), course.test.labels
        contenders = {
            name: Contender(learner, course.size, kept=name.endswith(CACHED))
            for name, learner in learners.items()
        }
        plan = Plan(flags.epochs, flags.parts, flags.rate)
        own_tests = {name: tests[_frozen(name)] for name in contenders}
        return race(contenders, course.train, own_tests, plan, seed)


def _frozen(name: str) -> str:
    """The first contender that has the same frozen layers."""
    row = name.removesuffix(CACHED)
    return EAGER if row == FIXED else row


def _learners(course: Course, seed: int, stack: ExitStack) -> dict[str, Learner]:
    """All of them, in the order of the table; two of a kind differ in what is cached alone."""
    weights, blocks, classes = course.flags.weights, course.flags.blocks, course.classes
    state = course.bundles[FLOATS].initial_state(classes, seed)
    learners: dict[str, Learner] = {}
    for name in (EAGER, FIXED):
        for suffix in ("", CACHED):
            network = EagerFineTuning(weights, blocks, classes, course.flags.threads)
            learners[name + suffix] = Eager(network, state, fixed_norms=name == FIXED)
    for name, bundle in course.bundles.items():
        for suffix in ("", CACHED):
            first = bundle.initial_state(classes, seed)
            session = stack.enter_context(
                open_session(bundle, classes, first, course.flags.threads)
            )
            learners[name + suffix] = Ours(session)
    return learners


def _maps(learner: Learner, pictures: Pictures, size: Input) -> Floats:
    """Feature maps [P,C,h,w] of P pictures."""
    paths = pictures.paths
    starts = range(0, len(paths), BATCH)
    return np.concatenate(
        [learner.features(decoded(paths[start : start + BATCH], size)) for start in starts]
    )


def _peaks(course: Course, scratch: Path) -> dict[str, int]:
    """Peaks of processes that train one epoch, in bytes; PyTorch has no program with a cache."""
    flags = course.flags
    found = {EAGER: eager_memory(flags.weights, course.data, flags.blocks)}
    for row, bundle in course.bundles.items():
        for suffix, switches in (("", ("--no-cache",)), (CACHED, ())):
            out, words = scratch / f"run{len(found)}", ("--no-augment", *switches)
            found[row + suffix], _ = board_memory(bundle.path, course.data, out, *words)
    return found


def _conditions(course: Course) -> dict[str, str]:
    flags = course.flags
    return {
        **common_conditions(flags.weights, flags.blocks, flags.threads),
        "pictures": f"{len(course.train.paths)} to train on, {len(course.test.paths)} to test on, "
        f"{course.classes} classes",
        "training": f"{flags.epochs} epochs, SGD with momentum {MOMENTUM}, rate {flags.rate:g} "
        "falling to 0, central crops, random classifier",
        "timing": f"means of {flags.seeds} seeds, ratios of means; all take turns and are tested "
        f"{flags.parts} times an epoch, outside the clock",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.learning",
        description="Accuracy after equal pictures, and the time to 95 % of it, beside PyTorch's.",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with train/ and test/ of class folders")
    add("--weights", default="imagenet", help="as for mobiletl export (default: %(default)s)")
    add("--blocks", type=int, default=BLOCKS, help="trained (default: %(default)s)")
    add("--epochs", type=int, default=4, help="default: %(default)s")
    add("--seeds", type=int, default=2, help="of classifier and order (default: %(default)s)")
    add("--parts", type=int, default=4, help="tests in an epoch (default: %(default)s)")
    add("--rate", type=float, default=LR, help="first learning rate (default: %(default)s)")
    add("--limit", type=int, help="pictures of each class to train on (default: all)")
    add("--test-limit", type=int, help="pictures of each class to test on (default: as --limit)")
    add("--threads", type=int, default=THREADS, help="default: %(default)s")
    add("--no-memory", action="store_false", dest="memory", help="measure no peaks of processes")
    add("--json", action="store_true", help="print one JSON object, with every curve")
    return parser


if __name__ == "__main__":
    sys.exit(main())
